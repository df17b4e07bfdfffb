"""The Poisson-sampled Gaussian at integer orders against exact arithmetic, quadrature and two libraries."""

import doctest
import math

import mpmath
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant, compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp
from scipy import integrate

from dp import gdp, rdp
from dp.errors import MisuseError
from tests.sweeps import examples

orders = st.integers(2, 256)


def exact(order: int, z: float, q: float) -> mpmath.mpf:
    """The sum as it stands in the paper, in 80 digits and more where the smallest term needs them."""
    with mpmath.workdps(200):
        z_, q_ = mpmath.mpf(z), mpmath.mpf(q)
        total = sum(
            mpmath.binomial(order, j) * (1 - q_) ** (order - j) * q_**j * mpmath.exp((j * j - j) / (2 * z_**2))
            for j in range(order + 1)
        )
        return mpmath.log(total) / (order - 1)


@settings(max_examples=examples(15), deadline=None)
@given(order=orders, z=st.floats(0.05, 1e6), q=st.floats(1e-9, 0.999999))
def test_never_below_the_exact_value_and_close_above(order: int, z: float, q: float) -> None:
    truth = exact(order, z, q)
    found = rdp.poisson_gaussian(order, z, q)

    assert found >= truth
    assert found <= truth * (1 + mpmath.mpf(1e-8))


@pytest.mark.parametrize("order", [2, 3, 8, 32, 64, 256])
@pytest.mark.parametrize(("z", "q"), [(1.0, 0.05), (5.0, 0.1), (0.7, 0.3), (40.0, 0.9), (200.0, 0.001)])
def test_two_libraries_say_the_same(order: int, z: float, q: float) -> None:
    found = rdp.poisson_gaussian(order, z, q)
    theirs = RdpAccountant([order])
    theirs.compose(PoissonSampledDpEvent(q, GaussianDpEvent(z)))

    # Their sums start at one and lose the digits of a small divergence: an absolute 1e-13.
    assert found == pytest.approx(float(theirs._rdp[0]), rel=1e-8, abs=1e-13)
    opacus = compute_rdp(q=q, noise_multiplier=z, steps=1, orders=[order])
    assert found == pytest.approx(float(opacus[0]), rel=1e-8, abs=1e-13)


@pytest.mark.parametrize(("z", "q"), [(1.0, 0.05), (2.0, 0.3), (0.8, 0.7), (4.0, 0.01)])
@pytest.mark.parametrize("order", [2, 5, 12])
def test_the_formula_is_the_divergence_and_the_other_direction_is_smaller(z: float, q: float, order: int) -> None:
    """Both neighbours: with the patient against without, and the reverse; by quadrature."""

    def log_mixture(y: float) -> float:
        return float(np.logaddexp(math.log1p(-q), math.log(q) + y / z**2 - 0.5 / z**2))

    def moment(power: float) -> float:
        def value(y: float) -> float:
            return math.exp(power * log_mixture(y) - y * y / (2 * z**2)) / (z * math.sqrt(2 * math.pi))

        return float(integrate.quad(value, -14 * z - 2 * order, 14 * z + 2 * order, limit=400, points=[0, order])[0])

    found = rdp.poisson_gaussian(order, z, q)

    assert math.log(moment(order)) / (order - 1) == pytest.approx(found, rel=1e-6)
    assert math.log(moment(1 - order)) / (order - 1) <= found * (1 + 1e-6)


@pytest.mark.parametrize("order", [2, 5, 16])
@pytest.mark.parametrize(("sigma", "shift"), [(3.0, 1), (3.0, 2), (10.0, 7)])
@pytest.mark.parametrize("q", [0.05, 0.5])
def test_the_lattice_has_the_divergence_of_the_line(order: int, sigma: float, shift: int, q: float) -> None:
    """Discrete Gaussian noise and a whole shift: equal to the formula at z = σ/shift, sampled; the reverse is less."""
    reach = math.ceil(14 * sigma + order * shift)
    y = np.arange(-reach, reach + 1).astype(float)
    without = np.exp(-(y**2) / (2 * sigma**2))
    without /= without.sum()
    log_ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * y * shift - shift**2) / (2 * sigma**2))
    found = rdp.poisson_gaussian(order, sigma / shift, q)

    assert math.log((without * np.exp(order * log_ratio)).sum()) / (order - 1) == pytest.approx(found, rel=1e-9)
    assert math.log((without * np.exp((1 - order) * log_ratio)).sum()) / (order - 1) <= found


