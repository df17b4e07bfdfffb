"""The δ that the lattice takes: the bounds of docs/explanation/accounting.md against sums over all integers."""

import doctest
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from dp import gdp, slack
from dp.budget import GDP_FILTER, LATTICE_SHARE, Budget, BudgetKind, Filter
from dp.discrete_gaussian import SHARE_VARIANCE
from dp.errors import MisuseError
from dp.slack import TV_CONSTANT, lattice_slack
from tests.sweeps import examples

Reals = NDArray[np.float64]
RDP16 = Filter(BudgetKind.RDP, 16)


def laws(sigma: float, reach: int) -> tuple[Reals, Reals, Reals]:
    """Integers, the discrete Gaussian and the rounded one."""
    x = np.arange(-reach, reach + 1).astype(float)
    discrete = np.exp(-x * x / (2 * sigma**2))
    rounded = norm.cdf((x + 0.5) / sigma) - norm.cdf((x - 0.5) / sigma)
    return x, np.asarray(discrete / discrete.sum()), np.asarray(rounded)


@pytest.mark.parametrize("sigma", [10, 17, 40])
def test_the_total_variation_constant(sigma: int) -> None:
    _, discrete, rounded = laws(sigma, 14 * sigma)
    tv = np.abs(discrete - rounded).sum() / 2

    assert tv * sigma**2 <= TV_CONSTANT
    assert tv * sigma**2 == pytest.approx(norm.pdf(1) / 12, rel=2e-3)


@pytest.mark.parametrize("q", [0.02, 0.3, 0.9])
def test_sampling_does_not_widen_the_distance(q: float) -> None:
    """A mixture over samples is no further from its rounded twin than its parts are."""
    sigma, shift = 10.0, 4
    x, discrete, rounded = laws(sigma, 200)
    _, single, _ = laws(sigma, 200)

    def moved(law: Reals) -> Reals:
        return np.asarray((1 - q) * law + q * np.roll(law, shift))

    parts = np.abs(single - rounded).sum() / 2
    assert np.abs(moved(discrete) - moved(rounded)).sum() / 2 <= parts * (1 + 1e-12)
    assert len(x) == 401


@pytest.mark.parametrize("sigma", [10.0, 30.0])
def test_the_likelihoods_differ_as_the_expansion_says(sigma: float) -> None:
    """log(rounded / discrete) = (z² − 1)/(24σ²) up to the next order, for |z| ≤ 8."""
    x = np.arange(-int(8 * sigma), 1).astype(float)  # the lower half, where distribution functions keep their digits
    z = x / sigma
    discrete = np.exp(-x * x / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    ratio = np.log((norm.cdf((x + 0.5) / sigma) - norm.cdf((x - 0.5) / sigma)) / discrete)

    assert np.abs(ratio - (z**2 - 1) / (24 * sigma**2)).max() <= (z**4 + 1).max() / (100 * sigma**4)


@settings(max_examples=examples(20), deadline=None)
@given(mu=st.floats(0.05, 3), eta=st.floats(1e-6, 1e-2), epsilon=st.floats(0.1, 20))
def test_a_shift_of_epsilon_costs_at_most_what_is_charged(mu: float, eta: float, epsilon: float) -> None:
    """δ(ε − 2η) ≤ δ(ε) + 2η·P(loss > ε − 2η)."""
    before = math.exp(gdp.log_delta(mu, epsilon))
    after = math.exp(gdp.log_delta(mu, max(0.0, epsilon - 2 * eta)))

    assert after <= before + 2 * eta * norm.cdf(mu / 2 - (epsilon - 2 * eta) / mu) + 1e-12


def test_a_composition_over_the_lattice_stays_within_its_slack() -> None:
    """σ = 10 steps, one release over one coordinate: true δ of the discrete mechanism against δ + slack."""
    sigma, shift = 10.0, 7
    x, discrete, _ = laws(sigma, 200)
    other = np.roll(discrete, shift)
    for epsilon in (0.1, 0.5, 1.0, 2.0):
        true = float(np.maximum(other - math.exp(epsilon) * discrete, 0)[:390].sum())
        continuous = math.exp(gdp.log_delta(shift / sigma, epsilon))
        assert true <= continuous + (1 + math.exp(epsilon)) * TV_CONSTANT / sigma**2
    assert x[0] == -200


def test_slack_in_practice_is_nothing() -> None:
    """7e-13 at d = 7,500 and 9e-11 at 1e6 (T = 60, h = 3), times 1 + e^ε, is the first bound; the second is less."""
    units = Budget(2.0, 1e-5).units
    for d, tv in ((7_500, 7e-13), (1_000_000, 9e-11)):
        found = lattice_slack(units, 1e-5, [(d, 60, 3.0 * SHARE_VARIANCE)])
        assert 0 < found < tv * (1 + math.exp(2))
        assert found < 1e-5 * LATTICE_SHARE * 1e-6


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_second_bound_pays_for_the_shift_of_epsilon(epsilon: float) -> None:
    """At least e^η δ(ε − 2η) − δ(ε) in 60 digits, and not a hundred times as much."""
    coordinates, variance = 2**24 * 1000, 2.0 * SHARE_VARIANCE
    units = Budget(epsilon, 1e-5).units
    found = lattice_slack(units, 1e-5, [(2**24, 1000, variance)])

    with mpmath.workdps(60):
        mu, e = mpmath.sqrt(mpmath.mpf(units) / 2**64), mpmath.mpf(GDP_FILTER.epsilon(units, 1e-5))
        eta = 2 * mpmath.sqrt(coordinates) / (24 * mpmath.mpf(variance)) * 10

        def delta(at: mpmath.mpf) -> mpmath.mpf:
            return mpmath.ncdf(mu / 2 - at / mu) - mpmath.exp(at) * mpmath.ncdf(-mu / 2 - at / mu)

        exact = mpmath.exp(eta) * delta(e - 2 * eta) - delta(e)
    assert exact <= found <= 100 * exact


@pytest.mark.parametrize("rule", [GDP_FILTER, Filter(BudgetKind.RDP, 2), RDP16, Filter(BudgetKind.RDP, 256)])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 5.0, 12.0, 30.0, 60.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_the_share_that_budgets_keep_covers_every_study(rule: Filter, epsilon: float, delta: float) -> None:
    """The longest vectors and a thousand uploads of two honest sites, for every ε up to 60."""
    units = rule.largest(epsilon, delta)

    assert lattice_slack(units, delta, [(2**24, 1000, 2.0 * SHARE_VARIANCE)], rule) <= delta * LATTICE_SHARE


def test_beyond_that_it_does_not() -> None:
    units = Budget(90.0, 1e-5).units
    assert lattice_slack(units, 1e-5, [(2**24, 1000, 2.0 * SHARE_VARIANCE)]) > 1e-5 * LATTICE_SHARE


def test_small_noise_has_the_first_bound_alone() -> None:
    units = Budget(2.0, 1e-5).units
    found = lattice_slack(units, 1e-5, [(10, 6, 100.0)])

    assert found == pytest.approx(60 * TV_CONSTANT / 100 * (1 + math.exp(2)), rel=1e-6)
    assert lattice_slack(units, 1e-5, []) == 0.0
    for variance in (99.0, math.nan):
        with pytest.raises(MisuseError):
            lattice_slack(units, 1e-5, [(1, 1, variance)])


def test_doctests() -> None:
    assert doctest.testmod(slack).failed == 0
