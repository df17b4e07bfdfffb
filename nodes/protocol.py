"""Projections of a study onto the rooms that learn and audit, and the draft of a study from their public constants."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from audits.errors import AuditError
from audits.histogram import MEMBERS, NONMEMBERS, ScoreBins, members_query, nonmembers_query
from dp.budget import check_delta
from dp.errors import DPError
from dp.queries import Account, Query
from harmonize.profile import Profile
from models.errors import ModelsError
from models.plan import Spec, schedule
from models.presets import Preset
from models.training import initial_weights
from nodes.calibrating import calibrated
from nodes.consistency import unsuited
from nodes.errors import StudyInvalid
from nodes.grids import grid, inflation
from nodes.references import reference_digest
from nodes.study import FORMAT, WITHOUT_NOISE, Federation, Learning, Privacy, Search, Site, Stage, Study
from secagg.errors import SecaggError
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise

TRAINING_SHARES: Mapping[str, float] = {"gradient": 0.85, "breslow": 0.10, MEMBERS: 0.05}
"""How the training patients' μ² is split; declared in the study through its multipliers."""

HOLDOUT_SHARES: Mapping[str, float] = {"concordance": 0.70, "calibration": 0.15, NONMEMBERS: 0.15}
"""How the holdout patients' μ² is split."""

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


