"""From the event stream to one row per patient: every choice between facts is made here, free of order."""

__all__ = ["Assembled", "assemble", "pseudonym"]

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from harmonize.cohort.checks import KARYOTYPE, SHOWN, rules
from harmonize.cohort.choose import Cell, Notes, age, category
from harmonize.cohort.columns import Columns
from harmonize.cohort.cytogenetics import Cytogenetics
from harmonize.cohort.derive import Dates, Survival, first_event, overall_survival
from harmonize.cohort.gather import Found, Store
from harmonize.cohort.laboratory import Timeline, choose_measurements
from harmonize.cohort.mutations import Mutations
from harmonize.cohort.vectors import pooled
from harmonize.dates import instant
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State, Withdrawn
from harmonize.profile import CodeVariable, DerivedVariable, LabVariable, Profile
from harmonize.pseudonyms import pseudonym
from harmonize.reporting.describe import quality
from harmonize.reporting.quality import Flow, Quality
from harmonize.reporting.tally import Tally

Person = tuple[str, str]
Facts = Mapping[str, Sequence[Found]]

_BATCH: Final = 1024  # events kept for a moment: so few that they are in the cache still
_DOUBTFUL: Final = frozenset({State.UNKNOWN, State.INVALID})


@dataclass(frozen=True, slots=True)
class Assembled:
    """Columns as `Table.from_columns` takes them, the report, and where every cell came from.

    Attributes:
        provenance: Arrow table (pid, variable, file, line, field, state); local, see `Columns.provenance`.
    """

    columns: Mapping[str, pa.Array] = field(repr=False)
    quality: Quality
    provenance: pa.Table = field(repr=False)


def assemble(items: Iterable[Item], profile: Profile, pseudonym_key: bytes) -> Assembled:
    """Consume a source and decide about every patient.

    Memory grows with facts (36 bytes each) and with patients times variables, not with the size of the source.

    Args:
        items: what a source yields; its errors pass through.
        profile: the study's profile.
        pseudonym_key: 32 secret bytes of the site, one key for all its sources, never changed.
    """
    tally = Tally()
    records: defaultdict[Person, list[PatientRecord]] = defaultdict(list)
    withdrawn: set[tuple[str, int]] = set()
    labs = {variable.name for variable in profile.scalars if isinstance(variable, LabVariable)}
    store = Store([*profile.names, *Fact, *(outcome.name for outcome in profile.outcomes)], labs)
    events: list[Event] = []
    for item in items:
        match item:
            case Event():
                events.append(item)
                if len(events) == _BATCH:
                    tally.seen(*events)
                    store.add(events)
                    events = []
            case PatientRecord():
                records[item.system, item.identifier].append(item)
            case Issue():
                tally.add(item)
            case Withdrawn():
                withdrawn.add((item.where.file, item.where.line))
    tally.seen(*events)
    store.add(events)
    store.sort()
    return _Cohort(profile, tally, store, len(records)).assembled(records, withdrawn, pseudonym_key)


