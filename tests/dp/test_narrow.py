"""Narrow lanes: the bound of docs/explanation/narrow-lanes.md against divergences summed over all integers."""

import doctest
import math
from itertools import product

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp import narrow
from dp.errors import MisuseError
from tests.sweeps import examples, thinned

Reals = NDArray[np.float64]


def log_pmf(x: float, variance: float, y: Reals) -> Reals:
    """log P(SR(x) + N_Z(0, σ²) = y) for integers y."""
    j = math.floor(x)
    f = x - j
    up = np.log(f) + (2 * (y - j) - 1) / (2 * variance) if f else np.full_like(y, -np.inf)
    reach = np.arange(-math.ceil(40 * math.sqrt(variance)), math.ceil(40 * math.sqrt(variance)) + 1)
    norm = math.log(np.exp(-(reach**2) / (2 * variance)).sum())
    return np.asarray(-((y - j) ** 2) / (2 * variance) + np.logaddexp(np.log1p(-f), up) - norm)


def divergence(order: float, variance: float, x: float, other: float) -> float:
    """R_α by summation; the integrand is a Gaussian around x + (α−1)(x−x')."""
    centre = x + (order - 1) * (x - other)
    spread = 14 * math.sqrt(variance)
    y = np.arange(math.floor(min(centre, x, other) - spread), math.ceil(max(centre, x, other) + spread)).astype(float)
    parts = order * log_pmf(x, variance, y) + (1 - order) * log_pmf(other, variance, y)
    top = parts.max()
    return float((top + math.log(np.exp(parts - top).sum())) / (order - 1))


SHIFTS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0, 1.01, 1.5, 2.0, 2.5, 5.0, 10.5, 40.0)


@pytest.mark.parametrize("variance", thinned([64, 100, 256, 784, 4096], 5))
def test_no_divergence_exceeds_the_bound_and_some_come_near(variance: int) -> None:
    nearest = 0.0
    for order in (1.5, 2.0, 4.0, 8.0, 32.0, variance / 4, variance / 2, float(variance)):
        if order > variance:
            continue
        bound = narrow.inflation(order, variance)
        offsets = product((0.0, 0.2, 0.5, 0.77, 0.999), SHIFTS, (1, -1))
        ratios = [
            divergence(order, variance, 50 + offset, 50 + offset - sign * shift) / (order * shift**2 / (2 * variance))
            for offset, shift, sign in offsets
        ]
        assert max(ratios) <= bound, (order, variance)
        nearest = max(nearest, max(ratios) / bound)
    assert nearest > 0.9  # a bound that nothing comes near might be a bound of something else


@settings(max_examples=examples(200))
@given(
    variance=st.floats(64, 2000),
    order=st.floats(1.05, 60),
    offset=st.floats(0, 1, exclude_max=True),
    shift=st.floats(0.005, 30),
    sign=st.sampled_from([1, -1]),
)
def test_no_random_divergence_exceeds_the_bound(
    variance: float, order: float, offset: float, shift: float, sign: int
) -> None:
    value = divergence(order, variance, 40 + offset, 40 + offset - sign * shift)

    assert value <= narrow.rdp(order, math.sqrt(variance) / shift, variance, 1) * (1 + 1e-9) + 1e-12


@settings(max_examples=examples(200))
@given(
    s=st.floats(1e-4, 1 / 64),
    x=st.floats(0, 5),
    shift=st.floats(1e-3, 8),
    spread=st.floats(-6, 6),
)
def test_the_four_facts_about_the_posterior_mean(s: float, x: float, shift: float, spread: float) -> None:
    other = x - shift
    y = x + spread / math.sqrt(s)

    def posterior(point: float) -> float:
        j = math.floor(point)
        f = point - j
        return f / (f + (1 - f) * math.exp(-s * (y - j - 0.5))) if f else 0.0

    up, down = posterior(x), posterior(other)
    t = math.floor(x) + up - math.floor(other) - down
    first = up * (1 - up) - down * (1 - down)
    second = up * (1 - up) * (1 - 2 * up) - down * (1 - down) * (1 - 2 * down)
    rounding = 1e-12

    assert t > 0
    assert abs(first) <= t + rounding
    assert abs(first) <= 0.25 + rounding
    assert abs(second) <= t + rounding


@pytest.mark.slow
@pytest.mark.parametrize(
    ("std", "shift", "releases"),
    thinned(pytest.param(*each) for each in [(16, 0.97, 20), (16, 0.5, 60), (28, 0.8, 60), (8, 0.5, 30)]),
)
def test_composed_privacy_losses_stay_below_the_rdp_statement(std: int, shift: float, releases: int) -> None:
    variance, delta = float(std**2), 1e-5
    y = np.arange(-12 * std, 12 * std + 2).astype(float)
    worst = 0.0
    for offset in (0.0, 0.5):
        lower, upper = log_pmf(offset, variance, y), log_pmf(offset + shift, variance, y)
        loss = pld.from_two_probability_mass_functions(
            dict(zip(y.tolist(), lower.tolist(), strict=True)),
            dict(zip(y.tolist(), upper.tolist(), strict=True)),
            value_discretization_interval=1e-5,
            pessimistic_estimate=False,
        )
        worst = max(worst, loss.self_compose(releases).get_epsilon_for_delta(delta))
    orders = [order for order in (2, 4, 8, 16, 24, 32, 48, 64) if order <= variance]
    stated = min(
        releases * narrow.rdp(order, std / shift, variance, 1)
        + math.log1p(-1 / order)
        - math.log(delta * order) / (order - 1)
        for order in orders
    )

    assert 0 < worst <= stated


def test_the_inflation_vanishes_with_the_noise_and_grows_with_the_order() -> None:
    assert narrow.inflation(2, 1e8) == pytest.approx(1, abs=1e-7)
    values = [narrow.inflation(order, 256) for order in (1.5, 2, 8, 64, 256)]
    assert values == sorted(values)
    assert all(value > 1 for value in values)


@pytest.mark.parametrize(
    ("order", "variance"), [(2, 63.9), (1.009, 256), (0.5, 256), (257, 256), (math.nan, 256), (2, math.nan)]
)
def test_outside_the_theorem_nothing_is_said(order: float, variance: float) -> None:
    with pytest.raises(MisuseError):
        narrow.inflation(order, variance)


@pytest.mark.parametrize(("multiplier", "length"), [(0, 5), (-1, 5), (3, 0)])
def test_a_release_that_is_none(multiplier: float, length: int) -> None:
    with pytest.raises(MisuseError):
        narrow.rdp(2, multiplier, 256, length)


def test_doctests() -> None:
    assert doctest.testmod(narrow).failed == 0
