"""Ten thousand damaged sources: no traceback, no value in a message, no partial table. Figures 5.6.

A sound source (a Bundle, an NDJSON export, a CSV export of the same invented patients) is damaged in one to four
places: bits, octets, cut ends, types, units, dates, quotes, nesting, encodings, repeated keys. Harmonising it must end
in a table with a report, or in a `HarmonizeError` of one line. Every value of a patient in the source is a word or a
number that occurs nowhere else: none of them may stand in a message, in the report or in a repr.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.report import Row
from benchmarks.sections import Asked
from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.errors import HarmonizeError
from harmonize.profile import Profile
from harmonize.table import Table, build

__all__ = ["SOURCES", "Outcome", "attempt", "damaged", "rows"]

SEED: Final = 20260607
_KEY: Final = bytes(range(32))
_COUNT: Final = 10_000

# What must not get out. Digits and letters that no code, no path and no count of this test contains.
_SECRETS: Final = ("Zyxwvut", "Qjkxbz", "7391846.25", "19470813", "1947-08-13", "0813", "7391846", "39.77")

_SUBJECT: Final = {"reference": "Patient/a"}
_RESOURCES: Final[tuple[dict[str, Any], ...]] = (
    {
        "resourceType": "Patient",
        "id": "a",
        "identifier": [{"system": "urn:fuzz", "value": "Zyxwvut"}],
        "name": [{"family": "Qjkxbz"}],
        "gender": "female",
        "birthDate": "1947-08-13",
    },
    {
        "resourceType": "Condition",
        "subject": _SUBJECT,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "109995007"}]},
        "onsetDateTime": "2011-03-04",
    },
    {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": _SUBJECT,
        "period": {"start": "2015-01-01", "end": "2015-01-02"},
    },
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": _SUBJECT,
        "effectiveDateTime": "2011-03-04T10:00:00Z",
        "valueQuantity": {"value": 7391846.25, "unit": "g/dL", "code": "g/dL"},
    },
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "69548-6"}]},
        "subject": _SUBJECT,
        "effectiveDateTime": "2011-03-04",
        "valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "LA9633-4"}]},
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": "48018-6"}]},
                "valueCodeableConcept": {"coding": [{"system": "http://www.genenames.org", "code": "HGNC:11998"}]},
            },
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": "81258-6"}]},
                "valueQuantity": {"value": 39.77, "unit": "%", "code": "%"},
            },
        ],
    },
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "33893-9"}]},
        "subject": _SUBJECT,
        "effectiveDateTime": "2011-03-04",
        "valueString": "46,XX,del(5)(q13q33)[20] Qjkxbz",
    },
)
_SECRET_PART: Final = 2000  # octets
_COPIES: Final = 17  # of each resource, for others: one broken line in a hundred must not refuse the file


def _others() -> list[dict[str, Any]]:
    """The same resources for patients of whom nothing is secret."""
    found = []
    for number in range(_COPIES):
        for resource in _RESOURCES:
            text = json.dumps(resource).replace("Patient/a", f"Patient/n{number}").replace('"a"', f'"n{number}"')
            for secret, harmless in _HARMLESS.items():
                text = text.replace(secret, harmless.replace("#", str(number)))
            found.append(json.loads(text))
    return found


_HARMLESS: Final = {
    "Zyxwvut": "n#",
    "Qjkxbz": "name",
    "7391846.25": "9.5",
    "1947-08-13": "1950-02-02",
    "39.77": "12.5",
}
_ALL: Final = [*_RESOURCES, *_others()]
_BUNDLE: Final = json.dumps(
    {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in _ALL]}
).encode()
_NDJSON: Final = b"".join(json.dumps(each).encode() + b"\n" for each in _ALL)
_CSV: Final = (
    b"id;born;sex;diagnosed;hb;karyotype;died;seen\n"
    b"Zyxwvut;13.08.1947;f;04.03.2011;7391846,25;46,XX,del(5)(q13q33)[20] Qjkxbz;;02.01.2015\n"
    b"Qjkxbz;13.08.1947;m;05.03.2011;39,77;46,XY[20];01.01.2014;\n"
) + b"".join(b"n%d;02.02.1950;f;05.03.2011;9,5;46,XX[20];;01.01.2014\n" % number for number in range(6 * _COPIES))
_HEAD: Final = 'profile = "mds"\nfiles = ["*.data"]\n'
_FHIR: Final = '[patient]\nsystem = "urn:fuzz"\n'
_COLUMNS: Final = """
[patient]
system = "urn:fuzz"
column = "id"
[csv]
delimiter = ";"
decimal = ","
[columns]
birth_date = { column = "born", date_format = "%d.%m.%Y" }
sex = { column = "sex", codes = { f = "female", m = "male" } }
index_date = { column = "diagnosed", date_format = "%d.%m.%Y" }
hb = { column = "hb", unit = "g/dL" }
karyotype = { column = "karyotype" }
death_date = { column = "died", date_format = "%d.%m.%Y" }
last_follow_up = { column = "seen", date_format = "%d.%m.%Y" }
"""
SOURCES: Final = {
    "bundle": (_BUNDLE, f'format = "bundle"\n{_HEAD}{_FHIR}'),
    "ndjson": (_NDJSON, f'format = "ndjson"\n{_HEAD}{_FHIR}'),
    "csv": (_CSV, f'format = "csv"\n{_HEAD}{_COLUMNS}'),
}
"""Format → (octets, mapping file)."""

_TOKENS: Final = (
    b"null", b"true", b'"x"', b"[]", b"{}", b"1e400", b"-1", b"NaN", b"0", b'"2011-13-40"', b'"\\ud800"', b"[" * 300,
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\r", b"\n", b'"', b"'", b",", b";", b"=1+1", b"<script>", b"\xe9",
    b'{"resourceType":"Patient"}', b"99999999999999999999", b"2011", b"1-Mar", b"43831", b"{", b"}", b"]", b":",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How one damaged source ended: ``table``, the name of an error, or what must not happen."""

    ended: str
    wrong: str = ""


