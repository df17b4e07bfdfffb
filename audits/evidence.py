"""What a verdict may look at, and what each rule may answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from audits import gaussian, renyi
from audits.ceilings import Ceiling
from audits.errors import MisuseError
from audits.interval import Interval
from audits.ledger import LedgerEvidence
from audits.mechanism import Conformance
from audits.noisy_roc import AttackEvidence
from audits.sensitivity import Sensitivity
from dp.budget import gaussian_delta

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
        mu: μ of Gaussian differential privacy of everything the study may release (all uploads reserved); None where
            the budget is kept in RDP.
        epsilon: ε at `delta`.
        delta: δ.
        collusion: c.
        unit: unit of privacy.
        adjacency: neighbouring relation.
        order: α of an RDP budget; 0 for GDP.
        divergence: R_α of everything that the study may release; None for GDP.
        noise: whose noise it counts on, in words.

    Raises:
        MisuseError: not exactly one of μ and (order, R_α).
    """

    account: str
    mu: float | None
    epsilon: float
    delta: float
    collusion: int
    unit: str = "one patient"
    adjacency: str = "add or remove one patient"
    order: int = 0
    divergence: float | None = None
    noise: str = "differentially private: every hospital adds a share of the noise"

    def __post_init__(self) -> None:
        if (self.mu is None) is not (self.divergence is not None) or (self.divergence is None) is not (self.order == 0):
            raise MisuseError(
                f"the claim for the {self.account} account needs either μ, or an order and its divergence"
            )

    @property
    def budget(self) -> str:
        """The kind of budget, in words."""
        return "GDP" if self.divergence is None else f"RDP at order {self.order}"

    def epsilon_at(self, delta: float) -> float:
        """ε that follows from μ, or from R_α, at another δ; computed here, not by what made the claim.

        Raises:
            MisuseError: a value outside its range.
        """
        if self.divergence is not None:
            return renyi.epsilon_of(self.order, self.divergence, gaussian_delta(delta))
        return gaussian.epsilon_of(self.mu if self.mu is not None else math.nan, gaussian_delta(delta))

    def ceiling(self) -> Ceiling:
        """The most that any attack can achieve if the claim holds."""
        return Ceiling(self.mu, self.epsilon, self.delta)


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
