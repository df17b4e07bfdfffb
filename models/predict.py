"""The model that a study leaves, in numpy: what predicts at a hospital and in a model file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.completion import Completion
from models.data import DAYS_PER_YEAR, Bool, Float64
from models.errors import MisuseError
from models.networks import Network, parameter_count

__all__ = ["SurvivalModel"]


@dataclass(frozen=True, eq=False)
class SurvivalModel:
    """A survival model whose hazards are constant in each interval of a public grid; see `models.networks.base`.

    Args:
        features: names, in the column order of x.
        network: its form.
        grid: K+1 edges in days, the first 0, the last the horizon.
        params: the flat vector, float64 little-endian (order of the network's layout), as the optimizer released it.
        hazard: float64[K] factors per interval, ≥ 0: as trained, or recalibrated; of proportional hazards the baseline
            hazards per year. Stored instead of their logarithms because division is the same on every host and a
            logarithm is not.
        imputation: how a record is completed before the network sees it; None for the reference fill beside the mask.
            Whatever takes a record here may have gaps, and predicts what its completion predicts.

    Raises:
        MisuseError: parameters, factors or covariates do not fit the network and the features.
    """

    features: tuple[str, ...]
    network: Network
    grid: tuple[float, ...]
    params: bytes = field(repr=False)
    hazard: Float64 = field(repr=False)
    imputation: Completion | None = None
    _arrays: dict[str, Float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Cut the flat vector into named arrays."""
        object.__setattr__(self, "_arrays", _cut(self.network, len(self.features), self.grid, self.params))
        hazard = np.array(self.hazard, dtype=np.float64)
        if hazard.shape != (self.intervals,) or not np.all(np.isfinite(hazard)) or np.any(hazard < 0):
            raise MisuseError(f"hazards need {self.intervals} finite numbers ≥ 0, got {hazard.shape}")
        hazard.flags.writeable = False
        object.__setattr__(self, "hazard", hazard)
        if self.imputation is not None and not self.imputation.fits(self.features):
            raise MisuseError("the imputation is of covariates that are not where it says among the features")

    @classmethod
    def as_trained(
        cls,
        features: tuple[str, ...],
        network: Network,
        grid: tuple[float, ...],
        params: bytes,
        imputation: Completion | None = None,
    ) -> SurvivalModel:
        """The model with the factors that training left."""
        arrays = _cut(network, len(features), grid, params)
        return cls(features, network, grid, params, network.factors(arrays, len(grid) - 1), imputation)

    def with_hazard(self, hazard: Float64) -> SurvivalModel:
        """The same network with other factors; under proportional hazards the same ranking."""
        return replace(self, hazard=hazard)

    @property
    def intervals(self) -> int:
        """K."""
        return len(self.grid) - 1

    @property
    def arrays(self) -> Mapping[str, Float64]:
        """The parameters by name, as the network's layout cuts them."""
        return MappingProxyType(self._arrays)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of network, features, grid and imputation ‖ params ‖ factors (float64 little-endian).

        Equal at all sites, whatever their CPU.
        """
        grid = [float(edge).hex() for edge in self.grid]
        parts: list[object] = [self.network.learner, self.network.to_json(), list(self.features), grid]
        if self.imputation is not None:
            parts.append(self.imputation.digest)
        form = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(form.encode() + self.params + self.hazard.astype("<f8").tobytes()).hexdigest()

    def hazards(self, x: Float64, observed: Bool) -> Float64:
        """Deaths per year in each interval, float64[n, K].

        Args:
            x: float64[n, p], scaled by the profile.
            observed: bool[n, p].
        """
        return np.asarray(self.hazard[None, :] * np.exp(self._log_relative(x, observed)))

    def risk(self, x: Float64, observed: Bool) -> Float64:
        """Log-risk, higher = earlier death.

        Under proportional hazards f, in ±RISK_BOUND; otherwise the log of the deaths expected up to the horizon.

        Args:
            x: float64[n, p], scaled by the profile.
            observed: bool[n, p].

        Returns:
            float64[n].
        """
        relative = self._log_relative(x, observed)
        if relative.shape[1] == 1:
            return np.asarray(relative[:, 0])
        years = np.diff(np.asarray(self.grid)) / DAYS_PER_YEAR
        expected = np.sum(years * self.hazard * np.exp(relative), axis=1)
        return np.asarray(np.log(np.maximum(expected, np.finfo(np.float64).tiny)))

    def survival(self, x: Float64, observed: Bool, times: NDArray[np.float64]) -> Float64:
        """P(alive at t | x).

        Args:
            x: float64[n, p], scaled by the profile.
            observed: bool[n, p].
            times: float64[m] days, 0 ≤ t ≤ horizon.

        Returns:
            float64[n, m]

        Raises:
            MisuseError: a time beyond the horizon; the model says nothing there.
        """
        times = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if times.size and (not np.all(np.isfinite(times)) or times.min() < 0 or times.max() > self.grid[-1]):
            raise MisuseError(f"survival is defined for 0 … {self.grid[-1]:g} days")
        edges = np.asarray(self.grid)
        width = np.clip(times[:, None] - edges[None, :-1], 0.0, np.diff(edges)[None, :]) / DAYS_PER_YEAR
        hazards = self.hazards(x, observed)
        survival = np.empty((len(hazards), times.size))
        for column, years in enumerate(width):  # row by row: no patient's bits depend on another's
            survival[:, column] = np.exp(-np.sum(hazards * years, axis=1))
        return survival

    def cumulative_hazard(self, times: NDArray[np.float64]) -> Float64:
        """Cumulative hazard of a patient with g = 0 at `times` (days), constant beyond the horizon; float64[m]."""
        edges = np.asarray(self.grid)
        width = np.clip(np.asarray(times, dtype=np.float64)[:, None] - edges[None, :-1], 0.0, np.diff(edges)[None, :])
        total: Float64 = width @ self.hazard / DAYS_PER_YEAR
        return total

    def _log_relative(self, x: Float64, observed: Bool) -> Float64:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.features):
            raise MisuseError(f"the model takes {len(self.features)} features, got {x.shape}")
        observed = np.asarray(observed, dtype=np.bool_)
        if self.imputation is not None:
            x, observed = self.imputation.complete(x, observed)
        return self.network.log_relative(self._arrays, x, observed, self.grid)


def _cut(network: Network, features: int, grid: tuple[float, ...], params: bytes) -> dict[str, Float64]:
    shape = network.layout(features, len(grid) - 1)
    if len(params) != 8 * parameter_count(shape):
        raise MisuseError(f"params have {len(params)} bytes, the layout needs {8 * parameter_count(shape)}")
    numbers = np.frombuffer(params, dtype="<f8").astype(np.float64)
    arrays: dict[str, Float64] = {}
    start = 0
    for name, size in shape:
        count = math.prod(size)
        arrays[name] = numbers[start : start + count].reshape(size)
        start += count
    return arrays
