r"""What a hyper-parameter search costs: K runs, of which the best one is kept.

Two adversaries, two prices.

* **Who sees every run.** Sites and the coordinator see the sums of all runs, so against them every run is charged like
  any other study. That is what the ledger does, and the only price that a budget knows.
* **Who sees the best model and nothing else.** If K was drawn in secret from a law that was declared beforehand, and
  nothing but the best run's output is given away (not its number, not how many runs there were), the price is lower
  (Papernot & Steinke 2022). This module computes it for a report; no permission depends on it.

With R the Rényi divergence of one run and λ an order, the best run has for K

=========== =================== ==================================================================================
law         P(K = k)            R'(λ)
=========== =================== ==================================================================================
logarithmic ∝ (1 − γ)^k / k     R(λ) + min_κ [(1 − 1/κ) R(κ) + log(1/γ)/κ] + log E[K]/(λ − 1)
geometric   γ (1 − γ)^(k−1)     R(λ) + 2 min_κ [(1 − 1/κ) R(κ) + log(1/γ)/κ] + log E[K]/(λ − 1)
Poisson     e^−m m^k / k!       R(λ) + m·δ̂ + log m/(λ − 1),  one run being (log(1 + 1/(λ − 1)), δ̂)-DP
=========== =================== ==================================================================================

(theorems 2 and 6 there). dp_accounting computes it a second time and must agree.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, exp, expm1, inf, log, log1p, sqrt
from types import MappingProxyType
from typing import Final

from dp import numerical
from dp.accountant import History, total_units
from dp.budget import GDP_FILTER, Filter, gaussian_delta
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, ConfigError
from dp.events import NarrowEvent, PoissonEvent
from dp.rdp import poisson_gaussian

__all__ = ["Law", "Search", "SearchCost", "cost"]

LARGEST_MEAN: Final = 1000.0

_ORDERS: Final = (*range(2, 65), *(72, 80, 96, 128, 192, 256))
_AGREEMENT: Final = 1e-3
_ROUNDED_UP: Final = 1 + 1e-9


class Law(StrEnum):
    """How the number of runs is drawn."""

    GEOMETRIC = "geometric"
    POISSON = "poisson"
    LOGARITHMIC = "logarithmic"


_SHAPES: Final = MappingProxyType({Law.GEOMETRIC: 1.0, Law.POISSON: inf, Law.LOGARITHMIC: 0.0})
"""The laws as dp_accounting names them: shapes of one family."""


@dataclass(frozen=True)
class Search:
    """A declared search.

    Args:
        law: of the number of runs.
        mean_trials: E[K], 1 < E[K] ≤ 1000.

    Raises:
        ConfigError: a mean outside its range.
    """

    law: Law
    mean_trials: float

    def __post_init__(self) -> None:
        if not 1 < self.mean_trials <= LARGEST_MEAN:
            raise ConfigError(f"a search declares more than 1 and at most {LARGEST_MEAN:g} runs on average")


@dataclass(frozen=True)
class SearchCost:
    """What a search costs.

    Args:
        one_run: ε of one run by Rényi DP at its best order, to compare with.
        recipient: ε against a recipient of the one best model.
        run_by_run: headline of E[K] runs by the account's filter: against sites and coordinator.
    """

    one_run: float
    recipient: float
    run_by_run: float


def cost(
    history: History,
    delta: float,
    search: Search,
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
) -> SearchCost:
    """Return what a search over runs of one history costs.

    Args:
        history: of one run: Gaussian and Poisson events.
        delta: 0 < δ < 1.
        search: how many runs.
        filter: of the account's budget.

    Raises:
        AccountantsDisagree: dp_accounting finds another ε.
        BudgetOfAnotherKind: a narrow event (its divergence is known at orders up to its variance only), or one that
            this kind of budget cannot hold.
    """
    releases = [(event, uploads) for event, uploads in history if uploads]
    if any(isinstance(event, NarrowEvent) for event, _ in releases):
        raise BudgetOfAnotherKind("a search over runs in narrow lanes has no stated cost: use 64-bit lanes")
    rest = gaussian_delta(delta)
    divergences = []
    for order in _ORDERS:
        total = 0.0
        for event, uploads in releases:
            if isinstance(event, PoissonEvent):
                total += uploads * poisson_gaussian(order, event.multiplier, event.sampling_probability)
            else:
                total += uploads * order / (2 * event.multiplier**2)
        divergences.append(total)
    best = _best_of(divergences, search)
    one_run, recipient = _epsilon(divergences, rest), _epsilon(best, rest)
    second = numerical.repeat_and_select(releases, rest, search.mean_trials, _SHAPES[search.law], _ORDERS)
    if not abs(second - recipient) <= _AGREEMENT * (1 + recipient):
        raise AccountantsDisagree(f"a search costs epsilon = {recipient:.6g}, dp_accounting says {second:.6g}")
    run_by_run = filter.epsilon(total_units(releases, filter) * ceil(search.mean_trials), delta)
    return SearchCost(one_run, max(second, recipient) * _ROUNDED_UP, run_by_run)


def _best_of(divergences: list[float], search: Search) -> list[float]:
    mean = search.mean_trials
    pairs = list(zip(_ORDERS, divergences, strict=True))
    if search.law is Law.POISSON:
        return [r + mean * _delta(divergences, log1p(1 / (a - 1))) + log(mean) / (a - 1) for a, r in pairs]
    gamma = 1 / mean if search.law is Law.GEOMETRIC else _logarithmic(mean)
    twice = 2 if search.law is Law.GEOMETRIC else 1
    constant = twice * min((1 - 1 / a) * r - log(gamma) / a for a, r in pairs)
    return [r + constant + log(mean) / (a - 1) for a, r in pairs]


def _logarithmic(mean: float) -> float:
    """γ with E[K] = (1/γ − 1)/log(1/γ), rounded down: fewer successes, more runs."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle > 0 and (1 / middle - 1) / -log(middle) < mean:
            high = middle
        else:
            low = middle
    return low


def _epsilon(divergences: list[float], delta: float) -> float:
    """Canonne, Kamath & Steinke 2020, proposition 12, at the best order."""
    pairs = zip(_ORDERS, divergences, strict=True)
    least: float = min(r + log1p(-1 / a) - log(delta * a) / (a - 1) for a, r in pairs)
    return max(0.0, least)


def _delta(divergences: list[float], epsilon: float) -> float:
    """The same the other way round; or total variation (Bretagnolle & Huber 1979), as R bounds the KL divergence."""
    pairs = zip(_ORDERS, divergences, strict=True)
    exponents = [(a - 1) * (r - epsilon) + (a - 1) * log1p(-1 / a) - log(a) for a, r in pairs]
    probability: float = min(sqrt(-expm1(-min(divergences))), exp(min(0.0, *exponents)))
    return probability
