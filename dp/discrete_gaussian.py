"""Exact discrete Gaussian noise from secret bytes; no floating point touches a draw.

`Table` samples the discrete Gaussian with an integer variance by inversion: a uniform number of
unlimited precision is compared with the cumulative probabilities, and read only as far as the
comparison needs. 16 bits decide 99 % of the draws, 64 bits all but one in 2⁵⁴, and a tie at 64 bits
is refined 64 bits at a time for as long as it lasts. Cumulative probabilities are whole numbers
⌊2^b F(x)⌋, computed with `decimal` (whose `exp` is correctly rounded) and guard digits that prove
every floor.

`convolution` widens it: with X_l independent and of standard deviation s, Σ_l k^l X_l is a discrete
Gaussian of variance s² Σ_l k^(2l), up to a relative error of 2·exp(−2π²s²/(1+k²)) per level: 1e-34
for s = 64, k = 32 (Micciancio & Walter, CRYPTO 2017, for the idea).

The support is cut at 16 s: total variation below 2⁻¹⁸⁰ per draw, which `accountant.lattice_slack`
covers. A draw's duration depends on its value through one table look-up and, for one draw in a
hundred, a refinement; whoever can time single draws inside a hospital is out of scope.

Source: Canonne, Kamath & Steinke 2020 (discrete Gaussian).
"""

from bisect import bisect_right
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dp.errors import MisuseError
from dp.queries import Int64, Keystream

TABLE_VARIANCE: Final = 64**2
LEVELS: Final = 5
BASE: Final = 32
CUT: Final = 16
"""The support ends at 16 standard deviations."""

SHARE_VARIANCE: Final = TABLE_VARIANCE * sum(BASE ** (2 * level) for level in range(LEVELS))
"""Variance of one site's share: 4096 · Σ_{l<5} 1024^l ≈ 4.5e15 (standard deviation 6.7e7)."""

SHARE_BOUND: Final = CUT * 64 * sum(BASE**level for level in range(LEVELS))
"""No share is ever larger in magnitude: 1024 · Σ_{l<5} 32^l ≈ 1.1e9."""

_WORD: Final = 64
_GUIDE: Final = 16
_UNDECIDED: Final = np.iinfo(np.int16).min
_BLOCK: Final = 1 << 16


@lru_cache(maxsize=64)
def cumulative(variance: int, bits: int) -> tuple[int, ...]:
    """Return ⌊2^bits · F(x)⌋ for x = −K … K−1, F the distribution function cut at K = 16·√variance.

    Exact: the computed value is known to far more digits than its distance to the nearest whole
    number; were it ever not, precision is doubled until it is.

    Args:
        variance: a square number, 1 … 128².
        bits: fractional bits, > 0.

    Raises:
        MisuseError: variance is not a square number in range.
    """
    bound = _bound(variance)
    digits = bits // 3 + 40  # 2^bits has 0.302·bits digits: at least 40 guard digits remain
    while True:
        context = Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-(10**6), Emax=10**6)
        weights = [
            context.exp(context.divide(Decimal(-x * x), Decimal(2 * variance))) for x in range(-bound, bound + 1)
        ]
        sums = [Decimal(0)]
        for weight in weights:
            sums.append(context.add(sums[-1], weight))
        scale = context.divide(Decimal(2**bits), sums[-1])
        scaled = [context.multiply(part, scale) for part in sums[1:-1]]
        # Each of < 2·10⁴ operations errs by at most one unit in the last of `digits` places, relative
        # to a number ≤ 2^bits: the total is below 2^bits · 10^(5 − digits).
        error = context.multiply(Decimal(2**bits), Decimal(1).scaleb(5 - digits))
        floors = [int(value) for value in scaled]
        rests = [context.subtract(value, Decimal(floor)) for value, floor in zip(scaled, floors, strict=True)]
        if all(error < rest < context.subtract(Decimal(1), error) for rest in rests):
            return tuple(floors)
        digits *= 2


