"""Generated patients, and four ways in which a hospital may have them on file."""

import csv
import datetime as dt
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize.reporting.quality import Quality
from harmonize.sources import bundle, ndjson
from harmonize.sources import csv as csv_source
from harmonize.table import Table, build

PROFILE = profiles.load("aml_core")
KEY = bytes(range(32))
SYSTEM = "urn:test:hospital"


@dataclass(frozen=True)
class Person:
    identifier: str
    sex: str | None
    birth: dt.date | None
    index: dt.date | None
    wbc: Decimal | str | None  # a number in 10*9/L, or "unknown", "not-tested", or nothing
    wbc_date: dt.date
    tpi: Decimal | None
    death: dt.date | None
    follow_up: dt.date


@st.composite
def people(draw: st.DrawFn) -> list[Person]:
    identifiers = draw(st.lists(st.text("abAB019", min_size=1, max_size=8), max_size=5, unique=True))
    return [draw(_person(identifier)) for identifier in identifiers]


@st.composite
def _person(draw: st.DrawFn, identifier: str) -> Person:
    index = draw(st.dates(dt.date(1990, 1, 1), dt.date(2020, 12, 31)))
    wbc_date = index + dt.timedelta(days=draw(st.integers(-40, 20)))
    follow_up = max(index, wbc_date) + dt.timedelta(days=draw(st.integers(0, 4000)))
    counts = st.integers(0, 120_000).map(lambda hundredths: Decimal(hundredths) / 100)
    return Person(
        identifier=identifier,
        sex=draw(st.sampled_from(["female", "male", "other", "unknown", None])),
        birth=draw(st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2021, 12, 31))),
        index=draw(st.sampled_from([index, index, index, None])),
        wbc=draw(counts | st.sampled_from(["unknown", "not-tested", None])),
        wbc_date=wbc_date,
        tpi=draw(st.none() | st.integers(-170_000, 220_000).map(lambda units: Decimal(units) / 10_000)),
        death=draw(st.none() | st.integers(-10, 4000).map(lambda days: index + dt.timedelta(days=days))),
        follow_up=follow_up,
    )


def resources(person: Person, subject: str, unit: dict[str, str], factor: int) -> list[dict[str, Any]]:
    reference = {"reference": subject}
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": f"p-{person.identifier}",
        "identifier": [
            {"system": "urn:other", "value": "same"},
            {"system": SYSTEM, "value": person.identifier},
        ],
    }
    if person.sex:
        patient["gender"] = person.sex
    if person.birth:
        patient["birthDate"] = person.birth.isoformat()
    if person.death:
        patient["deceasedDateTime"] = f"{person.death.isoformat()}T10:00:00+01:00"
    found = [patient]
    if person.index:
        coding = [
            {"system": "urn:local", "code": "x"},
            {"system": "http://snomed.info/sct", "code": "91861009"},
        ]
        found.append(
            {
                "resourceType": "Condition",
                "subject": reference,
                "code": {"coding": coding},
                "onsetDateTime": person.index.isoformat(),
            }
        )
    found.append(
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": reference,
            "period": {"start": person.follow_up.isoformat(), "end": person.follow_up.isoformat()},
        }
    )
    wbc = _observation(reference, ("http://loinc.org", "6690-2"), person.wbc_date)
    if isinstance(person.wbc, Decimal):
        wbc["valueQuantity"] = {"value": float(person.wbc * factor), **unit}
    elif person.wbc is not None:
        reason = {"unknown": "asked-unknown", "not-tested": "not-performed"}[person.wbc]
        wbc["dataAbsentReason"] = {"coding": [{"code": reason}]}
    found.append(wbc)
    if person.tpi is not None and person.index is not None:
        code = ("urn:haemfed:codesystem:variables", "townsend-deprivation-index")
        quantity = {"value": float(person.tpi), "code": "{score}"}
        found.append({**_observation(reference, code, person.index), "valueQuantity": quantity})
    return found


def _observation(subject: dict[str, str], code: tuple[str, str], day: dt.date) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": code[0], "code": code[1]}]},
        "subject": subject,
        "effectiveDateTime": day.isoformat(),
    }


@cache
def fhir_mapping(form: str) -> Any:
    text = f'format = "{form}"\nprofile = "aml_core"\nfiles = ["*"]\n[patient]\nsystem = "{SYSTEM}"\n'
    return mappings.loads(text, PROFILE).sources[0]


def from_bundle(persons: Sequence[Person]) -> tuple[Table, Quality]:
    unit = {"system": "http://unitsofmeasure.org", "code": "10*9/L", "unit": "x"}
    entries = [
        {"fullUrl": f"urn:uuid:{person.identifier}-{number}", "resource": resource}
        for person in persons
        for number, resource in enumerate(resources(person, f"urn:uuid:{person.identifier}-0", unit, 1))
    ]
    document = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    stream = io.BytesIO(json.dumps(document).encode())
    return build(bundle.read(stream, fhir_mapping("bundle"), PROFILE), PROFILE, KEY)


