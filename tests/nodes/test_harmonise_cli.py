"""`haemfed harmonize`: run, report, explain, propose, on one small hospital; what is written, said, and never said."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import cli
from nodes.counting import counted
from nodes.provision import create_site

ROWS = 60
MAPPING = """\
format = "csv"
profile = "aml_core"
files = ["cohort.csv"]

[patient]
system = "urn:test:hospital"
column = "PatNr"

[csv]
delimiter = ";"

[columns]
birth_date = { column = "born" }
index_date = { column = "dx" }
sex = { column = "sex", codes = { m = "male", w = "female" } }
wbc = { column = "WBC =1+1", unit = "/uL" }
death_date = { column = "died" }
last_follow_up = { column = "seen" }
"""


def rows() -> list[str]:
    lines = ["PatNr;born;dx;sex;WBC =1+1;died;seen"]
    for number in range(ROWS):
        died = "2012-03-04" if number % 3 == 0 else ""
        lines.append(
            f"ERIKA-{number};1950-01-0{number % 9 + 1};2010-05-06;{'mw'[number % 2]};{4321 + number};{died};2013-01-02"
        )
    lines.append("LOST-1;1950-01-01;;m;5000;;2013-01-02")
    return lines


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    create_site(tmp_path / "alder", "alder", "127.0.0.1:1")
    site = tmp_path / "alder"
    (site / "data" / "policy.toml").write_text("minimum_cohort = 20\n")
    source = site / "source"
    source.mkdir()
    (source / "mapping.toml").write_text(MAPPING)
    (source / "cohort.csv").write_text("\n".join(rows()) + "\n")
    return site


Haemfed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def haemfed(hospital: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Haemfed:
    def call(verb: str, *arguments: object) -> tuple[int, str, str]:
        config = [] if verb in {"lint", "propose"} else ["--config", str(hospital / "site.toml")]
        monkeypatch.setattr(sys, "argv", ["haemfed", "harmonize", verb, *map(str, arguments), *config])
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err

    return call


def run(haemfed: Haemfed, hospital: Path) -> str:
    code, out, err = haemfed("run", hospital / "source" / "mapping.toml")
    assert (code, err) == (0, "")
    return out


def tables(hospital: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (hospital / "data" / "tables").glob("*")}


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


def test_a_cohort_too_small_gets_a_report_and_no_table(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    before = tables(hospital)
    (hospital / "source" / "cohort.csv").write_text("\n".join(rows()[:12]))
    code, _, err = haemfed("run", hospital / "source" / "mapping.toml")
    after = tables(hospital)

    assert code == 16
    assert "aml_core-quality.html" in err
    assert after["aml_core.parquet"] == before["aml_core.parquet"]
    assert after["aml_core-provenance.parquet"] == before["aml_core-provenance.parquet"]
    assert after["aml_core-quality.html"] != before["aml_core-quality.html"]
    assert "11 of 11 patients" in haemfed("report")[1]


def test_report(haemfed: Haemfed, hospital: Path) -> None:
    code, _, err = haemfed("report")
    assert code == 10
    assert "haemfed harmonize run" in err
    run(haemfed, hospital)
    code, out, _ = haemfed("report")
    assert code == 0
    assert "Acute myeloid leukaemia: 60 of 61 patients, 20 deaths" in out
    assert "left out, index-diagnosis-missing: 1" in out
    outcome = json.loads(haemfed("report", "--json")[1])
    assert outcome["resourceType"] == "OperationOutcome"


def test_report_to_hand_over(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    code, out, _ = haemfed("report", "--shareable")
    page = hospital / "data" / "tables" / "aml_core-quality.shareable.html"
    assert code == 0
    assert str(page) in out
    assert "by a person" in out
    shared = json.loads(haemfed("report", "--shareable", "--json")[1])
    assert shared["rows"] == 60
    assert shared["left_out"] is None
    for text in (page.read_text(), json.dumps(shared)):
        assert "cohort.csv" not in text
        assert "1+1" not in text


def test_nothing_to_hand_over_from_a_small_cohort(haemfed: Haemfed, hospital: Path) -> None:
    (hospital / "source" / "cohort.csv").write_text("\n".join(rows()[:12]))
    haemfed("run", hospital / "source" / "mapping.toml")
    code, _, err = haemfed("report", "--shareable")

    assert code == 16
    assert "fewer than 20" in err
    assert not (hospital / "data" / "tables" / "aml_core-quality.shareable.html").exists()


def test_several_reports_need_a_name(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    data = hospital / "data" / "tables" / "aml_core-quality.data.json"
    (hospital / "data" / "tables" / "mds-quality.data.json").write_bytes(data.read_bytes())
    code, _, err = haemfed("report")

    assert code == 10
    assert "aml_core, mds" in err
    assert haemfed("report", "--profile", "aml_core")[0] == 0


def test_explain_says_where_and_not_what(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    code, out, _ = haemfed("explain", "ERIKA-5", "wbc")

    assert code == 0
    assert "source  cohort.csv line or entry 7, field WBC =1+1" in out
    assert "state   value" in out
    assert "day -30 to day 14" in out
    assert "4326" not in out
    assert "4.326" not in out
    assert "ERIKA" not in out
    pid = re.search(r"patient ([A-Z2-7]{26})", out)
    assert pid is not None
    assert haemfed("explain", pid[1].lower(), "wbc")[1] == out
    died = haemfed("explain", "ERIKA-3", "os")[1]
    assert "cohort.csv line or entry 5, field died" in died
    assert "says nothing" in haemfed("explain", "ERIKA-3", "tpi")[1]
    assert "cohort.csv" in haemfed("explain", "ERIKA-3", "index_date")[1]


@pytest.mark.parametrize(
    ("patient", "variable", "status"), [("NOBODY-77", "wbc", 17), ("LOST-1", "wbc", 17), ("ERIKA-1", "wcb", 10)]
)
def test_explain_refuses_without_repeating_the_identifier(
    haemfed: Haemfed, hospital: Path, patient: str, variable: str, status: int
) -> None:
    run(haemfed, hospital)
    code, out, err = haemfed("explain", patient, variable)

    assert code == status
    assert patient not in out + err
    assert err.count("\n") == 1


def test_explain_needs_the_places_of_this_very_table(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    places = hospital / "data" / "tables" / "aml_core-provenance.parquet"
    old = places.read_bytes()
    (hospital / "source" / "cohort.csv").write_text("\n".join(rows()[:50]))
    run(haemfed, hospital)
    places.write_bytes(old)
    assert haemfed("explain", "ERIKA-5", "wbc")[0] == 17
    places.write_bytes(old[:-9])
    code, _, err = haemfed("explain", "ERIKA-5", "wbc")
    assert code == 17
    assert "damaged" in err
    places.chmod(0o644)
    assert haemfed("explain", "ERIKA-5", "wbc")[0] == 19


def test_values_are_shown_on_a_terminal_only(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    code, out, err = haemfed("explain", "ERIKA-5", "wbc", "--show-value")
    assert code == 2
    assert "terminal" in err
    assert out == ""
    command = [sys.executable, "-m", "nodes.cli", "harmonize", "explain", "ERIKA-5", "wbc", "--show-value"]
    assert "value   4.326 10*9/L" in on_a_terminal([*command, "--config", str(hospital / "site.toml")])


def on_a_terminal(command: list[str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0, said.decode()
    return said.decode()


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


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("lint", "report", "explain", "share", "propose")),
    ],
)
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
