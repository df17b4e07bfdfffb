"""Opening sources, and the rule by which a broken one is refused as a whole."""

__all__ = ["Readable", "Strikes", "find", "opened"]

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from harmonize.errors import MappingError, SourceError

Readable = Path | BinaryIO

_BAD_SHARE: Final = 100  # one bad line in a hundred is the most that a source may have


def find(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files that a mapping names, each once, sorted by name.

    Raises:
        MappingError: a name or pattern matches no file.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [path for path in folder.glob(pattern) if path.is_file()]
        if not matches:
            raise MappingError(f"files: nothing matches {pattern!r} beside the mapping file")
        found.update(matches)
    return sorted(found)


@contextmanager
def opened(source: Readable) -> Iterator[tuple[BinaryIO, str]]:
    """A binary stream and the name under which reports call it; closes only what it opened."""
    if isinstance(source, Path):
        try:
            stream = source.open("rb")
        except FileNotFoundError:
            raise SourceError(f"{source.name}: not found") from None
        with stream:
            yield stream, source.name
    else:
        yield source, Path(str(getattr(source, "name", "stream"))).name


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
