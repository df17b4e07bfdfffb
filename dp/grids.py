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
from numpy.typing import NDArray

from dp.arithmetic import INPUT_BITS, Arithmetic
from dp.queries import Float64
from dp.taps import Outer, Rows

__all__ = ["CLIP_TARGET", "EXACT_ROWS", "UNIT_BITS", "Fixed", "Grids"]

CLIP_TARGET: Final = 1.0 - 2.0**-23
"""What longer gradients are clipped to, in units of the clip norm."""

_DELTA_BITS: Final = 24
UNIT_BITS: Final = INPUT_BITS + _DELTA_BITS
"""Contributions are multiples of the clip norm · 2⁻⁴⁴."""

EXACT_ROWS: Final = 1 << (53 - UNIT_BITS)
"""So many patients can be added as float64 without rounding."""

_LONGEST: Final = 4.0**UNIT_BITS * (1.0 - 2.0**-26)
"""Squared norm of a patient in units: below C² by more than the float64 errors of a norm."""

_BROKEN: Final = 2.0**64
_GRID: Final = 2.0**INPUT_BITS
_LANE: Final = 8  # float64 numbers in 64 octets

Fixed: TypeAlias = dict[int, tuple[Float64, Float64]]
"""Place of a layer → its inputs on their grid and their squared norms, for inputs that are the same in every step."""


class Grids:
    """The numbers of one block; the arrays are used again for the next block.

    Args:
        count: patients of a block.
        terms: of any block: what layers there are, and how wide.
        arithmetic: how it is computed; never a matter of the patients.
    """

    def __init__(self, count: int, terms: Sequence[Outer | Rows], arithmetic: Arithmetic) -> None:
        self._layers: list[_Factors | _Formed] = []
        first = 0
        for term in terms:
            kind = _Factors if isinstance(term, Outer) else _Formed
            layer: _Factors | _Formed = kind(term, count, first, arithmetic)  # type: ignore[arg-type]  # its own kind
            self._layers.append(layer)
            first += layer.length
        self._sum = np.empty(first)

    def take(self, terms: Sequence[Outer | Rows], fixed: Fixed, clip: float) -> None:
        """Clip and round a block of patients to the norm `clip`; keep in `fixed` what will be the same next time."""
        layers: list[Any] = self._layers
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # NaN, inf and overflow become zero
            norm = np.sqrt(sum(layer.take(term, fixed) for layer, term in zip(layers, terms, strict=True)))
            factor = np.minimum(CLIP_TARGET * clip / norm, 1.0) * (2.0**_DELTA_BITS / clip)
            length = sum(layer.round(term, factor) for layer, term in zip(layers, terms, strict=True))
        broken = ~(norm <= _BROKEN * clip)  # NaN, too
        long = np.flatnonzero(~broken & (length > _LONGEST))
        if len(long):
            # Rounding to nearest has made a patient longer than C; rounding towards zero cannot.
            for layer, term in zip(layers, terms, strict=True):
                layer.truncate(term, long, factor[long])
        if broken.any():
            for layer in layers:
                layer.drop(broken)

    def sum(self, first: int, last: int) -> Float64:
        """Return Σ over at most `EXACT_ROWS` of the patients, in units, exactly; overwritten by the next call."""
        for layer in self._layers:
            layer.add(first, last, self._sum)
        return self._sum

    def rows(self) -> list[Float64]:
        """Copies of all numbers that are summed, first axis = patient."""
        return [array.copy() for layer in self._layers for array in layer.arrays()]