@settings(max_examples=examples(40), deadline=None)
@given(order=orders, z=st.floats(0.1, 100), q=st.floats(1e-4, 0.99), factor=st.floats(1.01, 10))
def test_more_noise_and_smaller_samples_cost_less(order: int, z: float, q: float, factor: float) -> None:
    found = rdp.poisson_gaussian(order, z, q)

    assert rdp.poisson_gaussian(order, z * factor, q) < found
    assert rdp.poisson_gaussian(order, z, q / factor) < found
    assert found <= order / (2 * z * z) * (1 + 1e-9)  # never more than without sampling


@settings(max_examples=examples(60), deadline=None)
@given(order=orders, divergence=st.floats(1e-3, 1e3), delta=st.floats(1e-12, 0.1))
def test_conversion_is_that_of_dp_accounting_rounded_up(order: int, divergence: float, delta: float) -> None:
    found = rdp.epsilon(order, divergence, delta)
    theirs = float(compute_epsilon([order], [divergence], delta)[0])

    assert found == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    with mpmath.workdps(50):
        a, r, d = mpmath.mpf(order), mpmath.mpf(divergence), mpmath.mpf(delta)
        assert found >= r + mpmath.log1p(-1 / a) - mpmath.log(d * a) / (a - 1)


@settings(max_examples=examples(60), deadline=None)
@given(order=orders, epsilon=st.floats(0, 1e3), delta=st.floats(1e-12, 0.1))
def test_the_inverse_rounds_to_the_safe_side(order: int, epsilon: float, delta: float) -> None:
    largest = rdp.largest(order, epsilon, delta)

    if largest:
        assert rdp.epsilon(order, largest, delta) <= epsilon
        assert rdp.epsilon(order, largest * (1 + 1e-9) + 1e-9, delta) > epsilon
    else:
        assert rdp.epsilon(order, 1e-300, delta) >= epsilon * (1 - 1e-9) - 1e-9


def test_a_conversion_of_a_known_mechanism_is_a_bound() -> None:
    """The Gaussian's own δ at the ε of every order is at most the δ that was asked for."""
    for order in (2, 4, 8, 16, 32, 64):
        for mu in (0.1, 0.5, 1.0):
            assert rdp.epsilon(order, order * mu**2 / 2, 1e-5) >= gdp.epsilon(mu, 1e-5)


def test_a_filter_at_one_order_holds_against_an_adaptive_adversary() -> None:
    """Second release chosen by the first result, both within the budget on every path: R_α of the pair is within it."""
    order, cost, first_z = 8, 1.0, 4.0
    first = order / (2 * first_z**2)
    low, high = 0.3 * (cost - first), cost - first  # what the second release may cost, chosen after the first result

    def moment(y: float) -> float:
        density = math.exp(-(y**2) / (2 * first_z**2)) / (first_z * math.sqrt(2 * math.pi))
        ratio = math.exp(order * (y - 0.5) / first_z**2)
        second = high if y > 0.5 else low
        return density * ratio * math.exp((order - 1) * second)

    total = integrate.quad(moment, -80, 80, points=[0.5], limit=300)[0]
    found = math.log(total) / (order - 1)

    assert first + low < found <= cost * (1 + 1e-9)


def test_the_edges() -> None:
    assert rdp.epsilon(8, 0.0, 1e-5) == 0.0
    assert rdp.epsilon(8, math.inf, 1e-5) == math.inf
    assert rdp.largest(8, 0.1, 1e-5) == 0.0
    assert math.isfinite(rdp.poisson_gaussian(256, 2.0**-99, 1 - 2.0**-53))
    assert rdp.poisson_gaussian(2, 2.0**99, 2.0**-99) > 0


@pytest.mark.parametrize(
    ("order", "z", "q"), [(1, 1, 0.1), (257, 1, 0.1), (2.0, 1, 0.1), (2, 0, 0.1), (2, 1, 1.0), (2, 1, 0)]
)
def test_nothing_is_said_outside_the_ranges(order: int, z: float, q: float) -> None:
    with pytest.raises(MisuseError):
        rdp.poisson_gaussian(order, z, q)


@pytest.mark.parametrize(
    ("order", "value", "delta"), [(8, -1.0, 1e-5), (8, math.nan, 1e-5), (8, 1.0, 0.0), (8, 1.0, 1.0), (1, 1.0, 1e-5)]
)
def test_no_conversion_outside_the_ranges(order: int, value: float, delta: float) -> None:
    with pytest.raises(MisuseError):
        rdp.epsilon(order, value, delta)
    with pytest.raises(MisuseError):
        rdp.largest(order, value, delta)


def test_doctests() -> None:
    assert doctest.testmod(rdp).failed == 0
