"""From the event stream to one row per patient: every choice between facts is made here, free of order."""

__all__ = ["Assembled", "assemble"]

import base64
import datetime as dt
import hmac
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from harmonize import units
from harmonize.checks import implausible
from harmonize.derive import Dates, Survival, age_at, overall_survival
from harmonize.errors import MisuseError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State
from harmonize.profile import CodeVariable, DerivedVariable, LabVariable, Profile
from harmonize.quality import Flow, Quality, Tally, VariableQuality

_PURPOSE: Final = b"haemfed/pseudonym/v1\0"
_KEY_BYTES: Final = 32
_PID_LENGTH: Final = 26  # base32 characters: 130 bits, no collision among all patients of the world
# Of several reasons why a value is not there, the one that says most.
_MISSING_ORDER = (State.INVALID, State.NOT_TESTED, State.UNKNOWN, State.NOT_RECORDED)

Person = tuple[str, str]
Cell = tuple[float | int | None, State]


def pseudonym(key: bytes, system: str, identifier: str) -> str:
    """The table's pid: base32(HMAC-SHA256(key, purpose ‖ system ‖ 0 ‖ identifier))[:26].

    One patient has one pseudonym at a site, in every source, snapshot and disease: the holdout and the
    privacy accounts follow it. Hospitals never share the key, so pseudonyms of two hospitals cannot be
    linked.
    """
    if len(key) != _KEY_BYTES:
        raise MisuseError(f"the pseudonym key must have {_KEY_BYTES} bytes, not {len(key)}")
    message = _PURPOSE + system.encode() + b"\0" + identifier.encode()
    return base64.b32encode(hmac.digest(key, message, "sha256")).decode("ascii")[:_PID_LENGTH]


@dataclass(frozen=True, slots=True)
class Assembled:
    """Columns as `Table.from_columns` takes them, and the report."""

    columns: Mapping[str, list[object]] = field(repr=False)
    quality: Quality


