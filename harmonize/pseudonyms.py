"""Pseudonyms: one patient of one site, under one key, for ever."""

__all__ = ["pseudonym"]

import base64
import hmac
from typing import Final

from harmonize.errors import MisuseError

_PURPOSE: Final = b"haemfed/pseudonym/v1\0"
_KEY_BYTES: Final = 32
_PID_LENGTH: Final = 26  # base32 characters: 130 bits, no collision among all patients of the world


def pseudonym(key: bytes, system: str, identifier: str) -> str:
    """The table's pid: base32(HMAC-SHA256(key, purpose ‖ system ‖ 0 ‖ identifier))[:26].

    One patient has one pseudonym at a site, in every source, snapshot and disease: the holdout and the
    privacy accounts follow it. Hospitals never share the key, so pseudonyms of two hospitals cannot be
    linked.
    """
    if len(key) != _KEY_BYTES:
        raise MisuseError(f"the pseudonym key must have {_KEY_BYTES} bytes, not {len(key)}")
    message = _PURPOSE + system.encode() + b"\0" + identifier.encode()
    return base64.b32encode(hmac.digest(key, message, "sha256")).decode("ascii")[:_PID_LENGTH]
