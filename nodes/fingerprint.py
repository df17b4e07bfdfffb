"""Short names of public keys, made to be read over the telephone.

160 bits of SHA-256 in base32, eight groups of four. The base32 alphabet (RFC 4648) has neither 0 nor 1, so
that O and I cannot be misread; finding another key with the same fingerprint costs 2^160 tries.
"""

import base64
import hashlib
import re
from typing import Final

__all__ = ["fingerprint", "normalise"]

_LABEL: Final = b"haemfed/fingerprint/v1\0"
_BYTES: Final = 20
_PATTERN: Final = re.compile(r"[A-Z2-7]{4}(?:-[A-Z2-7]{4}){7}")


def fingerprint(public_key: bytes) -> str:
    """Return the fingerprint of a public key.

    Args:
        public_key: Raw Ed25519 key (32 bytes) or DER SubjectPublicKeyInfo of a TLS authority.

    >>> fingerprint(bytes(32))
    '375P-OK7B-BUC7-VXM7-XPNA-V2PX-65YR-TVW5'
    """
    digest = hashlib.sha256(_LABEL + public_key).digest()[:_BYTES]
    text = base64.b32encode(digest).decode("ascii")
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def normalise(text: str) -> str:
    """Return a fingerprint as `fingerprint` writes it; case, spaces and hyphens of the input do not matter.

    Raises:
        ValueError: it is not a fingerprint.
    """
    letters = re.sub(r"[\s-]", "", text).upper()
    grouped = "-".join(letters[start : start + 4] for start in range(0, len(letters), 4))
    if not _PATTERN.fullmatch(grouped):
        raise ValueError("not a fingerprint: 8 groups of 4 from A-Z and 2-7")
    return grouped
