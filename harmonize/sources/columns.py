"""One reader for each mapped column of a delimited text file, made once and called for every row."""

__all__ = ["reader"]

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from harmonize.dates import DateFormat
from harmonize.events import Event, Fact, Issue, Pointer, State
from harmonize.mapping import Column
from harmonize.mapping.targets import AGE_UNITS, Kind, kind, vaf_factor
from harmonize.sources.cells import Cell, Cells, Row
from harmonize.spreadsheets import is_damaged


def reader(target: str, column: Column, cells: Cells) -> Cell:
    """The reader of one mapped column: appends its events and issues to the row's items."""
    what = kind(target, cells.profile)
    if what is Kind.CODE and column.checkboxes:
        return _Checkboxes(target, column, cells)
    return _READERS[what](target, column, cells)


class _Lab(Cell):
    """A number with unit and day."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        long, unit_column, self._date_name = cells.source.long, column.unit_column, column.date_column or ""
        self._form = cells.form(column)
        if long is not None:
            unit_column, self._date_name = long.unit, long.date or ""
            self._form = DateFormat.parse(column.date_format or long.date_format or cells.source.csv.date_format)
        self._unit = column.unit
        self._unit_at = cells.index[unit_column] if unit_column and self._unit is None else None
        self._date_at = cells.index[self._date_name] if self._date_name else None

    def absent(self, state: State, row: Row) -> None:
        if state is State.NOT_RECORDED:
            return
        # A date that is there counts: "not tested" far from the diagnosis says nothing about the diagnosis.
        time = None
        if self._date_at is not None and row.cells[self._date_at] not in self.absences:
            time, _ = self.judged(row.cells[self._date_at], self._form, row)
        where = Pointer(self.file, row.line, self.name)
        row.items.append(Event(row.patient, self.target, None, where, None, time, state))

    def value(self, text: str, row: Row) -> None:
        time = None
        usable = True
        if self._date_at is not None:
            day = row.cells[self._date_at]
            if day in self.absences:
                self.issue(row, "time-missing", self._date_name)
            else:
                time = self.date(day, self._form, row, self._date_name)
            usable = time is not None
        number = self.cells.notation.parse(text)
        where = Pointer(self.file, row.line, self.name)
        if number is None:
            self.issue(row, "excel-date-damage" if is_damaged(text) else "number-malformed")
        if number is None or not usable:
            row.items.append(Event(row.patient, self.target, None, where, None, time, State.INVALID))
            return
        unit = self._unit if self._unit_at is None else row.cells[self._unit_at]
        row.items.append(Event(row.patient, self.target, number[0], where, unit, time, number[1]))


class _Age(Cell):
    """An age at diagnosis, in years after its unit."""

    pure = True

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._factor = AGE_UNITS[column.unit or "a"]

    def value(self, text: str, row: Row) -> None:
        number = self.cells.notation.parse(text)
        if number is None:
            self.invalid(row, "number-malformed", text)
        else:
            self.emit(row, number[0] * self._factor, number[1])


class _Code(Cell):
    """A category."""

    pure = True

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._codes = column.codes

    def value(self, text: str, row: Row) -> None:
        if is_damaged(text) and text not in self._codes:
            self.invalid(row, "excel-date-damage", text)
        else:
            self.emit(row, self._codes.get(text, text))


class _Checkboxes(Cell):
    """A category spread over check-boxes, at most one of which may be ticked."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._boxes = [(cells.index[name], name, category) for name, category in column.checkboxes.items()]
        self._checked = frozenset(column.checked)

    def __call__(self, row: Row) -> None:
        ticked = [(name, category) for at, name, category in self._boxes if row.cells[at] in self._checked]
        if not ticked:
            return
        name, category = ticked[0]
        where = Pointer(self.file, row.line, name)
        if len({category for _, category in ticked}) > 1:
            row.items.append(Issue("conflicting-values", where, self.target))
            row.items.append(Event(row.patient, self.target, None, where, state=State.INVALID))
        else:
            row.items.append(Event(row.patient, self.target, category, where))


class _Count(Cell):
    """An ordinal class or a count of the karyotype."""

    pure = True

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._codes = {text: Decimal(number) for text, number in column.codes.items()}

    def value(self, text: str, row: Row) -> None:
        number = (self._codes[text], State.VALUE) if text in self._codes else self.cells.notation.parse(text)
        if number is None or number[0] != int(number[0]) or number[1] is not State.VALUE:
            self.invalid(row, "code-unknown" if self._codes else "number-malformed", text)
        else:
            self.emit(row, number[0])


