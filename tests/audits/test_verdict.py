from dataclasses import replace
from typing import Any

import pytest

from audits import gaussian, noisy_roc, policy
from audits.errors import MisuseError
from audits.interval import Interval
from audits.sensitivity import Probe, Sensitivity
from audits.verdict import Claim, Outcome, decide, withheld
from dp.budget import gaussian_delta
from tests.audits.sample import MemoryPath, attack, checked, evidence, honest_noise

INTEGRITY, CONTRADICTION, LIMIT, OPEN = (
    Outcome.FAIL_INTEGRITY,
    Outcome.FAIL_CONTRADICTION,
    Outcome.FAIL_POLICY,
    Outcome.INCONCLUSIVE,
)
RESEARCH, CONSORTIUM = policy.load("research"), policy.load("consortium")
GOOD = evidence()


def claim(**changes: Any) -> Any:
    return (replace(GOOD.claims[0], **changes), GOOD.claims[1])


def strong(mu: float) -> Any:
    return claim(mu=mu, epsilon=gaussian.epsilon_of(mu, gaussian_delta(1e-5)))


def bad_ledger() -> Any:
    return replace(GOOD.ledger, problems=("The ledger does not verify: ledger entry 4.",))


def account(**changes: Any) -> Any:
    first, second = GOOD.ledger.accounts
    return replace(GOOD.ledger, accounts=(replace(first, **changes), second))


LESS_NOISE = checked(MemoryPath(noise=lambda rng, shape, std: 0.9 * honest_noise(rng, shape, std)))

