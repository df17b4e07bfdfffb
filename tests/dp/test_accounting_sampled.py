"""Sampled and mixed histories: published figures, the lemma of the mixtures, and where the libraries may be asked."""

import logging
import math
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from opacus.accountants import GaussianAccountant, PRVAccountant

from dp import accountant, numerical
from dp.accountant import replace_one, several_hospitals, statement, total_units
from dp.budget import GDP_FILTER, BudgetKind, Filter, gaussian_delta
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, MisuseError
from dp.events import Account, Event, GaussianEvent, NarrowEvent, event

RDP16 = Filter(BudgetKind.RDP, 16)
NARROW = NarrowEvent("gradient", 17.3, 784, 7500, Account.TRAINING)

# q, σ, T → ε at δ = 1e-5 by Opacus' RDP, PRV and GDP accountants, dp_accounting's RDP, PLD, PLD of replace-one.
PUBLISHED = [
    (0.05, 1.0, 400, 7.42, 6.71, 6.01, 7.43, 6.70, 10.62),
    (0.1, 2.0, 400, 5.34, 4.91, 4.71, 5.34, 4.90, 9.92),
    (0.1, 5.0, 200, 1.20, 1.11, 1.07, 1.20, 1.10, 2.29),
    (0.3, 5.0, 100, 2.76, 2.54, 2.47, 2.76, 2.53, 5.39),
    (1.0, 20.0, 100, 2.17, 2.00, 1.99, 2.17, 1.99, 4.38),
]


def gradient(z: float, q: float = 1.0) -> Event:
    return event("gradient", z, sampling_probability=q)


# --- published figures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=[] if row[0] == 1 else [pytest.mark.slow]) for row in PUBLISHED]
)
def test_the_published_table_of_accountants(row: tuple[float, ...]) -> None:
    q, z, steps, _, prv, _, rdp, pld, replaced = row
    rule = GDP_FILTER if q == 1 else RDP16
    found = statement([(gradient(z, q), int(steps))], 1e-5, filter=rule)

    assert found.pld == pytest.approx(pld, abs=0.006)
    assert found.rdp == pytest.approx(rdp, abs=0.011)
    assert found.prv == pytest.approx(prv, abs=0.011)
    assert found.replace_one == pytest.approx(replaced, abs=0.011)
    assert found.pld is not None
    assert found.epsilon >= found.pld - 1e-6


@pytest.mark.parametrize("row", PUBLISHED)
def test_opacus_gaussian_accountant_is_below_the_truth(row: tuple[float, ...]) -> None:
    q, z, steps, _, _, theirs, _, pld, _ = row
    clt = GaussianAccountant()
    clt.history = [(z, q, int(steps))]
    epsilon = clt.get_epsilon(1e-5)

    assert epsilon == pytest.approx(theirs, abs=0.006)
    assert epsilon < pld or q == 1


@pytest.mark.slow
def test_ten_studies_of_epsilon_one_over_samples() -> None:
    """Studies of ε = 1: 2 → 1.46, 5 → 2.41, 10 → 3.56 (naive 10), 20 → 5.31, by PLD."""
    for studies, epsilon in ((1, 1.0), (2, 1.46), (5, 2.41), (10, 3.56), (20, 5.31)):
        found = numerical.pld([(gradient(5.43, 0.1), 200 * studies)], 1e-5, expected=1.08 * epsilon)
        assert found == pytest.approx(epsilon, abs=0.01)
        assert found <= 3.57 or studies > 10


@pytest.mark.slow
def test_a_patient_of_several_hospitals_that_sample() -> None:
    """Nominal ε = 3 at q = 0.1: 6.71 for two hospitals, 10.99 for three: more than twice and three times."""
    history = [(gradient(2.17814, 0.1), 200)]

    assert numerical.pld(history, 1e-5) == pytest.approx(3.0, abs=0.002)
    assert numerical.pld(history, 1e-5, expected=7, hospitals=2) == pytest.approx(6.71, abs=0.01)
    assert numerical.pld(history, 1e-5, expected=11, hospitals=3) == pytest.approx(10.99, abs=0.01)
    assert several_hospitals(history, 1e-5, 2, filter=RDP16) == pytest.approx(6.71, abs=0.01)


