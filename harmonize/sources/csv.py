"""Delimited text with one row a patient: registry and REDCap exports, spreadsheets.

Nothing is guessed: encoding, delimiter, decimal sign, date formats, units and codes are declared in the
mapping file, and what does not fit the declaration is an issue. "12,5" under a decimal point is never 125.
"""

__all__ = ["parse_number", "read"]

import csv
import datetime as dt
import difflib
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Final

from harmonize.dates import parse_declared
from harmonize.errors import MappingError, SourceError
from harmonize.events import FACTS, Event, Fact, Issue, Item, PatientRecord, Pointer, State
from harmonize.mapping import Column, Csv, Dialect
from harmonize.profile import CodeVariable, Profile
from harmonize.sources.facts import judge_date
from harmonize.sources.files import Readable, Strikes, opened

_MISSING: Final = {
    "not-recorded": State.NOT_RECORDED,
    "unknown": State.UNKNOWN,
    "not-tested": State.NOT_TESTED,
}
_COMPARATOR = re.compile(r"(?P<sign>[<>]=?)?\s*(?P<number>.*)")


def read(source: Readable, mapping: Csv, profile: Profile) -> Iterator[Item]:
    """Read one CSV file.

    Raises:
        MappingError: a mapped column is not in the header, or the header has it twice.
        SourceError: not in the declared encoding, broken quoting, no header, or more than 1 % of the rows
            ragged.
    """
    with opened(source) as (stream, name):
        text = io.TextIOWrapper(stream, encoding=_codec(mapping.csv, name), newline="")
        try:
            yield from _Reader(text, name, mapping, profile).items()
        finally:
            text.detach()  # the stream belongs to whoever opened it


def parse_number(text: str, dialect: Dialect) -> tuple[Decimal, State] | None:
    """A number in the declared notation, with its comparator as a state; None if it is not one.

    >>> german = Dialect(decimal=",", thousands=".")
    >>> [parse_number(text, german) for text in ("1.234,5", "<0,5", "1.23")]
    [(Decimal('1234.5'), <State.VALUE: 0>), (Decimal('0.5'), <State.BELOW_LIMIT: 6>), None]
    >>> [parse_number(text, Dialect()) for text in ("12,5", "NaN", "1e400x", "")]
    [None, None, None, None]
    """
    match = _COMPARATOR.fullmatch(text.strip())
    if match is None or not _number_pattern(dialect.decimal, dialect.thousands).fullmatch(match["number"]):
        return None
    digits = match["number"]
    if dialect.thousands is not None:
        digits = digits.replace(dialect.thousands, "")
    value = Decimal(digits.replace(dialect.decimal, "."))
    if match["sign"]:
        return value, State.BELOW_LIMIT if match["sign"].startswith("<") else State.ABOVE_LIMIT
    return value, State.VALUE


@cache
def _number_pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    whole = r"[0-9]{1,30}"
    if thousands is not None:
        # Groups of three or no groups: "1,23" under thousands="," is a mistake, not 123.
        whole = rf"(?:{whole}|[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}}){{1,9}})"
    return re.compile(rf"[+-]?{whole}(?:{re.escape(decimal)}[0-9]{{1,30}})?(?:[eE][+-]?[0-9]{{1,2}})?")


def _codec(dialect: Dialect, name: str) -> str:
    try:
        "".encode(dialect.encoding)
    except LookupError:
        raise MappingError(f"csv.encoding: Python knows no encoding {dialect.encoding!r} (for {name})") from None
    return dialect.encoding


def _hint(name: str, names: Sequence[str]) -> str:
    # Never the whole header: in a file without one, the first row is a patient.
    match = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {match[0]!r}?" if match else "the first row must hold the column names"


