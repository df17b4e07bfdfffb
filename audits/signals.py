"""What an attacker reads off a survival model about one record.

Two numbers per record under a piecewise-exponential model with hazard h_k·e^{f(x)}:
its log-likelihood, and the martingale residual M = δ − Λ(t | x) (Therneau, Grambsch & Fleming 1990), seen
minus expected events. A model that memorised a record has seen its outcome coming: the log-likelihood is high
and |M| is small. −log|M| separated members of an overfitted DeepSurv best; the raw risk score not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dp.queries import Float64
from models.data import Bool, SurvivalData, exposures

__all__ = ["HazardModel", "Signals", "signals", "usable"]

SMALLEST_RESIDUAL = 1e-4
"""|M| below this is as good as zero; keeps one lucky record from having an infinite score."""

SMALLEST_HAZARD = 1e-12
"""Per year; a recalibrated hazard of exactly 0 has no logarithm."""


class HazardModel(Protocol):
    """A released proportional-hazards model, piecewise-constant baseline (`models.predict.SurvivalModel`)."""

    @property
    def grid(self) -> tuple[float, ...]:
        """K + 1 public edges in days, from 0 to the horizon."""
        ...

    @property
    def hazard(self) -> Float64:
        """float64[K], baseline hazards per year."""
        ...

    def risk(self, x: Float64, observed: Bool) -> Float64:
        """float64[n], log-risk f, higher = earlier event."""
        ...


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of one model on n records, higher = more like a member.

    Attributes:
        log_likelihood: float64[…, n], nats.
        log_residual: float64[…, n], −log|martingale residual|.
    """

    log_likelihood: Float64
    log_residual: Float64

    @classmethod
    def of(cls, log_risk: Float64, hazard: Float64, at_risk: Float64, deaths: Float64) -> Signals:
        """Compute both signals.

        Args:
            log_risk: float64[…, n].
            hazard: float64[…, K] per year.
            at_risk: float64[n, K] years.
            deaths: float64[n, K] one-hot.
        """
        expected = np.exp(log_risk) * (hazard @ at_risk.T)
        died = deaths.sum(axis=1)
        log_hazard = np.log(np.maximum(hazard, SMALLEST_HAZARD)) @ deaths.T
        residual = np.maximum(np.abs(died - expected), SMALLEST_RESIDUAL)
        return cls(log_hazard + died * log_risk - expected, -np.log(residual))


def usable(data: SurvivalData) -> Bool:
    """bool[n]: records that `SurvivalData.bounded` keeps; the others count for nothing anywhere."""
    return np.asarray(np.isfinite(data.duration) & np.all(np.isfinite(data.x) | ~data.observed, axis=1), dtype=np.bool_)


def signals(model: HazardModel, data: SurvivalData) -> Signals:
    """Signals of a released model; `data` must be usable and bounded by the model's horizon."""
    at_risk, deaths = exposures(data, model.grid)
    return Signals.of(model.risk(data.x, data.observed), np.asarray(model.hazard), at_risk, deaths)
