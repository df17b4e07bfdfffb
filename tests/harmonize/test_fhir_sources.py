"""Bad input in FHIR: one broken resource is an issue, a broken file or another release is refused."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.errors import SourceError
from harmonize.events import Item, PatientRecord, State
from harmonize.reporting.quality import Quality
from harmonize.sources import bundle, ndjson
from harmonize.table import Table, build
from tests.harmonize.patients import KEY, PROFILE, SYSTEM, fhir_mapping
from tests.sweeps import examples

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "identifier": [{"system": SYSTEM, "value": "4711"}],
    "gender": "female",
    "birthDate": "1950-01-01",
}
CONDITION = {
    "resourceType": "Condition",
    "subject": {"reference": "Patient/1"},
    "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "C92.0"}]},
    "onsetDateTime": "2010-01-01",
}
ENCOUNTER = {
    "resourceType": "Encounter",
    "status": "finished",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/1"},
    "period": {"end": "2012-01-01"},
}
WBC = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "6690-2"}]},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2010-01-01",
    "valueQuantity": {"value": 13.3, "code": "10*9/L", "system": "http://unitsofmeasure.org"},
}
ALL = (PATIENT, CONDITION, ENCOUNTER, WBC)


def encode(resource: dict[str, Any]) -> bytes:
    return json.dumps(resource).encode()


def read(*resources: dict[str, Any] | bytes) -> tuple[Table, Quality]:
    lines = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in resources]
    return build(ndjson.read(io.BytesIO(b"\n".join(lines)), fhir_mapping("ndjson"), PROFILE), PROFILE, KEY)


def read_bundle(document: Any) -> tuple[Table, Quality]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return build(bundle.read(io.BytesIO(data), fhir_mapping("bundle"), PROFILE), PROFILE, KEY)


def good(number: int) -> list[dict[str, Any]]:
    """As many good resources, of a patient each for every four."""
    found: list[dict[str, Any]] = []
    while len(found) < number:
        name = f"x{len(found)}"
        subject = {"reference": f"Patient/{name}"}
        found.append({**PATIENT, "id": name, "identifier": [{"system": SYSTEM, "value": name}]})
        found.extend({**resource, "subject": subject} for resource in ALL[1:])
    return found[:number]


def test_one_patient() -> None:
    table, quality = read(*ALL)

    assert table.arrow.drop_columns(["pid"]).to_pylist() == [
        {"age": 60.0, "age__m": 0, "sex": 0, "sex__m": 0, "wbc": 13.3, "wbc__m": 0, "tpi": None, "tpi__m": 1}
        | {"time": 730, "event": False}
    ]
    assert not quality.findings


@pytest.mark.parametrize(
    ("change", "code", "state"),
    [
        ({"valueQuantity": {"value": 13.3}}, "unit-missing", State.INVALID),
        ({"valueQuantity": {"value": 13.3, "unit": " "}}, "unit-missing", State.INVALID),
        ({"valueQuantity": {"value": 13.3, "unit": "g/dL"}}, "unit-unknown", State.INVALID),
        ({"valueQuantity": {"value": 13.3, "code": "g/dL", "unit": "10*9/L"}}, "unit-unknown", State.INVALID),
        ({"valueQuantity": {"value": 1e6, "code": "10*9/L"}}, "range-hard", State.INVALID),
        ({"valueQuantity": {"value": 400, "code": "10*9/L"}}, "range-soft", State.VALUE),
        (
            {"valueQuantity": {"value": 0.1, "code": "10*9/L", "comparator": "<"}},
            "range-soft",
            State.BELOW_LIMIT,
        ),
        ({"effectiveDateTime": None}, "time-missing", State.INVALID),
        ({"effectiveDateTime": "01/02/2010"}, "date-malformed", State.INVALID),
        ({"effectiveDateTime": "2010"}, "date-coarse", State.INVALID),
        ({"effectiveDateTime": "2010-01"}, "date-partial", State.VALUE),
        ({"effectiveDateTime": "2010-01-01T10:00:00"}, "time-zone-missing", State.VALUE),
        ({"dataAbsentReason": {"coding": [{"code": "not-performed"}]}}, "value-and-reason", State.INVALID),
        ({"status": "entered-in-error"}, "status-skipped", State.NOT_RECORDED),
        ({"modifierExtension": [{"url": "urn:negated"}]}, "modifier-extension", State.NOT_RECORDED),
        ({"subject": {"reference": "Patient/2"}}, "patient-unresolved", State.NOT_RECORDED),
        ({"subject": None}, "patient-unresolved", State.NOT_RECORDED),
    ],
)
def test_a_bad_observation(change: dict[str, Any], code: str, state: State) -> None:
    table, quality = read(PATIENT, CONDITION, ENCOUNTER, {**WBC, **change})

    assert table.states("wbc").tolist() == [state]
    assert code in [finding.code for finding in quality.findings]
    assert quality.count(code) == 1


@pytest.mark.parametrize(
    "reference",
    [
        {"reference": "Patient/1"},
        {"reference": "https://fhir.example/base/Patient/1"},
        {"reference": "Patient/1/_history/3"},
        {"identifier": {"system": SYSTEM, "value": "4711"}},
    ],
)
def test_every_form_of_reference(reference: dict[str, Any]) -> None:
    table, quality = read({**WBC, "subject": reference}, ENCOUNTER, CONDITION, PATIENT)

    assert table.arrow["wbc"].to_pylist() == [13.3]
    assert not quality.findings


def test_the_nearest_measurement_counts_whatever_the_order() -> None:
    def at(day: str, value: float) -> dict[str, Any]:
        return {**WBC, "effectiveDateTime": day, "valueQuantity": {"value": value, "unit": "G/L"}}

    far, near, before, after = (
        at("2009-12-20", 1), at("2010-01-03", 2), at("2009-12-31", 3), at("2010-01-02", 4),
    )  # fmt: skip
    for order in ((far, near, before, after), (after, before, near, far)):
        table, quality = read(PATIENT, CONDITION, ENCOUNTER, *order)
        assert table.arrow["wbc"].to_pylist() == [3.0]
        assert not quality.findings

    table, quality = read(PATIENT, CONDITION, ENCOUNTER, at("2010-01-01", 9), at("2010-01-01", 5))
    assert table.arrow["wbc"].to_pylist() == [5.0]
    assert [finding.code for finding in quality.findings] == ["multiple-matches"]


def test_sex_stated_twice() -> None:
    def sex(answer: str) -> dict[str, Any]:
        code = {"coding": [{"system": "http://loinc.org", "code": "76689-9"}]}
        value = {"coding": [{"system": "http://loinc.org", "code": answer}]}
        return {**WBC, "code": code, "valueQuantity": None, "valueCodeableConcept": value}

    table, quality = read(*ALL, sex("LA3-6"))
    assert table.arrow["sex"].to_pylist() == [0]
    assert not quality.findings

    table, quality = read(*ALL, sex("LA2-8"))
    assert table.states("sex").tolist() == [State.INVALID]
    assert [finding.code for finding in quality.findings] == ["conflicting-values"]


def test_the_newest_version_of_a_patient_wins() -> None:
    old = {**PATIENT, "gender": "male", "meta": {"lastUpdated": "2020-01-01T00:00:00Z"}}
    new = {**PATIENT, "meta": {"lastUpdated": "2021-01-01T00:00:00Z"}}

    for order in ((old, new), (new, old)):
        table, quality = read(*order, *ALL[1:])
        assert table.arrow["sex"].to_pylist() == [0]
        assert [finding.code for finding in quality.findings] == ["patient-superseded"]

    table, quality = read({**old, "meta": {}}, new, *ALL[1:])
    assert len(table) == 0
    assert quality.flow.left_out == {"patient-contradiction": 1}


def test_two_patients_may_not_share_one_resource_id() -> None:
    other = {**PATIENT, "identifier": [{"system": SYSTEM, "value": "4712"}]}
    table, quality = read(*ALL, other)

    assert len(table) == 0
    assert quality.flow.left_out == {"patient-contradiction": 2}


def test_a_patient_without_the_hospitals_identifier() -> None:
    _, quality = read({**PATIENT, "identifier": [{"system": "urn:insurer", "value": "4711"}]}, *ALL[1:])

    assert quality.flow.seen == 0
    assert quality.count("identifier-missing") == 1


@pytest.mark.parametrize("status", ["refuted", "differential", "provisional", "unconfirmed", "entered-in-error"])
def test_refuted_and_other_diagnoses_do_not_count(status: str) -> None:
    refuted = {**CONDITION, "verificationStatus": {"coding": [{"code": status}]}}
    mds = {**CONDITION, "code": {"coding": [{"system": "http://snomed.info/sct", "code": "109995007"}]}}

    _, quality = read(PATIENT, refuted, mds, ENCOUNTER, WBC)
    assert quality.flow.left_out == {"index-diagnosis-missing": 1}


def test_other_resources_are_counted_not_read() -> None:
    table, quality = read(*ALL, {"resourceType": "Medication", "code": 7})

    assert len(table) == 1
    assert quality.count("resource-ignored") == 1


TRUNCATED = json.dumps(WBC).encode()[:-40]


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        (TRUNCATED, "structure", ""),
        (b"{}", "type", ""),
        (b"[]", "type", ""),
        (b'"x"', "type", ""),
        (json.dumps({**WBC, "valueQuantity": {"value": "13.3"}}).encode(), "type", "$.valueQuantity.value"),
        (json.dumps({**WBC, "valueQuantity": {"value": float("nan")}}).encode(), "structure", ""),
        (json.dumps(WBC).replace("13.3", "13,3").encode(), "structure", ""),
        (json.dumps(WBC).replace("13.3", "1e400").encode(), "type", "$.valueQuantity.value"),
        (
            json.dumps(WBC).replace("final", "f\xfcr").encode("latin-1").replace(b"\\u00fc", b"\xfc"),
            "structure",
            "",
        ),
        (json.dumps(WBC).encode().replace(b'"final"', b'"final", "note": "\xff"'), "structure", ""),
    ],
)
def test_one_bad_line_in_a_hundred_is_an_issue_two_are_too_many(line: bytes, code: str, field: str) -> None:
    table, quality = read(*good(99), line)
    assert len(table) == 25
    (finding,) = quality.findings
    assert (finding.code, finding.field, finding.count, finding.places) == (code, field, 1, ("stream:100",))

    with pytest.raises(SourceError, match=r"^stream: 2 of 100 cannot be read, first at line 99; at most 1 % may be"):
        read(*good(98), line, line)


def test_a_byte_order_mark_and_blank_lines() -> None:
    table, quality = read(b"\xef\xbb\xbf" + json.dumps(PATIENT).encode(), b"", *ALL[1:], b"  ", b"")

    assert len(table) == 1
    assert [finding.code for finding in quality.findings] == ["byte-order-mark"]


def test_utf_16_is_named() -> None:
    with pytest.raises(SourceError, match="stream: is UTF-16; save it as UTF-8"):
        read(json.dumps(PATIENT).encode("utf-16"))


def test_an_endless_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_LINE", 1 << 20)
    with pytest.raises(SourceError, match="stream: line 2 is longer than 1 MiB"):
        read(PATIENT, b'{"resourceType": "Binary", "data": "' + b"A" * (1 << 20))


@pytest.mark.parametrize(
    ("resource", "release"),
    [
        ({**ENCOUNTER, "class": [{}]}, "R5 (Encounter.class is a list)"),
        ({**ENCOUNTER, "actualPeriod": {}}, "R5 (Encounter.actualPeriod)"),
        ({**WBC, "triggeredBy": []}, "R5 (Observation.triggeredBy)"),
        ({**CONDITION, "participant": []}, "R5 (Condition.participant)"),
        ({**WBC, "context": {}}, "STU3 (Observation.context)"),
        ({**CONDITION, "assertedDate": "2010"}, "STU3 (Condition.assertedDate)"),
        ({**CONDITION, "verificationStatus": "confirmed"}, "STU3 (Condition.verificationStatus is a code)"),
        ({**PATIENT, "animal": {}}, "STU3 (Patient.animal)"),
        ({"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}, "R5 (fhirVersion)"),
        (
            {**PATIENT, "meta": {"profile": ["http://hl7.org/fhir/5.0/StructureDefinition/Patient"]}},
            "R5 (meta.profile)",
        ),
        (
            {**PATIENT, "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/Patient|3.0.2"]}},
            "STU3 (meta.profile)",
        ),
    ],
)
def test_other_releases_are_refused_by_name(resource: dict[str, Any], release: str) -> None:
    with pytest.raises(SourceError) as error:
        read(PATIENT, resource)
    assert str(error.value) == f"stream: line or entry 2 is FHIR {release}; export as FHIR R4 (4.0.1)"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"resourceType": "Bundle", "issues": {}}, "the Bundle is FHIR R5 (Bundle.issues)"),
        (PATIENT, "not a FHIR Bundle"),
        ([], "not a FHIR Bundle"),
        (b"", "not JSON, not UTF-8, or cut off"),
        (json.dumps({"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}).encode()[:-2], "cut off"),
        (
            {"resourceType": "Bundle", "entry": [{"resource": {"id": "x"}}]},
            "1 of 1 cannot be read, first at entry 1",
        ),
    ],
)
def test_unusable_bundles(document: Any, message: str) -> None:
    with pytest.raises(SourceError) as error:
        read_bundle(document)
    assert message in str(error.value)


def test_a_too_large_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 1 << 20)
    with pytest.raises(SourceError, match="larger than 1 MiB; export as NDJSON instead"):
        read_bundle(b" " * ((1 << 20) + 1))


def test_a_deletion_in_a_bundle_is_no_resource() -> None:
    entries = [{"resource": resource} for resource in ALL]
    table, quality = read_bundle({"resourceType": "Bundle", "entry": [{"fullUrl": "urn:x"}, *entries]})

    assert len(table) == 1
    assert not quality.findings


@pytest.mark.parametrize("deep", [b"[" * 100_000, b"[" * 201 + b"]" * 201, b'{"a":' * 201 + b"1" + b"}" * 201])
def test_absurd_nesting_is_refused(deep: bytes) -> None:
    line = b'{"resourceType": "Observation", "text": ' + deep + b"}"

    with pytest.raises(SourceError, match=r"^stream: line 2 is nested deeper than 200 levels; not an export"):
        read(PATIENT, line)
    with pytest.raises(SourceError, match=r"^stream: is nested deeper than 200 levels; not an export"):
        read_bundle(b'{"resourceType": "Bundle", "entry": [{"resource": ' + line + b"}]}")


@pytest.mark.parametrize(
    "deep", [b"[" * 190 + b"]" * 190, json.dumps("[{" * 300).encode(), b"[" + b"[]," * 300 + b"0]"]
)
def test_much_nesting_is_not_absurd(deep: bytes) -> None:
    line = json.dumps(WBC).encode()[:-1] + b', "text": ' + deep + b"}"

    assert read(*ALL[:3], line)[0].arrow["wbc"].to_pylist() == [13.3]
    entries = b",".join(b'{"resource":' + part + b"}" for part in [*map(encode, ALL[:3]), line])
    assert read_bundle(b'{"resourceType": "Bundle", "entry": [' + entries + b"]}")[0].arrow["wbc"].to_pylist() == [13.3]


@given(st.lists(st.sampled_from("osbrvd"), max_size=20), st.sampled_from(["", "e"]), st.booleans())
@settings(max_examples=examples(40), deadline=None)
def test_blocks_and_single_lines_say_the_same(kinds: list[str], broken: str, newline: bool) -> None:
    """o Observation, b blank, s other type, e broken, r Patient, v modified, d Condition: line by line is the truth."""
    lines = [LINES.get(kind, encode(WBC)) for kind in (*kinds, *broken)]
    lines = [*map(encode, good(100)), *lines]
    data = b"\n".join(lines) + b"\n" * newline

    def items(block: int) -> list[Item]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ndjson, "_BLOCK", block)
            return list(ndjson.read(io.BytesIO(data), fhir_mapping("ndjson"), PROFILE))

    one = items(300)
    assert one == items(1 << 16) == items(3000)
    assert len({item.where.line for item in one if isinstance(item, PatientRecord)}) >= 25


LINES = {
    "b": b" ",
    "s": b'{"resourceType":"Medication"}',
    "e": b'{"resourceType":"Observation"',
    "r": json.dumps({**PATIENT, "id": "2", "meta": {"profile": ["urn:x"]}}).encode(),
    "v": b'{"resourceType":"Observation","modifierExtension":[]}',
    "d": json.dumps(CONDITION).encode(),
}
