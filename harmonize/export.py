"""A canonical table back to FHIR R4 Bundles and CSV, so that a synthetic cohort can be loaded like a real one.

A table has no dates. Every patient of an export gets the same index date (`INDEX`), and everything else follows from
durations: who reads the export with the same profile gets the same table back, under other pseudonyms.

| in the table                 | in a Bundle                                                                   |
|------------------------------|-------------------------------------------------------------------------------|
| pid                          | Patient.identifier of a system that the caller names                          |
| age                          | Patient.birthDate: that many years before the index date                      |
| index diagnosis              | Condition with the first code of the profile's diagnosis                      |
| laboratory value             | Observation, canonical unit; below or above a limit: with its comparator      |
| category                     | Observation, with its public code where it has one; sex: Patient.gender       |
| cytogenetic finding, variant | Observation under our own code, present or absent                             |
| a state without value        | Observation with dataAbsentReason; "not recorded": no Observation             |
| death, last follow-up        | Patient.deceasedDateTime, Encounter.period                                    |
| another outcome              | Condition or Procedure on its day                                             |
| feature vector               | not in FHIR: embeddings have no place there                                   |
| that it is synthetic         | Bundle.meta: security label HTEST, a tag with model and seed                  |

Only for tables without real patients, or inside a hospital: an export of a real table is patient data.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from harmonize.codes import RULES
from harmonize.events import State
from harmonize.profile import (
    OWN_SYSTEM,
    CodeVariable,
    CytogeneticVariable,
    DerivedVariable,
    FirstEvent,
    LabVariable,
    Profile,
    Scalar,
    VariantVariable,
)
from harmonize.synthetic import provenance_of
from harmonize.table import Table

__all__ = ["INDEX", "Exported", "bundles", "delimited"]

INDEX: Final = dt.date(2000, 1, 1)
"""The day of diagnosis of everybody in an export."""

Resource = dict[str, Any]
Row = Mapping[str, Any]

_REASONS: Final[Mapping[State, str]] = {
    State.UNKNOWN: "unknown",
    State.NOT_TESTED: "not-performed",
    State.INVALID: "error",
}
_COMPARATORS: Final[Mapping[State, str]] = {State.BELOW_LIMIT: "<", State.ABOVE_LIMIT: ">"}
_MISSING: Final = {"unknown": "unknown", "not tested": "not-tested"}
_TOKENS: Final[Mapping[State, str]] = {
    State.NOT_RECORDED: "",
    State.UNKNOWN: "unknown",
    State.NOT_TESTED: "not tested",
    State.INVALID: "not usable",  # in no notation: it is read as what it was
    State.OTHER: "not usable",
}
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_SYNTHETIC: Final = "urn:haemfed:synthetic"
_UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Exported:
    """A CSV file and the mapping file that reads it.

    Args:
        csv: UTF-8, comma, decimal point, one row a patient.
        mapping: TOML.
    """

    csv: str
    mapping: str


def bundles(table: Table, system: str) -> Iterator[Resource]:
    """Yield one FHIR R4 Bundle (type collection) a patient, as JSON types.

    Args:
        table: any canonical table.
        system: identifier system of the patients, as ``urn:haemfed:synthetic:<name of the dataset>``.
    """
    profile, meta = table.profile, _meta(table)
    for row in _rows(table):
        subject = {"reference": _full_url(system, "Patient", row["pid"])}
        entries = [_patient(row, profile, system), _diagnosis(profile, row["pid"]), _last_seen(row)]
        entries += [found for variable in profile.scalars if (found := _observation(variable, row, profile))]
        entries += [found for outcome in profile.outcomes if (found := _first_event(outcome, row, profile))]
        yield {
            "resourceType": "Bundle",
            "id": row["pid"],
            **meta,
            "type": "collection",
            "entry": [
                {
                    "fullUrl": _full_url(system, each["resourceType"], each["id"]),
                    "resource": each if each["resourceType"] == "Patient" else {**each, "subject": subject},
                }
                for each in entries
            ],
        }


def _meta(table: Table) -> Resource:
    """Health data of nobody are marked as HL7 marks test data."""
    origin = provenance_of(table)
    if origin is None:
        return {}
    which = f"{origin.get('model', '')}:{origin.get('seed', '')}"
    label = {"system": _ACT_REASON, "code": "HTEST", "display": "test health data"}
    origin_tag = {"system": _SYNTHETIC, "code": which, "display": f"synthetic; {origin.get('protection', '')}"}
    return {"meta": {"security": [label], "tag": [origin_tag]}}


def _full_url(system: str, kind: str, identifier: str) -> str:
    """A name that a reference can lead to: relative ones only do where the fullUrl is an address on a server."""
    digest = hashlib.sha256(f"{system}/{kind}/{identifier}".encode()).hexdigest()
    # Version 8, made as its maker likes (RFC 9562, section 5.8): the same table gets the same names.
    return f"urn:uuid:{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def _rows(table: Table) -> Iterator[Row]:
    vectors = {feature.name for feature in table.profile.features}
    columns = [name for name in table.arrow.column_names if name not in vectors]
    for batch in table.arrow.select(columns).to_batches(max_chunksize=256):
        yield from batch.to_pylist()


def _day(days: int) -> str:
    return (INDEX + dt.timedelta(days=days)).isoformat()


def _patient(row: Row, profile: Profile, system: str) -> Resource:
    patient: Resource = {
        "resourceType": "Patient",
        "id": row["pid"],
        "identifier": [{"system": system, "value": row["pid"]}],
    }
    for variable in profile.scalars:
        value, state = row[variable.name], State(row[f"{variable.name}__m"])
        match variable:
            case DerivedVariable() if value is not None:
                patient["birthDate"] = INDEX.replace(year=INDEX.year - int(value)).isoformat()
            case CodeVariable(patient_field="gender") if category := _category(variable, value, state):
                patient["gender"] = category
    if row["event"]:
        patient["deceasedDateTime"] = _day(row["time"])
    return patient


def _category(variable: CodeVariable, value: int | None, state: State) -> str | None:
    """The word for a category; for one that models do not use, the first of them that is not "unknown"."""
    if value is not None:
        return next(name for name, number in variable.values.items() if number == value)
    if state is State.OTHER:
        return next((name for name in variable.unused if name != "unknown"), None)
    return "unknown" if state is State.UNKNOWN and "unknown" in variable.unused else None


def _diagnosis(profile: Profile, pid: str) -> Resource:
    system, codes = next(iter(profile.diagnosis.codes.items()))
    return {
        "resourceType": "Condition",
        "id": f"{pid}-dx",
        "code": {
            "coding": [{"system": profile.systems[system], "code": codes[0]}],
            "text": profile.diagnosis.title,
        },
        "onsetDateTime": _day(0),
    }


def _last_seen(row: Row) -> Resource:
    day = _day(row["time"])
    return {
        "resourceType": "Encounter",
        "id": f"{row['pid']}-seen",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "period": {"start": day, "end": day},
    }


def _first_event(outcome: FirstEvent, row: Row, profile: Profile) -> Resource | None:
    if not row[f"{outcome.name}_event"]:
        return None
    system, codes = next(iter(outcome.codes.items()))
    code = {"coding": [{"system": profile.systems[system], "code": codes[0]}], "text": outcome.title}
    common = {"id": f"{row['pid']}-{outcome.name}", "code": code}
    day = _day(row[f"{outcome.name}_time"])
    if outcome.resource == "condition":
        return {"resourceType": "Condition", **common, "onsetDateTime": day}
    return {"resourceType": "Procedure", **common, "status": "completed", "performedDateTime": day}


def _observation(variable: Scalar, row: Row, profile: Profile) -> Resource | None:
    value, state = row[variable.name], State(row[f"{variable.name}__m"])
    if state is State.NOT_RECORDED or isinstance(variable, DerivedVariable):
        return None
    if isinstance(variable, CodeVariable) and variable.patient_field is not None:
        return None
    stated = _value(variable, value, state, profile)
    if stated is None:
        return None
    return {
        "resourceType": "Observation",
        "id": f"{row['pid']}-{variable.name}".replace("_", "-"),
        "status": "final",
        "code": {"coding": _codings(variable, profile)},
        "effectiveDateTime": _day(0),
        **stated,
    }


def _codings(variable: Scalar, profile: Profile) -> list[Resource]:
    """A public code where the variable has one, and always our own: the one that says exactly what is meant."""
    found = [{"system": OWN_SYSTEM, "code": variable.name, "display": variable.title}]
    if isinstance(variable, LabVariable | CodeVariable):
        public = [(system, codes) for system, codes in variable.codes.items() if profile.systems[system] != OWN_SYSTEM]
        found += [{"system": profile.systems[system], "code": codes[0]} for system, codes in public[:1]]
    return found


def _answer(variable: CodeVariable, category: str, profile: Profile) -> Resource | None:
    """A category's code in the system that has a public code of the variable, too: of the stages of myeloma, NCIt's."""
    for system in variable.codes:
        uri = profile.systems[system]
        if uri == OWN_SYSTEM or uri not in RULES:
            continue
        for code, meant in variable.answers.items():
            if meant == category and RULES[uri](code):
                return {"system": uri, "code": code}
    return None


def _value(variable: Scalar, value: float | None, state: State, profile: Profile) -> Resource | None:
    """What stands in value[x], or the reason why nothing does."""
    if state in _REASONS:
        return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": _REASONS[state]}]}}
    match variable:
        case CodeVariable():
            category = _category(variable, None if value is None else int(value), state)
            if category is None:
                return None
            answer = _answer(variable, category, profile)
            return {"valueCodeableConcept": {**({"coding": [answer]} if answer else {}), "text": category}}
        case CytogeneticVariable() | VariantVariable() if value in (0, 1) and _is_finding(variable):
            return {"valueBoolean": bool(value)}
        case VariantVariable():
            return {"valueQuantity": {"value": _number(value), "system": _UCUM, "code": "1"}}
        case CytogeneticVariable():
            return {"valueInteger": int(value or 0)}
    unit = variable.unit
    quantity: Resource = {"value": _number(value), "unit": unit, "system": _UCUM, "code": unit}
    if state in _COMPARATORS:
        quantity["comparator"] = _COMPARATORS[state]
    return {"valueQuantity": quantity}


def _is_finding(variable: CytogeneticVariable | VariantVariable) -> bool:
    """Whether the variable is yes or no."""
    if isinstance(variable, VariantVariable):
        return variable.feature != "vaf"
    return variable.hard[1] == 1


def _number(value: float | None) -> int | float:
    number = float(value or 0)
    return int(number) if number.is_integer() else number


def delimited(table: Table, system: str, file: str = "patients.csv") -> Exported:
    """Return the table as CSV, and the mapping file that reads it back.

    Args:
        table: any canonical table.
        system: identifier system of the patients.
        file: name that the mapping gives the CSV.
    """
    profile = table.profile
    outcomes = [profile.outcome.name, *(outcome.name for outcome in profile.outcomes)]
    header = ["patient", *(variable.name for variable in profile.scalars)]
    header += [f"{outcome}_{what}" for outcome in outcomes for what in ("days", "event")]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in _rows(table):
        cells = [_cell(variable, row[variable.name], State(row[f"{variable.name}__m"])) for variable in profile.scalars]
        pairs = [(row["time"], row["event"])]
        pairs += [(row[f"{each.name}_time"], row[f"{each.name}_event"]) for each in profile.outcomes]
        for days, happened in pairs:
            cells += ["" if days is None else str(days), "" if happened is None else str(int(happened))]
        writer.writerow([row["pid"], *cells])
    return Exported(out.getvalue(), "\n".join(_mapping(profile, system, file, outcomes)) + "\n")


def _cell(variable: Scalar, value: float | None, state: State) -> str:
    if isinstance(variable, CodeVariable):
        return _category(variable, None if value is None else int(value), state) or _TOKENS[state]
    if value is None:
        return _TOKENS[state]
    if isinstance(variable, VariantVariable) and not _is_finding(variable) and value == 1:
        return "1.0"  # "1" alone says yes
    return _COMPARATORS.get(state, "") + format(Decimal(repr(_number(value))), "f")


def _mapping(profile: Profile, system: str, file: str, outcomes: Sequence[str]) -> Iterator[str]:
    yield f'format = "csv"\nprofile = {_toml(profile.profile)}\nfiles = [{_toml(file)}]\n'
    yield f'[patient]\nsystem = {_toml(system)}\ncolumn = "patient"\n'
    words = ", ".join(f"{_toml(text)} = {_toml(meaning)}" for text, meaning in _MISSING.items())
    yield f'[csv]\ntrue = ["1"]\nfalse = ["0"]\nmissing = {{ {words} }}\n\n[columns]'
    for variable in profile.scalars:
        yield f"{variable.name} = {{ column = {_toml(variable.name)}{_unit(variable)} }}"
    for name in outcomes:
        pair = f'column = "{name}_days", event_column = "{name}_event", date_format = "days-from-diagnosis"'
        yield f"{name} = {{ {pair} }}"


def _unit(variable: Scalar) -> str:
    match variable:
        case LabVariable():
            return f", unit = {_toml(variable.unit)}"
        case DerivedVariable():
            return ', unit = "a"'
        case VariantVariable() if not _is_finding(variable):
            return ', unit = "fraction"'
    return ""


def _toml(text: str) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)
