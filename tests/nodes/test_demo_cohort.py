import builtins
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources as harmonising
from harmonize.table import Table, build
from nodes.demo import cohort, sources
from nodes.errors import ConfigError
from tests.sweeps import thinned

PROFILE = profiles.load("aml_core")
KEY = bytes(32)


@pytest.fixture(scope="module")
def six() -> list[cohort.Hospital]:
    pytest.importorskip("SurvSet", reason="the extra `demo` is not installed")
    return cohort.hospitals(6)


def harmonised(hospital: cohort.Hospital, folder: Path, how: sources.Dialect) -> Table:
    path = sources.write(hospital, folder, how)
    table, quality = build(harmonising.read(folder, mappings.load(path, PROFILE), PROFILE), PROFILE, KEY)
    assert {finding.code for finding in quality.findings} <= {"range-soft"}
    return table


def test_six_hospitals_have_the_intended_sizes(six: list[cohort.Hospital]) -> None:
    sizes = [len(hospital) for hospital in six]

    assert sum(sizes) == 1043
    assert [round(100 * size / 1043) for size in sizes] == [39, 25, 15, 10, 7, 4]
    assert [hospital.name for hospital in six] == ["alder", "birch", "cedar", "dogwood", "elm", "fir"]


@pytest.mark.parametrize("number", thinned(range(cohort.MINIMUM, cohort.MAXIMUM + 1), 6))
def test_every_number_of_hospitals(six: list[cohort.Hospital], number: int) -> None:
    hospitals = cohort.hospitals(number)

    assert len(hospitals) == number
    assert sorted(district for hospital in hospitals for district in hospital.districts) == list(range(1, 25))
    assert sum(len(hospital) for hospital in hospitals) == 1043
    assert min(len(hospital) for hospital in hospitals) >= cohort.SMALLEST
    assert len(hospitals[0]) > len(hospitals[-1])
    assert len({patient for hospital in hospitals for patient in hospital.frame["patient"]}) == 1043


def test_districts_are_listed_by_size(six: list[cohort.Hospital]) -> None:
    sizes = cohort._load()["district"].value_counts()

    ranked = [int(sizes[district]) for district in cohort.DISTRICTS]
    assert sorted(cohort.DISTRICTS) == list(range(1, 25))
    assert ranked == sorted(ranked, reverse=True)


def test_small_hospitals_are_merged_into_the_next() -> None:
    sizes = {1: 30, 2: 5, 3: 40, 4: 6, 5: 7}

    assert cohort._merge([[1], [2], [3], [4], [5]], sizes) == [(1,), (2, 3, 4, 5)]
    assert cohort._merge([[2], [4], [1], [3]], sizes) == [(1, 2, 4), (3,)]


def test_invented_dates_agree_with_real_ages_and_survival(six: list[cohort.Hospital]) -> None:
    for hospital in six:
        for row in hospital.frame.to_dict("records"):
            birth, diagnosis = row["birth_date"], row["diagnosis_date"]
            had_birthday = (diagnosis.month, diagnosis.day) >= (birth.month, birth.day)
            assert diagnosis.year - birth.year - (not had_birthday) == row["age"]
            assert (row["last_follow_up"] - diagnosis).days == row["time"]
            assert row["death_date"] == (row["last_follow_up"] if row["event"] else None)
            assert dt.date(1982, 1, 1) <= diagnosis <= dt.date(1998, 12, 31)


def test_the_demo_is_the_same_everywhere(six: list[cohort.Hospital]) -> None:
    first = six[0].frame.iloc[0]

    assert (first["patient"], first["diagnosis_date"].isoformat()) == ("ALD-00412159", "1993-01-17")


def test_every_dialect_gives_the_same_table(six: list[cohort.Hospital], tmp_path: Path) -> None:
    tables = [harmonised(six[-1], tmp_path / str(rank), how) for rank, how in enumerate(sources.DIALECTS)]

    assert len({table.digest for table in tables}) == 1
    frame = six[-1].frame
    by_pid = dict(zip(tables[0].pids, tables[0].arrow.to_pylist(), strict=True))
    from harmonize.cohort.assemble import pseudonym

    for row in frame.to_dict("records"):
        stored = by_pid[pseudonym(KEY, f"urn:haemfed:demo:{six[-1].name}", row["patient"])]
        assert (stored["time"], stored["event"], stored["wbc"], stored["tpi"]) == (
            row["time"], row["event"], row["wbc"], row["tpi"],
        )  # fmt: skip
        assert stored["sex"] == {"female": 0, "male": 1}[row["sex"]]
        assert stored["age"] == min(row["age"], 90)


@pytest.mark.slow
def test_hospitals_take_turns_in_their_dialects(six: list[cohort.Hospital], tmp_path: Path) -> None:
    formats = set()
    for rank, hospital in enumerate(six):
        table = harmonised(hospital, tmp_path / hospital.name, sources.dialect(rank))
        assert len(table) == len(hospital)
        table.require_ready(cohort.SMALLEST)
        formats.update(mappings.load(tmp_path / hospital.name / sources.MAPPING, PROFILE).formats)

    assert formats == {"bundle", "ndjson", "csv"}
    assert sources.dialect(0) is sources.dialect(4)


def test_two_runs_are_never_mixed(six: list[cohort.Hospital], tmp_path: Path) -> None:
    sources.write(six[-1], tmp_path, sources.bundles)

    with pytest.raises(ConfigError, match="not empty; remove it, or give the demo a new folder"):
        sources.write(six[-2], tmp_path, sources.bundles)


def test_generated_fhir_is_valid_r4(six: list[cohort.Hospital], tmp_path: Path) -> None:
    from fhir.resources.R4B import get_fhir_model_class
    from fhir.resources.R4B.bundle import Bundle

    sources.write(six[-1], tmp_path / "bundles", sources.bundles)
    for path in sorted((tmp_path / "bundles").glob("*.json")):
        assert len(Bundle.model_validate_json(path.read_bytes()).entry) == 5 * len(six[-1])

    sources.write(six[-1], tmp_path / "bulk", sources.bulk)
    for kind in ("Patient", "Condition", "Observation", "Encounter"):
        for line in (tmp_path / "bulk" / f"{kind}.ndjson").read_text().splitlines()[:20]:
            get_fhir_model_class(kind).model_validate(json.loads(line))


@pytest.mark.parametrize("number", [3, 17, 0, -1])
def test_numbers_out_of_range(number: int) -> None:
    with pytest.raises(ConfigError, match=f"--hospitals {number}: the demo runs with 4 to 16 hospitals"):
        cohort.hospitals(number)


def test_a_missing_extra_is_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("SurvSet"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'haemfed\[demo\]'$"):
        cohort.hospitals(6)
