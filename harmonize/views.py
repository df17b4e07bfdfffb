"""SQL-on-FHIR ViewDefinitions of a profile: the same columns, for whoever has a runner and wants to look.

A view says where a variable stands in FHIR; it does not convert units, choose among measurements or judge states. What
the canonical table holds is defined by `harmonize.table` alone. One view each for patients, the index diagnosis, other
outcomes, and every variable that an Observation may state, by a public code or by our own.

Format: SQL on FHIR v2.0.0, https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html (subset `shareable`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harmonize.profile import OWN_SYSTEM, CodeVariable, LabVariable, Profile
from harmonize.variables import Codes, Stated, VariantVariable

__all__ = ["views"]

View = dict[str, Any]

_PATIENT = "subject.getReferenceKey(Patient)"


def views(profile: Profile) -> Iterator[View]:
    """Yield the profile's views, each as JSON types."""
    yield _view(
        profile,
        "patient",
        "Patient",
        [
            _column("patient", "getResourceKey()"),
            _column("gender", "gender"),
            _column("birth_date", "birthDate", "date"),
            _column("deceased", "deceased.ofType(boolean)", "boolean"),
            _column("death_date", "deceased.ofType(dateTime)", "dateTime"),
        ],
    )
    yield _view(
        profile,
        "diagnosis",
        "Condition",
        [
            _column("patient", _PATIENT),
            *_dated("onset"),
            _column("recorded", "recordedDate", "dateTime"),
        ],
        [_coded(profile.diagnosis.codes, profile)],
    )
    for outcome in profile.outcomes:
        columns = [_column("patient", _PATIENT), *_dated("onset" if outcome.resource == "condition" else "performed")]
        yield _view(profile, outcome.name, outcome.resource.title(), columns, [_coded(outcome.codes, profile)])
    for variable in profile.variables:
        if isinstance(variable, Stated):
            yield _variable(variable, profile)


def _variable(variable: Stated, profile: Profile) -> View:
    columns = [_column("patient", _PATIENT), *_dated("effective")]
    columns.append(_column("effective_instant", "effective.ofType(instant)", "instant"))
    match variable:
        case LabVariable():
            columns += [
                _column("value", "value.ofType(Quantity).value", "decimal"),
                _column("comparator", "value.ofType(Quantity).comparator", "code"),
                _column("unit", "value.ofType(Quantity).code", "code"),
            ]
        case CodeVariable():
            columns += [
                _column("system", "value.ofType(CodeableConcept).coding.first().system", "uri"),
                _column("code", "value.ofType(CodeableConcept).coding.first().code", "code"),
                _column("text", "value.ofType(CodeableConcept).text"),
            ]
        case _:
            columns += [
                _column("found", "value.ofType(boolean)", "boolean"),
                _column("number", "value.ofType(integer)", "integer"),
                _column("fraction", "value.ofType(Quantity).value", "decimal"),
                _column("code", "value.ofType(CodeableConcept).coding.first().code", "code"),
            ]
    columns.append(_column("absent", "dataAbsentReason.coding.first().code", "code"))
    public = {} if isinstance(variable, VariantVariable) else variable.codes
    where = [_coded(public, profile, variable.name), "status != 'entered-in-error' and status != 'cancelled'"]
    return _view(profile, variable.name, "Observation", columns, where)


def _view(profile: Profile, name: str, resource: str, columns: list[View], where: list[str] | None = None) -> View:
    view: View = {
        "resourceType": "https://sql-on-fhir.org/ig/StructureDefinition/ViewDefinition",
        "name": f"{profile.profile}_{name}",
        "version": profile.version,
        "status": "active",
        "resource": resource,
        "fhirVersion": list(profile.fhir),
        "select": [{"column": columns}],
    }
    if where:
        view["where"] = [{"path": path} for path in where]
    return view


def _column(name: str, path: str, kind: str = "string") -> View:
    return {"name": name, "path": path, "type": kind}


def _dated(field: str) -> list[View]:
    """When: a date-time, or the start of a period, which is what the table takes of one."""
    return [
        _column(field, f"{field}.ofType(dateTime)", "dateTime"),
        _column(f"{field}_start", f"{field}.ofType(Period).start", "dateTime"),
    ]


def _coded(codes: Codes, profile: Profile, own: str = "") -> str:
    """A FHIRPath condition: one of the codings is one of these codes, or our own of a variable, which is its name."""
    systems: Mapping[str, str] = profile.systems
    ways = []
    for system, known in codes.items():
        either = " or ".join(f"code = '{code}'" for code in known)
        ways.append(f"(system = '{systems[system]}' and ({either}))")
    if own:
        ways.append(f"(system = '{OWN_SYSTEM}' and code = '{own}')")
    return f"code.coding.where({' or '.join(ways)}).exists()"
