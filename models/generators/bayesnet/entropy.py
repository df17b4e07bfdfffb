"""Tables of largest entropy: with given margins and covariances of scores, and with given tables of some of the axes.

The first is log-linear with one linear-by-linear term per pair: f ∝ Π a_i(x_i) · exp(Σ θ_ij s_i(x_i) s_j(x_j)). Fitted
by turns: one Newton step for each θ, no longer than e on any cell, then the margins by iterative proportional fitting.

The second is log-linear with one term per given table, by iterative proportional fitting alone: given all pairs, no
three columns have to do with each other beyond what each two have.

Source: Deming & Stephan 1940; Goodman, JASA 1979 (linear-by-linear association); Agresti, Categorical Data Analysis,
3rd ed., ch. 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models import portable
from models.data import Float64
from models.generators.bayesnet.arithmetic import log, margin, total

__all__ = ["entropy", "fitted", "table_of"]

_TURNS: Final = 25
_FARTHEST: Final = 8.0  # of θ·s·s: odds of 3,000; noise may ask for a covariance that no table has
_LEAST: Final = 1e-12
_FITTED: Final = 15  # turns of proportional fitting
_CLOSE: Final = 1e-4  # total distance of the tables at which it ends


def fitted(shape: Sequence[int], given: Mapping[tuple[int, ...], Float64]) -> Float64:
    """The table, float64[shape], adding up to 1.

    Args:
        shape: levels of each axis.
        given: increasing axes → their table, not negative, adding up to 1. If they contradict each other (noise), the
            last ones hold.
    """
    out = np.ones(tuple(shape))
    for _ in range(_FITTED):
        far = 0.0
        for axes, wanted in given.items():
            found = margin(out, axes)
            far = max(far, total(np.abs(found - wanted)))
            factor = wanted / np.maximum(found, _LEAST)
            out = out * factor.reshape([levels if axis in axes else 1 for axis, levels in enumerate(shape)])
        if far < _CLOSE:
            break
    return np.asarray(out / max(total(out), _LEAST))


def entropy(table: Float64) -> float:
    """Of a table that adds up to 1, nats."""
    return -total(table * log(table))


def table_of(
    margins: Sequence[Float64], scores: Sequence[Float64], covariances: Mapping[tuple[int, int], float]
) -> Float64:
    """The table, float64[levels…], adding up to 1.

    Args:
        margins: of each axis, positive numbers that add up to 1.
        scores: of each axis' levels.
        covariances: (i, j), i < j → covariance of the scores of two axes; pairs that are not named have no term.
    """
    out = np.ones([len(m) for m in margins])
    for axis, share in enumerate(margins):
        out = out * _along(share, axis, out.ndim)
    means = [total(m * s) for m, s in zip(margins, scores, strict=True)]
    terms = {pair: scores[pair[0]][:, None] * scores[pair[1]][None, :] for pair in covariances}
    theta = dict.fromkeys(terms, 0.0)
    for _ in range(_TURNS):
        for (i, j), term in terms.items():
            moved = _step(margin(out, (i, j)), term, covariances[i, j] + means[i] * means[j], theta[i, j])
            theta[i, j] += moved
            factor = portable.exp(moved * term)
            shape = [len(m) if axis in (i, j) else 1 for axis, m in enumerate(margins)]
            out = out * factor.reshape(shape)
            for axis, share in enumerate(margins):
                out = out * _along(share / np.maximum(margin(out, (axis,)), _LEAST), axis, out.ndim)
    return np.asarray(out / total(out))


def _step(pair: Float64, term: Float64, wanted: float, theta: float) -> float:
    largest = float(np.abs(term).max())
    if largest < _LEAST:
        return 0.0
    mean = total(pair * term)
    spread = max(total(pair * term * term) - mean * mean, _LEAST)
    step = min(max((wanted - mean) / spread, -1.0 / largest), 1.0 / largest)
    return min(max(theta + step, -_FARTHEST / largest), _FARTHEST / largest) - theta


def _along(values: Float64, axis: int, axes: int) -> Float64:
    return values.reshape([-1 if a == axis else 1 for a in range(axes)])