class _Finding(Cell):
    """Found or not found. A blank, and even a "no", is a negative test only where the test was done."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._truths = cells.truths(column)
        self._tested_at = cells.index[column.tested_column] if column.tested_column else None
        self._tested = frozenset(column.tested or cells.source.csv.true)
        self.pure = self._tested_at is None

    def absent(self, state: State, row: Row) -> None:
        if state is State.NOT_RECORDED and self._tested_at is not None:
            self._negative(row)
        else:
            super().absent(state, row)

    def value(self, text: str, row: Row) -> None:
        found = self._truths.get(text)
        if found is None:
            self.invalid(row, "code-unknown", text)
        elif found:
            self.emit(row, value=True)
        else:
            self._negative(row)

    def _negative(self, row: Row) -> None:
        if self._tested_at is None or (answer := row.cells[self._tested_at]) in self._tested:
            self.emit(row, value=False, state=State.TESTED_NEGATIVE)
        elif answer not in self.absences:
            self.emit(row, None, State.NOT_TESTED)
        # Neither a finding nor a word about the test: not recorded, which needs no event.


class _Vaf(_Finding):
    """An allele fraction; 0, or below a limit of detection, is not found."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._factor = vaf_factor(column.unit or "") or Decimal(1)

    def value(self, text: str, row: Row) -> None:
        number = self.cells.notation.parse(text)
        if text in self._truths:
            super().value(text, row)
        elif number is None:
            self.invalid(row, "number-malformed", text)
        elif number[0] == 0 or number[1] is State.BELOW_LIMIT:
            self._negative(row)
        else:
            self.emit(row, number[0] * self._factor)


class _Truth(Cell):
    """Dead or alive."""

    pure = True

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._truths = cells.truths(column)

    def absent(self, state: State, row: Row) -> None:
        """Unknown is what no event means, too."""

    def value(self, text: str, row: Row) -> None:
        answer = self._truths.get(text)
        if answer is None:
            self.issue(row, "code-unknown")
        else:
            self.emit(row, answer)


class _Date(Cell):
    """A date of a fact."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._form = cells.form(column)

    def value(self, text: str, row: Row) -> None:
        date = self.date(text, self._form, row)
        self.emit(row, date, State.INVALID if date is None else State.VALUE)


class _Karyotype(Cell):
    """ISCN text, for `harmonize.karyotype`."""

    def value(self, text: str, row: Row) -> None:
        self.emit(row, text)


class _Panel(Cell):
    """Which genes were tested, by the name of a panel."""

    pure = True

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._genes = {text: frozenset(cells.profile.panels[panel].genes) for text, panel in column.codes.items()}

    def value(self, text: str, row: Row) -> None:
        genes = self._genes.get(text)
        if genes is None:
            self.invalid(row, "code-unknown", text)
        else:
            self.emit(row, genes)


class _Outcome(Cell):
    """First event of a kind: its date, or a yes/no column with a date or duration beside it."""

    def __init__(self, target: str, column: Column, cells: Cells) -> None:
        super().__init__(target, column, cells)
        self._truths = cells.truths(column)
        self._form = cells.form(column)
        self._date_at = self.at if column.column or cells.source.long else None
        self._flag_at = cells.index[column.event_column] if column.event_column else None

    def __call__(self, row: Row) -> None:
        if self._flag_at is None:
            super().__call__(row)
            return
        flag = row.cells[self._flag_at]
        day = "" if self._date_at is None else row.cells[self._date_at]
        if (state := self.absences.get(flag)) is not None:
            self._open(state, day, row)
            return
        happened = self._truths.get(flag)
        if happened is None:
            self.invalid(row, "code-unknown", flag)
        else:
            self._pair(happened, day, row)

    def _open(self, state: State, day: str, row: Row) -> None:
        """Neither yes nor no: not known, if there is a word or a date; a blank pair says nothing at all."""
        if state is not State.NOT_RECORDED or day not in self.absences:
            self.emit(row, None, State.UNKNOWN)

    def value(self, text: str, row: Row) -> None:
        if self._truths.get(text) is False:
            self.emit(row, value=False)
        else:
            self._event(text, row)

    def _pair(self, happened: bool, day: str, row: Row) -> None:  # noqa: FBT001  what the file says
        if not happened:
            self.emit(row, value=False)
        elif day in self.absences:
            self.issue(row, "time-missing")
            self.emit(row, None, State.INVALID)
        else:
            self._event(day, row)

    def _event(self, text: str, row: Row) -> None:
        date = self.date(text, self._form, row)
        self.emit(row, date, State.INVALID if date is None else State.VALUE)


class _Survival(_Outcome):
    """Overall survival as a pair: dead or censored, and the time of it."""

    def _open(self, state: State, day: str, row: Row) -> None:
        """Unknown is what no event means, too."""

    def _pair(self, happened: bool, day: str, row: Row) -> None:  # noqa: FBT001  what the file says
        target = Fact.DEATH_DATE if happened else Fact.LAST_FOLLOW_UP
        date = None if day in self.absences else self.date(day, self._form, row)
        self.emit(row, happened, target=Fact.DECEASED)
        if date is not None:
            self.emit(row, date, target=target)


def _variant(target: str, column: Column, cells: Cells) -> Cell:
    return (_Finding if column.unit is None else _Vaf)(target, column, cells)


_READERS: Final[Mapping[Kind, Callable[[str, Column, Cells], Cell]]] = {
    Kind.LAB: _Lab,
    Kind.AGE: _Age,
    Kind.CODE: _Code,
    Kind.FINDING: _Finding,
    Kind.COUNT: _Count,
    Kind.VARIANT: _variant,
    Kind.DATE: _Date,
    Kind.TRUTH: _Truth,
    Kind.KARYOTYPE: _Karyotype,
    Kind.PANEL: _Panel,
    Kind.OUTCOME: _Outcome,
    Kind.SURVIVAL: _Survival,
}
