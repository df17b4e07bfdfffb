"""What this hospital refuses: ``policy.toml``, written by its data protection officer.

Unset means refuse. A key that is missing is not a default, it is a decision nobody took yet, and the refusal
says which key that is. The file also holds the pinned identities of the other hospitals: who is a member is
decided by the hospitals, each for itself, and never by the coordinator that enrols them.

A refusal comes before a study and is one per dataset; nothing is refused in mid-study for a reason that
depends on patients. The cohort's size is checked by `check_cohort` when a person harmonises, on this machine.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator

from nodes.config import SiteName, Toml, load, setting
from nodes.errors import CohortTooSmall, PolicyRefusal
from nodes.fingerprint import fingerprint, normalise

__all__ = ["SUITES", "AccountLimit", "Charge", "Policy", "StudyFacts", "check", "check_cohort", "read_policy"]

SUITES: Final = ("X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR",)
"""Cipher suites from weakest to strongest; a policy names the weakest that it takes."""


def _pin(value: str) -> str:
    """Accept a fingerprint as read over the telephone, or the public key itself in base64."""
    try:
        return normalise(value)
    except ValueError:
        pass
    try:
        key = base64.b64decode(value, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ValueError("must be a fingerprint (8 groups of 4) or a base64 Ed25519 public key of 32 bytes")
    return fingerprint(key)


def _suite(value: str) -> str:
    if value not in SUITES:
        raise ValueError(f"must be one of {', '.join(SUITES)}")
    return value


Pin = Annotated[str, AfterValidator(_pin)]
Suite = Annotated[str, AfterValidator(_suite)]


class AccountLimit(Toml):
    """The most that may be spent on one of the two accounts (training patients, holdout patients)."""

    max_epsilon_per_study: float | None = setting(
        "largest ε of one run of a study; another run number is another run", default=None, gt=0
    )
    max_epsilon_total: float | None = setting(
        "largest ε of all studies together, ever; a study without noise makes it infinite", default=None, gt=0
    )
    delta: float | None = setting(
        "the δ at which both are stated; a study's δ may not be larger", default=None, gt=0, lt=1
    )


class Accounts(Toml):
    """One limit per account."""

    training: AccountLimit = setting("patients that models are trained on", default=AccountLimit())
    holdout: AccountLimit = setting("patients that models are evaluated on", default=AccountLimit())


class Policy(Toml):
    """``policy.toml``: a site's refusals; every key that is not set refuses."""

    minimum_roster: int | None = setting("fewest hospitals in any sum", unit="hospitals", default=None, ge=3)
    minimum_collusion: int | None = setting(
        "number of colluding hospitals that the noise must withstand, at least",
        unit="hospitals",
        default=None,
        ge=1,
    )
    minimum_cohort: int | None = setting("fewest patients of this site in a study", unit="patients", default=None, ge=1)
    allowed_profiles: tuple[str, ...] | None = setting("names of data profiles that may be used", default=None)
    allowed_query_kinds: tuple[str, ...] | None = setting(
        "kinds of sums that may leave; a study with any other kind is refused", default=None
    )
    minimum_suite: Suite | None = setting("weakest cipher suite that is accepted", default=None)
    allow_without_dp: bool = setting("take part in studies without differential privacy (masks only)", default=False)
    accounts: Accounts = setting("limits per account", default=Accounts())
    peers: dict[SiteName, Pin] = setting(
        "pinned hospitals: name = fingerprint (read over the telephone) or base64 public key", default={}
    )


@dataclass(frozen=True)
class Charge:
    """What a study would cost on one account.

    Args:
        account: "training" or "holdout".
        epsilon: ε of this run of the study alone, at ``delta``, against the coordinator and the colluding hospitals.
        total: ε of the account once this study is reserved on top of everything before, at ``delta``; infinite if a
            study without noise read these patients.
        delta: δ in (0, 1).
    """

    account: str
    epsilon: float
    total: float
    delta: float


@dataclass(frozen=True)
class StudyFacts:
    """The public facts of a study that a policy speaks about; none is computed from a patient's data.

    Args:
        name: The study's name, for the message.
        site: Name of this site.
        profile: Name of the data profile.
        query_kinds: Every kind of sum that the study asks for.
        suite: Its cipher suite.
        roster: Name to Ed25519 public key (32 bytes) of every hospital on the study, this site included.
        minimum_roster: Fewest hospitals in one of its sums.
        collusion: Colluding hospitals that its noise withstands.
        charges: One per account that it touches; empty for a study without differential privacy.
    """

    name: str
    site: str
    profile: str
    query_kinds: tuple[str, ...]
    suite: str
    roster: Mapping[str, bytes]
    minimum_roster: int
    collusion: int
    charges: tuple[Charge, ...] = field(default=())


def read_policy(path: Path) -> Policy:
    """Read ``policy.toml``.

    Raises:
        ConfigError: missing, not TOML, an unknown key or a value out of range; names the file and the key.
    """
    return load(Policy, path)


