"""Byte order marks, and the encodings that they give away."""

__all__ = ["without_mark"]

import codecs

from harmonize.errors import SourceError


def without_mark(head: bytes, name: str) -> tuple[bytes, bool]:
    """Remove a UTF-8 byte order mark from the start of a file.

    Returns:
        the rest, and whether there was one.

    Raises:
        SourceError: the mark is one of UTF-16 or UTF-32.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{name}: is UTF-16; save it as UTF-8")
    if head.startswith(codecs.BOM_UTF8):
        return head[len(codecs.BOM_UTF8) :], True
    return head, False
