"""Public constants of a learner as a document holds them: JSON and back, and one digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self, cast

from models.errors import ConfigError

__all__ = ["Constants", "canonical"]


class Constants:
    """What presets and settings share: a frozen dataclass of texts, numbers and tuples of numbers.

    Its own checks of ranges run when it is made, so also when it is read.
    """

    name: str

    def require(self, problems: Mapping[str, bool]) -> None:
        """Refuse numbers that are not finite, and the first of the problems that is there.

        Raises:
            ConfigError: names the constants and the problem.
        """
        found = [getattr(self, f.name) for f in fields(cast("Any", self))]
        numbers = [v for value in found for v in (value if isinstance(value, tuple) else (value,))]
        finite = all(math.isfinite(v) for v in numbers if isinstance(v, float))
        for problem, present in {"every number must be finite": not finite, **problems}.items():
            if present:
                raise ConfigError(f"{type(self).__name__.lower()} {self.name!r}: {problem}")

    def to_json(self) -> dict[str, object]:
        """All fields as JSON values, for the study."""
        found = {f.name: getattr(self, f.name) for f in fields(cast("Any", self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Self:
        """Read constants out of a study.

        Raises:
            ConfigError: a field is missing, unknown, of another type or out of its range.
        """
        known = {f.name: str(f.type) for f in fields(cast("Any", cls))}
        if set(body) != set(known):
            raise ConfigError(f"{cls.__name__.lower()}: exactly the fields {', '.join(sorted(known))} are needed")
        return cls(**{name: _typed(name, kind, body[name]) for name, kind in known.items()})

    def digest(self) -> bytes:
        """SHA-256 over the canonical bytes of all fields."""
        return hashlib.sha256(canonical(self.to_json())).digest()


def canonical(body: Mapping[str, object]) -> bytes:
    """Bytes of a flat mapping: JSON with sorted keys, floats as exact hexadecimal strings."""

    def exact(value: object) -> object:
        if isinstance(value, float):
            return value.hex()
        if isinstance(value, list | tuple):
            return [exact(v) for v in value]
        return value

    return json.dumps(
        {key: exact(value) for key, value in body.items()},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    ).encode()


def _typed(name: str, kind: str, value: object) -> object:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in value
    )
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return _real(name, value)
    if kind == "tuple[float, ...]" and numbers and isinstance(value, list | tuple):
        return tuple(_real(name, v) for v in value)
    if kind == "tuple[int, ...]" and isinstance(value, list | tuple) and all(type(v) is int for v in value):
        return tuple(value)
    raise ConfigError(f"field {name!r} must be of type {kind}")


def _real(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:  # a whole number of JSON may have any number of digits
        raise ConfigError(f"field {name!r} holds a number that is too large") from error
