"""Which of several measurements of a patient counts: decided for all patients at once, because they are many.

Inside the variable's window, by `select.pick`:

| pick | first by | then by | then by |
|---|---|---|---|
| nearest | distance from day 0 | before rather than after it | lowest value |
| first | earliest day | lowest value | |
| last | latest day | lowest value | |
| max, min | highest, lowest value | distance from day 0 | before rather than after it |

Then measured rather than at a limit, then by place. No trace of the order of arrival is left.
"""

__all__ = ["Timeline", "choose_measurements"]

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonize import units
from harmonize.cohort.checks import implausible
from harmonize.cohort.choose import MISSING_ORDER, Notes, number
from harmonize.cohort.columns import Columns
from harmonize.cohort.gather import DAY, FIELD, FILE, LINE, PATIENT, STATE, UNIT, VALUE, VARIABLE, Store
from harmonize.errors import MisuseError
from harmonize.events import Issue, State
from harmonize.profile import LabVariable

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Without traps: what cannot be rounded becomes NaN, which is outside every range.
_ROUNDING: Final = Context(prec=40, rounding=ROUND_HALF_EVEN, traps=[])
_USABLE: Final = np.array([state.usable for state in State])
_REFUSALS: Final = ("", "unit-missing", "unit-unknown", "range-hard")
# How little a state says about why there is no value.
_SILENCE: Final = np.array([MISSING_ORDER.index(s) if s in MISSING_ORDER else len(MISSING_ORDER) for s in State])


@dataclass(frozen=True, slots=True)
class Timeline:
    """Who is in the table, in which row, and when day 0 was.

    Attributes:
        rows: int64, by the number of a reference in the store: row of the table, or -1.
        index: int64, by row: ordinal of day 0.
        dropped: (number of the file, line) of places whose facts do not count.
    """

    rows: Ints = field(repr=False)
    index: Ints = field(repr=False)
    dropped: Collection[tuple[int, int]] = field(repr=False)


def choose_measurements(
    variables: Collection[LabVariable], store: Store, timeline: Timeline, columns: Columns, notes: Notes
) -> None:
    """Put every measurement that counts, or the reason why none does, into its column.

    Raises:
        MisuseError: a source yielded something else than a number.
    """
    by_number = {store.number(variable.name): variable for variable in variables}
    if by_number:
        _Batch(by_number, store, timeline, columns, notes).choose()


class _Converted(NamedTuple):
    values: Floats  # canonical, NaN where refused
    refusals: Ints  # places in _REFUSALS


