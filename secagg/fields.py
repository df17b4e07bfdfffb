"""Checks of message fields: each raises MalformedMessage and names message and field, never a value."""

import itertools
from typing import Final

from secagg.errors import MalformedMessage
from secagg.manifest import MAX_MEMBERS, MAX_ROUNDS

__all__ = [
    "WORD",
    "ascending",
    "entries",
    "is_octets",
    "member",
    "members",
    "number",
    "octets",
    "records",
    "vector",
]

WORD: Final = 8
_SHORTEST: Final = 3 * WORD  # one data word, the tag word, the canary word


def is_octets(value: object, size: int) -> bool:
    """Whether a value is a byte string of this size."""
    return isinstance(value, bytes) and len(value) == size


def octets(message: object, name: str, size: int) -> None:
    """Insist on a byte string of this size."""
    if not is_octets(getattr(message, name), size):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be {size} octets")


def member(message: object, index: object) -> None:
    """Insist on a member's index."""
    if type(index) is not int or not 1 <= index <= MAX_MEMBERS:
        raise MalformedMessage(f"{type(message).__name__}: a member index is an integer in 1..{MAX_MEMBERS}")


def number(message: object, name: str, least: int, most: int = MAX_ROUNDS) -> None:
    """Insist on an integer in a range; round numbers by default."""
    value = getattr(message, name)
    if type(value) is not int or not least <= value <= most:
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be an integer in {least}..{most}")


def ascending(message: object, indices: tuple[int, ...]) -> None:
    """Insist on at least one member, each once, in order."""
    if not indices or any(a >= b for a, b in itertools.pairwise(indices)):
        raise MalformedMessage(f"{type(message).__name__}: members must be listed once each, ascending, at least one")


def members(message: object, name: str, *, least: int = 1) -> None:
    """Insist on a tuple of member indices in ascending order."""
    indices = getattr(message, name)
    if not isinstance(indices, tuple):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be a tuple of members")
    for index in indices:
        member(message, index)
    if indices or least:
        ascending(message, indices)


def entries(message: object, name: str, *sizes: int, empty: bool = False) -> None:
    """Insist on (member, octets, …) entries, ascending by member; `sizes` are those of the octet fields."""
    rows = getattr(message, name)
    width = 1 + len(sizes)
    if not isinstance(rows, tuple) or not all(isinstance(row, tuple) and len(row) == width for row in rows):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be entries of {width} values")
    for index, *values in rows:
        member(message, index)
        if not all(is_octets(value, size) for value, size in zip(values, sizes, strict=True)):
            raise MalformedMessage(f"{type(message).__name__}.{name}: the entry of {index} must have {sizes} octets")
    if rows or not empty:
        ascending(message, tuple(row[0] for row in rows))


def records(message: object, name: str, kind: type) -> None:
    """Insist on a tuple of messages of one kind."""
    rows = getattr(message, name)
    if not isinstance(rows, tuple) or not all(isinstance(row, kind) for row in rows):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be {kind.__name__} records")


def vector(message: object, words: object) -> None:
    """Insist on whole 64-bit words: at least one of data, the tag and the canary."""
    if not isinstance(words, bytes) or len(words) % WORD or len(words) < _SHORTEST:
        raise MalformedMessage(f"{type(message).__name__}.words: whole 64-bit words, at least one coordinate's")
