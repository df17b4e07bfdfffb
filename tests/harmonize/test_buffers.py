import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize.buffers import from_numpy, to_numpy, validity, vectors_from_numpy, vectors_to_numpy

KINDS = {
    "f8": (pa.float64(), st.floats(allow_nan=False)),
    "f4": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "i1": (pa.int8(), st.integers(-128, 127)),
    "u1": (pa.uint8(), st.integers(0, 255)),
    "i4": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "?": (pa.bool_(), st.booleans()),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_arrow_reads_what_was_written_and_back(kind: str, data: st.DataObject) -> None:
    arrow_type, values = KINDS[kind]
    cells = data.draw(st.lists(st.tuples(values, st.booleans()), max_size=20))
    absent = np.array([gap for _, gap in cells], dtype=np.bool_)
    array = from_numpy(np.array([value for value, _ in cells], dtype=np.dtype(kind)), absent)
    expected = [None if gap else value for value, gap in cells]

    array.validate(full=True)
    assert array.type == arrow_type
    assert array.to_pylist() == expected
    # A slice begins in the middle of its buffers, and of a byte of its bits.
    start = data.draw(st.integers(0, len(cells)))
    part = array.slice(start)
    assert validity(part).tolist() == (~absent[start:]).tolist()
    # What stands beneath a null is nobody's value.
    assert to_numpy(part).tolist() == [0 if value is None else value for value in expected[start:]]


@given(
    st.lists(st.tuples(st.tuples(*[st.floats(width=32, allow_nan=False)] * 3), st.booleans()), max_size=9), st.data()
)
def test_vectors(cells: list[tuple[tuple[float, ...], bool]], data: st.DataObject) -> None:
    numbers = np.array([vector for vector, _ in cells], dtype=np.float32).reshape(-1, 3)
    array = vectors_from_numpy(numbers, np.array([gap for _, gap in cells], dtype=np.bool_))
    expected = [None if gap else list(vector) for vector, gap in cells]

    array.validate(full=True)
    assert array.to_pylist() == expected
    start = data.draw(st.integers(0, len(cells)))
    assert vectors_to_numpy(array.slice(start)).tolist() == [vector or [0.0] * 3 for vector in expected[start:]]
