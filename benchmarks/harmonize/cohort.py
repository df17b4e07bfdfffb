"""Five thousand invented patients of one hospital as a FHIR bulk export, to table: figures 5.3.

Each patient has 60 Observations of the profile's laboratory codes in units that laboratories use, a karyotype, a panel
of genes that were studied and variants found in some of them, a diagnosis, visits. What is invented has no meaning:
sizes and shapes are what is measured. The work runs in a process of its own, which says how much CPU and memory it took
and which packages it imported.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from benchmarks.report import Row
from benchmarks.sections import Asked
from harmonize import profile as profiles
from harmonize.profile import LabVariable, Profile, VariantVariable

__all__ = ["rows", "write"]

SEED: Final = 20260531
_PATIENTS, _OBSERVATIONS = 5000, 60
_KARYOTYPES: Final = ("46,XX[20]", "46,XY[20]", "46,XY,del(5)(q13q33)[12]/46,XY[8]", "45,XX,-7[15]/46,XX[5]")
_HEAVY: Final = ("torch", "opacus", "dp_accounting", "scipy", "pandas")
_MAPPING: Final = """
profile = "mds"
format = "ndjson"
files = ["*.ndjson"]
[patient]
system = "urn:bench:hospital"
"""
_CHILD: Final = """
import json, re, sys, time
from pathlib import Path
from harmonize import mapping, profile, sources, table
folder, heavy = Path(sys.argv[1]), sys.argv[2].split(",")
mds = profile.load("mds")
source = mapping.load(folder / "mapping.toml", mds)
start = time.process_time()
cohort, quality = table.build(sources.read(folder, source, mds), mds, bytes(range(32)))
octets = cohort.to_parquet_bytes()
print(json.dumps({
    "cpu": time.process_time() - start,
    "rss": int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024,
    "patients": len(cohort),
    "observed": float(cohort.matrix().observed.mean()),
    "imported": [name for name in heavy if name in sys.modules],
}))
"""


def rows(asked: Asked) -> Iterable[Row]:
    """Measure time and memory of a cohort, and memory of larger files."""
    patients = 200 if asked.quick else _PATIENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = write(folder, patients)
        asked.tell(f"{patients} patients, {lines} lines")
        done = _harmonised(folder)
        yield Row(
            "5.3a",
            f"{patients} patients, {lines:,} resources of a bulk export to table",
            done["cpu"],
            "CPU s",
            5.0,
            "lower",
        )
        yield Row("5.3b", "largest memory of that process", done["rss"], "MiB", 300.0, "lower")
        heavy = [package for package in done["imported"] if package in ("torch", "opacus")]
        yield Row(
            "5.3b",
            f"of torch and opacus, imported by it ({', '.join(heavy) or 'none'})",
            len(heavy),
            "packages",
            0,
            "lower",
        )
        yield Row("5.3", "usable patients", done["patients"], "patients")
        yield Row("5.3", "resources a second", lines / done["cpu"], "1/CPU s")
        more = _padded(folder, 4 * lines)
        asked.tell(f"{more} more lines that the profile does not use")
        padded = _harmonised(folder)
        what = f"memory with {more:,} further resources that the profile does not use ÷ without"
        yield Row("5.3c", what, padded["rss"] / done["rss"], "times", 1.1, "lower")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, patients, observations=2 * _OBSERVATIONS)
        twice = _harmonised(folder)
        yield Row(
            "5.3",
            "memory with twice as many measurements that it does use ÷ without",
            twice["rss"] / done["rss"],
            "times",
        )


def write(folder: Path, patients: int, observations: int = _OBSERVATIONS) -> int:
    """Write a bulk export and its mapping file; return the number of resources."""
    profile = profiles.load("mds")
    rng = np.random.default_rng(SEED)
    (folder / "mapping.toml").write_text(_MAPPING)
    count = 0
    names = ("Condition", "Encounter", "Observation", "Patient")
    files = {name: (folder / f"{name}.ndjson").open("w") for name in names}
    try:
        for number in range(patients):
            for resource in _patient(number, profile, rng, observations):
                count += 1
                _line(files[resource["resourceType"]], resource)
    finally:
        for file in files.values():
            file.close()
    return count


def _line(file: TextIO, resource: dict[str, Any]) -> None:
    file.write(json.dumps(resource, separators=(",", ":")) + "\n")


def _patient(number: int, profile: Profile, rng: np.random.Generator, observations: int) -> Iterator[dict[str, Any]]:
    subject = {"reference": f"Patient/p{number}"}
    diagnosed = dt.date(2010, 1, 1) + dt.timedelta(days=int(rng.integers(3000)))
    last = diagnosed + dt.timedelta(days=int(rng.integers(30, 3000)))
    system, (code, *_) = next((profile.systems[name], codes) for name, codes in profile.diagnosis.codes.items())
    yield {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "urn:bench:hospital", "value": f"{number:06d}"}],
        "name": [{"family": f"Family{number}", "given": ["Given"]}],
        "gender": "female" if rng.random() < 0.4 else "male",
        "birthDate": (diagnosed - dt.timedelta(days=int(rng.integers(15000, 32000)))).isoformat(),
    } | ({"deceasedDateTime": last.isoformat()} if rng.random() < 0.5 else {})
    yield {
        "resourceType": "Condition",
        "id": f"c{number}",
        "subject": subject,
        "code": {"coding": [{"system": system, "code": code}]},
        "onsetDateTime": diagnosed.isoformat(),
    }
    yield {
        "resourceType": "Encounter",
        "id": f"e{number}",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": subject,
        "period": {"start": last.isoformat(), "end": last.isoformat()},
    }
    labs = [v for v in profile.variables if isinstance(v, LabVariable) and v.codes.get("loinc")]
    for place in range(observations):
        yield _lab(f"{number}-{place}", subject, labs[place % len(labs)], diagnosed, rng)
    yield from _genetics(number, profile, subject, diagnosed, rng)


def _lab(
    label: str, subject: dict[str, str], variable: LabVariable, diagnosed: dt.date, rng: np.random.Generator
) -> dict[str, Any]:
    unit = sorted(variable.units)[int(rng.integers(len(variable.units)))]
    low, high = (float(bound) for bound in variable.soft)
    value = (low + (high - low) * rng.random()) / float(variable.units[unit])
    day = diagnosed + dt.timedelta(days=int(rng.integers(-60, 400)))
    return _observation(label, subject, "http://loinc.org", variable.codes["loinc"][0], day) | {
        "valueQuantity": {
            "value": float(f"{value:.4g}"),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def _genetics(
    number: int, profile: Profile, subject: dict[str, str], diagnosed: dt.date, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    karyotype = _KARYOTYPES[int(rng.integers(len(_KARYOTYPES)))]
    yield _observation(f"k{number}", subject, "http://loinc.org", "33893-9", diagnosed) | {"valueString": karyotype}
    genes = sorted(
        {v.gene.hgnc: v.gene.symbols[0] for v in profile.variables if isinstance(v, VariantVariable)}.items()
    )
    studied = {"coding": [{"system": "http://loinc.org", "code": "48018-6"}]}
    concepts = [
        {"coding": [{"system": "http://www.genenames.org", "code": f"HGNC:{hgnc}", "display": symbol}]}
        for hgnc, symbol in genes
    ]
    yield _observation(f"r{number}", subject, "http://loinc.org", "53041-0", diagnosed) | {
        "component": [{"code": studied, "valueCodeableConcept": concept} for concept in concepts],
    }
    for place in rng.choice(len(genes), size=4, replace=False):
        fraction = {"coding": [{"system": "http://loinc.org", "code": "81258-6"}]}
        yield _observation(f"v{number}-{place}", subject, "http://loinc.org", "69548-6", diagnosed) | {
            "valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "LA9633-4"}]},
            "component": [
                {"code": studied, "valueCodeableConcept": concepts[int(place)]},
                {"code": fraction, "valueQuantity": {"value": round(float(rng.uniform(0.05, 0.5)), 3), "code": "1"}},
            ],
        }


def _observation(label: str, subject: dict[str, str], system: str, code: str, day: dt.date) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{label}",
        "meta": {"lastUpdated": "2024-01-01T00:00:00Z"},
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
        ],
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": subject,
        "effectiveDateTime": f"{day.isoformat()}T08:30:00+01:00",
    }


def _padded(folder: Path, count: int) -> int:
    """Add resources that no profile uses: vital signs of the same patients, and drug charts."""
    patients = sum(1 for _ in (folder / "Patient.ndjson").open())
    with (folder / "Unused.ndjson").open("w") as file:
        for number in range(count):
            subject = {"reference": f"Patient/p{number % patients}"}
            if number % 2:
                _line(
                    file,
                    {
                        "resourceType": "MedicationAdministration",
                        "id": f"m{number}",
                        "status": "completed",
                        "subject": subject,
                    },
                )
            else:
                heart = _observation(
                    f"h{number}", subject, "http://loinc.org", "8867-4", dt.date(2012, 1, 1 + number % 28)
                )
                _line(file, heart | {"valueQuantity": {"value": 60 + number % 40, "code": "/min"}})
    return count


def _harmonised(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", _CHILD, str(folder), ",".join(_HEAVY)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
