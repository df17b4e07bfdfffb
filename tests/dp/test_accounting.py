"""ε by closed form, by PLD, by RDP and by Opacus' PRV; and what a budget really admits."""

import math
from typing import Any

import dp_accounting
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import GaussianAccountant, PRVAccountant
from scipy.stats import norm

from dp import accountant, attacker, gdp
from dp.accountant import coalition, lattice_slack, several_hospitals, statement, total_mu
from dp.budget import Budget
from dp.calibration import split_budget, uploads_for
from dp.errors import AccountantsDisagree, ConfigError, MisuseError
from dp.events import Account, GaussianEvent
from dp.noise_shares import SHARE_VARIANCE


def gradient(z: float) -> GaussianEvent:
    return GaussianEvent("gradient", z, Account.TRAINING)


# --- closed form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [1e-4, 0.01, 0.14, 0.5, 1.0, 2.0, 7.0, 30.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-6, 1e-10])
def test_epsilon_is_that_of_dp_accounting_and_of_exact_arithmetic(mu: float, delta: float) -> None:
    epsilon = gdp.epsilon(mu, delta)

    assert epsilon == pytest.approx(dp_accounting.get_epsilon_gaussian(1 / mu, delta), rel=1e-8, abs=1e-11)
    with mpmath.workdps(80):
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
        exact = mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)
        assert exact <= delta  # never optimistic
        if epsilon > 0:
            assert exact == pytest.approx(delta, rel=1e-8)


@settings(max_examples=100, deadline=None)
@given(epsilon=st.floats(1e-3, 100), delta=st.floats(1e-12, 0.1))
def test_mu_and_epsilon_are_inverse_and_round_to_the_safe_side(epsilon: float, delta: float) -> None:
    mu = gdp.mu(epsilon, delta)

    assert gdp.epsilon(mu, delta) <= epsilon * (1 + 1e-11)
    assert gdp.epsilon(mu * (1 + 1e-6), delta) > epsilon


def test_the_published_table() -> None:
    """μ → ε at δ = 1e-5."""
    for mu, epsilon in (
        (0.1, 0.34),
        (0.2, 0.73),
        (0.25, 0.93),
        (0.5, 1.99),
        (0.7, 2.91),
        (1, 4.38),
        (1.5, 7.05),
    ):
        assert gdp.epsilon(mu, 1e-5) == pytest.approx(epsilon, abs=0.006)


