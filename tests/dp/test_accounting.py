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

from dp import accountant, attacker, gdp, numerical
from dp.accountant import coalition, replace_one, several_hospitals, statement, total_mu, what_if
from dp.budget import GDP_FILTER, Budget, BudgetKind, Filter, gaussian_delta
from dp.calibration import split_budget, uploads_for
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, MisuseError
from dp.events import Account, GaussianEvent, NarrowEvent, event
from tests.sweeps import examples, thinned


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


@settings(max_examples=examples(40), deadline=None)
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


@pytest.mark.parametrize("history", thinned(HISTORIES, 6))
def test_the_accountants_agree(history: list[tuple[GaussianEvent, int]]) -> None:
    delta = 1e-5
    found = statement(history, delta)

    assert (found.kind, found.order, found.remarks) == (BudgetKind.GDP, 0, ())
    assert found.pld is not None
    assert found.prv is not None
    assert found.mu is not None
    assert found.pld == pytest.approx(found.epsilon, rel=1e-3, abs=1e-4)
    assert found.prv == pytest.approx(found.pld, rel=0.01, abs=2e-3)
    assert found.pld - 1e-4 <= found.rdp <= 1.12 * found.pld + 0.01
    assert found.replace_one == pytest.approx(gdp.epsilon(2 * found.mu, gaussian_delta(delta)), rel=1e-9)
    assert found.at_delta_1e6 == pytest.approx(gdp.epsilon(found.mu, gaussian_delta(1e-6)), rel=1e-9)
    assert found.several_hospitals == found.epsilon
    assert found.uploads == sum(count for _, count in history)


@pytest.mark.parametrize(
    ("z", "uploads"), thinned((pytest.param(*each) for each in [(17.3, 66), (5.0, 30), (1.0, 1)]), 2)
)
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
    ("epsilon", "pld", "prv", "rdp"),
    [
        (2.0, 2.03, 2.03, 2.2),
        (2.0, 1.97, 1.97, 2.2),
        (2.0, 2.0, 2.0, 1.99),
        (2.0, 2.0, 2.0, 2.3),
        (2.0, 2.0, 2.03, 2.2),
        (2.0, 2.0, 1.97, 2.2),
        (2.0, 2.0, math.nan, 2.2),
        (2.0, 2.0, 2.0, math.nan),
        (2.0, math.nan, None, 2.2),
    ],
)
def test_accountants_that_disagree_stop_everything(epsilon: float, pld: float, prv: float | None, rdp: float) -> None:
    with pytest.raises(AccountantsDisagree):
        accountant.check_agreement(epsilon, pld, prv, rdp)


def test_what_the_windows_leave_open() -> None:
    accountant.check_agreement(2.0, 2.0, None, 2.2)
    accountant.check_agreement(2.5, 2.0, 2.01, 2.2, exact=False)  # an RDP budget is a bound
    accountant.check_agreement(9.0, 2.0, 2.01, 7.2, exact=False, tight=False)
    with pytest.raises(AccountantsDisagree):
        accountant.check_agreement(1.9, 2.0, 2.01, 2.2, exact=False)
    with pytest.raises(AccountantsDisagree):
        accountant.check_agreement(9.0, 2.0, 2.01, 1.9, exact=False, tight=False)


