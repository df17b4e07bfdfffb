"""Generated patients with karyotype, variants, outcomes and vectors, and five ways of having them on file."""

import csv
import datetime as dt
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.profile import Profile
from harmonize.reporting.quality import Quality
from harmonize.table import Table, build

KEY = bytes(range(32))
SYSTEM = "urn:test:hospital"
PANEL = {10768: "SF3B1", 11998: "TP53", 7989: "NRAS"}
_SHA = "ab" * 32
SLIDES = f'variable = "slide"\ncolumn = "numbers"\nencoder = "test 1"\nencoder_sha256 = "{_SHA}"\n'


def _profile() -> Profile:
    raw = profiles.load("mds").model_dump(mode="json")
    raw["panels"]["three"] = {"title": "Three genes", "genes": list(PANEL)}
    for variable in raw["variables"]:
        if variable["name"] == "slide":
            variable.update(length=4, encoder="test 1", encoder_sha256=_SHA, settings_sha256=None)
    return Profile.model_validate(raw)


PROFILE = _profile()


@dataclass(frozen=True)
class Person:
    identifier: str
    sex: str
    birth: dt.date
    index: dt.date
    hb: Decimal | None  # g/dL
    hb_date: dt.date
    karyotype: str | None
    tested: bool
    variants: tuple[tuple[int, str, Decimal], ...]  # HGNC id, protein, allele fraction
    transformation: dt.date | None
    transplant: dt.date | None
    slides: tuple[tuple[float, ...], ...]
    seen: dt.date


KARYOTYPES = ["46,XX[20]", "46,XY,del(5)(q13q33)[12]/46,XY[8]", "45,XX,-7[20]", "no metaphases", "lorem ipsum", None]


@st.composite
def _person(draw: st.DrawFn, identifier: str) -> Person:
    index = draw(st.dates(dt.date(1990, 1, 1), dt.date(2020, 12, 31)))
    seen = index + dt.timedelta(days=draw(st.integers(60, 4000)))
    later = st.none() | st.integers(0, 60).map(lambda days: index + dt.timedelta(days=days))
    fractions = st.integers(1, 99).map(lambda percent: Decimal(percent) / 100)
    found = st.tuples(st.sampled_from(sorted(PANEL)), st.sampled_from(["p.R175H", "p.K700E", "p.G12D"]), fractions)
    tested = draw(st.booleans())
    return Person(
        identifier=identifier,
        sex=draw(st.sampled_from(["female", "male"])),
        birth=dt.date(1940, 5, 1),
        index=index,
        hb=draw(st.none() | st.integers(1, 2600).map(lambda hundredths: Decimal(hundredths) / 100)),
        hb_date=index + dt.timedelta(days=draw(st.integers(-40, 20))),
        karyotype=draw(st.sampled_from(KARYOTYPES)),
        tested=tested,
        variants=tuple(draw(st.lists(found, max_size=3, unique=True))) if tested else (),
        transformation=draw(later),
        transplant=draw(later),
        slides=tuple(draw(st.lists(st.tuples(*[st.floats(-2, 2, width=32)] * 4), max_size=2))),
        seen=seen,
    )


