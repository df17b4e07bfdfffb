"""Writing each demo hospital's data the way its own information system would, with its mapping file.

The four dialects differ as in life: FHIR Bundles, FHIR bulk export, a German registry spreadsheet and a
REDCap export.
"""

__all__ = ["DIALECTS", "MAPPING", "Dialect", "dialect", "write"]

import csv
import datetime as dt
import io
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nodes.demo.cohort import Hospital
from nodes.errors import ConfigError

MAPPING: Final = "mapping.toml"
Row = dict[str, Any]
Dialect = Callable[[Hospital, Path], str]  # writes the data files into the folder, returns the mapping file's text

_PATIENTS_PER_BUNDLE: Final = 50
_URN: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:haemfed:demo")
_TOWNSEND: Final = {
    "system": "urn:haemfed:codesystem:variables",
    "code": "townsend-deprivation-index",
    "display": "Townsend deprivation index of the place of residence",
}
_LEUKOCYTES: Final = {
    "system": "http://loinc.org",
    "code": "6690-2",
    "display": "Leukocytes [#/volume] in Blood by Automated count",
}
_AML: Final = [
    {"system": "http://snomed.info/sct", "code": "91861009", "display": "Acute myeloid leukemia"},
    {"system": "http://hl7.org/fhir/sid/icd-10", "code": "C92.0"},
]


def dialect(rank: int) -> Dialect:
    """The dialect of the hospital at this place in the list: they take turns."""
    return DIALECTS[rank % len(DIALECTS)]


def write(hospital: Hospital, folder: Path, how: Dialect) -> Path:
    """Write a hospital's source folder.

    Args:
        hospital: whose patients.
        folder: is created if it is not there; must be empty.
        how: one of `DIALECTS`.

    Returns:
        path of the mapping file.

    Raises:
        ConfigError: the folder is not empty: files of another run would be read along with these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder}: not empty; remove it, or give the demo a new folder")
    mapping = folder / MAPPING
    mapping.write_text(how(hospital, folder), encoding="utf-8")
    return mapping


def bundles(hospital: Hospital, folder: Path) -> str:
    """FHIR R4 collection Bundles of 50 patients; entries point to each other by urn:uuid."""
    rows = _rows(hospital)
    for number, start in enumerate(range(0, len(rows), _PATIENTS_PER_BUNDLE), start=1):
        entries = [
            {"fullUrl": _urn(hospital, resource["resourceType"], resource["id"]), "resource": resource}
            for row in rows[start : start + _PATIENTS_PER_BUNDLE]
            for resource in resources(hospital, row, _urn(hospital, "Patient", row["patient"]), ("10*9/L", "10*9/L"))
        ]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        (folder / f"bundle-{number:02d}.json").write_text(json.dumps(bundle, indent=1), encoding="utf-8")
    return f"""\
# FHIR R4 Bundles, as the hospital's FHIR facade hands them out.
format = "bundle"
profile = "aml_core"
files = ["bundle-*.json"]

[patient]
system = "{_system(hospital)}"
"""


def bulk(hospital: Hospital, folder: Path) -> str:
    """FHIR bulk export: one NDJSON file a resource type; counts in thousands per microlitre."""
    lines: dict[str, list[str]] = {}
    for row in _rows(hospital):
        for resource in resources(hospital, row, f"Patient/{row['patient']}", ("10*3/uL", "K/uL")):
            lines.setdefault(resource["resourceType"], []).append(json.dumps(resource, separators=(",", ":")))
    for kind, found in lines.items():
        (folder / f"{kind}.ndjson").write_text("\n".join(found) + "\n", encoding="utf-8")
    return f"""\
# FHIR R4 bulk export ($export), one resource a line.
format = "ndjson"
profile = "aml_core"
files = ["*.ndjson"]

[patient]
system = "{_system(hospital)}"
"""


def registry(hospital: Hospital, folder: Path) -> str:
    """A German registry's spreadsheet: semicolons, decimal comma, 13.300 cells/µl, 31.12.1990, cp1252."""
    header = (
        "PatNr", "Geburtsdatum", "Geschlecht", "Erstdiagnose", "Leukozyten (/µl)", "Townsend-Index",
        "Status", "Sterbedatum", "Letzter Kontakt",
    )  # fmt: skip
    rows = [
        (
            row["patient"],
            _german(row["birth_date"]),
            {"male": "m", "female": "w"}[row["sex"]],
            _german(row["diagnosis_date"]),
            f"{_decimal(row['wbc']) * 1000:,.0f}".replace(",", "."),
            format(_decimal(row["tpi"]), "f").replace(".", ","),
            "verstorben" if row["event"] else "lebt",
            _german(row["death_date"]) if row["event"] else "",
            _german(row["last_follow_up"]),
        )
        for row in _rows(hospital)
    ]
    _table(folder / "Patienten.csv", header, rows, delimiter=";", encoding="cp1252")
    return f"""\
# Tumour registry, exported from a spreadsheet.
format = "csv"
profile = "aml_core"
files = ["Patienten.csv"]

[patient]
system = "{_system(hospital)}"
column = "PatNr"

[csv]
encoding = "cp1252"
delimiter = ";"
decimal = ","
thousands = "."
missing = {{ "k.A." = "unknown", "n.d." = "not-tested" }}

[columns]
birth_date = {{ column = "Geburtsdatum", date_format = "%d.%m.%Y" }}
sex = {{ column = "Geschlecht", codes = {{ m = "male", w = "female", d = "other" }} }}
index_date = {{ column = "Erstdiagnose", date_format = "%d.%m.%Y" }}
wbc = {{ column = "Leukozyten (/µl)", unit = "/µl" }}
tpi = {{ column = "Townsend-Index", unit = "{{score}}" }}
deceased = {{ column = "Status", codes = {{ verstorben = "true", lebt = "false" }} }}
death_date = {{ column = "Sterbedatum", date_format = "%d.%m.%Y" }}
last_follow_up = {{ column = "Letzter Kontakt", date_format = "%d.%m.%Y" }}
"""


