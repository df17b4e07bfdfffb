"""The stream of a source in little memory: a fact is nine machine integers until its patient is decided.

Five thousand patients with a hundred facts each are half a million `Event` objects, some 100 MB; here they are
18 MB. Names, units, places and equal values are kept once; a date is its ordinal.
"""

__all__ = ["DAY", "FIELD", "FILE", "LINE", "PATIENT", "STATE", "UNIT", "VALUE", "VARIABLE", "Found", "Store", "Vector"]

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harmonize.errors import MisuseError
from harmonize.events import Event, Fact, Pointer, State, Value

Vector = NDArray[np.float32]
Rows = NDArray[np.int32]
Key = TypeVar("Key")

PATIENT, VARIABLE, VALUE, UNIT, DAY, STATE, FILE, LINE, FIELD = range(9)
_WIDTH: Final = 9
_NO_VALUE: Final = -1
_STATES: Final = tuple(State)


class Found(NamedTuple):
    """One fact of one patient, as the source has it.

    Attributes:
        value: as in `Event`, but a vector comes as float32[length].
        unit: as written.
        day: ordinal (`date.toordinal`) of the day of the measurement; None means "at index diagnosis".
        state: as the source has it.
        file, line, field: place in the source.
    """

    value: Value | Vector | None
    unit: str | None
    day: int | None
    state: State
    file: str
    line: int
    field: str

    @property
    def place(self) -> tuple[str, int, str]:
        """What breaks ties, so that the order of arrival never does."""
        return self.file, self.line, self.field

    @property
    def where(self) -> Pointer:
        """The place for an issue."""
        return Pointer(self.file, self.line, self.field)

    def days(self, index: int) -> int:
        """Days from the index diagnosis."""
        return 0 if self.day is None else self.day - index


class _Numbered(dict[Key, int]):
    """Names in the order of their first use."""

    def __missing__(self, key: Key) -> int:
        self[key] = number = len(self)
        return number


class _Interned(dict[Value, int]):
    """Values, each kept once in a list."""

    def __init__(self, values: list[Value | Vector]) -> None:
        super().__init__()
        self._values = values

    def __missing__(self, key: Value) -> int:
        self[key] = number = len(self._values)
        self._values.append(key)
        return number


