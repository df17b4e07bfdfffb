"""FHIR R4 bulk export: newline-delimited JSON, one resource a line, read as a stream."""

__all__ = ["read"]

from collections.abc import Iterator
from typing import Final

from harmonize.errors import SourceError
from harmonize.events import Issue, Item, Pointer
from harmonize.mapping import Ndjson
from harmonize.profile import Profile
from harmonize.sources.fhir import Undecodable, translate
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.sources.text import without_mark

MAX_LINE: Final = 16 << 20  # bytes; embedded documents belong into Binary, which is never read


def read(source: Readable, mapping: Ndjson, profile: Profile) -> Iterator[Item]:
    """Read one NDJSON file; what it says about patients of other files is joined when the table is built.

    Raises:
        SourceError: UTF-16, a line beyond 16 MiB, another FHIR release, or more than 1 % of the lines
            unreadable.
    """
    with opened(source) as (stream, name):
        strikes = Strikes(name, "line")
        number = 0
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise SourceError(f"{name}: line {number} is longer than {MAX_LINE >> 20} MiB; not an NDJSON export")
            if number == 1:
                line, marked = without_mark(line, name)
                if marked:
                    yield Issue("byte-order-mark", Pointer(name, 1))
            if not line.strip():
                continue
            try:
                yield from translate(line, Pointer(name, number), mapping.patient, profile)
            except Undecodable as error:
                yield error.issue
                strikes.strike(number)
            else:
                strikes.good()
        strikes.verdict()
