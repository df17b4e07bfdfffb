import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import lanes
from secagg.errors import ForgedSum, LaneOverflow, MisuseError
from tests.sweeps import examples

NARROW = [bits for bits in lanes.WIDTHS if bits < 64]
DTYPES = [np.int8, np.int16, np.int32, np.int64]


def packing(vector: list[int], bits: int) -> list[int]:
    """W = Σ_p v_p·2^(b·p) mod 2⁶⁴ once more, in plain integers."""
    count = -(-len(vector) // (64 // bits))
    words = [0] * count
    for position, value in enumerate(vector):
        words[position % count] += value << (bits * (position // count))
    return [word % 2**64 for word in words]


@st.composite
def vectors(draw: Any) -> Any:
    """Several vectors whose sum fits the lanes."""
    bits = draw(st.sampled_from(lanes.WIDTHS))
    count, length = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    bound = ((1 << (bits - 1)) - 1) // count
    edge = st.sampled_from([-bound, 0, bound]) | st.integers(-bound, bound)
    return bits, [draw(st.lists(edge, min_size=length, max_size=length)) for _ in range(count)]


@settings(deadline=None)
@given(vectors())
def test_adding_words_adds_coordinates(case: Any) -> None:
    bits, columns = case
    total = sum(lanes.pack(np.array(vector, dtype=np.int64), bits) for vector in columns)
    assert len(total) == lanes.word_count(len(columns[0]), bits)
    decoded = lanes.unpack(total, len(columns[0]), bits)
    assert decoded.dtype == np.int64
    assert decoded.tolist() == [sum(values) for values in zip(*columns, strict=True)]


@st.composite
def typed(draw: Any) -> Any:
    """A vector of some integer type with every value a lane can hold, the ends often."""
    bits, dtype = draw(st.sampled_from(lanes.WIDTHS)), draw(st.sampled_from(DTYPES))
    low = max(-(1 << (bits - 1)), int(np.iinfo(dtype).min))
    values = st.lists(st.sampled_from([low, -1, 0, -low - 1]) | st.integers(low, -low - 1), max_size=40)
    return bits, np.array(draw(values), dtype=dtype)


@settings(deadline=None)
@given(typed(), st.integers(1, 9))
def test_every_integer_type_packs_by_the_formula_whatever_the_blocks(case: Any, block: int) -> None:
    bits, vector = case
    whole = lanes._BLOCK
    try:
        lanes._BLOCK = block  # type: ignore[misc]
        words = lanes.pack(vector, bits)
        assert words.dtype == np.uint64
        assert words.tolist() == packing(vector.tolist(), bits)
        assert lanes.unpack(words, len(vector), bits).tolist() == vector.tolist()
    finally:
        lanes._BLOCK = whole  # type: ignore[misc]


@pytest.mark.parametrize("bits", NARROW)
def test_blocks_of_the_real_size(bits: int) -> None:
    per_word, count = 64 // bits, lanes._BLOCK + 3
    vector = np.random.default_rng(bits).integers(-(1 << (bits - 1)), 1 << (bits - 1), per_word * count - 1)
    planes = np.append(vector, 0).astype(np.uint64).reshape(per_word, count)
    words = lanes.pack(vector, bits)
    assert np.array_equal(words, sum(plane << np.uint64(bits * lane) for lane, plane in enumerate(planes)))
    assert np.array_equal(lanes.unpack(words, len(vector), bits), vector)


def test_fresh_memory_begins_with_a_cache_line() -> None:
    kept = [lanes.aligned(length) for length in (1, 7, 8, 1000, 1001)]
    assert [len(each) for each in kept] == [1, 7, 8, 1000, 1001]
    assert all(each.ctypes.data % 64 == 0 and each.dtype == np.uint64 for each in kept)


@settings(deadline=None, max_examples=examples(300))
@given(st.sampled_from(NARROW), st.integers(1, 13), st.integers(0, 1 << 32), st.integers(0, 3))
def test_unpacking_accepts_exactly_the_packings(bits: int, length: int, seed: int, flips: int) -> None:
    """The check is as good as packing again: whatever is accepted packs to the same words, the rest has no packing."""
    chance = np.random.default_rng(seed)
    count, per_word = lanes.word_count(length, bits), 64 // bits
    if flips:
        words = lanes.pack(chance.integers(-(1 << (bits - 1)), 1 << (bits - 1), length), bits)
        for _ in range(flips):
            words[chance.integers(count)] ^= np.uint64(1 << int(chance.integers(64)))
    else:
        words = chance.integers(0, 1 << 64, count, dtype=np.uint64)
    # The only candidate, lane by lane from the lowest: take its residue, subtract it, go on.
    vector = [0] * (per_word * count)
    for j, word in enumerate(words.tolist()):
        for lane in range(per_word):
            value = (word + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
            vector[lane * count + j] = value
            word = (word - value) >> bits  # noqa: PLW2901
    exists = not any(vector[length:]) and packing(vector[:length], bits) == words.tolist()
    if exists:
        assert lanes.unpack(words, length, bits).tolist() == vector[:length]
    else:
        with pytest.raises(ForgedSum):
            lanes.unpack(words, length, bits)


@pytest.mark.parametrize("bits", NARROW)
def test_one_sum_has_one_encoding(bits: int) -> None:
    words = lanes.pack(np.array([-3], dtype=np.int64), bits)
    with pytest.raises(ForgedSum):
        lanes.unpack(words + np.uint64(1 << bits), 1, bits)  # a lane that no coordinate owns


@pytest.mark.parametrize(("bits", "spare"), [(10, 60), (10, 63), (12, 60), (12, 63), (21, 63)])
def test_the_spare_bits_of_a_word_are_checked(bits: int, spare: int) -> None:
    words = lanes.pack(np.arange(64 // bits, dtype=np.int64), bits)
    with pytest.raises(ForgedSum):
        lanes.unpack(words ^ np.uint64(1 << spare), 64 // bits, bits)


@pytest.mark.parametrize("bits", lanes.WIDTHS)
def test_the_proven_bound_is_tight(bits: int) -> None:
    largest = (1 << (bits - 1)) - 1
    lanes.require_room(largest, bits)
    values = np.array([largest, -largest] * 3, dtype=np.int64)
    assert lanes.unpack(lanes.pack(values, bits), 6, bits).tolist() == values.tolist()
    with pytest.raises(LaneOverflow, match="wider lanes, a coarser lattice or a smaller clamp"):
        lanes.require_room(largest + 1, bits)


def test_misuse() -> None:
    with pytest.raises(MisuseError, match="no lanes of 20 bits"):
        lanes.pack(np.zeros(1, dtype=np.int64), 20)
    with pytest.raises(MisuseError, match="cannot hold"):
        lanes.unpack(np.zeros(1, dtype=np.uint64), 5, 16)
    for vector in (np.zeros(1, dtype=np.uint32), np.zeros(1), np.zeros((2, 2), dtype=np.int64)):
        with pytest.raises(MisuseError, match="a vector of signed integers"):
            lanes.pack(vector, 16)


@pytest.mark.parametrize("bits", lanes.WIDTHS)
def test_input_is_left_alone(bits: int) -> None:
    values = np.arange(40, dtype=np.int64)
    words = lanes.pack(values, bits)
    kept = words.copy()
    lanes.unpack(words, 40, bits)[:] = 9
    assert np.array_equal(words, kept)
    words[:] = 9
    assert values.tolist() == list(range(40))


def test_doctests() -> None:
    assert doctest.testmod(lanes).failed == 0
