"""`haemfed harmonize report`: of which run it is, what it shows, and what may be handed over."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from nodes.harmonising import input_bytes
from tests.nodes.hospitals import MAPPING, Haemfed, rows, run, tables


def test_the_report_says_that_it_is_not_of_the_latest_run(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    assert "failed" not in haemfed("report")[1]
    made = hospital / "data" / "tables" / "aml_core-quality.data.json"
    os.utime(made, (1_577_934_245, 1_577_934_245))
    (hospital / "source" / "cohort.csv").write_text("\n".join([*rows(), "x;y"]))
    haemfed("run", hospital / "source" / "mapping.toml")
    note = hospital / "data" / "harmonise-aml_core.failed"
    os.utime(note, (1_580_702_706, 1_580_702_706))
    code, out, _ = haemfed("report")

    assert code == 0
    first, second, third, *_ = out.splitlines()
    assert first.startswith("the latest run (2020-02-03 04:05 UTC) failed: cohort.csv: ")
    assert second == "this report was made 2020-01-02 03:04 UTC"
    assert "60 of 61 patients" in third
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    for option in ("--json", "--shareable"):
        code, out, err = haemfed("report", option)
        assert (code, err.splitlines()) == (0, [first, second])
        assert "failed" not in out
    (hospital / "source" / "cohort.csv").write_text("\n".join(rows()))
    run(haemfed, hospital)
    assert "failed" not in "".join(haemfed("report")[1:])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = ", "mapping.toml: not TOML"),
        (MAPPING.replace("aml_core", "aml_coer"), "aml_coer"),
        (MAPPING.replace("wbc =", "wcb ="), "did you mean"),
        (MAPPING.replace("cohort.csv", "nothing.csv"), "nothing"),
    ],
)
def test_the_report_says_that_the_latest_mapping_was_wrong(
    haemfed: Haemfed, hospital: Path, text: str, says: str
) -> None:
    run(haemfed, hospital)
    path = hospital / "source" / "mapping.toml"
    path.write_text(text)
    assert input_bytes(path, None) == 0  # what a bar asks before, on a terminal
    haemfed("run", path)
    failed, made, *_ = haemfed("report")[1].splitlines()

    assert failed.startswith("the latest run (")
    assert says in failed
    assert made.startswith("this report was made ")
    path.write_text(MAPPING)
    run(haemfed, hospital)
    assert "failed" not in haemfed("report")[1]


def test_the_report_says_that_the_latest_run_was_killed(
    haemfed: Haemfed, hospital: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(haemfed, hospital)

    def interrupted(*_: object, **__: object) -> None:
        assert "it did not come to its end" in haemfed("report")[1]  # what a kill would leave
        raise KeyboardInterrupt

    monkeypatch.setattr("nodes.harmonising.assemble", interrupted)
    assert haemfed("run", hospital / "source" / "mapping.toml")[0] == 130
    assert "failed: interrupted" in haemfed("report")[1]


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
