"""A policy refuses whatever is not allowed, and whatever nobody decided."""

import base64
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from nodes.errors import CohortTooSmall, ConfigError, PolicyRefusal
from nodes.fingerprint import fingerprint
from nodes.policy import SUITES, Charge, Policy, StudyFacts, check, check_cohort, read_policy
from secagg.keys import SUITE

KEYS = {name: bytes([number]) * 32 for number, name in enumerate(("alder", "birch", "cedar", "dogwood"))}
FACTS = StudyFacts(
    name="aml-1",
    site="alder",
    profile="aml_core",
    query_kinds=("gradient", "breslow"),
    suite=SUITE,
    roster=KEYS,
    minimum_roster=4,
    collusion=1,
    charges=(
        Charge("training", epsilon=2.0, total=3.0, delta=1e-5),
        Charge("holdout", epsilon=1.0, total=1.0, delta=1e-5),
    ),
)
ACCOUNT: dict[str, Any] = {"max_epsilon_per_study": 2.0, "max_epsilon_total": 4.0, "delta": 1e-5}
VALUES: dict[str, Any] = {
    "minimum_roster": 4,
    "minimum_collusion": 1,
    "minimum_cohort": 20,
    "allowed_profiles": ("aml_core", "mds"),
    "allowed_query_kinds": ("gradient", "breslow", "concordance"),
    "minimum_suite": SUITE,
    "accounts": {"training": ACCOUNT, "holdout": ACCOUNT},
    "peers": {name: fingerprint(key) for name, key in KEYS.items() if name != "alder"},
}
POLICY = Policy.model_validate(VALUES)


def changed(**values: Any) -> Policy:
    return Policy.model_validate(VALUES | values)


def test_what_is_allowed_returns_the_pins_of_the_others() -> None:
    assert check(POLICY, FACTS) == frozenset(KEYS[name] for name in ("birch", "cedar", "dogwood"))


def test_an_empty_policy_refuses_everything() -> None:
    with pytest.raises(PolicyRefusal, match="peers"):
        check(Policy(), FACTS)
    with pytest.raises(PolicyRefusal, match="minimum_cohort is not set"):
        check_cohort(Policy(), 10_000, Path("report"))


@pytest.mark.parametrize("key", sorted(set(VALUES) - {"peers", "accounts", "minimum_cohort"}))
def test_each_unset_key_refuses(key: str) -> None:
    with pytest.raises(PolicyRefusal, match=f"^{key} is not set .* unset means refuse"):
        check(Policy.model_validate({name: value for name, value in VALUES.items() if name != key}), FACTS)


@pytest.mark.parametrize("account", ["training", "holdout"])
@pytest.mark.parametrize("key", sorted(ACCOUNT))
def test_each_unset_limit_of_each_account_refuses(account: str, key: str) -> None:
    poorer = {name: value for name, value in ACCOUNT.items() if name != key}

    with pytest.raises(PolicyRefusal, match=rf"^accounts\.{account}\.{key} is not set"):
        check(changed(accounts={"training": ACCOUNT, "holdout": ACCOUNT} | {account: poorer}), FACTS)


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"minimum_roster": 3}, "minimum_roster"),
        ({"collusion": 0}, "minimum_collusion"),
        ({"profile": "mm"}, "allowed_profiles"),
        ({"query_kinds": ("gradient", "debug")}, "allowed_query_kinds"),
        ({"suite": "X25519-only"}, "minimum_suite"),
        ({"charges": ()}, "allow_without_dp"),
        ({"charges": (Charge("training", 2.01, 3.0, 1e-5),)}, "accounts.training.max_epsilon_per_study"),
        ({"charges": (Charge("holdout", 2.0, 4.01, 1e-5),)}, "accounts.holdout.max_epsilon_total"),
        ({"charges": (Charge("training", 1.0, 1.0, 2e-5),)}, "accounts.training.delta"),
        ({"charges": (Charge("training", math.nan, 1.0, 1e-5),)}, "accounts.training.max_epsilon_per_study"),
        ({"charges": (Charge("training", 1.0, math.nan, 1e-5),)}, "accounts.training.max_epsilon_total"),
        ({"charges": (Charge("training", 1.0, math.inf, 1e-5),)}, "not bounded any more, accounts.training.max_eps"),
        ({"charges": (Charge("training", 1.0, 1.0, math.nan),)}, "accounts.training.delta"),
        ({"charges": (Charge("petty-cash", 1.0, 1.0, 1e-5),)}, "petty-cash"),
        ({"site": "elm"}, "does not list this site"),
    ],
)
def test_each_refusal_names_its_key(facts: dict[str, Any], key: str) -> None:
    with pytest.raises(PolicyRefusal, match=key) as caught:
        check(POLICY, dataclasses.replace(FACTS, **facts))
    assert "'aml-1'" in str(caught.value)


def test_masks_only_needs_its_own_yes() -> None:
    check(changed(allow_without_dp=True), dataclasses.replace(FACTS, charges=()))


def test_members_enrolled_by_the_coordinator_are_refused_by_name() -> None:
    with pytest.raises(PolicyRefusal, match=r"'puppet'.*not pinned"):
        check(POLICY, dataclasses.replace(FACTS, roster=KEYS | {"puppet": bytes(32)}))


def test_a_pinned_name_with_another_key_is_an_impostor() -> None:
    with pytest.raises(PolicyRefusal, match=r"'birch'.*impostor"):
        check(POLICY, dataclasses.replace(FACTS, roster=KEYS | {"birch": b"x" * 32}))


def test_a_pin_is_a_fingerprint_or_a_key_and_nothing_else() -> None:
    spoken = fingerprint(KEYS["birch"]).lower().replace("-", " ")
    as_key = base64.b64encode(KEYS["birch"]).decode()
    for pin in (spoken, as_key):
        assert changed(peers={"birch": pin}).peers["birch"] == fingerprint(KEYS["birch"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_epsilon = 2.0", "unknown key max_epsilon"),
        ("[accounts.trainig]\ndelta = 1e-5", "unknown key accounts.trainig"),
        ("[accounts.training]\ndelta = 1.0", "accounts.training.delta"),
        ("[accounts.training]\nmax_epsilon_total = inf", "accounts.training.max_epsilon_total"),
        ("minimum_collusion = 0", "minimum_collusion"),
        ("minimum_suite = 'rot13'", "minimum_suite: must be one of"),
        ("[peers]\nbirch = 'ABCD-EFGH'", "peers.birch: must be a fingerprint"),
        ("[peers]\n'Birch Hospital' = 'ABCD'", "peers.Birch Hospital"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "policy.toml").write_text(text)

    with pytest.raises(ConfigError, match=f"{tmp_path / 'policy.toml'}: .*{says}"):
        read_policy(tmp_path / "policy.toml")


def test_cohort() -> None:
    check_cohort(POLICY, 20, Path("report"))
    with pytest.raises(CohortTooSmall) as caught:
        check_cohort(POLICY, 19, Path("report"))
    assert "19" not in str(caught.value)


def test_the_strongest_suite_is_the_protocols() -> None:
    assert SUITES[-1] == SUITE
