"""What a model's card says to whoever uses the model: its profile, and its guarantee in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from harmonize.profile import Profile, load
from models.errors import ArtefactError

__all__ = ["digest_of", "profile_of", "protection"]

_LARGEST_EPSILON: Final = 1e6  # a card that states more states nothing
_PROTECTED: Final = "differentially private"
_UNPROTECTED: Final = f"not {_PROTECTED}"


def profile_of(card: Mapping[str, Any]) -> Profile:
    """The profile that a model was trained with.

    Raises:
        ArtefactError: the card names none, or this version ships another.
    """
    match card.get("profile"):
        case {"name": str(name), "digest": str(wanted)} if name.isidentifier():
            profile = load(name)
        case _:
            raise ArtefactError(
                "the model's card names no profile of this version; nothing can be said about its columns"
            )
    if profile.digest != wanted:
        raise ArtefactError(
            f"the model needs profile {profile.profile!r} with digest {wanted[:16]}…, this version ships another; "
            "use the version of haemfed that the study was run with"
        )
    return profile


def protection(card: Mapping[str, Any]) -> str:
    """One line about the guarantee, from the card; whoever says nothing is not protected.

    >>> protection({})
    'not differentially private'
    """
    privacy = card.get("privacy")
    stated = privacy.get("protection") if isinstance(privacy, dict) else None
    said = stated if isinstance(stated, str) and stated.isprintable() else ""
    epsilon, delta = (_stated(privacy, key) for key in ("epsilon", "delta"))
    if not isinstance(privacy, dict) or epsilon is None or delta is None:
        return said if said.startswith(_UNPROTECTED) else _UNPROTECTED
    parts = [f"{_PROTECTED}: ε = {epsilon:.3g} at δ = {delta:g}"]
    parts += [word for key in ("unit", "against") if isinstance(word := privacy.get(key), str) and word.isprintable()]
    return "; ".join([*parts, *filter(None, [said.removeprefix(f"{_PROTECTED}: ")])])


def digest_of(card: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the card as canonical JSON."""
    text = json.dumps(card, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _stated(privacy: object, key: str) -> float | None:
    """A number of a card, if it is one that can be meant."""
    found = privacy.get(key) if isinstance(privacy, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < _LARGEST_EPSILON:
        return None
    return float(found)