@pytest.mark.parametrize(
    ("name", "factor"),
    thinned((pytest.param(*each) for each in [("pld", 1.02), ("pld", 0.98), ("prv", 1.02), ("prv", 0.98)]), 3),
)
def test_a_broken_library_stops_a_statement(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    right = getattr(numerical, name)
    monkeypatch.setattr(numerical, name, lambda *args, **kwargs: factor * right(*args, **kwargs))
    with pytest.raises(AccountantsDisagree):
        statement([(gradient(17.3), 66)], 1e-5)


@pytest.mark.parametrize("factor", thinned([0.9, 1.2], 2))
def test_a_broken_rdp_stops_a_statement(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    right = numerical.rdp
    monkeypatch.setattr(numerical, "rdp", lambda *args: (factor * right(*args)[0], right(*args)[1]))
    with pytest.raises(AccountantsDisagree):
        statement([(gradient(17.3), 66)], 1e-5)


def test_an_accountant_that_fails_inside_its_domain_stops_a_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> float:
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr(numerical, "prv", fails)
    with pytest.raises(AccountantsDisagree, match="PRV"):
        statement([(gradient(17.3), 66)], 1e-5)


def test_total_mu_is_additive_and_never_below() -> None:
    z = 17.3
    assert total_mu([(gradient(z), 66)]) >= math.sqrt(66) / z
    assert total_mu([(gradient(z), 66)]) == pytest.approx(math.sqrt(66) / z, rel=1e-12)
    with pytest.raises(MisuseError):
        total_mu([(gradient(z), -1)])


@pytest.mark.slow
def test_ten_studies_of_epsilon_one_are_three_and_a_half() -> None:
    """Composition of studies of ε = 1: 10 → 3.56, 20 → 5.31 by PLD; the filter at full batch 3.6."""
    z = 1 / gdp.mu(1.0, 1e-5)

    assert statement([(gradient(z), 10)], 1e-5).epsilon <= 3.63
    assert statement([(gradient(z), 2)], 1e-5).epsilon == pytest.approx(1.46, abs=0.02)


def test_the_headline_is_the_filters_whatever_the_slack() -> None:
    history = [(gradient(17.3), 66)]
    found = statement(history, 1e-5, slack=9e-9)

    assert found.epsilon == GDP_FILTER.epsilon(66 * GDP_FILTER.units(gradient(17.3)), 1e-5)
    assert found.delta == 1e-5
    for slack in (1e-8, -1e-12, math.nan):
        with pytest.raises(MisuseError, match="lattice"):
            statement(history, 1e-5, slack=slack)


def test_a_history_that_protects_nobody_has_no_statement() -> None:
    with pytest.raises(MisuseError, match="nobody"):
        statement([(gradient(1e-300), 1)], 1e-5)


def test_what_if_is_a_closed_form() -> None:
    """Well under a second: no distribution is touched."""
    history, more = [(gradient(17.3), 66)], [(gradient(20.0), 66)]
    found = what_if(history, more, 1e-5)

    assert found.before == statement(history, 1e-5).epsilon
    assert found.after == pytest.approx(statement(history + more, 1e-5).epsilon, rel=1e-12)
    assert found.cost == 66 * GDP_FILTER.units(gradient(20.0))
    with pytest.raises(BudgetOfAnotherKind):
        what_if(history, [(event("gradient", 3.0, sampling_probability=0.1), 1)], 1e-5)


# --- coalitions ------------------------------------------------------------------------------------


def test_coalition_table() -> None:
    """Everyone else is μ·√(n − c); ε = 2 → 2.95 / 3.72 / 5.0 / 6.6 at h = 2/3/5/8."""
    mu = gdp.mu(2.0, gaussian_delta(1e-5))
    for honest, epsilon in ((2, 2.95), (3, 3.72), (5, 5.0), (8, 6.6)):
        rows = coalition([(gradient(1 / mu), 1)], 1e-5, roster_size=honest + 1, honest=honest)
        assert rows[-1].epsilon == pytest.approx(epsilon, abs=0.06)
        assert rows[-1].shares == 1
        assert rows[1].epsilon == pytest.approx(2.0, rel=1e-9)
        assert rows[0].mu == pytest.approx(mu * math.sqrt(honest / (honest + 1)))
        assert [row.colluding for row in rows] == list(range(honest + 1))


def test_collusion_numbers_at_full_batch() -> None:
    """Nominal ε = 3 at 8 honest shares, and 1 … 4 of them known to the adversary."""
    z = 1 / gdp.mu(3.0, 1e-5)
    rows = coalition([(gradient(z), 1)], 1e-5, roster_size=8, honest=8)

    assert [row.epsilon for row in rows[:5]] == pytest.approx([3.0, 3.23, 3.53, 3.92, 4.46], abs=0.01)


def test_coalitions_of_a_threshold() -> None:
    """Mode B, n = 7, t = 5, c = 2: three shares count, outsiders face five, six colluders leave the victim's."""
    rows = coalition([(gradient(17.3), 66)], 1e-5, roster_size=7, honest=3, collusion=2)

    assert [row.shares for row in rows] == [5, 4, 3, 2, 1, 1, 1]
    assert rows[2].epsilon == statement([(gradient(17.3), 66)], 1e-5).epsilon
    assert rows[0].mu == pytest.approx(math.sqrt(66) / 17.3 * math.sqrt(3 / 5))


def test_coalitions_rescale_every_kind_of_event() -> None:
    rule = Filter(BudgetKind.RDP, 16)
    sampled, narrow = (
        event("gradient", 3.0, sampling_probability=0.1),
        NarrowEvent("gradient", 17.3, 5 * 784, 100, Account.TRAINING),
    )
    rows = coalition([(sampled, 60), (narrow, 6)], 1e-5, rule, roster_size=6, honest=5)
    weaker = [(event("gradient", 3.0 * math.sqrt(2 / 5), sampling_probability=0.1), 60)]
    weaker_narrow = NarrowEvent("gradient", 17.3 * math.sqrt(2 / 5), 2 * 784, 100, Account.TRAINING)

    assert [row.mu for row in rows] == [None] * 6
    assert rows[4].epsilon == rule.epsilon(accountant.total_units([*weaker, (weaker_narrow, 6)], rule), 1e-5)
    assert [row.epsilon for row in rows] == sorted(row.epsilon for row in rows if row.epsilon is not None)


def test_nothing_is_said_about_narrow_lanes_with_too_little_noise() -> None:
    rule = Filter(BudgetKind.RDP, 64)
    narrow = NarrowEvent("gradient", 17.3, 5 * 64, 100, Account.TRAINING)
    rows = coalition([(narrow, 6)], 1e-5, rule, roster_size=6, honest=6)

    # Variance 320 falls to 53 with one share of six; the theorem starts at 64.
    assert [row.epsilon is None for row in rows] == [False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("roster", "honest", "collusion"), [(3, 1, None), (5, 6, None), (5, 4, 2), (5, 3, -1), (2, 0, None)]
)
def test_coalitions_need_two_honest_sites(roster: int, honest: int, collusion: int | None) -> None:
    with pytest.raises(MisuseError):
        coalition([(gradient(2.0), 1)], 1e-5, roster_size=roster, honest=honest, collusion=collusion)


def test_a_patient_of_two_hospitals() -> None:
    history = [(gradient(2.0), 1)]

    assert several_hospitals(history, 1e-5, 2) == pytest.approx(gdp.epsilon(1.0, gaussian_delta(1e-5)), rel=1e-9)
    assert several_hospitals(history, 1e-5, 2) == replace_one(history, 1e-5)
    assert several_hospitals(history, 1e-5, 1) == statement(history, 1e-5).epsilon
    with pytest.raises(MisuseError):
        several_hospitals(history, 1e-5, 0)


# --- budgets and calibration -----------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None)
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
