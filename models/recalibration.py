"""DP-Breslow: one release that sets the baseline right after clipping has bent it.

Clipping long survivors' gradients biases the baseline hazards far more than the ranking. After training each
patient contributes one vector: deaths D_i (one-hot over the K intervals) and expected deaths Λ_ik under the
trained model. From the noisy sums each hazard is multiplied by (D_k + m·R) / (E_k + m), where R = ΣD / ΣE is
the correction of all intervals together: m pseudo-deaths pull an interval towards the common correction, the
more the fewer died in it (a gamma prior with mean R). f, hence the ranking, does not change.

The bound without a bias. Scaling long vectors down would shrink the expected deaths of those who survive long
and not the deaths of those who die early. Instead a patient's follow-up *ends* when the L2 norm of his Λ
reaches √(B'² − 1): neither exposure nor death counts after that. That moment is a function of his covariates
and the released model, so it is independent censoring and Breslow's estimator stays consistent; and
‖(D_i, Λ_i)‖² ≤ 1 + (B'² − 1) = B'² for every record.

Source: Breslow, JRSS B 1972;34:216 (discussion of Cox), on a public grid.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.data import Float64, SurvivalData, exposures
from models.errors import MisuseError
from models.predict import SurvivalModel
from models.presets import Preset

FLOOR: Final = 1.0  # deaths: no noisy count below one is believed
CORRECTION: Final = 16.0  # a hazard moves by at most this factor: public bound on what noise can do


def rows(model: SurvivalModel, data: SurvivalData, bound: float) -> Float64:
    """Each patient's vector, float64[n, 2K]: (deaths, expected deaths as trained), follow-up ended at the bound.

    Row i has L2 norm ≤ bound and depends on patient i and on the released model only.

    Args:
        model: as trained.
        data: bounded.
        bound: B' > 1.
    """
    at_risk, deaths = exposures(data, model.grid)
    expected = at_risk * model.hazard[None, :] * np.exp(model.risk(data.x, data.observed))[:, None]
    square = np.cumsum(expected * expected, axis=1)
    before = np.concatenate([np.zeros((len(data), 1)), square[:, :-1]], axis=1)
    room = np.sqrt(np.maximum(bound * bound - 1.0 - before, 0.0))
    seen = deaths * (expected <= room)  # a death is at the end of its interval's exposure
    return np.concatenate([seen, np.minimum(expected, room)], axis=1)


def apply(model: SurvivalModel, preset: Preset, total: Float64) -> SurvivalModel:
    """Post-process the released sums into a recalibrated model.

    Only + × ÷ and comparisons: the same bits everywhere.

    Args:
        model: as trained.
        preset: its public constants.
        total: float64[2K], noisy (D, E).
    """
    k = preset.intervals
    if total.shape != (2 * k,):
        raise MisuseError(f"recalibration needs {2 * k} sums, got {total.shape}")
    m = preset.breslow_pseudo_events
    deaths, expected = total[:k], total[k:]
    # Plain additions in a fixed order: a library's sum may pair its terms differently on another host.
    overall = np.clip(_floored(sum(deaths.tolist())) / _floored(sum(expected.tolist())), 1.0 / CORRECTION, CORRECTION)
    ratio = _floored(deaths + m * overall) / _floored(expected + m)
    return model.with_hazard(model.hazard * np.clip(ratio, 1.0 / CORRECTION, CORRECTION))


def _floored(count: float | Float64) -> Float64:
    floored: Float64 = np.maximum(count, FLOOR)
    return floored
