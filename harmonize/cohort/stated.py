"""Findings that a source states outright (a FISH result, a mutation column), and how they meet what is derived.

*Absent is not negative.* 0 stands in the table only with state tested-negative, and only where something of the
source says that it was looked for: a karyotype that could be read, a gene that was tested, a finding stated as absent.

| karyotype or variants | stated | cell |
|---|---|---|
| found | found, or nothing | found |
| not found | not found, or nothing | 0, tested-negative |
| nothing | found, not found | as stated |
| found | not found, or the other way round | found, with `finding-disagrees` |
| class, count or fraction | another one | as stated, with `finding-disagrees` |
| no value | no value | the reason that says most |
"""

__all__ = ["NUMBERS", "WINDOW_DAYS", "Finding", "agreed", "inside_range", "inside_window", "nearest", "stated"]

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from harmonize.cohort.choose import Cell, Notes, number, worst
from harmonize.cohort.gather import Found
from harmonize.errors import MisuseError
from harmonize.events import State
from harmonize.profile import CytogeneticVariable, VariantVariable

Finding = CytogeneticVariable | VariantVariable

WINDOW_DAYS: Final = (-90, 90)
"""Findings count from three months before the diagnosis to three months after it: later ones may be of a relapse."""

NUMBERS: Final = frozenset({"abnormalities", "ipssr_class", "vaf"})
"""Features that are a count, a class or a fraction; every other is found or not found."""


def inside_window(found: Iterable[Found], index: int, name: str, notes: Notes) -> list[Found]:
    """The facts near enough to the diagnosis."""
    inside = []
    for fact in found:
        if WINDOW_DAYS[0] <= fact.days(index) <= WINDOW_DAYS[1]:
            inside.append(fact)
        else:
            notes.issue("outside-window", fact, name)
    return inside


def nearest(facts: Sequence[Found], index: int) -> list[Found]:
    """The facts of the day nearest to diagnosis, before rather than after it; by place."""
    if not facts:
        return []
    _, day = min((abs(fact.days(index)), fact.days(index)) for fact in facts)
    return sorted((fact for fact in facts if fact.days(index) == day), key=lambda fact: fact.place)


def stated(variable: Finding, found: Sequence[Found], index: int, notes: Notes) -> Cell:
    """What a source itself says about a finding: the day nearest to diagnosis counts; nothing else is guessed.

    | stated | cell |
    |---|---|
    | present, absent | 1; 0 with state tested-negative |
    | a class or count | as stated |
    | a fraction, for a variable that is found or not found | found from `min_vaf` on; below it unknown; 0: not found |
    | present, for a variable that is a number | unknown |
    | differently on one day | invalid, with `conflicting-values` |

    Raises:
        MisuseError: a source yielded neither a truth nor a number.
    """
    missing: dict[State, Found] = {}
    usable: dict[Found, Cell] = {}
    for fact in inside_window(found, index, variable.name, notes):
        cell = _read(variable, fact) if fact.state.usable else Cell(None, fact.state, fact)
        if cell.value is None:
            missing.setdefault(cell.state, fact)
        else:
            usable[fact] = cell
    same_day = nearest(list(usable), index)
    if not same_day:
        return worst(missing)
    if len({usable[fact].value for fact in same_day}) > 1:
        notes.issue("conflicting-values", same_day[0], variable.name)
        return Cell(None, State.INVALID, same_day[0])
    return usable[same_day[0]]


def agreed(variable: Finding, derived: Cell, said: Cell, notes: Notes) -> Cell:
    """The table at the top of this module."""
    if derived.value is None and said.value is None:
        return worst({cell.state: cell.source for cell in (derived, said) if cell.source is not None})
    if derived.value is None or said.value is None:
        return said if derived.value is None else derived
    if derived.value == said.value:
        return derived
    if said.source is not None:
        notes.issue("finding-disagrees", said.source, variable.name)
    return said if variable.feature in NUMBERS or said.value > derived.value else derived


def inside_range(variable: Finding, cell: Cell, notes: Notes) -> Cell:
    """The cell, if its number is possible."""
    if cell.value is None or float(variable.hard[0]) <= cell.value <= float(variable.hard[1]):
        return cell
    if cell.source is not None:
        notes.issue("range-hard", cell.source, variable.name)
    return Cell(None, State.INVALID, cell.source)


def _read(variable: Finding, fact: Found) -> Cell:
    if fact.state is State.TESTED_NEGATIVE and fact.value in (None, False):
        return _cell(Decimal(0), fact)
    if isinstance(fact.value, bool):
        if fact.value and variable.feature in NUMBERS:
            return Cell(None, State.UNKNOWN, fact)
        return _cell(Decimal(fact.value), fact)
    if not isinstance(fact.value, Decimal):
        raise MisuseError(f"{variable.name}: a source yielded neither a truth nor a number")
    if isinstance(variable, VariantVariable) and variable.feature not in NUMBERS and 0 <= fact.value <= 1:
        if 0 < fact.value < variable.min_vaf:
            # As `harmonize.genetics.genomics` has it: too little to count as found, and no evidence of absence.
            return Cell(None, State.UNKNOWN, fact)
        return _cell(Decimal(fact.value > 0), fact)
    return _cell(fact.value, fact)


def _cell(value: Decimal, source: Found) -> Cell:
    return Cell(number(value), State.TESTED_NEGATIVE if value == 0 else State.VALUE, source)
