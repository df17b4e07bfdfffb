"""What HL7 and Synthea publish: every example is read, every trap in them named. Not part of the repository."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harmonize import profile as profiles
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, State
from harmonize.mapping import Bundles, FhirPatient, Ndjson
from harmonize.sources import bundle, ndjson
from harmonize.sources.fhir import translate

pytestmark = pytest.mark.skipif(
    "HAEMFED_DATA" not in os.environ, reason="HAEMFED_DATA names no folder with public data"
)

MDS = profiles.load("mds")
PATIENT = FhirPatient(system="urn:example", identifier="resource-id")
GENOMICS, MCODE, HL7 = "genomics-reporting-3.0.0", "mcode-4.0.0", "hl7-r4-examples"
BROKEN = {"structure", "type"}


def folder(name: str) -> Path:
    return Path(os.environ["HAEMFED_DATA"], "fhir", name)


def resources(name: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder(name).rglob("*.json")):
        raw = path.read_bytes()
        if "resourceType" in json.loads(raw) and not path.name.startswith("StructureDefinition"):
            yield path.name, raw


def items(name: str, raw: bytes) -> list[Item]:
    return list(translate(raw, Pointer(name), PATIENT, MDS))


def issues(folder_: str, part: str) -> set[str]:
    found = [(name, raw) for name, raw in resources(folder_) if part in name]
    assert found
    return {item.code for name, raw in found for item in items(name, raw) if isinstance(item, Issue)}


@pytest.mark.parametrize(("guide", "count"), [(GENOMICS, 204), (MCODE, 179)])
def test_every_example_of_the_guides_is_read(guide: str, count: int) -> None:
    read = 0
    for path in sorted(folder(guide).glob("example/*.json")):
        raw = path.read_bytes()
        if "resourceType" not in json.loads(raw):
            continue
        found = items(path.name, raw)  # raises on anything that cannot be read
        assert not [item for item in found if isinstance(item, Issue) and item.code in BROKEN]
        read += 1
    assert read == count


def test_every_example_of_a_used_type_is_read() -> None:
    kinds: Counter[str] = Counter()
    for name, raw in resources(HL7):
        found = items(name, raw)
        assert not [item for item in found if isinstance(item, Issue) and item.code in BROKEN], name
        kinds[json.loads(raw)["resourceType"]] += 1
    assert kinds["Patient"] == 22
    assert kinds["Observation"] == 64
    assert (kinds["Condition"], kinds["Procedure"], kinds["Encounter"]) == (12, 16, 10)


@pytest.mark.parametrize("name", [GENOMICS, MCODE, HL7])
def test_every_bundle_is_read(name: str) -> None:
    mapping = Bundles(format="bundle", files=("x",), patient=PATIENT)
    read = 0
    for path in sorted(folder(name).rglob("Bundle-*.json")):
        found = list(bundle.read(path, mapping, MDS))
        assert not [item for item in found if isinstance(item, Issue) and item.code in BROKEN], path.name
        read += 1
    assert read


def test_haemoglobin_in_mmol_under_another_name() -> None:
    assert issues(HL7, "Observation-f005") == {"unit-suspect"}


def test_codes_of_two_genes_swapped() -> None:
    assert "code-display-mismatch" in issues(MCODE, "gx-genomic-variant-pertinent-negative-nras-kit-braf")


def test_a_fraction_without_a_coded_unit() -> None:
    # EGFR is no gene of a profile of myeloid diseases; under one of this gene its fraction is judged.
    (raw,) = [raw for name, raw in resources(GENOMICS) if "EGFR-L858R-var" in name]
    npm1 = raw.replace(b"HGNC:3236", b"HGNC:7910").replace(b'"EGFR"', b'"NPM1"')

    assert {item.code for item in items("x", npm1) if isinstance(item, Issue)} & {"vaf-unit-uncoded", "unit-unknown"}


def test_present_does_not_mean_abnormal() -> None:
    found = [item for name, raw in resources(GENOMICS) if "ISCN-NormalExample" in name for item in items(name, raw)]
    (karyotype,) = [item for item in found if isinstance(item, Event) and item.variable == Fact.KARYOTYPE]

    assert karyotype.value == "46,XX"
    assert karyotype.state is State.VALUE


def test_a_malformed_band_reaches_the_karyotype_parser() -> None:
    from harmonize import karyotype

    found = [item for name, raw in resources(GENOMICS) if "ISCN-CMLExample" in name for item in items(name, raw)]
    texts = [item.value for item in found if isinstance(item, Event) and item.variable == Fact.KARYOTYPE]

    assert texts
    with pytest.raises(karyotype.KaryotypeError):
        karyotype.parse(str(texts[0]))


def test_deceased_said_in_two_ways() -> None:
    ways = {
        field
        for name, raw in resources(HL7)
        if name.startswith("Patient-")
        for field in ("deceasedBoolean", "deceasedDateTime")
        if field in json.loads(raw)
    }
    assert ways == {"deceasedBoolean", "deceasedDateTime"}
    for name, raw in resources(HL7):
        resource: dict[str, Any] = json.loads(raw)
        if resource["resourceType"] == "Patient":
            said = {item.variable: item.value for item in items(name, raw) if isinstance(item, Event)}
            assert (Fact.DEATH_DATE in said) == ("deceasedDateTime" in resource)
            if "deceasedDateTime" in resource or "deceasedBoolean" in resource:
                assert said[Fact.DECEASED] == resource.get("deceasedBoolean", True)


def test_synthea_has_28_of_each_blood_count() -> None:
    counts: Counter[str] = Counter()
    mapping = Ndjson(format="ndjson", files=("x",), patient=PATIENT)
    for path in sorted(folder("synthea-pathling").rglob("*.ndjson")):
        for item in ndjson.read(path, mapping, MDS):
            counts["patients"] += isinstance(item, PatientRecord)
            counts["broken"] += isinstance(item, Issue) and item.code in BROKEN
            if isinstance(item, Event) and item.code:
                counts[item.code.removeprefix("http://loinc.org|")] += 1

    assert (counts["718-7"], counts["777-3"], counts["6690-2"]) == (28, 28, 28)
    assert (counts["patients"], counts["broken"]) == (100, 0)
