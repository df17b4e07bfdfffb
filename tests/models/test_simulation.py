import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ConfigError
from models.metrics import harrell_c, kaplan_meier
from models.simulation import Column, Disease, Population, spread
from tests.sweeps import examples, thinned

COLUMNS = (Column(-2.6, 1.9), Column(-1.0, 1.0, share=0.55), Column(-2.1, 2.5), Column(0.0, 1.0, share=0.4))


def disease(**changes: float) -> Disease:
    numbers = {"concordance": 0.72, "median_survival": 400.0, "follow_up": 4000.0} | changes
    return Disease(COLUMNS, **numbers)


@cache
def population(**changes: float) -> Population:
    return Population(disease(**changes), np.random.default_rng(1))


@pytest.mark.parametrize("concordance", thinned([0.65, 0.55, 0.75, 0.85]))
def test_the_spread_of_risk_gives_the_c_index(concordance: float) -> None:
    # Independent of the formula: pairs of exponential survival times, first hazard e^f1, second e^f2.
    rng = np.random.default_rng(2)
    standard = rng.normal(size=(200_000, 2))
    risk = spread(np.abs(standard[:, 0] - standard[:, 1]), concordance) * standard
    times = rng.exponential(size=risk.shape) / np.exp(risk)
    agrees = (risk[:, 0] > risk[:, 1]) == (times[:, 0] < times[:, 1])

    assert float(agrees.mean()) == pytest.approx(concordance, abs=0.004)


def test_patients_who_are_alike_cannot_be_ranked() -> None:
    with pytest.raises(ConfigError, match=r"no risk reaches a C-index of 0\.8"):
        Population(Disease((Column(0.0, 1.0, share=0.5),), 0.8, 400.0, 4000.0), np.random.default_rng(1))


def test_without_an_effect_nothing_can_be_ranked() -> None:
    assert not population(concordance=0.5).risk(np.ones((3, 4))).any()


def test_a_population_has_the_declared_survival_and_c_index() -> None:
    drawn = population().draw(1500, np.random.default_rng(3))

    assert kaplan_meier(drawn.duration, drawn.event, 400.0) == pytest.approx(0.5, abs=0.04)
    assert harrell_c(population().risk(drawn.x), drawn) == pytest.approx(0.72, abs=0.025)


def test_half_are_followed_up_longer_than_the_median() -> None:
    drawn = population(follow_up=100.0, median_survival=1e7).draw(2000, np.random.default_rng(4))

    assert not drawn.event[drawn.duration < 1e3].mean() > 0.01
    assert float(np.mean(drawn.duration > 100.0)) == pytest.approx(0.5, abs=0.04)
    assert drawn.duration.max() <= 200.0


def test_risk_is_standardised_and_partly_beyond_a_linear_model() -> None:
    people = population(nonlinear=0.3)
    x = people.draw(20_000, np.random.default_rng(5)).x
    risk = people.risk(x)
    design = np.column_stack([x, np.ones(len(x))])
    rest = risk - design @ np.linalg.lstsq(design, risk, rcond=None)[0]

    assert rest.var() / risk.var() == pytest.approx(0.3, abs=0.05)


def test_properties_have_two_values_and_numbers_stay_inside() -> None:
    drawn = population(missing=0.25).draw(2000, np.random.default_rng(6))

    assert set(np.unique(drawn.x[:, 1])) == {-1.0, 1.0}
    assert float(np.mean(drawn.x[:, 3])) == pytest.approx(0.4, abs=0.04)
    assert drawn.x[:, 0].min() >= -2.6
    assert drawn.x[:, 2].max() <= 2.5
    assert float(np.mean(~drawn.observed)) == pytest.approx(0.25, abs=0.02)


@settings(max_examples=examples(15), deadline=None)
@given(patients=st.integers(0, 50), seed=st.integers(0, 2**32 - 1))
def test_the_same_state_draws_the_same_patients(patients: int, seed: int) -> None:
    one, other = (population().draw(patients, np.random.default_rng(seed)) for _ in range(2))

    assert len(one) == patients
    for name in ("x", "observed", "duration", "event"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert np.all(one.duration >= 0)


def test_one_column_has_no_neighbour() -> None:
    alone = Population(Disease((Column(-3, 3),), 0.7, 400.0, 4000.0), np.random.default_rng(1))
    drawn = alone.draw(1500, np.random.default_rng(2))
    risk = alone.risk(drawn.x)

    assert np.array_equal(np.argsort(risk), np.argsort(drawn.x[:, 0]))
    assert harrell_c(risk, drawn) == pytest.approx(0.7, abs=0.025)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"concordance": 0.49}, "C-index"),
        ({"concordance": 0.91}, "C-index"),
        ({"median_survival": 0.0}, "median survival"),
        ({"follow_up": math.inf}, "follow-up"),
        ({"missing": 1.0}, "missing"),
        ({"nonlinear": 1.0}, "non-linear"),
    ],
)
def test_a_number_outside_its_range_is_named(changes: dict[str, float], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        disease(**changes)


def test_columns_are_checked() -> None:
    with pytest.raises(ConfigError, match="no column"):
        Disease((), 0.7, 400.0, 4000.0)
    with pytest.raises(ConfigError, match="bounds"):
        Column(1.0, 1.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Column(0.0, 1.0, share=1.0)
