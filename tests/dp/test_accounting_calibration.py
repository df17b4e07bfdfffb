"""From a budget to multipliers, for both kinds of budgets and all kinds of events."""

import doctest
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import calibration
from dp.budget import GDP_FILTER, Budget, BudgetKind, Filter
from dp.calibration import multiplier_for, narrow_multiplier_for, split_budget, suggested_order
from dp.errors import BudgetOfAnotherKind, ConfigError
from dp.events import Account, NarrowEvent, event
from tests.sweeps import examples

RDP16 = Filter(BudgetKind.RDP, 16)


@settings(max_examples=examples(25), deadline=None)
@given(
    order=st.integers(4, 64),
    share=st.floats(0.05, 0.95),
    uploads=st.tuples(st.integers(1, 500), st.integers(1, 50)),
    q=st.floats(0.01, 1),
)
def test_a_split_rdp_budget_is_spent_and_never_overdrawn(
    order: int, share: float, uploads: tuple[int, int], q: float
) -> None:
    rule = Filter(BudgetKind.RDP, order)
    budget = Budget(8.0, 1e-5, rule)
    shares = {"gradient": (share, uploads[0]), "breslow": (1 - share, uploads[1])}
    z = split_budget(8.0, 1e-5, shares, filter=rule, sampling={"gradient": q})
    cost = uploads[0] * rule.units(event("gradient", z["gradient"], sampling_probability=q))
    other = uploads[1] * rule.units(event("breslow", z["breslow"]))

    assert budget.admits(cost, other)
    assert (cost + other) / budget.units > 1 - 1e-6
    assert cost / budget.units == pytest.approx(share, rel=1e-6)


def test_the_least_multiplier_of_narrow_lanes() -> None:
    units = RDP16.largest(2.0, 1e-5) // 66
    z = narrow_multiplier_for("gradient", units, filter=RDP16, variance=784, length=7500)

    def cost(multiplier: float) -> int:
        return RDP16.units(NarrowEvent("gradient", multiplier, 784, 7500, Account.TRAINING))

    assert cost(z) <= units < cost(z * (1 - 1e-9))
    assert z > multiplier_for("gradient", units, filter=RDP16)  # rounding costs more than no rounding
    with pytest.raises(BudgetOfAnotherKind):
        narrow_multiplier_for("gradient", units, filter=GDP_FILTER, variance=784, length=7500)


def test_the_search_and_the_closed_form_agree() -> None:
    z = split_budget(2.0, 1e-5, {"gradient": (1.0, 66)})["gradient"]

    assert multiplier_for("gradient", Budget(2.0, 1e-5).units // 66) == pytest.approx(z, rel=1e-8)


def test_a_budget_that_the_conversion_eats_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="higher order"):
        split_budget(1.2, 1e-5, {"gradient": (1.0, 66)}, filter=Filter(BudgetKind.RDP, 8))


def test_the_suggested_order_needs_the_least_noise() -> None:
    order = suggested_order(2.0, 1e-5)
    noise = {
        other: split_budget(2.0, 1e-5, {"gradient": (1.0, 66)}, filter=Filter(BudgetKind.RDP, other))["gradient"]
        for other in range(7, 40)
    }

    assert noise[order] == min(noise.values())
    # The price of an RDP budget at full batch: some 9 % more noise than under GDP.
    assert 1.03 < noise[order] / split_budget(2.0, 1e-5, {"gradient": (1.0, 66)})["gradient"] < 1.12


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
@pytest.mark.parametrize("rule", [GDP_FILTER, RDP16])
def test_splits_that_make_no_sense(shares: Any, rule: Filter) -> None:
    with pytest.raises(ConfigError):
        split_budget(2.0, 1e-5, shares, filter=rule)


@pytest.mark.parametrize("sampling", [{"gradient": 0.0}, {"gradient": 1.1}, {"gradient": math.nan}, {"cox": 0.1}])
def test_sampling_that_makes_no_sense(sampling: Any) -> None:
    with pytest.raises(ConfigError):
        split_budget(2.0, 1e-5, {"gradient": (1.0, 66)}, filter=RDP16, sampling=sampling)


def test_a_gdp_budget_samples_nobody() -> None:
    with pytest.raises(BudgetOfAnotherKind):
        split_budget(2.0, 1e-5, {"gradient": (1.0, 66)}, sampling={"gradient": 0.5})


def test_epsilon_of_nothing_or_less() -> None:
    for epsilon in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError):
            split_budget(epsilon, 1e-5, {"gradient": (1.0, 66)})


def test_the_smallest_share_is_one_unit() -> None:
    with pytest.raises(ConfigError, match="share"):
        multiplier_for("gradient", 0)
    assert multiplier_for("gradient", 1) >= 2.0**32
    assert narrow_multiplier_for("gradient", 1, filter=RDP16, variance=784, length=2**24) > 2.0**32


def test_shares_that_sum_to_one_but_for_rounding() -> None:
    for rule in (GDP_FILTER, RDP16):
        split_budget(2.0, 1e-5, {"gradient": (0.1 + 0.2, 5), "breslow": (0.7000000000000001, 1)}, filter=rule)


def test_doctests() -> None:
    assert doctest.testmod(calibration).failed == 0
