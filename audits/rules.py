"""The rules of a verdict, one function per kind of evidence; each says what it alone would decide."""

from __future__ import annotations

from audits import noisy_roc
from audits.evidence import Outcome, Reason, ReleasableEvidence
from audits.interval import Interval
from audits.policy import Policy, Threshold

__all__ = ["WHOSE", "of_attack", "of_claims", "of_grid", "of_ledger", "of_mechanism", "of_sensitivity"]

WHOSE = {"training": "training patients", "holdout": "hold-out patients"}


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def _plain(value: float) -> str:
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.7f}".rstrip("0")


def of_claims(evidence: ReleasableEvidence, policy: Policy) -> list[Reason]:
    """The claimed guarantee against the policy, and against its own μ or divergence."""
    limits = policy.thresholds
    reasons = []
    for claim in evidence.claims:
        stated = [
            ("epsilon_max", "ε", claim.epsilon, limits.epsilon_max),
            ("delta_max", "δ", claim.delta, limits.delta_max),
        ]
        if claim.mu is not None:
            stated.append(("mu_max", "μ", claim.mu, limits.mu_max))
        for rule, name, value, limit in stated:
            over = value > limit.value
            what = "is above" if over else "is within"
            reasons.append(
                Reason(
                    rule,
                    Outcome.FAIL_POLICY if over else Outcome.PASS,
                    (
                        f"The claimed {name} of the {WHOSE[claim.account]}, {_plain(value)}, {what} the "
                        f"limit {_plain(limit.value)}."
                    ),
                    value,
                    limit.value,
                )
            )
        if claim.mu is None:
            sentence = (
                f"The budget of the {WHOSE[claim.account]} is kept in RDP at order {claim.order}, where there is no "
                "μ: the limits on ε and δ decide."
            )
            reasons.append(Reason("mu_max", Outcome.PASS, sentence, None, limits.mu_max.value))
        honest = claim.epsilon_at(claim.delta)
        if honest > claim.epsilon * (1.0 + 1e-6) + 1e-9:
            own = "μ" if claim.mu is not None else f"divergence of order {claim.order}"
            sentence = (
                f"The claimed ε of the {WHOSE[claim.account]}, {claim.epsilon:.4g}, is smaller than its own {own} "
                f"allows, {honest:.4g}."
            )
            reasons.append(Reason("claim", Outcome.FAIL_INTEGRITY, sentence, honest, claim.epsilon))
    return reasons


def of_ledger(evidence: ReleasableEvidence) -> list[Reason]:
    """The recounted ledger against itself and against the claims."""
    ledger = evidence.ledger
    reasons = [Reason("ledger", Outcome.FAIL_INTEGRITY, problem) for problem in ledger.problems]
    claimed = {claim.account: claim for claim in evidence.claims}
    for account in ledger.accounts:
        claim = claimed.get(account.account)
        if claim is None:
            sentence = f"The ledger charges the account {account.account!r}, for which nothing is claimed."
            reasons.append(Reason("ledger", Outcome.FAIL_INTEGRITY, sentence, account.mu))
            continue
        # Of one study both are in one kind of budget; ε at one δ where that is RDP.
        name, charged, allowed = ("ε", account.epsilon, claim.epsilon_at(account.delta))
        if account.mu is not None and claim.mu is not None:
            name, charged, allowed = ("μ", account.mu, claim.mu)
        if charged > allowed * (1.0 + 1e-9):
            sentence = (
                f"The ledger charges {name} = {charged:.4g} to the {account.account} account; the study claims "
                f"{allowed:.4g}."
            )
            reasons.append(Reason("ledger", Outcome.FAIL_CONTRADICTION, sentence, charged, allowed))
        if not account.agree:
            sentence = (
                f"Two accountants disagree about the {account.account} account: ε {account.epsilon:.5g} and "
                f"{account.second_epsilon:.5g}."
            )
            reasons.append(Reason("ledger", Outcome.FAIL_INTEGRITY, sentence, account.second_epsilon, account.epsilon))
    if not ledger.problems and not any(
        account.account == "training" and account.uploads for account in ledger.accounts
    ):
        sentence = "The ledger charges no upload to the training patients, although a model was trained."
        reasons.append(Reason("ledger", Outcome.FAIL_INTEGRITY, sentence, 0.0))
    if not reasons:
        uploads = sum(account.uploads for account in ledger.accounts)
        sentence = (
            f"The chain of the ledger holds; {uploads} uploads recounted by two accountants stay within the claim."
        )
        reasons.append(Reason("ledger", Outcome.PASS, sentence))
    return reasons


