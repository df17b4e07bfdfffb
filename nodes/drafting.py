"""The draft of a study from public constants, and the last look before anybody signs one."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from audits.errors import AuditError
from audits.histogram import members_query, nonmembers_query, suited
from dp.budget import check_delta
from dp.errors import DPError
from dp.queries import Account, Query
from harmonize.profile import Profile
from models.errors import ModelsError
from models.generators.study import GeneratorSpec, Settings, settings_of
from models.plan import schedule
from models.presets import Preset
from models.training import initial_weights
from nodes import imputing, plans, rounds
from nodes.calibrating import calibrated
from nodes.columns import Columns, chosen, described, require_fit
from nodes.consistency import unsuited
from nodes.errors import StudyInvalid
from nodes.grids import grid
from nodes.protocol import (
    MINIMUM_MEMBERS,
    SPARE_UPLOADS,
    TRAINING_SHARES,
    Terms,
    collusion_bound,
    holdout_shares,
    unpriced_spec,
)
from nodes.study import FORMAT, WITHOUT_NOISE, Federation, Imputing, Learning, Privacy, Site, Stage, Study
from secagg.errors import SecaggError
from secagg.manifest import Mode, Noise

__all__ = ["check_plan", "draft"]


def check_plan(study: Study) -> None:
    """Refuse a study that could be signed and reserved but not run: before anybody signs it.

    Raises:
        StudyInvalid: roster rules, preset, weights, stages and lattice do not fit together; names what.
    """
    manifest = study.manifest()
    try:
        if not plans.is_generator(study):
            require_fit(study)
        wanted = plans.wanted(study)
        rounds.require_fits(study, wanted)
        for query in wanted:
            study.stage_of(query)
            for sites in (manifest.minimum_roster, len(manifest.members)):
                grid(manifest, query, sites)
        if manifest.noise is not Noise.NONE:
            for delta in (study.privacy.delta, study.privacy.holdout_delta):
                check_delta(delta, plans.declared_patients(study))
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
    preset: Preset | tuple[str, Settings],
    sites: Sequence[tuple[str, bytes, str]],
    terms: Terms,
    seed: bytes,
    not_after: str,
    run_number: int = 1,
    imputation: Imputing | None = None,
    columns: Columns | None = None,
    algorithm: rounds.Asked | None = None,
) -> Study:
    """Write an unsigned study.

    Args:
        name: of the study.
        purpose: one sentence for the record of processing.
        profile: the data profile.
        preset: model and training constants; of a generator (learner, settings).
        sites: (name, Ed25519 public key, declared size band) of each hospital.
        terms: privacy and federation.
        seed: public bytes that the initial weights are derived from.
        not_after: ISO time after which the study is refused.
        run_number: 1 for the first run.
        imputation: how gaps are filled, see `nodes.imputing.chosen`; None for the reference fill beside the mask.
        columns: the features, see `nodes.columns.chosen`; None for what the learner can use.
        algorithm: what trains, see `nodes.rounds`; None for lockstep.

    Raises:
        StudyInvalid: fewer than four sites, or the parts do not fit.
    """
    if len(sites) < MINIMUM_MEMBERS:
        raise StudyInvalid(f"a study needs at least {MINIMUM_MEMBERS} hospitals, {len(sites)} were given")
    silent, n = terms.noise is Noise.NONE, len(sites)
    collusion = 0 if silent else collusion_bound(n)
    if algorithm is not None:
        preset = rounds.prepared(preset, algorithm, sampling_probability=terms.sampling_probability)
    learning = _learning(preset, profile, columns or chosen(profile, preset), terms, seed, imputation)
    if algorithm is not None:
        named = rounds.named(algorithm, [band for _, _, band in sites])
        learning = msgspec.structs.replace(learning, algorithm=named)
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
        learning=learning,
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
    return _with_stages(study, profile, terms)


def _learning(
    preset: Preset | tuple[str, Settings],
    profile: Profile,
    columns: Columns,
    terms: Terms,
    seed: bytes,
    imputation: Imputing | None,
) -> Learning:
    """What is learned, with initial weights from the seed."""
    features = columns.names
    if isinstance(preset, Preset):
        sized = preset.sized(terms.declared_patients * terms.sampling_probability)  # patients expected in one step
        public = described(sized, profile, columns)
        weights = initial_weights(public, len(features), seed)
        return Learning(public.to_json(), features, base64.b64encode(weights).decode(), imputation)
    learner, settings = preset
    if imputation is not None:
        raise StudyInvalid(f"a generator ({learner}) learns what is missing as it is: leave imputation out")
    if terms.sampling_probability != 1:
        raise StudyInvalid(f"a generator ({learner}) reads all patients in every sum: leave sampling out")
    settings, dictionary = settings.sized(terms.declared_patients), plans.dictionary_of(profile)
    spec = GeneratorSpec.draft(learner, settings, dictionary, seed, _unpriced(settings), terms.patient_cap)
    return Learning(spec.to_json(), features, base64.b64encode(spec.weights).decode(), imputation)


def _unpriced(settings: Settings) -> dict[str, float]:
    """Multipliers of a generator whose stages have no noise yet."""
    return dict.fromkeys(settings.shares, WITHOUT_NOISE)


def _with_stages(study: Study, profile: Profile, terms: Terms) -> Study:
    """Add the stages that the model and the audit need, without noise, then give each its noise."""
    _require_suited(study)  # before its stages: an imputation that contradicts itself has none
    queries, shares, uploads = _asked(study, profile, terms)
    wanted: dict[str, list[Query]] = {}
    for query in queries:
        wanted.setdefault(query.kind, []).append(query)
    stages = tuple(
        Stage(
            kind=kind,
            account=Account(queries[0].account).value,
            steps=len(queries),
            uploads=uploads.get(kind, len(queries)),
            length=queries[0].length,
            sensitivity=queries[0].sensitivity,
            multiplier=0.0,
            sampling_probability=queries[0].sampling_probability,
        )
        for kind, queries in wanted.items()
    )
    study = msgspec.structs.replace(study, stages=stages)
    _require_suited(study)
    return study if terms.noise is Noise.NONE else calibrated(study, shares)


def _asked(
    study: Study, profile: Profile, terms: Terms
) -> tuple[tuple[Query, ...], Mapping[str, float], Mapping[str, int]]:
    """The sums of a study, how μ² is shared among their kinds, and the uploads of those kinds that have spare ones."""
    if plans.is_generator(study):
        learner, settings = settings_of(study.learning.preset)
        if terms.evaluate is not None:
            raise StudyInvalid(f"a generator ({learner}) reads no hold-out patients: leave evaluate out")
        dictionary, multipliers = plans.dictionary_of(profile), _unpriced(settings)
        spec = GeneratorSpec(learner, settings, dictionary, study.weights, multipliers, terms.patient_cap)
        queries = spec.schedule()
        # A sum that is lost costs the generator what follows from it: each kind may be uploaded once more.
        steps = Counter(query.kind for query in queries)
        spare = {kind: count + max(1, count // 10) for kind, count in steps.items()}
        return queries, settings.shares, spare
    preset = Preset.from_json(study.learning.preset)
    kind = study.training_kind
    training = {kind if each == "gradient" else each: share for each, share in TRAINING_SHARES.items()}
    shares = {**imputing.shares(study, training), **holdout_shares(terms.evaluate)}
    probe = unpriced_spec(study, dict.fromkeys(shares, WITHOUT_NOISE), terms.sampling_probability)
    bins, cap, nothing = suited(terms.declared_holdout), terms.patient_cap, bytes(32)
    members = members_query(bins, multiplier=WITHOUT_NOISE, patient_cap=cap, references=nothing)
    nonmembers = nonmembers_query(bins, multiplier=WITHOUT_NOISE, patient_cap=cap, references=nothing)
    uploads = {kind: preset.uploads} | {kind: 1 + more for kind, more in SPARE_UPLOADS.items()}
    return (*schedule(probe), members, nonmembers), shares, uploads


def _require_suited(study: Study) -> None:
    for problem in unsuited(study):
        raise StudyInvalid(f"study {study.name!r} cannot be drafted: {problem}")
