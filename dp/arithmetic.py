"""What `dp.grids` does to every number of a block, twice: with numpy, and compiled by numba if it is installed.

Three passes per layer, each over float32 numbers of the backward pass, one row a patient:

| pass      | writes                                   | returns, per patient          |
|-----------|------------------------------------------|-------------------------------|
| `inputs`  | rint(a·2²⁰)                              | Σ of squares                  |
| `measure` | what `scale` wants to find (numpy only)  | Σ of squares                  |
| `scale`   | rint(v·factor)                           | Σ of squares                  |

Both write the same bits; sums of squares are added in another order, the same for every row. numpy needs a dozen passes
through memory and as many calls, the compiled code three. It costs a second or two of compiling in each process, so a
caller chooses it for long studies, by public constants alone: never by the number of patients, whom a change of
instructions must not depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import util
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dp.queries import Float64

__all__ = ["INPUT_BITS", "Arithmetic", "Numpy", "chosen", "compiled"]

Float32 = NDArray[np.float32]

INPUT_BITS: Final = 20
"""Inputs are multiples of two to minus this."""

_GRID: Final = 2.0**INPUT_BITS
_WORTH: Final = 1 << 22  # numbers of all steps together: below it, compiling costs more than it saves


class Arithmetic(Protocol):
    """The three passes. `out` is float64, at least as wide as `values`; columns behind them stay as they are, zero."""

    def inputs(self, values: Float32, out: Float64) -> Float64:
        """Round a to its grid."""
        ...

    def measure(self, values: Float32, out: Float64) -> Float64:
        """Measure δ; `out` is for `scale`."""
        ...

    def scale(self, values: Float32, factor: Float64, out: Float64) -> Float64:
        """Scale and round δ; `out` is as `measure` left it."""
        ...


class Numpy:
    """With numpy and torch."""

    def inputs(self, values: Float32, out: Float64) -> Float64:
        """Round a to its grid."""
        narrow = np.multiply(values, np.float32(_GRID))
        np.copyto(out[:, : values.shape[1]], np.rint(narrow, out=narrow))
        return _squares(out)

    def measure(self, values: Float32, out: Float64) -> Float64:
        """Measure δ; `out` is for `scale`."""
        np.copyto(out[:, : values.shape[1]], values)
        return _squares(out)

    def scale(self, values: Float32, factor: Float64, out: Float64) -> Float64:
        """Scale and round δ; `out` is as `measure` left it."""
        part = out[:, : values.shape[1]]
        torch.from_numpy(part).mul_(torch.from_numpy(factor)[:, None])  # twice as fast as numpy
        np.rint(part, out=part)
        return _squares(out)


def chosen(numbers: int) -> Arithmetic:
    """Return the arithmetic for a study.

    Args:
        numbers: parameters of the model times uploads: public.
    """
    return compiled() if numbers >= _WORTH and util.find_spec("numba") is not None else Numpy()


@cache
def compiled() -> Arithmetic:
    """Return the compiled arithmetic.

    Raises:
        ImportError: numba is not installed (extra `fast`).
    """
    import numba  # noqa: PLC0415  half a second, and not everywhere

    # Sums may be added in lanes; nothing else may change: no fused products, no assumption about NaN or infinities.
    build: Callable[[Any], Any] = numba.njit(nogil=True, fastmath={"reassoc"}, error_model="numpy")

    @build
    def inputs(values: Float32, out: Float64, squares: Float64) -> None:
        grid = np.float32(_GRID)
        for row in range(values.shape[0]):
            total = 0.0
            for column in range(values.shape[1]):
                rounded = np.float64(np.rint(values[row, column] * grid))
                out[row, column] = rounded
                total += rounded * rounded
            squares[row] = total

    @build
    def measure(values: Float32, squares: Float64) -> None:
        for row in range(values.shape[0]):
            total = 0.0
            for column in range(values.shape[1]):
                value = np.float64(values[row, column])
                total += value * value
            squares[row] = total

    @build
    def scale(values: Float32, factor: Float64, out: Float64, squares: Float64) -> None:
        for row in range(values.shape[0]):
            total = 0.0
            for column in range(values.shape[1]):
                rounded = np.rint(np.float64(values[row, column]) * factor[row])
                out[row, column] = rounded
                total += rounded * rounded
            squares[row] = total

    return _Compiled(inputs, measure, scale)


class _Compiled:
    """By numba."""

    def __init__(self, inputs: Callable[..., None], measure: Callable[..., None], scale: Callable[..., None]) -> None:
        self._inputs, self._measure, self._scale = inputs, measure, scale

    def inputs(self, values: Float32, out: Float64) -> Float64:
        squares = np.empty(len(values))
        self._inputs(values, out, squares)
        return squares

    def measure(self, values: Float32, out: Float64) -> Float64:
        del out
        squares = np.empty(len(values))
        self._measure(values, squares)
        return squares

    def scale(self, values: Float32, factor: Float64, out: Float64) -> Float64:
        squares = np.empty(len(values))
        self._scale(values, factor, out, squares)
        return squares


def _squares(rows: NDArray[Any]) -> Float64:
    """Σ of squares of each row; relative error below 2⁻²⁸ for up to 2²⁴ numbers, in any order."""
    squares: Float64 = rows[:, 0] ** 2 if rows.shape[1] == 1 else np.einsum("ij,ij->i", rows, rows)
    return squares
