"""FHIR to the canonical table against `fhir.resources` to pandas: figures 5.1 and 5.2.

Candidates take turns on one core with one thread in one process; a ratio is the median of CPU seconds per resource of
the one over that of the other, its 10th and 90th percentile over the turns are in the name. Ours ends with the table of
a profile: units converted, one measurement chosen, states, Parquet-ready Arrow. The peer's way is the usual one:
`fhir.resources.R4B` validates each resource, ten columns are taken from the object, pandas makes a frame of them; it
converts and chooses nothing. Both are given the same bytes.

The Observations are Synthea's: all that a hospital has of seven patients; few of them are laboratory values that a
profile of myelodysplastic syndromes uses. They are copied under other patients' and resources' names, because 1,502 are
too few to time, and every patient is given a diagnosis, so that there is a table. A cohort in which every Observation
is one of the profile's takes longer, because every one goes all the way; it has a row of its own.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks import timing
from benchmarks.harmonize import cohort
from benchmarks.report import Row
from benchmarks.sections import Asked, NotThere
from harmonize import profile as profiles
from harmonize import table
from harmonize.events import Item
from harmonize.mapping import Bundles, FhirPatient, Ndjson
from harmonize.profile import Profile
from harmonize.sources import bundle, ndjson
from harmonize.sources.fhir import Reader

__all__ = ["rows"]

_PATIENT: Final = FhirPatient(system="urn:bench", identifier="resource-id")
_NDJSON: Final = Ndjson(format="ndjson", files=("x",), patient=_PATIENT)
_BUNDLES: Final = Bundles(format="bundle", files=("x",), patient=_PATIENT)
_KEY: Final = bytes(range(32))
_COPIES: Final = 60  # of the Observations, so that what a table costs anyhow does not count
_BUNDLE_COPIES: Final = 20
_DENSE: Final = 1000  # patients, of 60 Observations each


def rows(asked: Asked) -> Iterable[Row]:
    """Measure both."""
    folder = asked.folder / "fhir" / "synthea-pathling"
    if not folder.is_dir():
        raise NotThere("the folder fhir/synthea-pathling is not beside the cohorts")
    mds = profiles.load("mds")
    turns = 3 if asked.quick else 15
    yield from _observations(folder, mds, turns, asked)
    yield from _dense(mds, turns, asked)
    yield from _bundles(folder, mds, turns, asked)


def _observations(folder: Path, profile: Profile, turns: int, asked: Asked) -> Iterator[Row]:
    once = (folder / "Observation.ndjson").read_bytes()
    lines = once.splitlines()
    data = b"".join(_copy(once, number) for number in range(_COPIES))
    people = _people({json.loads(line)["subject"]["reference"] for line in lines}, profile)
    ours = _ours(people, data, profile)
    asked.tell(f"{len(ours())} patients, {len(lines) * _COPIES} Observations")
    taken = timing.interleaved({"ours": ours, "peer": lambda: _frame(lines)}, turns)
    speed = _speeds(taken, {"ours": len(lines) * _COPIES, "peer": len(lines)})
    yield Row("5.1", f"NDJSON to table ÷ fhir.resources to pandas, Synthea {_spread(speed)}", _ratio(speed), "times",
              30.0, aim=40.0)  # fmt: skip
    yield Row("5.1", "of it ours", float(np.median(speed["ours"])), "Observations/CPU s")
    yield Row("5.1", "of it fhir.resources", float(np.median(speed["peer"])), "Observations/CPU s")


def _dense(profile: Profile, turns: int, asked: Asked) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        cohort.write(Path(name), 20 if asked.quick else _DENSE)
        read = {kind: (Path(name) / f"{kind}.ndjson").read_bytes() for kind in ("Patient", "Condition", "Observation")}
    lines = [
        line for line in read["Observation"].splitlines() if b'"valueQuantity"' in line and b"component" not in line
    ]
    people, sample = read["Patient"] + read["Condition"], lines[:1000]
    ours = _ours(people, b"\n".join(lines), profile)
    asked.tell(f"{len(ours())} patients, {len(lines)} Observations, all of the profile")
    taken = timing.interleaved({"ours": ours, "peer": lambda: _frame(sample)}, turns)
    speed = _speeds(taken, {"ours": len(lines), "peer": len(sample)})
    yield Row(
        "5.1", f"the same where every Observation is one of the profile's {_spread(speed)}", _ratio(speed), "times"
    )
    yield Row("5.1", "of it ours", float(np.median(speed["ours"])), "Observations/CPU s")


def _bundles(folder: Path, profile: Profile, turns: int, asked: Asked) -> Iterator[Row]:
    from fhir.resources.R4B.bundle import Bundle

    # One file of the published set is empty.
    files = [data for path in sorted(folder.glob("bundle-*.json")) if (data := path.read_bytes())]
    count = sum(len(json.loads(data)["entry"]) for data in files)

    copies = [_bundle_copy(data, number) for number in range(_BUNDLE_COPIES) for data in files]

    def items() -> Iterator[Item]:
        reader = Reader(_PATIENT, profile)
        for data in copies:
            yield from bundle.read(io.BytesIO(data), _BUNDLES, profile, reader)
        yield from reader.finish()

    asked.tell(f"{len(copies)} Bundles, {count * _BUNDLE_COPIES} resources")
    taken = timing.interleaved(
        {
            "ours": lambda: table.build(items(), profile, _KEY),
            "peer": lambda: [Bundle.model_validate_json(data) for data in files],
        },
        max(turns // 3, 1),
    )
    speed = _speeds(taken, {"ours": count * _BUNDLE_COPIES, "peer": count})
    yield Row(
        "5.2", f"patient Bundles to table ÷ fhir.resources' Bundle {_spread(speed)}", _ratio(speed), "times", 50.0
    )
    yield Row("5.2", "of it ours", float(np.median(speed["ours"])), "resources/CPU s")
    yield Row("5.2", "of it fhir.resources", float(np.median(speed["peer"])), "resources/CPU s")


def _ours(people: bytes, observations: bytes, profile: Profile) -> Callable[[], table.Table]:
    def work() -> table.Table:
        reader = Reader(_PATIENT, profile)

        def items() -> Iterator[Item]:
            for data in (people, observations):
                yield from ndjson.read(io.BytesIO(data), _NDJSON, profile, reader)
            yield from reader.finish()

        return table.build(items(), profile, _KEY)[0]

    return work


def _copy(lines: bytes, number: int) -> bytes:
    return lines.replace(b'"reference":"Patient/', b'"reference":"Patient/%d-' % number).replace(
        b'"resourceType":"Observation","id":"', b'"resourceType":"Observation","id":"%d-' % number
    )


def _bundle_copy(document: bytes, number: int) -> bytes:
    return document.replace(b"urn:uuid:", b"urn:uuid:%d-" % number).replace(b'"id": "', b'"id": "%d-' % number)


def _people(references: set[str], profile: Profile) -> bytes:
    """Patients with a diagnosis for every reference of every copy."""
    system, (code, *_) = next((profile.systems[name], codes) for name, codes in profile.diagnosis.codes.items())
    found = []
    for number in range(_COPIES):
        for reference in sorted(references):
            name = f"{number}-{reference.removeprefix('Patient/')}"
            found.append({"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1950-01-01"})
            condition = {"resourceType": "Condition", "subject": {"reference": f"Patient/{name}"}}
            coding = {"coding": [{"system": system, "code": code}]}
            found.append({**condition, "code": coding, "onsetDateTime": "2010-01-01"})
    return "".join(json.dumps(part, separators=(",", ":")) + "\n" for part in found).encode()


def _frame(lines: Iterable[bytes]) -> pd.DataFrame:
    """Observations as a frame of ten columns, by way of `fhir.resources`."""
    from fhir.resources.R4B.observation import Observation

    return pd.DataFrame([_columns(Observation.model_validate_json(line)) for line in lines])


def _columns(observation: Any) -> dict[str, Any]:
    coding = observation.code.coding[0] if observation.code.coding else None
    quantity = observation.valueQuantity
    return {
        "id": observation.id,
        "patient": observation.subject.reference if observation.subject else None,
        "status": observation.status,
        "system": coding.system if coding else None,
        "code": coding.code if coding else None,
        "time": observation.effectiveDateTime,
        "value": float(quantity.value) if quantity is not None and quantity.value is not None else None,
        "comparator": quantity.comparator if quantity is not None else None,
        "unit": quantity.code if quantity is not None else None,
        "reason": observation.dataAbsentReason.coding[0].code if observation.dataAbsentReason else None,
    }


def _speeds(taken: Mapping[str, list[float]], counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    return {name: counts[name] / np.array(seconds) for name, seconds in taken.items()}


def _ratio(speed: Mapping[str, np.ndarray]) -> float:
    return float(np.median(speed["ours"]) / np.median(speed["peer"]))


def _spread(speed: Mapping[str, np.ndarray]) -> str:
    low, high = np.percentile(speed["ours"] / speed["peer"], [10, 90])
    return f"({low:.0f} to {high:.0f})"