def collusion_bound(sites: int) -> int:
    """C = max(1, ⌊n/5⌋): how many sites the noise does not count on."""
    return max(1, sites // 5)


def spec_of(study: Study) -> Spec:
    """What `models` reads from a study.

    Raises:
        StudyInvalid: preset, weights, stages or roster rules do not fit together.
    """
    return Spec(
        preset=Preset.from_json(study.learning.preset),
        features=study.learning.features,
        weights=study.weights,
        multipliers={stage.kind: stage.query_multiplier for stage in study.stages},
        patient_cap=study.privacy.patient_cap,
        noise_inflation=inflation(study.manifest()),
        sampling_probability=next((s.sampling_probability for s in study.stages if s.kind == "gradient"), 1.0),
    )


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
    cap, references = study.privacy.patient_cap, reference_digest(study)
    return (
        members_query(ScoreBins(), multiplier=members, patient_cap=cap, references=references),
        nonmembers_query(ScoreBins(), multiplier=nonmembers, patient_cap=cap, references=references),
    )


def check_plan(study: Study) -> None:
    """Refuse a study that could be signed and reserved but not run: before anybody signs it.

    Raises:
        StudyInvalid: roster rules, preset, weights, stages and lattice do not fit together; names what.
    """
    manifest = study.manifest()
    try:
        spec = spec_of(study)
        wanted = [*schedule(spec), *histogram_queries(study)]
        for query in wanted:
            study.stage_of(query)
            for sites in (manifest.minimum_roster, len(manifest.members)):
                grid(manifest, query, sites)
        if manifest.noise is not Noise.NONE:
            for delta in (study.privacy.delta, study.privacy.holdout_delta):
                check_delta(delta, math.ceil(spec.preset.normaliser / spec.sampling_probability))
    except (ModelsError, DPError, SecaggError, AuditError, binascii.Error) as error:
        raise StudyInvalid(f"study {study.name!r} cannot be run: {error}; ask its author for another one") from error
    asked = Counter(query.kind for query in wanted)
    if list(asked.items()) != [(stage.kind, stage.steps) for stage in study.stages]:
        raise StudyInvalid(f"study {study.name!r} lists other stages than its model needs: {dict(asked)}")


def draft(
    name: str,
    purpose: str,
    *,
    profile: Profile,
    preset: Preset,
    sites: Sequence[tuple[str, bytes, str]],
    terms: Terms,
    seed: bytes,
    not_after: str,
    run_number: int = 1,
) -> Study:
    """Write an unsigned study.

    Args:
        name: of the study.
        purpose: one sentence for the record of processing.
        profile: the data profile; its inputs (tiers A and B) are the features, in order.
        preset: model and training constants.
        sites: (name, Ed25519 public key, declared size band) of each hospital.
        terms: privacy and federation.
        seed: public bytes that the initial weights are derived from.
        not_after: ISO time after which the study is refused.
        run_number: 1 for the first run.

    Raises:
        StudyInvalid: fewer than four sites, or the parts do not fit.
    """
    if len(sites) < MINIMUM_MEMBERS:
        raise StudyInvalid(f"a study needs at least {MINIMUM_MEMBERS} hospitals, {len(sites)} were given")
    silent, n = terms.noise is Noise.NONE, len(sites)
    collusion = 0 if silent else collusion_bound(n)
    sized = preset.sized(terms.declared_patients * terms.sampling_probability)  # patients expected in one step
    features = tuple(variable.name for variable in profile.inputs)
    weights = initial_weights(sized, len(features), seed)
    members = tuple(
        Site(index, site, base64.b64encode(identity).decode(), band)
        for index, (site, identity, band) in enumerate(sites, start=1)
    )
    study = Study(
        format=FORMAT,
        name=name,
        purpose=purpose,
        profile=profile.profile,
        profile_digest=profile.digest,
        run_number=run_number,
        not_after=not_after,
        sites=members,
        learning=Learning(sized.to_json(), features, base64.b64encode(weights).decode()),
        privacy=Privacy(
            epsilon=0.0 if silent else terms.epsilon,
            delta=0.0 if silent else terms.delta,
            holdout_epsilon=0.0 if silent else terms.holdout_epsilon,
            holdout_delta=0.0 if silent else terms.holdout_delta,
            collusion=collusion,
            patient_cap=terms.patient_cap,
            noise=terms.noise,
            budget=terms.budget,
            order=terms.order,
            hospitals_per_patient=terms.hospitals_per_patient,
            search=terms.search,
        ),
        federation=Federation(
            minimum_roster=n if silent else max((n + collusion) // 2 + 1, collusion + 2),
            roster_changes=0 if silent else terms.roster_changes,
            deadline_seconds=terms.deadline_seconds,
            patience_seconds=terms.patience_seconds,
            mode=terms.mode,
            lane_bits=terms.lane_bits,
        ),
        stages=(),
    )
    if terms.mode is Mode.B and not silent:
        least = max(study.federation.minimum_roster, study.survivors_needed)
        study = msgspec.structs.replace(
            study, federation=msgspec.structs.replace(study.federation, minimum_roster=least)
        )
    return _with_stages(study, sized, terms)


def _with_stages(study: Study, preset: Preset, terms: Terms) -> Study:
    """Add the stages that the model and the audit need, without noise, then give each its noise."""
    uploads = {kind: 1 + SPARE_UPLOADS.get(kind, 0) for kind in (*TRAINING_SHARES, *HOLDOUT_SHARES)}
    uploads["gradient"] = preset.uploads
    probe = Spec(
        preset,
        study.learning.features,
        study.weights,
        dict.fromkeys(uploads, WITHOUT_NOISE),
        terms.patient_cap,
        sampling_probability=terms.sampling_probability,
    )
    bins, cap, nothing = ScoreBins(), terms.patient_cap, bytes(32)
    members = members_query(bins, multiplier=WITHOUT_NOISE, patient_cap=cap, references=nothing)
    nonmembers = nonmembers_query(bins, multiplier=WITHOUT_NOISE, patient_cap=cap, references=nothing)
    wanted: dict[str, list[Query]] = {}
    for query in (*schedule(probe), members, nonmembers):
        wanted.setdefault(query.kind, []).append(query)
    stages = tuple(
        Stage(
            kind=kind,
            account=Account(queries[0].account).value,
            steps=len(queries),
            uploads=uploads[kind],
            length=queries[0].length,
            sensitivity=queries[0].sensitivity,
            multiplier=0.0,
            sampling_probability=queries[0].sampling_probability,
        )
        for kind, queries in wanted.items()
    )
    study = msgspec.structs.replace(study, stages=stages)
    for problem in unsuited(study):
        raise StudyInvalid(f"study {study.name!r} cannot be drafted: {problem}")
    return study if terms.noise is Noise.NONE else calibrated(study, {**TRAINING_SHARES, **HOLDOUT_SHARES})