class Table:
    """Sampler for one discrete Gaussian N_ℤ(0, variance), cut at 16 standard deviations.

    Args:
        variance: a square number, so that the support's end is one too.
    """

    def __init__(self, variance: int) -> None:
        self.variance = variance
        self.bound = _bound(variance)
        self._cumulative = np.array(cumulative(variance, _WORD), dtype=np.uint64)
        low = np.arange(2**_GUIDE, dtype=np.uint64) << np.uint64(_WORD - _GUIDE)
        high = low | np.uint64(2 ** (_WORD - _GUIDE) - 1)
        first = np.searchsorted(self._cumulative, low, side="left")
        last = np.searchsorted(self._cumulative, high, side="right")
        self._guide = np.where(first == last, first - self.bound, _UNDECIDED).astype(np.int16)

    def draw(self, keystream: Keystream, length: int) -> NDArray[np.int16]:
        """Return independent draws.

        Args:
            keystream: secret uniform bytes; 2 per draw, 6 more for one in about a hundred.
            length: how many, ≥ 0.

        Returns:
            int16[length], each in −bound … bound.
        """
        head = np.frombuffer(_take(keystream, 2 * length), dtype="<u2")
        values: NDArray[np.int16] = self._guide[head]
        undecided = np.flatnonzero(values == _UNDECIDED)
        if undecided.size:
            tail = np.zeros((undecided.size, 4), dtype="<u2")
            tail[:, :3] = np.frombuffer(_take(keystream, 6 * undecided.size), dtype="<u2").reshape(-1, 3)
            tail[:, 3] = head[undecided]
            values[undecided] = self._invert(tail.view("<u8").reshape(-1), keystream)
        return values

    def _invert(self, words: NDArray[np.uint64], keystream: Keystream) -> NDArray[np.int16]:
        """Invert the distribution function at uniform numbers whose first 64 bits are given."""
        index = np.searchsorted(self._cumulative, words, side="right")
        tied = (index > 0) & (self._cumulative[np.maximum(index, 1) - 1] == words)
        for place in np.flatnonzero(tied):
            index[place] = self._refine(int(words[place]), keystream)
        return (index - self.bound).astype(np.int16)

    def _refine(self, word: int, keystream: Keystream) -> int:
        """Read the uniform number on, 64 bits at a time, until it falls between two probabilities."""
        bits = _WORD
        while True:
            word = (word << _WORD) | int.from_bytes(_take(keystream, _WORD // 8), "little")
            bits += _WORD
            floors = cumulative(self.variance, bits)
            index = bisect_right(floors, word)
            if index == 0 or floors[index - 1] != word:
                return index


@lru_cache(maxsize=16)
def table(variance: int) -> Table:
    """Return the sampler for a variance, built once per process."""
    return Table(variance)


def convolution(keystream: Keystream, length: int, *, variance: int, base: int, levels: int) -> Int64:
    """Return draws of Σ_l base^l X_l with X_l independent discrete Gaussians.

    Args:
        keystream: secret uniform bytes.
        length: how many draws, ≥ 0.
        variance: variance s² of each X_l, a square number.
        base: k; the relative error per level is 2·exp(−2π²s²/(1+k²)).
        levels: how many X_l.

    Returns:
        int64[length].
    """
    small = table(variance)
    out = np.empty(length, dtype=np.int64)
    for start in range(0, length, _BLOCK):  # blocks stay in the cache
        size = min(_BLOCK, length - start)
        levels_of_block = small.draw(keystream, levels * size).reshape(levels, size)
        block = out[start : start + size]
        block[:] = levels_of_block[levels - 1]
        for level in range(levels - 2, -1, -1):  # Horner
            block *= base
            block += levels_of_block[level]
    return out


def _bound(variance: int) -> int:
    root = int(variance**0.5 + 0.5)
    if root * root != variance or not 1 <= root <= 128:
        raise MisuseError(f"variance {variance} of a noise table is not a square in 1 … 128²")
    return CUT * root


def _take(keystream: Keystream, n: int) -> bytes:
    out = keystream(n)
    if len(out) != n:
        raise MisuseError(f"the keystream gave {len(out)} bytes where {n} were asked for")
    return out
