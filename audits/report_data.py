"""Everything a privacy-budget report says, as data; `audits.report` only lays it out.

One report is for one site and its data protection officer. Numbers arrive computed; nothing here looks at a
patient. The sections follow NIST SP 800-226 (unit, ε and δ, trust, mechanisms, hazards) and the Tier-3 fields
of the OpenDP deployments registry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from audits import gaussian, renyi
from audits.errors import MisuseError
from audits.verdict import ReleasableEvidence, Verdict
from audits.views import Coalition, EpsilonView, MeaningRow, epsilon_views, meaning, views
from dp.budget import gaussian_delta

__all__ = [
    "AccountBudget",
    "Accounting",
    "CertificateNote",
    "Coalition",
    "ColumnGroup",
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
    "views",
]

SCHEMA = "haemfed/dpo-report/v2"


@dataclass(frozen=True)
class ColumnGroup:
    """The columns of one examination that a study reads of each patient.

    Attributes:
        modality: e.g. "clinical", "mutations", or the name of a vector.
        count: numbers of each patient.
        names: of the columns; a vector has one entry for all of its numbers.
    """

    modality: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """The study as its document declares it.

    Attributes:
        name: name of the study.
        digest: SHA-256 (hex) of the signed document.
        purpose: purpose of the processing, as declared.
        legal_basis: as declared by the site; "not declared" if empty.
        profile: name and digest of the harmonisation profile.
        columns: what is read of each patient beside the outcome.
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
    columns: tuple[ColumnGroup, ...]
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
    """One account of this site over all its studies, in what its budget adds up (ε does not add over studies).

    Attributes:
        account: "training" or "holdout".
        delta: δ of the ε printed beside the amounts.
        granted: μ², or R_α, that the DPO granted.
        spent: the same of uploads already made, all studies.
        reserved: the same set aside for running studies and not yet spent.
        this_study: the part of `spent` that belongs to this study.
        order: α of an RDP budget; 0 for GDP, whose amounts are μ².
        bounded: False if a run without noise has read these patients: then no ε bounds what is known of them.
    """

    account: Literal["training", "holdout"]
    delta: float
    granted: float
    spent: float
    reserved: float
    this_study: float
    order: int = 0
    bounded: bool = True

    @property
    def unit(self) -> str:
        """What the amounts are in."""
        return f"R of order {self.order}" if self.order else "μ²"

    def __post_init__(self) -> None:
        values = self.granted, self.spent, self.reserved, self.this_study
        if not all(math.isfinite(value) and value >= 0.0 for value in values):
            raise MisuseError(f"the {self.account} account has a negative or infinite amount")

    @property
    def remaining(self) -> float:
        """What no study has spent or reserved, never below 0."""
        return max(0.0, self.granted - self.spent - self.reserved)

    def epsilon(self, amount: float) -> float:
        """ε at δ of an amount alone; 0 of nothing."""
        if self.order:
            return renyi.epsilon_of(self.order, amount, gaussian_delta(self.delta)) if amount > 0.0 else 0.0
        return gaussian.epsilon_of(math.sqrt(amount), gaussian_delta(self.delta))


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
        mu: √(uploads)/z; None where the budget is kept in RDP.
        epsilon_5: ε of these uploads alone at δ = 1e-5.
        epsilon_6: the same at δ = 1e-6.
        leaves: what was released and to whom.
        sampling_probability: q of a Poisson sample; 1 for all patients.
    """

    run: str
    stage: str
    account: str
    uploads: int
    completed: int
    multiplier: float
    mu: float | None
    epsilon_5: float
    epsilon_6: float
    leaves: str
    sampling_probability: float = 1.0


@dataclass(frozen=True)
class Accounting:
    """How the claim for one account adds up, and the same releases by other rules.

    Attributes:
        account: "training" or "holdout".
        budget: "GDP", or "RDP at order 32": fixed when the budget was granted.
        epsilon: by the budget's filter: the headline.
        delta: its δ.
        epsilon_6: the headline at δ = 1e-6.
        pld: by privacy loss distributions, had all releases been fixed in advance; None where there is none. No
            permission depends on it.
        replace_one: for neighbours that differ by one exchanged patient; None where nothing is proven.
        hospitals: at how many hospitals one patient may have been treated, as declared.
        several_hospitals: ε of such a patient, who is in several ledgers; None where nothing is proven.
        remarks: why a number is missing, one sentence each.
        search: what a search for settings costs that this study is one run of; "" if it is none.
    """

    account: Literal["training", "holdout"]
    budget: str
    epsilon: float
    delta: float
    epsilon_6: float
    pld: float | None
    replace_one: float | None
    hospitals: int
    several_hospitals: float | None
    remarks: tuple[str, ...] = ()
    search: str = ""


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
        accounting: how the claim for each account adds up.
        scores: released evaluation.
        local: the site's own attack results, or None if they were not made.
        coalitions: ε by the number of hospitals that work together with the coordinator; empty if it does not matter,
            because every hospital adds all the noise that its patients need.
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
    accounting: tuple[Accounting, ...]
    scores: tuple[ReleasedScore, ...]
    local: LocalFindings | None
    coalitions: tuple[Coalition, ...] = ()
    signatures: tuple[SignatureLine, ...] = (
        SignatureLine("Auditor"),
        SignatureLine("Data protection officer"),
    )
    schema: str = SCHEMA