@st.composite
def people(draw: st.DrawFn) -> list[Person]:
    identifiers = draw(st.lists(st.text("abAB019", min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    return [draw(_person(identifier)) for identifier in identifiers]


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _gene(hgnc: int) -> dict[str, Any]:
    value = {"coding": [{"system": "http://www.genenames.org/geneId", "code": f"HGNC:{hgnc}"}]}
    return {"code": _concept("http://loinc.org", "48018-6"), "valueCodeableConcept": value}


def resources(person: Person) -> list[dict[str, Any]]:
    """Everything about a person as FHIR R4."""
    subject = {"reference": f"Patient/p-{person.identifier}"}
    identifier = [{"system": SYSTEM, "value": person.identifier}]

    def observation(code: str, day: dt.date, **rest: Any) -> dict[str, Any]:
        base = {"resourceType": "Observation", "status": "final", "code": _concept("http://loinc.org", code)}
        return base | {"subject": subject, "effectiveDateTime": day.isoformat()} | rest

    def condition(code: str, day: dt.date) -> dict[str, Any]:
        concept = _concept("http://snomed.info/sct", code)
        return {"resourceType": "Condition", "subject": subject, "code": concept, "onsetDateTime": day.isoformat()}

    found: list[dict[str, Any]] = [
        {
            "resourceType": "Patient",
            "id": f"p-{person.identifier}",
            "identifier": identifier,
            "gender": person.sex,
            "birthDate": person.birth.isoformat(),
        },
        condition("109995007", person.index),
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": subject,
            "period": {"end": person.seen.isoformat()},
        },
    ]
    if person.hb is not None:
        quantity = {"value": float(person.hb * 10), "code": "g/L", "unit": "g/L"}
        found.append(observation("718-7", person.hb_date, valueQuantity=quantity))
    if person.karyotype is not None:
        found.append(observation("33893-9", person.index, valueString=person.karyotype))
    if person.tested:
        found.append(observation("53041-0", person.index, component=[_gene(hgnc) for hgnc in PANEL]))
    for hgnc, protein, fraction in person.variants:
        parts = [
            _gene(hgnc),
            {"code": _concept("http://loinc.org", "48005-3"), "valueCodeableConcept": {"text": protein}},
            {"code": _concept("http://loinc.org", "81258-6"), "valueQuantity": {"value": float(fraction), "code": "1"}},
        ]
        present = _concept("http://loinc.org", "LA9633-4")
        found.append(observation("69548-6", person.index, valueCodeableConcept=present, component=parts))
    if person.transformation is not None:
        found.append(condition("91861009", person.transformation))
    if person.transplant is not None:
        code = _concept("http://snomed.info/sct", "234336002")
        base = {"resourceType": "Procedure", "status": "completed", "subject": subject, "code": code}
        found.append(base | {"performedDateTime": person.transplant.isoformat()})
    return found


def _slides(persons: Sequence[Person], folder: Path) -> str:
    rows = [(person.identifier, list(slide)) for person in persons for slide in person.slides]
    table = pa.table(
        {
            "id": pa.array([identifier for identifier, _ in rows], type=pa.string()),
            "numbers": pa.array([numbers for _, numbers in rows], type=pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, folder / "slides.parquet")
    patient = f'patient.system = "{SYSTEM}"\npatient.column = "id"\n'
    return f'[[source]]\nformat = "features"\nfiles = ["slides.parquet"]\n{SLIDES}{patient}'


def _read(folder: Path, persons: Sequence[Person], text: str) -> tuple[Table, Quality]:
    mapping = mappings.loads(f'profile = "mds"\n{text}{_slides(persons, folder)}', PROFILE)
    return build(sources.read(folder, mapping, PROFILE), PROFILE, KEY)


def from_bundle(persons: Sequence[Person], folder: Path) -> tuple[Table, Quality]:
    """One Bundle."""
    entries = [{"resource": resource} for person in persons for resource in resources(person)]
    (folder / "b.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    return _read(folder, persons, f'[[source]]\nformat = "bundle"\nfiles = ["b.json"]\npatient.system = "{SYSTEM}"\n')


def from_ndjson(persons: Sequence[Person], folder: Path) -> tuple[Table, Quality]:
    """One resource a line, the last first."""
    lines = [json.dumps(resource) for person in persons for resource in resources(person)]
    (folder / "all.ndjson").write_text("\n".join(reversed(lines)))
    return _read(folder, persons, f'[[source]]\nformat = "ndjson"\nfiles = ["*.ndjson"]\npatient.system = "{SYSTEM}"\n')


def from_bulk(persons: Sequence[Person], folder: Path) -> tuple[Table, Quality]:
    """A bulk export: one file a resource type, and a manifest."""
    files: dict[str, list[str]] = {}
    for person in persons:
        for resource in resources(person):
            files.setdefault(resource["resourceType"], []).append(json.dumps(resource))
    for kind, lines in files.items():
        (folder / f"{kind}.ndjson").write_text("\n".join(lines))
    output = [{"type": kind, "url": f"https://fhir.example/out/{kind}.ndjson"} for kind in files]
    manifest = {"transactionTime": "2024-01-01T00:00:00Z", "request": "r", "output": output, "error": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return _read(
        folder, persons, f'[[source]]\nformat = "bulk"\nfiles = ["manifest.json"]\npatient.system = "{SYSTEM}"\n'
    )


_VARIANTS = f"""
[[source]]
format = "variants"
files = ["variants.csv"]
patient.system = "{SYSTEM}"
patient.column = "case"
gene = "Hugo_Symbol"
protein = "HGVSp_Short"
vaf = "t_vaf"
vaf_unit = "percent"
"""
_WIDE = f"""
[[source]]
format = "csv"
files = ["wide.csv"]
patient.system = "{SYSTEM}"
patient.column = "id"
csv.delimiter = ";"
csv.decimal = ","
[source.columns]
birth_date.column = "dob"
sex = {{column = "sex", codes = {{1 = "male", 2 = "female"}}}}
index_date.column = "dx"
last_follow_up.column = "seen"
hb = {{column = "hb", unit = "g/dL", date_column = "hb_day"}}
karyotype.column = "iscn"
genes_tested = {{column = "panel", codes = {{yes = "three"}}}}
transformation.column = "aml"
hsct.column = "graft"
"""
_LONG = f"""
[[source]]
format = "csv"
files = ["people.csv"]
patient.system = "{SYSTEM}"
patient.column = "id"
[source.columns]
birth_date.column = "dob"
sex = {{column = "sex", codes = {{m = "male", f = "female"}}}}
index_date.column = "dx"
last_follow_up.column = "seen"
transformation.column = "aml"
hsct.column = "graft"
[[source]]
format = "csv"
files = ["long.csv"]
layout = "long"
patient.system = "{SYSTEM}"
patient.column = "id"
long = {{code = "what", value = "value", unit = "unit", date = "day"}}
[source.columns]
hb.code = "Hb"
karyotype.code = "ISCN"
genes_tested = {{code = "panel", codes = {{3 = "three"}}}}
"""


def from_wide(persons: Sequence[Person], folder: Path) -> tuple[Table, Quality]:
    """One row a patient, and a list of variants."""
    _variants(persons, folder)
    rows = [["id", "dob", "sex", "dx", "seen", "hb", "hb_day", "iscn", "panel", "aml", "graft"]]
    for person in persons:
        hb = "" if person.hb is None else format(person.hb, "f").replace(".", ",")
        rows.append(
            [
                person.identifier,
                person.birth.isoformat(),
                {"male": "1", "female": "2"}[person.sex],
                person.index.isoformat(),
                person.seen.isoformat(),
                hb,
                person.hb_date.isoformat() if hb else "",
                person.karyotype or "",
                "yes" if person.tested else "",
                _day(person.transformation),
                _day(person.transplant),
            ]
        )
    _write(folder / "wide.csv", rows, ";")
    return _read(folder, persons, _WIDE + _VARIANTS)


def from_long(persons: Sequence[Person], folder: Path) -> tuple[Table, Quality]:
    """Patients in one file, measurements one a row in another, and a list of variants."""
    _variants(persons, folder)
    rows = [["id", "dob", "sex", "dx", "seen", "aml", "graft"]]
    long = [["id", "what", "value", "unit", "day"]]
    for person in persons:
        ends = [_day(day) for day in (person.index, person.seen, person.transformation, person.transplant)]
        rows.append([person.identifier, person.birth.isoformat(), person.sex[0], *ends])
        if person.hb is not None:
            long.append([person.identifier, "Hb", format(person.hb * 10, "f"), "g/L", person.hb_date.isoformat()])
        if person.karyotype is not None:
            long.append([person.identifier, "ISCN", person.karyotype, "", person.index.isoformat()])
        if person.tested:
            long.append([person.identifier, "panel", "3", "", person.index.isoformat()])
    _write(folder / "people.csv", rows, ",")
    _write(folder / "long.csv", long, ",")
    return _read(folder, persons, _LONG + _VARIANTS)


def _variants(persons: Sequence[Person], folder: Path) -> None:
    rows = [["case", "Hugo_Symbol", "HGVSp_Short", "t_vaf"]]
    for person in persons:
        rows += [
            [person.identifier, PANEL[gene], protein, format(vaf * 100, "f")] for gene, protein, vaf in person.variants
        ]
    _write(folder / "variants.csv", rows, ",")


def _day(day: dt.date | None) -> str:
    return "" if day is None else day.isoformat()


def _write(path: Path, rows: list[list[str]], delimiter: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
