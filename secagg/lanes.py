"""Coordinates packed into 64-bit words so that adding words adds coordinates.

A word holds L = ⌊64/b⌋ coordinates: W = Σ_p v_p·2^(b·p) mod 2⁶⁴ with signed v_p. Sums of words decode to sums
of coordinates as long as every summed coordinate stays in [−2^(b−1), 2^(b−1)). Layout is *planar*: lane p of
all words is the p-th contiguous slice of the vector (strided access would cost a factor of five).

b = 64, the wide lattice, is the identity and the default.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ForgedSum, LaneOverflow, MisuseError

__all__ = ["WIDE", "WIDTHS", "Coordinates", "Words", "pack", "require_room", "unpack", "word_count"]

WIDE: Final = 64
WIDTHS: Final = (16, 21, 32, WIDE)

Coordinates = NDArray[np.int64]
Words = NDArray[np.uint64]


def word_count(length: int, bits: int) -> int:
    """Return how many words `length` coordinates take.

    >>> [word_count(10, bits) for bits in WIDTHS]
    [3, 4, 5, 10]
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


def pack(coordinates: Coordinates, bits: int) -> Words:
    """Pack signed coordinates into words; fresh memory.

    Args:
        coordinates: int64[d], each within ±2^(bits−1).
        bits: lane width, one of `WIDTHS`.

    Returns:
        uint64[word_count(d, bits)]; the unused lanes of the last slice are zero.
    """
    if bits not in WIDTHS:
        raise MisuseError(f"no lanes of {bits} bits: one of {', '.join(map(str, WIDTHS))}")
    values = np.ascontiguousarray(coordinates, dtype=np.int64)
    if bits == WIDE:
        return np.array(values.view(np.uint64))
    per_word, count = WIDE // bits, word_count(len(values), bits)
    planes = np.zeros(per_word * count, dtype=np.int64)
    planes[: len(values)] = values
    lanes = planes.view(np.uint64).reshape(per_word, count)
    words: Words = lanes[0].copy()
    for lane in range(1, per_word):
        words += lanes[lane] << np.uint64(bits * lane)  # wraps modulo 2**64, as the sum does
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
    if len(words) != word_count(length, bits):
        raise MisuseError(f"{len(words)} words cannot hold {length} coordinates of {bits} bits")
    if bits == WIDE:
        return words.view(np.int64).copy()
    half, low = np.uint64(1 << (bits - 1)), np.uint64((1 << bits) - 1)
    planes = np.empty((WIDE // bits, len(words)), dtype=np.uint64)
    rest = words.copy()
    for plane in planes:
        # Sign-extend the lowest lane, then take it off so that its borrow leaves the lane above.
        np.subtract((rest & low) ^ half, half, out=plane)
        rest -= plane
        rest >>= np.uint64(bits)
    flat = planes.reshape(-1).view(np.int64)
    coordinates = flat[:length].copy()
    # One vector, one encoding: otherwise one sum would have many transcripts.
    if not np.array_equal(pack(coordinates, bits), words):
        raise ForgedSum("a word of the sum uses bits that no coordinate owns")
    return coordinates
