"""Arrow arrays from NumPy and back by their buffers.

Arrow's own conversions import pandas where it is installed: half a second and 60 MB for every process that harmonises.
"""

__all__ = ["from_numpy", "from_texts", "to_numpy", "validity", "vector", "vectors_from_numpy", "vectors_to_numpy"]

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

_TYPES: Final[dict[Any, np.dtype[Any]]] = {
    pa.float64(): np.dtype("<f8"),
    pa.float32(): np.dtype("<f4"),
    pa.int8(): np.dtype("i1"),
    pa.uint8(): np.dtype("u1"),
    pa.int32(): np.dtype("<i4"),
}
_ARROW: Final[dict[np.dtype[Any], Any]] = {dtype: kind for kind, dtype in _TYPES.items()}


def from_numpy(values: NDArray[Any], absent: Bools | None = None) -> pa.Array:
    """A one-dimensional array of float64, float32, int8, uint8, int32 or bool; null where `absent`."""
    if values.dtype == np.bool_:
        kind, data = pa.bool_(), np.packbits(values, bitorder="little")
    else:
        kind, data = _ARROW[values.dtype], np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [_bitmap(absent), pa.py_buffer(data)])


def from_texts(texts: Sequence[str]) -> pa.Array:
    """Strings, none of them null; what UTF-8 cannot say (a file name of other bytes) is replaced."""
    data = [text.encode(errors="replace") for text in texts]
    ends = np.cumsum([0, *map(len, data)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(data), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(data))])


def vector(length: int) -> pa.DataType:
    """The type of a vector; its field is called as Parquet calls it, so that a table read back is the same."""
    return pa.list_(pa.field("element", pa.float32()), length)


def vectors_from_numpy(values: NDArray[np.float32], absent: Bools) -> pa.Array:
    """float32[n, length] as lists of fixed size; null where `absent`."""
    flat = from_numpy(values.reshape(-1))
    return pa.Array.from_buffers(vector(values.shape[1]), len(values), [_bitmap(absent)], children=[flat])


def to_numpy(column: pa.Array) -> NDArray[Any]:
    """Values; what stands under a null is 0 (false)."""
    offset, data = column.offset, column.buffers()[1]
    if len(column) == 0:
        return np.zeros(0, dtype=np.bool_ if pa.types.is_boolean(column.type) else _TYPES[column.type])
    values: NDArray[Any]
    if pa.types.is_boolean(column.type):
        values = _bits(data, offset, len(column))
    else:
        values = np.frombuffer(data, dtype=_TYPES[column.type], count=offset + len(column))[offset:]
    if column.null_count:
        values = values.copy()
        values[~validity(column)] = 0
    return values


def vectors_to_numpy(column: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """float32[n, length]; nulls as zeros."""
    numbers = np.zeros((len(column), column.type.list_size), dtype=np.float32)
    # `flatten` leaves the nulls out; what an array holds beneath them is anybody's.
    numbers[validity(column)] = to_numpy(column.flatten()).reshape(-1, column.type.list_size)
    return numbers


def validity(column: pa.Array) -> Bools:
    """bool[n]: where the array is not null."""
    bitmap = column.buffers()[0]
    if bitmap is None or column.null_count == 0:
        return np.ones(len(column), dtype=np.bool_)
    return _bits(bitmap, column.offset, len(column))


def _bitmap(absent: Bools | None) -> pa.Buffer | None:
    if absent is None or not absent.any():
        return None
    return pa.py_buffer(np.packbits(~absent, bitorder="little"))


def _bits(buffer: pa.Buffer, offset: int, length: int) -> Bools:
    packed = np.frombuffer(buffer, dtype=np.uint8)
    return np.unpackbits(packed, count=offset + length, bitorder="little")[offset:].astype(np.bool_)
