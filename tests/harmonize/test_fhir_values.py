"""What Observations, Conditions and Procedures say: kinds of values, reasons, references, outcomes."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from harmonize import codes
from harmonize import profile as profiles
from harmonize.events import Event, Fact, Issue, Item, Pointer, State
from harmonize.mapping import FhirPatient
from harmonize.resources import Extension, Observation, Quantity
from harmonize.sources import values
from harmonize.sources.fhir import Reader, translate
from tests.harmonize.patients import SYSTEM
from tests.harmonize.test_fhir_sources import CONDITION, PATIENT, WBC

MM = profiles.load("mm")
MDS = profiles.load("mds")
MAPPING = FhirPatient(system=SYSTEM)
WHERE = Pointer("f.ndjson", 7)
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
LOINC = "http://loinc.org"


def items(resource: dict[str, Any], profile: profiles.Profile = MDS) -> list[Item]:
    return list(translate(json.dumps(resource).encode(), WHERE, MAPPING, profile))


def event(resource: dict[str, Any], variable: str, profile: profiles.Profile = MDS) -> tuple[Any, str | None, State]:
    (found,) = [item for item in items(resource, profile) if isinstance(item, Event) and item.variable == variable]
    return found.value, found.unit, found.state


def issues(resource: dict[str, Any], profile: profiles.Profile = MDS) -> list[tuple[str, str]]:
    return [(item.code, item.variable) for item in items(resource, profile) if isinstance(item, Issue)]


def valued(**value: Any) -> dict[str, Any]:
    return {name: part for name, part in WBC.items() if name != "valueQuantity"} | value


def reason(code: str) -> dict[str, Any]:
    return {"extension": [{"url": ABSENT, "valueCode": code}]}


def coded(code: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": "urn:local", "code": "x"}, {"system": system, "code": code}]}


@pytest.mark.parametrize(
    ("value", "expected", "code"),
    [
        ({"valueQuantity": {"value": 0.1 + 0.2, "code": "10*9/L"}}, (Decimal(repr(0.1 + 0.2)), "10*9/L", 0), None),
        ({"valueQuantity": {"value": 13, "code": "10*9/L"}}, (Decimal("13.0"), "10*9/L", 0), None),
        ({"valueQuantity": {"value": 5, "code": "", "unit": "G/L"}}, (Decimal("5.0"), "G/L", 0), None),
        ({"valueQuantity": {"value": 5, "comparator": "<", "unit": "G/L"}}, (Decimal("5.0"), "G/L", 6), None),
        ({"valueQuantity": {"value": 5, "comparator": ">=", "unit": "G/L"}}, (Decimal("5.0"), "G/L", 7), None),
        ({"valueQuantity": {"value": 5, "comparator": "about", "unit": "G/L"}}, (None, None, 5), "comparator-unknown"),
        ({"valueQuantity": {"unit": "G/L"}}, (None, None, 1), None),
        ({"valueQuantity": {"_value": reason("not-performed")}}, (None, None, 3), None),
        ({"valueQuantity": reason("masked")}, (None, None, 2), None),
        ({"valueQuantity": {"_value": {"extension": [{"url": "urn:x"}]}}}, (None, None, 1), None),
        ({"_valueString": reason("error")}, (None, None, 5), None),
        ({"valueQuantity": {"value": 5, "code": "G/L", **reason("unknown")}}, (None, None, 5), "value-and-reason"),
        ({"valueInteger": 5}, (Decimal(5), None, 0), None),  # no unit: the table says unit-missing
        ({"valueString": "13.3"}, (None, None, 5), "value-type"),
        ({"valueRange": {"low": {"value": 3}}}, (None, None, 5), "value-type"),
        ({}, (None, None, 1), None),
    ],
)
def test_a_measurement(value: dict[str, Any], expected: tuple[Any, Any, int], code: str | None) -> None:
    resource = valued(**value)

    assert event(resource, "wbc") == expected
    assert issues(resource) == ([] if code is None else [(code, "wbc")])


def test_a_score_needs_no_unit() -> None:
    ecog = next(name for name in ("ecog", "ecog_ps") if name in MDS.names or name in MM.names)
    profile = MDS if ecog in MDS.names else MM
    variable = profile.variable(ecog)
    code = variable.codes["loinc"][0]  # type: ignore[union-attr]

    found = event(valued(code=coded(code), valueInteger=2), ecog, profile)

    assert found in [(Decimal(2), "{score}", State.VALUE), ("2", None, State.VALUE)]


@pytest.mark.parametrize(
    ("value", "category"),
    [
        ({"valueCodeableConcept": coded("LA2-8")}, "male"),
        ({"valueCodeableConcept": {"coding": [{"code": "female"}]}}, "female"),
        ({"valueCodeableConcept": {"text": "female"}}, "female"),
        ({"valueString": " male "}, "male"),
        ({"valueCodeableConcept": coded("LA999-9")}, None),
        ({"valueCodeableConcept": {"text": "Female, I think"}}, None),
    ],
)
def test_a_category(value: dict[str, Any], category: str | None) -> None:
    resource = valued(code=coded("76689-9"), **value)

    assert event(resource, "sex") == (category, None, State.VALUE if category else State.INVALID)
    assert issues(resource) == ([] if category else [("code-unknown", "sex")])


FISH = {
    "LA9633-4": (True, State.VALUE),
    "LA9634-2": (False, State.TESTED_NEGATIVE),
    "260415000": (False, State.TESTED_NEGATIVE),
    "10828004": (True, State.VALUE),
    "LA11884-6": (None, State.UNKNOWN),
    "x": (None, State.INVALID),
}


@pytest.mark.parametrize("answer", FISH)
def test_a_cytogenetic_finding_with_its_own_code(answer: str) -> None:
    value, state, _ = values.Values().finding(_part(valueCodeableConcept=coded(answer)))
    assert (value, state) == FISH[answer]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"valueBoolean": False}, (False, State.TESTED_NEGATIVE, None)),
        ({"valueBoolean": True}, (True, State.VALUE, None)),
        ({"valueString": "Not detected"}, (False, State.TESTED_NEGATIVE, None)),
        ({"valueQuantity": {"value": 12, "unit": "%"}}, (None, State.INVALID, "value-type")),
        (
            {"valueQuantity": {"value": 12, "unit": "%"}, "interpretation": [coded("POS")]},
            (True, State.VALUE, None),
        ),
        ({"dataAbsentReason": coded("not-performed")}, (None, State.NOT_TESTED, None)),
        ({"valueInteger": 4}, (Decimal(4), State.VALUE, None)),
        ({}, (None, State.NOT_RECORDED, None)),
    ],
)
def test_other_forms_of_a_finding(part: dict[str, Any], expected: tuple[Any, State, str | None]) -> None:
    assert values.Values().finding(_part(**part)) == expected


def _part(**fields: Any) -> Observation:
    import msgspec

    return msgspec.json.decode(json.dumps({"resourceType": "Observation", **fields}).encode(), type=Observation)


def test_codes_of_answers_pass_their_check_digits() -> None:
    answers = [code for code in values._FINDINGS if code.isdigit()]
    assert answers
    assert all(codes.snomed_is_well_formed(code) for code in answers)


# HL7's Observation-f005, as far as it matters: 7.2 mmol/L written as g/dL.
@pytest.mark.parametrize(
    ("unit", "low", "high", "suspect"),
    [
        ("g/dL", 7.5, 10, True),
        ("mmol/L", 7.5, 10, False),
        ("g/dL", 12, 16, False),
        ("g/dL", 120, 160, True),
        ("g/L", 120, 160, False),
        ("g/dL", None, 10, True),
        ("g/dL", 7.5, None, False),
        ("furlong", 7.5, 10, False),
    ],
)
def test_a_reference_range_that_contradicts_the_unit(unit: str, low: Any, high: Any, suspect: bool) -> None:
    bounds = {name: {"value": bound, "unit": unit} for name, bound in (("low", low), ("high", high)) if bound}
    resource = valued(code=coded("718-7"), valueQuantity={"value": 7.2, "code": unit}, referenceRange=[bounds])

    for codings in (coded("718-7"), {"coding": [{"system": LOINC, "code": "718-7"}]}):
        resource["code"] = codings
        assert event(resource, "hb") == (Decimal("7.2"), unit, State.VALUE)
        assert issues(resource) == ([("unit-suspect", "hb")] if suspect else [])


def test_a_component_and_its_reason() -> None:
    parts = [
        {"code": coded("718-7"), "valueQuantity": {"value": 9.9, "code": "g/dL"}},
        {"code": coded("777-3"), "dataAbsentReason": coded("not-performed")},
        {"code": {"text": "no code"}, "valueString": "x"},
    ]
    resource = valued(code=coded("58410-2"), component=parts)

    assert event(resource, "hb") == (Decimal("9.9"), "g/dL", State.VALUE)
    assert event(resource, "plt" if "plt" in MDS.names else "platelets") == (None, None, State.NOT_TESTED)
    parts[0]["modifierExtension"] = [{"url": "urn:not"}]
    assert issues(resource) == [("modifier-extension", "")]
    assert not [item for item in items(resource) if isinstance(item, Event)]


@pytest.mark.parametrize(
    ("dated", "day", "code"),
    [
        ({"effectiveDateTime": "2010-01-01T23:59:60Z"}, dt.date(2010, 1, 1), None),
        ({"effectiveDateTime": "2010-01-01T23:30:00.123-05:00"}, dt.date(2010, 1, 1), None),
        ({"effectiveInstant": "2010-01-01T10:00:00Z"}, dt.date(2010, 1, 1), None),
        ({"effectivePeriod": {"start": "2010-01-01", "end": "2011-01-01"}}, dt.date(2010, 1, 1), None),
        ({"effectiveDateTime": "2010-01-01T10:00:00"}, dt.date(2010, 1, 1), "time-zone-missing"),
        ({"effectiveDateTime": "2010-02"}, dt.date(2010, 2, 15), "date-partial"),
        ({"effectiveDateTime": "2010"}, None, "date-coarse"),
        ({"effectiveDateTime": "2010-W01-1"}, None, "date-malformed"),
        ({"effectiveDateTime": "2010-13-01"}, None, "date-malformed"),
        ({"effectivePeriod": {"end": "2011-01-01"}}, None, "time-missing"),
    ],
)
def test_when(dated: dict[str, Any], day: dt.date | None, code: str | None) -> None:
    resource = {name: part for name, part in WBC.items() if name != "effectiveDateTime"} | dated
    for _ in range(2):
        found = items(resource)
        (event_,) = [item for item in found if isinstance(item, Event) and item.variable == "wbc"]
        assert (event_.time, event_.state) == (day, State.INVALID if day is None else State.VALUE)
        assert issues(resource) == ([] if code is None else [(code, "wbc")])


@pytest.mark.parametrize(
    ("when", "day", "code"),
    [("2016", None, "date-coarse"), ("2016-03", dt.date(2016, 3, 15), "date-partial"), (None, None, None)],
)
def test_when_of_a_karyotype(when: str | None, day: dt.date | None, code: str | None) -> None:
    resource = valued(code=coded("33893-9"), valueString="46,XX[20]", effectiveDateTime=when)

    (found,) = [item for item in items(resource) if isinstance(item, Event) and item.variable == Fact.KARYOTYPE]
    assert (found.value, found.time) == ("46,XX[20]", day)
    assert issues(resource) == ([] if code is None else [(code, Fact.KARYOTYPE)])


CONTAINED = [{"resourceType": "Patient", "id": "p", "identifier": [{"system": SYSTEM, "value": "4711"}]}]


@pytest.mark.parametrize(
    ("subject", "contained", "key"),
    [
        ({"reference": "Patient/1"}, None, "Patient/1"),
        ({"reference": "https://a.example/fhir/Patient/1/_history/2"}, None, "Patient/1"),
        ({"reference": "urn:uuid:8ee183e2"}, None, "urn:uuid:8ee183e2"),
        ({"identifier": {"system": SYSTEM, "value": "4711"}}, None, f"{SYSTEM}|4711"),
        ({"reference": "#p"}, CONTAINED, f"{SYSTEM}|4711"),
        ({"reference": "#q"}, CONTAINED, None),
        ({"reference": "#p"}, [*CONTAINED, *CONTAINED], None),
        ({"reference": "#p"}, "nonsense", None),
        ({"reference": "#p"}, None, None),
        ({"reference": f"Patient?identifier={SYSTEM}|4711"}, None, None),
        ({"display": "Mrs Miller"}, None, None),
        (None, None, None),
    ],
)
def test_who(subject: Any, contained: Any, key: str | None) -> None:
    resource = {**WBC, "subject": subject} | ({} if contained is None else {"contained": contained})

    found = items(resource)
    assert [item.patient for item in found if isinstance(item, Event)] == ([] if key is None else [key, key])
    assert issues(resource) == ([] if key else [("patient-unresolved", "")])


OUTCOMES = {outcome.resource: outcome for outcome in MDS.outcomes}


def outcome(resource: str) -> tuple[str, dict[str, Any]]:
    known = OUTCOMES[resource]
    system, (code, *_) = next(iter(known.codes.items()))
    return known.name, coded(code, MDS.systems[system])


@pytest.mark.parametrize(
    "dated",
    [
        {"performedDateTime": "2011-03-04"},
        {"occurrenceDateTime": "2011-03-04T10:00:00Z"},
        {"performedPeriod": {"start": "2011-03-04", "end": "2011-04-01"}},
    ],
)
def test_a_transplantation(dated: dict[str, Any]) -> None:
    name, code = outcome("procedure")
    procedure = {"resourceType": "Procedure", "status": "completed", "subject": {"reference": "Patient/1"}}

    found = items({**procedure, "code": code, **dated})
    day = dt.date(2011, 3, 4)
    assert [(item.variable, item.value) for item in found if isinstance(item, Event)] == [
        (name, day),
        (Fact.LAST_FOLLOW_UP, day),
    ]
    # Any other procedure says only that the patient was there.
    other = items({**procedure, "code": coded("1"), **dated})
    assert [(item.variable, item.value) for item in other if isinstance(item, Event)] == [(Fact.LAST_FOLLOW_UP, day)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": "not-done"}, "status-skipped"),
        ({"status": "entered-in-error"}, "status-skipped"),
        ({"subject": None}, "patient-unresolved"),
        ({}, "time-missing"),
        ({"performedDateTime": "soon"}, "date-malformed"),
    ],
)
def test_a_transplantation_that_does_not_count(change: dict[str, Any], code: str) -> None:
    name, concept = outcome("procedure")
    resource = {"resourceType": "Procedure", "status": "completed", "subject": {"reference": "Patient/1"}}

    found = items({**resource, "code": concept, **change})
    assert code in [item.code for item in found if isinstance(item, Issue)]
    events = [(item.variable, item.value, item.state) for item in found if isinstance(item, Event)]
    # It happened, nobody knows when: that is not the same as nothing.
    assert events == ([(name, None, State.UNKNOWN)] if "status" not in change and "subject" not in change else [])


def test_a_transformation() -> None:
    name, code = outcome("condition")
    found = items({**CONDITION, "code": code, "onsetDateTime": "2012-05-06"})

    assert [(item.variable, item.value) for item in found if isinstance(item, Event)] == [(name, dt.date(2012, 5, 6))]


@pytest.mark.parametrize("status", ["provisional", "unconfirmed"])
def test_a_suspected_transformation_is_none(status: str) -> None:
    found = items(
        {
            **CONDITION,
            "code": outcome("condition")[1],
            "onsetDateTime": "2012-05-06",
            "verificationStatus": {"coding": [{"code": status}]},
        }
    )

    assert [item.code if isinstance(item, Issue) else item for item in found] == ["status-skipped"]


def test_a_patient_has_every_key() -> None:
    reader = Reader(FhirPatient(system=SYSTEM, identifier="resource-id"), MDS)
    record = next(iter(reader.items(json.dumps(PATIENT).encode(), "f", 1, "https://a.example/Patient/9")))

    keys = ("Patient/1", "Patient/9", "https://a.example/Patient/9", f"{SYSTEM}|1")
    assert record.keys == keys  # type: ignore[union-attr]


def test_no_value_in_the_name_of_an_event() -> None:
    (found,) = [item for item in items(WBC) if isinstance(item, Event) and item.variable == "wbc"]

    assert "13.3" not in repr(found)
    assert "Patient/1" not in repr(found)
    assert "2010" not in repr(found)
    assert "10*9/L" in repr(found)


def test_the_short_way_says_what_the_long_way_says() -> None:
    wbc = MDS.variable("wbc")
    for value in (5.0, 0.1 + 0.2, 1e-7, -0.0):
        for _ in range(2):
            quantity = Quantity(value, code="G/L", unit="other")
            part = Observation(value_quantity=quantity)
            known = values.Values()
            number, unit = known.measured(part, wbc)[:2]  # type: ignore[arg-type]
            assert known.plain(part, quantity) == ((number, hash(number)), unit)
    for odd in (
        Quantity(5.0, comparator="<", code="G/L"),
        Quantity(5.0, code="G/L", extension=(Extension(ABSENT, "unknown"),)),
        Quantity(5.0, unit="G/L"),
        Quantity(5.0, code="", unit="G/L"),
        Quantity(None, code="G/L"),
    ):
        assert values.Values().plain(Observation(value_quantity=odd), odd) is None
