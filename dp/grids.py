r"""A block of patients on whole-number grids, so that float64 adds them up exactly.

A layer's gradient of patient i is δ_i ⊗ (a_i, 1), or one row of numbers ρ_i (`dp.taps`). Inputs are rounded to
multiples of 2⁻²⁰, which defines the gradient that is clipped; then

.. math:: d_i = \mathrm{rint}(δ_i·s_i), \qquad s_i = \min\{1, C(1 − 2^{−23})/r_i\}·2^{24}/C, \qquad
    r_i² = Σ_l ‖δ_{il}‖²‖(a_{il}, 1)‖² + Σ_l ‖ρ_{il}‖²

Patient i contributes d_i ⊗ (a_i, 1), or rint(ρ_i·s_i·2²⁰): whole numbers in units of C·2⁻⁴⁴. Their norm is computed
from the very numbers that are summed; a patient whose squared norm is above 4⁴⁴(1 − 2⁻²⁶) is rounded towards zero
instead. A patient whose r_i is not a number, or above 2⁶⁴·C, contributes exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from dp.queries import Float64
from dp.taps import Outer, Rows

__all__ = ["CLIP_TARGET", "EXACT_ROWS", "UNIT_BITS", "Fixed", "Grids"]

CLIP_TARGET: Final = 1.0 - 2.0**-23
"""What longer gradients are clipped to, in units of the clip norm."""

_INPUT_BITS: Final = 20
_DELTA_BITS: Final = 24
UNIT_BITS: Final = _INPUT_BITS + _DELTA_BITS
"""Contributions are multiples of the clip norm · 2⁻⁴⁴."""

EXACT_ROWS: Final = 1 << (53 - UNIT_BITS)
"""So many patients can be added as float64 without rounding."""

_LONGEST: Final = 4.0**UNIT_BITS * (1.0 - 2.0**-26)
"""Squared norm of a patient in units: below C² by more than the float64 errors of a norm."""

_BROKEN: Final = 2.0**64
_GRID: Final = 2.0**_INPUT_BITS
_LANE: Final = 8  # float64 numbers in 64 octets

Fixed: TypeAlias = dict[int, tuple[Float64, Float64]]
"""Place of a layer → its inputs on their grid and their squared norms, for inputs that are the same in every step."""


class Grids:
    """The numbers of one block; the arrays are used again for the next block.

    Args:
        count: patients of a block.
        terms: of any block: what layers there are, and how wide.
    """

    def __init__(self, count: int, terms: Sequence[Outer | Rows]) -> None:
        widths = [term.delta.shape[1] if isinstance(term, Outer) else term.values.shape[1] for term in terms]
        # All δ and ρ in one array, so that they are scaled and rounded at once; each layer begins at 64 octets.
        starts = np.cumsum([0, *(-(-width // _LANE) * _LANE for width in widths)]).tolist()
        self._whole = _aligned(count, starts[-1], np.float64)
        self._layers: list[_Factors | _Formed] = []
        first = 0
        for term, start, end, width in zip(terms, starts[:-1], starts[1:], widths, strict=True):
            columns = self._whole[:, start:end]
            layer = _Factors(term, columns, first) if isinstance(term, Outer) else _Formed(width, columns, first)
            self._layers.append(layer)
            first += layer.length
        self._sum = np.empty(first)

    def take(self, terms: Sequence[Outer | Rows], fixed: Fixed, clip: float) -> None:
        """Clip and round a block of patients to the norm `clip`; keep in `fixed` what will be the same next time."""
        layers: list[Any] = self._layers
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # NaN, inf and overflow become zero
            norm = np.sqrt(sum(layer.take(term, fixed) for layer, term in zip(layers, terms, strict=True)))
            factor = np.minimum(CLIP_TARGET * clip / norm, 1.0) * (2.0**_DELTA_BITS / clip)
            torch.from_numpy(self._whole).mul_(torch.from_numpy(factor)[:, None])  # twice as fast as numpy
            np.rint(self._whole, out=self._whole)
            length = sum(layer.length_squared() for layer in layers)
        broken = ~(norm <= _BROKEN * clip)  # NaN, too
        long = np.flatnonzero(~broken & (length > _LONGEST))
        if len(long):
            # Rounding to nearest has made a patient longer than C; rounding towards zero cannot.
            for layer, term in zip(layers, terms, strict=True):
                layer.truncate(term, long, factor[long])
        if broken.any():
            self._drop(broken)

    def sum(self, first: int, last: int) -> Float64:
        """Return Σ over at most `EXACT_ROWS` of the patients, in units, exactly; overwritten by the next call."""
        for layer in self._layers:
            layer.add(first, last, self._sum)
        return self._sum

    def rows(self) -> list[Float64]:
        """Copies of all numbers that are summed, first axis = patient."""
        inputs = [layer.inputs.copy() for layer in self._layers if isinstance(layer, _Factors)]
        return [*inputs, self._whole.copy()]

    def _drop(self, broken: NDArray[np.bool_]) -> None:
        """Make these patients contribute zero. The data is zeroed, not multiplied by zero: 0 · NaN would be NaN."""
        for layer in self._layers:
            if isinstance(layer, _Factors):
                layer.drop(broken)
        self._whole[broken] = 0.0  # with what lies behind the last column of a layer


class _Factors:
    """One layer's δ ⊗ (a, 1)."""

    def __init__(self, term: Outer, whole: Float64, first: int) -> None:
        count, self._in, self._out = len(whole), term.a.shape[1], term.delta.shape[1]
        self._place, self._bias = first, term.bias
        self._narrow = _aligned(count, self._in, np.float32)
        self._own = self.inputs = _aligned(count, self._in, np.float64)
        self._squares: Float64 = np.zeros(count)
        self._whole = whole
        self._one = np.full(count, _GRID)
        self.length = self._out * (self._in + term.bias)

    def take(self, term: Outer, fixed: Fixed) -> Float64:
        """Round a to its grid; return the squared norm of δ ⊗ (a, 1) of every patient."""
        if term.fixed and self._place in fixed:
            self.inputs, self._squares = fixed[self._place]
        else:
            self.inputs = _aligned(len(self._own), self._in, np.float64) if term.fixed else self._own
            narrow = self._narrow[:, : self._in]
            np.rint(np.multiply(term.a.numpy(), np.float32(_GRID), out=narrow), out=narrow)
            np.copyto(self.inputs[:, : self._in], narrow)
            self._squares = _squares(self.inputs)
            if self._bias:
                self._squares += _GRID * _GRID
            if term.fixed:
                fixed[self._place] = self.inputs, self._squares
        np.copyto(self._whole[:, : self._out], term.delta.numpy())
        squares: Float64 = self._squares * _squares(self._whole)
        squares *= _GRID**-2
        return squares

    def length_squared(self) -> Float64:
        """Squared norm of rint(δ) ⊗ (a, 1) of every patient, in units."""
        squares: Float64 = self._squares * _squares(self._whole)
        return squares

    def truncate(self, term: Outer, rows: NDArray[np.intp], factor: Float64) -> None:
        """Round these patients' δ towards zero instead."""
        self._whole[rows, : self._out] = np.trunc(term.delta.numpy()[rows] * factor[:, None])

    def drop(self, rows: NDArray[np.bool_]) -> None:
        """Zero these patients' inputs unless they are numbers."""
        if not np.isfinite(self.inputs[rows]).all():
            self.inputs = self.inputs.copy()  # what is kept for the next step stays as it is
            self.inputs[rows] = 0.0

    def add(self, first: int, last: int, out: Float64) -> None:
        """Put Σ δ ⊗ (a, 1) in its place."""
        delta = self._whole[first:last, : self._out].T
        weights = self._place + self._out * self._in
        np.matmul(delta, self.inputs[first:last, : self._in], out=out[self._place : weights].reshape(self._out, -1))
        if self._bias:
            np.matmul(delta, self._one[first:last], out=out[weights : weights + self._out])


