"""Quantiles of one variable from one histogram on a public grid."""

import math
from dataclasses import dataclass

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64, Neighbours, Query, query_of
from dp.releases.estimate import QUANTILE, Estimate, checked
from dp.releases.histogram import Histogram
from dp.releases.records import Records


@dataclass(frozen=True)
class NoisyQuantiles:
    """Released quantiles.

    Args:
        levels: p in (0, 1).
        values: one estimate per level.
    """

    levels: tuple[float, ...]
    values: tuple[Estimate, ...]

    def __str__(self) -> str:
        return ", ".join(f"{100 * p:g} %: {v}" for p, v in zip(self.levels, self.values, strict=True))


@dataclass(frozen=True)
class Quantiles:
    """Quantiles at public levels, all from one vector of counts.

    Args:
        name: of the variable; public.
        edges: public grid: low = e₀ < … < e_K = high; values outside count as the first or last cell.
        levels: p in (0, 1), increasing; post-processing, so they cost nothing.
        kind: "quantiles".

    Raises:
        MisuseError: a grid of fewer than two cells, or a level outside (0, 1).
    """

    name: str
    edges: tuple[float, ...]
    levels: tuple[float, ...]
    kind: str = "quantiles"

    def __post_init__(self) -> None:
        if len(self.edges) < 3:
            raise MisuseError(f"{self.kind}: a grid needs at least two cells")
        if not self.levels or not all(0.0 < level < 1.0 for level in self.levels):
            raise MisuseError(f"{self.kind}: levels lie strictly between 0 and 1")
        if not math.isfinite(self.edges[0] + self.edges[-1]) or not self.edges[0] < self._cells.edges[0]:
            raise MisuseError(f"{self.kind}: the grid must be finite and strictly increase")
        if not self._cells.edges[-1] < self.edges[-1]:
            raise MisuseError(f"{self.kind}: the grid must be finite and strictly increase")

    @property
    def _cells(self) -> Histogram:
        return Histogram(self.name, self.edges[1:-1], self.kind)

    @property
    def length(self) -> int:
        """Number of cells K."""
        return len(self.edges) - 1

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and √2 for replace-one.

        Proof: what is released *is* a histogram on a public grid; levels are read off afterwards. ∎
        """
        return self._cells.sensitivity(neighbours)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        return query_of(self, {"name": self.name, "edges": self.edges}, multiplier, patient_cap, index)

    def contribution(self, data: Records) -> Float64:
        """Return the site's counts, float64[K], whole numbers."""
        return self._cells.contribution(data)

    def decode(self, total: Float64, noise_sd: float) -> NoisyQuantiles:
        """Return one quantile per level, with a 95 % interval made of whole cells.

        With S_j the count below edge j and N the total, G_j = S_j − pN has the noise variance
        σ²((1−p)²j + p²(K−j)) and at the quantile itself mean zero and the sampling variance Np(1−p). The interval
        is the hull of the cells (e_{j}, e_{j+1}) for which neither G_j > q·sd_j nor G_{j+1} < −q·sd_{j+1}:
        the inversion of two one-sided tests of 2.5 % each, so it covers with 95 % whatever the distribution. The value
        lies where the isotonic S crosses pN, the error is half the interval ÷ 1.96.
        "Not resolved" if the interval is the whole grid, or N is not clear of its noise.
        """
        counts = checked(self.kind, total, self.length, noise_sd)
        size = float(counts.sum())
        if size <= QUANTILE * noise_sd * math.sqrt(self.length):
            lost = Estimate.unresolved(self.edges[0], self.edges[-1])
            return NoisyQuantiles(self.levels, (lost,) * len(self.levels))
        below = np.concatenate([[0.0], np.cumsum(counts)])
        values = tuple(self._quantile(below, size, level, noise_sd) for level in self.levels)
        return NoisyQuantiles(self.levels, values)

    def _quantile(self, below: Float64, size: float, level: float, noise_sd: float) -> Estimate:
        edges, cells = np.asarray(self.edges), self.length
        excess = below - level * size
        j = np.arange(cells + 1)
        noise = noise_sd**2 * ((1.0 - level) ** 2 * j + level**2 * (cells - j))
        reach = QUANTILE * np.sqrt(noise + size * level * (1.0 - level))
        # At the ends of the grid nothing is tested: everybody is above the first edge and below the last.
        not_above = np.concatenate([[True], excess[1:-1] <= reach[1:-1], [True]])
        not_below = np.concatenate([[True], excess[1:-1] >= -reach[1:-1], [True]])
        possible = np.flatnonzero(not_above[:-1] & not_below[1:])
        low, high = (0, cells) if not len(possible) else (int(possible[0]), int(possible[-1]) + 1)
        if (low, high) == (0, cells):
            return Estimate.unresolved(self.edges[0], self.edges[-1])
        value = float(np.interp(level * size, *_strictly(_isotonic(below), edges)))
        value = min(max(value, float(edges[low])), float(edges[high]))
        width = float(edges[high] - edges[low])
        noise_share = float(np.sqrt(noise[high] / max(noise[high] + size * level * (1.0 - level), 1e-300)))
        error = width / (2 * QUANTILE)
        return Estimate(value, error, float(edges[low]), float(edges[high]), error * noise_share)


def _isotonic(values: Float64) -> Float64:
    """Least-squares non-decreasing fit (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] >= mean:
            other, many = blocks.pop()
            mean, size = (mean * size + other * many) / (size + many), size + many
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks])


def _strictly(heights: Float64, edges: Float64) -> tuple[Float64, Float64]:
    """Keep the middle of each flat stretch, so that the curve can be inverted."""
    levels = np.unique(heights)
    middles = np.array([edges[heights == level].mean() for level in levels])
    return levels, middles
