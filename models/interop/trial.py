"""Whether an export predicts what the model predicts: on invented patients, before anybody gets the export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models import portable
from models.data import Bool, Float64
from models.errors import ConfigError
from models.predict import SurvivalModel

__all__ = ["LARGEST_DIFFERENCE", "PATIENTS", "agreed", "invented", "outputs", "proportional"]

LARGEST_DIFFERENCE: Final = 1e-5
PATIENTS: Final = 256
_SMALLEST: Final = 1e-12  # a probability or hazard below is compared as if it were this large


def invented(model: SurvivalModel) -> tuple[Float64, Bool]:
    """Patients that nobody is: x float64[n, p], observed bool[n, p], from public numbers.

    Ordinary and extreme values; nothing observed, everything, nearly everything, half, and each feature or each
    neighbouring group of features gone. What is not observed is nan: whatever reads it is found out.
    """
    p = len(model.features)
    numbers = portable.uniforms(b"haemfed/interop/values", PATIENTS * p).reshape(PATIENTS, p)
    chance = portable.uniforms(b"haemfed/interop/masks", PATIENTS * p).reshape(PATIENTS, p)
    reach = np.resize(np.array([1.0, 3.0, 10.0]), PATIENTS)[:, None]
    share = np.resize(np.array([0.0, 0.1, 0.5, 0.9]), PATIENTS)[:, None]
    observed = chance >= share
    observed[0] = False
    for row in range(1, PATIENTS // 2):  # runs of columns: a whole block may be absent
        first, width = row % p, 1 + (row * 7) % p
        observed[row, first : first + width] = False
    return np.where(observed, reach * (2.0 * numbers - 1.0), np.nan), observed


def proportional(model: SurvivalModel) -> bool:
    """Whether g is one number for all intervals, so that it is the risk itself; see `SurvivalModel.risk`."""
    nobody = np.zeros((1, len(model.features)))
    return bool(model.network.log_relative(model.arrays, nobody, nobody > 0, model.grid).shape[1] == 1)


def outputs(model: SurvivalModel, x: Float64, observed: Bool) -> dict[str, Float64]:
    """Hazards, risk and survival at the grid's edges, as `models.interop.facts` words them."""
    if model.imputation is not None:  # once, not three times: it takes long where everybody lacks something else
        x, observed = model.imputation.complete(x, observed)
    return {
        "hazards": model.hazards(x, observed),
        "risk": model.risk(x, observed),
        "survival": model.survival(x, observed, np.array(model.grid)),
    }


def agreed(model: SurvivalModel, found: Mapping[str, Float64], x: Float64, observed: Bool) -> float:
    """The largest relative difference between what an export says of patients and what the model says.

    Log-risks below 1 are compared as if they were 1.

    Args:
        model: the model.
        found: outputs of the export, those of `outputs` that its format has.
        x: float64[n, p].
        observed: bool[n, p].

    Raises:
        ConfigError: it is above `LARGEST_DIFFERENCE`; the export is not to be used.
    """
    largest, wanted = 0.0, outputs(model, x, observed)
    for name, theirs in found.items():
        mine = wanted[name]
        if mine.shape != theirs.shape:
            raise ConfigError(f"the export gives {name} of shape {theirs.shape}, the model {mine.shape}")
        size = np.maximum(np.abs(mine), 1.0 if name == "risk" else _SMALLEST)
        difference = float(np.max(np.abs(mine - theirs) / size))
        if not difference <= LARGEST_DIFFERENCE:  # nan, too
            raise ConfigError(
                f"the export would give other {name} than the model, by {difference:.1e} of their size where "
                f"{LARGEST_DIFFERENCE:g} is allowed; use the model itself, and report this"
            )
        largest = max(largest, difference)
    return largest
