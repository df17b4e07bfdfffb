"""Arithmetic whose bits are the same on every IEEE-754 host: + − × ÷ √ and exact scaling, no libm.

Whatever every site must compute for itself and still own bit for bit (initial weights, baseline hazards,
averages) uses this file; `numpy.exp` and `torch.exp` differ in the last bit between instruction sets and
versions.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from models.errors import MisuseError

Float64 = NDArray[np.float64]

_LABEL = b"haemfed/initial-weights/v1"


def exp(values: Float64) -> Float64:
    """e^x by Taylor series and repeated squaring; relative error below 1e-13 for |x| ≤ 30.

    Args:
        values: float64, any shape; clipped to ±30 (hazards per year between 1e-13 and 1e13).

    >>> [float(v) for v in exp(np.array([0.0, 1.0]))]
    [1.0, 2.718281828459033]
    """
    x = np.clip(np.asarray(values, dtype=np.float64), -30.0, 30.0) / 64.0
    total = np.ones_like(x)
    for k in range(18, 0, -1):  # Horner: 1 + x(1 + x/2(1 + x/3(…))); |x| ≤ 0.47, remainder < 1e-22
        total = 1.0 + (x / float(k)) * total
    for _ in range(6):
        total = total * total
    return total


def uniforms(seed: bytes, count: int) -> Float64:
    """`count` numbers in [0, 1) from SHA-256 in counter mode: 53 bits each, divided by 2⁵³ (exact).

    Args:
        seed: any bytes; public (it is in the study).
        count: how many.

    Returns:
        float64[count]
    """
    if count < 0:
        raise MisuseError(f"cannot draw {count} numbers")
    head = hashlib.sha256(_LABEL + len(seed).to_bytes(8, "little") + seed).digest()
    blocks = (hashlib.sha256(head + i.to_bytes(8, "little")).digest() for i in range((count + 3) // 4))
    words = np.frombuffer(b"".join(blocks), dtype="<u8")[:count]
    return (words >> np.uint64(11)).astype(np.float64) / float(2**53)


def symmetric(seed: bytes, count: int, fan_in: int) -> Float64:
    """Uniform on ±1/√fan_in (LeCun), float64[count]; √ and ÷ are correctly rounded everywhere."""
    return (2.0 * uniforms(seed, count) - 1.0) / math.sqrt(fan_in)
