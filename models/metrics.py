"""Scores on data that is at hand: oracles, local screens, benchmarks. Nothing here may leave a hospital.

Everywhere `risk` is higher for an earlier death.
"""

from __future__ import annotations

import numpy as np

from models.concordance import pair_sums
from models.data import Float64, SurvivalData, exposures
from models.predict import SurvivalModel


def harrell_c(risk: Float64, data: SurvivalData) -> float:
    """Harrell's C-index; nan if no pair is comparable.

    Edge cases: ties of risk count ½; a death and a censoring on one day are comparable; two deaths on one
        day are not.

    Args:
        risk: float64[n].
        data: n patients.

    Source: Harrell et al., Stat Med 1996;15:361.
    """
    v, w = pair_sums(risk, data)
    return float(0.5 + v / w) if w > 0 else float("nan")


def negative_log_likelihood(model: SurvivalModel, data: SurvivalData) -> float:
    """Mean piecewise-exponential −log-likelihood in nats per patient, on the model's own grid and horizon."""
    at_risk, deaths = exposures(data, model.grid)
    log_hazard = np.log(np.maximum(model.hazard, 1e-12))[None, :] + model.risk(data.x, data.observed)[:, None]
    return float(np.mean(np.sum(np.exp(log_hazard) * at_risk - deaths * log_hazard, axis=1)))


def kaplan_meier(duration: Float64, event: np.ndarray[tuple[int], np.dtype[np.bool_]], time: float) -> float:
    """Kaplan–Meier survival at `time` (same unit as `duration`)."""
    alive = 1.0
    for t in np.unique(duration[event & (duration <= time)]):
        alive *= 1.0 - np.sum(event & (duration == t)) / np.sum(duration >= t)
    return float(alive)
