"""One FHIR R4 resource becomes events: the same function for Bundles and NDJSON."""

__all__ = ["Undecodable", "translate"]

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from harmonize.dates import parse_fhir
from harmonize.errors import SourceError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State
from harmonize.mapping import FhirPatient
from harmonize.profile import CodeVariable, LabVariable, Profile
from harmonize.resources import (
    CodeableConcept,
    Condition,
    Encounter,
    Observation,
    ObservationPart,
    Patient,
    Quantity,
    Reference,
    decode,
    wrong_version,
)
from harmonize.sources.facts import ABSENT_REASONS, judge_date

_SKIPPED_OBSERVATIONS = frozenset({"entered-in-error", "cancelled", "registered"})
_SKIPPED_ENCOUNTERS = frozenset({"entered-in-error", "cancelled", "planned"})
_SKIPPED_CONDITIONS = frozenset({"entered-in-error", "refuted", "differential"})
_COMPARATORS = {
    "<": State.BELOW_LIMIT,
    "<=": State.BELOW_LIMIT,
    ">": State.ABOVE_LIMIT,
    ">=": State.ABOVE_LIMIT,
}
_PATIENT = re.compile(r"(?:.*/)?(Patient/[A-Za-z0-9.-]{1,64})(?:/_history/.*)?")
_JSON_PATH = re.compile(r"`(\$[^`]*)`")


