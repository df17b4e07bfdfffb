"""The model file: safetensors with one JSON card in its header.

Loading it runs no code and imports no name from it.

Layout: tensors "params" F64[d] and "hazard" F64[K], metadata "haemfed" = canonical JSON {"format", "model":
{learner, network, features, grid}, "digest", "card": {...}}. A model that completes records also has tensors
"impute.mean" F64[q] and "impute.covariance" F64[q, q], and "imputation": {covariates, kept} in "model". The card is the
caller's: profile hash, study hash, digest of the run's sums, metrics with intervals, intended use, limits. Same model
and card give the same bytes. Writing the bytes to disk atomically is the shell's job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.completion import Completion
from models.data import Float64
from models.errors import ArtefactError, MisuseError
from models.networks import rebuild
from models.predict import SurvivalModel

FORMAT: Final = "haemfed/survival-model/2"
MAX_BYTES: Final = 64 * 2**20
MAX_HEADER: Final = 2**20
REQUIRED_CARD: Final = ("profile", "study", "transcript", "metrics", "intended_use", "limits", "privacy")
"""What a card must say; the values are the caller's, JSON only."""
_MOST_DAYS: Final = 1e9
_DIMENSIONS: Final = {"params": 1, "hazard": 1}
_IMPUTING: Final = {"impute.mean": 1, "impute.covariance": 2}


def to_bytes(model: SurvivalModel, card: Mapping[str, object]) -> bytes:
    """The complete file.

    Args:
        model: parameters and baseline.
        card: JSON values with at least the keys of `REQUIRED_CARD`; no nan or infinity.

    Raises:
        MisuseError: a required key is missing or a value is not JSON.
    """
    missing = [key for key in REQUIRED_CARD if key not in card]
    if missing:
        raise MisuseError(f"a model card needs {', '.join(missing)}")
    tensors = {
        "params": np.frombuffer(model.params, dtype="<f8").astype(np.float64),
        "hazard": model.hazard.copy(),
    }
    shape: dict[str, object] = {
        "learner": model.network.learner,
        "network": model.network.to_json(),
        "features": model.features,
        "grid": model.grid,
    }
    if model.imputation is not None:
        shape["imputation"] = model.imputation.to_json()
        normal = model.imputation.normal
        tensors |= {"impute.mean": normal.mean.copy(), "impute.covariance": normal.covariance.copy()}
    head = {
        "format": FORMAT,
        "model": shape,
        "digest": model.digest,
        "card": dict(card),
    }
    try:
        text = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MisuseError("a model card holds JSON values only, and no nan or infinity") from error
    data: bytes = save_tensors(tensors, metadata={"haemfed": text})
    if len(data) > MAX_BYTES or len(text) > MAX_HEADER // 2:
        raise MisuseError(f"model file or card is too large ({len(data)} bytes, card {len(text)})")
    return data


def from_bytes(data: bytes) -> tuple[SurvivalModel, dict[str, Any]]:
    """Read a file that `to_bytes` wrote; returns the model and its card.

    Raises:
        ArtefactError: too large, damaged, another format, unexpected tensors, or a digest that does not fit.
    """
    head = _head(data)
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("the model file is damaged: its tensors cannot be read") from error
    shape = head["model"]
    wanted = _DIMENSIONS if shape["imputation"] is None else _DIMENSIONS | _IMPUTING
    if {name: t.ndim for name, t in tensors.items()} != wanted or any(t.dtype != np.float64 for t in tensors.values()):
        names = ", ".join(f"{name!r}" for name in wanted)
        raise ArtefactError(
            f"the model file must hold exactly the float64 tensors {names}, of the dimensions it states"
        )
    if not all(np.all(np.isfinite(t)) for t in tensors.values()):
        raise ArtefactError("the model file holds numbers that are not finite")
    try:
        model = SurvivalModel(
            shape["features"],
            rebuild(shape["learner"], shape["network"]),
            shape["grid"],
            tensors["params"].astype("<f8").tobytes(),
            tensors["hazard"],
            _completion(shape["imputation"], tensors),
        )
    except MisuseError as error:
        raise ArtefactError(f"the model file contradicts itself: {error}") from error
    if model.digest != head["digest"]:
        raise ArtefactError("the model file was edited: its weights do not have the digest that its card states")
    return model, head["card"]


def load(path: Path) -> tuple[SurvivalModel, dict[str, Any]]:
    """Read a model file; see `from_bytes`.

    Raises:
        ArtefactError: also if the file cannot be read or is larger than `MAX_BYTES` (then it is not read).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtefactError(f"cannot read model file {path.name}: {error.strerror}") from error
    return from_bytes(data)


def _head(data: bytes) -> dict[str, Any]:
    """Check format and types of the header before any tensor is built."""
    if len(data) > MAX_BYTES:
        raise ArtefactError(f"the model file is larger than {MAX_BYTES} bytes; haemfed writes no such file")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER, len(data) - 8):
        raise ArtefactError("not a haemfed model file (no safetensors header)")
    try:
        outer = json.loads(data[8 : 8 + size])
        head = json.loads(outer["__metadata__"]["haemfed"])
        model = head["model"]
        features, grid = model["features"], model["grid"]
        learner, network, imputation = model["learner"], model["network"], model.get("imputation")
        card, digest, fmt = head["card"], head["digest"], head["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError("not a haemfed model file (its header has no haemfed card)") from error
    if fmt != FORMAT:
        raise ArtefactError("the model file has another format; this version reads " + FORMAT)
    well_formed = (
        _list_of(features, str)
        and isinstance(learner, str)
        and isinstance(network, dict)
        and _list_of(grid, int, float)
        and 1 <= len(features) <= 100_000
        and len(grid) >= 2
        and all(-_MOST_DAYS < g < _MOST_DAYS for g in grid)  # whole numbers may be too long for a float
        and grid[0] == 0
        and all(a < b for a, b in pairwise(grid))
        and isinstance(card, dict)
        and isinstance(digest, str)
    )
    if not well_formed:
        raise ArtefactError("the model file contradicts itself: its description of the model is malformed")
    shape = {
        "features": tuple(features),
        "learner": learner,
        "network": network,
        "grid": tuple(float(g) for g in grid),
        "imputation": imputation,
    }
    return {"model": shape, "card": card, "digest": digest}


def _completion(body: object, tensors: Mapping[str, Float64]) -> Completion | None:
    if body is None:
        return None
    return Completion.from_json(body, tensors["impute.mean"], tensors["impute.covariance"])


def _list_of(value: object, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in value)
