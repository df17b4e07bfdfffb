"""Coordinates packed into 64-bit words so that adding words adds coordinates.

A word holds L = ⌊64/b⌋ coordinates: W = Σ_p v_p·2^(b·p) mod 2⁶⁴ with signed v_p. Sums of words decode to sums
of coordinates as long as every summed coordinate stays in [−2^(b−1), 2^(b−1)). Layout is *planar*: lane p of
all words is the p-th contiguous slice of the vector (strided access would cost a factor of five).

Adding H = Σ_p 2^(b·p+b−1) to a word makes every lane unsigned: W + H = Σ_p (v_p + 2^(b−1))·2^(b·p), where no
lane borrows from the one above. So a word is the packing of some lanes if and only if (W + H) mod 2⁶⁴ is below
2^(b·L): such sums are the numbers of L digits in base 2^b, each number once. That is the whole check of an
unpacked word; nothing has to be packed again.

b = 64, the wide lattice, is the identity and the default.
"""

import sys
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ForgedSum, LaneOverflow, MisuseError

__all__ = [
    "WIDE",
    "WIDTHS",
    "Coordinates",
    "Integers",
    "Words",
    "aligned",
    "pack",
    "require_room",
    "unpack",
    "word_count",
]

WIDE: Final = 64
WIDTHS: Final = (10, 12, 16, 21, 32, WIDE)

Coordinates: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.signedinteger[Any]]
Words: TypeAlias = NDArray[np.uint64]

_BLOCK: Final = 1 << 17  # words, a mebibyte: smaller blocks cost more in calls than a nearer cache gives


def aligned(length: int) -> Words:
    """Return fresh memory of so many words that begins with a cache line: kernels are some per cent faster so."""
    room = np.empty(length + 7, dtype=np.uint64)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + length]


def word_count(length: int, bits: int) -> int:
    """Return how many words `length` coordinates take.

    >>> [word_count(10, bits) for bits in WIDTHS]
    [2, 2, 3, 4, 5, 10]
    """
    per_word = WIDE // bits
    return -(-length // per_word)


def require_room(total_bound: int, bits: int) -> None:
    """Prove that no sum within ±`total_bound` can leave its lane.

    Raises:
        LaneOverflow: it can.
    """
    if total_bound >= 1 << (bits - 1):
        raise LaneOverflow(
            f"a sum up to {total_bound} does not fit a lane of {bits} bits: "
            "use wider lanes, a coarser lattice or a smaller clamp per site"
        )


def pack(coordinates: Integers, bits: int) -> Words:
    """Pack signed coordinates into words; fresh memory.

    Args:
        coordinates: int8 … int64[d], each in [−2^(bits−1), 2^(bits−1)).
        bits: lane width, one of `WIDTHS`.

    Returns:
        uint64[word_count(d, bits)]; the unused lanes of the last slices are zero.

    Raises:
        MisuseError: another width, or coordinates that are not a vector of signed integers.
    """
    if bits not in WIDTHS:
        raise MisuseError(f"no lanes of {bits} bits: one of {', '.join(map(str, WIDTHS))}")
    if coordinates.dtype.kind != "i" or coordinates.ndim != 1:
        raise MisuseError(f"lanes hold a vector of signed integers, not {coordinates.dtype}{list(coordinates.shape)}")
    if bits == WIDE:
        return np.array(coordinates, dtype=np.int64).view(np.uint64)
    count = word_count(len(coordinates), bits)
    words = aligned(count)
    pack_block = _pack_fields if bits in _FIELDS else _pack_digits
    for start in range(0, count, _BLOCK):
        block = words[start : start + _BLOCK]
        planes = [coordinates[first : first + len(block)] for first in _starts(start, count, bits)]
        # Lanes run over the end of the vector in at most L − 1 coordinates, all in the last word of their slice.
        planes = [_padded(each, len(block)) if len(each) < len(block) else each for each in planes]
        pack_block(block, planes, bits)
    return words


def unpack(words: Words, length: int, bits: int) -> Coordinates:
    """Invert :func:`pack` on a word-wise sum.

    Args:
        words: uint64[word_count(length, bits)].
        length: d, the number of coordinates.
        bits: lane width.

    Returns:
        int64[length].

    Raises:
        ForgedSum: the words are not the packing of any vector: an unused lane or bit is set.
    """
    count = len(words)
    if count != word_count(length, bits):
        raise MisuseError(f"{count} words cannot hold {length} coordinates of {bits} bits")
    if bits == WIDE:
        return words.view(np.int64).copy()
    per_word = WIDE // bits
    coordinates = np.empty(per_word * count, dtype=np.int64)
    offset = _offset(bits)
    buffer = aligned(min(count, _BLOCK))
    for start in range(0, count, _BLOCK):
        block = words[start : start + _BLOCK]
        lanes = np.add(block, offset, out=buffer[: len(block)])
        # One vector, one encoding: otherwise one sum would have many transcripts.
        if per_word * bits < WIDE and int(lanes.max()) >> (per_word * bits):
            raise ForgedSum("a word of the sum uses bits that no coordinate owns")
        lanes ^= offset  # now every lane is a two's complement number of its own
        for lane, first in enumerate(_starts(start, count, bits)):
            _unpack_lane(lanes, lane, bits, coordinates[first : first + len(lanes)])
    if coordinates[length:].any():
        raise ForgedSum("a lane of the sum that no coordinate owns is not zero")
    return coordinates[:length]


# ---- private
# ---------------------------------------------------------------------------------------------------

_FIELDS: Final = (16, 32) if sys.byteorder == "little" else ()
"""Lanes that are integers of the machine: copied, not shifted."""


def _offset(bits: int) -> np.uint64:
    """H: half a lane in every lane."""
    return np.uint64(sum(1 << (bits * lane + bits - 1) for lane in range(WIDE // bits)))


def _starts(start: int, count: int, bits: int) -> range:
    """Where the coordinates of a block of words that begins at `start` begin, lane by lane."""
    return range(start, start + count * (WIDE // bits), count)


def _padded(plane: Integers, length: int) -> Integers:
    out = np.zeros(length, dtype=plane.dtype)
    out[: len(plane)] = plane
    return out


def _pack_fields(block: Words, planes: list[Integers], bits: int) -> None:
    """Write every lane in its place, then pay the borrows of the negative ones, by the identity of H."""
    fields = block.view(f"i{bits // 8}")
    for lane, plane in enumerate(planes):
        fields[lane :: len(planes)] = plane
    offset = _offset(bits)
    block ^= offset
    block -= offset


def _pack_digits(block: Words, planes: list[Integers], bits: int) -> None:
    """Evaluate Σ_p v_p·2^(b·p) by Horner's rule, modulo 2⁶⁴."""
    digits = block.view(np.int64)
    buffer = np.empty_like(digits)
    digits[:] = planes[-1]
    for plane in reversed(planes[:-1]):
        digits <<= bits
        buffer[:] = plane
        digits += buffer


def _unpack_lane(lanes: Words, lane: int, bits: int, out: Coordinates) -> None:
    if bits in _FIELDS:
        out[:] = lanes.view(f"i{bits // 8}")[lane :: WIDE // bits]
    else:
        np.left_shift(lanes, np.uint64(WIDE - bits * (lane + 1)), out=out.view(np.uint64))
        out >>= WIDE - bits  # of a signed number: copies the sign
