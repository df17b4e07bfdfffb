"""Observations inside a DiagnosticReport: read as if they stood beside it, withdrawn with it."""

from typing import Any

import pytest

from tests.harmonize.test_fhir_sources import CONDITION, ENCOUNTER, PATIENT, WBC, read, read_bundle

BASE = (PATIENT, CONDITION, ENCOUNTER)
INSIDE = {**WBC, "id": "o", "valueQuantity": {"value": 5, "code": "10*9/L"}}
DAY = WBC["effectiveDateTime"]


def report(*inside: dict[str, Any], **change: Any) -> dict[str, Any]:
    found = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "subject": WBC["subject"],
        "code": {"text": "blood count"},
        "contained": list(inside),
        "result": [{"reference": f"#{each.get('id')}"} for each in inside],
    }
    return found | change


def without(resource: dict[str, Any], *fields: str, **change: Any) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in fields} | change


def found(*resources: dict[str, Any]) -> tuple[float | None, list[str]]:
    entries = [{"resource": resource} for resource in (*BASE, *resources)]
    lines, bundle = [
        (table.arrow["wbc"].to_pylist(), [finding.code for finding in quality.findings])
        for table, quality in (read(*BASE, *resources), read_bundle({"resourceType": "Bundle", "entry": entries}))
    ]
    assert lines == bundle
    return lines[0][0], lines[1]


OLD, NEW = {"meta": {"lastUpdated": "2020-01-01T10:00:00Z"}}, {"meta": {"lastUpdated": "2020-01-01T11:00:00Z"}}
NINE = {**INSIDE, "valueQuantity": {"value": 9, "code": "10*9/L"}}
SELF = {"resourceType": "Patient", "id": "p", "identifier": PATIENT["identifier"]}


@pytest.mark.parametrize(
    ("resources", "value", "codes"),
    [
        ([report(INSIDE)], 5, []),
        # What an Observation leaves out, its report says.
        ([report(INSIDE, subject=None)], 5, []),
        ([report(without(INSIDE, "subject"))], 5, []),
        ([report(without(INSIDE, "effectiveDateTime"), effectiveDateTime=DAY)], 5, []),
        ([report(without(INSIDE, "effectiveDateTime"), effectivePeriod={"start": DAY})], 5, []),
        ([report(without(INSIDE, "effectiveDateTime"))], None, ["time-missing"]),
        ([report(without(INSIDE, "subject"), SELF, subject={"reference": "#p"})], 5, []),
        ([report(without(INSIDE, "subject"), subject=None)], None, ["patient-unresolved"]),
        # A report is one resource.
        ([report(NINE, **OLD), report(INSIDE, **NEW)], 5, ["resource-superseded"]),
        ([report(INSIDE), report(INSIDE)], 5, ["resource-duplicate"]),
        ([report(NINE, status="preliminary"), report(INSIDE)], 5, ["preliminary-replaced"]),
        ([report({**NINE, "status": "preliminary"}), report(INSIDE, id="s")], 5, ["multiple-matches"]),
        ([report(INSIDE), report(INSIDE, status="entered-in-error")], None, ["resource-superseded", "status-skipped"]),
        ([report(INSIDE, status="cancelled")], None, ["status-skipped"]),
        ([report(INSIDE, status="cancelled", subject=None)], None, ["patient-unresolved"]),
        # One result of several.
        ([report(INSIDE), report({**NINE, "id": "e", "status": "entered-in-error"})], 5, ["status-skipped"]),
        ([report(INSIDE, {**NINE, "id": "e", "status": "entered-in-error"})], 5, ["status-skipped"]),
        ([report(INSIDE, {**NINE, "status": "cancelled"}, status="preliminary")], 5, ["status-skipped"]),
        # What cannot be read, and what is not there to be read.
        ([report({**INSIDE, "status": 7})], None, ["type"]),
        ([report({**INSIDE, "modifierExtension": [{"url": "urn:x"}]})], None, ["modifier-extension"]),
        ([report({**INSIDE, "triggeredBy": []})], None, ["type"]),
        ([report(contained="nonsense")], None, ["type"]),
        ([without(report(), "contained")], None, ["resource-ignored"]),
        ([report({"resourceType": "Specimen", "id": "s", "status": 7})], None, []),
    ],
)  # fmt: skip
def test_observations_inside_a_report(resources: list[dict[str, Any]], value: float | None, codes: list[str]) -> None:
    assert found(*resources) == (value, codes)
