"""What every export says of the model in it: where it comes from, what its columns are, how it is protected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from harmonize.matrix import vector_scale
from harmonize.modalities import coordinates
from models.cards import digest_of, profile_of, protection
from models.errors import ArtefactError
from models.predict import SurvivalModel

__all__ = ["INPUTS", "facts", "haemfed"]

INPUTS: Final = (
    "x: values scaled by the profile, (t(clip(v)) - centre) / spread; observed: whether x holds a measured value, "
    "what is not observed is never read"
)
OUTPUTS: Final = (
    "hazards: deaths per year in each interval of the grid; risk: log-risk, higher = earlier death; "
    "survival: P(alive) at each edge of the grid, the first one 0 days"
)


def haemfed() -> str:
    """This software with its version, as a requirement: "haemfed==…"."""
    return f"haemfed=={version('haemfed')}"


def facts(model: SurvivalModel, card: Mapping[str, Any]) -> dict[str, str]:
    """The facts by name, text each; lists and objects as JSON.

    | name                       | what                                                                       |
    |----------------------------|----------------------------------------------------------------------------|
    | haemfed.software           | what wrote it                                                              |
    | haemfed.protection         | the guarantee in one line, or "not differentially private …"               |
    | haemfed.model_digest       | of the weights, as certificates and notes of retirement name it            |
    | haemfed.card, .card_digest | the card; SHA-256 of its canonical JSON                                    |
    | haemfed.learner            | kind of network                                                            |
    | haemfed.features           | names in column order                                                      |
    | haemfed.scaling            | clip, transform, centre and spread of each; absent: another profile        |
    | haemfed.grid_days          | edges of the intervals                                                     |
    | haemfed.imputes            | covariates that are filled where not observed                              |
    | haemfed.inputs, .outputs   | what goes in and comes out                                                 |
    """
    filled = [] if model.imputation is None else model.imputation.normal.covariates
    kept = () if model.imputation is None else model.imputation.kept
    found = {
        "software": haemfed(),
        "protection": protection(card),
        "model_digest": model.digest,
        "card": _json(card),
        "card_digest": digest_of(card),
        "learner": model.network.learner,
        "features": _json(model.features),
        "grid_days": _json(model.grid),
        "imputes": _json([each.name for each in filled if each.name not in kept]),
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }
    if (scaling := _scaling(model, card)) is not None:
        found["scaling"] = _json(scaling)
    return {f"haemfed.{name}": text for name, text in found.items()}


def _scaling(model: SurvivalModel, card: Mapping[str, Any]) -> dict[str, object] | None:
    """From clinical values to inputs, if this version ships the model's profile."""
    try:
        profile = profile_of(card)
    except ArtefactError:
        return None
    found: dict[str, object] = {each.name: each.scale.model_dump(mode="json") for each in profile.inputs}
    for vector in profile.features:
        centre, spread = vector_scale(vector)
        scale = {"clip": [float(bound) for bound in vector.clip], "centre": centre, "spread": spread}
        found |= dict.fromkeys(coordinates(vector.name, vector.length), scale)
    return {name: found[name] for name in model.features} if set(model.features) <= set(found) else None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
