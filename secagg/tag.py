r"""A linear tag of the sum, under keys the coordinator never has.

Over F_p, p = 2⁵⁶ − 5, for the decoded coordinates v_j (|Σ_i v_ij| < 2⁴⁷) in rows of m = 1024:

.. math:: τ_i = Σ_b a_b Σ_k c_k v_i[bm + k] + β_i   \pmod p

with column keys c_k < 2⁵², row keys a_b and one pad β_i per member, all fresh per round from the group key. A
sum S with tag T is accepted iff T ≡ Σ_b a_b Σ_k c_k S[bm+k] + Σ_{i∈R} β_i.

Guarantee: whatever the coordinator has seen, a changed sum passes with probability ≤ 2⁻⁵² + 2⁻⁵⁶ per attempt
(a row that differs survives the column keys with ≤ 2⁻⁵², the row key with 1/p; keys are reduced from 128 bits
or more, bias < 2⁻⁷¹). Without pads a scaled sum would pass; with keys kept over rounds a linear combination
would. Against a coordinator that colludes with a member no tag can help, and none is claimed: accounting
covers that.

The arithmetic is float64 matrix products that are exact. Coordinates and keys are cut into limbs, and the limbs
are such that the products in one sum have magnitudes that add up to at most 2⁵³ units: then every partial sum,
in any order and with or without fused operations, is a whole number of units that float64 holds exactly.

=====================  =====================================  ==============================================
sum over               limbs                                  largest sum of magnitudes
=====================  =====================================  ==============================================
1024 columns, 1 limb   \|v\| < 2^(43−k), c < 2^k               2¹⁰ · 2^(43−k) · 2^k = 2⁵³
1024 columns, 2 limbs  v = 2^w·h + l with w = 44 − k,         of l: 2¹⁰ · 2^(43−k) · 2^k = 2⁵³; of h (in
                       \|l\| ≤ 2^(w−1), \|h\| ≤ 2^(43−k)       units of 2^w) the same
R ≤ 2²⁰ rows           of a row's sum: ≤ 2¹⁷ + 1; of a: 2¹⁶   2²⁰ · (2¹⁷ + 1) · (2¹⁶ − 1) < 2⁵³
=====================  =====================================  ==============================================

k is 26 (two limbs of a column key) or 18 (three); k and the number of limbs of v follow from the bound on
\|v\|: see `_cut`.
"""

from collections.abc import Iterable
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import MisuseError
from secagg.keys import Label, derive, uncopied
from secagg.lanes import Integers, aligned
from secagg.masks import CTR, Backend, Keystream

__all__ = ["COLUMNS", "P", "RoundTag"]

P: Final = (1 << 56) - 5
COLUMNS: Final = 1024

_LIMIT: Final = 1 << 47
_COLUMN_KEY: Final = 52  # bits
_ROW_KEY: Final = 16  # octets, reduced modulo p only at the very end
_ROW_LIMB: Final = 16  # bits; so is everything below
_SUM_LIMB: Final = 18
_EXACT: Final = 43  # of a limb of v and a limb of c together: 1024 products add up to 2**53
_MAX_ROWS: Final = 1 << 20
_ROWS: Final = 128  # rows that are cut and multiplied at a time: a mebibyte of float64


