"""Pseudonyms: one patient of one site, under one key, for ever."""

__all__ = ["normalised", "pseudonym"]

import base64
import hmac
import unicodedata
from typing import Final

from harmonize.errors import MisuseError

_PURPOSE: Final = b"haemfed/pseudonym/v1\0"
_KEY_BYTES: Final = 32
_PID_LENGTH: Final = 26  # base32 characters: 130 bits, no collision among all patients of the world
# Soft hyphen, zero-width blanks and joiners, direction marks, invisible operators, byte order mark.
_INVISIBLE: Final = dict.fromkeys(
    [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]  # None: deleted
)


def normalised(identifier: str) -> str:
    r"""How an identifier is written, whatever wrote it: one patient in FHIR and in CSV must be one patient here.

    Without invisible characters, in Unicode's form NFC, without white space at its ends; "" is no identifier.
    Invisible characters are removed rather than refused: they come with copy and paste, nobody can see or type them,
    and no hospital tells two patients apart by them. Case, leading zeros and inner blanks are kept: they may.

    >>> normalised(" 004711\u00a0"), normalised("\ufeffA-1\u200b"), normalised("\u200b ")
    ('004711', 'A-1', '')
    """
    if identifier.isascii():  # nearly all of them
        return identifier.strip()
    return unicodedata.normalize("NFC", identifier.translate(_INVISIBLE)).strip()


def pseudonym(key: bytes, system: str, identifier: str) -> str:
    """The table's pid: base32(HMAC-SHA256(key, purpose ‖ system ‖ 0 ‖ normalised identifier))[:26].

    One patient has one pseudonym at a site, in every source, snapshot and disease: the holdout and the
    privacy accounts follow it. Hospitals never share the key, so pseudonyms of two hospitals cannot be
    linked.
    """
    if len(key) != _KEY_BYTES:
        raise MisuseError(f"the pseudonym key must have {_KEY_BYTES} bytes, not {len(key)}")
    message = _PURPOSE + system.encode() + b"\0" + normalised(identifier).encode()
    return base64.b32encode(hmac.digest(key, message, "sha256")).decode("ascii")[:_PID_LENGTH]
