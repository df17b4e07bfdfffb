"""Exact discrete Gaussian noise from secret bytes; no floating point touches a draw.

`Table` samples the discrete Gaussian with an integer variance by inversion: a uniform number of
unlimited precision is compared with the cumulative probabilities, and read only as far as the
comparison needs. 16 bits decide 99 % of the draws, 64 bits all but one in 2⁵⁴, and a tie at 64 bits
is refined 64 bits at a time for as long as it lasts. Cumulative probabilities are whole numbers
⌊2^b F(x)⌋, computed with `decimal` (whose `exp` is correctly rounded) and guard digits that prove
every floor.

A draw takes 2 bytes of the keystream, and one that they leave undecided 6 more: first the 2 of every draw of a call,
then the 6 of each undecided one, then the rare words of ties, each in the order of the draws. `convolution` does so
for 65,536 coordinates at a time, all levels of them together. A keystream may have a method ``into(octets)`` that
overwrites a writable memoryview with its next bytes; it is used where there is one and must give the same bytes.

`convolution` widens it: with X_l independent and of standard deviation s, Σ_l k^l X_l is a discrete
Gaussian of variance s² Σ_l k^(2l), up to a relative error of 2·exp(−2π²s²/(1+k²)) per level: 1e-34
for s = 64, k = 32 (Micciancio & Walter, CRYPTO 2017, for the idea).

The support is cut at 16 s: total variation below 2⁻¹⁸⁰ per draw, which `slack.lattice_slack`
covers. A draw's duration depends on its value through one table look-up and, for one draw in a
hundred, a refinement; whoever can time single draws inside a hospital is out of scope.

Source: Canonne, Kamath & Steinke 2020 (discrete Gaussian).
"""

from bisect import bisect_right
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Final

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
_CHUNK: Final = 1 << 17  # draws; fewer do not pay for the calls, more leave the cache
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
        floors = np.array(cumulative(variance, _WORD), dtype=np.uint64)
        low = np.arange(2**_GUIDE, dtype=np.uint64) << np.uint64(_WORD - _GUIDE)
        high = low | np.uint64(2 ** (_WORD - _GUIDE) - 1)
        first = np.searchsorted(floors, low, side="left")
        decided = first == np.searchsorted(floors, high, side="right")
        # 16 bits decide no draw beyond 4.2 σ. Where one octet can hold the others, 64 KiB do instead of 128: the
        # look-ups are bound by the cache.
        values = first - self.bound
        narrow = np.int8 if np.abs(values[decided]).max() <= np.iinfo(np.int8).max else np.int16
        self._undecided = np.iinfo(narrow).min
        self._guide: NDArray[np.int8 | np.int16] = np.where(decided, values, self._undecided).astype(narrow)
        self._first = first.astype(np.int16)
        # Probabilities with a guard at each end: draw i − bound lies between edges i and i + 1. A number below the
        # first probability is never equal to the first guard, so no comparison needs a case for the ends.
        guard = np.array([2**_WORD - 1], dtype=np.uint64)
        self._edges = np.concatenate([guard, floors, guard])

    def draw(self, keystream: Keystream, length: int) -> NDArray[np.int16]:
        """Return independent draws.

        Args:
            keystream: secret uniform bytes; 2 for every draw, then 6 more for each of the one in about a hundred
                (σ = 64; one in a thousand for σ = 4) that these leave undecided, in the order of the draws.
            length: how many, ≥ 0.

        Returns:
            int16[length], each in −bound … bound.
        """
        values = np.empty(length, dtype=np.int16)
        self._put(values, keystream, np.copyto)
        return values

    def add(self, values: NDArray[np.signedinteger[Any]], keystream: Keystream) -> None:
        """Add independent draws to a vector in place: the same as adding `draw`, without the second vector.

        Args:
            values: int16, int32 or int64[length], with room for ±bound more.
            keystream: as for `draw`.
        """
        self._put(values, keystream, lambda chunk, found: np.add(chunk, found, out=chunk))

    def _put(
        self,
        values: NDArray[np.signedinteger[Any]],
        keystream: Keystream,
        put: Callable[[NDArray[np.signedinteger[Any]], NDArray[np.signedinteger[Any]]], object],
    ) -> None:
        """Draw chunk by chunk into or onto a vector."""
        head = np.empty(min(len(values), _CHUNK), dtype="<u2")
        places, heads = [np.empty(0, dtype=np.intp)], [head[:0]]
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            head = head[: len(chunk)]
            _fill(keystream, head.data.cast("B"))
            found = self._guide.take(head, mode="clip")  # every index is inside
            put(chunk, found)
            undecided = np.flatnonzero(found == self._undecided)
            heads.append(head[undecided])
            places.append(undecided + start)
        everywhere = np.concatenate(places)
        if everywhere.size:
            values[everywhere] += self._decide(np.concatenate(heads), keystream) - self._undecided

    def _decide(self, heads: NDArray[np.uint16], keystream: Keystream) -> NDArray[np.signedinteger[Any]]:
        """Read on where 16 bits were not enough, and return the draws."""
        tail = _take(keystream, 6 * heads.size) + bytes(2)
        words = np.ndarray(heads.size, dtype="<u8", buffer=tail, strides=6) & np.uint64(2**48 - 1)
        words |= heads.astype(np.uint64) << np.uint64(48)
        return self._invert(words, self._first[heads].astype(np.intp), keystream) - self.bound

    def _invert(self, words: NDArray[np.uint64], first: NDArray[np.intp], keystream: Keystream) -> NDArray[np.intp]:
        """Invert the distribution function at uniform numbers whose first 64 bits are given.

        Args:
            words: the numbers.
            first: how many cumulative probabilities lie below each number's first 16 bits.
            keystream: for the bits after the first 64.
        """
        # Nearly every undecided number shares its first 16 bits with one probability: one comparison decides.
        index = first + (self._edges[first + 1] <= words)
        several = np.flatnonzero(self._edges[index + 1] <= words)
        index[several] = np.searchsorted(self._edges[1:-1], words[several], side="right")
        for place in np.flatnonzero(self._edges[index] == words):
            index[place] = self._refine(int(words[place]), keystream)
        return index

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
    bound = small.bound * sum(base**level for level in range(levels))
    size = min(length, _BLOCK)
    out = np.empty(length, dtype=np.int64)
    sums = np.empty(size, dtype=np.int32 if bound < 2**31 else np.int64)
    digit = np.empty_like(sums)
    for start in range(0, length, _BLOCK):
        block = out[start : start + _BLOCK]
        if len(block) < size:
            sums, digit = sums[: len(block)], digit[: len(block)]
        draws = small.draw(keystream, levels * len(block)).reshape(levels, -1)
        sums[:] = draws[-1]
        for level in draws[-2::-1]:  # Horner
            np.multiply(sums, base, out=sums)
            digit[:] = level
            np.add(sums, digit, out=sums)
        block[:] = sums
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


def _fill(keystream: Keystream, octets: memoryview) -> None:
    """Overwrite memory with the next bytes, without a copy if the keystream can (`into`)."""
    into: Callable[[memoryview], None] | None = getattr(keystream, "into", None)
    if into is None:
        octets[:] = _take(keystream, len(octets))
    else:
        into(octets)
