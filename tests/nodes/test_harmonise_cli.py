"""`haemfed harmonize`: run, propose and lint, on one small hospital; what is written, said, and never said."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.counting import counted
from tests.nodes.hospitals import MAPPING, Haemfed, on_a_terminal, rows, run, tables


def test_run_takes_the_profile_from_the_mapping_and_writes_everything_private(haemfed: Haemfed, hospital: Path) -> None:
    out = run(haemfed, hospital)

    assert "alder: 60 patients" in out
    assert "warning: index-diagnosis-missing: 1" in out
    kinds = ("", "-quality.html", "-quality.json", "-quality.data.json", "-provenance.parquet")
    assert set(tables(hospital)) == {f"aml_core{kind or '.parquet'}" for kind in kinds}
    for path in (hospital / "data" / "tables").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_but_the_table_holds_a_value_of_a_patient(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)

    for name, data in tables(hospital).items():
        if name.endswith((".html", ".json")):
            assert not re.search(rb"ERIKA|LOST|1950|2010-05|43[2-7]\d\b", data), name
    cited = pq.read_table(hospital / "data" / "tables" / "aml_core-provenance.parquet")
    assert cited.column_names == ["pid", "variable", "file", "line", "field", "state"]
    assert not re.search("ERIKA|1950|2010-05|4321", str(cited.to_pydict()))


def test_another_profile_than_the_mapping_names_is_refused(haemfed: Haemfed, hospital: Path) -> None:
    code, _, err = haemfed("run", hospital / "source" / "mapping.toml", "--profile", "mds")

    assert code == 10
    assert "profile is aml_core" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "not found; write a mapping file"),
        ("format = ", "not TOML"),
        ('format = "csv"', "profile is missing"),
        (MAPPING.replace("aml_core", "aml_coer"), "aml_coer"),
        (MAPPING.replace("wbc =", "wcb ="), "did you mean"),
        (MAPPING.replace("cohort.csv", "nothing.csv"), "nothing"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_one_line(
    haemfed: Haemfed, hospital: Path, text: str | None, says: str
) -> None:
    path = hospital / "source" / "mapping.toml"
    path.unlink() if text is None else path.write_text(text)
    code, _, err = haemfed("run", path)

    assert code == 10
    assert says in err
    assert err.count("\n") == 1


def test_a_folder_is_no_mapping_file(haemfed: Haemfed, hospital: Path) -> None:
    code, _, err = haemfed("run", hospital / "source")

    assert code == 10
    assert "not its folder" in err


def test_strict_adds_findings_and_changes_no_table(haemfed: Haemfed, hospital: Path) -> None:
    pytest.importorskip("fhir.resources")
    source = hospital / "source"
    patient = {"resourceType": "Patient", "id": "1", "gender": "banana", "birthDate": "1950-01-01"}
    condition = {
        "resourceType": "Condition",
        "subject": {"reference": "Patient/1"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "91861009"}]},
        "onsetDateTime": "2010-01-01",
        "abatementString": "unknown",
        "nonsense": 1,
    }
    lines = []
    for number in range(30):
        lines.append(json.dumps({**patient, "id": f"p{number}", "deceasedDateTime": "2012-01-01"}))
        lines.append(json.dumps({**condition, "subject": {"reference": f"Patient/p{number}"}}))
    (source / "all.ndjson").write_text("\n".join(lines))
    (source / "mapping.toml").write_text(
        'format = "ndjson"\nprofile = "aml_core"\nfiles = ["all.ndjson"]\n'
        '[patient]\nsystem = "urn:test:hospital"\nidentifier = "resource-id"\n'
    )
    run(haemfed, hospital)
    loose = tables(hospital)
    assert haemfed("run", source / "mapping.toml", "--strict")[0] == 0
    strict = tables(hospital)

    assert strict["aml_core.parquet"] == loose["aml_core.parquet"]
    assert len(json.loads(strict["aml_core-quality.json"])["issue"]) > len(
        json.loads(loose["aml_core-quality.json"])["issue"]
    )


def test_a_failed_run_leaves_everything_as_it_was(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    before = tables(hospital)
    (hospital / "source" / "cohort.csv").write_text("\n".join([*rows(), "x;y"]))
    code, _, err = haemfed("run", hospital / "source" / "mapping.toml")

    assert code == 17
    assert "cohort.csv" in err
    assert tables(hospital) == before


@pytest.mark.slow
def test_a_bar_on_a_terminal_for_a_long_input_only(haemfed: Haemfed, hospital: Path) -> None:
    command = [sys.executable, "-m", "nodes.cli", "harmonize", "run", str(hospital / "source" / "mapping.toml")]
    command += ["--config", str(hospital / "site.toml")]
    assert "reading" not in on_a_terminal(command)
    lines = rows()
    blank = " " * 100_000
    (hospital / "source" / "cohort.csv").write_text("\n".join([*(f"{line};{blank}" for line in lines)]))
    said = on_a_terminal(command)
    assert "reading" in said
    assert "alder: 60 patients" in said


def test_propose(haemfed: Haemfed, hospital: Path) -> None:
    path = hospital / "source" / "cohort.csv"
    code, out, _ = haemfed("propose", path, "--profile", "aml_core")
    assert code == 0
    assert 'delimiter = ";"  # check' in out
    assert 'column = "PatNr"' in out
    assert "ERIKA" not in out
    path.write_bytes("PatNr;Größe\n1;2\n".encode("cp1252"))
    assert 'encoding = "cp1252"' in haemfed("propose", path, "--profile", "aml_core")[1]
    path.write_bytes(b"")
    assert haemfed("propose", path, "--profile", "aml_core")[0] == 17
    assert haemfed("propose", path.with_name("no.csv"), "--profile", "aml_core")[0] == 19
    assert haemfed("propose", path, "--profile", "aml_coer")[0] == 10


def test_lint(haemfed: Haemfed, tmp_path: Path) -> None:
    assert haemfed("lint", "mds")[0] == 0
    broken = tmp_path / "broken.yaml"
    broken.write_text("profile: x\n")
    code, _, err = haemfed("lint", broken)
    assert code == 10
    assert "broken.yaml" in err
    assert haemfed("lint")[0] == 2
    assert haemfed("lint", "mds", "--colour")[0] == 2


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=3000), st.lists(st.sampled_from(["read", "line", "some"]), max_size=8))
def test_every_byte_is_counted_once(data: bytes, calls: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "deep").mkdir()
        (Path(name) / "deep" / "a.csv").write_bytes(data)
        sizes: list[int] = []
        (found,) = counted(Path(name), sizes.append).glob("*/*.csv")
        with found.open("rb") as stream:
            pieces = [
                {"read": stream.read, "line": stream.readline, "some": lambda: stream.read(7)}[call]() for call in calls
            ]
            pieces.append(stream.read())
        assert b"".join(pieces) == data
        assert sum(sizes) == len(data)
        assert isinstance(found.open("rb"), io.BufferedReader)
        assert found.read_text(encoding="latin-1", errors="replace") is not None


UNWANTED = ("torch", "opacus", "dp_accounting", "pandas", "scipy", "fhir", "grpc", "sqlalchemy")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "lint", "report", "explain", "share", "propose"])
def test_harmonising_loads_nothing_heavy(haemfed: Haemfed, hospital: Path, verb: str) -> None:
    run(haemfed, hospital)
    config = ["--config", str(hospital / "site.toml")]
    arguments = {
        "lint": ["lint", "mds"],
        "run": ["run", str(hospital / "source" / "mapping.toml"), *config],
        "report": ["report", *config],
        "explain": ["explain", "ERIKA-5", "wbc", *config],
        "share": ["report", "--shareable", *config],
        "propose": ["propose", str(hospital / "source" / "cohort.csv"), "--profile", "mds"],
    }[verb]
    code = (
        "import pathlib, re, sys\n"
        "from nodes import cli\n"
        f"sys.argv = ['haemfed', 'harmonize', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"print('loaded', *sorted({set(UNWANTED)!r} & set(sys.modules)))\n"
        # Not ru_maxrss: a child inherits what its parent once held.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print('MB', int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, loaded, memory = done.stdout.splitlines()

    assert loaded == "loaded"
    # Of which an interpreter with pyarrow and numpy is some 110.
    assert int(memory.split()[1]) < 250
