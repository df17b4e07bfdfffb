"""Two kinds of budgets: what they admit, what they refuse, and which way every number is rounded."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import gdp, narrow, rdp
from dp.budget import GDP_FILTER, LATTICE_SHARE, Budget, BudgetKind, Filter, check_delta, epsilon_of, gaussian_delta
from dp.errors import BudgetOfAnotherKind, ConfigError, MisuseError
from dp.events import Account, GaussianEvent, NarrowEvent, PoissonEvent, event
from tests.sweeps import examples

UNIT = 2**64
RDP8 = Filter(BudgetKind.RDP, 8)
POISSON = event("gradient", 3.0, sampling_probability=0.1)
NARROW = NarrowEvent("gradient", 17.3, 784, 7500, Account.TRAINING)

filters = st.one_of(st.just(GDP_FILTER), st.builds(lambda order: Filter(BudgetKind.RDP, order), st.integers(2, 256)))
deltas = st.sampled_from([1e-5, 1e-6, 1e-9])


@given(z=st.floats(1e-3, 1e6), rule=filters)
def test_a_gaussian_costs_mu_squared_or_half_of_it_times_the_order(z: float, rule: Filter) -> None:
    cost = Fraction(1) / Fraction(z) ** 2 * (1 if rule.kind is BudgetKind.GDP else Fraction(rule.order, 2))
    units = rule.units(event("gradient", z))

    assert units - 1 < cost * UNIT <= units  # up, by less than one unit


def test_the_other_events_cost_their_divergence() -> None:
    assert isinstance(POISSON, PoissonEvent)
    assert RDP8.units(POISSON) == math.ceil(Fraction(rdp.poisson_gaussian(8, 3.0, 0.1)) * UNIT)
    assert RDP8.units(NARROW) == math.ceil(Fraction(narrow.rdp(8, 17.3, 784, 7500)) * UNIT)
    assert RDP8.units(NARROW) > RDP8.units(event("gradient", 17.3))


@pytest.mark.parametrize("release", [POISSON, NARROW])
def test_a_gdp_budget_holds_full_batches_on_the_wide_lattice_only(release: Any) -> None:
    with pytest.raises(BudgetOfAnotherKind, match="RDP budget"):
        GDP_FILTER.units(release)


def test_narrow_lanes_have_no_cost_above_their_variance() -> None:
    quiet = NarrowEvent("gradient", 17.3, 64, 7500, Account.TRAINING)

    assert Filter(BudgetKind.RDP, 64).units(quiet) > 0
    with pytest.raises(BudgetOfAnotherKind, match="wider lanes"):
        Filter(BudgetKind.RDP, 65).units(quiet)


@settings(max_examples=examples(200), deadline=None)
@given(rule=filters, epsilon=st.floats(0.01, 100), delta=deltas)
def test_a_budget_and_the_epsilon_of_what_it_admits(rule: Filter, epsilon: float, delta: float) -> None:
    units = rule.largest(epsilon, delta)

    if units:
        assert rule.epsilon(units, delta) <= epsilon
        assert rule.epsilon(units + units // 10**9 + 10**10, delta) > epsilon * (1 - 1e-6)
    else:
        assert rule.least_epsilon(delta) > epsilon * (1 - 1e-9)


def test_a_thousandth_of_delta_is_kept_back() -> None:
    mu = 0.5
    units = math.ceil(Fraction(mu) ** 2 * UNIT)

    assert gaussian_delta(1e-5) <= 1e-5 * (1 - LATTICE_SHARE)
    assert GDP_FILTER.epsilon(units, 1e-5) == pytest.approx(gdp.epsilon(mu, 1e-5 * (1 - 2**-10)), rel=1e-12)
    assert GDP_FILTER.epsilon(units, 1e-5) > gdp.epsilon(mu, 1e-5)
    assert GDP_FILTER.epsilon(units, 1e-5) == pytest.approx(epsilon_of(0.25, 1e-5), rel=1e-12)
    assert RDP8.epsilon(units, 1e-5) > rdp.epsilon(8, 0.25, 1e-5)


def test_budget_is_a_filter() -> None:
    for rule in (GDP_FILTER, RDP8):
        budget = Budget(2.0, 1e-5, rule)
        half = budget.units // 2

        assert budget.admits(half, budget.units - half)
        assert not budget.admits(half, budget.units - half + 1)
    assert Budget(2.0, 1e-5).mu_max == pytest.approx(gdp.mu(2.0, 1e-5), rel=1e-3)
    assert Budget(2.0, 1e-5).mu_max < gdp.mu(2.0, 1e-5)
    with pytest.raises(BudgetOfAnotherKind):
        _ = Budget(2.0, 1e-5, RDP8).mu_max


def test_the_first_rdp_release_pays_the_conversion() -> None:
    assert RDP8.epsilon(0, 1e-5) == 0.0
    assert GDP_FILTER.least_epsilon(1e-5) == 0.0
    assert RDP8.least_epsilon(1e-5) == pytest.approx(1.214, abs=1e-3)
    assert Budget(1.2, 1e-5, RDP8).units == 0
    assert Budget(1.3, 1e-5, RDP8).units > 0


def test_what_protects_nobody_is_infinite() -> None:
    for rule in (GDP_FILTER, RDP8):
        assert rule.epsilon(rule.units(event("gradient", 1e-300)), 1e-5) == math.inf
        with pytest.raises(MisuseError):
            rule.epsilon(-1, 1e-5)


@pytest.mark.parametrize(
    ("kind", "order"),
    [(BudgetKind.GDP, 8), (BudgetKind.RDP, 0), (BudgetKind.RDP, 1), (BudgetKind.RDP, 257), (BudgetKind.RDP, 8.0)],
)
def test_an_order_belongs_to_rdp_and_is_one_of_255(kind: BudgetKind, order: Any) -> None:
    with pytest.raises(ConfigError, match="order"):
        Filter(kind, order)


def test_a_filter_says_what_it_is() -> None:
    assert (str(GDP_FILTER), str(RDP8)) == ("GDP", "RDP at order 8")


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (math.nan, 1e-5), (2, 0), (2, 1), (2, math.nan)])
def test_budgets_outside_their_range(epsilon: float, delta: float) -> None:
    for rule in (GDP_FILTER, RDP8):
        with pytest.raises(ConfigError):
            Budget(epsilon, delta, rule)


@pytest.mark.parametrize(
    ("delta", "patients"), [(1e-3, 1000), (2e-3, 1000), (0.5, 2), (0.0, 10), (1.0, 10), (math.nan, 10), (1e-5, 0)]
)
def test_delta_at_or_above_one_over_the_declared_patients(delta: float, patients: int) -> None:
    with pytest.raises(ConfigError):
        check_delta(delta, patients)


def test_delta_below_one_over_the_declared_patients() -> None:
    check_delta(1e-5, 99_999)
    check_delta(math.nextafter(1e-3, 0), 1000)


def test_a_gaussian_event_of_an_old_ledger_costs_what_it_did() -> None:
    assert GDP_FILTER.units(GaussianEvent("gradient", 3.0, Account.TRAINING)) == 2**64 // 9 + 1
