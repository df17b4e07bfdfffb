"""How deep JSON is nested, found without decoding it: no export of a hospital needs 200 levels."""

__all__ = ["DEEPEST", "line_count", "nested", "steep"]

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

DEEPEST: Final = 200

_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_LOWER: Final = 0x20  # turns [ into {, and ] into }
_OPENING, _NEWLINE = b"{\n"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def nested(json: bytes) -> int:
    """Levels of objects and arrays; of broken JSON, about as many.

    >>> nested(b'{"a": [[], {}]}'), nested(b'{"a": "[[[[[["}'), nested(b"7")
    (3, 1, 0)
    """
    return _levels(_TEXT.sub(b"", json))


def steep(json: bytes) -> bool:
    """Whether JSON looks nested deeper than `DEEPEST` when brackets in texts are taken for brackets: ask `nested`.

    What closes in texts only could hide depth from this look; the decoder's own limit then remains.
    """
    return _levels(json) > DEEPEST


def line_count(block: bytes) -> tuple[int, int]:
    """The number of lines in a block, and of the first (from 0) that is nested too deep, or -1."""
    octets = _bytes(block)
    ends = np.flatnonzero(octets == _NEWLINE)
    starts = np.concatenate(([0], ends + 1))
    if starts[-1] == len(octets):
        starts = starts[:-1]
    # Most lines cannot be too deep, because they do not have that many brackets.
    brackets = np.add.reduceat(((octets | _LOWER) == _OPENING).view(np.int8), starts, dtype=np.int32)
    for line in np.flatnonzero(brackets > DEEPEST).tolist():
        stop = ends[line] if line < len(ends) else len(block)
        text = block[starts[line] : stop]
        if steep(text) and nested(text) > DEEPEST:
            return len(starts), line
    return len(starts), -1


def _levels(json: bytes) -> int:
    brackets = _bytes(json.translate(None, _NO_BRACKETS)) | _LOWER
    steps = np.where(brackets == _OPENING, np.int8(1), np.int8(-1))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _bytes(json: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(json, dtype=np.uint8)
