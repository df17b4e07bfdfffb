"""FHIR R4 bulk export: newline-delimited JSON, one resource a line, read as a stream."""

__all__ = ["lines", "read"]

from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO, Final

from harmonize.errors import SourceError
from harmonize.events import Issue, Item, Pointer
from harmonize.mapping import Ndjson, Server
from harmonize.profile import Profile
from harmonize.resources import Observation, Resource
from harmonize.sources.depth import DEEPEST, line_count
from harmonize.sources.fhir import Reader, Undecodable
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.sources.text import without_mark
from harmonize.sources.typed import decode_foreign, decode_lines, foreign

MAX_LINE: Final = 16 << 20  # bytes; embedded documents belong into Binary, which is never read
_BLOCK: Final = 64 << 10  # bytes decoded in one call: its cost vanishes, and what is made of them stays in the cache


def read(source: Readable, mapping: Ndjson | Server, profile: Profile, reader: Reader | None = None) -> Iterator[Item]:
    """Read one NDJSON file, or gzip of one; what it says about patients of other files is joined in the table.

    Args:
        source: a path, or a stream of bytes.
        mapping: which identifier is the hospital's own.
        profile: codes to look for.
        reader: of the source that this file belongs to, which then finishes it; its own if None.

    Raises:
        SourceError: UTF-16, a line beyond 16 MiB, another FHIR release, damaged gzip, or more than 1 % of the lines
            unreadable.
    """
    own = Reader(mapping.patient, profile) if reader is None else reader
    yield from lines(source, own)
    if reader is None:
        yield from own.finish()


def lines(source: Readable, reader: Reader) -> Generator[Item, None, int]:
    """Read one file for a reader that goes on; returns the number of resources.

    Raises:
        SourceError: as `read`.
    """
    with opened(source) as (stream, name):
        file = _File(reader, name)
        for items in file.blocks(stream):
            yield from items
        return file.strikes.total


class _File:
    """One file: whole blocks of lines at once where nothing is odd, else line by line."""

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader = reader
        self._name = name
        self.strikes = Strikes(name, "line")
        self._number = 0  # lines read

    def blocks(self, stream: BinaryIO) -> Iterator[Iterable[Item]]:
        """Items in the order of lines, a block of lines at a time."""
        for lines in self._blocks(stream):
            if self._number == 0:
                lines, marked = without_mark(lines, self._name)  # noqa: PLW2901  the same, but for its first bytes
                if marked:
                    yield (Issue("byte-order-mark", Pointer(self._name, 1)),)
            at_once = self._at_once(lines)
            yield self._one_by_one(lines) if at_once is None else at_once
        self.strikes.verdict()

    def _blocks(self, stream: BinaryIO) -> Iterator[bytes]:
        """Whole lines, some 256 KiB of them."""
        parts: list[bytes] = []
        held = 0
        while block := stream.read(_BLOCK):
            cut = block.rfind(b"\n") + 1
            first = block.find(b"\n") if cut else len(block)
            if held + first > MAX_LINE:
                number = self._number + 1
                raise SourceError(
                    f"{self._name}: line {number} is longer than {MAX_LINE >> 20} MiB; not an NDJSON export"
                )
            parts.append(block[:cut] if cut else block)
            held += len(parts[-1])
            if cut:
                yield b"".join(parts)
                parts = [block[cut:]]
                held = len(parts[0])
        if held:
            yield b"".join(parts)

    def _at_once(self, lines: bytes) -> list[Item] | None:
        """Items of a block in which every line holds a resource of one kind; None, and nothing counted, else."""
        count, deep = line_count(lines)
        if deep >= 0:
            raise SourceError(
                f"{self._name}: line {self._number + deep + 1} is nested deeper than {DEEPEST} levels; not an export"
            )
        if self._reader.line_by_line:
            return None
        resources: list[Resource] = []
        try:
            if not lines.isascii():
                lines.decode()  # fields that are skipped are not looked at by the decoder
            if foreign(lines) is not None:
                if decode_foreign(lines) != count:
                    return None
                self._reader.ignore(self._name, self._number + 1, count)
            elif len(resources := decode_lines(lines)) != count:
                return None
        except Exception:  # noqa: BLE001  whatever it is, it is said again of the line that it belongs to
            return None
        first = self._number + 1
        self._number += count
        self.strikes.total += count
        return self._decoded(resources, first)

    def _decoded(self, resources: list[Resource], number: int) -> list[Item]:
        decoded, name = self._reader.decoded, self._name
        observed = decoded if self._reader.deleted else self._reader.observations.items
        found: list[Item] = []
        for resource in resources:
            found += (
                observed(resource, name, number) if type(resource) is Observation else decoded(resource, name, number)
            )
            number += 1
        return found

    def _one_by_one(self, lines: bytes) -> Iterator[Item]:
        for line in lines.removesuffix(b"\n").split(b"\n"):
            self._number += 1
            if not line.strip():
                continue
            try:
                if not line.isascii():
                    line.decode()
                items = self._reader.items(line, self._name, self._number)
            except UnicodeDecodeError:
                yield Issue("structure", Pointer(self._name, self._number))
                self.strikes.strike(self._number)
            except Undecodable as error:
                yield error.issue
                self.strikes.strike(self._number)
            else:
                yield from items
                self.strikes.good()