class _Reader:
    """One pass over one file."""

    def __init__(self, text: io.TextIOWrapper, name: str, mapping: Csv, profile: Profile) -> None:
        self._rows = csv.reader(text, delimiter=mapping.csv.delimiter, strict=True)
        self._name = name
        self._mapping = mapping
        self._profile = profile

    def items(self) -> Iterator[Item]:
        header = self._next()
        if header is None:
            raise SourceError(f"{self._name}: is empty; there is no header")
        if header and header[0].startswith("\ufeff"):
            header[0] = header[0].removeprefix("\ufeff")
            yield Issue("byte-order-mark", Pointer(self._name, 1))
        index = self._index(header)
        strikes = Strikes(self._name, "row")
        while (row := self._next()) is not None:
            if not any(row):
                continue
            line = self._rows.line_num
            if len(row) != len(header):
                yield Issue("row-ragged", Pointer(self._name, line))
                strikes.strike(line)
                continue
            strikes.good()
            yield from self._patient(row, line, index)
        strikes.verdict()

    def _next(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except UnicodeDecodeError:
            raise SourceError(
                f"{self._name}: after line {self._rows.line_num}: not {self._mapping.csv.encoding}; "
                "declare the file's encoding under [csv] (often cp1252), or save it as UTF-8"
            ) from None
        except csv.Error:
            raise SourceError(
                f"{self._name}: after line {self._rows.line_num}: broken quoting or an oversized cell; "
                "check the quotes there, and delimiter under [csv]"
            ) from None

    def _index(self, header: Sequence[str]) -> Mapping[str, int]:
        """Column name -> position, for every mapped column."""
        names = [name.strip() for name in header]
        wanted = {self._mapping.patient.column: "patient.column"}
        for target, column in self._mapping.columns.items():
            wanted[column.column] = f"columns.{target}.column"
            if column.unit_column:
                wanted[column.unit_column] = f"columns.{target}.unit_column"
            if column.date_column:
                wanted[column.date_column] = f"columns.{target}.date_column"
        for name, place in wanted.items():
            if name not in names:
                raise MappingError(f"{self._name}: {place} names {name!r}, not in the header; {_hint(name, names)}")
            if names.count(name) > 1:
                raise MappingError(f"{self._name}: the header has {name!r} twice; rename one of the columns")
        return {name: names.index(name) for name in wanted}

    def _patient(self, row: Sequence[str], line: int, index: Mapping[str, int]) -> Iterator[Item]:
        cells = {column: row[place].strip() for column, place in index.items()}
        column = self._mapping.patient.column
        identifier = cells[column]
        if not identifier:
            yield Issue("identifier-missing", Pointer(self._name, line, column))
            return
        yield PatientRecord(
            keys=(identifier,),
            system=self._mapping.patient.system,
            identifier=identifier,
            fingerprint=hashlib.sha256(repr(sorted(cells.items())).encode()).hexdigest(),
            version="",
            where=Pointer(self._name, line),
        )
        for target, mapped in self._mapping.columns.items():
            where = Pointer(self._name, line, mapped.column)
            text = cells[mapped.column]
            state = self._missing(text)
            if state is not None:
                # A date that is there counts: "not tested" far from the diagnosis says nothing about the
                # diagnosis.
                time, _ = self._time(target, mapped, cells)
                yield Event(identifier, target, None, where, time=time, state=state)
            elif target == Fact.DECEASED:
                yield from self._truth(identifier, mapped, text, where)
            elif target in FACTS:
                yield from self._date(identifier, Fact(target), mapped, text, where)
            elif isinstance(self._profile.variable(target), CodeVariable):
                yield Event(identifier, target, mapped.codes.get(text, text), where)
            else:
                yield from self._number(identifier, target, mapped, where, cells)

    def _missing(self, text: str) -> State | None:
        if not text:
            return State.NOT_RECORDED
        reason = self._mapping.csv.missing.get(text)
        return None if reason is None else _MISSING[reason]

    def _truth(self, patient: str, mapped: Column, text: str, where: Pointer) -> Iterator[Item]:
        answer = mapped.codes.get(text)
        if answer is None:
            yield Issue("code-unknown", where, Fact.DECEASED)
        else:
            yield Event(patient, Fact.DECEASED, answer == "true", where)

    def _date(self, patient: str, fact: Fact, mapped: Column, text: str, where: Pointer) -> Iterator[Item]:
        date, issues = judge_date(parse_declared(text, mapped.date_format), fact)
        for issue in issues:
            yield Issue(issue, where, fact)
        if date is None:
            yield Event(patient, fact, None, where, state=State.INVALID)
        else:
            yield Event(patient, fact, date, where)

    def _number(
        self, patient: str, target: str, mapped: Column, where: Pointer, cells: Mapping[str, str]
    ) -> Iterator[Item]:
        parsed = parse_number(cells[mapped.column], self._mapping.csv)
        time, issues = self._time(target, mapped, cells)
        for issue in issues:
            yield Issue(issue, Pointer(where.file, where.line, mapped.date_column or ""), target)
        if parsed is None:
            yield Issue("number-malformed", where, target)
        if parsed is None or (mapped.date_column and time is None):
            yield Event(patient, target, None, where, time=time, state=State.INVALID)
            return
        value, state = parsed
        unit = cells[mapped.unit_column] if mapped.unit_column else mapped.unit
        yield Event(patient, target, value, where, unit, time, state)

    def _time(self, target: str, mapped: Column, cells: Mapping[str, str]) -> tuple[dt.date | None, tuple[str, ...]]:
        """Day of a measurement; None without an issue where the mapping says "at diagnosis"."""
        if mapped.date_column is None:
            return None, ()
        text = cells[mapped.date_column]
        if self._missing(text) is not None:
            return None, ("time-missing",)
        return judge_date(parse_declared(text, mapped.date_format), target)
