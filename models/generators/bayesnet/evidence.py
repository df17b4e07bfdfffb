"""Structure from noisy covariances of scores: edges that are clear of the noise, others are not drawn.

Columns are ordered from `OUTCOME` on, the next one always the one most bound to those before it (Prim 1957). Each takes
as parents, one at a time, the earlier column that says most beyond those it has: the largest covariance that they
leave, if it is clear of the noise. Every covariance that is clear is shrunk by the share of its square that noise is
expected to be (James & Stein 1961); the others count as zero.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from models.data import Float64
from models.generators.bayesnet.arithmetic import solve, total
from models.generators.bayesnet.scores import Summary

__all__ = ["ordered", "parents_of", "shrunk"]

_RIDGE: Final = 1e-3  # of a correlation matrix
_BOUND: Final = 0.95  # of a correlation
_LEAST: Final = 1e-9


def shrunk(summary: Summary, evidence: float) -> Float64:
    """Covariances less what noise is expected to have added, float64[p + 1, p + 1]; 0 where noise may be all."""
    size = np.abs(summary.covariance)
    square = np.maximum(size * size, _LEAST * _LEAST)
    kept = np.maximum(1.0 - summary.noise_sd**2 / square, 0.0)
    return np.where(size > evidence * summary.noise_sd, summary.covariance * kept, 0.0)


def ordered(strength: Float64) -> tuple[int, ...]:
    """Order of the columns, the last one first; strength float64[p + 1, p + 1] is symmetric and not negative."""
    found, left = [len(strength) - 1], list(range(len(strength) - 1))
    while left:
        best = max(left, key=lambda j: (max(strength[j, i] for i in found), -j))
        found.append(best)
        left.remove(best)
    return tuple(found)


def parents_of(
    summary: Summary, covariance: Float64, order: tuple[int, ...], most: int, cells: int, evidence: float
) -> tuple[tuple[int, ...], ...]:
    """Parents of every column, increasing positions.

    Args:
        summary: margins and scores.
        covariance: shrunk.
        order: of the columns; parents come earlier.
        most: parents of one column.
        cells: of one column with its parents.
        evidence: standard deviations of noise that a covariance must be away from 0.
    """
    spread = np.array([_spread(m, s) for m, s in zip(summary.margins, summary.scores, strict=True)])
    correlation = np.clip(covariance / (spread[:, None] * spread[None, :]), -_BOUND, _BOUND)
    np.fill_diagonal(correlation, 1.0 + _RIDGE)
    levels = [len(m) for m in summary.margins]
    out: list[tuple[int, ...]] = [()] * len(levels)
    for place, child in enumerate(order):
        chosen: list[int] = []
        while len(chosen) < most:
            room = cells // (levels[child] * math.prod(levels[c] for c in chosen))
            left = [c for c in order[:place] if c not in chosen and levels[c] <= room]
            beyond = [abs(_beyond(correlation, child, c, chosen)) * spread[child] * spread[c] for c in left]
            noise = [max(evidence * summary.noise_sd[child, c], _LEAST) for c in left]
            gains = [size if size > least else 0.0 for size, least in zip(beyond, noise, strict=True)]
            if not any(gains):
                break
            chosen.append(left[gains.index(max(gains))])
        out[child] = tuple(sorted(chosen))
    return tuple(out)


def _beyond(correlation: Float64, child: int, column: int, parents: list[int]) -> float:
    """Correlation of child and column that the parents leave."""
    system = [[float(correlation[a, b]) for b in parents] for a in parents]
    found = float(correlation[child, column])
    for a, part in zip(parents, solve(system, [float(correlation[a, column]) for a in parents]), strict=True):
        found -= float(correlation[child, a]) * part
    return found


def _spread(share: Float64, scores: Float64) -> float:
    mean = total(share * scores)
    return math.sqrt(max(total(share * scores * scores) - mean * mean, _LEAST))
