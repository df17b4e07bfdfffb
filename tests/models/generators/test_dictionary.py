"""Levels and bins are functions of one patient and of public numbers; fine bins nest in coarse ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import profile as profiles
from models.data import SurvivalData
from models.errors import ConfigError, MisuseError
from models.generators.dictionary import Column, Dictionary, Kind, continuous, of_profile
from tests.models.generators.cohorts import COLUMNS, DICTIONARY, GRID, cohort

NUMBERS = st.floats(-12, 12) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(st.lists(st.tuples(NUMBERS, st.booleans()), min_size=1, max_size=30))
def test_fine_bins_nest_in_coarse_ones(cells: list[tuple[float, bool]]) -> None:
    x = np.array([value for value, _ in cells])
    observed = np.array([seen for _, seen in cells])
    for column in COLUMNS:
        coarse, fine = column.codes(x, observed), column.fine_codes(x, observed)
        known = observed & np.isfinite(x)
        assert np.array_equal(coarse == column.bins, ~known)
        assert np.array_equal(fine == column.fine_bins, ~known)
        assert np.array_equal(column.coarse_of_fine[fine[known]], coarse[known])


def test_a_level_depends_on_its_patient_alone() -> None:
    data = cohort(200)
    whole = DICTIONARY.codes(data)
    assert np.array_equal(whole[50:60], DICTIONARY.codes(data.rows(np.arange(50, 60))))
    assert (whole.max(axis=0) < DICTIONARY.levels).all()


@pytest.mark.parametrize(
    ("days", "died", "level"),
    [(0.0, True, 0), (91.3125, True, 0), (91.4, True, 1), (1826.25, True, 3), (1826.25, False, 8), (50.0, False, 4)],
)
def test_levels_of_follow_up(days: float, died: bool, level: int) -> None:
    x = np.zeros((1, 6))
    data = SurvivalData(x, x == 0, np.array([days]), np.array([died]))
    assert DICTIONARY.outcome_codes(data).tolist() == [level]


@pytest.mark.parametrize("name", ["mds", "aml", "cmml", "mm", "aml_core"])
def test_a_dictionary_of_every_profile(name: str) -> None:
    profile = profiles.load(name)
    found = of_profile(profile, GRID)
    assert found.names == tuple(v.name for v in profile.inputs)
    assert found.digest == of_profile(profile, GRID).digest
    assert {c.kind for c in found.columns if c.name.startswith("mut_") and not c.name.endswith("_vaf")} <= {Kind.BINARY}
    for column in found.columns:
        if column.kind is Kind.CONTINUOUS:
            assert column.fine_edges[0] == column.low
            assert column.fine_edges[-1] == column.high
            assert (np.diff(column.fine_edges) > 0).all()


@pytest.mark.parametrize(
    "column",
    [
        lambda: Column("a", Kind.BINARY, (0.0, 1.0, 2.0)),
        lambda: Column("a", Kind.ORDINAL, (1.0, 0.0)),
        lambda: Column("a", Kind.CONTINUOUS, low=1.0, high=1.0),
        lambda: Column("a", Kind.CONTINUOUS, low=-1.0, high=1.0, edges=(1.0,)),
        lambda: Column("a", Kind.CONTINUOUS, low=-1.0, high=99.0),
    ],
)
def test_a_column_that_contradicts_itself(column: object) -> None:
    with pytest.raises(ConfigError, match="column 'a'"):
        column()  # type: ignore[operator]


def test_other_data_and_unknown_columns_are_refused() -> None:
    with pytest.raises(MisuseError, match="6 columns"):
        DICTIONARY.codes(SurvivalData(np.zeros((1, 2)), np.zeros((1, 2)) == 0, np.ones(1), np.ones(1) == 1))
    with pytest.raises(ConfigError, match="no column sex"):
        DICTIONARY.subset(["age", "sex"])
    with pytest.raises(ConfigError, match="grid"):
        Dictionary(COLUMNS, (1.0, 2.0))


def test_the_lowest_number_has_a_bin_of_its_own() -> None:
    column = continuous("blasts", -1.0, 5.0, atom=True)
    x = np.array([-1.0, -1.0, -0.99, 0.4])

    assert column.codes(x, np.ones(4, dtype=bool)).tolist()[:2] == [0, 0]
    assert column.codes(x, np.ones(4, dtype=bool)).min(initial=9, where=[False, False, True, True]) > 0
    assert column.fine_codes(x, np.ones(4, dtype=bool)).tolist()[:3] == [0, 0, 1]
    assert (column.coarse_of_fine == 0).sum() == 1
    by_name = {each.name: each for each in of_profile(profiles.load("mds"), GRID).columns}
    assert by_name["pb_blast"].edges[0] == pytest.approx(by_name["pb_blast"].low + 1e-6)
    assert by_name["age"].edges[0] == -1.5
