"""Statistics of tables through a secure sum: bounded, pooled, and readable under noise."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import MisuseError
from dp.queries import Neighbours
from dp.releases.records import Records
from harmonize import profile as profiles
from harmonize import statistics
from models import cohort_statistics
from models.cohort_statistics import collect, release
from tests.harmonize.test_export import tables
from tests.models.support import Alone, Together
from tests.sweeps import examples

HOW = {"multiplier": 1.0, "patient_cap": 1000}


def test_doctests() -> None:
    assert doctest.testmod(cohort_statistics).failed == 0


@settings(max_examples=examples(30))
@given(name=st.sampled_from(["aml_core", "mds", "mm"]), seed=st.integers(0, 2**32))
def test_one_patient_moves_the_sum_by_at_most_the_bound(name: str, seed: int) -> None:
    table = tables(name, seed, 6)
    wanted = release(table.profile)
    rows = statistics.rows(table).matrix
    whole = wanted.contribution(Records(rows))
    for patient in range(6):
        moved = whole - wanted.contribution(Records(np.delete(rows, patient, axis=0)))
        assert np.linalg.norm(moved) <= wanted.sensitivity(Neighbours.ADD_OR_REMOVE_ONE) * (1 + 1e-12)


def test_without_noise_it_is_the_table() -> None:
    table = tables("aml_core", 3, 200)
    found = collect(table, Alone(), noise_sd=0.0, **HOW)
    states = table.states("wbc")
    usable = np.isin(states, statistics.USABLE)
    assert found.summaries["wbc"].n == pytest.approx(usable.sum(), abs=1e-3)
    values = np.array(table.arrow.column("wbc").to_pylist(), dtype=float)[usable]
    clip = [float(bound) for bound in table.profile.variable("wbc").scale.clip]
    assert found.summaries["wbc"].mean == pytest.approx(math.expm1(np.log1p(np.clip(values, *clip)).mean()), rel=1e-3)
    assert sum(found.summaries["sex"].counts.values()) == pytest.approx(
        np.isin(table.states("sex"), statistics.USABLE).sum(), abs=1e-3
    )


def test_two_hospitals_get_what_one_would() -> None:
    sites = tables("aml_core", 5, 40), tables("aml_core", 6, 25)
    both = Together(2).run(lambda site, door: collect(sites[site], door, noise_sd=0.0, **HOW))
    alone = [collect(site, Alone(), noise_sd=0.0, **HOW) for site in sites]
    for found in both:
        for name, summary in found.summaries.items():
            assert summary.n == pytest.approx(sum(each.summaries[name].n for each in alone), abs=1e-3)


def test_noise_leaves_numbers_that_can_be_read() -> None:
    found = collect(tables("aml_core", 9, 300), Alone(noise=1.0), noise_sd=3.3, **HOW)
    for summary in found.summaries.values():
        assert math.isfinite(summary.n)
        assert all(math.isfinite(each) for each in (*summary.quantiles, *summary.missing.values()))


def test_another_profile_is_another_question() -> None:
    digests = {release(profiles.load(name)).query(1.0, 1000).digest() for name in ("aml_core", "mds", "aml")}
    assert len(digests) == 3


def test_a_sum_of_another_length_is_refused() -> None:
    with pytest.raises(MisuseError):
        collect(tables("aml_core", 9, 3), lambda *_: np.zeros(3), noise_sd=0.0, **HOW)
