"""Frequencies: one release, everything after it inside public bounds whatever the noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.queries import Neighbours
from models.data import SurvivalData
from models.errors import MisuseError
from models.generators.dictionary import Dictionary, Kind, continuous
from models.generators.oneway import Frequencies, OneWay
from tests.models.generators.cohorts import COLUMNS, DICTIONARY, GRID, cohort

RELEASE = OneWay(DICTIONARY)


def frequencies(n: int = 3000, noise: float = 0.0, seed: int = 0) -> Frequencies:
    total = RELEASE.contribution(cohort(n, seed))
    return RELEASE.decode(total + np.random.default_rng(seed).normal(0, noise, total.shape), max(noise, 1e-9))


def test_a_patient_adds_one_to_each_column() -> None:
    assert RELEASE.release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE) == pytest.approx(7**0.5)
    one = RELEASE.contribution(cohort(50)) - RELEASE.contribution(cohort(50).rows(np.arange(49)))
    assert sorted(np.unique(one)) == [0.0, 1.0]
    assert one.sum() == 7


def test_frequencies_are_those_of_the_table() -> None:
    data, found = cohort(3000), frequencies()
    for j, column in enumerate(COLUMNS):
        share = np.bincount(column.codes(data.x[:, j], data.observed[:, j]), minlength=column.levels) / len(data)
        assert np.allclose(found.coarse(j), share, atol=0.01)
    assert found.patients == pytest.approx(3000)


@given(st.integers(0, 50), st.floats(0.0, 2000.0))
def test_numbers_lie_in_their_bins_whatever_the_noise(seed: int, noise: float) -> None:
    found, rng = frequencies(60, noise, seed), np.random.default_rng(seed)
    for j, column in enumerate(COLUMNS):
        codes = rng.integers(0, column.bins, 40)
        numbers = found.numbers(j, codes, rng)
        assert np.array_equal(column.codes(numbers, np.ones(40, dtype=bool)), codes)
        if column.kind is Kind.CONTINUOUS:
            assert (numbers >= column.low).all()
            assert (numbers <= column.high).all()
    codes = rng.integers(0, DICTIONARY.outcome_levels, 60)
    days, died = found.follow_up(codes, rng)
    table = SurvivalData(np.zeros((60, 6)), np.zeros((60, 6)) == 0, days, died)
    # A day on an edge belongs to the interval before it, and nobody is followed for less than half a day.
    assert np.mean(DICTIONARY.outcome_codes(table) == codes) > 0.95


def test_scores_are_standard_normal_and_come_back() -> None:
    data, found = cohort(3000), frequencies()
    for j in (0, 1):
        seen = data.x[data.observed[:, j], j]
        scores = found.scores(j, seen)
        assert abs(scores.mean()) < 0.05
        assert abs(scores.std() - 1) < 0.07
        assert np.allclose(found.unscored(j, scores), seen, atol=0.02)
    with pytest.raises(MisuseError, match="list of values"):
        found.scores(3, data.x[:, 3])


def test_a_bin_for_one_number_gives_back_that_number() -> None:
    column = continuous("blast", -0.5, 3.0, atom=True)
    known = Dictionary((column,), GRID)
    x = np.where(np.arange(400) < 250, -0.5, np.linspace(-0.4, 2.9, 400))[:, None]
    data = SurvivalData(x, np.ones_like(x, dtype=bool), np.full(400, 100.0), np.arange(400) < 200)
    release, rng = OneWay(known), np.random.default_rng(0)
    found = release.decode(release.contribution(data), 0.0)
    codes = column.codes(x[:, 0], data.observed[:, 0])
    for numbers in (found.numbers(0, codes, rng), found.unscored(0, rng.standard_normal(400))):
        assert 0.5 < np.mean(numbers == -0.5) < 0.75  # to the last bit: a step of a distribution function is there
        assert numbers[numbers != -0.5].min() > column.fine_edges[1]


def test_scores_of_bins_are_means_of_a_normal_number() -> None:
    found = frequencies()
    z = np.sort(np.random.default_rng(0).standard_normal(400_000))
    for j in (0, 1):
        share = found.observed(j)
        parts = np.split(z, (np.cumsum(share)[:-1] * len(z)).astype(int))
        wanted = [part.mean() for part in parts]
        assert np.abs(found.bin_scores(j) - np.clip(wanted, -4, 4))[share > 0.001].max() < 0.05
        assert (share * found.bin_scores(j)).sum() == pytest.approx(0, abs=1e-9)


def test_nothing_but_noise_still_gives_frequencies() -> None:
    found = RELEASE.decode(np.full(RELEASE.release.length, -5.0), 1e6)
    assert found.patients == 1.0
    assert all(np.isclose(table.sum(), 1) for table in found.tables)


def test_the_query_names_the_dictionary() -> None:
    other = OneWay(type(DICTIONARY)(COLUMNS, (*GRID[:-1], 2000.0)))
    assert RELEASE.query(2.0, 100).public != other.query(2.0, 100).public


def test_tables_that_are_no_frequencies_are_refused() -> None:
    found = frequencies(100)
    with pytest.raises(MisuseError, match="add up to 1"):
        Frequencies(DICTIONARY, (found.tables[0] * 2, *found.tables[1:]), 1.0)
    with pytest.raises(MisuseError, match="one number per fine level"):
        Frequencies(DICTIONARY, found.tables[:-1], 1.0)
