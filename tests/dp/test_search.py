"""What a hyper-parameter search costs, against whom."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import numerical
from dp.budget import GDP_FILTER, BudgetKind, Filter
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, ConfigError
from dp.events import Account, NarrowEvent, event
from dp.search import Law, Search, cost
from tests.sweeps import examples

ONE_RUN = [(event("gradient", 5.43, sampling_probability=0.1), 200)]
RDP16 = Filter(BudgetKind.RDP, 16)


@pytest.mark.parametrize(("law", "epsilon"), [(Law.GEOMETRIC, 2.31), (Law.POISSON, 2.51), (Law.LOGARITHMIC, 1.92)])
def test_ten_runs_of_epsilon_one(law: Law, epsilon: float) -> None:
    """Base run ε = 1 (RDP 1.10): geometric 2.31, Poisson 2.51, logarithmic 1.92."""
    found = cost(ONE_RUN, 1e-5, Search(law, 10), filter=RDP16)

    assert found.one_run == pytest.approx(1.10, abs=0.006)
    assert found.recipient == pytest.approx(epsilon, abs=0.006)
    assert found.run_by_run == RDP16.epsilon(10 * 200 * RDP16.units(ONE_RUN[0][0]), 1e-5)
    assert found.run_by_run > found.recipient


def test_run_by_run_at_full_batch() -> None:
    z = 20.0
    found = cost([(event("gradient", z), 100)], 1e-5, Search(Law.GEOMETRIC, 9.5))

    assert found.run_by_run == GDP_FILTER.epsilon(1000 * GDP_FILTER.units(event("gradient", z)), 1e-5)


@settings(max_examples=examples(15), deadline=None)
@given(law=st.sampled_from(list(Law)), mean=st.floats(1.01, 1000), z=st.floats(0.3, 300))
def test_the_other_library_agrees_and_a_search_is_never_cheaper_than_its_run(law: Law, mean: float, z: float) -> None:
    found = cost([(event("gradient", z), 1)], 1e-5, Search(law, mean))

    assert math.isfinite(found.recipient)
    assert found.recipient >= found.one_run


def test_a_library_that_disagrees_stops_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerical, "repeat_and_select", lambda *_: 2.2)
    with pytest.raises(AccountantsDisagree):
        cost(ONE_RUN, 1e-5, Search(Law.GEOMETRIC, 10), filter=RDP16)


@pytest.mark.parametrize("mean", [0.0, 1.0, -3.0, 1001.0, math.nan, math.inf])
def test_a_mean_outside_its_range(mean: float) -> None:
    with pytest.raises(ConfigError):
        Search(Law.POISSON, mean)


def test_narrow_lanes_are_not_searched() -> None:
    narrow = NarrowEvent("gradient", 17.3, 784, 100, Account.TRAINING)
    with pytest.raises(BudgetOfAnotherKind):
        cost([(narrow, 6)], 1e-5, Search(Law.POISSON, 3), filter=RDP16)