class _Batch:
    """The measurements of everybody who is in the table; arrays of one length."""

    def __init__(
        self,
        variables: dict[int, LabVariable],
        store: Store,
        timeline: Timeline,
        columns: Columns,
        notes: Notes,
    ) -> None:
        facts = store.measurements.astype(np.int64)
        counts = timeline.rows[facts[:, PATIENT]] >= 0
        if timeline.dropped:
            gone = np.array([(file << 32) + line for file, line in timeline.dropped], dtype=np.int64)
            counts &= ~np.isin((facts[:, FILE] << 32) + facts[:, LINE], gone)
        self._facts = facts[counts]
        self._row = timeline.rows[self._facts[:, PATIENT]]
        self._variable = self._facts[:, VARIABLE]
        # No time means "at index diagnosis".
        day = self._facts[:, DAY]
        self._days = np.where(day == 0, 0, day - timeline.index[self._row] if timeline.index.size else 0)
        self._variables, self._store, self._columns, self._notes = variables, store, columns, notes
        self._ordered = [variables[place] for place in range(len(variables))]
        self._quanta = [Decimal(1).scaleb(-variable.decimals) for variable in self._ordered]
        self._group = self._row * len(variables) + self._variable

    def choose(self) -> None:
        windows = np.array([variable.select.window_days for variable in self._ordered])
        low, high = windows[self._variable].T
        inside = (self._days >= low) & (self._days <= high)
        self._report("outside-window", ~inside)
        usable = inside & _USABLE[self._facts[:, STATE]]
        values, refusals = self._convert(usable)
        for place, code in enumerate(_REFUSALS[1:], start=1):
            self._report(code, refusals == place)
        self._put_missing(inside, usable, refusals)
        self._put_values(usable & (refusals == 0), values)

    def _convert(self, usable: Bools) -> _Converted:
        """Equal counts in equal units come by the thousand: each is converted once."""
        values = np.full(len(usable), np.nan)
        refusals = np.zeros(len(usable), dtype=np.int64)
        chosen = self._facts[usable]
        width, most = self._store.units, int(chosen[:, VALUE].max(initial=0)) + 1
        keys, inverse, counts = np.unique(
            (chosen[:, VARIABLE] * width + chosen[:, UNIT]) * most + chosen[:, VALUE],
            return_inverse=True,
            return_counts=True,
        )
        found = []
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            measured, value = divmod(key, most)
            variable, unit = divmod(measured, width)
            found.append(self._one(variable, unit, value, count))
        if found:
            values[usable] = np.array([value for value, _ in found])[inverse]
            refusals[usable] = np.array([_REFUSALS.index(code) for _, code in found])[inverse]
        return _Converted(values, refusals)

    def _one(self, variable_number: int, unit_number: int, value_number: int, count: int) -> tuple[float, str]:
        """The canonical value, or NaN and the code of the issue that says why not."""
        variable = self._variables[variable_number]
        value, unit = self._store.value(value_number), self._store.unit(unit_number)
        if not isinstance(value, Decimal):
            raise MisuseError(f"{variable.name}: a source yielded something else than a number")
        if unit is None or not unit.strip():
            return np.nan, "unit-missing"
        exact = units.convert(value, unit, variable)
        if exact is None:
            return np.nan, "unit-unknown"
        self._notes.tally.measured(variable.name, unit.strip(), value, count)
        measured = exact.quantize(self._quanta[variable_number], context=_ROUNDING)
        if implausible(measured, variable.hard, variable.soft) == "range-hard":
            return np.nan, "range-hard"
        return number(measured), ""

    def _put_missing(self, inside: Bools, usable: Bools, refusals: Ints) -> None:
        """For whoever has a reason inside the window: the one that says most. Values overwrite it."""
        states = np.where(refusals > 0, int(State.INVALID), self._facts[:, STATE])
        some = np.flatnonzero(inside & (~usable | (refusals > 0)))
        self._put(self._best(some, _SILENCE[states]), np.full(len(states), np.nan), states)

    def _put_values(self, good: Bools, values: Floats) -> None:
        some = np.flatnonzero(good)
        distance = np.abs(self._days)
        picks = np.array([variable.select.pick for variable in self._ordered])[self._variable]
        # One row of keys for each pick; whoever is smaller comes first.
        keys = {
            "nearest": (distance, self._days, values),
            "first": (self._days, values, values),
            "last": (-self._days, values, values),
            "max": (-values, distance, self._days),
            "min": (values, distance, self._days),
        }
        ranks = [
            np.select([picks == pick for pick in keys], [key[place] for key in keys.values()]) for place in range(3)
        ]
        best = self._best(some, *ranks, self._facts[:, STATE])
        self._put(best, values, self._facts[:, STATE])
        self._report_ties(some, best, values, np.isin(picks, ("max", "min")))
        soft = np.array([[float(bound) for bound in variable.soft] for variable in self._ordered])
        low, high = soft[self._variable[best]].T
        self._report("range-soft", best[(values[best] < low) | (values[best] > high)])

    def _report_ties(self, some: Ints, best: Ints, values: Floats, extreme: Bools) -> None:
        """Several values on the day that counts."""
        chosen = best[np.searchsorted(self._group[best], self._group[some])]
        tied = (self._days[some] == self._days[chosen]) & (values[some] != values[chosen]) & ~extreme[some]
        self._report("multiple-matches", np.unique(chosen[tied]))

    def _best(self, some: Ints, *ranks: NDArray[np.generic]) -> Ints:
        """The first of every patient and variable by `ranks`, then by place; sorted by patient and variable."""
        places = (self._facts[:, FILE], self._facts[:, LINE], self._facts[:, FIELD])
        keys = [key[some] for key in (self._group, *ranks, *places)]
        ordered = some[np.lexsort(keys[::-1])]
        best: Ints = ordered[np.diff(self._group[ordered], prepend=-1) != 0]
        return best

    def _put(self, best: Ints, values: Floats, states: Ints) -> None:
        for place, variable in enumerate(self._ordered):
            at = best[self._variable[best] == place]
            self._columns.put_column(
                variable.name, self._row[at], values[at], states[at], self._days[at], self._facts[at, FILE : FIELD + 1]
            )

    def _report(self, code: str, which: Bools | Ints) -> None:
        """Report measurements, those of one variable and field together: out of the window are many."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        groups = self._variable[at] * len(self._store.fields) + self._facts[at, FIELD]
        order = np.argsort(groups, kind="stable")
        for rows in np.split(at[order], np.flatnonzero(np.diff(groups[order])) + 1):
            if rows.size:
                first, variable = self._facts[rows[0]], self._ordered[self._variable[rows[0]]]
                issue = Issue(code, self._store.place(first), variable.name, rows.size)
                self._notes.tally.add_equal(issue, map(self._store.place, self._facts[rows]))
