"""The benchmark of harmonisation, in small counts: what it builds on works, and what it forbids does not happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sections
from benchmarks.cohorts import CohortMissing, folder
from benchmarks.harmonize import cohort, examples, fuzz, run
from benchmarks.sections import Asked, NotThere
from harmonize import profile as profiles
from tests.sweeps import thinned


@pytest.mark.parametrize("form", fuzz.SOURCES)
def test_a_sound_source_makes_a_table(form: str, tmp_path: Path) -> None:
    octets, mapping = fuzz.SOURCES[form]
    assert fuzz.attempt(octets, mapping, profiles.load("mds"), tmp_path) == fuzz.Outcome("table")


@pytest.mark.parametrize("form", thinned(fuzz.SOURCES, 3))
@pytest.mark.parametrize("seed", thinned(range(4)))
def test_damaged_sources_end_in_a_table_or_in_one_line(form: str, seed: int, tmp_path: Path) -> None:
    profile, rng = profiles.load("mds"), np.random.default_rng(seed)
    octets, mapping = fuzz.SOURCES[form]
    for _ in range(15):
        assert not fuzz.attempt(fuzz.damaged(octets, rng), mapping, profile, tmp_path).wrong


def test_a_value_in_a_message_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harmonize.errors import SourceError

    def leak(*_: object, **__: object) -> None:
        raise SourceError("source.data: line 1: cannot read Zyxwvut")

    monkeypatch.setattr(fuzz, "build", leak)
    octets, mapping = fuzz.SOURCES["csv"]
    found = fuzz.attempt(octets, mapping, profiles.load("mds"), tmp_path)
    assert found.wrong == "values in messages or reports"


@pytest.mark.slow
def test_the_invented_cohort_is_read_as_it_was_written(tmp_path: Path) -> None:
    cohort.write(tmp_path, 12)
    done = cohort._harmonised(tmp_path)
    assert done["patients"] == 12
    assert done["observed"] > 0.5
    assert not {"torch", "opacus"} & set(done["imported"])


def test_examples_and_traps() -> None:
    try:
        rows = list(examples.rows(Asked(data=folder(None))))
    except (CohortMissing, NotThere) as reason:
        pytest.skip(str(reason))
    assert all(row.passed for row in rows)


def test_every_claim_has_a_section() -> None:
    figures = [figure for section in run.BENCHMARK.sections.values() for figure in section.figures]
    assert {figure.rstrip("abcdefgh") for figure in figures} >= {f"5.{number}" for number in range(1, 8)}
    assert sections.section_of(run.BENCHMARK, "5.3b") == "cohort"
