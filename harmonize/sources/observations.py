"""FHIR Observations: measurements, categories, cytogenetic findings; genomics goes to `fhir_genomics`."""

__all__ = ["LastSeen", "Observations"]

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from harmonize.events import Event, Issue, Item, Pointer, State, Value
from harmonize.profile import CodeVariable, CytogeneticVariable, LabVariable, Profile, VariantVariable
from harmonize.resources import Code, Observation, ObservationPart
from harmonize.sources import fhir_genomics
from harmonize.sources.days import Days, Judged
from harmonize.sources.references import References
from harmonize.sources.values import Values, reasons
from harmonize.sources.versions import Versions
from harmonize.variables import Stated

LastSeen = dict[str, tuple[dt.date, str, int]]
"""Patient key -> the last day on which the patient was seen, and the file and line that say so."""

_SKIPPED: Final = frozenset({"entered-in-error", "cancelled", "registered"})
_VALUE: Final = State.VALUE  # looked up once: members of an enumeration take long to find
_NO_DATE: Final[Judged] = (None, ("time-missing",))


class _Target(Struct, frozen=True, gc=False):
    """What a code means: a variable, or genomics (None)."""

    variable: Stated | None
    code: str  # "system|code"
    lab: str = ""  # name of the variable if it is measured


class Observations:
    """Translates Observations under one profile."""

    def __init__(
        self, profile: Profile, references: References, days: Days, versions: Versions, seen: LastSeen
    ) -> None:
        self._profile = profile
        self._references = references
        self._days = days
        self._versions = versions
        self._seen = seen
        self._values = Values()
        # By code first: nearly every Observation of a hospital has a code that is in no profile.
        self._targets: dict[str | None, dict[str | None, _Target]] = {}
        for (system, code), variable in profile.coded.items():
            lab = variable.name if isinstance(variable, LabVariable) else ""
            self._targets.setdefault(code, {})[system] = _Target(variable, f"{system}|{code}", lab)
        if any(isinstance(variable, CytogeneticVariable | VariantVariable) for variable in profile.variables):
            for code in (*fhir_genomics.OBSERVATIONS, fhir_genomics.COMPONENT):
                target = _Target(None, f"{fhir_genomics.LOINC}|{code}")
                self._targets.setdefault(code, {}).setdefault(fhir_genomics.LOINC, target)

    def items(self, observation: Observation, file: str, number: int) -> Sequence[Item]:
        """What one Observation says.

        Args:
            observation: decoded.
            file: name of the file.
            number: line or entry in it.
        """
        status, subject = observation.status, observation.subject
        if status in _SKIPPED:
            return self._skipped(observation, Pointer(file, number))
        key = self._references.known.get(subject.reference) if subject is not None else None
        if key is None:
            key = self._references.key(subject, observation.contained)
            if key is None:
                return (Issue("patient-unresolved", Pointer(file, number, "$.subject")),)
        judged = self._days.known.get(observation.effective_date_time) or self._judged(observation)
        day = judged[0]
        if day is not None:
            last = self._seen.get(key)
            if last is None or day > last[0]:
                self._seen[key] = (day, file, number)
        codings = observation.code.coding if observation.code is not None else ()
        if observation.component or len(codings) != 1:
            if observation.component or any(self._hits(codings)):
                return self._found(observation, key, judged, Pointer(file, number))
            return ()
        systems = self._targets.get(codings[0].code)
        target = None if systems is None else systems.get(codings[0].system)
        return () if target is None else self._coded(observation, target, key, judged, Pointer(file, number))

    def _coded(
        self, observation: Observation, target: _Target, key: str, judged: Judged, where: Pointer
    ) -> Sequence[Item]:
        """An Observation with one code and no components.

        Nearly all of them are a number in a unit and nothing else. The way is short for these, and says what the long
        one says.
        """
        quantity = observation.value_quantity
        if quantity is not None and target.lab and not judged[1] and observation.status != "preliminary":
            plain = self._values.plain(observation, quantity)
            if plain is not None:
                (value, hashed), unit = plain
                name, day = target.lab, judged[0]
                self._versions.add(observation.id, observation.meta, (key, name, day), (hashed, unit), where)
                return (Event(key, name, value, where, unit, day, _VALUE, target.code),)
        return self._found(observation, key, judged, where)

    def _skipped(self, observation: Observation, where: Pointer) -> Sequence[Item]:
        if observation.status == "entered-in-error" and observation.id:
            key = self._references.key(observation.subject, observation.contained)
            if key is not None:
                self._versions.cancelled(observation.id, key, where)
        return (Issue("status-skipped", where),)

    def _judged(self, observation: Observation) -> Judged:
        text = observation.effective_date_time or observation.effective_instant
        if not text and observation.effective_period is not None:
            text = observation.effective_period.start
        return self._days.judge(text) if text else _NO_DATE

    def _hits(self, codings: Iterable[Code]) -> Iterator[_Target]:
        for coding in codings:
            systems = self._targets.get(coding.code)
            target = None if systems is None else systems.get(coding.system)
            if target is not None:
                yield target

    def _found(self, observation: Observation, key: str, judged: Judged, where: Pointer) -> list[Item]:
        items: list[Item] = []
        genomic = False
        for part in (observation, *observation.component) if observation.component else (observation,):
            codings = part.code.coding if part.code is not None else ()
            if len(codings) == 1 and codings[0].code not in self._targets:  # of a panel of genes there are fifty
                continue
            for target in self._targets_of(codings):
                if target.variable is None:
                    genomic = True
                else:
                    items += self._variable(target.variable, part, key, judged, where, target.code)
        if genomic:
            items += self._genomics(observation, key, judged, where)
        self._remember(observation, items)
        return items

    def _genomics(self, observation: Observation, key: str, judged: Judged, where: Pointer) -> Iterator[Item]:
        found = list(fhir_genomics.events(observation, key, where, judged[0], self._profile))
        # A finding without a date counts as of the diagnosis; a date that cannot be used is worth a word.
        if judged[1]:
            for variable in dict.fromkeys(item.variable for item in found if isinstance(item, Event)):
                for late in judged[1]:
                    if late != "time-missing":
                        yield Issue(late, where, variable)
        yield from found

    def _targets_of(self, codings: Iterable[Code]) -> Iterable[_Target]:
        """Each variable once, however many codings name it."""
        found: dict[str, _Target] = {}
        for target in self._hits(codings):
            found.setdefault("" if target.variable is None else target.variable.name, target)
        return found.values()

    def _variable(
        self, variable: Stated, part: ObservationPart, key: str, judged: Judged, where: Pointer, code: str
    ) -> Iterator[Item]:
        day, issues = judged
        name = variable.name
        if issues and isinstance(variable, LabVariable) and reasons(part) is None:
            # Only what is measured needs its date: a category holds at any time, "not done" has no time.
            for late in issues:
                yield Issue(late, where, name)
            if day is None:
                yield Event(key, name, None, where, state=State.INVALID, code=code)
                return
        value: Value | None
        unit = None
        match variable:
            case LabVariable():
                value, unit, state, issue = self._values.measured(part, variable)
            case CodeVariable():
                value, state, issue = self._values.category(part, variable)
            case CytogeneticVariable():
                value, state, issue = self._values.finding(part)
            case VariantVariable():
                unit = None
                value, state, issue = self._values.variant(part)
        if issue:
            yield Issue(issue, where, name)
        yield Event(key, name, value, where, unit, day, state, code)

    def _remember(self, observation: Observation, items: Iterable[Item]) -> None:
        add = self._versions.add_preliminary if observation.status == "preliminary" else self._versions.add
        for item in items:
            if isinstance(item, Event):
                about = (item.patient, item.variable, item.time)
                said = (item.value, item.unit) if item.state is _VALUE else (item.value, item.unit, item.state)
                add(observation.id, observation.meta, about, said, item.where)
