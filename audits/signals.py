"""What an attacker reads off a survival model about one record.

Two numbers per record under a model whose hazard is constant in each interval:
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
    """A released model whose hazards are constant in each interval (`models.predict.SurvivalModel`)."""

    @property
    def grid(self) -> tuple[float, ...]:
        """K + 1 public edges in days, from 0 to the horizon."""
        ...

    def hazards(self, x: Float64, observed: Bool) -> Float64:
        """float64[n, K], events per year of each patient."""
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
        log_hazard = np.log(np.maximum(hazard, SMALLEST_HAZARD)) @ deaths.T + died * log_risk
        return cls._seen(log_hazard, expected, died)

    @classmethod
    def of_hazards(cls, hazards: Float64, at_risk: Float64, deaths: Float64) -> Signals:
        """The same of hazards float64[n, K] that need not be proportional."""
        log_hazard = np.sum(deaths * np.log(np.maximum(hazards, SMALLEST_HAZARD)), axis=1)
        return cls._seen(log_hazard, np.sum(hazards * at_risk, axis=1), deaths.sum(axis=1))

    @classmethod
    def _seen(cls, log_hazard: Float64, expected: Float64, died: Float64) -> Signals:
        residual = np.maximum(np.abs(died - expected), SMALLEST_RESIDUAL)
        return cls(log_hazard - expected, -np.log(residual))


def usable(data: SurvivalData) -> Bool:
    """bool[n]: records that `SurvivalData.bounded` keeps; the others count for nothing anywhere."""
    return np.asarray(np.isfinite(data.duration) & np.all(np.isfinite(data.x) | ~data.observed, axis=1), dtype=np.bool_)


def signals(model: HazardModel, data: SurvivalData) -> Signals:
    """Signals of a released model; `data` must be usable and bounded by the model's horizon."""
    at_risk, deaths = exposures(data, model.grid)
    return Signals.of_hazards(model.hazards(data.x, data.observed), at_risk, deaths)
