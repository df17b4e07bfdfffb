"""Opening sources, and the rule by which a broken one is refused as a whole."""

__all__ = ["Place", "Readable", "Strikes", "find", "opened"]

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from harmonize.errors import MappingError, SourceError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BAD_SHARE: Final = 100  # one bad line in a hundred is the most that a source may have
_GZIP: Final = b"\x1f\x8b"
_MOST_INFLATED: Final = 200  # times; exports shrink to a tenth or a fiftieth, a bomb to a thousandth
_UNJUDGED: Final = 1 << 20  # bytes before the ratio is looked at: small files may be all alike


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A file, and the name under which reports call it: no other file of the mapping has the same.

    A fact is known by file and line. With the bare name, `2019/patients.csv` and `2020/patients.csv` would be one file,
    and a line that is withdrawn in one of them would go from both.
    """

    path: Path
    name: str


Readable = Path | Place | BinaryIO


def find(folder: Path, patterns: tuple[str, ...]) -> list[Place]:
    """The files that a mapping names, each once, sorted by path; named by their path below the folder.

    Raises:
        MappingError: a name or pattern matches no file, or is no pattern.
    """
    found: set[Path] = set()
    for pattern in patterns:
        try:
            matches = [path for path in folder.glob(pattern) if path.is_file()]
        except (ValueError, IndexError, AttributeError, NotImplementedError):  # pathlib's words for "no pattern"
            matches = []
        if not matches:
            raise MappingError(f"files: nothing matches {pattern!r} beside the mapping file")
        found.update(matches)
    return [Place(path, path.relative_to(folder).as_posix()) for path in sorted(found)]


@contextmanager
def opened(source: Readable) -> Iterator[tuple[BinaryIO, str]]:
    """A binary stream and the name under which reports call it; closes only what it opened.

    What begins as gzip is inflated while it is read.

    Raises:
        SourceError: not found; and while reading: the gzip is damaged, cut off, or inflates more than 200-fold.
    """
    if isinstance(source, Path | Place):
        path = source if isinstance(source, Path) else source.path
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            raise SourceError(f"{source.name}: not found") from None
        with stream:
            yield _inflated(stream, source.name), source.name
    else:
        name = Path(str(getattr(source, "name", "stream"))).name
        yield _inflated(source, name), name


def _inflated(stream: BinaryIO, name: str) -> BinaryIO:
    if not stream.seekable():
        return stream
    start = stream.tell()
    head = stream.read(len(_GZIP))
    stream.seek(start)
    return cast("BinaryIO", io.BufferedReader(_Inflated(stream, name))) if head == _GZIP else stream


class _Inflated(io.RawIOBase):
    """Inflates a stream, and refuses what inflates too much."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._start = stream.tell()
        self._gzip = gzip.GzipFile(fileobj=stream)
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._gzip.read(len(view))
        except (EOFError, OSError, zlib.error):
            raise SourceError(f"{self._name}: damaged or cut-off gzip; copy or export the file again") from None
        self._given += len(data)
        if self._given > max(_UNJUDGED, _MOST_INFLATED * (self._stream.tell() - self._start)):
            raise SourceError(f"{self._name}: inflates more than {_MOST_INFLATED}-fold; not an export")
        view[: len(data)] = data
        return len(data)


@dataclass(slots=True)
class Strikes:
    """Counts readable and unreadable lines (rows, entries) of one file.

    Single broken lines are issues; a file that is broken all over is refused, because nobody knows then what
    is missing from it.
    """

    name: str
    unit: str  # "line", "row" or "entry"
    total: int = 0
    bad: int = 0
    first: int = 0

    def good(self) -> None:
        """Count a readable one."""
        self.total += 1

    def strike(self, number: int) -> None:
        """Count an unreadable one."""
        self.total += 1
        self.bad += 1
        self.first = self.first or number

    def verdict(self) -> None:
        """Judge the file once it has been read.

        Raises:
            SourceError: more than one in a hundred was unreadable.
        """
        if self.bad * _BAD_SHARE > self.total:
            raise SourceError(
                f"{self.name}: {self.bad} of {self.total} cannot be read, first at {self.unit} {self.first}; "
                "at most 1 % may be; export the file again"
            )
