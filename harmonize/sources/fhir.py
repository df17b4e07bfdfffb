"""FHIR R4 resources become events: the same for Bundles, NDJSON, bulk exports and servers."""

__all__ = ["Reader", "Undecodable", "translate"]

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from harmonize.errors import SourceError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State, Withdrawn
from harmonize.mapping import FhirPatient
from harmonize.profile import CodeVariable, Profile
from harmonize.pseudonyms import normalised
from harmonize.resources import (
    Concept,
    Condition,
    DiagnosticReport,
    Encounter,
    Foreign,
    Observation,
    Patient,
    Period,
    Procedure,
    Reference,
    Resource,
)
from harmonize.sources.days import Days
from harmonize.sources.depth import DEEPEST
from harmonize.sources.observations import LastSeen, Observations
from harmonize.sources.references import References
from harmonize.sources.strict import Strict
from harmonize.sources.typed import Modified, OtherRelease, contained_observations, decode
from harmonize.sources.versions import Versions

_SKIPPED_ENCOUNTERS: Final = frozenset({"entered-in-error", "cancelled", "planned"})
# All but confirmed: a suspicion is no diagnosis, and the day of the suspicion is not day 0.
_SKIPPED_CONDITIONS: Final = frozenset({"entered-in-error", "refuted", "differential", "provisional", "unconfirmed"})
_SKIPPED_PROCEDURES: Final = frozenset({"entered-in-error", "not-done", "preparation", "on-hold", "stopped"})
_SKIPPED_REPORTS: Final = frozenset({"entered-in-error", "cancelled"})
_JSON_PATH: Final = re.compile(r"`(\$[^`]*)`")