class _Factors:
    """One layer's δ ⊗ (a, 1)."""

    def __init__(self, term: Outer, count: int, first: int, arithmetic: Arithmetic) -> None:
        self._in, self._out, self._bias = term.a.shape[1], term.delta.shape[1], term.bias
        self._place, self._arithmetic = first, arithmetic
        self._own = self._inputs = _aligned(count, self._in)
        self._deltas = _aligned(count, self._out)
        self._squares: Float64 = np.zeros(count)
        self._one = np.full(count, _GRID)
        self.length = self._out * (self._in + term.bias)

    def take(self, term: Outer, fixed: Fixed) -> Float64:
        """Round a to its grid; return the squared norm of δ ⊗ (a, 1) of every patient."""
        if term.fixed and self._place in fixed:
            self._inputs, self._squares = fixed[self._place]
        else:
            self._inputs = _aligned(len(self._own), self._in) if term.fixed else self._own
            self._squares = self._arithmetic.inputs(term.a.numpy(), self._inputs)
            if self._bias:
                self._squares += _GRID * _GRID
            if term.fixed:
                fixed[self._place] = self._inputs, self._squares
        squares: Float64 = self._squares * self._arithmetic.measure(term.delta.numpy(), self._deltas)
        squares *= _GRID**-2
        return squares

    def round(self, term: Outer, factor: Float64) -> Float64:
        """Round δ·factor; return the squared norm of rint(δ) ⊗ (a, 1) of every patient, in units."""
        squares: Float64 = self._squares * self._arithmetic.scale(term.delta.numpy(), factor, self._deltas)
        return squares

    def truncate(self, term: Outer, rows: NDArray[np.intp], factor: Float64) -> None:
        """Round these patients' δ towards zero instead."""
        self._deltas[rows, : self._out] = np.trunc(term.delta.numpy()[rows] * factor[:, None])

    def drop(self, rows: NDArray[np.bool_]) -> None:
        """Make these patients contribute zero. The data is zeroed, not multiplied by zero: 0 · NaN would be NaN."""
        if not np.isfinite(self._inputs[rows]).all():
            self._inputs = self._inputs.copy()  # what is kept for the next step stays as it is
            self._inputs[rows] = 0.0
        self._deltas[rows] = 0.0

    def add(self, first: int, last: int, out: Float64) -> None:
        """Put Σ δ ⊗ (a, 1) in its place."""
        delta = self._deltas[first:last, : self._out].T
        weights = self._place + self._out * self._in
        np.matmul(delta, self._inputs[first:last, : self._in], out=out[self._place : weights].reshape(self._out, -1))
        if self._bias:
            np.matmul(delta, self._one[first:last], out=out[weights : weights + self._out])

    def arrays(self) -> list[Float64]:
        """What is summed."""
        return [self._inputs, self._deltas]


class _Formed:
    """One layer's gradients, formed: one row per patient."""

    def __init__(self, term: Rows, count: int, first: int, arithmetic: Arithmetic) -> None:
        self.length = term.values.shape[1]
        self._place, self._arithmetic = first, arithmetic
        self._rows = _aligned(count, self.length)

    def take(self, term: Rows, fixed: Fixed) -> Float64:
        """Return the squared norm of every patient."""
        del fixed
        return self._arithmetic.measure(term.values.numpy(), self._rows)

    def round(self, term: Rows, factor: Float64) -> Float64:
        """Round ρ·factor; return the squared norm of every patient's row, in units."""
        return self._arithmetic.scale(term.values.numpy(), factor * _GRID, self._rows)

    def truncate(self, term: Rows, rows: NDArray[np.intp], factor: Float64) -> None:
        """Round these patients towards zero instead."""
        self._rows[rows, : self.length] = np.trunc(term.values.numpy()[rows] * (factor * _GRID)[:, None])

    def drop(self, rows: NDArray[np.bool_]) -> None:
        """Make these patients contribute zero."""
        self._rows[rows] = 0.0

    def add(self, first: int, last: int, out: Float64) -> None:
        """Put the sum in its place."""
        np.sum(self._rows[first:last, : self.length], axis=0, out=out[self._place : self._place + self.length])

    def arrays(self) -> list[Float64]:
        """What is summed."""
        return [self._rows]


def _aligned(count: int, width: int) -> Float64:
    """Zeros whose rows begin at multiples of 64 octets.

    A library that adds up to such an address first then adds every row in the same order. One column is left alone:
    there is nothing to add.
    """
    padded = -(-width // _LANE) * _LANE if width > 1 else 1
    octets = np.zeros(8 * count * padded + 64, dtype=np.uint8)
    start = -octets.ctypes.data % 64
    found: Float64 = octets[start : start + 8 * count * padded].view(np.float64).reshape(count, padded)
    return found
