"""What the readers of all columns of a delimited text file share; the readers are in `sources.columns`."""

__all__ = ["DAY0", "UNSEEN", "Cell", "Cells", "Row"]

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harmonize.dates import DateFormat
from harmonize.events import Event, Issue, Item, Pointer, State, Value
from harmonize.mapping import Column, Csv
from harmonize.profile import Profile
from harmonize.sources.facts import judge_date
from harmonize.sources.numbers import Notation
from harmonize.spreadsheets import is_damaged, is_serial_date

# Where sources state only distances from the diagnosis, this is its day; no date leaves the table anyway.
DAY0: Final = dt.date(2000, 1, 1)
UNSEEN: Final = (None, State.INVALID)  # stands for a text that `Cell.known` does not hold; compared by identity
_REMEMBERED: Final = 1000  # texts of one column
_REASONS: Final = {
    "not-recorded": State.NOT_RECORDED,
    "unknown": State.UNKNOWN,
    "not-tested": State.NOT_TESTED,
}


@dataclass(slots=True)
class Row:
    """One row while it is read.

    Attributes:
        cells: stripped texts of the whole row.
        day0: date to which relative dates add; None if the row's date of diagnosis is missing.
        items: what was found.
    """

    cells: list[str] = field(repr=False)
    line: int
    patient: str = field(repr=False)
    day0: dt.date | None = field(repr=False)
    items: list[Item] = field(repr=False)


class Cells:
    """What the readers of one file share: its name, notation and where its columns stand."""

    def __init__(self, file: str, source: Csv, profile: Profile, index: Mapping[str, int]) -> None:
        self.file = file
        self.source = source
        self.profile = profile
        self.index = index
        self.notation = Notation(source.csv)

    def form(self, column: Column) -> DateFormat:
        """The form of a column's dates."""
        return DateFormat.parse(column.date_format or self.source.csv.date_format)

    def missing(self, column: Column) -> dict[str, State]:
        """Cell texts that say why nothing is there."""
        declared = self.source.csv.missing if column.missing is None else column.missing
        return {"": State.NOT_RECORDED, **{text: _REASONS[reason] for text, reason in declared.items()}}

    def truths(self, column: Column) -> dict[str, bool]:
        """Cell texts that say yes or no."""
        if column.truths:
            return {text: answer == "true" for text, answer in column.truths.items()}
        return {**dict.fromkeys(self.source.csv.true, True), **dict.fromkeys(self.source.csv.false, False)}


class Cell:
    """A column with one text a row: blank and missing tokens are dealt with here, the rest in `value`.

    Registries repeat themselves: what a text means is found out once where it depends on nothing else of the row.

    Attributes:
        pure: whether it does not.
        known: what texts mean, if `pure`: value and state, or None for no event.
    """

    pure = False

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        long = cells.source.long
        self.target = target
        self.cells = cells
        self.file = cells.file
        self.name = long.value if long else column.column or column.event_column or next(iter(column.checkboxes), "")
        self.at = cells.index[self.name]
        self.absences = cells.missing(column)
        self.known: dict[str, tuple[Value | None, State] | None] = {}

    def __call__(self, row: Row) -> None:
        """Append what the row says about the target to its items."""
        text = row.cells[self.at]
        state = self.absences.get(text)
        before = len(row.items)
        if state is None:
            self.value(text, row)
        else:
            self.absent(state, row)
        if self.pure and len(self.known) < _REMEMBERED:
            match row.items[before:]:
                case []:
                    self.known[text] = None
                case [Event() as event]:  # with an issue, it is to be raised each time
                    self.known[text] = event.value, event.state

    def value(self, text: str, row: Row) -> None:
        """Read a text that is there."""
        raise NotImplementedError

    def absent(self, state: State, row: Row) -> None:
        """Report why nothing is there; blank cells need no event."""
        if state is not State.NOT_RECORDED:
            self.emit(row, None, state)

    def emit(self, row: Row, value: Value | None, state: State = State.VALUE, target: str = "") -> None:
        """Add an event."""
        where = Pointer(self.file, row.line, self.name)
        row.items.append(Event(row.patient, target or self.target, value, where, None, None, state))

    def issue(self, row: Row, code: str, column: str = "") -> None:
        """Add an issue at this column, or at another one of the row."""
        row.items.append(Issue(code, Pointer(self.cells.file, row.line, column or self.name), self.target))

    def invalid(self, row: Row, code: str, text: str) -> None:
        """Add an issue, and the event that says that something unusable was there."""
        self.issue(row, "excel-date-damage" if is_damaged(text) else code)
        self.emit(row, None, State.INVALID)

    def date(self, text: str, form: DateFormat, row: Row, column: str = "") -> dt.date | None:
        """A date that can be used, or None after saying why not."""
        date, issues = self.judged(text, form, row)
        for issue in issues:
            self.issue(row, issue, column)
        return date

    def judged(self, text: str, form: DateFormat, row: Row) -> tuple[dt.date | None, tuple[str, ...]]:
        """A date that can be used, or None, and the codes of issues."""
        if form.relative:
            if row.day0 is None:
                # Without a date of diagnosis the patient is left out, and that is what the report says.
                return None, ()
            number = self.cells.notation.parse(text)
            date = form.shifted(number[0], row.day0) if number and number[1] is State.VALUE else None
            return date, (() if date else ("date-malformed",))
        parsed = form.read(text)
        if parsed is None and is_serial_date(text):
            return None, ("excel-serial-date",)
        return judge_date(parsed, self.target)
