"""Which of several facts about one patient counts: categories and age; free of their order."""

__all__ = ["MISSING_ORDER", "Cell", "Notes", "age", "category", "number", "worst"]

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from harmonize.cohort.checks import implausible
from harmonize.cohort.derive import age_at
from harmonize.cohort.gather import Found
from harmonize.events import Issue, Pointer, State
from harmonize.profile import CodeVariable, DerivedVariable
from harmonize.reporting.tally import Tally

# Of several reasons why a value is not there, the one that says most.
MISSING_ORDER: Final = (State.INVALID, State.NOT_TESTED, State.UNKNOWN, State.NOT_RECORDED)
_YEAR_APART: Final = 1  # a stated age may be off by one: rounded up, or from a birth year


class Cell(NamedTuple):
    """What the table says about one variable of one patient.

    Attributes:
        value: the number, if `state` is usable.
        source: the fact it was taken from, or the one that says why it is not there.
    """

    value: float | None
    state: State
    source: Found | None = None


class Notes:
    """What is told to the quality report while patients are decided."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def issue(self, code: str, found: Found | Pointer, variable: str = "") -> None:
        """Report a finding at the place of a fact."""
        where = found if isinstance(found, Pointer) else found.where
        self.tally.add(Issue(code, where, variable))


def number(value: Decimal) -> float:
    """The nearest double; -0 becomes 0, because equal values must be equal bytes."""
    return float(value) + 0.0


def worst(missing: Mapping[State, Found], also: State = State.NOT_RECORDED) -> Cell:
    """An empty cell with the reason that says most, and the fact that gives it."""
    state = next((state for state in MISSING_ORDER if state in missing or state is also), State.NOT_RECORDED)
    return Cell(None, state, missing.get(state))


def category(variable: CodeVariable, found: Sequence[Found], notes: Notes) -> Cell:
    """The one category that the records agree on."""
    missing: dict[State, Found] = {}
    categories: dict[str, Found] = {}
    for fact in found:
        if not fact.state.usable:
            missing.setdefault(fact.state, fact)
        elif fact.value in variable.values or fact.value in variable.unused:
            categories.setdefault(str(fact.value), fact)
        else:
            notes.issue("code-unknown", fact, variable.name)
            missing.setdefault(State.INVALID, fact)
    if len(categories) > 1:
        first = min(categories.values(), key=lambda fact: fact.place)
        notes.issue("conflicting-values", first, variable.name)
        return Cell(None, State.INVALID, first)
    for category, fact in categories.items():
        if category in variable.values:
            return Cell(float(variable.values[category]), State.VALUE, fact)
        return Cell(None, State.UNKNOWN if category == "unknown" else State.OTHER, fact)
    return worst(missing)


def age(variable: DerivedVariable, found: Sequence[Found], births: Sequence[Found], index: int, notes: Notes) -> Cell:
    """Completed years at diagnosis from the date of birth, else as stated."""
    dates = {fact.value: fact for fact in births if isinstance(fact.value, dt.date)}
    stated = {fact.value: fact for fact in found if fact.state.usable and isinstance(fact.value, Decimal)}
    if len(dates) > 1 or (not dates and len(stated) > 1):
        first = min((births if dates else found), key=lambda fact: fact.place)
        notes.issue("conflicting-values", first, variable.name)
        return Cell(None, State.INVALID, first)
    if dates:
        ((birth, source),) = dates.items()
        years = Decimal(age_at(birth, dt.date.fromordinal(index)))
        if years < 0:
            notes.issue("birth-after-diagnosis", source, variable.name)
            return Cell(None, State.INVALID, source)
        if any(abs(int(other) - years) > _YEAR_APART for other in stated):
            notes.issue("age-disagrees", source, variable.name)
    elif stated:
        # Registries write 61.4 or 61: completed years are what both mean.
        ((other, source),) = stated.items()
        years = Decimal(int(other))
    else:
        return worst({fact.state: fact for fact in [*births, *found]})
    if code := implausible(years, variable.hard, variable.soft):
        notes.issue(code, source, variable.name)
        if code == "range-hard":
            return Cell(None, State.INVALID, source)
    return Cell(number(min(years, variable.top_code)), State.VALUE, source)
