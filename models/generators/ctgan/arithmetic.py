r"""Public numbers that every site computes for itself from matrix products, and still owns bit for bit.

The critic's step on generated rows, the generator's step and the statistics of its normalisation are functions of
public and released numbers alone. Hosts compute them in float64 and may differ in the last bits: a BLAS adds in its
own order, exp and log come from libraries. So each such array is rounded to a public lattice before anything is made
of it, and the updates after that are + − × ÷ √ alone (`dp.optimizer.PublicUpdate`, `project`).

    lattice of an array: multiples of s = 2^(max(⌈log₂ max|v|⌉, −30) − 16), rounded half to even

The least step is there for arrays that are nothing but rounding errors, such as the gradient of a bias whose effect
the normalisation takes off again: they become zero.

Tolerance. A number that two hosts compute with a difference of t·max|v| is rounded differently if the middle between
two lattice points lies in between: with probability below 2¹⁶·t for a number that is spread over many of them. Between
one and two threads t is 5·10⁻¹⁷ on average (the largest is 6·10⁻¹⁵), so of 4·10⁷ numbers, 400 steps of 10⁵ parameters,
one is rounded differently with a probability of about 10⁻⁴, and some times that between other processors.
If it does, the weights are others from that step on. The next sum is asked about other weights, its masks do not
cancel, and the study stops: a difference costs the study, never privacy. After the last sum nobody asks any more: a
difference there leaves two files with two digests, which hospitals see when they compare them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from models.data import Float64

__all__ = ["BITS", "normals", "project", "rounded", "uniforms"]

BITS: Final = 16
"""Bits of the largest number of an array that are kept."""

_FLOOR: Final = -30
_LABEL: Final = b"haemfed/ctgan/v1"


def rounded(values: Float64) -> Float64:
    """Round an array to its public lattice; zeros stay zero, what is not finite becomes zero.

    >>> rounded(np.array([1.0, 2.0**-16, 2.0**-18])).tolist()
    [1.0, 1.52587890625e-05, 0.0]

    Args:
        values: float64, any shape.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    largest = float(np.abs(finite).max(initial=0.0))
    if largest == 0.0:
        return np.zeros_like(finite)
    mantissa, exponent = math.frexp(largest)
    ceiling = exponent - 1 if mantissa == 0.5 else exponent
    step = math.ldexp(1.0, max(ceiling, _FLOOR) - BITS)
    return np.asarray(np.rint(finite / step) * step)


def project(parts: Sequence[Float64]) -> list[Float64]:
    """Shrink the arrays of one layer (weights and biases) together to a Euclidean norm of at most 1.

    The sum of squares is the exactly rounded one (`math.fsum`), so the order of addition is no question.

    Args:
        parts: float64 arrays.
    """
    size = math.sqrt(math.fsum(np.concatenate([(part * part).ravel() for part in parts]).tolist()))
    return [part / size for part in parts] if size > 1.0 else [part.copy() for part in parts]


def uniforms(seed: bytes, shape: tuple[int, ...]) -> Float64:
    """Numbers in (0, 1) from SHAKE-128 of public bytes: 53 bits each, the same everywhere."""
    count = math.prod(shape)
    words = np.frombuffer(hashlib.shake_128(_LABEL + seed).digest(8 * count), dtype="<u8") >> np.uint64(12)
    return ((words.astype(np.float64) + 0.5) / 2.0**52).reshape(shape)


def normals(seed: bytes, shape: tuple[int, int]) -> Float64:
    """Standard normal numbers (Box & Muller 1958); log and cos may differ in their last bits between hosts."""
    u = uniforms(seed, (2, *shape))
    return np.asarray(np.sqrt(-2.0 * np.log(u[0])) * np.cos(2.0 * np.pi * u[1]))
