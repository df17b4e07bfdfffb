"""One patient, however the identifier is written and wherever a reference points."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.events import Issue, PatientRecord, Pointer
from harmonize.pseudonyms import normalised, pseudonym
from harmonize.reporting.quality import Quality
from harmonize.sources import csv, variants
from harmonize.table import Table, build
from tests.harmonize.patients import KEY, PROFILE, SYSTEM
from tests.harmonize.test_fhir_sources import CONDITION, ENCOUNTER, PATIENT, WBC, read, read_bundle

MDS = profiles.load("mds")
BOTH = f"""
profile = "aml_core"
[[source]]
format = "ndjson"
files = ["a.ndjson"]
[source.patient]
system = "{SYSTEM}"
[[source]]
format = "csv"
files = ["p.csv"]
[source.patient]
system = "{SYSTEM}"
column = "id"
[source.columns]
wbc = {{column = "wbc", unit = "10*9/L"}}
"""
DATED = 'index_date = {column = "dx"}\nlast_follow_up = {column = "fu"}\n'
COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"
SPELLINGS = [
    ("A", "A"),
    (" A", "A"),
    ("A", " A "),
    ("A\u00a0", "A"),
    (COMPOSED, DECOMPOSED),
    (DECOMPOSED, COMPOSED),
    ("\ufeffA", "A"),
    ("A", "\u200bA"),
]


def named(value: str) -> dict[str, Any]:
    return {**PATIENT, "identifier": [{"system": SYSTEM, "value": value}]}


def joined(folder: Path, fhir: str, cell: str, mapping: str = BOTH) -> tuple[Table, Quality]:
    lines = (named(fhir), CONDITION, ENCOUNTER)
    (folder / "a.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "p.csv").write_text(f"id,dx,fu,wbc\n{cell},2010-01-01,2012-01-01,9\n", encoding="utf-8")
    return build(sources.read(folder, mappings.loads(mapping, PROFILE), PROFILE), PROFILE, KEY)


@pytest.mark.parametrize(("fhir", "cell"), SPELLINGS)
def test_fhir_and_csv_mean_one_patient(tmp_path: Path, fhir: str, cell: str) -> None:
    table, quality = joined(tmp_path, fhir, cell)

    assert table.arrow["wbc"].to_pylist() == [9.0]
    assert not quality.findings
    assert table.arrow["pid"].to_pylist() == [pseudonym(KEY, SYSTEM, cell)] == [pseudonym(KEY, SYSTEM, fhir)]


@pytest.mark.parametrize(("fhir", "cell"), SPELLINGS)
def test_a_patient_whom_both_introduce_is_one_person(tmp_path: Path, fhir: str, cell: str) -> None:
    _, quality = joined(tmp_path, fhir, cell, BOTH + DATED)

    assert quality.flow.seen == 1


@pytest.mark.parametrize("cell", ["", " ", "\u200b", "\u00a0\ufeff"])
def test_what_cannot_be_seen_is_no_identifier(tmp_path: Path, cell: str) -> None:
    _, quality = joined(tmp_path, cell, cell, BOTH + DATED)

    assert quality.flow.seen == 0
    assert quality.count("identifier-missing") == 2


BLANK = ["", " ", "\u00a0", "\u200b", "\ufeff\u200d", "\u00ad \u2060"]
TABLE = f"""
format = "csv"
profile = "aml_core"
files = ["p.csv"]
[patient]
system = "{SYSTEM}"
column = "id"
[columns]
index_date = {{column = "dx"}}
last_follow_up = {{column = "fu"}}
"""
VARIANTS = {"format": "variants", "files": ["v"], "patient": {"system": SYSTEM, "column": "id"}, "gene": "gene"}
VARIANTS_MAPPING = mappings.Variants.model_validate({**VARIANTS, "panel": "myeloid"})


@pytest.mark.parametrize("blank", BLANK)
def test_a_row_with_an_identifier_that_nobody_can_see_is_reported_and_not_read(blank: str) -> None:
    mapping = mappings.loads(TABLE, PROFILE).sources[0]
    assert isinstance(mapping, mappings.Csv)
    rows = list(csv.read(io.BytesIO(f"id,dx,fu\n{blank},2010-01-01,2012-01-01\n".encode()), mapping, PROFILE))
    genes = list(variants.read(io.BytesIO(f"id,gene\n{blank},TP53\n".encode()), VARIANTS_MAPPING, MDS))

    assert rows == [Issue("identifier-missing", Pointer("stream", 2, "id"))]
    assert genes == [Issue("identifier-missing", Pointer("stream", 2, "id"))]


@pytest.mark.parametrize("written", ["A\u200b", "\ufeffA", "A\u00a0", "\u2060A"])
def test_a_record_of_a_row_has_the_identifier_that_every_format_gives_it(written: str) -> None:
    mapping = mappings.loads(TABLE, PROFILE).sources[0]
    assert isinstance(mapping, mappings.Csv)
    rows = csv.read(io.BytesIO(f"id,dx,fu\n{written},2010-01-01,2012-01-01\n".encode()), mapping, PROFILE)

    assert [item.identifier for item in rows if isinstance(item, PatientRecord)] == ["A"]


def test_two_spellings_of_one_identifier_are_one() -> None:
    both = [*named("4711")["identifier"], *named("4711 ")["identifier"]]
    table, _ = read({**PATIENT, "identifier": both}, CONDITION, ENCOUNTER, WBC)

    assert table.arrow["wbc"].to_pylist() == [13.3]


@pytest.mark.parametrize(("value", "found"), [("4711\u00a0", [13.3]), (" ", [None])])
def test_a_logical_reference(value: str, found: list[float | None]) -> None:
    subject = {"subject": {"identifier": {"system": SYSTEM, "value": value}}}
    table, _ = read(PATIENT, CONDITION, ENCOUNTER, {**WBC, **subject})

    assert table.arrow["wbc"].to_pylist() == found


def test_pseudonyms_of_ordinary_identifiers_are_for_ever() -> None:
    assert pseudonym(bytes(32), "urn:oid:1.2.3.4", "4711") == "RFBFEVWP35XTNR6FJKOBPNHDMQ"


@given(st.text())
def test_normalising_again_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


OURS, OTHER = "https://hospital.example/fhir", "https://other.example/fhir"


def bundle(subject: str, *more: dict[str, Any], ours: str = OURS) -> dict[str, Any]:
    entries = [(f"{ours}/Patient/1", PATIENT), (f"{ours}/Condition/1", CONDITION), (f"{ours}/Encounter/1", ENCOUNTER)]
    entries.append((f"{OURS}/Observation/1", {**WBC, "subject": {"reference": subject}}))
    return {
        "resourceType": "Bundle",
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries] + list(more),
    }


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        ("Patient/1", [13.3]),
        (f"{OURS}/Patient/1", [13.3]),
        (f"{OURS}/Patient/1/_history/2", [13.3]),
        ("http://HOSPITAL.example/fhir/Patient/1", [13.3]),
        (f"{OTHER}/Patient/1", [None]),
        ("https://hospital.example/test/Patient/1", [None]),
    ],
)
def test_another_servers_patient_is_not_ours(subject: str, found: list[float | None]) -> None:
    table, quality = read_bundle(bundle(subject))

    assert table.arrow["wbc"].to_pylist() == found
    assert quality.count("patient-unresolved") == found.count(None)


def test_another_servers_patient_who_is_an_entry_is_found() -> None:
    table, _ = read_bundle(bundle(f"{OTHER}/Patient/1", ours=OTHER))

    assert table.arrow["wbc"].to_pylist() == [13.3]


def test_who_is_foreign_is_asked_of_every_entry_anew() -> None:
    unaddressed = {"resource": {**WBC, "subject": {"reference": f"{OTHER}/Patient/1"}}}
    table, quality = read_bundle(bundle(f"{OTHER}/Patient/1", unaddressed))

    assert table.arrow["wbc"].to_pylist() == [13.3]
    assert quality.count("patient-unresolved") == 1