class RoundTag:
    """The tag's keys of one round.

    Args:
        group: the group key, 32 octets.
        context: digest of the round's context.
        length: d, the number of coordinates, at most 2³⁰.
        bound: proven largest |v| of every coordinate that will be tagged, of shares and of the sum, < 2⁴⁷. The
            smaller, the fewer limbs; a coordinate beyond it is not tagged correctly.
        backend: how to compute the keys' stream.
    """

    __slots__ = ("_columns", "_context", "_group", "_key_limb", "_length", "_rows", "_units")

    __reduce__ = uncopied

    def __init__(self, group: bytes, context: bytes, length: int, *, bound: int, backend: Backend = CTR) -> None:
        rows = -(-length // COLUMNS)
        if rows > _MAX_ROWS:
            raise MisuseError(f"no tag over {length} coordinates: at most 2^30")
        self._key_limb, self._units = _cut(bound)
        stream = Keystream(derive(group, Label.TAG, context), backend)
        columns = np.frombuffer(stream(8 * COLUMNS), dtype="<u8") & np.uint64((1 << _COLUMN_KEY) - 1)
        self._columns: list[NDArray[np.float64]] = [
            ((columns >> np.uint64(shift)) & np.uint64((1 << self._key_limb) - 1)).astype(np.float64)
            for shift in range(0, _COLUMN_KEY, self._key_limb)
        ]
        # Big-endian: the first limb is the highest.
        self._rows = np.frombuffer(stream(_ROW_KEY * rows), dtype=">u2").reshape(rows, -1).astype(np.float64)
        self._group, self._context, self._length = group, context, length

    def share(self, coordinates: Integers, member: int) -> int:
        """Return τ_i for one member's coordinates: signed integers [d], |v| ≤ bound."""
        return (self._product(coordinates) + self._pad(member)) % P

    def expected(self, total: Integers, members: Iterable[int]) -> int:
        """Return the only T in [0, p) that a sum of these members' uploads can carry."""
        return (self._product(total) + sum(map(self._pad, members))) % P

    @staticmethod
    def reduce(word: int) -> int:
        """Return the summed tag word modulo p; at most 255 tags below p never wrap a word."""
        return word % P

    def _pad(self, member: int) -> int:
        return int.from_bytes(derive(self._group, Label.TAG_PAD, self._context, member), "big") % P

    def _product(self, coordinates: Integers) -> int:
        """Return Σ_b a_b Σ_k c_k v[bm+k], not reduced."""
        if coordinates.shape != (self._length,):
            raise MisuseError(f"a tag over {self._length} coordinates, not over {list(coordinates.shape)}")
        rows, limb = len(self._rows), self._key_limb
        # Unit of each line of `sums`, as a power of two: first the low limbs of v, then the high ones.
        units = [limb * key + high for high in self._units for key in range(len(self._columns))]
        sums = np.empty((len(units), rows))
        shape = len(self._units), min(rows, _ROWS), COLUMNS
        buffers = aligned(prod(shape)).view(np.float64).reshape(shape)
        for first in range(0, rows, _ROWS):
            part = coordinates[first * COLUMNS : (first + _ROWS) * COLUMNS]
            blocks = buffers[:, : -(-len(part) // COLUMNS)]
            low = blocks[0].reshape(-1)
            low[: len(part)] = part
            low[len(part) :] = 0
            if len(self._units) == 2:
                # Adding 1.5·2^(52+w) rounds to a multiple of 2^w, the unit in the last place up there.
                high, magic = blocks[1].reshape(-1), 1.5 * 2.0 ** (52 + self._units[1])
                np.add(low, magic, out=high)
                np.subtract(high, magic, out=high)
                np.subtract(low, high, out=low)
            lines = iter(sums[:, first : first + _ROWS])
            for block in blocks:
                for column in self._columns:
                    np.dot(block, column, out=next(lines))
        return self._combine(sums, units)

    def _combine(self, sums: NDArray[np.float64], units: list[int]) -> int:
        """Return Σ_b a_b · sums[:, b], every line of sums counted in its unit."""
        keys = len(self._columns)
        for line, high in zip(range(0, len(sums), keys), self._units, strict=True):
            sums[line : line + keys] *= 2.0**-high
        limbs = np.empty((3, *sums.shape))
        for limb in (2, 1):
            np.rint(sums * 2.0 ** -(_SUM_LIMB * limb), out=limbs[limb])
            sums -= limbs[limb] * 2.0 ** (_SUM_LIMB * limb)
        limbs[0] = sums
        total = 0
        for limb, lines in enumerate((limbs @ self._rows).tolist()):
            for unit, line in zip(units, lines, strict=True):
                # Horner over the limbs of a row key, the highest first.
                value = 0
                for product in line:
                    value = (value << _ROW_LIMB) + int(product)
                total += value << (unit + _SUM_LIMB * limb)
        return total


def _cut(bound: int) -> tuple[int, tuple[int, ...]]:
    """Return k, the bits of a column key's limb, and the units of v's limbs as powers of two.

    >>> [_cut(2**bits - 1) for bits in (17, 25, 35, 47)]
    [(26, (0,)), (18, (0,)), (26, (0, 18)), (18, (0, 26))]
    """
    if not 0 <= bound < _LIMIT:
        raise MisuseError(f"no tag over coordinates up to {bound}: the limit is 2^47")
    # In order of cost: so many products, and so many passes over v.
    for limbs, key_limb in ((1, 26), (1, 18), (2, 26), (2, 18)):
        room = _EXACT - key_limb
        if bound.bit_length() <= room:
            return key_limb, (0,)
        if limbs == 2 and bound.bit_length() <= 2 * room + 1:
            return key_limb, (0, room + 1)
    raise AssertionError  # 47 <= 2 * (43 - 18) + 1
