"""Accounting: what is charged is never less than what another library says, and a limit is a limit to the last unit."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import dp_accounting

DELTA = 1e-5


def events() -> list[Any]:
    from dp.events import NarrowEvent, event

    training = event("gradient", 1.0).account
    return [
        *[event("gradient", z) for z in (0.37, 1.0, 3.0, 17.3, 1e6)],
        *[event("gradient", z, sampling_probability=q) for z, q in ((0.6, 0.02), (1.0, 0.1), (2.0, 0.3), (5.0, 0.9))],
        NarrowEvent("gradient", 17.3, 784, 1000, training),
    ]


def filters() -> list[Any]:
    from dp.budget import GDP_FILTER, BudgetKind, Filter

    return [GDP_FILTER, *[Filter(BudgetKind.RDP, order) for order in (2, 8, 32, 255)]]


def _rdp(event: Any, order: int) -> float:
    from dp import narrow
    from dp.events import NarrowEvent, PoissonEvent

    if isinstance(event, NarrowEvent):
        return narrow.rdp(order, event.multiplier, event.variance, event.length)
    accountant = dp_accounting.rdp.RdpAccountant([order])
    gaussian = dp_accounting.GaussianDpEvent(event.multiplier)
    sampled = isinstance(event, PoissonEvent)
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(event.sampling_probability, gaussian) if sampled else gaussian
    )
    return float(accountant._rdp[0])


def a_cost_is_never_below_what_the_release_gives_away() -> None:
    """In whole units of 2⁻⁶⁴: exact 1/z² for full batches, dp_accounting's divergence at the declared order else."""
    from dp.budget import BudgetKind
    from dp.errors import BudgetOfAnotherKind
    from dp.events import GaussianEvent

    refused = set()
    for rule in filters():
        for event in events():
            try:
                units = rule.units(event)
            except BudgetOfAnotherKind:
                refused.add((rule.kind, type(event).__name__))
                continue
            if rule.kind is BudgetKind.GDP:
                assert isinstance(event, GaussianEvent), "no μ bounds a sampled or a rounded release"
                assert Fraction(units, 2**64) >= 1 / Fraction(event.multiplier) ** 2
            elif isinstance(event, GaussianEvent):
                assert Fraction(units, 2**64) >= rule.order / (2 * Fraction(event.multiplier) ** 2)
            else:
                assert units / 2**64 >= _rdp(event, rule.order) * (1 - 1e-9)
    assert {kind for kind, _ in refused} == {BudgetKind.GDP}


def the_headline_is_never_below_the_truth() -> None:
    """ε by the filter against PLD (an accountant that is not ours), for every event and kind of budget."""
    from dp.budget import BudgetKind, gaussian_delta
    from dp.errors import BudgetOfAnotherKind
    from dp.events import PoissonEvent

    for event, uploads in [(events()[3], 60), (events()[6], 40), (events()[7], 40)]:
        gaussian = dp_accounting.GaussianDpEvent(event.multiplier)
        accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
        sampled = isinstance(event, PoissonEvent)
        each = dp_accounting.PoissonSampledDpEvent(event.sampling_probability, gaussian) if sampled else gaussian
        accountant.compose(each, uploads)
        truth = accountant.get_epsilon(DELTA)
        for rule in filters():
            try:
                said = rule.epsilon(uploads * rule.units(event), DELTA)
            except BudgetOfAnotherKind:
                continue
            assert said >= truth * 0.995 - 0.005
            if rule.kind is BudgetKind.RDP:
                single = dp_accounting.rdp.RdpAccountant([rule.order])
                single.compose(each, uploads)
                # At the order that was declared, not at the best one.
                assert said >= single.get_epsilon(gaussian_delta(DELTA)) * (1 - 1e-9)


