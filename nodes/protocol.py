"""Projections of a study onto the rooms that learn and audit, and how its budget is split among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audits.errors import MisuseError
from audits.histogram import MEMBERS, NONMEMBERS, ScoreBins, members_query, nonmembers_query, with_count
from dp.queries import Query
from harmonize.split import ONE_IN
from models import measures
from models.errors import ConfigError
from models.plan import Spec
from models.presets import Preset
from nodes import imputing
from nodes.errors import StudyInvalid
from nodes.grids import inflation
from nodes.references import reference_digest
from nodes.rounds import algorithm_of
from nodes.study import WITHOUT_NOISE, Search, Study
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise

TRAINING_SHARES: Mapping[str, float] = {"gradient": 0.85, "breslow": 0.10, MEMBERS: 0.05}
"""How the training patients' μ² is split; declared in the study through its multipliers. Imputation, if a study has it,
takes its share from all three: `nodes.imputing.shares`."""

HOLDOUT_WEIGHTS: Mapping[str, float] = {
    "concordance": 0.70,
    "calibration": 0.15,
    "survival-holdout": 0.10,
    "brier": 0.60,
    "auc": 0.70,
    "likelihood": 0.30,
    NONMEMBERS: 0.15,
}
"""How the holdout patients' μ² is split among what a study asks: each weight over the sum of the weights asked. AUC's
is for all its times together."""


def holdout_shares(evaluate: tuple[str, ...] | None) -> Mapping[str, float]:
    """Kind of sum → share of the holdout patients' μ², the audit's histogram among them.

    Args:
        evaluate: measures, see `models.measures`; None for its default.

    Raises:
        StudyInvalid: none, an unknown one, or one named twice.
    """
    try:
        kinds = (*measures.kinds(measures.DEFAULT if evaluate is None else evaluate), NONMEMBERS)
    except ConfigError as error:
        raise StudyInvalid(f"what a study evaluates: {error}") from error
    whole = sum(HOLDOUT_WEIGHTS[kind] for kind in kinds)
    return {kind: HOLDOUT_WEIGHTS[kind] / whole for kind in kinds}


def measured(study: Study) -> tuple[str, ...]:
    """What a study measures on its hold-out patients, by its stages."""
    asked = {stage.kind for stage in study.stages}
    return tuple(name for name, kinds in measures.MEASURES.items() if asked.issuperset(kinds))


HOLDOUT_SHARES: Mapping[str, float] = holdout_shares(None)
"""What a study gives that does not say what it evaluates."""

SPARE_UPLOADS: Mapping[str, int] = {"breslow": 1}
"""Uploads beyond the wanted steps. A model without recalibration is a worse model; an evaluation that a broken round
costs is reported as not released, which is cheaper than doubling its noise for everybody."""

MINIMUM_MEMBERS = 4


@dataclass(frozen=True)
class Terms:
    """What the author of a study decides.

    Args:
        epsilon, delta: total for a training patient against coordinator and c colluding sites.
        holdout_epsilon, holdout_delta: the same for a holdout patient.
        patient_cap: public cap on the patients of one site.
        declared_patients: training patients of all sites, as declared by people (sum of size bands).
        deadline_seconds: a site that has not uploaded by then is missing.
        patience_seconds: how long the coordinator waits for a minimum roster.
        roster_changes: how often the roster may change.
        mode: A, or B for rounds that a site may drop out of.
        noise: who adds it; without noise the four totals are not used, and no site may leave.
        budget: the kind of budget that pays, GDP or RDP.
        order: α of an RDP budget, as the sites' accounts have it.
        sampling_probability: q in (0, 1] of a training step; below 1 it needs an RDP budget.
        lane_bits: 64, or 10 to 32 for narrow lanes, which need an RDP budget.
        hospitals_per_patient: at how many of the hospitals one patient may have been treated, as declared by people.
        search: the search that this study is one run of.
        evaluate: what is measured on hold-out patients, of `models.measures.MEASURES`; None for its default.
    """

    epsilon: float = 2.0
    delta: float = 1e-5
    holdout_epsilon: float = 2.0
    holdout_delta: float = 1e-5
    patient_cap: int = 4096
    declared_patients: float = 800.0
    deadline_seconds: float = 30.0
    patience_seconds: float = 300.0
    roster_changes: int = 4
    mode: Mode = Mode.A
    noise: Noise = Noise.DISTRIBUTED
    budget: Literal["GDP", "RDP"] = "GDP"
    order: int = 0
    sampling_probability: float = 1.0
    lane_bits: int = WIDE
    hospitals_per_patient: int = 1
    search: Search | None = None
    evaluate: tuple[str, ...] | None = None

    @property
    def declared_holdout(self) -> float:
        """Hold-out patients that go with so many training patients, by the split that every site makes."""
        return self.declared_patients / (ONE_IN - 1)


def collusion_bound(sites: int) -> int:
    """C = max(1, ⌊n/5⌋): how many sites the noise does not count on."""
    return max(1, sites // 5)


def spec_of(study: Study) -> Spec:
    """What `models` reads from a study.

    Raises:
        StudyInvalid: preset, weights, stages or roster rules do not fit together.
    """
    multipliers = {stage.kind: stage.query_multiplier for stage in study.stages}
    sampled = next((s.sampling_probability for s in study.stages if s.kind == "gradient"), 1.0)
    return unpriced_spec(study, multipliers, sampled, inflation(study.manifest()))


def unpriced_spec(
    study: Study, multipliers: Mapping[str, float], sampling_probability: float, noise_inflation: float = 1.0
) -> Spec:
    """The same before its stages have noise."""
    noise = multipliers.get(imputing.KIND, WITHOUT_NOISE)
    return Spec(
        preset=Preset.from_json(study.learning.preset),
        features=study.learning.features,
        weights=study.weights,
        multipliers=multipliers,
        patient_cap=study.privacy.patient_cap,
        noise_inflation=noise_inflation,
        sampling_probability=sampling_probability,
        imputation=imputing.imputation_of(study, noise, noise_inflation),
        algorithm=algorithm_of(study),
    )


def score_bins(study: Study) -> ScoreBins:
    """The public bins of the audit's score histograms, by the length of their stages.

    Raises:
        StudyInvalid: the study has no such stages, or of a length that no bins have.
    """
    lengths = {stage.length for stage in study.stages if stage.kind in (MEMBERS, NONMEMBERS)}
    if len(lengths) != 1:
        raise StudyInvalid(f"study {study.name!r} needs {MEMBERS} and {NONMEMBERS} of one length")
    try:
        return with_count(lengths.pop())
    except MisuseError as error:
        raise StudyInvalid(f"study {study.name!r}: {error}") from error


def histogram_queries(study: Study) -> tuple[Query, Query]:
    """The two score histograms of the audit, for members and non-members.

    Raises:
        StudyInvalid: the study has no such stages.
    """
    multipliers = {stage.kind: stage.query_multiplier for stage in study.stages}
    try:
        members, nonmembers = multipliers[MEMBERS], multipliers[NONMEMBERS]
    except KeyError as error:
        raise StudyInvalid(f"study {study.name!r} has no stage {error}") from error
    bins, cap, references = score_bins(study), study.privacy.patient_cap, reference_digest(study)
    return (
        members_query(bins, multiplier=members, patient_cap=cap, references=references),
        nonmembers_query(bins, multiplier=nonmembers, patient_cap=cap, references=references),
    )
