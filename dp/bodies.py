"""Reading the body of a ledger entry field by field: nothing is guessed, nothing is converted.

Every function raises `MisuseError` with the name of the field that is not what it must be.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from dp.chain import JSON
from dp.errors import MisuseError

__all__ = ["amount", "count", "fields", "hexadecimal", "listed", "mapping", "process", "text"]

_LARGEST_COUNT: Final = 2**63


def fields(body: Mapping[str, JSON], *names: str) -> None:
    """Refuse a body with other fields than these."""
    if set(body) != set(names):
        raise MisuseError(f"expected the fields {', '.join(names)}")


def listed(body: Mapping[str, JSON], name: str) -> Sequence[JSON]:
    """Return a field that is a list."""
    value = body[name]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MisuseError(f"{name} is not a list")
    return value


def mapping(body: Mapping[str, JSON], name: str) -> Mapping[str, JSON]:
    """Return a field that is an object."""
    value = body[name]
    if not isinstance(value, Mapping):
        raise MisuseError(f"{name} is not an object")
    return value


def text(body: Mapping[str, JSON], name: str) -> str:
    """Return a field that is text."""
    value = body[name]
    if not isinstance(value, str):
        raise MisuseError(f"{name} is not text")
    return value


def hexadecimal(body: Mapping[str, JSON], name: str) -> str:
    """Return a field that is lower-case hex."""
    value = text(body, name)
    if not re.fullmatch("[0-9a-f]+", value):
        raise MisuseError(f"{name} is not lower-case hex")
    return value


def process(body: Mapping[str, JSON]) -> str:
    """Return the field `process`: hex, or empty."""
    return hexadecimal(body, "process") if body["process"] else ""


def count(body: Mapping[str, JSON], name: str) -> int:
    """Return a field that is a whole number ≥ 0."""
    value = body.get(name)
    if type(value) is not int or not 0 <= value < _LARGEST_COUNT:
        raise MisuseError(f"{name} is not a whole number ≥ 0")
    return value


def amount(body: Mapping[str, JSON], name: str) -> int:
    """Return a number of units, written as text: it may be longer than other readers of JSON can hold."""
    digits = text(body, name) if name in body else ""
    if not re.fullmatch("0|[1-9][0-9]{0,60}", digits):
        raise MisuseError(f"{name} is not a whole number ≥ 0")
    return int(digits)