def check(policy: Policy, facts: StudyFacts) -> frozenset[bytes]:
    """Refuse a study that the policy does not allow, naming the key and the way out.

    Args:
        policy: This site's refusals.
        facts: The study.

    Returns:
        The pinned public keys of the *other* hospitals on the study, for `secagg.client.Client`.

    Raises:
        PolicyRefusal: the first key that is unset or does not allow it. A comparison with NaN refuses.
    """
    pins = _check_peers(policy, facts)
    _at_least(facts, "minimum_roster", facts.minimum_roster, policy.minimum_roster, "hospitals in a sum")
    if facts.charges:  # without noise nobody may collude, and the study says so
        _at_least(facts, "minimum_collusion", facts.collusion, policy.minimum_collusion, "colluding hospitals")
    _among(facts, "allowed_profiles", (facts.profile,), policy.allowed_profiles)
    _among(facts, "allowed_query_kinds", facts.query_kinds, policy.allowed_query_kinds)
    suites = None if policy.minimum_suite is None else SUITES[SUITES.index(policy.minimum_suite) :]
    _among(facts, "minimum_suite", (facts.suite,), suites)
    if not facts.charges and not policy.allow_without_dp:
        raise PolicyRefusal(
            f"study {facts.name!r} has no noise: it protects against the coordinator reading uploads, not against "
            "what a sum reveals, and allow_without_dp is not true in the policy; ask for a study with a budget"
        )
    for charge in facts.charges:
        _check_charge(policy, facts, charge)
    return pins


def check_cohort(policy: Policy, patients: int, report: Path) -> None:
    """Refuse a cohort below ``minimum_cohort``: when a person at this machine harmonises, before any study.

    Args:
        policy: the site's policy.
        patients: usable patients.
        report: the quality report, which says who was left out.

    Raises:
        CohortTooSmall: the message holds the policy's number, not the cohort's.
        PolicyRefusal: the key is not set.
    """
    if policy.minimum_cohort is None:
        raise _unset("minimum_cohort")
    if patients < policy.minimum_cohort:
        raise CohortTooSmall(
            f"the cohort has fewer than the {policy.minimum_cohort} patients that minimum_cohort in the policy wants; "
            f"see who was left out and why in {report}"
        )


def _check_peers(policy: Policy, facts: StudyFacts) -> frozenset[bytes]:
    if facts.site not in facts.roster:
        raise PolicyRefusal(f"study {facts.name!r} does not list this site ({facts.site}); ask for one that does")
    peers = {name: key for name, key in facts.roster.items() if name != facts.site}
    for name, key in sorted(peers.items()):
        pin = policy.peers.get(name)
        if pin is None:
            raise PolicyRefusal(
                f"study {facts.name!r} lists {name!r}, whose identity is not pinned under [peers] in the "
                f"policy; telephone them, compare {fingerprint(key)} and add it"
            )
        if pin != fingerprint(key):
            raise PolicyRefusal(
                f"study {facts.name!r} shows identity {fingerprint(key)} for {name!r}, but [peers] in the "
                f"policy pins {pin}; telephone them before you change anything: this may be an impostor"
            )
    return frozenset(peers.values())


def _check_charge(policy: Policy, facts: StudyFacts, charge: Charge) -> None:
    table = f"accounts.{charge.account}"
    limit: AccountLimit | None = getattr(policy.accounts, charge.account, None)
    if limit is None:
        raise PolicyRefusal(f"study {facts.name!r} charges an unknown account {charge.account!r}")
    _at_most(facts, f"{table}.delta", charge.delta, limit.delta)
    _at_most(facts, f"{table}.max_epsilon_per_study", charge.epsilon, limit.max_epsilon_per_study)
    _at_most(facts, f"{table}.max_epsilon_total", charge.total, limit.max_epsilon_total)


def _at_least(facts: StudyFacts, key: str, value: int, limit: int | None, what: str) -> None:
    if limit is None:
        raise _unset(key)
    if not value >= limit:
        raise PolicyRefusal(
            f"study {facts.name!r} has {value} {what}, {key} in the policy demands {limit}; "
            "ask the study's author for more, or have the policy changed"
        )


def _at_most(facts: StudyFacts, key: str, value: float, limit: float | None) -> None:
    if limit is None:
        raise _unset(key)
    if value == math.inf:
        raise PolicyRefusal(
            f"study {facts.name!r} reads patients whose ε is not bounded any more, {key} in the policy allows "
            f"{limit:.6g}: a study without noise has read them, or their account was given up after a restore, and "
            "nothing takes that back"
        )
    if not value <= limit:
        raise PolicyRefusal(
            f"study {facts.name!r} would reach {value:.6g}, {key} in the policy allows {limit:.6g}; "
            "ask the study's author for less, or have the policy changed"
        )


def _among(facts: StudyFacts, key: str, values: tuple[str, ...], allowed: tuple[str, ...] | None) -> None:
    if allowed is None:
        raise _unset(key)
    for value in values:
        if value not in allowed:
            raise PolicyRefusal(
                f"study {facts.name!r} uses {value!r}, which {key} in the policy does not allow; "
                "ask for a study without it, or have the policy changed"
            )


def _unset(key: str) -> PolicyRefusal:
    return PolicyRefusal(f"{key} is not set in the policy, and unset means refuse; have it set in policy.toml")
