from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import DAYS_PER_YEAR, INPUT_BOUND, SHORTEST_DURATION, SurvivalData, exposures, inputs
from models.errors import MisuseError
from tests.models.support import patients

GRID = (0.0, 30.0, 365.25, 1826.25)


def one(x: float = 0.0, duration: float = 100.0, *, event: bool = True, observed: bool = True) -> SurvivalData:
    return SurvivalData(np.array([[x]]), np.array([[observed]]), np.array([duration]), np.array([event]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_patient_contributes_nothing(value: float) -> None:
    assert len(one(x=value).bounded(1000)) == 0
    assert len(one(duration=value).bounded(1000)) == 0


def test_a_non_finite_value_that_was_not_observed_is_ignored() -> None:
    kept = one(x=np.nan, observed=False).bounded(1000)

    assert kept.x.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("duration", "event", "becomes"),
    [(0.0, True, (SHORTEST_DURATION, True)), (-5.0, True, (SHORTEST_DURATION, True)),
     (1000.0, True, (1000.0, True)), (1000.1, True, (1000.0, False)), (9e9, False, (1000.0, False))],
)  # fmt: skip
def test_durations_are_bounded(duration: float, event: bool, becomes: tuple[float, bool]) -> None:
    kept = one(duration=duration, event=event).bounded(1000)

    assert (float(kept.duration[0]), bool(kept.event[0])) == becomes


def test_inputs_are_clipped_to_the_public_bound() -> None:
    assert one(x=1e300).bounded(1000).x.tolist() == [[INPUT_BOUND]]


def test_bounding_twice_changes_nothing() -> None:
    once = patients(50).bounded(700)
    twice = once.bounded(700)

    assert np.array_equal(once.x, twice.x)
    assert np.array_equal(once.duration, twice.duration)
    assert np.array_equal(once.event, twice.event)


def test_fully_observed_patients_have_no_missing_indicator() -> None:
    z = inputs(np.array([[1.5, 2.0]]), np.array([[True, False]]))

    assert z.tolist() == [[1.5, 0.0, 0.0, 1.0]]


@given(st.floats(0.5, 3000), st.booleans())
def test_exposure_adds_up_and_a_death_has_one_interval(duration: float, event: bool) -> None:
    at_risk, deaths = exposures(one(duration=duration, event=event), GRID)

    assert at_risk.sum() == pytest.approx(min(duration, GRID[-1]) / DAYS_PER_YEAR)
    assert deaths.sum() == (event and duration <= GRID[-1])
    if deaths.any():
        k = int(deaths[0].argmax())
        assert GRID[k] < duration <= GRID[k + 1]
        assert at_risk[0, k] > 0


def test_wrong_shapes_are_misuse_and_arrays_are_frozen() -> None:
    with pytest.raises(MisuseError, match="got shapes"):
        SurvivalData(np.zeros((2, 1)), np.ones((2, 1), dtype=bool), np.ones(3), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="read-only"):
        patients(3).x[0, 0] = 1.0
