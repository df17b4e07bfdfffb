"""Everything a privacy-budget report says, as data; `audits.report` only lays it out.

One report is for one site and its data protection officer. Numbers arrive computed; nothing here looks at a
patient. The sections follow NIST SP 800-226 (unit, ε and δ, trust, mechanisms, hazards) and the Tier-3 fields
of the OpenDP deployments registry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from audits import gaussian
from audits.errors import MisuseError
from audits.verdict import ReleasableEvidence, Verdict

__all__ = [
    "AccountBudget",
    "CertificateNote",
    "EpsilonView",
    "LocalFindings",
    "MeaningRow",
    "ReleasedScore",
    "ReportData",
    "RunLine",
    "SignatureLine",
    "Study",
    "epsilon_views",
    "meaning",
]

SCHEMA = "haemfed/dpo-report/v1"


@dataclass(frozen=True)
class Study:
    """The study as its document declares it.

    Attributes:
        name: name of the study.
        digest: SHA-256 (hex) of the signed document.
        purpose: purpose of the processing, as declared.
        legal_basis: as declared by the site; "not declared" if empty.
        profile: name and digest of the harmonisation profile.
        model: kind of model and preset.
        artefact: file name of the released model.
        artefact_sha256: its digest, hex.
        recipients: who receives the model.
        sites: names of all hospitals.
        collusion: c, colluding sites the main ε allows for.
        minimum_roster: fewest sites in a sum.
        steps_planned: T.
        steps_completed: completed training sums.
        uploads_reserved: U, uploads the noise is calibrated to.
        uploads: uploads this site made for training.
    """

    name: str
    digest: str
    purpose: str
    legal_basis: str
    profile: str
    model: str
    artefact: str
    artefact_sha256: str
    recipients: str
    sites: tuple[str, ...]
    collusion: int
    minimum_roster: int
    steps_planned: int
    steps_completed: int
    uploads_reserved: int
    uploads: int


@dataclass(frozen=True)
class AccountBudget:
    """One account of this site over all its studies, in μ² (μ² adds over studies, ε does not).

    Attributes:
        account: "training" or "holdout".
        delta: δ of the ε printed beside μ.
        granted: μ² that the DPO granted.
        spent: μ² of uploads already made, all studies.
        reserved: μ² set aside for running studies and not yet spent.
        this_study: μ² of `spent` that belongs to this study.
    """

    account: Literal["training", "holdout"]
    delta: float
    granted: float
    spent: float
    reserved: float
    this_study: float

    def __post_init__(self) -> None:
        values = self.granted, self.spent, self.reserved, self.this_study
        if not all(math.isfinite(value) and value >= 0.0 for value in values):
            raise MisuseError(f"the {self.account} account has a negative or infinite amount")

    @property
    def remaining(self) -> float:
        """μ² that no study has spent or reserved, never below 0."""
        return max(0.0, self.granted - self.spent - self.reserved)

    def epsilon(self, squared: float) -> float:
        """ε at δ of an amount of μ² alone."""
        return gaussian.epsilon_of(math.sqrt(squared), self.delta)


@dataclass(frozen=True)
class RunLine:
    """One kind of release of one run.

    Attributes:
        run: short run id.
        stage: kind of query in words, e.g. "training".
        account: account charged.
        uploads: uploads charged.
        completed: sums that were completed (an aborted round is charged too).
        multiplier: noise multiplier z.
        mu: √(uploads)/z.
        leaves: what was released and to whom.
    """

    run: str
    stage: str
    account: str
    uploads: int
    completed: int
    multiplier: float
    mu: float
    leaves: str


@dataclass(frozen=True)
class EpsilonView:
    """The same releases as one adversary sees them.

    Attributes:
        against: who.
        meaning: what he holds, in words.
        mu: μ against him.
        epsilon_5: ε at δ = 1e-5.
        epsilon_6: ε at δ = 1e-6.
        main: this is the ε that the study and the certificate claim.
    """

    against: str
    meaning: str
    mu: float
    epsilon_5: float
    epsilon_6: float
    main: bool = False


@dataclass(frozen=True)
class MeaningRow:
    """What an ε means for one patient, in the terms of `audits.gaussian`.

    Attributes:
        against: which adversary.
        epsilon: ε at δ = 1e-5.
        from_half: highest belief after, if it was 50 % before (any mechanism with this ε).
        from_tenth: the same from 10 %.
        from_hundredth: the same from 1 %.
        accuracy: best accuracy at guessing a coin-flip membership (Gaussian mechanism).
        caught: members found per 100 at 1 % false alarms (Gaussian mechanism).
    """

    against: str
    epsilon: float
    from_half: float
    from_tenth: float
    from_hundredth: float
    accuracy: float
    caught: float


@dataclass(frozen=True)
class ReleasedScore:
    """One released evaluation number with its interval.

    Attributes:
        name: e.g. "C-index (within hospitals)".
        estimate: the number; None if it could not be resolved.
        low: lower end of the interval.
        high: upper end.
        note: one sentence, e.g. what the interval contains.
    """

    name: str
    estimate: float | None
    low: float | None
    high: float | None
    note: str


@dataclass(frozen=True)
class LocalFindings:
    """Results on this site's own patients. They stay at this site: no field of a certificate can hold them.

    Attributes:
        members: own training patients attacked.
        nonmembers: own hold-out patients attacked.
        shadows: shadow models trained.
        lines: (what, value in words) pairs, e.g. ("AUC", "0.52 (0.47 to 0.58)").
        worst_records: how many records the local list names; the list itself is a separate local file.
        notes: sentences, e.g. "not resolvable with n = 20".
    """

    members: int
    nonmembers: int
    shadows: int
    lines: tuple[tuple[str, str], ...]
    worst_records: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CertificateNote:
    """Where the certificate is and until when it is valid.

    Attributes:
        file: file name.
        digest: SHA-256 (hex) of the envelope.
        issued: ISO date.
        expires: ISO date.
    """

    file: str
    digest: str
    issued: str
    expires: str


@dataclass(frozen=True)
class SignatureLine:
    """A line of the sign-off block; empty strings are printed as blanks to sign by hand."""

    role: str
    name: str = ""
    key: str = ""
    date: str = ""


@dataclass(frozen=True)
class ReportData:
    """A whole report.

    Attributes:
        site: name of the hospital the report is for.
        generated: ISO date, given by the caller.
        software: name and version.
        study: the study.
        verdict: the verdict.
        certificate: None while it is not issued.
        evidence: what the verdict was computed from.
        delta: δ of the claim.
        delta_why: why this δ.
        budgets: this site's two accounts.
        runs: what was charged.
        training_views: ε of the training account by adversary (`epsilon_views`).
        holdout_views: the same for the hold-out account.
        scores: released evaluation.
        local: the site's own attack results, or None if they were not made.
        signatures: sign-off block.
    """

    site: str
    generated: str
    software: str
    study: Study
    verdict: Verdict
    certificate: CertificateNote | None
    evidence: ReleasableEvidence
    delta: float
    delta_why: str
    budgets: tuple[AccountBudget, ...]
    runs: tuple[RunLine, ...]
    training_views: tuple[EpsilonView, ...]
    holdout_views: tuple[EpsilonView, ...]
    scores: tuple[ReleasedScore, ...]
    local: LocalFindings | None
    signatures: tuple[SignatureLine, ...] = (
        SignatureLine("Auditor"),
        SignatureLine("Data protection officer"),
    )
    schema: str = SCHEMA


def epsilon_views(mu: float, *, roster: int, collusion: int, honest: int | None = None) -> tuple[EpsilonView, ...]:
    """State one guarantee against three adversaries.

    Each site adds a share zC/√h of the noise, and a sum holds at least h + c shares. Outsiders face all of them:
    μ·√(h/(h+c)). The coordinator with c sites faces h: μ. If everybody else colludes only the site's own share is
    left: μ·√h.

    >>> [round(view.epsilon_5, 2) for view in epsilon_views(0.5, roster=6, collusion=1)]
    [1.8, 1.99, 4.98]

    Args:
        mu: μ against the coordinator and c colluding sites.
        roster: |R|, the largest roster; the last line is worst for it.
        collusion: c ≥ 0, with h ≥ 1.
        honest: h, shares of honest sites that no opened sum lacks; |R| − c unless a sum opens without some of R.

    Raises:
        MisuseError: no honest site is left.
    """
    honest = roster - collusion if honest is None else honest
    if not 1 <= honest <= roster - collusion or collusion < 0:
        raise MisuseError(f"{collusion} colluding sites of {roster} leave no honest one")
    hospitals = "hospital" if collusion == 1 else "hospitals"
    rows = (
        (
            "Anyone outside",
            "receives the model and the published scores, and none of the hospitals' secrets",
            mu * math.sqrt(honest / (honest + collusion)),
            False,
        ),
        (
            f"The coordinator and {collusion} {hospitals}, together",
            "hold every sum, their own keys and their own noise; the claim of the study",
            mu,
            True,
        ),
        (
            "Everyone else together",
            (f"all {roster - 1} other hospitals and the coordinator against this one: only its own noise is left"),
            mu * math.sqrt(honest),
            False,
        ),
    )
    return tuple(
        EpsilonView(who, what, m, gaussian.epsilon_of(m, 1e-5), gaussian.epsilon_of(m, 1e-6), main)
        for who, what, m, main in rows
    )


def meaning(views: Sequence[EpsilonView]) -> tuple[MeaningRow, ...]:
    """Translate each ε into beliefs and hit rates."""
    return tuple(
        MeaningRow(
            view.against,
            view.epsilon_5,
            gaussian.posterior(0.5, view.epsilon_5),
            gaussian.posterior(0.1, view.epsilon_5),
            gaussian.posterior(0.01, view.epsilon_5),
            gaussian.accuracy(view.mu),
            100.0 * gaussian.tpr_ceiling(view.mu, 0.01),
        )
        for view in views
    )