@pytest.mark.parametrize(("mu", "delta"), [(-1.0, 1e-5), (math.nan, 1e-5), (math.inf, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_values_outside_their_range(mu: float, delta: float) -> None:
    with pytest.raises(MisuseError):
        gdp.epsilon(mu, delta)
    with pytest.raises(MisuseError):
        gdp.mu(mu, delta)


def test_nothing_released_costs_nothing() -> None:
    assert gdp.epsilon(0.0, 1e-5) == 0.0
    assert statement([], 1e-5).epsilon == 0.0
    assert statement([(gradient(2.0), 0)], 1e-5).uploads == 0


# --- accountants -----------------------------------------------------------------------------------

HISTORIES = [
    [(gradient(17.3), 66)],
    [(gradient(17.1), 66), (GaussianEvent("breslow", 8.9, Account.TRAINING), 2)],
    [(gradient(z), 3) for z in (2.0, 3.0, 5.0, 9.0)],
    [(gradient(1.0), 1)],
    [(gradient(0.2), 1)],
    [(gradient(300.0), 60)],
    [(gradient(2000.0), 1)],
]


@pytest.mark.parametrize("history", HISTORIES)
def test_the_accountants_agree(history: list[tuple[GaussianEvent, int]]) -> None:
    delta = 1e-5
    found = statement(history, delta)

    assert found.pld == pytest.approx(found.epsilon, rel=1e-3, abs=1e-4)
    assert found.pld - 1e-4 <= found.rdp <= 1.12 * found.pld + 0.01
    assert found.replace_one == gdp.epsilon(2 * found.mu, delta)
    assert found.uploads == sum(count for _, count in history)


@pytest.mark.parametrize(("z", "uploads"), [(17.3, 66), (5.0, 30), (1.0, 1)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # opacus takes log(1 − q) = log 0 and recovers
def test_opacus_prv_at_sampling_probability_one(z: float, uploads: int) -> None:
    """It works, and is above the closed form by its own eps_error: a usable third opinion."""
    prv = PRVAccountant()
    prv.history = [(z, 1.0, uploads)]
    epsilon = gdp.epsilon(math.sqrt(uploads) / z, 1e-5)

    assert 0 <= prv.get_epsilon(1e-5, eps_error=1e-3) - epsilon <= 2e-3


def test_opacus_gaussian_accountant_is_not_a_bound() -> None:
    """q = 0.05, σ = 1, 400 steps."""
    theirs = GaussianAccountant()
    theirs.history = [(1.0, 0.05, 400)]
    pld = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
    pld.compose(dp_accounting.PoissonSampledDpEvent(0.05, dp_accounting.GaussianDpEvent(1.0)), 400)

    assert theirs.get_epsilon(1e-5) < 0.95 * pld.get_epsilon(1e-5)


@pytest.mark.parametrize(
    ("epsilon", "pld", "rdp"), [(2.0, 2.03, 2.2), (2.0, 1.97, 2.2), (2.0, 2.0, 1.99), (2.0, 2.0, 2.3)]
)
def test_accountants_that_disagree_stop_everything(epsilon: float, pld: float, rdp: float) -> None:
    with pytest.raises(AccountantsDisagree):
        accountant.check_agreement(epsilon, pld, rdp)


@pytest.mark.parametrize(("name", "factor"), [("_pld", 1.02), ("_pld", 0.98), ("_rdp", 0.9), ("_rdp", 1.2)])
def test_a_broken_library_stops_a_statement(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    right = getattr(accountant, name)
    monkeypatch.setattr(accountant, name, lambda *args: factor * right(*args))
    with pytest.raises(AccountantsDisagree):
        statement([(gradient(17.3), 66)], 1e-5)


def test_total_mu_is_additive_and_never_below() -> None:
    z = 17.3
    assert total_mu([(gradient(z), 66)]) >= math.sqrt(66) / z
    assert total_mu([(gradient(z), 66)]) == pytest.approx(math.sqrt(66) / z, rel=1e-12)
    with pytest.raises(MisuseError):
        total_mu([(gradient(z), -1)])


def test_ten_studies_of_epsilon_one_are_three_and_a_half() -> None:
    """Composition of studies of ε = 1: 10 → 3.56, 20 → 5.31 by PLD; the filter at full batch 3.6."""
    z = 1 / gdp.mu(1.0, 1e-5)

    assert statement([(gradient(z), 10)], 1e-5).epsilon <= 3.63
    assert statement([(gradient(z), 2)], 1e-5).epsilon == pytest.approx(1.46, abs=0.02)


def test_slack_comes_out_of_delta() -> None:
    history = [(gradient(17.3), 66)]

    assert statement(history, 1e-5, slack=5e-6).epsilon == statement(history, 5e-6).epsilon
    assert statement(history, 1e-5, slack=5e-6).delta == 1e-5
    with pytest.raises(MisuseError):
        statement(history, 1e-5, slack=1e-5)


# --- coalitions ------------------------------------------------------------------------------------


def test_coalition_table() -> None:
    """Everyone else is μ·√(n − c); ε = 2 → 2.95 / 3.72 / 5.0 / 6.6 at h = 2/3/5/8."""
    mu = gdp.mu(2.0, 1e-5)
    for honest, epsilon in ((2, 2.95), (3, 3.72), (5, 5.0), (8, 6.6)):
        rows = coalition(mu, 1e-5, roster_size=honest + 1, collusion=1)
        assert rows[-1].epsilon == pytest.approx(epsilon, abs=0.06)
        assert rows[1].epsilon == pytest.approx(2.0, rel=1e-9)
        assert rows[0].mu == pytest.approx(mu * math.sqrt(honest / (honest + 1)))
        assert [row.colluding for row in rows] == list(range(honest + 1))


def test_coalitions_need_two_honest_sites() -> None:
    with pytest.raises(MisuseError):
        coalition(0.5, 1e-5, roster_size=3, collusion=2)


def test_a_patient_of_two_hospitals() -> None:
    assert several_hospitals(0.5, 1e-5, 2) == gdp.epsilon(1.0, 1e-5)
    with pytest.raises(MisuseError):
        several_hospitals(0.5, 1e-5, 0)


# --- the lattice's slack ---------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [10, 17, 40])
def test_the_total_variation_constant(sigma: int) -> None:
    x = np.arange(-14 * sigma, 14 * sigma + 1)
    discrete = np.exp(-x * x / (2 * sigma**2))
    discrete /= discrete.sum()
    rounded = norm.cdf((x + 0.5) / sigma) - norm.cdf((x - 0.5) / sigma)
    tv = np.abs(discrete - rounded).sum() / 2

    assert tv * sigma**2 <= accountant.TV_CONSTANT
    assert tv * sigma**2 == pytest.approx(norm.pdf(1) / 12, rel=2e-3)


def test_slack_in_practice_is_nothing() -> None:
    """7e-13 at d = 7,500 and 9e-11 at 1e6 (T = 60, h = 3), times 1 + e^ε."""
    for d, tv in ((7_500, 7e-13), (1_000_000, 9e-11)):
        found = lattice_slack(2.0, [(d, 60, 3.0 * SHARE_VARIANCE)])
        assert found == pytest.approx(tv * (1 + math.exp(2)), rel=0.1)
        assert found < 1e-5 / 1024  # what Budget keeps back
    with pytest.raises(MisuseError):
        lattice_slack(2.0, [(1, 1, 99.0)])


# --- budgets and calibration -----------------------------------------------------------------------


def test_budget_is_a_filter() -> None:
    budget = Budget(2.0, 1e-5)
    half = budget.units // 2

    assert budget.mu_max == pytest.approx(gdp.mu(2.0, 1e-5), rel=1e-3)
    assert budget.mu_max < gdp.mu(2.0, 1e-5)
    assert budget.admits(half, budget.units - half)
    assert not budget.admits(half, budget.units - half + 1)
    assert gdp.epsilon(math.sqrt(budget.units / 2**64), 1e-5 * (1 - 2**-10)) <= 2.0


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (math.nan, 1e-5), (2, 0), (2, 1), (2, math.nan)])
def test_budgets_outside_their_range(epsilon: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        Budget(epsilon, delta)


@settings(max_examples=100, deadline=None)
@given(
    epsilon=st.floats(0.05, 20),
    delta=st.sampled_from([1e-5, 1e-6, 1e-9]),
    parts=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    uploads=st.tuples(st.integers(1, 500), st.integers(1, 50)),
)
def test_a_split_budget_is_spent_and_never_overdrawn(
    epsilon: float, delta: float, parts: tuple[float, float], uploads: int
) -> None:
    shares = [part / sum(parts) for part in parts]
    z = split_budget(epsilon, delta, {"gradient": (shares[0], uploads[0]), "breslow": (shares[1], uploads[1])})
    cost = uploads[0] * gradient(z["gradient"]).units
    other = uploads[1] * GaussianEvent("breslow", z["breslow"], Account.TRAINING).units
    budget = Budget(epsilon, delta)

    assert budget.admits(cost, other)
    assert (cost + other) / budget.units > 1 - 1e-8
    assert cost / budget.units == pytest.approx(shares[0], rel=1e-6)
    assert z["gradient"] == pytest.approx(math.sqrt(uploads[0] / shares[0]) / budget.mu_max, rel=1e-8)


@pytest.mark.parametrize(
    "shares",
    [
        {"gradient": (0.7, 66), "breslow": (0.4, 2)},
        {"gradient": (0.0, 66)},
        {"gradient": (1.0, 0)},
        {"gradient": (math.nan, 66)},
        {"cox": (1.0, 66)},
        {"gradient": (0.5, 66), "concordance": (0.5, 1)},
    ],
)
def test_splits_that_make_no_sense(shares: Any) -> None:
    with pytest.raises(ConfigError):
        split_budget(2.0, 1e-5, shares)


def test_shares_that_sum_to_one_but_for_rounding() -> None:
    split_budget(2.0, 1e-5, {"gradient": (0.1 + 0.2, 5), "breslow": (0.7000000000000001, 1)})


def test_aborted_round_epsilon() -> None:
    """Noise for T = 60 steps and 1/3/6/12 aborted uploads is not ε = 2; for U uploads it is."""
    z = math.sqrt(60) / gdp.mu(2.0, 1e-5)
    for aborted, epsilon in ((0, 2.0), (1, 2.019), (3, 2.055), (6, 2.109), (12, 2.215)):
        mu = total_mu([(gradient(z), 60 + aborted)])
        assert gdp.epsilon(mu, 1e-5) == pytest.approx(epsilon, abs=1e-3)

    uploads = uploads_for(60)
    assert uploads == 66
    z = split_budget(2.0, 1e-5, {"gradient": (1.0, uploads)})["gradient"]
    assert statement([(gradient(z), uploads)], 1e-5).epsilon <= 2.0
    assert not Budget(2.0, 1e-5).admits(0, (uploads + 1) * gradient(z).units)


# --- plain language --------------------------------------------------------------------------------

# ε, μ, 50 % → ≤, 10 % → ≤, 1 % → ≤, accuracy, caught per 100 at 1 % false alarms
PLAIN = [
    (0.5, 0.14, 62, 16, 1.6, 53, 1.5),
    (1, 0.27, 73, 23, 2.7, 55, 2.0),
    (2, 0.50, 88, 45, 7, 60, 3.4),
    (3, 0.72, 95, 69, 17, 64, 5.4),
    (4, 0.93, 98, 86, 36, 68, 8.1),
    (6, 1.31, 99.8, 98, 80, 74, 15),
    (8, 1.67, 100, 99.7, 97, 80, 25),
    (10, 2.0, 100, 100, 99.6, 84, 37),
]


@pytest.mark.parametrize("row", PLAIN, ids=[f"epsilon={row[0]}" for row in PLAIN])
def test_the_plain_language_table(row: tuple[float, ...]) -> None:
    epsilon, mu, half, tenth, hundredth, accuracy, caught = row
    found = gdp.mu(epsilon, 1e-5)
    told = attacker.meaning(found, epsilon)

    assert found == pytest.approx(mu, abs=0.0051)
    assert [100 * after for _, after in told.suspicion] == pytest.approx([half, tenth, hundredth], abs=0.55)
    assert 100 * told.accuracy == pytest.approx(accuracy, abs=0.55)
    assert 100 * told.caught == pytest.approx(caught, abs=0.55 if caught >= 10 else 0.055)


def test_the_attacker_numbers_are_those_of_the_optimal_test() -> None:
    """Likelihood-ratio attacker on N(0, 1) against N(μ, 1), by simulation."""
    rng = np.random.default_rng(0)
    mu, n = 0.8, 400_000
    out, member = rng.standard_normal(n), rng.standard_normal(n) + mu
    threshold = np.quantile(out, 0.99)

    assert attacker.true_positive_rate(mu, 0.01) == pytest.approx((member > threshold).mean(), abs=0.002)
    right = ((member > mu / 2).mean() + (out <= mu / 2).mean()) / 2
    assert attacker.accuracy(mu) == pytest.approx(right, abs=0.002)
    hits, alarms = 0.1 * (member > threshold).mean(), 0.9 * (out > threshold).mean()
    assert attacker.precision(mu, 0.1, 0.01) == pytest.approx(hits / (hits + alarms), abs=0.01)


def test_no_release_teaches_nothing() -> None:
    assert attacker.accuracy(0.0) == 0.5
    assert attacker.true_positive_rate(0.0, 0.01) == pytest.approx(0.01)
    assert attacker.precision(0.0, 0.1, 0.01) == pytest.approx(0.1)
    assert attacker.posterior(0.0, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_probabilities_are_checked(value: Any) -> None:
    for call in (
        lambda: attacker.posterior(1.0, value),
        lambda: attacker.true_positive_rate(1.0, value),
        lambda: attacker.precision(1.0, value, 0.01),
    ):
        with pytest.raises(MisuseError):
            call()