class _Formed:
    """One layer's gradients, formed: one row per patient."""

    def __init__(self, width: int, whole: Float64, first: int) -> None:
        self._whole, self._place, self.length = whole, first, width

    def take(self, term: Rows, fixed: Fixed) -> Float64:
        """Return the squared norm of every patient."""
        del fixed
        rows = self._whole[:, : self.length]
        np.copyto(rows, term.values.numpy())
        squares = _squares(self._whole)
        rows *= _GRID  # a power of two: exact, and what overflows belongs to a patient whose norm does
        return squares

    def truncate(self, term: Rows, rows: NDArray[np.intp], factor: Float64) -> None:
        """Round these patients towards zero instead."""
        self._whole[rows, : self.length] = np.trunc(term.values.numpy()[rows] * (factor * _GRID)[:, None])

    def length_squared(self) -> Float64:
        """Squared norm of the rounded rows, in units."""
        return _squares(self._whole)

    def add(self, first: int, last: int, out: Float64) -> None:
        """Put the sum in its place."""
        np.sum(self._whole[first:last, : self.length], axis=0, out=out[self._place : self._place + self.length])


def _aligned(count: int, width: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Zeros whose rows begin at multiples of 64 octets.

    A library that adds up to such an address first then adds every row in the same order. One column is left alone:
    there is nothing to add.
    """
    lane = 64 // np.dtype(dtype).itemsize if width > 1 else 1
    padded = -(-width // lane) * lane
    size = count * padded * np.dtype(dtype).itemsize
    octets = np.zeros(size + 64, dtype=np.uint8)
    start = -octets.ctypes.data % 64
    return octets[start : start + size].view(dtype).reshape(count, padded)


def _squares(rows: NDArray[Any]) -> Float64:
    """Σ of squares of each row; relative error below 2⁻²⁸ for up to 2²⁴ numbers, in any order."""
    squares: Float64 = rows[:, 0] ** 2 if rows.shape[1] == 1 else np.einsum("ij,ij->i", rows, rows)
    return squares