@pytest.mark.slow
def test_drop_out_and_collusion_numbers_over_samples() -> None:
    """Nominal ε = 3, 8 shares, q = 0.1: one share missing 3.28, 2 → 3.64, 3 → 4.13, 4 → 4.86."""
    for missing, epsilon in ((0, 3.0), (1, 3.28), (2, 3.64), (3, 4.13), (4, 4.86)):
        weaker = gradient(2.17814 * math.sqrt((8 - missing) / 8), 0.1)
        assert numerical.pld([(weaker, 200)], 1e-5, expected=epsilon) == pytest.approx(epsilon, abs=0.01)


@pytest.mark.slow
def test_a_patient_pays_for_the_sampling_of_his_own_hospital() -> None:
    """Noise for q = 0.1 and ε = 3: q = 0.05 → 1.39, 0.2 → 6.57, 0.4 → 14.9."""
    for q, epsilon in ((0.05, 1.39), (0.2, 6.57), (0.4, 14.9)):
        found = numerical.pld([(gradient(2.17814, q), 200)], 1e-5, expected=epsilon)
        assert found == pytest.approx(epsilon, abs=0.06)


@pytest.mark.slow
def test_shuffled_batches_are_not_poisson_samples() -> None:
    """q = 0.1, T = 200, σ = 5.43: ε = 1.00; twenty epochs without amplification are 3.50."""
    assert numerical.pld([(gradient(5.43, 0.1), 200)], 1e-5) == pytest.approx(1.0, abs=0.005)
    assert statement([(gradient(5.43), 20)], 1e-5).epsilon == pytest.approx(3.50, abs=0.01)


# --- one lemma for samples, replaced patients and several hospitals ---------------------------------


def hockey_stick(first: NDArray[np.float64], second: NDArray[np.float64], epsilon: float, cell: float) -> float:
    return float(np.maximum(first - math.exp(epsilon) * second, 0).sum() * cell)


def plane(step: float = 0.05, reach: float = 9.0) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    axis = np.arange(-reach, reach, step)
    x, y = np.meshgrid(axis, axis)
    return x, y, step * step


def gaussian_at(x: Any, y: Any, sigma: float, at: tuple[float, float]) -> NDArray[np.float64]:
    density = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    return np.asarray(density)


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_records_that_point_the_same_way_are_the_worst_case(sigma: float, epsilon: float) -> None:
    """Two hospitals, q = 0.3: shifts u, v and u + v of any directions against the aligned ones; both directions."""
    x, y, cell = plane()
    q, nothing = 0.3, gaussian_at(x, y, sigma, (0, 0))

    def mixture(u: tuple[float, float], v: tuple[float, float]) -> NDArray[np.float64]:
        both = (u[0] + v[0], u[1] + v[1])
        return np.asarray(
            (1 - q) ** 2 * nothing
            + q * (1 - q) * (gaussian_at(x, y, sigma, u) + gaussian_at(x, y, sigma, v))
            + q * q * gaussian_at(x, y, sigma, both)
        )

    worst = mixture((1, 0), (1, 0))
    for v in ((0.0, 1.0), (-1.0, 0.0), (0.6, 0.8), (0.5, 0.0), (0.0, 0.0)):
        other = mixture((1, 0), v)
        assert hockey_stick(other, nothing, epsilon, cell) <= hockey_stick(worst, nothing, epsilon, cell) + 1e-9
        assert hockey_stick(nothing, other, epsilon, cell) <= hockey_stick(nothing, worst, epsilon, cell) + 1e-9


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 2.0])
def test_a_patient_replaced_by_his_opposite_is_the_worst_case(epsilon: float) -> None:
    x, y, cell = plane()
    sigma, q = 1.0, 0.4
    nothing = gaussian_at(x, y, sigma, (0, 0))

    def sampled(at: tuple[float, float]) -> NDArray[np.float64]:
        return np.asarray((1 - q) * nothing + q * gaussian_at(x, y, sigma, at))

    mine = sampled((1, 0))
    worst = hockey_stick(mine, sampled((-1, 0)), epsilon, cell)
    for at in ((0.0, 1.0), (0.6, 0.8), (-0.6, 0.8), (-0.5, 0.0), (0.0, 0.0), (0.3, 0.0)):
        assert hockey_stick(mine, sampled(at), epsilon, cell) <= worst + 1e-9
        assert hockey_stick(sampled(at), mine, epsilon, cell) <= worst + 1e-9


