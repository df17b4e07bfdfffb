"""A trained survival model as plain arrays: risk and survival in numpy, no torch, no code from a file."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models import portable
from models.data import DAYS_PER_YEAR, Bool, Float64, inputs
from models.errors import MisuseError

RISK_BOUND = 8.0
Layout = tuple[tuple[str, tuple[int, ...]], ...]


def layout(features: int, hidden: tuple[int, ...], intervals: int) -> Layout:
    """Names and shapes of all parameters, in the order of the flat vector (the order of the released sums).

    >>> layout(2, (3,), 5)[:2]
    (('baseline.weight', (5, 1)), ('skip.weight', (1, 4)))
    """
    if features < 1 or intervals < 1 or any(width < 1 for width in hidden):
        raise MisuseError(f"no model with {features} features, hidden {hidden}, {intervals} intervals")
    parts: list[tuple[str, tuple[int, ...]]] = [
        ("baseline.weight", (intervals, 1)),
        ("skip.weight", (1, 2 * features)),
    ]
    widths = (2 * features, *hidden)
    for i, (a, b) in enumerate(pairwise(widths)):
        parts += [(f"hidden.{i}.weight", (b, a)), (f"hidden.{i}.bias", (b,))]
    if hidden:
        parts.append(("out.weight", (1, widths[-1])))
    return tuple(parts)


def parameter_count(shape: Layout) -> int:
    """Length d of the flat vector."""
    return sum(math.prod(s) for _, s in shape)


@dataclass(frozen=True, eq=False)
class SurvivalModel:
    """A proportional-hazards model with piecewise-constant baseline.

    Args:
        features: names, in the column order of x.
        hidden: widths of the hidden layers.
        grid: K+1 edges in days, the first 0, the last the horizon.
        params: the flat vector, float64 little-endian (order of `layout`), as the optimizer released it.
        hazard: float64[K] baseline hazards per year: exp(b) as trained, or recalibrated. Stored instead of
            log-hazards because division is the same on every host and a logarithm is not.
    """

    features: tuple[str, ...]
    hidden: tuple[int, ...]
    grid: tuple[float, ...]
    params: bytes = field(repr=False)
    hazard: Float64 = field(repr=False)
    _arrays: dict[str, Float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Cut the flat vector into named arrays."""
        shape = layout(len(self.features), self.hidden, len(self.grid) - 1)
        if len(self.params) != 8 * parameter_count(shape):
            raise MisuseError(f"params have {len(self.params)} bytes, the layout needs {8 * parameter_count(shape)}")
        hazard = np.array(self.hazard, dtype=np.float64)
        if hazard.shape != (len(self.grid) - 1,) or not np.all(np.isfinite(hazard)) or np.any(hazard < 0):
            raise MisuseError(f"baseline hazards need {len(self.grid) - 1} finite numbers ≥ 0, got {hazard.shape}")
        hazard.flags.writeable = False
        object.__setattr__(self, "hazard", hazard)
        numbers = np.frombuffer(self.params, dtype="<f8").astype(np.float64)
        arrays: dict[str, Float64] = {}
        start = 0
        for name, size in shape:
            count = math.prod(size)
            arrays[name] = numbers[start : start + count].reshape(size)
            start += count
        object.__setattr__(self, "_arrays", arrays)

    @classmethod
    def as_trained(
        cls, features: tuple[str, ...], hidden: tuple[int, ...], grid: tuple[float, ...], params: bytes
    ) -> SurvivalModel:
        """The model with the baseline that training left: hazard = exp(b), by portable arithmetic."""
        log_hazard = np.frombuffer(params, dtype="<f8")[: len(grid) - 1].astype(np.float64)
        return cls(features, hidden, grid, params, portable.exp(log_hazard))

    def with_hazard(self, hazard: Float64) -> SurvivalModel:
        """The same ranking with another baseline."""
        return SurvivalModel(self.features, self.hidden, self.grid, self.params, hazard)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of params ‖ hazards (float64 little-endian): equal at all sites, whatever their CPU."""
        return hashlib.sha256(self.params + self.hazard.astype("<f8").tobytes()).hexdigest()

    def risk(self, x: Float64, observed: Bool) -> Float64:
        """Log-risk f, higher = earlier death.

        Args:
            x: float64[n, p], scaled by the profile.
            observed: bool[n, p].

        Returns:
            float64[n] in ±RISK_BOUND.
        """
        z = inputs(np.asarray(x, dtype=np.float64), observed)
        if z.shape[1] != 2 * len(self.features):
            raise MisuseError(f"the model takes {len(self.features)} features, got {z.shape[1] // 2}")
        f = _row_product(z, self._arrays["skip.weight"])[:, 0]
        if self.hidden:
            active = z
            for i in range(len(self.hidden)):
                weight, bias = self._arrays[f"hidden.{i}.weight"], self._arrays[f"hidden.{i}.bias"]
                active = np.tanh(_row_product(active, weight) + bias)
            f = f + _row_product(active, self._arrays["out.weight"])[:, 0]
        risk: Float64 = np.clip(f, -RISK_BOUND, RISK_BOUND)
        return risk

    def cumulative_hazard(self, times: NDArray[np.float64]) -> Float64:
        """Baseline cumulative hazard at `times` (days), constant beyond the horizon; float64[len(times)]."""
        edges = np.asarray(self.grid)
        width = np.clip(np.asarray(times, dtype=np.float64)[:, None] - edges[None, :-1], 0.0, np.diff(edges)[None, :])
        total: Float64 = width @ self.hazard / DAYS_PER_YEAR
        return total

    def survival(self, x: Float64, observed: Bool, times: NDArray[np.float64]) -> Float64:
        """P(alive at t | x) = exp(−Λ0(t) e^f).

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
        survival: Float64 = np.exp(-np.exp(self.risk(x, observed))[:, None] * self.cumulative_hazard(times)[None, :])
        return survival


def _row_product(x: Float64, weight: Float64) -> Float64:
    """X Wᵀ in the folding order of `dp.rowwise`: no row's bits depend on another row."""
    out = np.empty((x.shape[0], weight.shape[0]))
    for j, row in enumerate(weight):
        terms = x * row
        width = terms.shape[1]
        while width > 1:
            half = width // 2
            terms[:, :half] += terms[:, width - half : width]
            width -= half
        out[:, j] = terms[:, 0]
    return out
