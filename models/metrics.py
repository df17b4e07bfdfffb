"""Scores on data that is at hand: oracles, local screens, benchmarks. Nothing here may leave a hospital.

Everywhere `risk` is higher for an earlier death.
"""

from __future__ import annotations

import numpy as np

from models.concordance import pair_sums
from models.data import Float64, SurvivalData
from models.likelihood import log_likelihoods
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
    return float(-np.mean(log_likelihoods(model, data)))


def kaplan_meier(duration: Float64, event: np.ndarray[tuple[int], np.dtype[np.bool_]], time: float) -> float:
    """Kaplan–Meier survival at `time` (same unit as `duration`)."""
    alive = 1.0
    for t in np.unique(duration[event & (duration <= time)]):
        alive *= 1.0 - np.sum(event & (duration == t)) / np.sum(duration >= t)
    return float(alive)


def auc_at(risk: Float64, data: SurvivalData, time: float) -> float:
    """Cumulative/dynamic AUC at `time` over those whose state then is known; nan without a pair.

    Args:
        risk: float64[n].
        data: n patients.
        time: days.
    """
    cases = risk[data.event & (data.duration <= time)]
    controls = risk[data.duration > time]
    if not len(cases) or not len(controls):
        return float("nan")
    order = np.sign(cases[:, None] - controls[None, :])
    return float(np.mean((1.0 + order) / 2.0))
