"""Bytes of a delimited text file to lines, in the declared encoding: a wrong declaration is named, not survived."""

__all__ = ["Lines"]

import codecs
import difflib
import encodings.aliases
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from harmonize.errors import MappingError, SourceError

MAX_LINE: Final = 16 << 20
_HEAD: Final = 1 << 16
# Codecs of Python that no file is in; two of them make half characters, which have no UTF-8 and so no pseudonym.
_NO_FILES: Final = frozenset({"undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape"})
_UTF8: Final = frozenset({"utf-8", "utf-8-sig"})
# In this order: cp1252 has no character for five bytes, of which cp850 uses one for ü.
_CANDIDATES: Final = ("utf-8", "cp1252", "cp850")


class Lines:
    r"""The lines of a stream, with their ends (\n, \r\n or bare \r); leaves the stream open.

    Attributes:
        marked: whether the file starts with a UTF-8 byte order mark, which is no part of the first line.

    Raises:
        MappingError: Python knows no such encoding.
        SourceError: when made or while read: another encoding than declared, or a line over 16 MiB.
    """

    def __init__(self, stream: BinaryIO, name: str, encoding: str) -> None:
        self._name = name
        self._encoding = _codec(encoding, name)
        self.number = 0
        head = stream.read(_HEAD)
        self.marked = head.startswith(codecs.BOM_UTF8)
        self._check(head)
        rest = io.BufferedReader(_Joined(head.removeprefix(codecs.BOM_UTF8), stream), 1 << 16)
        self._text = io.TextIOWrapper(rest, encoding=encoding, newline="")

    def __iter__(self) -> Iterator[str]:
        try:
            while line := self._text.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise SourceError(
                        f"{self._name}: after line {self.number}: a line over {MAX_LINE >> 20} MiB; "
                        "check line ends and quotes there"
                    )
                self.number += 1
                yield line
        except UnicodeError as error:
            data = error.object if isinstance(error, UnicodeDecodeError) else b""
            raise SourceError(
                f"{self._name}: after line {self.number}: not {self._encoding}; declare the file's encoding under "
                f"[csv] ({_suggestion(data, self._encoding)}), or save it as UTF-8"
            ) from None

    def _check(self, head: bytes) -> None:
        """Encodings that would be read without an error, as other characters."""
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not self._encoding.startswith("utf-16"):
            raise SourceError(f'{self._name}: not {self._encoding} but UTF-16; declare encoding = "utf-16" under [csv]')
        if self._encoding in _UTF8:
            return
        # Umlauts in cp1252 are no valid UTF-8: text that is both, and not plain ASCII, is UTF-8.
        if self.marked or (not head.isascii() and _reads(head, "utf-8") and b"\0" not in head):
            raise SourceError(f'{self._name}: not {self._encoding} but UTF-8; declare encoding = "utf-8" under [csv]')


class _Joined(io.RawIOBase):
    """What was read ahead, then the rest of a stream; closing it leaves the stream open."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        chunk = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _codec(encoding: str, name: str) -> str:
    try:
        "".encode(encoding)
        codec = codecs.lookup(encoding).name
    except (LookupError, ValueError):  # ValueError: a codec that only refuses, or a name that is none
        codec = ""
    if not codec or codec in _NO_FILES:
        known = {alias.replace("_", "-") for alias in encodings.aliases.aliases} | {"cp1252", "utf-8"}
        match = difflib.get_close_matches(encoding.lower(), sorted(known), n=1)
        hint = f"; did you mean {match[0]!r}?" if match else ""
        raise MappingError(f"csv.encoding: Python knows no encoding {encoding!r} (for {name}){hint}") from None
    return codec


def _suggestion(data: bytes, declared: str) -> str:
    for encoding in _CANDIDATES:
        if encoding != declared and _reads(data, encoding):
            return f'encoding = "{encoding}" would read it; look at the umlauts'
    return "often cp1252"


def _reads(data: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True