def assemble(items: Iterable[Item], profile: Profile, pseudonym_key: bytes) -> Assembled:
    """Consume a source and decide about every patient.

    Args:
        items: what a source yields; its errors pass through.
        profile: the study's profile.
        pseudonym_key: 32 secret bytes of the site, one key for all its sources, never changed.
    """
    tally = Tally()
    records: dict[Person, list[PatientRecord]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    wanted = {*profile.names, *Fact}
    for item in items:
        match item:
            case Issue():
                tally.add(item)
            case PatientRecord():
                records[item.system, item.identifier].append(item)
            case Event() if item.variable in wanted:
                events[item.patient].append(item)
            case Event():
                raise MisuseError(f"a source yielded {item.variable}, which profile {profile.profile} does not know")
    return _Cohort(profile, tally).rows(records, events, pseudonym_key)


class _Cohort:
    """One pass over the patients of a source."""

    def __init__(self, profile: Profile, tally: Tally) -> None:
        self._profile = profile
        self._tally = tally
        self._left_out: Counter[str] = Counter()
        self._units: dict[str, Counter[str]] = {name: Counter() for name in profile.names}

    def rows(
        self, records: Mapping[Person, list[PatientRecord]], events: dict[str, list[Event]], key: bytes
    ) -> Assembled:
        owners: dict[str, set[Person]] = defaultdict(set)
        for person, known in records.items():
            for reference in {reference for record in known for reference in record.keys}:
                owners[reference].add(person)
        for reference, found in events.items():
            if reference not in owners:
                self._issue("patient-unresolved", found[0].where)
        columns: dict[str, list[object]] = {"pid": [], "time": [], "event": []}
        for name in self._profile.names:
            columns[name], columns[f"{name}__m"] = [], []
        # Sorted by identifier: neither the file's order nor set order reaches the issue list.
        for person in sorted(records):
            if self._row(person, records[person], owners, events, columns):
                columns["pid"].append(pseudonym(key, *person))
        return Assembled(columns, self._report(len(records), columns))

    def _row(
        self,
        person: Person,
        records: list[PatientRecord],
        owners: Mapping[str, set[Person]],
        events: Mapping[str, list[Event]],
        columns: dict[str, list[object]],
    ) -> bool:
        """Append one patient's cells and return true, or count why there are none."""
        where = records[0].where
        facts = self._facts(person, records, owners, events)
        outcome = "patient-contradiction" if facts is None else self._outcome(facts)
        if facts is None or isinstance(outcome, str):
            self._issue(str(outcome), where)
            self._left_out[str(outcome)] += 1
            return False
        index, survival = outcome
        for code in survival.warnings:
            self._issue(code, where)
        for variable in self._profile.variables:
            found = facts[variable.name]
            match variable:
                case LabVariable():
                    value, state = self._lab(variable, found, index)
                case CodeVariable():
                    value, state = self._category(variable, found)
                case DerivedVariable():
                    value, state = self._age(variable, found, facts[Fact.BIRTH_DATE], index)
            columns[variable.name].append(value)
            columns[f"{variable.name}__m"].append(int(state))
        columns["time"].append(survival.time)
        columns["event"].append(survival.event)
        return True

    def _facts(
        self,
        person: Person,
        records: list[PatientRecord],
        owners: Mapping[str, set[Person]],
        events: Mapping[str, list[Event]],
    ) -> dict[str, list[Event]] | None:
        """One patient's events by variable; None if the records contradict each other."""
        references = sorted({reference for record in records for reference in record.keys})
        if any(owners[reference] != {person} for reference in references):
            return None
        dropped = self._superseded(records)
        if dropped is None:
            return None
        facts: dict[str, list[Event]] = defaultdict(list)
        for reference in references:
            for event in events.get(reference, ()):
                if (event.where.file, event.where.line) not in dropped:
                    facts[event.variable].append(event)
        return facts

    def _outcome(self, facts: Mapping[str, list[Event]]) -> tuple[dt.date, Survival] | str:
        """Day 0 and what followed, or the issue code that says why there is no outcome."""
        indices = _dates(facts[Fact.INDEX_DATE])
        if not indices:
            return "index-diagnosis-missing"
        dates = Dates(
            min(indices),
            frozenset(event.value for event in facts[Fact.DECEASED] if isinstance(event.value, bool)),
            _dates(facts[Fact.DEATH_DATE]),
            _dates(facts[Fact.LAST_FOLLOW_UP]),
        )
        survival = overall_survival(dates, self._profile.outcome.hard)
        return survival if isinstance(survival, str) else (dates.index, survival)

    def _superseded(self, records: list[PatientRecord]) -> frozenset[tuple[str, int]] | None:
        """Places of records that an equal or newer one replaces; None if records contradict each other."""
        first, *others = sorted(records, key=lambda record: record.version, reverse=True)
        if all(record.fingerprint == first.fingerprint for record in others):
            for record in others:
                self._issue("patient-duplicate", record.where)
            return frozenset((record.where.file, record.where.line) for record in others)
        older = [record for record in others if record.version < first.version]
        rivals = [record for record in others if record.version == first.version]
        if not all(record.version for record in records) or any(
            rival.fingerprint != first.fingerprint for rival in rivals
        ):
            return None
        for record in older:
            self._issue("patient-superseded", record.where)
        return frozenset((record.where.file, record.where.line) for record in [*older, *rivals])

    def _lab(self, variable: LabVariable, found: list[Event], index: dt.date) -> Cell:
        usable: list[tuple[int, int, Decimal, State, Event]] = []
        missing = {State.NOT_RECORDED}
        before, after = variable.select.window_days
        for event in found:
            days = 0 if event.time is None else (event.time - index).days
            if not before <= days <= after:
                self._issue("outside-window", event.where, variable.name)
            elif not event.state.usable:
                missing.add(event.state)
            elif (value := self._measured(variable, event)) is None:
                missing.add(State.INVALID)
            else:
                usable.append((abs(days), days, value, event.state, event))
        if not usable:
            return None, _worst(missing)
        # Nearest to diagnosis; before rather than after; then the lowest: no trace of the order in the
        # source.
        usable.sort(key=lambda candidate: candidate[:4])
        distance, days, value, state, event = usable[0]
        if any(other[:2] == (distance, days) and other[2] != value for other in usable):
            self._issue("multiple-matches", event.where, variable.name)
        if implausible(value, variable.hard, variable.soft) == "range-soft":
            self._issue("range-soft", event.where, variable.name)
        return _number(value), state

    def _measured(self, variable: LabVariable, event: Event) -> Decimal | None:
        """The value in canonical units, or None after saying why not."""
        if not isinstance(event.value, Decimal):
            raise MisuseError(f"{variable.name}: a source yielded something else than a number")
        if event.unit is None or not event.unit.strip():
            self._issue("unit-missing", event.where, variable.name)
            return None
        value = units.convert(event.value, event.unit, variable)
        if value is None:
            self._issue("unit-unknown", event.where, variable.name)
            return None
        if implausible(value, variable.hard, variable.soft) == "range-hard":
            self._issue("range-hard", event.where, variable.name)
            return None
        self._units[variable.name][event.unit.strip()] += 1
        return value

    def _category(self, variable: CodeVariable, found: list[Event]) -> Cell:
        missing = {State.NOT_RECORDED}
        categories: set[str] = set()
        for event in found:
            if not event.state.usable:
                missing.add(event.state)
            elif event.value in variable.values or event.value in variable.unused:
                categories.add(str(event.value))
            else:
                self._issue("code-unknown", event.where, variable.name)
                missing.add(State.INVALID)
        if len(categories) > 1:
            self._issue("conflicting-values", found[0].where, variable.name)
            return None, State.INVALID
        for category in categories:
            if category in variable.values:
                return variable.values[category], State.VALUE
            return None, State.UNKNOWN if category == "unknown" else State.OTHER
        return None, _worst(missing)

    def _age(self, variable: DerivedVariable, found: list[Event], births: list[Event], index: dt.date) -> Cell:
        dates = _dates(births)
        stated = {event.value for event in found if event.state.usable and isinstance(event.value, Decimal)}
        if len(dates) > 1 or (not dates and len(stated) > 1):
            self._issue("conflicting-values", (births or found)[0].where, variable.name)
            return None, State.INVALID
        if dates:
            years = Decimal(age_at(min(dates), index))
            where = births[0].where
            if years < 0:
                self._issue("birth-after-diagnosis", where, variable.name)
                return None, State.INVALID
        elif stated:
            # Registries write 61.4 or 61: completed years are what both mean.
            years, where = Decimal(int(min(stated))), found[0].where
        else:
            return None, _worst({State.NOT_RECORDED} | {event.state for event in [*births, *found]})
        if code := implausible(years, variable.hard, variable.soft):
            self._issue(code, where, variable.name)
            if code == "range-hard":
                return None, State.INVALID
        return _number(min(years, variable.top_code)), State.VALUE

    def _issue(self, code: str, where: Pointer, variable: str = "") -> None:
        self._tally.add(Issue(code, where, variable))

    def _report(self, seen: int, columns: Mapping[str, list[object]]) -> Quality:
        variables = []
        for variable in self._profile.variables:
            states = Counter(columns[f"{variable.name}__m"])
            variables.append(
                VariableQuality(
                    variable.name,
                    variable.title,
                    {state.name.lower().replace("_", "-"): states[state] for state in State if states[state]},
                    dict(sorted(self._units[variable.name].items())),
                )
            )
        events = columns["event"]
        flow = Flow(seen, dict(sorted(self._left_out.items())), len(events), sum(map(bool, events)))
        return Quality.of(self._profile, flow, tuple(variables), self._tally)


def _dates(events: Iterable[Event]) -> frozenset[dt.date]:
    return frozenset(event.value for event in events if isinstance(event.value, dt.date))


def _worst(states: set[State]) -> State:
    return next((state for state in _MISSING_ORDER if state in states), State.NOT_RECORDED)


def _number(value: Decimal) -> float:
    # + 0.0 turns -0.0 into 0.0: equal values must be equal bytes.
    return float(value) + 0.0
