"""What every file of ours that holds a model has in common: safetensors with one JSON head in its header.

Layout: tensors F64 of any shape; metadata "haemfed" = canonical JSON {"format", "digest", "card", …}, the rest being
the kind's own description of its form. The card is the caller's: profile hash, study hash, digest of the run's sums,
metrics with intervals, intended use, limits. Same content gives the same bytes. Reading runs no code and imports no
name from the file. Writing the bytes to disk atomically is the shell's job.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.data import Float64
from models.errors import ArtefactError, MisuseError

__all__ = ["MAX_BYTES", "MAX_HEADER", "REQUIRED_CARD", "check_card", "head_of", "pack", "read", "tensors_of"]

MAX_BYTES: Final = 64 * 2**20
MAX_HEADER: Final = 2**20
REQUIRED_CARD: Final = ("profile", "study", "transcript", "metrics", "intended_use", "limits", "privacy")
"""What a card must say; the values are the caller's, JSON only."""

_PREFIX: Final = 8  # bytes of the header's length


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
        ArtefactError: too large, not one of our files, another format, or a malformed head.
    """
    if len(data) > MAX_BYTES:
        raise ArtefactError(f"the model file is larger than {MAX_BYTES} bytes; haemfed writes no such file")
    size = int.from_bytes(data[:_PREFIX], "little")
    if len(data) < _PREFIX or size > min(MAX_HEADER, len(data) - _PREFIX):
        raise ArtefactError("not a haemfed model file (no safetensors header)")
    try:
        head = _json(_json(data[_PREFIX : _PREFIX + size])["__metadata__"]["haemfed"])
        found, digest, card = head["format"], head["digest"], head["card"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError("not a haemfed model file (its header has no haemfed card)") from error
    if found != wanted:
        raise ArtefactError("the model file has another format; this version reads " + wanted)
    if not isinstance(digest, str) or not isinstance(card, dict):
        raise ArtefactError("the model file contradicts itself: its description of the model is malformed")
    return dict(head)


def tensors_of(data: bytes) -> dict[str, Float64]:
    """All tensors of a file whose head was read.

    Raises:
        ArtefactError: damaged, of another type than float64, or a number that is not finite.
    """
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("the model file is damaged: its tensors cannot be read") from error
    if any(tensor.dtype != np.float64 for tensor in tensors.values()):
        raise ArtefactError("the model file must hold float64 tensors only")
    if not all(np.all(np.isfinite(tensor)) for tensor in tensors.values()):
        raise ArtefactError("the model file holds numbers that are not finite")
    return dict(tensors)


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
