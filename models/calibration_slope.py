"""Calibration slope at each public time, from the released bins alone: are predicted risks spread as the real ones?

b of log(−log(1 − observed)) = a + b·log(−log(1 − predicted)) over the bins of predicted risk, weighted least squares:
under proportional hazards both sides are log-cumulative hazards, and b is the slope of the log-risk. 1 is right; below
1 the risks are too far apart (overfitted), above 1 too close. Bins are coarse: a slope of b ≠ 1 is found a little
nearer to 1, because patients of one bin differ; b = 1 is found as 1: the means of both sides are compared.

A bin that the noise drowns is left out, whatever its content. With fewer than two bins, or predictions that hardly
differ, there is no slope: "not resolved".

Source: van Houwelingen, Stat Med 2000;19:3401; Crowson, Atkinson & Therneau, Stat Methods Med Res 2016;25:1692.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import numpy as np

from dp.releases import Estimate
from models.calibration import Calibration, Point
from models.data import Float64

__all__ = ["slopes"]

LEAST_SPREAD: Final = 1e-6
"""Weighted sum of squares of the predictors, relative to the weights: below it there is one risk for everybody."""


def slopes(of: Calibration) -> dict[float, Estimate]:
    """Slope by time in days; noise and sampling of each bin, the predicted means' noise included.

    Args:
        of: released.
    """
    time = attrgetter("time")
    ordered = sorted(of.bins, key=time)
    return {float(t): _slope([point for point in points if point.resolved]) for t, points in groupby(ordered, time)}


def _slope(points: Sequence[Point]) -> Estimate:
    if not points:
        return Estimate.unresolved()
    # Half a patient is the least and the most that a bin can show: neither end has a logarithm.
    half = np.array([0.5 / max(point.patients, 1.0) for point in points])
    observed = np.clip([point.observed for point in points], half, 1.0 - half)
    predicted = np.clip([point.predicted for point in points], half, 1.0 - half)
    x, y = _log_hazard(predicted), _log_hazard(observed)
    # Weights from the predicted risks: from the observed ones they would favour the bins that came out lucky.
    scale = (1.0 - predicted) * -np.log1p(-predicted)
    of_y, noise_y, noise_x = (
        np.array([getattr(point, name) for point in points]) / scale
        for name in ("observed_error", "noise_error", "predicted_error")
    )
    weight = 1.0 / np.maximum(of_y, 1e-9) ** 2
    away = x - float(weight @ x / weight.sum())
    spread = float(weight @ away**2)
    if spread <= LEAST_SPREAD * weight.sum():
        return Estimate.unresolved()
    pull = weight * away / spread
    slope = float(pull @ y)
    sampling = math.sqrt(float(pull**2 @ np.maximum(of_y**2 - noise_y**2, 0.0)))
    noise = math.sqrt(float(pull**2 @ (noise_y**2 + (slope * noise_x) ** 2)))
    return Estimate.of(slope, noise, sampling_error=sampling)


def _log_hazard(risk: Float64) -> Float64:
    values: Float64 = np.log(-np.log1p(-risk))
    return values
