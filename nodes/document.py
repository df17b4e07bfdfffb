"""The parts of a study document, field by field; `nodes.study` says what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise

__all__ = [
    "FORMAT",
    "PROTECTION",
    "WITHOUT_NOISE",
    "Federation",
    "Imputing",
    "Learning",
    "Privacy",
    "Search",
    "Site",
    "Stage",
]

FORMAT = "haemfed/study/2"

WITHOUT_NOISE = 2.0**-99
"""Multiplier of a query whose sum has no noise: intervals around it count noise that no float64 shows."""

PROTECTION: Mapping[Noise, str] = MappingProxyType(
    {
        Noise.DISTRIBUTED: "differentially private: every hospital adds a share of the noise",
        Noise.LOCAL: "differentially private: each hospital adds the whole noise (local noise)",
        Noise.NONE: "not differentially private: masks only; it protects against the coordinator reading uploads, not "
        "against what a sum reveals",
    }
)


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: its place in the manifest, its name, its Ed25519 identity and what it declared about its size.

    Args:
        index: 1 to 255, without gaps.
        name: the certificate's common name.
        identity: base64 of the 32-byte Ed25519 public key.
        size_band: typed in by a person (for example "100-249"), never computed from a table.
    """

    index: int
    name: str
    identity: str
    size_band: str


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of query, how often it is summed, how often it may be uploaded, and with how much noise.

    A stage begins after the round whose sum ended the stage before it, and ends when its sums are there or `uploads`
    round numbers later: which query a round sums is a function of study, transcript and round number alone. The
    coordinator never names it, and no site can be asked for more uploads than it reserved.

    Args:
        kind: one of `dp.queries.KINDS`.
        account: the account that every upload charges.
        steps: completed sums wanted.
        uploads: uploads allowed, at least `steps`; the reservation and the noise are calibrated to this number.
        length: coordinates of one vector.
        sensitivity: L2 bound of one patient's contribution.
        multiplier: standard deviation of the honest noise over `sensitivity`; 0 in a study without noise.
        sampling_probability: q in (0, 1]: every patient is in each upload's sum with this probability, drawn anew and
            in secret for every upload. 1: all patients.
    """

    kind: str
    account: str
    steps: int
    uploads: int
    length: int
    sensitivity: float
    multiplier: float
    sampling_probability: float = 1.0

    @property
    def query_multiplier(self) -> float:
        """The multiplier that the stage's queries carry: theirs is never 0, and a lattice without noise ignores it."""
        return self.multiplier or WITHOUT_NOISE

    @property
    def mu_squared(self) -> float:
        """Privacy cost μ² of all uploads of this stage together."""
        return self.uploads / self.multiplier**2


class Imputing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Federated imputation: one bounded sum per round, before training; `models.imputation` says how.

    Bounds of the covariates, and which of them are properties, follow from the profile.

    Args:
        covariates: names among the features: imputed from each other, in this order.
        rounds: sums of the stage "sum", at least 1.
        radius: in spreads; a patient's record is cut to this norm.
        never_measured: covariates that some hospital never measures, as declared by people: imputed nowhere.
        cross_site: those of them that are imputed all the same, from what the other hospitals measured.
    """

    covariates: tuple[str, ...]
    rounds: int
    radius: float
    never_measured: tuple[str, ...] = ()
    cross_site: tuple[str, ...] = ()


class Learning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is learned: all fields of a preset, the columns in order, and the initial weights as bytes (base64).

    Args:
        preset: every constant of model, training, recalibration and evaluation.
        features: columns, in order.
        weights: float64 little-endian, base64.
        imputation: how gaps are filled; None for the reference fill beside the mask, and then not in the document: what
            was signed before there was a choice keeps its digest.
        algorithm: how training sums are made: `name`, one of `models.algorithms.protection.KIND_OF`, and all its
            constants; None for lockstep, and then not in the document, likewise.
    """

    preset: Mapping[str, Any]
    features: tuple[str, ...]
    weights: str
    imputation: Imputing | None = None
    algorithm: Mapping[str, Any] | None = None


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The study is one run of a search for hyper-parameters whose number of runs was drawn from a public law.

    Args:
        law: of the number of runs; one of `dp.search.Law`.
        trials: its mean, above 1.
    """

    law: str
    trials: float


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The totals that the stages were calibrated to, and who they hold against.

    Args:
        epsilon: total for a training patient, add-or-remove-one, against the coordinator and `collusion` sites.
        delta: its δ.
        holdout_epsilon: total for a holdout patient.
        holdout_delta: its δ.
        collusion: sites whose noise is not counted on.
        patient_cap: public cap on the patients of one site.
        noise: who adds it; see `secagg.manifest.Noise`. Without noise nothing is protected from what a sum says: the
            four totals are 0 and nothing is charged.
        budget: the kind of budget that pays; see `dp.budget.BudgetKind`.
        order: α at which an RDP budget is kept, 2 to 256; 0 for GDP.
        hospitals_per_patient: at how many of the hospitals one patient may have been treated: no ledger knows, a person
            declares it, and the report says what it costs.
        search: the search that the study belongs to, if it is one of several runs.
    """

    epsilon: float
    delta: float
    holdout_epsilon: float
    holdout_delta: float
    collusion: int
    patient_cap: int
    noise: Noise = Noise.DISTRIBUTED
    budget: Literal["GDP", "RDP"] = "GDP"
    order: int = 0
    hospitals_per_patient: int = 1
    search: Search | None = None


class Federation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sites meet.

    Args:
        minimum_roster: fewest sites in a round.
        roster_changes: how often the roster may change.
        deadline_seconds: a site that has not uploaded by then is missing.
        patience_seconds: how long the coordinator waits for a minimum roster before it stops the study.
        mode: A: a round opens only if everybody asked has uploaded. B: it opens without those who dropped out, at the
            price of more noise and two more messages.
        lane_bits: width of a coordinate inside a 64-bit word.
    """

    minimum_roster: int
    roster_changes: int
    deadline_seconds: float
    patience_seconds: float
    mode: Mode = Mode.A
    lane_bits: int = WIDE