def redcap(hospital: Hospital, folder: Path) -> str:
    """A REDCap export: commas, ISO dates, raw codes (sex 1/2), a column for the unit, -99 for missing."""
    header = (
        "record_id", "dob", "sex_birth", "dx_date", "lab_wbc", "lab_wbc_unit", "lab_wbc_date", "tdi",
        "vital_status", "dod", "last_contact", "aml_baseline_complete",
    )  # fmt: skip
    rows = [
        (
            row["patient"],
            row["birth_date"].isoformat(),
            {"male": "1", "female": "2"}[row["sex"]],
            row["diagnosis_date"].isoformat(),
            format(_decimal(row["wbc"]), "f"),
            "10^9/L",
            row["diagnosis_date"].isoformat(),
            format(_decimal(row["tpi"]), "f"),
            "1" if row["event"] else "0",
            row["death_date"].isoformat() if row["event"] else "",
            row["last_follow_up"].isoformat(),
            "2",
        )
        for row in _rows(hospital)
    ]
    _table(folder / "redcap_export.csv", header, rows, delimiter=",", encoding="utf-8")
    return f"""\
# REDCap: "Export data", raw values, one record a patient.
format = "csv"
profile = "aml_core"
files = ["redcap_export.csv"]

[patient]
system = "{_system(hospital)}"
column = "record_id"

[csv]
missing = {{ "-99" = "unknown", "-98" = "not-tested" }}

[columns]
birth_date = {{ column = "dob" }}
sex = {{ column = "sex_birth", codes = {{ 1 = "male", 2 = "female" }} }}
index_date = {{ column = "dx_date" }}
wbc = {{ column = "lab_wbc", unit_column = "lab_wbc_unit", date_column = "lab_wbc_date" }}
tpi = {{ column = "tdi", unit = "{{score}}" }}
deceased = {{ column = "vital_status", codes = {{ 1 = "true", 0 = "false" }} }}
death_date = {{ column = "dod" }}
last_follow_up = {{ column = "last_contact" }}
"""


DIALECTS: Final[tuple[Dialect, ...]] = (bundles, bulk, registry, redcap)


def resources(hospital: Hospital, row: Row, subject: str, unit: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """One patient as FHIR R4 resources.

    Args:
        hospital: whose patient; gives the identifier's system.
        row: of `Hospital.frame`.
        subject: how the other resources point to the Patient.
        unit: UCUM code of the count's unit (a spelling of 10^9 per litre), and its display.
    """
    patient = row["patient"]
    yield {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [{"system": _system(hospital), "value": patient}],
        "gender": row["sex"],
        "birthDate": row["birth_date"].isoformat(),
        **({"deceasedDateTime": row["death_date"].isoformat()} if row["event"] else {"deceasedBoolean": False}),
    }
    yield {
        "resourceType": "Condition",
        "id": f"{patient}-dx",
        "clinicalStatus": _concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
        "verificationStatus": _concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed"),
        "code": {"coding": _AML},
        "subject": {"reference": subject},
        "onsetDateTime": row["diagnosis_date"].isoformat(),
    }
    yield {
        "resourceType": "Encounter",
        "id": f"{patient}-last",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": subject},
        "period": {"end": row["last_follow_up"].isoformat()},
    }
    code, display = unit
    quantities = (
        ("wbc", _LEUKOCYTES, {"unit": display, "system": "http://unitsofmeasure.org", "code": code}),
        ("tpi", _TOWNSEND, {"unit": "score", "system": "http://unitsofmeasure.org", "code": "{score}"}),
    )
    for name, coding, quantity in quantities:
        yield {
            "resourceType": "Observation",
            "id": f"{patient}-{name}",
            "status": "final",
            "code": {"coding": [coding]},
            "subject": {"reference": subject},
            "effectiveDateTime": row["diagnosis_date"].isoformat(),
            "valueQuantity": {"value": row[name], **quantity},
        }


def _rows(hospital: Hospital) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in hospital.frame.to_dict("records")]


def _system(hospital: Hospital) -> str:
    return f"urn:haemfed:demo:{hospital.name}"


def _urn(hospital: Hospital, kind: str, identifier: str) -> str:
    return uuid.uuid5(_URN, f"{hospital.name}/{kind}/{identifier}").urn


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _decimal(value: float) -> Decimal:
    # The shortest decimal of the float is the number that was published.
    return Decimal(repr(float(value)))


def _german(day: dt.date) -> str:
    return day.strftime("%d.%m.%Y")


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], *, delimiter: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
