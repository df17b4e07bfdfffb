"""What every file of ours that holds a model has in common: safetensors with one JSON head in its header.

Layout: tensors F64 of any shape; metadata "haemfed" = canonical JSON {"format", "digest", "card", …}, the rest being
the kind's own description of its form. The card is the caller's: profile hash, study hash, digest of the run's sums,
metrics with intervals, intended use, limits. Same content gives the same bytes. Reading runs no code and imports no
name from the file. Writing the bytes to disk atomically is the shell's job.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.data import Float64
from models.errors import ArtefactError, ConfigError, MisuseError, OtherKind

__all__ = [
    "MAX_BYTES",
    "MAX_HEADER",
    "REQUIRED_CARD",
    "check_card",
    "contents",
    "head_of",
    "pack",
    "read",
    "tensors_of",
    "verified",
]

MAX_BYTES: Final = 64 * 2**20
MAX_HEADER: Final = 2**20
REQUIRED_CARD: Final = ("profile", "study", "transcript", "metrics", "intended_use", "limits", "privacy")
"""What a card must say; the values are the caller's, JSON only."""

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "haemfed/survival-model": ("a survival model", "`haemfed model show`, `predict` and `export` take it"),
    "haemfed/generator": (
        "a generator of synthetic patients",
        "`haemfed synth sample` draws a table from it, which `haemfed synth export` writes as FHIR or CSV",
    ),
}
"""A format without its version → what such a file holds, and what to do with it."""

_PREFIX: Final = 8  # bytes of the header's length


class _Digested(Protocol):
    @property
    def digest(self) -> str: ...


Stored = TypeVar("Stored", bound=_Digested)


def check_card(card: Mapping[str, object]) -> None:
    """Refuse an incomplete card.

    Raises:
        MisuseError: a key of `REQUIRED_CARD` is missing.
    """
    if missing := [key for key in REQUIRED_CARD if key not in card]:
        raise MisuseError(f"a model card needs {', '.join(missing)}")


def pack(head: Mapping[str, object], tensors: Mapping[str, Float64]) -> bytes:
    """The complete file.

    Args:
        head: JSON values with "format", "digest" and "card"; no nan or infinity.
        tensors: float64, any shape.

    Raises:
        MisuseError: a value is not JSON, or the file or its head is larger than a reader accepts.
    """
    try:
        text = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MisuseError("a model card holds JSON values only, and no nan or infinity") from error
    stored = {name: np.array(tensor, dtype=np.float64, order="C") for name, tensor in tensors.items()}
    data: bytes = save_tensors(stored, metadata={"haemfed": text})
    if len(data) > MAX_BYTES or len(text) > MAX_HEADER // 2:
        raise MisuseError(f"model file or card is too large ({len(data)} bytes, card {len(text)})")
    return data


def head_of(data: bytes, wanted: str) -> dict[str, Any]:
    """The head of a file, its format, digest and card checked; everything else in it is the caller's to check.

    No tensor is built.

    Args:
        data: the file.
        wanted: its format, as "haemfed/generator/1".

    Raises:
        OtherKind: the file holds another kind of model; says which, and the commands that take it.
        ArtefactError: too large, not one of our files, another version of the format, or a malformed head.
    """
    head = _head(data)
    if head["format"] != wanted:
        raise _refused(head["format"], wanted)
    if not isinstance(head["digest"], str) or not isinstance(head["card"], dict):
        raise ArtefactError("the model file contradicts itself: its description of the model is malformed")
    return head


def contents(data: bytes) -> str | None:
    """What one of our files holds, and which commands take it; None of any other bytes."""
    try:
        found = _kind(_head(data)["format"])
    except ArtefactError:
        return None
    return ": ".join(found) if found else None


def _head(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise ArtefactError(f"the model file is larger than {MAX_BYTES} bytes; haemfed writes no such file")
    size = int.from_bytes(data[:_PREFIX], "little")
    if len(data) < _PREFIX or size > min(MAX_HEADER, len(data) - _PREFIX):
        raise ArtefactError("not a haemfed model file (no safetensors header)")
    try:
        head = _json(_json(data[_PREFIX : _PREFIX + size])["__metadata__"]["haemfed"])
        found = {key: head[key] for key in ("format", "digest", "card")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError("not a haemfed model file (its header has no haemfed card)") from error
    return dict(head) | found


def _kind(form: object) -> tuple[str, str] | None:
    return _KINDS.get(form.rpartition("/")[0]) if isinstance(form, str) else None


def _refused(found: object, wanted: str) -> ArtefactError:
    held, asked = _kind(found), _kind(wanted)
    if held is None or asked is None or held is asked:
        return ArtefactError("the model file has another format; this version reads " + wanted)
    return OtherKind(f"the file holds {held[0]}, not {asked[0]}: {held[1]}")


def tensors_of(data: bytes, wanted: Mapping[str, int] | None = None) -> dict[str, Float64]:
    """All tensors of a file whose head was read.

    Args:
        data: the file.
        wanted: name → number of dimensions of all tensors that there must be; None where their reader knows that.

    Raises:
        ArtefactError: damaged, other tensors than wanted, of another type than float64, or a number that is not finite.
    """
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("the model file is damaged: its tensors cannot be read") from error
    exact = all(tensor.dtype == np.float64 for tensor in tensors.values())
    if wanted is not None and not (exact and {name: tensor.ndim for name, tensor in tensors.items()} == wanted):
        names = ", ".join(f"{name!r}" for name in wanted)
        raise ArtefactError(
            f"the model file must hold exactly the float64 tensors {names}, of the dimensions it states"
        )
    if not exact:
        raise ArtefactError("the model file must hold float64 tensors only")
    if not all(np.all(np.isfinite(tensor)) for tensor in tensors.values()):
        raise ArtefactError("the model file holds numbers that are not finite")
    return dict(tensors)


def verified(head: Mapping[str, Any], build: Callable[[], Stored]) -> Stored:
    """The model that a file describes.

    Args:
        head: of the file.
        build: makes it from description and tensors.

    Raises:
        ArtefactError: `build` finds a contradiction (MisuseError, ConfigError), or the model's digest is not the one
            that the head states.
    """
    try:
        model = build()
    except (MisuseError, ConfigError) as error:
        raise ArtefactError(f"the model file contradicts itself: {error}") from error
    if model.digest != head["digest"]:
        raise ArtefactError("the model file was edited: its numbers do not have the digest that its card states")
    return model


def read(path: Path) -> bytes:
    """The bytes of a model file; at most one more than `MAX_BYTES`, which every reader then refuses.

    Raises:
        ArtefactError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtefactError(f"cannot read model file {path.name}: {error.strerror}") from error


def _json(text: bytes | str) -> Any:
    return json.loads(text, parse_float=_finite, parse_constant=_no_number)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_number(text)
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"not a finite number ({len(text)} characters)")