class Store:
    """Facts by patient reference: filled first, then `sort`, then asked.

    Args:
        names: what a source may yield: variables and outcomes of the profile, and facts.
        measured: those of which there are many: they stay rows, for all patients at once (`measurements`).
    """

    def __init__(self, names: Iterable[str], measured: Collection[str]) -> None:
        # Measured ones first, so that one comparison tells them apart.
        self._names = tuple(sorted(names, key=lambda name: name not in measured))
        self._many = sum(name in measured for name in self._names)
        self._variables = {name: number for number, name in enumerate(self._names)}
        self._patients: _Numbered[str] = _Numbered()
        self._units: _Numbered[str | None] = _Numbered()
        self._files: _Numbered[str] = _Numbered()
        self._fields: _Numbered[str] = _Numbered()
        self._values: list[Value | Vector] = []
        # Apart: Decimal(1) and True are equal keys and different facts.
        self._decimals = _Interned(self._values)
        self._others = _Interned(self._values)
        # By identity first: sources make equal numbers once, and a decimal's hash takes long. What is in the list lives
        # as long as the store, so nothing else can have its identity.
        self._known: dict[int, int] = {id(None): _NO_VALUE}
        self._batches: list[Rows] = []
        self._rows: Rows = np.zeros((0, _WIDTH), dtype=np.int32)
        self._starts: list[int] = []
        self._unit_names: list[str | None] = []
        self._file_names: list[str] = []
        self._field_names: list[str] = []
        self._seen = self._variables.get(Fact.LAST_FOLLOW_UP, _NO_VALUE)
        self.measurements: Rows = self._rows

    def add(self, events: Collection[Event]) -> None:
        """Keep facts, best a thousand at a time.

        Raises:
            MisuseError: the profile does not know a variable.
        """
        # A column at a time, not a fact at a time: half the work, for what runs for every fact of every patient.
        known, number = self._known.get, self._number
        try:
            columns = (
                [self._patients[event.patient] for event in events],
                [self._variables[event.variable] for event in events],
                [number(value) if (at := known(id(value := event.value))) is None else at for event in events],
                [self._units[event.unit] for event in events],
                [0 if event.time is None else event.time.toordinal() for event in events],
                [event.state for event in events],
                [self._files[event.where.file] for event in events],
                [event.where.line for event in events],
                [self._fields[event.where.field] for event in events],
            )
        except KeyError as error:
            raise MisuseError(f"a source yielded {error.args[0]}, which the profile does not know") from None
        self._batches.append(np.array(columns, dtype=np.int32).T)

    def _number(self, value: Value | None) -> int:
        """-1 for nothing, less for a date's ordinal, else a place in the list of values."""
        if value is None:
            return _NO_VALUE
        if isinstance(value, dt.date):
            return _NO_VALUE - value.toordinal()
        if isinstance(value, tuple):  # vectors are large and hardly ever equal: not worth a hash
            with np.errstate(over="ignore"):  # what no single can hold becomes infinite, and is refused as such
                self._values.append(np.array(value, dtype=np.float64).astype(np.float32))
            return len(self._values) - 1
        count = len(self._values)
        at = self._decimals[value] if type(value) is Decimal else self._others[value]
        if at == count:
            self._known[id(value)] = at
        return at

    def sort(self) -> None:
        """Bring the facts of a patient together. Nothing may be added afterwards."""
        rows = np.concatenate([self._rows, *self._batches])
        self._batches.clear()
        many = rows[:, VARIABLE] < self._many
        self.measurements = rows[many]
        rows = rows[~many]
        self._rows = rows[np.argsort(rows[:, PATIENT], kind="stable")]
        self._starts = np.searchsorted(self._rows[:, PATIENT], np.arange(len(self._patients) + 1)).tolist()
        self._decimals.clear()
        self._others.clear()
        self._known.clear()
        self._unit_names, self._file_names, self._field_names = list(self._units), list(self._files), list(self._fields)

    @property
    def patients(self) -> Mapping[str, int]:
        """Reference -> number of the patient in rows."""
        return self._patients

    @property
    def files(self) -> Mapping[str, int]:
        """File name -> number in rows."""
        return self._files

    @property
    def fields(self) -> Mapping[str, int]:
        """Column or JSON path -> number in rows."""
        return self._fields

    @property
    def units(self) -> int:
        """How many units there are, "none" included."""
        return len(self._units)

    @property
    def named(self) -> frozenset[str]:
        """Variables about which there is any fact."""
        numbers = np.union1d(self._rows[:, VARIABLE], self.measurements[:, VARIABLE])
        return frozenset(self._names[number] for number in numbers.tolist())

    def number(self, variable: str) -> int:
        """The number of a variable in rows."""
        return self._variables[variable]

    def strays(self, references: Collection[str]) -> Iterator[Pointer]:
        """One place for every reference that is none of these."""
        stray = {number for reference, number in self._patients.items() if reference not in references}
        if not stray:
            return
        places: dict[int, tuple[str, int, str]] = {}
        for rows in (self._rows, self.measurements):
            for row in rows[np.isin(rows[:, PATIENT], list(stray))].tolist():
                place = self._found(row)[-3:]
                places[row[PATIENT]] = min(place, places.get(row[PATIENT], place))
        for number in sorted(places):
            yield Pointer(*places[number])

    def read(self, references: Iterable[str], dropped: Collection[tuple[int, int]]) -> Mapping[str, list[Found]]:
        """The facts under some references, by variable and place; measurements are not among them.

        Of the days on which the patient was seen alive only the last is kept.

        Args:
            references: of one patient.
            dropped: (number of the file, line) of places whose facts do not count.
        """
        facts: defaultdict[str, list[Found]] = defaultdict(list)
        last: list[int] | None = None
        for row in self._of(references):
            if dropped and (row[FILE], row[LINE]) in dropped:
                continue
            if row[VARIABLE] != self._seen or row[VALUE] >= _NO_VALUE:
                facts[self._names[row[VARIABLE]]].append(self._found(row))
            elif last is None or row[VALUE:] < last[VALUE:]:  # later days are smaller numbers
                last = row
        if last is not None:
            facts[Fact.LAST_FOLLOW_UP].append(self._found(last))
        for found in facts.values():
            if len(found) > 1:
                found.sort(key=_place)
        return facts

    def _of(self, references: Iterable[str]) -> Iterator[list[int]]:
        for reference in references:
            patient = self._patients.get(reference)
            if patient is not None:
                yield from self._rows[self._starts[patient] : self._starts[patient + 1]].tolist()

    def value(self, number: int) -> Value | Vector:
        """The value of a row, if it is neither nothing nor a date."""
        return self._values[number]

    def unit(self, number: int) -> str | None:
        """The unit of a row."""
        return self._unit_names[number]

    def place(self, row: NDArray[np.int64]) -> Pointer:
        """The place of a row."""
        file, line, field = row[FILE : FIELD + 1].tolist()
        return Pointer(self._file_names[file], line, self._field_names[field])

    def _found(self, row: list[int]) -> Found:
        _, _, number, unit, day, state, file, line, field = row
        value: Value | Vector | None = None
        if number >= 0:
            value = self._values[number]
        elif number < _NO_VALUE:
            value = dt.date.fromordinal(_NO_VALUE - number)
        return Found(
            value,
            self._unit_names[unit],
            day or None,
            _STATES[state],
            self._file_names[file],
            line,
            self._field_names[field],
        )


def _place(fact: Found) -> tuple[str, int, str]:
    return fact.place
