r"""A linear tag of the sum, under keys the coordinator never has.

Over F_p, p = 2⁵⁶ − 5, for the decoded coordinates v_j (|Σ_i v_ij| < 2⁴⁷) in rows of m = 1024:

.. math:: τ_i = Σ_b a_b Σ_k c_k v_i[bm + k] + β_i   \pmod p

with column keys c_k < 2⁵², row keys a_b and one pad β_i per member, all fresh per round from the group key. A
sum S with tag T is accepted iff T ≡ Σ_b a_b Σ_k c_k S[bm+k] + Σ_{i∈R} β_i.

Guarantee: whatever the coordinator has seen, a changed sum passes with probability ≤ 2⁻⁵² + 2⁻⁵⁶ per attempt
(a row that differs survives the column keys with ≤ 2⁻⁵², the row key with 1/p; keys are reduced from 128 bits
or more, bias < 2⁻⁷¹). Without pads a scaled sum would pass; with keys kept over rounds a linear combination
would. Against a
coordinator that colludes with a member no tag can help, and none is claimed: accounting covers that.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.keys import Label, derive
from secagg.lanes import Coordinates
from secagg.masks import Keystream

__all__ = ["COLUMNS", "P", "RoundTag"]

P: Final = (1 << 56) - 5
COLUMNS: Final = 1024

_LIMB: Final = 16  # three limbs hold any |v| < 2**47, the highest one signed
_LIMBS: Final = 3
_KEY_LIMB: Final = 26  # a product of limbs is < 2**42, a row of 1024 of them < 2**52: exact in float64 in any order


class RoundTag:
    """The tag's keys of one round.

    Args:
        group: the group key, 32 octets.
        context: digest of the round's context.
        length: d, the number of coordinates.
    """

    __slots__ = ("_columns", "_context", "_group", "_rows")

    def __init__(self, group: bytes, context: bytes, length: int) -> None:
        stream = Keystream(derive(group, Label.TAG, context))
        columns = np.frombuffer(stream(8 * COLUMNS), dtype="<u8") & np.uint64((1 << 2 * _KEY_LIMB) - 1)
        low = columns & np.uint64((1 << _KEY_LIMB) - 1)
        self._columns: NDArray[np.float64] = np.stack([low, columns >> np.uint64(_KEY_LIMB)], axis=1).astype(np.float64)
        self._rows = [_element(stream(16)) for _ in range(-(-length // COLUMNS))]
        self._group, self._context = group, context

    def share(self, coordinates: Coordinates, member: int) -> int:
        """Return τ_i for one member's coordinates (int64[d], |v| < 2⁴⁷)."""
        return (self._product(coordinates) + self._pad(member)) % P

    def expected(self, total: Coordinates, members: Iterable[int]) -> int:
        """Return the only T in [0, p) that a sum of these members' uploads can carry."""
        return (self._product(total) + sum(map(self._pad, members))) % P

    @staticmethod
    def reduce(word: int) -> int:
        """Return the summed tag word modulo p; at most 255 tags below p never wrap a word."""
        return word % P

    def _pad(self, member: int) -> int:
        return _element(derive(self._group, Label.TAG_PAD, self._context, member))

    def _product(self, coordinates: Coordinates) -> int:
        matrix = np.zeros((len(self._rows), COLUMNS), dtype=np.int64)
        matrix.reshape(-1)[: len(coordinates)] = coordinates
        sums = [0] * len(self._rows)
        for limb in range(_LIMBS):
            part = matrix >> (_LIMB * limb)
            if limb < _LIMBS - 1:
                part &= (1 << _LIMB) - 1
            for key_limb, column in enumerate((part.astype(np.float64) @ self._columns).T):
                for row, value in enumerate(column.tolist()):
                    sums[row] += int(value) << (_LIMB * limb + _KEY_LIMB * key_limb)
        return sum(key * value for key, value in zip(self._rows, sums, strict=True))


def _element(octets: bytes) -> int:
    return int.from_bytes(octets, "big") % P
