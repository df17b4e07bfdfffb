"""The survival model's file: a `models.container` with the network's form, its parameters and its hazards.

Format "haemfed/survival-model/2": the head holds "model" = {learner, network, features, grid} beside digest and card;
the tensors are "params" F64[d] and "hazard" F64[K]. A model that completes records also has tensors "impute.mean"
F64[q] and "impute.covariance" F64[q, q], and "imputation": {covariates, kept} in "model".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.completion import Completion
from models.container import MAX_BYTES, REQUIRED_CARD, check_card, head_of, pack, read, tensors_of, verified
from models.data import Float64
from models.errors import ArtefactError
from models.networks import rebuild
from models.predict import SurvivalModel

__all__ = ["FORMAT", "MAX_BYTES", "REQUIRED_CARD", "from_bytes", "load", "to_bytes"]

FORMAT: Final = "haemfed/survival-model/2"
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
    check_card(card)
    tensors = {"params": np.frombuffer(model.params, dtype="<f8").astype(np.float64), "hazard": model.hazard}
    shape: dict[str, object] = {
        "learner": model.network.learner,
        "network": model.network.to_json(),
        "features": model.features,
        "grid": model.grid,
    }
    if model.imputation is not None:
        shape["imputation"] = model.imputation.to_json()
        normal = model.imputation.normal
        tensors |= {"impute.mean": normal.mean, "impute.covariance": normal.covariance}
    return pack({"format": FORMAT, "model": shape, "digest": model.digest, "card": dict(card)}, tensors)


def from_bytes(data: bytes) -> tuple[SurvivalModel, dict[str, Any]]:
    """Read a file that `to_bytes` wrote; returns the model and its card.

    Raises:
        ArtefactError: too large, damaged, another format, unexpected tensors, or a digest that does not fit.
    """
    head = _head(data)
    shape = head["model"]
    tensors = tensors_of(data, _DIMENSIONS if shape["imputation"] is None else _DIMENSIONS | _IMPUTING)
    model = verified(
        head,
        lambda: SurvivalModel(
            shape["features"],
            rebuild(shape["learner"], shape["network"]),
            shape["grid"],
            tensors["params"].astype("<f8").tobytes(),
            tensors["hazard"],
            _completion(shape["imputation"], tensors),
        ),
    )
    return model, head["card"]


def load(path: Path) -> tuple[SurvivalModel, dict[str, Any]]:
    """Read a model file; see `from_bytes`.

    Raises:
        ArtefactError: also if the file cannot be read or is larger than `MAX_BYTES` (then it is not read).
    """
    return from_bytes(read(path))


def _head(data: bytes) -> dict[str, Any]:
    """Check format and types of the header before any tensor is built."""
    head = head_of(data, FORMAT)
    try:
        model = head["model"]
        features, grid = model["features"], model["grid"]
        learner, network, imputation = model["learner"], model["network"], model.get("imputation")
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("not a haemfed model file (its header has no haemfed card)") from error
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
    return head | {"model": shape}


def _completion(body: object, tensors: Mapping[str, Float64]) -> Completion | None:
    if body is None:
        return None
    return Completion.from_json(body, tensors["impute.mean"], tensors["impute.covariance"])


def _list_of(value: object, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in value)