class Undecodable(Exception):  # noqa: N818  caught by the two sources, never leaves this package
    """A resource could not be decoded; carries the issue."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.code)
        self.issue = issue


def translate(
    raw: bytes | msgspec.Raw,
    where: Pointer,
    mapping: FhirPatient,
    profile: Profile,
    full_url: str | None = None,
) -> Iterator[Item]:
    """Translate one resource.

    Args:
        raw: JSON bytes of one resource.
        where: file and line (or entry).
        mapping: which identifier is the hospital's own.
        profile: codes to look for.
        full_url: of a Bundle entry: another name under which other entries may point to it.

    Raises:
        Undecodable: not JSON, or a used field has the wrong type.
        SourceError: the resource is of another FHIR release.
    """
    try:
        head, resource = decode(raw)
    except msgspec.ValidationError as error:
        path = _JSON_PATH.search(str(error))
        place = Pointer(where.file, where.line, path[1] if path else "")
        raise Undecodable(Issue("type", place)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Undecodable(Issue("structure", where)) from None
    if release := wrong_version(head, resource):
        raise SourceError(f"{where.file}: line or entry {where.line} is FHIR {release}; export as FHIR R4 (4.0.1)")
    if resource is None:
        return iter((Issue("resource-ignored", where),))
    if resource.modifier_extension is not msgspec.UNSET:
        return iter((Issue("modifier-extension", where),))
    translator = _Translator(where, mapping, profile, full_url)
    match resource:
        case Patient():
            return translator.patient(resource)
        case Condition():
            return translator.condition(resource)
        case Observation():
            return translator.observation(resource)
        case Encounter():
            return translator.encounter(resource)


class _Translator:
    """One method a resource type; holds what they all need."""

    def __init__(self, where: Pointer, mapping: FhirPatient, profile: Profile, full_url: str | None) -> None:
        self._where = where
        self._mapping = mapping
        self._profile = profile
        self._full_url = full_url

    def patient(self, patient: Patient) -> Iterator[Item]:
        identifier = self._own_identifier(patient)
        keys = [f"Patient/{patient.id}"] if patient.id else []
        if self._full_url:
            keys.append(_reference_key(self._full_url))
        if identifier is not None and self._mapping.identifier == "identifier":
            # Only the hospital's own system: other identifiers (an insurer's) may be shared by several
            # patients.
            keys.append(f"{self._mapping.system}|{identifier}")
        if identifier is None or not keys:
            yield Issue("identifier-missing", self._where)
            return
        facts = (patient.gender, patient.birth_date, patient.deceased_boolean, patient.deceased_date_time)
        yield PatientRecord(
            keys=tuple(dict.fromkeys(keys)),
            system=self._mapping.system,
            identifier=identifier,
            fingerprint=hashlib.sha256(repr(facts).encode()).hexdigest(),
            version=(patient.meta.last_updated if patient.meta else None) or "",
            where=self._where,
        )
        key = keys[0]
        if patient.birth_date is not None:
            yield from self._date(key, Fact.BIRTH_DATE, patient.birth_date)
        if patient.deceased_date_time is not None:
            yield from self._date(key, Fact.DEATH_DATE, patient.deceased_date_time)
        if patient.deceased_boolean is not None or patient.deceased_date_time is not None:
            yield Event(key, Fact.DECEASED, patient.deceased_boolean is not False, self._where)
        if patient.gender is not None:
            for variable in self._profile.variables:
                if isinstance(variable, CodeVariable) and variable.patient_field == "gender":
                    yield Event(key, variable.name, patient.gender, self._where)

    def condition(self, condition: Condition) -> Iterator[Item]:
        if not any(code in self._profile.diagnoses for code in _codes(condition.code)):
            return
        status = condition.verification_status
        if isinstance(status, CodeableConcept) and any(coding.code in _SKIPPED_CONDITIONS for coding in status.coding):
            yield Issue("status-skipped", self._where)
            return
        onset = condition.onset_period.start if condition.onset_period else None
        date = condition.onset_date_time or onset or condition.recorded_date
        key = self._subject(condition.subject)
        if key is None:
            yield Issue("patient-unresolved", self._where)
        elif date is None:
            yield Issue("time-missing", self._where, Fact.INDEX_DATE)
        else:
            yield from self._date(key, Fact.INDEX_DATE, date)

    def observation(self, observation: Observation) -> Iterator[Item]:
        if observation.status in _SKIPPED_OBSERVATIONS:
            yield Issue("status-skipped", self._where)
            return
        key = self._subject(observation.subject)
        if key is None:
            yield Issue("patient-unresolved", self._where)
            return
        start = observation.effective_period.start if observation.effective_period else None
        effective = observation.effective_date_time or observation.effective_instant or start
        date, issues = judge_date(parse_fhir(effective), "") if effective else (None, ("time-missing",))
        if date is not None:
            yield Event(key, Fact.LAST_FOLLOW_UP, date, self._where)
        for part in (observation, *observation.component):
            variables = {
                name.name: name for code in _codes(part.code) if (name := self._profile.coded.get(code)) is not None
            }
            for variable in variables.values():
                # Only a measured quantity needs its date: a category holds at any time, "not done" has no
                # time.
                if isinstance(variable, LabVariable) and part.value_quantity is not None:
                    for issue in issues:
                        yield Issue(issue, self._where, variable.name)
                    if date is None:
                        yield Event(key, variable.name, None, self._where, state=State.INVALID)
                        continue
                yield from self._value(key, variable, part, date)

    def encounter(self, encounter: Encounter) -> Iterator[Item]:
        if encounter.status in _SKIPPED_ENCOUNTERS:
            yield Issue("status-skipped", self._where)
            return
        key = self._subject(encounter.subject)
        seen = (encounter.period.end or encounter.period.start) if encounter.period else None
        if key is None:
            yield Issue("patient-unresolved", self._where)
        elif seen is not None:
            yield from self._date(key, Fact.LAST_FOLLOW_UP, seen)

    def _value(
        self, key: str, variable: LabVariable | CodeVariable, part: ObservationPart, date: dt.date | None
    ) -> Iterator[Item]:
        quantity, category = part.value_quantity, part.value_codeable_concept
        absent = [coding.code or "" for coding in part.data_absent_reason.coding] if part.data_absent_reason else None
        value: Decimal | str | None = None
        unit, state = None, State.NOT_RECORDED
        if absent is not None and (quantity is not None or category is not None):
            yield Issue("value-and-reason", self._where, variable.name)
            state = State.INVALID
        elif absent is not None:
            state = next((ABSENT_REASONS[code] for code in absent if code in ABSENT_REASONS), State.UNKNOWN)
        elif isinstance(variable, CodeVariable):
            value = None if category is None else _category(variable, category)
            state = State.INVALID if value is None else State.VALUE
            if value is None:
                yield Issue("code-unknown", self._where, variable.name)
        elif quantity is not None and quantity.value is not None:
            # repr is the shortest decimal that gives this float: the number as the laboratory wrote it.
            value, unit = Decimal(repr(quantity.value)), _unit(quantity)
            state = _COMPARATORS.get(quantity.comparator or "", State.VALUE)
        yield Event(key, variable.name, value, self._where, unit, date, state)

    def _date(self, key: str, fact: Fact, text: str) -> Iterator[Item]:
        date, issues = judge_date(parse_fhir(text), fact)
        for issue in issues:
            yield Issue(issue, self._where, fact)
        if date is not None:
            yield Event(key, fact, date, self._where)

    def _own_identifier(self, patient: Patient) -> str | None:
        if self._mapping.identifier == "resource-id":
            return patient.id
        values = {name.value for name in patient.identifier if name.system == self._mapping.system and name.value}
        return values.pop() if len(values) == 1 else None

    def _subject(self, subject: Reference | None) -> str | None:
        if subject is None:
            return None
        if subject.reference:
            return _reference_key(subject.reference)
        if subject.identifier and subject.identifier.value:
            return f"{subject.identifier.system or ''}|{subject.identifier.value}"
        return None


def _reference_key(reference: str) -> str:
    """Relative, absolute and versioned references to one Patient are one key; urn:uuid stays as it is."""
    match = _PATIENT.fullmatch(reference)
    return match[1] if match else reference


def _codes(concept: CodeableConcept | None) -> Iterator[tuple[str, str]]:
    for coding in concept.coding if concept else ():
        if coding.system and coding.code:
            yield coding.system, coding.code


def _unit(quantity: Quantity) -> str | None:
    # The coded unit is meant for machines; the free text counts only where there is no code.
    return quantity.code or quantity.unit


def _category(variable: CodeVariable, concept: CodeableConcept) -> str | None:
    for code in (coding.code or "" for coding in concept.coding):
        category = variable.answers.get(code, code)
        if category in variable.values or category in variable.unused:
            return category
    return None
