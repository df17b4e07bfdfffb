"""From a budget to noise multipliers.

What an account may spend is divided among the kinds of releases of a study. A kind with share s and U uploads gets the
least multiplier at which U uploads cost at most that share. U is the number of uploads, not of completed steps: an
upload that was aborted is charged all the same.

GDP, every patient in every sum: z = √(U/s) / μ_max, so that U releases cost U/z² = s·μ_max².

>>> z = split_budget(2.0, 1e-5, {"gradient": (0.9, 66), "breslow": (0.1, 2)})
>>> {kind: round(value, 2) for kind, value in z.items()}
{'gradient': 17.07, 'breslow': 8.92}

RDP at one order, gradients over a Poisson sample:

>>> rule = Filter(BudgetKind.RDP, 16)
>>> z = split_budget(2.0, 1e-5, {"gradient": (0.9, 220), "breslow": (0.1, 2)}, filter=rule, sampling={"gradient": 0.1})
>>> {kind: round(value, 2) for kind, value in z.items()}
{'gradient': 3.87, 'breslow': 10.39}
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from dp import rdp
from dp.budget import GDP_FILTER, Budget, BudgetKind, Filter
from dp.errors import ConfigError
from dp.events import ACCOUNT_OF, Event, NarrowEvent, event

__all__ = ["multiplier_for", "narrow_multiplier_for", "split_budget", "suggested_order", "uploads_for"]

_MARGIN: Final = 1 + 2.0**-30
_TOLERANCE: Final = 1e-9
"""Shares such as 0.7 + 0.2 + 0.1 may miss one by rounding; `_MARGIN` on z pays for it."""

_LEAST, _MOST = 2.0**-20, 2.0**60
_STEPS: Final = 100


def split_budget(
    epsilon: float,
    delta: float,
    shares: Mapping[str, tuple[float, int]],
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
    sampling: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    """Return the noise multiplier of each kind of release on the wide lattice.

    Guarantee: reserving U uploads of each kind at these multipliers fits ``Budget(epsilon, delta, filter)``, to the
    last unit.

    Args:
        epsilon: ε > 0 of the whole account.
        delta: δ of the whole account.
        shares: kind → (share of what the account may spend in (0, 1], uploads ≥ 1); shares sum to at most 1. All
            kinds are charged to one account.
        filter: how the account adds up.
        sampling: kind → sampling probability q in (0, 1]; a kind that is not named reads every patient.

    Raises:
        ConfigError: a value outside its range, kinds of two accounts, shares above 1, or an ε that an RDP budget of
            this order cannot give.
        BudgetOfAnotherKind: q < 1 under a GDP budget.
    """
    budget = Budget(epsilon, delta, filter)
    _check(shares, sampling)
    if not budget.units:
        raise ConfigError(
            f"an RDP budget of order {filter.order} spends epsilon = {filter.least_epsilon(delta):.3g} on the "
            f"conversion at delta = {delta:g}: grant more, or open the account at a higher order (see suggested_order)"
        )
    multipliers = {}
    for kind, (share, uploads) in shares.items():
        probability = sampling.get(kind, 1.0)
        if filter.kind is BudgetKind.GDP and probability == 1:
            multipliers[kind] = math.sqrt(uploads / share) / budget.mu_max * _MARGIN
        else:
            multipliers[kind] = _least(kind, Fraction(share) * budget.units / uploads, filter, probability)
    cost = sum(
        uploads * filter.units(event(kind, multipliers[kind], sampling_probability=sampling.get(kind, 1.0)))
        for kind, (_, uploads) in shares.items()
    )
    if not budget.admits(0, cost):
        raise ConfigError("the shares are too small to be told apart in whole units of the budget")
    return multipliers


def multiplier_for(
    kind: str,
    units: int,
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
    sampling_probability: float = 1.0,
) -> float:
    """Return the least noise multiplier at which one release costs at most so many units, rounded up.

    Args:
        kind: one of `dp.events.KINDS`.
        units: ≥ 1, in whole units of 2⁻⁶⁴.
        filter: how the account adds up.
        sampling_probability: q in (0, 1].

    Raises:
        ConfigError: no units to spend.
        BudgetOfAnotherKind: q < 1 under a GDP budget.
    """
    return _search(kind, units, filter, lambda z: event(kind, z, sampling_probability=sampling_probability))


def narrow_multiplier_for(
    kind: str,
    units: int,
    *,
    filter: Filter,  # noqa: A002 - the field's word
    variance: int,
    length: int,
) -> float:
    """Return the least noise multiplier at which one release in narrow lanes costs at most so many units, rounded up.

    Args:
        kind: one of `dp.events.KINDS`.
        units: ≥ 1, in whole units of 2⁻⁶⁴.
        filter: of an RDP budget.
        variance: of the honest noise, in lattice steps².
        length: d.

    Raises:
        ConfigError: no units to spend.
        BudgetOfAnotherKind: a GDP budget, or an order above the variance.
    """
    return _search(kind, units, filter, lambda z: NarrowEvent(kind, z, variance, length, ACCOUNT_OF[kind]))


def uploads_for(steps: int) -> int:
    """Return the uploads to reserve for T steps: T + ⌈T/10⌉, room for aborted rounds."""
    return steps + -(-steps // 10)


def suggested_order(epsilon: float, delta: float) -> int:
    """Return the order at which an RDP budget admits most Gaussian noise releases: advice for the grant, before any.

    An order is declared once. Too low, and the conversion to (ε, δ) eats the budget; too high, and every release costs
    more; Poisson samples and narrow lanes prefer a somewhat lower one.

    >>> suggested_order(2.0, 1e-5), suggested_order(8.0, 1e-5)
    (10, 4)

    Args:
        epsilon: ε > 0 of the grant.
        delta: 0 < δ < 1.
    """
    orders = range(rdp.LEAST_ORDER, rdp.LARGEST_ORDER + 1)
    return max(orders, key=lambda order: Budget(epsilon, delta, Filter(BudgetKind.RDP, order)).units / order)


def _check(shares: Mapping[str, tuple[float, int]], sampling: Mapping[str, float]) -> None:
    unknown = [kind for kind in (*shares, *sampling) if kind not in ACCOUNT_OF]
    if unknown:
        raise ConfigError(f"unknown kind of release {unknown[0]!r}")
    if len({ACCOUNT_OF[kind] for kind in shares}) > 1:
        raise ConfigError("training and holdout releases are charged to different accounts: split each budget alone")
    for kind, (share, uploads) in shares.items():
        if not (0 < share <= 1 and uploads >= 1):
            raise ConfigError(f"{kind}: needs a share in (0, 1] and at least one upload")
    for kind, probability in sampling.items():
        if not 2.0**-100 < probability <= 1:
            raise ConfigError(f"{kind}: a sampling probability lies in (0, 1]")
    if math.fsum(share for share, _ in shares.values()) > 1 + _TOLERANCE:
        raise ConfigError("the shares of the budget sum to more than 1")


def _least(kind: str, units: Fraction, rule: Filter, probability: float) -> float:
    whole = math.floor(units * (1 - Fraction(1, 1 << 30)))  # the room that shares above 1 by rounding need
    return multiplier_for(kind, whole, filter=rule, sampling_probability=probability)


def _search(kind: str, units: int, rule: Filter, release: Callable[[float], Event]) -> float:
    if units < 1:
        raise ConfigError(f"{kind}: no release costs less than one unit: give it a larger share")
    low, high = _LEAST, _MOST
    if rule.units(release(low)) <= units:
        return low
    # At 2⁶⁰ every event costs one unit, so the search always ends.
    # The cost falls with the multiplier; a hundred halvings of 80 powers of two reach neighbouring floats.
    for _ in range(_STEPS):
        middle = math.sqrt(low) * math.sqrt(high)
        if not low < middle < high:
            break
        if rule.units(release(middle)) <= units:
            high = middle
        else:
            low = middle
    return high