def of_mechanism(evidence: ReleasableEvidence, policy: Policy) -> list[Reason]:
    """The self-check of the noise: does it contradict the charge, and was it long enough?"""
    run, limit = evidence.mechanism, policy.thresholds.noise_deficit_detectable_max
    if run is None:
        return [Reason("mechanism", Outcome.INCONCLUSIVE, "The noise of the trainer was not measured.")]
    bad = [test for test in run.tests if test.rejected]
    if bad:
        names = "; ".join(f"{test.name} ({test.where})" for test in bad)
        sentence = f"The noise is not what the ledger charges for: {names}."
        return [Reason("mechanism", Outcome.FAIL_CONTRADICTION, sentence, min(t.p for t in bad), run.family_alpha)]
    if run.detectable_deficit > limit.value:
        sentence = (
            "The self-check was too short: it would have missed a lack of noise of up to "
            f"{_percent(run.detectable_deficit)}."
        )
        return [Reason("mechanism", Outcome.INCONCLUSIVE, sentence, run.detectable_deficit, limit.value)]
    sentence = (
        f"Over {run.rounds} rounds without patients the noise had the promised size, shape and "
        "independence; a lack of "
        f"{_percent(run.detectable_deficit)} would have been seen."
    )
    return [Reason("mechanism", Outcome.PASS, sentence, run.detectable_deficit, limit.value)]


def of_sensitivity(evidence: ReleasableEvidence) -> list[Reason]:
    """The probe of the clipping: did one synthetic patient move a sum too far?"""
    found = evidence.sensitivity
    if found is None or not found.probes:
        sentence = "The influence of one extreme patient was not measured."
        return [Reason("sensitivity", Outcome.INCONCLUSIVE, sentence)]
    if not found.holds:
        worst = max(found.probes, key=lambda line: line.moved)
        sentence = f"One synthetic patient ({worst.name}) moved a sum by more than the bound that is charged."
        return [Reason("sensitivity", Outcome.FAIL_CONTRADICTION, sentence, worst.moved, 1.0)]
    sentence = f"None of {len(found.probes)} extreme synthetic patients moved a sum by more than the bound."
    return [Reason("sensitivity", Outcome.PASS, sentence, found.worst, 1.0)]


def _compared(rule: str, name: str, bounds: Interval, limit: Threshold, resolution: float) -> Reason:
    """PASS on the upper bound, FAIL on the lower bound, in between nothing is decided."""
    if bounds.high <= limit.value:
        sentence = (
            f"{name} is at most {bounds.high:.3f} ({_percent(1 - bounds.alpha)} confidence); allowed is "
            f"{limit.value:.3f}."
        )
        return Reason(rule, Outcome.PASS, sentence, bounds.high, limit.value)
    if bounds.low > limit.value:
        sentence = (
            f"{name} is at least {bounds.low:.3f} ({_percent(1 - bounds.alpha)} confidence); allowed is "
            f"{limit.value:.3f}."
        )
        return Reason(rule, Outcome.FAIL_POLICY, sentence, bounds.low, limit.value)
    cause = (
        "the cohort is too small, after noise, to resolve this limit for any model"
        if resolution > limit.value
        else "the interval reaches across the limit"
    )
    sentence = f"{name} lies between {bounds.low:.3f} and {bounds.high:.3f}; allowed is {limit.value:.3f}: {cause}."
    return Reason(rule, Outcome.INCONCLUSIVE, sentence, bounds.high, limit.value)


