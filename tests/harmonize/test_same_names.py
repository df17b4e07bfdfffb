"""Files of one name in several folders, as yearly exports are: a fact is known by file and line."""

import json
import shutil
from pathlib import Path

import pytest

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.errors import MappingError, SourceError
from harmonize.reporting.quality import Quality
from harmonize.table import Table, build
from tests.harmonize.patients import KEY, PROFILE, SYSTEM

HEADER = "id,dx,fu,wbc\n"
CSV = f"""
format = "csv"
profile = "aml_core"
files = [FILES]
[patient]
system = "{SYSTEM}"
column = "id"
[columns]
index_date = {{column = "dx"}}
last_follow_up = {{column = "fu"}}
wbc = {{column = "wbc", unit = "10*9/L"}}
"""
NDJSON = f'format = "ndjson"\nprofile = "aml_core"\nfiles = ["*/*.ndjson"]\n[patient]\nsystem = "{SYSTEM}"\n'
BULK = NDJSON.replace("ndjson", "bulk", 1).replace("*/*.ndjson", "*/manifest.json")


def read(folder: Path, mapping: str) -> tuple[Table, Quality]:
    return build(sources.read(folder, mappings.loads(mapping, PROFILE), PROFILE), PROFILE, KEY)


def rows(*people: tuple[str, int]) -> str:
    return HEADER + "".join(f"{name},2010-01-01,2015-01-01,{wbc}\n" for name, wbc in people)


def test_a_copy_of_a_row_takes_no_row_of_another_folder_with_it(tmp_path: Path) -> None:
    (tmp_path / "2019").mkdir()
    (tmp_path / "2020").mkdir()
    (tmp_path / "2019" / "p.csv").write_text(rows(("A", 5), ("B", 6)))
    (tmp_path / "2020" / "p.csv").write_text(rows(("C", 7), ("B", 6)))  # B's rows are both line 3

    table, quality = read(tmp_path, CSV.replace("FILES", '"*/p.csv"'))

    assert sorted(table.arrow["wbc"].to_pylist()) == [5.0, 6.0, 7.0]
    assert [(found.code, found.places) for found in quality.findings] == [("patient-duplicate", ("2020/p.csv:3",))]


@pytest.mark.parametrize("bulk", [False, True])
def test_a_newer_resource_takes_no_resource_of_another_folder_with_it(tmp_path: Path, *, bulk: bool) -> None:
    def patient(name: str, updated: str, birth: str) -> dict[str, object]:
        named = {"resourceType": "Patient", "id": name, "identifier": [{"system": SYSTEM, "value": name}]}
        return {**named, "meta": {"lastUpdated": updated}, "birthDate": birth}

    def more(name: str) -> list[dict[str, object]]:
        subject = {"subject": {"reference": f"Patient/{name}"}}
        code = {"coding": [{"system": "http://snomed.info/sct", "code": "91861009"}]}
        seen: dict[str, object] = {
            "resourceType": "Encounter",
            "status": "finished",
            "period": {"start": "2015-01-01"},
            **subject,
        }
        return [{"resourceType": "Condition", "code": code, "onsetDateTime": "2010-01-01", **subject}, seen]

    exports = {
        "1": [patient("A", "2020-01-01T00:00:00Z", "1950-01-01"), *more("A")],
        "2": [patient("A", "2021-01-01T00:00:00Z", "1951-01-01")],
        "3": [patient("B", "2021-01-01T00:00:00Z", "1952-01-01"), *more("B")],
    }
    for name, resources in exports.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Patient.ndjson").write_text("".join(json.dumps(each) + "\n" for each in resources))
        listed = {"transactionTime": f"202{name}-01-01T00:00:00Z", "output": [{"url": "Patient.ndjson"}]}
        (tmp_path / name / "manifest.json").write_text(json.dumps(listed))

    table, quality = read(tmp_path, BULK if bulk else NDJSON)

    assert sorted(table.arrow["age"].to_pylist()) == [58.0, 59.0]
    assert [(found.code, found.places) for found in quality.findings] == [
        ("patient-superseded", ("1/Patient.ndjson:1",))
    ]


def test_messages_about_an_export_name_its_folder(tmp_path: Path) -> None:
    export = tmp_path / "2020"
    (export / "part").mkdir(parents=True)
    listed = {"transactionTime": "2020-01-01T00:00:00Z", "output": [{"url": "./part/a.ndjson", "count": 1}]}
    (export / "manifest.json").write_text(json.dumps(listed))
    (export / "part" / "a.ndjson").write_text("")

    with pytest.raises(SourceError, match=r"^2020/part/a.ndjson: 0 resources, and 2020/manifest.json says 1"):
        read(tmp_path, BULK)
    shutil.rmtree(export / "part")
    with pytest.raises(SourceError, match=r"^2020/manifest.json: file 1 is not beside it"):
        read(tmp_path, BULK)


@pytest.mark.parametrize("pattern", ["**p.csv", ".", "./", "a\\u0000b", "[", "**"])
def test_what_is_no_pattern_matches_nothing(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "p.csv").write_text(rows(("A", 5)))

    with pytest.raises(MappingError, match="nothing matches"):
        read(tmp_path, CSV.replace("FILES", f'"{pattern}"'))


@pytest.mark.parametrize("encoding", ["undefined", "a\\u0000b", "unicode_escape", "raw_unicode_escape", "punycode"])
def test_codecs_that_no_file_is_in(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "p.csv").write_text(rows(("\\ud800", 5)))

    with pytest.raises(MappingError, match="knows no encoding"):
        read(
            tmp_path, CSV.replace("FILES", '"p.csv"').replace("[columns]", f'[csv]\nencoding = "{encoding}"\n[columns]')
        )


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "1" * 5000])
def test_a_mapping_file_that_no_parser_survives(text: str) -> None:
    with pytest.raises(MappingError, match="nested too deep, or an absurd number"):
        mappings.loads(text, PROFILE)
