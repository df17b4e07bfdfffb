"""What a verdict may look at, and what each rule may answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audits.interval import Interval
from audits.ledger import LedgerEvidence
from audits.mechanism import Conformance
from audits.noisy_roc import AttackEvidence
from audits.sensitivity import Sensitivity

__all__ = ["Claim", "Outcome", "Reason", "ReleasableEvidence"]


class Outcome(StrEnum):
    """What a verdict can be; only PASS lets a model be released under the policy."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL_INTEGRITY = "FAIL(integrity)"
    FAIL_CONTRADICTION = "FAIL(contradiction)"
    FAIL_POLICY = "FAIL(policy)"
    INCONCLUSIVE = "INCONCLUSIVE"
    WITHHELD = "WITHHELD"


@dataclass(frozen=True)
class Claim:
    """The guarantee that the study claims for one account, against the coordinator and c colluding sites.

    Attributes:
        account: "training" or "holdout".
        mu: μ of Gaussian differential privacy of everything the study may release (all uploads reserved).
        epsilon: ε at `delta`.
        delta: δ.
        unit: unit of privacy.
        adjacency: neighbouring relation.
        collusion: c.
    """

    account: str
    mu: float
    epsilon: float
    delta: float
    collusion: int
    unit: str = "one patient"
    adjacency: str = "add or remove one patient"


@dataclass(frozen=True)
class ReleasableEvidence:
    """Everything a verdict may look at. No field is computed from patients except through the door.

    Attributes:
        claims: one per account, "training" first.
        ledger: recount of the charges.
        mechanism: self-check of the noise; None if it was not run.
        sensitivity: probe of the clipping; None if it was not run.
        attack: decoded score histograms; None if they were not released.
        positive_control: AUC of the same attack on a deliberately overfitted twin trained on synthetic
            patients.
        baseline_grid_days: narrowest interval of the released baseline hazard, days.
    """

    claims: tuple[Claim, ...]
    ledger: LedgerEvidence
    mechanism: Conformance | None
    sensitivity: Sensitivity | None
    attack: AttackEvidence | None
    positive_control: Interval | None
    baseline_grid_days: float


@dataclass(frozen=True)
class Reason:
    """One rule, what it measured, what the limit was, and what follows.

    Attributes:
        rule: key of the rule, e.g. "auc_upper_max".
        outcome: what this rule alone would say.
        sentence: the reason for a reader who is not a statistician.
        measured: the number the rule read, None if there is none.
        limit: the number it was compared with, None if there is none.
    """

    rule: str
    outcome: Outcome
    sentence: str
    measured: float | None = None
    limit: float | None = None