def of_attack(evidence: ReleasableEvidence, policy: Policy) -> list[Reason]:
    """The charged attack: consistent, below the ceiling, within the limits, and strong enough to count."""
    attack, limits = evidence.attack, policy.thresholds
    if attack is None:
        sentence = "No score histogram was released, so no attack on the model itself was judged."
        return [Reason("auc_upper_max", Outcome.INCONCLUSIVE, sentence, limit=limits.auc_upper_max.value)]
    bounds = [attack.auc, *(rate.tpr for rate in attack.rates)]
    if evidence.positive_control is not None:
        bounds.append(evidence.positive_control)
    if not noisy_roc.follows(attack):
        sentence = "The numbers of the attack do not follow from the released histograms."
        return [Reason("attack", Outcome.FAIL_INTEGRITY, sentence)]
    loosest = max(bound.alpha for bound in bounds)
    if loosest > policy.alpha:
        sentence = "The bounds of the attack were computed with less confidence than the policy asks for."
        return [Reason("alpha", Outcome.FAIL_INTEGRITY, sentence, loosest, policy.alpha)]
    reasons = []
    ceiling = next(claim for claim in evidence.claims if claim.account == "training").ceiling().auc()
    if attack.auc_low_strict > ceiling:
        sentence = (
            "The attack separates members from hold-out patients better (AUC at least "
            f"{attack.auc_low_strict:.3f}) than "
            f"the claimed guarantee allows any attack ({ceiling:.3f}). Either the guarantee or the split "
            "is broken."
        )
        reasons.append(Reason("ceiling", Outcome.FAIL_CONTRADICTION, sentence, attack.auc_low_strict, ceiling))
    else:
        sentence = f"The attack stays below the ceiling {ceiling:.3f} that the claimed guarantee sets for any attack."
        reasons.append(Reason("ceiling", Outcome.PASS, sentence, attack.auc_low_strict, ceiling))
    if attack.nonmembers < limits.nonmembers_min.value:
        sentence = (
            f"About {max(attack.nonmembers, 0.0):.0f} hold-out patients took part; the policy wants "
            f"{limits.nonmembers_min.value:.0f}."
        )
        reasons.append(
            Reason(
                "nonmembers_min",
                Outcome.INCONCLUSIVE,
                sentence,
                attack.nonmembers,
                limits.nonmembers_min.value,
            )
        )
    reasons.append(_compared("auc_upper_max", "The attack's AUC", attack.auc, limits.auc_upper_max, attack.resolution))
    for rule, fpr, limit in (
        ("tpr_at_10pct_upper_max", 0.10, limits.tpr_at_10pct_upper_max),
        ("tpr_at_1pct_upper_max", 0.01, limits.tpr_at_1pct_upper_max),
    ):
        if limit is None:
            continue
        point = next(rate for rate in attack.rates if rate.fpr == fpr)
        name = f"The attack's hit rate at {_percent(fpr)} false alarms"
        if point.resolvable:
            # The null model's hit rate is the false-alarm rate; an upper bound beyond the limit for it means
            # "too small".
            reach = fpr + point.tpr.high - point.tpr.estimate
            reasons.append(_compared(rule, name, point.tpr, limit, reach))
        else:
            reasons.append(Reason(rule, Outcome.INCONCLUSIVE, f"{name}: {point.note}.", point.tpr.high, limit.value))
    reasons.append(_positive_control(evidence, limits.positive_control_auc_min))
    return reasons


def _positive_control(evidence: ReleasableEvidence, limit: Threshold) -> Reason:
    control, rule = evidence.positive_control, "positive_control_auc_min"
    if control is None:
        sentence = "The attack was not tried on a model that is known to leak, so its silence proves little."
        return Reason(rule, Outcome.INCONCLUSIVE, sentence, limit=limit.value)
    if control.low < limit.value:
        sentence = (
            f"The attack found a deliberately overfitted twin only with AUC {control.estimate:.2f} (at least "
            f"{control.low:.2f}); it has too little power to clear a model."
        )
        return Reason(rule, Outcome.INCONCLUSIVE, sentence, control.low, limit.value)
    sentence = (
        "The same attack does find a deliberately overfitted twin of the model (AUC "
        f"{control.estimate:.2f}, trained on "
        "synthetic patients)."
    )
    return Reason(rule, Outcome.PASS, sentence, control.low, limit.value)


def of_grid(evidence: ReleasableEvidence, policy: Policy) -> list[Reason]:
    """The released baseline hazard: coarse enough not to show a patient's day?"""
    days, limit = evidence.baseline_grid_days, policy.thresholds.baseline_grid_days_min.value
    fine = days < limit
    sentence = (
        f"The released baseline hazard changes every {days:.0f} days at the finest; the policy wants at "
        f"least {limit:.0f}."
    )
    return [Reason("baseline_grid_days_min", Outcome.FAIL_POLICY if fine else Outcome.PASS, sentence, days, limit)]
