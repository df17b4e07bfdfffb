"""Small arithmetic whose bits are the same on every IEEE-754 host: no BLAS, no libm, one order of every sum.

Structure and tables are digested, and every site computes them for itself from the released sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.data import Float64

__all__ = ["log", "margin", "nearest_counts", "solve", "total"]

_LN2: Final = 0.6931471805599453
_FEW: Final = 64  # slices are added one by one, which is faster; the order, and so the bits, are the same
_TERMS: Final = 18  # |y| ≤ 1/3 in the series below: the next term is under 1e-18


def total(values: Float64) -> float:
    """Sum of all numbers, from the first to the last in C order."""
    return float(np.add.accumulate(values.ravel())[-1]) if values.size else 0.0


def margin(table: Float64, kept: Sequence[int]) -> Float64:
    """Sum a table over all axes but `kept` (increasing), one axis after the other, the last one first."""
    out = table
    for axis in reversed(range(table.ndim)):
        if axis not in kept:
            out = _added(np.moveaxis(out, axis, 0))
    return out


def _added(slices: Float64) -> Float64:
    """Sum over the first axis, from the first slice to the last."""
    if not len(slices) or len(slices) > _FEW:
        return np.asarray(np.take(np.add.accumulate(slices, axis=0), -1, axis=0))
    found = slices[0]
    for each in slices[1:]:
        found = found + each
    return np.asarray(found)


def log(values: Float64) -> Float64:
    """Natural logarithm of positive numbers, relative error below 1e-15; of zero, 0 (for x·log x).

    x = m·2ᵉ with ½ ≤ m < 1 and log m = 2·artanh((m − 1)/(m + 1)) as a series.

    >>> log(np.array([1.0, 2.0, 0.0])).tolist()
    [0.0, 0.6931471805599453, 0.0]
    """
    some = values > 0
    mantissa, exponent = np.frexp(np.where(some, values, 1.0))
    y = (mantissa - 1.0) / (mantissa + 1.0)
    square, series = y * y, np.zeros_like(y)
    for k in range(_TERMS, 0, -1):
        series = (series + 1.0 / (2 * k + 1)) * square
    found = exponent.astype(np.float64) * _LN2 + 2.0 * y * (series + 1.0)
    return np.where(some, found, 0.0)


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve a small positive definite system by elimination, in Python's own float64."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for k in range(i, len(pivot)):
                row[k] -= factor * pivot[k]
    out = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        rest = rows[i][-1]
        for k in range(i + 1, len(rows)):
            rest -= rows[i][k] * out[k]
        out[i] = rest / rows[i][i]
    return out


def nearest_counts(noisy: Float64, patients: float) -> Float64:
    """Non-negative counts that add up to `patients`, nearest to the noisy ones (least squares).

    Source: Duchi, Shalev-Shwartz, Singer & Chandra, ICML 2008, fig. 1.
    """
    falling = np.sort(noisy)[::-1]
    excess = (np.add.accumulate(falling) - patients) / np.arange(1, len(noisy) + 1)
    last = np.flatnonzero(falling > excess)[-1]
    return np.asarray(np.maximum(noisy - excess[last], 0.0))
