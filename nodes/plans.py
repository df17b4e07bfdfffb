"""What a study asks and what it leaves, by what it learns: a survival model, or a generator of synthetic patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dp.queries import Query
from harmonize.profile import Profile
from models import artefact
from models.algorithms.chosen import Own
from models.errors import ConfigError
from models.generators import file as generator_file
from models.generators.dictionary import Dictionary, of_profile
from models.generators.file import StoredGenerator
from models.generators.study import LEARNERS, GeneratorSpec, Settings, settings_named, settings_of
from models.plan import sampler_of, schedule, survival_plan
from models.predict import SurvivalModel
from models.presets import PRESETS, Preset
from nodes.cohort import Cohort, study_profile
from nodes.door import Door
from nodes.errors import StudyInvalid
from nodes.evidence import AttackSums, attack_sums
from nodes.grids import inflation
from nodes.protocol import histogram_queries, spec_of
from nodes.study import Stage, Study

__all__ = [
    "GRID",
    "Left",
    "declared_patients",
    "dictionary_of",
    "generator_spec",
    "is_generator",
    "main_stage",
    "model_in",
    "preset_named",
    "run",
    "title",
    "wanted",
]

GRID: Final = (0.0, 91.3125, 182.625, 365.25, 730.5, 1095.75, 1826.25)
"""Follow-up of synthetic patients, days: 3 and 6 months, 1, 2, 3 and 5 years; a public constant."""

_TITLES: Final[Mapping[str, str]] = {
    "cox": "linear Cox model",
    "deepsurv": "DeepSurv",
    "savae": "SAVAE",
    "fusion": "multimodal survival network",
    "bayesnet": "Bayesian network (generator)",
    "vaebgm": "VAE-BGM (generator)",
    "ctgan": "CTGAN (generator)",
}


_ALGORITHMS: Final[Mapping[str, str]] = {
    "fedavg": "trained by FedAvg",
    "fedprox": "trained by FedProx",
    "newton": "exact by Newton's method",
}


@dataclass(frozen=True)
class Left:
    """What a completed study leaves, equal at every site.

    Args:
        model: a survival model, or a generator.
        evaluation: summary of released hold-out scores; empty where none are asked.
        attack: released score histograms of the audit; None where not released.
    """

    model: SurvivalModel | StoredGenerator
    evaluation: dict[str, object]
    attack: AttackSums

    def to_bytes(self, card: Mapping[str, object]) -> bytes:
        """The model file."""
        if isinstance(self.model, SurvivalModel):
            return artefact.to_bytes(self.model, card)
        return generator_file.to_bytes(self.model, card)


def preset_named(name: str) -> Preset | tuple[str, Settings]:
    """Look a preset of a survival model up, or the settings of a generator with its learner.

    Raises:
        ConfigError: there is neither; lists all.
    """
    if name in PRESETS:
        return PRESETS[name]
    try:
        return settings_named(name)
    except ConfigError as error:
        raise ConfigError(f"{error}; of a survival model: {', '.join(sorted(PRESETS))}") from error


def is_generator(study: Study) -> bool:
    """Whether the study makes synthetic patients."""
    return study.learning.preset.get("learner") in LEARNERS


def title(study: Study) -> str:
    """Learner and preset, as reports name them."""
    preset = study.learning.preset
    how = f", {_ALGORITHMS[study.learning.algorithm['name']]}" if study.learning.algorithm else ""
    return f"{_TITLES.get(str(preset.get('learner')), str(preset.get('learner')))}, preset {preset['name']}{how}"


def dictionary_of(profile: Profile) -> Dictionary:
    """Columns of synthetic patients under a profile."""
    return of_profile(profile, GRID)


def generator_spec(study: Study) -> GeneratorSpec:
    """What `models.generators` reads from a study.

    Raises:
        StudyInvalid: settings, weights, features or stages do not fit together.
    """
    if study.learning.algorithm is not None:
        raise StudyInvalid(f"study {study.name!r} names an algorithm, and a generator has its own")
    try:
        learner, settings = settings_of(study.learning.preset)
        spec = GeneratorSpec(
            learner,
            settings,
            dictionary_of(study_profile(study)),
            study.weights,
            {stage.kind: stage.query_multiplier for stage in study.stages},
            study.privacy.patient_cap,
            inflation(study.manifest()),
        )
    except ConfigError as error:
        raise StudyInvalid(f"study {study.name!r} cannot be run: {error}; ask its author for another one") from error
    if spec.dictionary.names != study.learning.features:
        raise StudyInvalid(f"study {study.name!r} lists other columns than its profile has")
    return spec


def model_in(study: Study, data: bytes) -> SurvivalModel | StoredGenerator:
    """Read the study's model file.

    Raises:
        ArtefactError: it is damaged.
    """
    return generator_file.from_bytes(data)[0] if is_generator(study) else artefact.from_bytes(data)[0]


def wanted(study: Study) -> tuple[Query, ...]:
    """Every sum that the study asks, in order, the audit's among them."""
    if is_generator(study):
        return generator_spec(study).schedule()
    return (*schedule(spec_of(study)), *histogram_queries(study))


def declared_patients(study: Study) -> int:
    """Training patients as a person declared them, for the check of δ; of a generator the caps of all sites."""
    if is_generator(study):
        return study.privacy.patient_cap * len(study.sites)
    spec = spec_of(study)
    return math.ceil(spec.preset.normaliser / spec.sampling_probability)


def main_stage(study: Study) -> Stage:
    """The stage that the self-check rehearses: that of training, or of a generator the longest one."""
    training = [stage for stage in study.stages if stage.kind == study.training_kind]
    return (training or sorted(study.stages, key=lambda stage: stage.length))[-1]


def run(study: Study, cohort: Cohort, door: Door, site: int) -> Left:
    """Walk the study's plan through the door, and its audit's sums.

    Args:
        study: signed.
        cohort: this site's patients.
        door: the way out.
        site: this site's place in the study, 0-based.
    """
    if is_generator(study):
        return Left(generator_spec(study).run(cohort.train, door), {}, AttackSums(None, None))
    spec = spec_of(study)
    own = Own(site, study.privacy.noise, door.local_noise)
    sampler = sampler_of(spec, door.sampling)
    outcome = survival_plan(spec, cohort.train, cohort.holdout, door, sampler=sampler, own=own)
    return Left(outcome.model, outcome.evaluation.summary(), attack_sums(study, outcome.model, cohort, door))