def from_ndjson(persons: Sequence[Person]) -> tuple[Table, Quality]:
    # No coded unit, absolute references, and last resource first: the Patient comes after its facts.
    lines = [
        json.dumps(resource)
        for person in persons
        for resource in resources(
            person, f"https://fhir.example/r4/Patient/p-{person.identifier}", {"unit": "/µL"}, 1000
        )
    ]
    stream = io.BytesIO("\n".join(reversed(lines)).encode())
    return build(ndjson.read(stream, fhir_mapping("ndjson"), PROFILE), PROFILE, KEY)


GERMAN = f"""
format = "csv"
profile = "aml_core"
files = ["p.csv"]
[patient]
system = "{SYSTEM}"
column = "Nr"
[csv]
encoding = "cp1252"
delimiter = ";"
decimal = ","
thousands = "."
missing = {{ "k.A." = "unknown", "n.d." = "not-tested" }}
[columns]
birth_date = {{ column = "Geburt", date_format = "%d.%m.%Y" }}
index_date = {{ column = "Diagnose", date_format = "%d.%m.%Y" }}
sex = {{ column = "Geschlecht", codes = {{ w = "female", m = "male", d = "other", u = "unknown" }} }}
wbc = {{ column = "Leukozyten/µl", unit = "/µl", date_column = "Labor", date_format = "%d.%m.%Y" }}
tpi = {{ column = "Townsend", unit = "score" }}
death_date = {{ column = "Tod", date_format = "%d.%m.%Y" }}
last_follow_up = {{ column = "Kontakt", date_format = "%d.%m.%Y" }}
"""

REDCAP = f"""
format = "csv"
profile = "aml_core"
files = ["p.csv"]
[patient]
system = "{SYSTEM}"
column = "record_id"
[csv]
missing = {{ "-99" = "unknown", "-98" = "not-tested" }}
[columns]
birth_date = {{ column = "dob" }}
index_date = {{ column = "dx" }}
sex = {{ column = "sex", codes = {{ 1 = "male", 2 = "female", 3 = "other", 9 = "unknown" }} }}
wbc = {{ column = "wbc", unit_column = "wbc_unit", date_column = "wbc_date" }}
tpi = {{ column = "tdi", unit = "{{score}}" }}
death_date = {{ column = "dod" }}
last_follow_up = {{ column = "seen" }}
"""


def from_german(persons: Sequence[Person]) -> tuple[Table, Quality]:
    def day(date: dt.date | None) -> str:
        return date.strftime("%d.%m.%Y") if date else ""

    missing = {"unknown": "k.A.", "not-tested": "n.d.", None: ""}
    rows = [["Nr", "Geburt", "Geschlecht", "Diagnose", "Leukozyten/µl", "Labor", "Townsend", "Tod", "Kontakt"]]
    for person in reversed(persons):
        wbc = f"{person.wbc * 1000:,.0f}".replace(",", ".") if isinstance(person.wbc, Decimal) else missing[person.wbc]
        rows.append(
            [
                person.identifier,
                day(person.birth),
                {"female": "w", "male": "m", "other": "d", "unknown": "u", None: ""}[person.sex],
                day(person.index),
                wbc,
                day(person.wbc_date),
                "" if person.tpi is None else format(person.tpi, "f").replace(".", ","),
                day(person.death),
                day(person.follow_up),
            ]
        )
    return read_csv(table_text(rows, ";").encode("cp1252"), GERMAN)


def from_redcap(persons: Sequence[Person]) -> tuple[Table, Quality]:
    def day(date: dt.date | None) -> str:
        return date.isoformat() if date else ""

    missing = {"unknown": "-99", "not-tested": "-98", None: ""}
    rows = [["seen", "record_id", "dob", "note", "sex", "dx", "wbc", "wbc_unit", "wbc_date", "tdi", "dod"]]
    rows += [
        [
            day(person.follow_up),
            person.identifier,
            day(person.birth),
            'a "quoted", note\nof two lines',
            {"female": "2", "male": "1", "other": "3", "unknown": "9", None: ""}[person.sex],
            day(person.index),
            format(person.wbc, "f") if isinstance(person.wbc, Decimal) else missing[person.wbc],
            "K/uL",
            day(person.wbc_date),
            "" if person.tpi is None else format(person.tpi, "f"),
            day(person.death),
        ]
        for person in persons
    ]
    return read_csv(table_text(rows, ",").encode(), REDCAP)


@cache
def csv_mapping(text: str) -> mappings.Source:
    return mappings.loads(text, PROFILE).sources[0]


def read_csv(data: bytes, mapping: str) -> tuple[Table, Quality]:
    loaded = csv_mapping(mapping)
    assert isinstance(loaded, mappings.Csv)
    return build(csv_source.read(io.BytesIO(data), loaded, PROFILE), PROFILE, KEY)


def table_text(rows: list[list[str]], delimiter: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()
