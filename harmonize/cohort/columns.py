"""The table under construction: columns of numbers and states, and where each of them came from."""

__all__ = ["Columns"]

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.buffers import from_numpy, from_texts, vectors_from_numpy
from harmonize.cohort.checks import SHOWN
from harmonize.cohort.choose import Cell
from harmonize.cohort.derive import First, Survival
from harmonize.cohort.gather import Found, Vector
from harmonize.events import Fact, Pointer, State
from harmonize.profile import CodeVariable, Profile

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_NO_PLACE: Final = -1
_FILE, _LINE, _FIELD = range(3)


class Columns:
    """Filled row by row and column by column; a cell that nobody fills is "not recorded".

    Args:
        profile: its variables and outcomes are the columns.
        rows: the most rows there can be.
        files, fields: names -> the numbers by which places are given.
    """

    def __init__(self, profile: Profile, rows: int, files: Mapping[str, int], fields: Mapping[str, int]) -> None:
        self._profile = profile
        self._files, self._fields = files, fields
        self._pids: list[str] = []
        # Facts that are no variables have a place all the same (day 0, the ends of outcomes, the karyotype), and what
        # the karyotype shows is asked by cross-field rules.
        outcomes = [profile.outcome.name, *(outcome.name for outcome in profile.outcomes)]
        self._names = [*profile.names, *outcomes, Fact.INDEX_DATE, Fact.KARYOTYPE, *SHOWN]
        self._at = {name: place for place, name in enumerate(self._names)}
        shape = (rows, len(self._names))
        self._values = np.full(shape, np.nan)
        self._states = np.full(shape, State.NOT_RECORDED, dtype=np.uint8)
        self._days = np.zeros(shape, dtype=np.int32)
        self._places = np.full((*shape, 3), _NO_PLACE, dtype=np.int32)
        self._vectors = {
            variable.name: np.zeros((rows, variable.length), dtype=np.float32) for variable in profile.features
        }
        self._open = self._values[:0], self._states[:0], self._places[:0]  # the open row, each a view
        prefixes = ("", *(f"{outcome.name}_" for outcome in profile.outcomes))
        self._times = {prefix: np.full(rows, -1, dtype=np.int32) for prefix in prefixes}
        self._events = {prefix: np.zeros(rows, dtype=np.bool_) for prefix in prefixes}

    def __len__(self) -> int:
        return len(self._pids)

    def open_row(self, pid: str) -> int:
        """Begin the next patient, whose row everything concerns that is put from now on."""
        row = len(self._pids)
        self._pids.append(pid)
        self._open = self._values[row], self._states[row], self._places[row]
        return row

    def put(self, name: str, cell: Cell) -> None:
        """A number of the open row, or the reason why there is none."""
        at = self._at[name]
        values, states, places = self._open
        values[at] = np.nan if cell.value is None else cell.value
        states[at] = cell.state
        if cell.source is not None:
            places[at] = self._place(cell.source)

    def put_block(self, at: Ints, values: Floats, states: Ints, source: Found | None) -> None:
        """Numbers of the open row that have one source: `at` as from `block`, NaN where there is none."""
        row, states_of_row, places = self._open
        row[at] = values
        states_of_row[at] = states
        if source is not None:
            places[at] = self._place(source)

    def block(self, names: Sequence[str]) -> Ints:
        """Where these variables stand, for `put_block`."""
        return np.array([self._at[name] for name in names], dtype=np.int64)

    def put_column(self, name: str, rows: Ints, values: Floats, states: Ints, days: Ints, places: Ints) -> None:
        """Numbers of one variable in several rows, with day and place (file, line, field) of their sources."""
        at = self._at[name]
        self._values[rows, at] = values
        self._states[rows, at] = states
        self._days[rows, at] = days
        self._places[rows, at] = places

    def put_vector(self, name: str, vector: Vector | None, cell: Cell) -> None:
        """float32[length] of the open row, or None and the reason in `cell`."""
        if vector is not None:
            self._vectors[name][len(self._pids) - 1] = vector
        self.put(name, cell)

    def put_outcome(self, prefix: str, outcome: Survival | First) -> None:
        """Time and event of overall survival (prefix "") or of a first event (prefix "<name>_")."""
        if outcome.time is not None:
            row = len(self._pids) - 1
            self._times[prefix][row] = outcome.time
            self._events[prefix][row] = outcome.event

    def _place(self, source: Found) -> tuple[int, int, int]:
        return self._files[source.file], source.line, self._fields[source.field]

    def where(self, name: str, row: int) -> Pointer:
        """The place that a cell was taken from."""
        file, line, field = self._places[row, self._at[name]].tolist()
        if file == _NO_PLACE:
            return Pointer("")
        return Pointer(list(self._files)[file], line, list(self._fields)[field])

    def numbers(self, name: str) -> Floats:
        """float64[n]: one variable, NaN where there is no number."""
        return self._values[: len(self), self._at[name]]

    def days(self, name: str) -> NDArray[np.int32]:
        """int32[n]: days from index diagnosis of a measurement; 0 where there is none."""
        return self._days[: len(self), self._at[name]]

    def drop(self, name: str, rows: Ints) -> None:
        """These numbers are not used after all."""
        self._values[rows, self._at[name]] = np.nan
        self._states[rows, self._at[name]] = State.INVALID

    def states(self, name: str) -> NDArray[np.uint8]:
        """uint8[n]: the states of one variable."""
        return self._states[: len(self), self._at[name]]

    def deaths(self) -> int:
        """Rows with an observed death."""
        return int(self._events[""][: len(self)].sum())

    def reported(self) -> dict[str, list[object]]:
        """What the quality report counts: the numbers that are there, and every state."""
        found: dict[str, list[object]] = {}
        for name in self._profile.names:
            values = self.numbers(name)
            found[name] = values[~np.isnan(values)].tolist()
            found[f"{name}__m"] = self.states(name).tolist()
        return found

    def arrays(self) -> dict[str, pa.Array]:
        """The columns of the schema, rows in the order in which they were opened."""
        rows = len(self)
        columns: dict[str, pa.Array] = {"pid": from_texts(self._pids)}
        for variable in self._profile.scalars:
            values = self.numbers(variable.name)
            absent = np.isnan(values)
            kind = np.int8 if isinstance(variable, CodeVariable) else np.float64
            columns[variable.name] = from_numpy(np.where(absent, 0, values).astype(kind), absent)
        for feature in self._profile.features:
            absent = self.states(feature.name) != State.VALUE
            columns[feature.name] = vectors_from_numpy(self._vectors[feature.name][:rows], absent)
        for name in self._profile.names:
            columns[f"{name}__m"] = from_numpy(self.states(name))
        for prefix, times in self._times.items():
            unknown = times[:rows] < 0
            columns[f"{prefix}time"] = from_numpy(times[:rows], unknown)
            columns[f"{prefix}event"] = from_numpy(self._events[prefix][:rows], unknown)
        return columns

    def provenance(self) -> pa.Table:
        """Arrow table (pid, variable, file, line, field, state): a row for every cell whose place is known.

        Local, for `explain`: places lead to patients. Besides variables: `os` and the other outcomes (the fact that
        ended them), index_date and karyotype. Sorted by pid, then in the order of the profile.
        """
        rows = np.array(sorted(range(len(self)), key=self._pids.__getitem__), dtype=np.int64)
        places, states = self._places[rows], self._states[rows]
        patient, at = np.nonzero(places[:, :, _FILE] != _NO_PLACE)
        cited = places[patient, at]
        return pa.table(
            {
                "pid": _words(patient, [self._pids[row] for row in rows.tolist()]),
                "variable": _words(at, self._names),
                "file": _words(cited[:, _FILE], list(self._files)),
                "line": from_numpy(cited[:, _LINE]),
                "field": _words(cited[:, _FIELD], list(self._fields)),
                "state": from_numpy(states[patient, at]),
            }
        )


def _words(numbers: NDArray[np.signedinteger], words: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(from_numpy(numbers.astype(np.int32)), from_texts(words))