class _Cohort:
    """One pass over the patients of a source."""

    def __init__(self, profile: Profile, tally: Tally, store: Store, rows: int) -> None:
        self._profile = profile
        self._tally = tally
        self._notes = Notes(tally)
        self._store = store
        self._left_out: Counter[str] = Counter()
        self._categories = [v for v in profile.scalars if isinstance(v, CodeVariable)]
        self._derived = [v for v in profile.scalars if isinstance(v, DerivedVariable)]
        self._columns = Columns(profile, rows, store.files, store.fields)
        self._cytogenetics = Cytogenetics(profile, self._columns, self._notes)
        self._mutations = Mutations(profile, self._columns, self._notes)

    def assembled(
        self, records: Mapping[Person, list[PatientRecord]], withdrawn: Iterable[tuple[str, int]], key: bytes
    ) -> Assembled:
        owners: defaultdict[str, set[Person]] = defaultdict(set)
        for person, known in records.items():
            for reference in {reference for record in known for reference in record.keys}:
                owners[reference].add(person)
        for where in self._store.strays(owners):
            self._notes.issue("patient-unresolved", where)
        people = self._people(records, owners)
        dropped = {(file, line) for _, _, places in people for file, line in places} | set(withdrawn)
        files = self._store.files
        timeline = self._rows(people, {(files[file], line) for file, line in dropped if file in files}, key)
        labs = [variable for variable in self._profile.scalars if isinstance(variable, LabVariable)]
        choose_measurements(labs, self._store, timeline, self._columns, self._notes)
        self._apply_rules()
        for outcome in self._profile.outcomes:
            if records and outcome.name not in self._store.named:
                self._notes.issue("outcome-not-in-source", Pointer(""), outcome.name)
        flow = Flow(len(records), dict(sorted(self._left_out.items())), len(self._columns), self._columns.deaths())
        report = quality(self._profile, flow, self._columns.reported(), self._tally)
        return Assembled(self._columns.arrays(), report, self._columns.provenance())

    def _people(
        self, records: Mapping[Person, list[PatientRecord]], owners: Mapping[str, set[Person]]
    ) -> list[tuple[Person, list[PatientRecord], frozenset[tuple[str, int]]]]:
        """Whoever has records that do not contradict each other, with the places of those that are replaced.

        Sorted by identifier: neither the file's order nor set order reaches the issue list.
        """
        people = []
        for person in sorted(records):
            theirs = records[person]
            shared = any(owners[reference] != {person} for record in theirs for reference in record.keys)
            superseded = None if shared else self._superseded(theirs)
            if superseded is None:
                self._leave_out("patient-contradiction", theirs[0])
            else:
                people.append((person, theirs, superseded))
        return people

    def _leave_out(self, code: str, record: PatientRecord) -> None:
        self._notes.issue(code, record.where)
        self._left_out[code] += 1

    def _rows(
        self,
        people: Iterable[tuple[Person, list[PatientRecord], frozenset[tuple[str, int]]]],
        dropped: set[tuple[int, int]],
        key: bytes,
    ) -> Timeline:
        """Append the rows of everybody with an outcome, all cells but measurements."""
        patients = self._store.patients
        rows = np.full(len(patients), -1, dtype=np.int64)
        index: list[int] = []
        for person, records, _ in people:
            references = sorted({reference for record in records for reference in record.keys})
            facts = self._store.read(references, dropped)
            outcome = self._survival(facts)
            if isinstance(outcome, str):
                self._leave_out(outcome, records[0])
                continue
            day, survival = outcome
            for code in survival.warnings:
                self._notes.issue(code, records[0].where)
            row = self._columns.open_row(pseudonym(key, *person))
            rows[[patients[reference] for reference in references if reference in patients]] = row
            index.append(day.toordinal())
            self._fill(facts, day, survival)
        return Timeline(rows, np.array(index, dtype=np.int64), dropped)

    def _fill(self, facts: Facts, day: dt.date, survival: Survival) -> None:
        """All cells of the open row but measurements."""
        index, columns = day.toordinal(), self._columns
        columns.put(Fact.INDEX_DATE, Cell(None, State.VALUE, _first(facts[Fact.INDEX_DATE])))
        self._outcomes(facts, day, survival)
        for variable in self._categories:
            if found := facts.get(variable.name):
                columns.put(variable.name, category(variable, found, self._notes))
        for derived in self._derived:
            found, births = facts.get(derived.name, ()), facts.get(Fact.BIRTH_DATE, ())
            columns.put(derived.name, age(derived, found, births, index, self._notes))
        loss17p = self._cytogenetics.decide(facts, index)
        self._mutations.decide(facts, index, loss17p=loss17p)
        for feature in self._profile.features:
            if found := facts.get(feature.name):
                columns.put_vector(feature.name, *pooled(feature, found, self._notes))

    def _superseded(self, records: list[PatientRecord]) -> frozenset[tuple[str, int]] | None:
        """Places of records that an equal or newer one replaces; None if records contradict each other.

        Versions are compared as instants, not as text; one that is no instant counts as none, and sorts first.
        """
        moments = {record.version: instant(record.version) for record in records}
        age = {version: (moment is not None, moment or 0) for version, moment in moments.items()}
        first, *others = sorted(records, key=lambda record: age[record.version], reverse=True)
        if all(record.fingerprint == first.fingerprint for record in others):
            for record in others:
                self._notes.issue("patient-duplicate", record.where)
            return frozenset((record.where.file, record.where.line) for record in others)
        older = [record for record in others if age[record.version] < age[first.version]]
        rivals = [record for record in others if age[record.version] == age[first.version]]
        if None in moments.values() or any(rival.fingerprint != first.fingerprint for rival in rivals):
            return None
        for record in older:
            self._notes.issue("patient-superseded", record.where)
        return frozenset((record.where.file, record.where.line) for record in [*older, *rivals])

    def _survival(self, facts: Facts) -> tuple[dt.date, Survival] | str:
        """Day 0 and what followed, or the issue code that says why there is no outcome."""
        indices = _dates(facts.get(Fact.INDEX_DATE, ()))
        if not indices:
            return "index-diagnosis-missing"
        index = min(indices)
        dates = Dates(
            index,
            frozenset(fact.value for fact in facts.get(Fact.DECEASED, ()) if isinstance(fact.value, bool)),
            _dates(facts.get(Fact.DEATH_DATE, ())),
            _dates(facts.get(Fact.LAST_FOLLOW_UP, ())) | self._happened(facts, index),
        )
        survival = overall_survival(dates, self._profile.outcome.hard)
        return survival if isinstance(survival, str) else (index, survival)

    def _happened(self, facts: Facts, index: dt.date) -> frozenset[dt.date]:
        """Dates of events that can be meant: whoever relapses or is transplanted is alive on that day."""
        dates: set[dt.date] = set()
        for outcome in self._profile.outcomes:
            found = facts.get(outcome.name, ())
            if not any(fact.value is False for fact in found):
                last = min(outcome.hard[1], self._profile.outcome.hard[1])
                dates |= {date for date in _dates(found) if max(outcome.hard[0], 0) <= (date - index).days <= last}
        return frozenset(dates)

    def _outcomes(self, facts: Facts, index: dt.date, survival: Survival) -> None:
        self._columns.put_outcome("", survival)
        end = index + dt.timedelta(days=survival.time)
        names = [outcome.name for outcome in self._profile.outcomes]
        seen = [Fact.DEATH_DATE] if survival.event else [Fact.LAST_FOLLOW_UP, *names]
        ends = [fact for name in seen for fact in facts.get(name, ()) if fact.value == end]
        self._columns.put(self._profile.outcome.name, Cell(None, State.VALUE, _first(ends)))
        for outcome in self._profile.outcomes:
            found = facts.get(outcome.name, ())
            first = first_event(
                survival,
                index,
                _dates(found),
                ruled_out=any(fact.value is False for fact in found),
                doubtful=any(fact.state in _DOUBTFUL for fact in found),
                hard=outcome.hard,
            )
            self._columns.put_outcome(f"{outcome.name}_", first)
            if found:
                state = State.UNKNOWN if first.time is None else State.VALUE
                self._columns.put(outcome.name, Cell(None, state, _first(found)))
            if first.issue:
                self._notes.issue(first.issue, _first(found), outcome.name)

    def _apply_rules(self) -> None:
        """Report what cannot stand together; the values that a rule drops are not used."""
        columns = self._columns
        numbers = {name: columns.numbers(name) for name in (*self._profile.names, *SHOWN)}
        for rule in rules(self._profile):
            asked = np.logical_and.reduce([~np.isnan(numbers[name]) for name in rule.needs])
            if rule.same_day:
                days = [columns.days(name) for name in rule.needs]
                asked &= np.logical_and.reduce([other == days[0] for other in days])
            at = np.flatnonzero(asked & rule.broken(numbers))
            name = Fact.KARYOTYPE if rule.needs[0].startswith(KARYOTYPE) else rule.needs[0]
            for row in at.tolist():
                self._notes.issue(rule.code, columns.where(name, row), name)
            if rule.drops:
                columns.drop(rule.drops, at)


def _dates(found: Iterable[Found]) -> frozenset[dt.date]:
    return frozenset(fact.value for fact in found if isinstance(fact.value, dt.date))


def _first(found: Sequence[Found]) -> Found:
    """The fact with the earliest date; ties by place."""
    return min(found, key=lambda fact: (fact.value if isinstance(fact.value, dt.date) else dt.date.max, fact.place))