CASES = {
    "everything holds": ({}, RESEARCH, Outcome.PASS, None),
    "the chain is broken": ({"ledger": bad_ledger()}, RESEARCH, INTEGRITY, "ledger"),
    "accountants disagree": ({"ledger": account(agree=False)}, RESEARCH, INTEGRITY, "ledger"),
    "no upload was charged": (
        {"ledger": replace(GOOD.ledger, accounts=())}, RESEARCH, INTEGRITY, "ledger",
    ),
    "an account nobody claims": ({"claims": GOOD.claims[:1]}, RESEARCH, INTEGRITY, "ledger"),
    "ε smaller than its μ": ({"claims": claim(epsilon=1.0)}, RESEARCH, INTEGRITY, "claim"),
    "more charged than claimed": ({"ledger": account(mu=0.51)}, RESEARCH, CONTRADICTION, "ledger"),
    "less noise than charged": ({"mechanism": LESS_NOISE}, RESEARCH, CONTRADICTION, "mechanism"),
    "a patient moves too much": (
        {"sensitivity": Sensitivity(3.0, (Probe("features of 1e300", 1.2, within=False),))},
        RESEARCH, CONTRADICTION, "sensitivity",
    ),
    "attack above the ceiling": ({"attack": attack(tilt=1.5)}, RESEARCH, CONTRADICTION, "ceiling"),
    "ε above the limit": ({"claims": strong(0.8)}, RESEARCH, LIMIT, "epsilon_max"),
    "attack above the limit": (
        {"attack": attack(4000, 2000, tilt=1.05), "claims": strong(0.7)}, RESEARCH, LIMIT, "auc_upper_max",
    ),
    "baseline too fine": ({"baseline_grid_days": 1.0}, RESEARCH, LIMIT, "baseline_grid_days_min"),
    "no self-check": ({"mechanism": None}, RESEARCH, OPEN, "mechanism"),
    "short self-check": ({"mechanism": checked(MemoryPath(), 5)}, RESEARCH, OPEN, "mechanism"),
    "no probe": ({"sensitivity": None}, RESEARCH, OPEN, "sensitivity"),
    "empty probe": ({"sensitivity": Sensitivity(3.0, ())}, RESEARCH, OPEN, "sensitivity"),
    "no histogram": ({"attack": None}, RESEARCH, OPEN, "auc_upper_max"),
    "few hold-out patients": ({"attack": attack(300, 60)}, RESEARCH, OPEN, "nonmembers_min"),
    "more noise than cohort": ({"attack": attack(300, 60, noise=60.0)}, RESEARCH, OPEN, "auc_upper_max"),
    "a rate not resolved": ({}, CONSORTIUM, OPEN, "tpr_at_10pct_upper_max"),
    "no positive control": ({"positive_control": None}, RESEARCH, OPEN, "positive_control_auc_min"),
    "a weak attack": (
        {"positive_control": Interval(0.55, 0.6, 0.65, 0.05, "DeLong")},
        RESEARCH, OPEN, "positive_control_auc_min",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_flaw_decides(name: str) -> None:
    changes, rules, outcome, rule = CASES[name]
    verdict = decide(replace(GOOD, **changes), rules)
    assert verdict.outcome is outcome, [
        reason.sentence for reason in verdict.reasons if reason.outcome is not Outcome.PASS
    ]
    if rule is not None:
        assert rule in {reason.rule for reason in verdict.reasons if reason.outcome is outcome}
    assert all(reason.sentence.endswith(".") for reason in verdict.reasons)
    assert verdict.headline()


def test_the_gravest_reason_wins() -> None:
    verdict = decide(replace(GOOD, ledger=bad_ledger(), mechanism=LESS_NOISE, attack=None), RESEARCH)
    assert verdict.outcome is INTEGRITY
    assert [reason.outcome for reason in verdict.reasons[:2]] == [
        INTEGRITY,
        CONTRADICTION,
    ]


def test_a_pass_reads_the_upper_bound_and_tells_a_small_cohort_from_an_undecided_one() -> None:
    small, straddling = attack(300, 110, noise=13.0), attack(834, 209, tilt=0.6)
    limit = RESEARCH.thresholds.auc_upper_max.value
    assert small.auc.estimate < limit < small.auc.high
    assert straddling.auc.estimate < limit < straddling.auc.high
    for found, told in ((small, True), (straddling, False)):
        verdict = decide(replace(GOOD, attack=found), RESEARCH)
        assert verdict.outcome is OPEN
        assert told == any("too small" in reason.sentence for reason in verdict.reasons)


def test_better_looking_numbers_than_the_histograms_give_are_found() -> None:
    attacked = GOOD.attack
    ten, one = attacked.rates
    prettier = [
        replace(attacked, auc=replace(attacked.auc, high=attacked.auc.high - 0.01)),
        replace(attacked, auc_low_strict=0.1),
        replace(attacked, resolution=0.5),
        replace(attacked, nonmembers=900.0),
        replace(attacked, rates=(replace(ten, tpr=replace(ten.tpr, high=0.11)), one)),
        replace(attacked, rates=(ten, replace(one, resolvable=True))),
        replace(attacked, rates=(ten,)),
        replace(attacked, members_counts=attacked.members_counts[:-1]),
        replace(attacked, members_noise_std=0.0),
        replace(attacked, auc=replace(attacked.auc, alpha=0.7)),
    ]
    for found in prettier:
        verdict = decide(replace(GOOD, attack=found), RESEARCH)
        assert verdict.outcome is INTEGRITY


def test_bounds_with_less_confidence_than_the_policy_asks_do_not_count() -> None:
    loose = noisy_roc.estimate(
        GOOD.attack.attack, GOOD.attack.members_counts, GOOD.attack.nonmembers_counts, (4.4, 4.4), 0.2
    )
    assert decide(replace(GOOD, attack=loose), RESEARCH).outcome is INTEGRITY
    control = replace(GOOD.positive_control, alpha=0.2)
    assert decide(replace(GOOD, positive_control=control), RESEARCH).outcome is INTEGRITY


def test_a_veto_can_only_take_a_pass_away_and_gives_no_reason() -> None:
    passed = decide(GOOD, RESEARCH)
    vetoed = withheld(passed)
    assert vetoed.outcome is Outcome.WITHHELD
    assert vetoed.reasons[1:] == passed.reasons
    failed = decide(replace(GOOD, mechanism=None), RESEARCH)
    assert withheld(failed) == failed


def test_what_no_limit_covers_is_said() -> None:
    assert any("10 %" in line for line in decide(GOOD, RESEARCH).does_not_cover)
    assert not any("10 %" in line for line in decide(GOOD, CONSORTIUM).does_not_cover)


@pytest.mark.parametrize(
    "claims", [(), GOOD.claims[1:], GOOD.claims[:1] * 2, (Claim("other", 0.1, 1.0, 1e-5, 1), *GOOD.claims)]
)
def test_claims_must_fit_the_accounts(claims: Any) -> None:
    with pytest.raises(MisuseError):
        decide(replace(GOOD, claims=claims), RESEARCH)
