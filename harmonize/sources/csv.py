"""Delimited text: registry and REDCap exports, laboratory lists, spreadsheets; wide or long.

Nothing is guessed: encoding, delimiter, decimal sign, date formats, units and codes are declared in the
mapping file, and what does not fit the declaration is an issue. "12,5" under a decimal point is never 125.
"""

__all__ = ["read"]

import csv
import datetime as dt
import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harmonize.errors import MappingError, SourceError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer
from harmonize.mapping import Column, Csv
from harmonize.mapping.fitting import introduces
from harmonize.profile import Profile
from harmonize.pseudonyms import normalised
from harmonize.sources.cells import DAY0, UNSEEN, Cell, Cells, Row
from harmonize.sources.columns import reader
from harmonize.sources.decoding import Lines
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.spreadsheets import is_damaged, is_rounded_identifier

_EVENT: Final = "redcap_event_name"
_INSTRUMENT: Final = "redcap_repeat_instrument"


def read(source: Readable, mapping: Csv, profile: Profile) -> Iterator[Item]:
    """Read one CSV file.

    Raises:
        MappingError: a mapped column is not in the header, the header has a name twice, or the file is a
            REDCap export with several rows a patient and the mapping does not say so.
        SourceError: not in the declared encoding, broken quoting, no header, or more than 1 % of the rows
            ragged.
    """
    with opened(source) as (stream, name):
        lines = Lines(stream, name, mapping.csv.encoding)
        if lines.marked:
            yield Issue("byte-order-mark", Pointer(name, 1))
        yield from _Reader(lines, name, mapping, profile).items()