class Undecodable(Exception):  # noqa: N818  caught by the sources, never leaves this package
    """A resource could not be decoded; carries the issue."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.code)
        self.issue = issue


class Reader:
    """Reads the resources of one source, which may be many files.

    What a resource says comes out at once. What only the whole source says comes from `finish`: when each patient
    was last seen, which resources are older versions of others, how many were of no use.

    Args:
        mapping: which identifier is the hospital's own.
        profile: codes to look for.
        strict: judges every resource by the whole of FHIR R4B, too; None: only what the profile uses is looked at.

    Attributes:
        observations: reads Observations; the short way for whoever has many and none deleted.
        deleted: "Type/id" of resources that do not exist any more; they are left out.
    """

    def __init__(self, mapping: FhirPatient, profile: Profile, strict: Strict | None = None) -> None:
        self._mapping = mapping
        self._strict = strict
        self.deleted: frozenset[str] = frozenset()
        self._references = References(mapping)
        self._days = Days()
        self._versions = Versions()
        self._seen: LastSeen = {}
        self._ignored: dict[str, list[int]] = {}  # file -> [number of the first, how many]
        self.observations = Observations(profile, self._references, self._days, self._versions, self._seen)
        self._gender = [
            variable.name
            for variable in profile.variables
            if isinstance(variable, CodeVariable) and variable.patient_field == "gender"
        ]
        self._diagnoses = profile.diagnoses
        # Code of a Condition or Procedure -> the outcomes that it means.
        self._outcomes: dict[str, dict[tuple[str, str], list[str]]] = {"condition": {}, "procedure": {}}
        for outcome in profile.outcomes:
            for system, codes in outcome.codes.items():
                for code in codes:
                    known = self._outcomes[outcome.resource].setdefault((profile.systems[system], code), [])
                    known.append(outcome.name)

    def items(self, raw: bytes | msgspec.Raw, file: str, number: int, full_url: str | None = None) -> Iterable[Item]:
        """What one resource says.

        Args:
            raw: JSON bytes of one resource.
            file: name of the file.
            number: line or entry in it.
            full_url: of a Bundle entry: another name under which other entries may point to it.

        Raises:
            Undecodable: not JSON, or a used field has the wrong type.
            SourceError: of another FHIR release, or nested too deep.
        """
        try:
            resource = decode(raw)
        except OtherRelease as error:
            raise SourceError(f"{file}: line or entry {number} is FHIR {error}; export as FHIR R4 (4.0.1)") from None
        except Modified:
            return (Issue("modifier-extension", Pointer(file, number)),)
        except msgspec.ValidationError as error:
            path = _JSON_PATH.search(str(error))
            raise Undecodable(Issue("type", Pointer(file, number, path[1] if path else ""))) from None
        except RecursionError:
            raise SourceError(
                f"{file}: line or entry {number} is nested deeper than {DEEPEST} levels; not a FHIR export"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Undecodable(Issue("structure", Pointer(file, number))) from None
        judged = () if self._strict is None else tuple(self._strict.issues(raw, file, number))
        if isinstance(resource, Foreign):
            self.ignore(file, number)
            return judged
        found = self.decoded(resource, file, number, full_url)
        return (*judged, *found) if judged else found

    @property
    def line_by_line(self) -> bool:
        """Whether every resource must come through `items`, none through `decoded`."""
        return self._strict is not None

    def decoded(self, resource: Resource, file: str, number: int, full_url: str | None = None) -> Iterable[Item]:
        """As `items`, of a resource that is decoded already."""
        if self.deleted and f"{type(resource).__name__}/{resource.id}" in self.deleted:
            return (Issue("resource-deleted", Pointer(file, number)),)
        self._references.stand_in(full_url)
        match resource:
            case Observation():
                return self.observations.items(resource, file, number)
            case Patient():
                return self._patient(resource, Pointer(file, number), full_url)
            case Condition():
                return self._condition(resource, Pointer(file, number))
            case Procedure():
                return self._procedure(resource, Pointer(file, number))
            case Encounter():
                return self._encounter(resource, Pointer(file, number))
            case DiagnosticReport():
                return self._report(resource, file, number)

    def ignore(self, file: str, number: int, count: int = 1) -> None:
        """Count resources of types that profiles do not use."""
        self._ignored.setdefault(file, [number, 0])[1] += count

    def finish(self) -> Iterator[Item]:
        """What only the whole source says; call it once, at its end."""
        for file, (number, count) in self._ignored.items():
            yield Issue("resource-ignored", Pointer(file, number), count=count)
        withdrawn: set[tuple[str, int]] = set()
        for verdict in self._versions.verdicts():
            if isinstance(verdict, Withdrawn):
                withdrawn.add((verdict.where.file, verdict.where.line))
            yield verdict
        for key, (day, file, number) in self._seen.items():
            # Of a withdrawn resource the day stays: the patient was there.
            where = Pointer(file) if (file, number) in withdrawn else Pointer(file, number)
            yield Event(key, Fact.LAST_FOLLOW_UP, day, where)

    def _patient(self, patient: Patient, where: Pointer, full_url: str | None) -> Iterator[Item]:
        identifier = self._own_identifier(patient)
        keys = [f"Patient/{patient.id}"] if patient.id else []
        if full_url and (known := self._references.key(Reference(full_url))):
            keys += known, full_url  # the latter is what other servers' entries call it
        if identifier is not None:
            # Only the hospital's own system: other identifiers (an insurer's) may be shared by several patients.
            keys.append(self._mapping.key(identifier))
        if identifier is None:
            yield Issue("identifier-missing", where)
            return
        facts = (patient.gender, patient.birth_date, patient.deceased_boolean, patient.deceased_date_time)
        yield PatientRecord(
            keys=tuple(dict.fromkeys(keys)),
            system=self._mapping.system,
            identifier=identifier,
            fingerprint=hashlib.sha256(repr(facts).encode()).hexdigest(),
            version=(patient.meta.last_updated if patient.meta else None) or "",
            where=where,
        )
        key = keys[0]
        if patient.birth_date is not None:
            yield from self._date(key, Fact.BIRTH_DATE, patient.birth_date, where)
        if patient.deceased_date_time is not None:
            yield from self._date(key, Fact.DEATH_DATE, patient.deceased_date_time, where)
        if patient.deceased_boolean is not None or patient.deceased_date_time is not None:
            yield Event(key, Fact.DECEASED, patient.deceased_boolean is not False, where)
        if patient.gender is not None:
            for variable in self._gender:
                yield Event(key, variable, patient.gender, where)

    def _condition(self, condition: Condition, where: Pointer) -> Iterator[Item]:
        codes = _codes(condition.code)
        names = [name for code in codes for name in self._outcomes["condition"].get(code, ())]
        if any(code in self._diagnoses for code in codes):
            names.append(Fact.INDEX_DATE)
        if not names:
            return
        key = self._references.key(condition.subject, condition.contained)
        if key is None:
            yield Issue("patient-unresolved", where)
            return
        states = [] if condition.verification_status is None else condition.verification_status.coding
        if any(coding.code in _SKIPPED_CONDITIONS for coding in states):
            yield self._skipped(condition, any(coding.code == "entered-in-error" for coding in states), key, where)
            return
        date = condition.onset_date_time or _start(condition.onset_period) or condition.recorded_date
        for name in dict.fromkeys(names):
            yield from self._dated(condition, key, name, date, where)

    def _procedure(self, procedure: Procedure, where: Pointer) -> Iterator[Item]:
        names = [name for code in _codes(procedure.code) for name in self._outcomes["procedure"].get(code, ())]
        key = self._references.key(procedure.subject, procedure.contained)
        if key is None:
            # Of other procedures only the day is of use, and nobody misses one day that somebody was seen.
            if names:
                yield Issue("patient-unresolved", where)
            return
        if procedure.status in _SKIPPED_PROCEDURES:
            if names:
                yield self._skipped(procedure, procedure.status == "entered-in-error", key, where)
            return
        period = procedure.performed_period or procedure.occurrence_period
        date = procedure.performed_date_time or procedure.occurrence_date_time or _start(period)
        if date is not None and (day := self._days.judge(date)[0]) is not None:
            self._saw(key, day, where)
        for name in dict.fromkeys(names):
            yield from self._dated(procedure, key, name, date, where)

    def _encounter(self, encounter: Encounter, where: Pointer) -> Iterator[Item]:
        if encounter.status in _SKIPPED_ENCOUNTERS:
            yield Issue("status-skipped", where)
            return
        key = self._references.key(encounter.subject, encounter.contained)
        seen = (encounter.period.end or encounter.period.start) if encounter.period else None
        if key is None:
            yield Issue("patient-unresolved", where)
        elif seen is not None:
            day, issues = self._days.judge(seen)
            for issue in issues:
                yield Issue(issue, where, Fact.LAST_FOLLOW_UP)
            if day is not None:
                self._saw(key, day, where)

    def _report(self, report: DiagnosticReport, file: str, number: int) -> Iterable[Item]:
        """Observations inside a report are read as if they stood beside it; those beside it are read by themselves."""
        where = Pointer(file, number)
        if report.contained is UNSET:
            self.ignore(file, number)
            return ()
        if report.status in _SKIPPED_REPORTS:
            key = self._references.key(report.subject, report.contained)
            if key is None:
                return (Issue("patient-unresolved", where),)
            return (self._skipped(report, report.status == "entered-in-error", key, where),)
        try:
            observations = contained_observations(report.contained)
        except Modified:
            return (Issue("modifier-extension", Pointer(file, number, "$.contained")),)
        except (OtherRelease, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return (Issue("type", Pointer(file, number, "$.contained")),)
        items: list[Item] = []
        for observation in observations:
            items += self.observations.items(_taken_out(observation, report), file, number)
        return items

    def _saw(self, key: str, day: dt.date, where: Pointer) -> None:
        last = self._seen.get(key)
        if last is None or day > last[0]:
            self._seen[key] = (day, where.file, where.line)

    def _skipped(
        self,
        resource: Condition | Procedure | DiagnosticReport,
        erroneous: bool,  # noqa: FBT001
        key: str,
        where: Pointer,
    ) -> Issue:
        if erroneous:
            self._versions.cancelled(_name(resource), key, where)
        return Issue("status-skipped", where)

    def _dated(
        self, resource: Condition | Procedure, key: str, name: str, date: str | None, where: Pointer
    ) -> Iterator[Item]:
        """The date of a diagnosis or outcome. Of an outcome it is worth knowing that it happened at all."""
        day, issues = (None, ("time-missing",)) if date is None else self._days.judge(date)
        for issue in issues:
            yield Issue(issue, where, name)
        if day is not None:
            event = Event(key, name, day, where)
        elif name != Fact.INDEX_DATE:
            event = Event(key, name, None, where, state=State.UNKNOWN)
        else:
            return
        self._versions.add(_name(resource), resource.meta, (key, name, event.time), event.value, where)
        yield event

    def _date(self, key: str, fact: Fact, text: str, where: Pointer) -> Iterator[Item]:
        day, issues = self._days.judge(text, fact)
        for issue in issues:
            yield Issue(issue, where, fact)
        if day is not None:
            yield Event(key, fact, day, where)

    def _own_identifier(self, patient: Patient) -> str | None:
        if self._mapping.identifier == "resource-id":
            return normalised(patient.id or "") or None
        named = (name.value for name in patient.identifier if name.system == self._mapping.system and name.value)
        values = {normalised(value) for value in named} - {""}
        return values.pop() if len(values) == 1 else None


def translate(
    raw: bytes | msgspec.Raw, where: Pointer, mapping: FhirPatient, profile: Profile, full_url: str | None = None
) -> Iterator[Item]:
    """Translate one resource on its own; for many, `Reader` is made for them.

    Raises:
        Undecodable, SourceError: as `Reader.items`.
    """
    reader = Reader(mapping, profile)
    found = reader.items(raw, where.file, where.line, full_url)
    return iter((*found, *reader.finish()))


def _codes(concept: Concept | None) -> Sequence[tuple[str, str]]:
    if concept is None:
        return ()
    return [(coding.system, coding.code) for coding in concept.coding if coding.system and coding.code]


def _start(period: Period | None) -> str | None:
    return None if period is None else period.start


def _taken_out(observation: Observation, report: DiagnosticReport) -> Observation:
    """An Observation with what it leaves to the report around it.

    The report is one resource, with one version and one status: facts of a line are withdrawn together.
    """
    dated = observation.effective_date_time or observation.effective_instant or observation.effective_period
    status = observation.status
    if status == "preliminary" or (report.status == "preliminary" and status not in _SKIPPED_REPORTS):
        status = report.status
    return msgspec.structs.replace(
        observation,
        # One result in error says nothing about the others of its report.
        id=None if status == "entered-in-error" else _name(report),
        meta=report.meta,
        status=status,
        subject=observation.subject or report.subject,
        contained=report.contained,
        effective_date_time=observation.effective_date_time if dated else report.effective_date_time,
        effective_period=observation.effective_period if dated else report.effective_period,
    )


def _name(resource: Condition | Procedure | DiagnosticReport) -> str | None:
    return f"{type(resource).__name__}/{resource.id}" if resource.id else None