def a_replaced_patient_costs_twice_the_mu() -> None:
    """Replace-one against the exact Gaussian trade-off at half the multiplier, and above add-or-remove-one."""
    from dp.accountant import replace_one
    from dp.budget import GDP_FILTER
    from dp.events import event

    each = event("gradient", 17.3)
    swapped = replace_one([(each, 60)], DELTA)
    exact = dp_accounting.get_epsilon_gaussian(17.3 / math.sqrt(60) / 2, DELTA)
    assert swapped is not None
    assert exact <= swapped <= exact * 1.01
    assert swapped > 2 * GDP_FILTER.epsilon(60 * GDP_FILTER.units(each), DELTA)


def a_patient_of_k_hospitals_costs_k_times_the_mu() -> None:
    """No ledger can know; the number that is printed for it is that of the exact trade-off."""
    from dp.accountant import several_hospitals
    from dp.events import event

    for k in (1, 2, 5):
        said = several_hospitals([(event("gradient", 17.3), 60)], DELTA, k)
        exact = dp_accounting.get_epsilon_gaussian(17.3 / math.sqrt(60) / k, DELTA)
        assert said is not None
        assert exact <= said <= exact * 1.01


def a_delta_that_would_publish_a_patient_is_refused() -> None:
    """At δ = 1/n one record, drawn at random, may be released and the guarantee holds."""
    from dp.budget import check_delta
    from dp.errors import ConfigError

    check_delta(2.0**-10, 1023)
    for delta, patients in ((2.0**-10, 1024), (0.5, 2), (1e-5, 10**6), (0.0, 10), (1.0, 1), (math.nan, 10)):
        try:
            check_delta(delta, patients)
        except ConfigError:
            continue
        raise AssertionError((delta, patients))


def colluders_are_subtracted_from_the_shares_that_an_opened_sum_holds() -> None:
    """Mode B opens with t of |R|: row c is the headline, everyone else together faces one share."""
    from dp.accountant import coalition
    from dp.budget import GDP_FILTER
    from dp.events import event

    history = [(event("gradient", 17.3), 60)]
    headline = GDP_FILTER.epsilon(60 * GDP_FILTER.units(history[0][0]), DELTA)
    for roster, honest, collusion in ((10, 8, 2), (10, 5, 2), (7, 4, 1)):
        rows = coalition(history, DELTA, roster_size=roster, honest=honest, collusion=collusion)
        assert [row.epsilon for row in rows] == sorted(row.epsilon or 0.0 for row in rows)
        assert abs((rows[collusion].epsilon or 0.0) / headline - 1) < 1e-6
        alone = dp_accounting.get_epsilon_gaussian(17.3 / math.sqrt(60 * honest), DELTA)
        assert alone <= (rows[-1].epsilon or 0.0) <= alone * 1.01


def a_budget_ends_at_its_last_unit() -> None:
    """What fits to the unit is admitted, one unit more is not, and never rounds away in a float."""
    from dp.budget import Budget
    from dp.errors import BudgetExceeded
    from dp.events import Account
    from dp.grants import Grant
    from dp.limits import Usage, check_room

    for epsilon in (0.3, 2.0, 50.0):
        grant = Grant(Account.TRAINING, epsilon, DELTA)
        most = Budget(epsilon, DELTA).units
        for committed in (0, 1, most // 3, most - 1):
            check_room(Account.TRAINING, grant, Usage(committed, 0, 0, 0), most - committed, "a study")
            try:
                check_room(Account.TRAINING, grant, Usage(committed, 0, 0, 0), most - committed + 1, "a study")
            except BudgetExceeded:
                continue
            raise AssertionError("one unit too many")
        assert Budget(epsilon, DELTA).filter.epsilon(most, DELTA) <= epsilon
        assert Budget(epsilon, DELTA).admits(1, most - 1)
        assert not Budget(epsilon, DELTA).admits(1, most)


CHECKS = (
    a_cost_is_never_below_what_the_release_gives_away,
    the_headline_is_never_below_the_truth,
    a_replaced_patient_costs_twice_the_mu,
    a_patient_of_k_hospitals_costs_k_times_the_mu,
    a_delta_that_would_publish_a_patient_is_refused,
    colluders_are_subtracted_from_the_shares_that_an_opened_sum_holds,
    a_budget_ends_at_its_last_unit,
)