def rows(asked: Asked) -> Iterable[Row]:
    """Damage and harmonise."""
    profile = profiles.load("mds")
    rng = np.random.default_rng(SEED)
    count = 300 if asked.quick else _COUNT
    endings: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            form = ("bundle", "ndjson", "csv")[number % 3]
            octets, mapping = SOURCES[form]
            found = attempt(damaged(octets, rng), mapping, profile, Path(name))
            endings[f"{form}: {found.ended}"] += 1
            if found.wrong:
                wrong[found.wrong] += 1
            if number % 1000 == 0:
                asked.tell(f"{number} of {count}")
    for ending, times in sorted(endings.items()):
        asked.tell(f"{times} times {ending}")
    for letter, kind in (("a", "tracebacks"), ("b", "values in messages or reports"), ("c", "partial tables")):
        yield Row(f"5.6{letter}", f"{kind}, {count:,} damaged sources", wrong[kind], "sources", 0, "lower")
    tables = sum(times for ending, times in endings.items() if ending.endswith("table"))
    yield Row("5.6", "of them still made a table, with a report of what is missing", tables, "sources")


def damaged(octets: bytes, rng: np.random.Generator) -> bytes:
    """Return the source with one to four things wrong in it."""
    out = bytearray(octets)
    for _ in range(int(rng.integers(1, 5))):
        ways: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
            _flip,
            _cut,
            _drop,
            _double,
            _insert,
            _swap,
        )
        ways[int(rng.integers(len(ways)))](out, rng)
    return bytes(out)


def attempt(octets: bytes, mapping: str, profile: Profile, folder: Path) -> Outcome:
    """Harmonise a source; say how it ended."""
    (folder / "source.data").write_bytes(octets)
    try:
        source = mappings.loads(mapping, profile)
        table, quality = build(sources.read(folder, source, profile), profile, _KEY)
    except HarmonizeError as error:
        text = str(error)
        leaked = "\n" in text or any(secret in text for secret in _SECRETS)
        return Outcome(type(error).__name__, "values in messages or reports" if leaked else "")
    except Exception as error:  # noqa: BLE001 - what this is about
        return Outcome(type(error).__name__, "tracebacks")
    said = quality.operation_outcome_json().decode() + repr(table) + repr(quality)
    if any(secret in said for secret in _SECRETS):
        return Outcome("table", "values in messages or reports")
    again = Table.from_parquet(io.BytesIO(table.to_parquet_bytes()), profile)
    return Outcome("table", "" if again.digest == table.digest else "partial tables")


def _place(out: bytearray, rng: np.random.Generator) -> int:
    """Where to damage: more often than not where the secrets are."""
    return int(rng.integers(min(len(out), _SECRET_PART if rng.random() < 0.6 else len(out)) + 1))


def _flip(out: bytearray, rng: np.random.Generator) -> None:
    if out:
        out[min(_place(out, rng), len(out) - 1)] ^= 1 << int(rng.integers(8))


def _cut(out: bytearray, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:
        del out[_place(out, rng) :]


def _drop(out: bytearray, rng: np.random.Generator) -> None:
    first = _place(out, rng)
    del out[first : first + int(rng.integers(1, 30))]


def _double(out: bytearray, rng: np.random.Generator) -> None:
    first = _place(out, rng)
    out[first:first] = out[first : first + int(rng.integers(1, 300))]


def _insert(out: bytearray, rng: np.random.Generator) -> None:
    first = _place(out, rng)
    out[first:first] = _TOKENS[int(rng.integers(len(_TOKENS)))]


def _swap(out: bytearray, rng: np.random.Generator) -> None:
    """Put a token in the place of a value."""
    marks = [place for place, octet in enumerate(out) if octet in b":;"]
    if marks:
        first = marks[int(rng.integers(len(marks)))] + 1
        last = next((place for place in range(first, len(out)) if out[place] in b",;}\n"), len(out))
        out[first:last] = _TOKENS[int(rng.integers(len(_TOKENS)))]