# --- statements ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_statement_over_samples() -> None:
    history = [(gradient(5.0, 0.3), 66), (event("breslow", 12.0), 2)]
    found = statement(history, 1e-5, filter=RDP16, hospitals=2)

    assert (found.kind, found.order, found.mu, found.hospitals) == (BudgetKind.RDP, 16, None, 2)
    assert found.pld is not None
    assert found.replace_one is not None
    assert found.several_hospitals is not None
    assert found.pld <= found.rdp <= found.epsilon  # the declared order is no better than the best one
    assert found.epsilon == RDP16.epsilon(total_units(history, RDP16), 1e-5)
    assert 1.8 < found.replace_one / found.pld < 2.4
    assert found.several_hospitals > 2 * found.pld
    assert found.at_delta_1e6 > found.epsilon


def test_a_statement_over_narrow_lanes() -> None:
    history = [(NARROW, 60), (event("breslow", 12.0), 2)]
    found = statement(history, 1e-5, filter=RDP16, hospitals=2)

    assert (found.pld, found.prv) == (None, None)
    assert found.rdp == pytest.approx(found.epsilon, rel=1e-6)
    assert any("narrow" in remark for remark in found.remarks)
    assert found.replace_one == found.several_hospitals
    doubled = [(NarrowEvent("gradient", 17.3 / 2, 784, 7500, Account.TRAINING), 60), (event("breslow", 6.0), 2)]
    assert found.replace_one == RDP16.epsilon(total_units(doubled, RDP16), 1e-5)


def test_a_broken_library_stops_a_statement_over_narrow_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    right = numerical.rdp_at
    monkeypatch.setattr(numerical, "rdp_at", lambda *args: 1.001 * right(*args))
    with pytest.raises(AccountantsDisagree, match="dp_accounting"):
        statement([(NARROW, 60)], 1e-5, filter=RDP16)


def test_a_tiny_narrow_release_has_a_statement() -> None:
    """dp_accounting calls R below δ² nothing; the filter does not."""
    faint = NarrowEvent("gradient", 1e8, 784, 1, Account.TRAINING)
    found = statement([(faint, 1)], 1e-5, filter=RDP16)

    assert found.rdp == 0.0
    assert found.epsilon == RDP16.least_epsilon(1e-5) or found.epsilon > 0


def test_samples_beside_narrow_lanes_have_no_other_neighbours() -> None:
    history = [(NARROW, 6), (gradient(5.0, 0.3), 6)]
    found = statement(history, 1e-5, filter=RDP16, hospitals=3)

    assert (found.replace_one, found.several_hospitals) == (None, None)
    assert sum("nothing is proven" in remark for remark in found.remarks) == 2
    assert several_hospitals(history, 1e-5, 1, filter=RDP16) == found.epsilon


def test_one_kind_of_budget_and_one_adjacency_at_a_time() -> None:
    with pytest.raises(BudgetOfAnotherKind):
        statement([(gradient(5.0, 0.3), 66)], 1e-5)
    with pytest.raises(BudgetOfAnotherKind):
        replace_one([(NARROW, 66)], 1e-5)
    for call in (numerical.pld, numerical.prv, numerical.rdp):
        with pytest.raises(MisuseError, match="narrow"):
            call([(NARROW, 6)], 1e-5)
    with pytest.raises(MisuseError):
        numerical.pld([(gradient(5.0, 0.3), 6)], 1e-5, replace_one=True, hospitals=2)


