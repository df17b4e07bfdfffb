"""From evidence that may leave a hospital to one verdict, with its reasons in plain words.

The verdict is a function of the policy and of `ReleasableEvidence` alone: mechanism audits on data without
patients, the recounted ledger, and the two charged score histograms. What a site found on its own patients
(`audits.membership.LocalEvidence`) is not an argument of `decide`. A data protection officer who saw it may
still refuse: `withheld` turns PASS into WITHHELD, which is a person's act and lies outside ε.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from audits import rules
from audits.errors import MisuseError
from audits.evidence import Claim, Outcome, Reason, ReleasableEvidence
from audits.policy import Policy

__all__ = ["Claim", "Outcome", "Reason", "ReleasableEvidence", "Verdict", "decide", "withheld"]

_SEVERITY = (
    Outcome.FAIL_INTEGRITY,
    Outcome.FAIL_CONTRADICTION,
    Outcome.FAIL_POLICY,
    Outcome.INCONCLUSIVE,
    Outcome.PASS,
)


@dataclass(frozen=True)
class Verdict:
    """Outcome with all reasons; the outcome is that of the gravest reason.

    Attributes:
        outcome: the verdict.
        reasons: every rule that was applied, gravest first.
        does_not_cover: what nobody should read into it.
        policy: name of the policy.
        policy_version: its version.
        policy_digest: SHA-256 (hex) of its canonical form.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    does_not_cover: tuple[str, ...]
    policy: str
    policy_version: int
    policy_digest: str

    def headline(self) -> str:
        """One sentence for the first page."""
        match self.outcome:
            case Outcome.PASS:
                return "Every check that the policy asks for was made, and every one held."
            case Outcome.WITHHELD:
                return "A site does not agree to the release. It need not say why."
            case Outcome.INCONCLUSIVE:
                return "Nothing speaks against the claim, but not every check could be decided. This is not a pass."
            case Outcome.FAIL_POLICY:
                return "The model exceeds a limit of the policy. It must not be released under this policy."
            case Outcome.FAIL_CONTRADICTION:
                return "Measurements contradict the privacy claim. Stop using this software version and this model."
            case Outcome.FAIL_INTEGRITY:
                return "The evidence does not fit together. Nothing may be concluded from it."


DOES_NOT_COVER = (
    "attacks other than those listed, and attacks published later",
    "a hospital host, or a person with access to it, that is compromised",
    "patients treated at several of the hospitals: for them the losses add up, and no single ledger sees it",
    "facts that a person typed in when registering (size band, quality grade, features present)",
    "conclusions about a patient that hold whether or not his record was used, such as the effect of age",
    ("poisoned contributions of a malicious site: they can spoil the model, not the privacy of the other patients"),
)


def decide(evidence: ReleasableEvidence, policy: Policy) -> Verdict:
    """Apply every rule of the policy to the evidence.

    The outcome is the gravest of all rules: integrity, contradiction, policy, inconclusive, pass. An attack
    passes on its *upper* confidence bound and fails on its lower one; in between the cohort is too small and
    the verdict is INCONCLUSIVE, never PASS.

    Args:
        evidence: what may leave the site.
        policy: thresholds.

    Raises:
        MisuseError: no claim for the training account, or two claims for one account.
    """
    accounts = [claim.account for claim in evidence.claims]
    if "training" not in accounts or len(set(accounts)) != len(accounts) or set(accounts) - set(rules.WHOSE):
        raise MisuseError(f"a verdict needs one claim per account and one for training, got {accounts}")
    reasons = [
        *rules.of_ledger(evidence),
        *rules.of_claims(evidence, policy),
        *rules.of_mechanism(evidence, policy),
        *rules.of_sensitivity(evidence),
        *rules.of_attack(evidence, policy),
        *rules.of_grid(evidence, policy),
    ]
    reasons.sort(key=lambda reason: _SEVERITY.index(reason.outcome))
    missing = tuple(
        f"the attack's hit rate at {percent} false alarms: this policy sets no limit for it"
        for percent, limit in (
            ("10 %", policy.thresholds.tpr_at_10pct_upper_max),
            ("1 %", policy.thresholds.tpr_at_1pct_upper_max),
        )
        if limit is None
    )
    return Verdict(
        reasons[0].outcome,
        tuple(reasons),
        DOES_NOT_COVER + missing,
        policy.name,
        policy.version,
        policy.digest(),
    )


def withheld(verdict: Verdict) -> Verdict:
    """Turn PASS into WITHHELD, the only effect that local evidence may have; other outcomes stay as they are.

    The reason says that a person decided and nothing else: why would be a release of local evidence.
    """
    if verdict.outcome is not Outcome.PASS:
        return verdict
    reason = Reason("site", Outcome.WITHHELD, "Withheld by the site: a human decision, not a computed one.")
    return replace(verdict, outcome=Outcome.WITHHELD, reasons=(reason, *verdict.reasons))
