import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import lanes
from secagg.errors import ForgedSum, LaneOverflow, MisuseError


@st.composite
def vectors(draw: Any) -> Any:
    """Several vectors whose sum fits the lanes."""
    bits = draw(st.sampled_from(lanes.WIDTHS))
    count, length = draw(st.integers(1, 5)), draw(st.integers(1, 17))
    bound = ((1 << (bits - 1)) - 1) // count
    edge = st.sampled_from([-bound, 0, bound]) | st.integers(-bound, bound)
    return bits, [draw(st.lists(edge, min_size=length, max_size=length)) for _ in range(count)]


@given(vectors())
def test_adding_words_adds_coordinates(case: dict[str, Any]) -> None:
    bits, columns = case
    total = sum(lanes.pack(np.array(vector, dtype=np.int64), bits) for vector in columns)
    assert len(total) == lanes.word_count(len(columns[0]), bits)
    decoded = lanes.unpack(total, len(columns[0]), bits)
    assert decoded.tolist() == [sum(values) for values in zip(*columns, strict=True)]


@pytest.mark.parametrize("bits", [16, 21, 32])
def test_one_sum_has_one_encoding(bits: int) -> None:
    words = lanes.pack(np.array([-3], dtype=np.int64), bits)
    with pytest.raises(ForgedSum):
        lanes.unpack(words + np.uint64(1 << bits), 1, bits)  # a lane that no coordinate owns


def test_the_spare_bit_of_21_bit_lanes_is_checked() -> None:
    words = lanes.pack(np.array([1, 2, 3], dtype=np.int64), 21)
    with pytest.raises(ForgedSum):
        lanes.unpack(words ^ np.uint64(1 << 63), 3, 21)


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


def test_packing_leaves_its_input_alone() -> None:
    values = np.arange(4, dtype=np.int64)
    lanes.pack(values, 64)[:] = 9
    assert values.tolist() == [0, 1, 2, 3]


def test_doctests() -> None:
    assert doctest.testmod(lanes).failed == 0
