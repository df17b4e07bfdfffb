"""Rows without a patient, for the test that a machine keeps rows apart (`dp.bookkeeping`).

Nothing here is secret or random: numbers come from SHAKE-128 of a label, the same on every machine. A test on invented
rows refutes; it does not prove. So the rows are made to be hard: numbers that repeat (days do), numbers of every size,
truth values of both kinds, codes of several strata.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dp.queries import Float64

__all__ = ["Kind", "numbers", "rows"]

Kind: TypeAlias = tuple[tuple[torch.dtype, tuple[int, ...]], ...]
"""Type and shape of the tensors, without the patients' axis."""

_CODES: Final = 16
_FEW: Final = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 7.0, 30.0, 365.0])


def numbers(count: int, label: str) -> Float64:
    """Return numbers in [0, 1), uniform for all we know, the same on every machine."""
    octets = hashlib.shake_128(f"haemfed/invented-rows/v1 {label}".encode()).digest(8 * count)
    return np.asarray((np.frombuffer(octets, dtype="<u8") >> np.uint64(11)) * 2.0**-53)


def rows(kind: Kind, count: int, label: str, turn: int) -> list[Tensor]:
    """Return tensors [count, *shape]; in four turns every column of numbers has been of every kind.

    | column            | values                                                                        |
    |-------------------|-------------------------------------------------------------------------------|
    | floating point    | half of them −1 … 1; a quarter ten values only; a quarter ±2⁻¹⁰ … ±2²⁰         |
    | truth values      | either, half of the rows each                                                  |
    | whole numbers     | 0 … 15                                                                         |
    """
    found = []
    for place, (dtype, shape) in enumerate(kind):
        drawn = numbers(count * math.prod(shape), f"{label}, tensor {place}").reshape(count, -1)
        if dtype.is_floating_point:
            values = _floats(drawn, turn + place)
        else:
            values = np.floor(drawn * (2 if dtype == torch.bool else _CODES))
        found.append(torch.from_numpy(values).to(dtype).reshape(count, *shape))
    return found


def _floats(drawn: Float64, turn: int) -> Float64:
    out = drawn * 2 - 1
    way = (np.arange(drawn.shape[1]) + turn) % 4
    few, wide = drawn[:, way == 2], drawn[:, way == 3]
    out[:, way == 2] = _FEW[(few * len(_FEW)).astype(int)]
    # The digits after the sign's decide the size.
    size = 2.0 ** ((wide * 2 % 1) * 30 - 10)
    out[:, way == 3] = np.where(wide < 0.5, -size, size)
    return out
