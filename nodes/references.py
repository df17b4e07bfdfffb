"""The public recipe of the audit's reference models, as a function of the signed study alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from audits.references import Dictionary, FeatureLaw, Plan
from audits.shadows import Recipe
from harmonize.matrix import vector_scale
from harmonize.modalities import coordinates
from harmonize.profile import CodeVariable, FeatureVariable, Profile, Scalar, Scale
from models.presets import Preset
from nodes.cohort import study_profile
from nodes.study import Study

_REFERENCES = 12
_CALIBRATION_ROWS = 1000


def reference_plan(study: Study) -> Plan:
    """Build the recipe: laws of the features from the profile, shape from the preset, size from the declaration.

    Raises:
        DataProblem: this version ships another profile than the study names.
    """
    preset = Preset.from_json(study.learning.preset)
    return Plan(
        dictionary=Dictionary(_laws(study_profile(study), study.learning.features)),
        recipe=Recipe.of(preset),
        rows=max(50, int(preset.normaliser)),
        count=_REFERENCES,
        calibration=_CALIBRATION_ROWS,
        seed=int.from_bytes(study.digest()[:6], "big"),
    )


def reference_digest(study: Study) -> bytes:
    """Digest of the recipe, 32 bytes; it is part of the query, hence of every mask key."""
    return reference_plan(study).digest()


def _laws(profile: Profile, names: tuple[str, ...]) -> tuple[FeatureLaw, ...]:
    """One law a column."""
    known = {variable.name: _law(variable) for variable in profile.inputs}
    for vector in profile.features:
        known |= {law.name: law for law in _coordinates(vector)}
    return tuple(known[name] for name in names)


def _coordinates(vector: FeatureVariable) -> Iterator[FeatureLaw]:
    """Laws of a vector's numbers, never missing: each for itself, hardly any invented vector would be whole."""
    centre, spread = vector_scale(vector)
    low, high = ((float(bound) - centre) / spread for bound in vector.clip)
    for name in coordinates(vector.name, vector.length):
        yield FeatureLaw(name, low, high, missing=0.0)


def _law(variable: Scalar) -> FeatureLaw:
    scale = variable.scale
    if isinstance(variable, CodeVariable):
        levels = tuple(sorted(_scaled(float(value), scale) for value in set(variable.values.values())))
        return FeatureLaw(variable.name, min(levels) - 1.0, max(levels) + 1.0, levels=levels)
    low, high = (_scaled(float(bound), scale) for bound in scale.clip)
    return FeatureLaw(variable.name, low, high)


def _scaled(value: float, scale: Scale) -> float:
    transformed = math.log1p(value) if scale.transform == "log1p" else value
    return (transformed - float(scale.centre)) / float(scale.spread)
