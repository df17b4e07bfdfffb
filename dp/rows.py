"""Clipped sums over patients whose sensitivity is exact, not only up to rounding.

A float64 sum of clipped vectors is not the sum: taking one patient away may change it by more than
the clip norm (Casacuberta et al. 2022). So every clipped row is rounded to whole multiples of
C·2⁻³² and the sum is a sum of integers: exact, the same in every order, and a patient who
contributes zero changes nothing.

Guarantee. For tables that differ by one patient, in exact arithmetic,

    ‖Σ − Σ'‖₂ ≤ C      (in units: ≤ 2³²)

whatever the other patients are and however many. Proof: a row's units are a function of that row
alone (element-wise IEEE-754 operations and a fixed folding order); with u = 2⁻⁵³ the computed norm
is within 2⁻⁴⁰ of the true one, the row is scaled to at most C(1 − 2⁻²⁰)(1 + 2⁻⁴⁰), and rounding
adds at most √d/2 ≤ 2¹¹ units = C·2⁻²¹.

| patient's row                         | contribution                   |
|---------------------------------------|--------------------------------|
| norm ≤ C(1 − 2⁻²⁰)                    | the row                        |
| larger norm                           | scaled to C(1 − 2⁻²⁰)          |
| NaN or ±inf anywhere                  | exactly zero                   |
| norm above 2⁶⁴·C, or overflowing      | exactly zero: no record, a fault |
| no patient at all                     | zeros                          |
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from dp.errors import MisuseError
from dp.queries import MAX_LENGTH, Float64, Int64

CLIP_TARGET: Final = 1.0 - 2.0**-20
"""Rows are scaled to this share of the bound; the rest pays for every rounding."""

UNITS: Final = 2.0**32
"""Whole units per bound."""

_BROKEN_NORM: Final = 2.0**64
_BLOCK_VALUES: Final = 1 << 21


def clipped_rows(rows: Float64, bound: float) -> Float64:
    """Return the sum of the rows, each clipped to L2 norm `bound`.

    Args:
        rows: float64[n, d], one row per patient, n ≥ 0, d ≤ 2²⁴. Not changed.
        bound: C > 0, in the rows' unit.

    Returns:
        float64[d]: the exact integer sum × bound·2⁻³², one rounding.

    Raises:
        MisuseError: wrong type or shape, or a bound that is not positive and finite.
    """
    if rows.ndim != 2:
        raise MisuseError(f"expected one row per patient, got an array of {rows.ndim} dimensions")
    return from_units(clipped_units([rows], bound), bound)


def clipped_units(blocks: Sequence[Float64], bound: float) -> Int64:
    """Return the clipped sum in whole units of bound·2⁻³², columns of all blocks in order.

    Args:
        blocks: float64[n, d_k] arrays that together hold one row of d = Σ d_k values per patient.
        bound: C > 0.

    Returns:
        int64[d]; exact for n < 2³¹.

    Raises:
        MisuseError: see `clipped_rows`.
    """
    patients, width = _shape(blocks)
    if not (np.isfinite(bound) and 2.0**-100 < bound < 2.0**100):
        raise MisuseError("the clip bound must lie between 2^-100 and 2^100")
    total = np.zeros(width, dtype=np.int64)
    step = max(1, _BLOCK_VALUES // width)
    for start in range(0, patients, step):
        rows = np.concatenate([block[start : start + step] for block in blocks], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN, inf and overflow are expected: they become zero
            rows /= bound
            norms = _norms(rows)
        sound = norms <= _BROKEN_NORM  # False for NaN
        # The data is zeroed, not multiplied by a zero factor: 0 · NaN would be NaN.
        rows[~sound] = 0.0
        rows *= (CLIP_TARGET / np.maximum(np.where(sound, norms, 1.0), CLIP_TARGET))[:, None]
        rows *= UNITS
        np.rint(rows, out=rows)
        total += rows.astype(np.int64).sum(axis=0)
    return total


def from_units(units: Int64, bound: float) -> Float64:
    """Return units × bound·2⁻³² as float64[d]; exact but for one rounding while |units| < 2⁵³."""
    return units.astype(np.float64) * (bound / UNITS)


def _norms(rows: Float64) -> Float64:
    """L2 norm of each row; relative error below 2⁻⁴⁰; inf or NaN where it cannot be represented.

    Folding halves with element-wise additions, instead of a library reduction whose order may depend
    on the number of rows: so one patient's norm has the same bits whoever else is in the table.
    """
    squares = rows * rows
    width = squares.shape[1]
    while width > 1:
        half = width // 2
        squares[:, :half] += squares[:, width - half : width]
        width -= half
    norms: Float64 = np.sqrt(squares[:, 0])
    return norms


def _shape(blocks: Sequence[Float64]) -> tuple[int, int]:
    if not blocks:
        raise MisuseError("a clipped sum needs at least one block of columns")
    for block in blocks:
        if block.ndim != 2 or block.dtype != np.float64:
            raise MisuseError(
                f"expected float64[patients, columns], got {block.dtype}{list(block.shape)}: "
                "sums under differential privacy are float64"
            )
    patients = {block.shape[0] for block in blocks}
    if len(patients) != 1:
        raise MisuseError(f"blocks disagree on the number of patients ({len(patients)} different numbers)")
    width = sum(block.shape[1] for block in blocks)
    if not 1 <= width <= MAX_LENGTH:
        raise MisuseError(f"{width} columns are not in 1 … {MAX_LENGTH}")
    return patients.pop(), width