# --- domains of the libraries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "delta", "expected", "reason"),
    [
        ([(gradient(17.3), 66)], 1e-5, 3.0, ""),
        ([(gradient(17.3), 10**6)], 1e-5, 300.0, ""),  # full batches are one Gaussian
        ([(gradient(1.0, 0.05), 400)], 1e-5, 7.4, ""),
        ([(gradient(1.0, 0.05), 400)], 1e-11, 12.0, "delta"),
        ([(gradient(1.0, 0.05), 40_000)], 1e-5, 90.0, "grid"),
        ([(gradient(5.0 + n, 0.05), 10) for n in range(17)], 1e-5, 1.0, "different"),
        ([(gradient(0.1, 0.05), 40)], 1e-5, math.inf, "grid"),
    ],
)
def test_where_prv_may_be_asked(history: Any, delta: float, expected: float, reason: str) -> None:
    found = numerical.prv_domain(history, delta, expected)

    assert found.startswith("PRV") if reason else not found
    assert reason in found


@pytest.mark.slow
def test_outside_the_domain_the_statement_says_so() -> None:
    history = [(gradient(1.0, 0.05), 4000)]
    found = statement(history, 1e-5, filter=Filter(BudgetKind.RDP, 2))

    assert found.prv is None
    assert found.pld is not None
    assert any(remark.startswith("PRV") for remark in found.remarks)
    assert found.pld <= found.rdp


@pytest.mark.slow
def test_rdp_is_loose_for_few_releases_with_little_noise() -> None:
    """One release at q = 0.03 and z = 1: RDP says twice the truth or more, and the statement says that it may."""
    history = [(gradient(1.08, 0.028), 1), (gradient(9.6), 2)]
    found = statement(history, 1e-5, filter=RDP16)

    assert found.pld is not None
    assert found.rdp > 1.5 * found.pld
    assert any(remark.startswith("RDP") for remark in found.remarks)
    assert numerical.rdp_is_tight([(gradient(5.0, 0.3), 66)], 12.0)
    assert not numerical.rdp_is_tight(history, 9.0)
    assert not numerical.rdp_is_tight([(gradient(5.0, 0.3), 1)], 400.0)  # beyond every order that we compute


def test_opacus_warns_about_log_zero_and_recovers() -> None:
    prv = PRVAccountant()
    prv.history = [(2.0, 1.0, 1)]
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        theirs = prv.get_epsilon(1e-5, eps_error=1e-3)
    assert theirs == pytest.approx(numerical.prv([(gradient(10.0), 25)], 1e-5), abs=1e-6)


def random_history(rng: random.Random) -> list[tuple[Event, int]]:
    """One to four kinds of releases, ε from thousandths to hundreds."""

    def between(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    extreme, history = rng.random() > 0.8, []
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        uploads = int(between(1, 800))
        if rng.random() < 0.5:
            history.append((gradient(between(*(0.3, 3000) if extreme else (0.5, 30)), between(0.003, 0.6)), uploads))
        else:
            z = between(*(0.2, 3000) if extreme else (0.7, 60)) * math.sqrt(uploads)
            history.append((gradient(z), uploads))
    return history


@pytest.mark.slow
def test_random_histories_have_a_statement() -> None:
    """The accountants agree, or say that they cannot be asked; the filter is never below PLD."""
    logging.disable(logging.WARNING)  # dp_accounting warns of every order that it leaves out
    rng, asked, tight = random.Random(20261125), 0, 0
    for _ in range(10):
        history = random_history(rng)
        full = all(isinstance(release, GaussianEvent) for release, _ in history)
        rule = GDP_FILTER if full else Filter(BudgetKind.RDP, rng.choice([2, 4, 8, 16, 32, 64]))
        delta = rng.choice([1e-5, 1e-6, 1e-8])
        rest = gaussian_delta(delta)
        rdp, order = numerical.rdp(history, rest)
        if rdp > 60:  # a grid of minutes
            continue
        pld = numerical.pld(history, rest, expected=rdp)
        prv = None if numerical.prv_domain(history, rest, rdp) else numerical.prv(history, rest)
        asked, tight = asked + (prv is not None), tight + numerical.rdp_is_tight(history, order)
        epsilon = rule.epsilon(total_units(history, rule), delta)
        accountant.check_agreement(epsilon, pld, prv, rdp, exact=full, tight=numerical.rdp_is_tight(history, order))
    logging.disable(logging.NOTSET)
    assert asked > 3
    assert tight > 2
