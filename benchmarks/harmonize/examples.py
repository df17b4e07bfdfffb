"""Published FHIR examples: every one is read, and every trap in them is named. Figures 5.4."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.report import Row
from benchmarks.sections import Asked, NotThere
from harmonize import profile as profiles
from harmonize.errors import HarmonizeError
from harmonize.events import Event, Fact, Issue, Item, Pointer
from harmonize.karyotype import KaryotypeError, parse
from harmonize.mapping import FhirPatient
from harmonize.profile import Profile
from harmonize.sources.fhir import Undecodable, translate

__all__ = ["TRAPS", "rows"]

_GUIDES: Final = {"genomics-reporting-3.0.0": 204, "mcode-4.0.0": 179}
_HL7: Final = "hl7-r4-examples"
TRAPS: Final = {
    "Observation-f005": (_HL7, "unit-suspect"),
    "gx-genomic-variant-pertinent-negative-nras-kit-braf": ("mcode-4.0.0", "code-display-mismatch"),
    "ISCN-CMLExample": ("genomics-reporting-3.0.0", "karyotype-unparsed"),
    "EGFR-L858R-var": ("genomics-reporting-3.0.0", "vaf-unit-uncoded"),
}
"""Part of a file's name → (folder, the issue that it must raise under the profile `mds`)."""

_OTHER_GENE: Final = {b"HGNC:3236": b"HGNC:7910", b'"EGFR"': b'"NPM1"'}
"""EGFR is no gene of a myeloid profile: its example is read as one of a gene that is."""

_PATIENT: Final = FhirPatient(system="urn:example", identifier="resource-id")


def rows(asked: Asked) -> Iterable[Row]:
    """Read them all."""
    folder = asked.folder / "fhir"
    if not folder.is_dir():
        raise NotThere("the folder fhir is not beside the cohorts")
    profile = profiles.load("mds")
    read = total = 0
    for guide, count in _GUIDES.items():
        for path in examples(folder / guide / "example"):
            total += 1
            read += bool(_items(path, profile) is not None)
        asked.tell(f"{guide}: {count} expected")
    yield Row(
        "5.4a",
        f"examples of two implementation guides that are read, of {total}",
        read,
        "resources",
        sum(_GUIDES.values()),
    )
    named = 0
    for part, (where, issue) in TRAPS.items():
        found = [path for path in examples(folder / where) if part in path.name]
        named += any(issue in _issues(path, profile) for path in found)
    yield Row("5.4b", f"traps that raise their named issue, of {len(TRAPS)}", named, "traps", len(TRAPS))


def examples(folder: Path) -> list[Path]:
    """Return the resources of a package of examples."""
    found = [path for path in sorted(folder.rglob("*.json")) if path.name not in ("package.json", ".index.json")]
    return [path for path in found if "resourceType" in json.loads(path.read_bytes())]


def _items(path: Path, profile: Profile) -> list[Item] | None:
    octets = path.read_bytes()
    for old, new in _OTHER_GENE.items():
        octets = octets.replace(old, new)
    try:
        return list(translate(octets, Pointer(path.name), _PATIENT, profile))
    except (Undecodable, HarmonizeError):
        return None


def _issues(path: Path, profile: Profile) -> set[str]:
    items = _items(path, profile) or ()
    found = {item.code for item in items if isinstance(item, Issue)}
    for item in items:
        if isinstance(item, Event) and item.variable == Fact.KARYOTYPE and isinstance(item.value, str):
            try:
                parse(item.value)
            except KaryotypeError as error:
                found.add(error.code)
    return found
