"""`haemfed harmonize explain`: where a cell came from, and which of patient, variable and value is not known."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.nodes.hospitals import MAPPING, Haemfed, on_a_terminal, rows, run


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
    ("patient", "variable", "status", "says"),
    [
        ("NOBODY-77", "wbc", 17, "the patient is unknown (the variable is not)"),
        ("LOST-1", "wbc", 17, "give the pseudonym, or the identifier of urn:test:hospital"),
        ("ERIKA-1", "wcb", 10, "the variable is unknown (the patient was not looked for)"),
        ("NOBODY-77", "wcb", 10, "aml_core has none of this name; did you mean 'wbc'?"),
        ("ERIKA-1", "zzz", 10, "; known: age, "),
    ],
)
def test_explain_says_what_is_unknown_without_repeating_the_identifier(
    haemfed: Haemfed, hospital: Path, patient: str, variable: str, status: int, says: str
) -> None:
    run(haemfed, hospital)
    code, out, err = haemfed("explain", patient, variable)

    assert code == status
    assert says in err
    assert patient not in out + err
    assert err.count("\n") == 1


def test_an_unknown_value_is_no_unknown_patient_or_variable(haemfed: Haemfed, hospital: Path) -> None:
    source = hospital / "source"
    (source / "mapping.toml").write_text(
        MAPPING.replace('";"\n', '";"\nmissing = { "?" = "unknown", nd = "not-tested" }\n')
    )
    lines = [line.replace(";4326;", ";?;").replace(";4327;", ";nd;") for line in rows()]
    (source / "cohort.csv").write_text("\n".join(lines))
    run(haemfed, hospital)

    unknown, untested = haemfed("explain", "ERIKA-5", "wbc")[1], haemfed("explain", "ERIKA-6", "wbc")[1]
    assert "state   unknown: patient and variable are known, the value is not: the source says so" in unknown
    assert "see: haemfed harmonize report" in unknown
    assert "state   not-tested: the source says that the test was not done" in untested
    assert "state   value\n" in haemfed("explain", "ERIKA-7", "wbc")[1]


@pytest.mark.slow
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


@pytest.mark.slow
def test_values_are_shown_on_a_terminal_only(haemfed: Haemfed, hospital: Path) -> None:
    run(haemfed, hospital)
    code, out, err = haemfed("explain", "ERIKA-5", "wbc", "--show-value")
    assert code == 2
    assert "terminal" in err
    assert out == ""
    command = [sys.executable, "-m", "nodes.cli", "harmonize", "explain", "ERIKA-5", "wbc", "--show-value"]
    assert "value   4.326 10*9/L" in on_a_terminal([*command, "--config", str(hospital / "site.toml")])