class _Reader:
    """One pass over one file."""

    def __init__(self, lines: Lines, name: str, mapping: Csv, profile: Profile) -> None:
        self._rows = csv.reader(lines, delimiter=mapping.csv.delimiter, strict=True)
        self._name = name
        self._mapping = mapping
        self._profile = profile
        # Relative dates without any date of diagnosis: all patients share one day 0.
        self._common_day0 = Fact.INDEX_DATE not in mapping.columns

    def items(self) -> Iterator[Item]:
        header = self._next()
        if header is None:
            raise SourceError(f"{self._name}: is empty; there is no header")
        names = [name.strip() for name in header]
        index = self._index(names)
        rows = self._form(Cells(self._name, self._mapping, self._profile, index), index)
        strikes = Strikes(self._name, "row")
        while (cells := self._next()) is not None:
            if not any(cells):
                continue
            line = self._rows.line_num
            if len(cells) != len(names):
                yield Issue("row-ragged", Pointer(self._name, line))
                strikes.strike(line)
                continue
            strikes.good()
            yield from self._row(list(map(str.strip, cells)), line, index, rows)
        strikes.verdict()
        yield from rows.unseen()

    def _form(self, cells: Cells, index: Mapping[str, int]) -> "_Rows":
        introducing = introduces(self._mapping, self._profile)
        if self._mapping.long is not None:
            return _LongRows(cells, index, introducing)
        if self._mapping.redcap is not None:
            return _RedcapRows(cells, index, introducing)
        return _WideRows(cells, index, introducing)

    def _next(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except csv.Error:
            raise SourceError(
                f"{self._name}: after line {self._rows.line_num}: broken quoting or an oversized cell; "
                "check the quotes there, and delimiter under [csv]"
            ) from None

    def _index(self, names: Sequence[str]) -> Mapping[str, int]:
        """Column name -> position."""
        for name, place in _mapped(self._mapping).items():
            if name not in names:
                raise MappingError(f"{self._name}: {place} names {name!r}, not in the header; {_hint(name, names)}")
            if names.count(name) > 1:
                raise MappingError(f"{self._name}: the header has {name!r} twice; rename one of the columns")
        seen: dict[str, int] = {}
        for at, name in enumerate(names, start=1):
            if name and (first := seen.setdefault(name, at)) != at:
                raise MappingError(f"{self._name}: columns {first} and {at} have the same name; rename one of them")
        if _EVENT in seen and self._mapping.redcap is None and self._mapping.long is None:
            raise MappingError(
                f"{self._name}: a REDCap export with several rows a patient; add [redcap], and event or instrument "
                "to the columns"
            )
        return {name: at - 1 for name, at in seen.items()}

    def _row(self, cells: list[str], line: int, index: Mapping[str, int], rows: "_Rows") -> list[Item]:
        column = self._mapping.patient.column
        identifier = normalised(cells[index[column]])
        if not identifier:
            return [Issue("identifier-missing", Pointer(self._name, line, column))]
        if is_rounded_identifier(identifier):
            return [Issue("excel-identifier", Pointer(self._name, line, column))]
        row = Row(cells, line, self._mapping.patient.key(identifier), DAY0 if self._common_day0 else None, [])
        rows.read(row, identifier)
        return row.items


class _Rows:
    """What a row means: one patient, one measurement, or one event of a patient."""

    def __init__(self, cells: Cells, index: Mapping[str, int], introducing: bool) -> None:  # noqa: FBT001
        self._cells = cells
        self._index = index
        self._introducing = introducing
        self._seen: set[str] = set()

    def read(self, row: Row, identifier: str) -> None:
        """Append a row's items."""
        raise NotImplementedError

    def unseen(self) -> Iterator[Issue]:
        """Issues about what the mapping names and no row has."""
        return iter(())

    def _introduce(self, row: Row, identifier: str, fingerprint: str, line: int) -> None:
        if not self._introducing:
            return
        where = Pointer(self._cells.file, line)
        system = self._cells.source.patient.system
        row.items.append(PatientRecord((row.patient,), system, identifier, fingerprint, "", where))
        if row.day0 is not None:
            row.items.append(Event(row.patient, Fact.INDEX_DATE, row.day0, where))

    def _once(self, row: Row, identifier: str) -> None:
        """One record for all rows of a patient; at line 0, so that no row goes with it."""
        if identifier not in self._seen:
            self._seen.add(identifier)
            self._introduce(row, identifier, "rows", 0)


class _WideRows(_Rows):
    """One row a patient; the day of diagnosis is read first, because other dates may count from it."""

    def __init__(self, cells: Cells, index: Mapping[str, int], introducing: bool) -> None:  # noqa: FBT001
        super().__init__(cells, index, introducing)
        columns = sorted(cells.source.columns.items(), key=lambda item: item[0] != Fact.INDEX_DATE)
        self._readers = [reader(target, column, cells) for target, column in columns]
        self._dated = Fact.INDEX_DATE in cells.source.columns
        self._mapped = [index[name] for name in _mapped(cells.source)]

    def read(self, row: Row, identifier: str) -> None:
        mapped = repr([row.cells[at] for at in self._mapped])
        self._introduce(row, identifier, hashlib.sha256(mapped.encode()).hexdigest(), row.line)
        first, *others = self._readers
        first(row)
        if self._dated:
            row.day0 = _day0(row)
        cells, line, patient, file, items = row.cells, row.line, row.patient, self._cells.file, row.items
        for each in others:
            # Most cells of a registry are texts that were seen before: half of the time of a file is this loop.
            known = each.known.get(cells[each.at], UNSEEN)
            if known is UNSEEN:
                each(row)
            elif known is not None:
                where = Pointer(file, line, each.name)
                items.append(Event(patient, each.target, known[0], where, None, None, known[1]))


class _LongRows(_Rows):
    """One row a measurement; the code column says of what."""

    def __init__(self, cells: Cells, index: Mapping[str, int], introducing: bool) -> None:  # noqa: FBT001
        super().__init__(cells, index, introducing)
        self._readers = {
            text: reader(target, column, cells)
            for target, column in cells.source.columns.items()
            for text in column.code
        }
        self._code = cells.source.long.code if cells.source.long else ""
        self._unseen = set(self._readers)

    def read(self, row: Row, identifier: str) -> None:
        self._once(row, identifier)
        code = row.cells[self._index[self._code]]
        found = self._readers.get(code)
        if found is not None:
            self._unseen.discard(code)
            found(row)
        elif is_damaged(code):
            row.items.append(Issue("excel-date-damage", Pointer(self._cells.file, row.line, self._code)))

    def unseen(self) -> Iterator[Issue]:
        names = {text: target for target, column in self._cells.source.columns.items() for text in column.code}
        for text in sorted(self._unseen):
            yield Issue("code-unseen", Pointer(self._cells.file, 0, self._code), names[text])


class _RedcapRows(_Rows):
    """Several rows a patient: an event, or one instance of a repeating instrument; each fills its own columns."""

    def __init__(self, cells: Cells, index: Mapping[str, int], introducing: bool) -> None:  # noqa: FBT001
        super().__init__(cells, index, introducing)
        self._events = frozenset(cells.source.redcap.event if cells.source.redcap else ())
        self._groups: dict[str, list[tuple[frozenset[str], str, Cell]]] = {}
        self._unseen: set[str] = set()
        for target, column in cells.source.columns.items():
            entry = (frozenset(column.event) or self._events, target, reader(target, column, cells))
            self._groups.setdefault(column.instrument or "", []).append(entry)
            self._unseen.add(target)

    def read(self, row: Row, identifier: str) -> None:
        self._once(row, identifier)
        event = row.cells[self._index[_EVENT]] if _EVENT in self._index else ""
        instrument = row.cells[self._index[_INSTRUMENT]] if _INSTRUMENT in self._index else ""
        for events, target, found in self._groups.get(instrument, ()):
            if not events or event in events:
                self._unseen.discard(target)
                found(row)

    def unseen(self) -> Iterator[Issue]:
        for target in sorted(self._unseen):
            yield Issue("code-unseen", Pointer(self._cells.file), target)


def _day0(row: Row) -> dt.date | None:
    for item in row.items:
        if isinstance(item, Event) and isinstance(item.value, dt.date):
            return item.value
    return None


def _mapped(source: Csv) -> dict[str, str]:
    """Column name -> the key of the mapping that names it."""
    wanted = {source.patient.column: "patient.column"}
    if source.long is not None:
        for key in ("code", "value", "unit", "date"):
            if name := getattr(source.long, key):
                wanted[name] = f"long.{key}"
    for target, column in source.columns.items():
        wanted |= {name: f"columns.{target}.{key}" for key, name in _columns(column)}
    return wanted


def _columns(column: Column) -> Iterator[tuple[str, str]]:
    for key in ("column", "unit_column", "date_column", "tested_column", "event_column"):
        if name := getattr(column, key):
            yield key, name
    for name in column.checkboxes:
        yield "checkboxes", name


def _hint(name: str, names: Sequence[str]) -> str:
    # Never the whole header: in a file without one, the first row is a patient.
    match = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {match[0]!r}?" if match else "the first row must hold the column names"
