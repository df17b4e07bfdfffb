"""What a data protection officer grants: (ε, δ) for one account, of one kind that never changes.

A budget is a *filter*: it admits releases as long as their costs sum to at most a fixed number, and stays valid when
later releases, whole studies included, are chosen after earlier results were seen, also by studies that run at the
same time. There are two kinds (docs/explanation/accounting.md has the proofs and their literature):

| kind | cost of a release                               | admits                                           |
|------|-------------------------------------------------|--------------------------------------------------|
| GDP  | μ² = 1/z²                                       | full batches on the wide lattice                 |
| RDP  | R_α at one order α, declared at the first grant | these (at αμ²/2), Poisson samples, narrow lanes  |

Numerical composition (PLD) is not a filter, so it decides nothing here. The order is never chosen after the fact.

A thousandth of δ is kept for what these analyses leave out: the noise is a sum of discrete Gaussians on a lattice
(`dp.slack`). Costs are counted in whole units of 2⁻⁶⁴: each cost is rounded up, each budget down.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Final, assert_never

from dp import gdp, narrow, rdp
from dp.errors import BudgetOfAnotherKind, ConfigError, MisuseError
from dp.events import UNIT_BITS, Event, GaussianEvent, NarrowEvent, PoissonEvent

__all__ = [
    "GDP_FILTER",
    "LATTICE_SHARE",
    "Budget",
    "BudgetKind",
    "Filter",
    "check_delta",
    "epsilon_of",
    "gaussian_delta",
]

LATTICE_SHARE: Final = 2.0**-10
"""Share of δ that is kept for the difference between discrete and continuous noise."""

_BEYOND: Final = 1 << (UNIT_BITS + 40)
"""μ² or a divergence of 2⁴⁰: nobody grants that much, so ε is called infinite."""


class BudgetKind(StrEnum):
    """What a budget adds up."""

    GDP = "GDP"
    RDP = "RDP"


@dataclass(frozen=True)
class Filter:
    """The rule by which an account adds up releases; fixed at its first grant.

    Args:
        kind: GDP or RDP.
        order: 0 for GDP; α of RDP, an integer in 2 … 256.

    Raises:
        ConfigError: an order that the kind does not have.
    """

    kind: BudgetKind
    order: int = 0

    def __post_init__(self) -> None:
        if self.kind is BudgetKind.GDP and (type(self.order) is not int or self.order != 0):
            raise ConfigError("a GDP budget has no order: leave it 0")
        if self.kind is BudgetKind.RDP and (
            type(self.order) is not int or not rdp.LEAST_ORDER <= self.order <= rdp.LARGEST_ORDER
        ):
            raise ConfigError(
                f"an RDP budget declares one order, a whole number {rdp.LEAST_ORDER} … {rdp.LARGEST_ORDER}"
            )

    def __str__(self) -> str:
        return self.kind.value if self.kind is BudgetKind.GDP else f"{self.kind.value} at order {self.order}"

    def units(self, event: Event) -> int:
        """Return what one release costs, in whole units of 2⁻⁶⁴, rounded up; at least one.

        Raises:
            BudgetOfAnotherKind: this kind of budget cannot hold the event.
        """
        return _units(self, event)

    def epsilon(self, units: int, delta: float) -> float:
        """Return ε of a total cost at δ, lattice share of δ kept back, rounded up: the headline.

        Args:
            units: ≥ 0, sum of `units` of every release.
            delta: 0 < δ < 1, the whole δ.

        Returns:
            ε ≥ 0; infinite beyond μ² or R_α = 2⁴⁰.
        """
        if units < 0:
            raise MisuseError("a cost is not negative")
        if units >= _BEYOND:
            return math.inf
        cost = units / (1 << UNIT_BITS) * (1 + 2.0**-51)
        if self.kind is BudgetKind.GDP:
            return gdp.epsilon(math.sqrt(cost) * (1 + 2.0**-51), gaussian_delta(delta))
        return rdp.epsilon(self.order, cost, gaussian_delta(delta))

    def largest(self, epsilon: float, delta: float) -> int:
        """Return the largest total cost that is (ε, δ)-DP, lattice share of δ kept back, rounded down.

        0 under RDP if not even the conversion fits: ε is below `least_epsilon`.

        Args:
            epsilon: ε ≥ 0.
            delta: 0 < δ < 1, the whole δ.
        """
        rest = gaussian_delta(delta)
        cost = (
            Fraction(gdp.mu(epsilon, rest)) ** 2
            if self.kind is BudgetKind.GDP
            else Fraction(rdp.largest(self.order, epsilon, rest))
        )
        # A part in 2⁴⁰ is given away so that `epsilon` of what is admitted is at most ε in floats too.
        return int(cost * (1 - Fraction(1, 1 << 40)) * 2**UNIT_BITS)

    def least_epsilon(self, delta: float) -> float:
        """Return the ε below which a budget of this kind admits nothing: 0 for GDP."""
        return 0.0 if self.kind is BudgetKind.GDP else self.epsilon(1, delta)


GDP_FILTER: Final = Filter(BudgetKind.GDP)


@dataclass(frozen=True)
class Budget:
    """A granted budget under add-or-remove-one-patient neighbours.

    Args:
        epsilon: ε > 0.
        delta: 0 < δ < 1; the whole δ, lattice share included.
        filter: how releases add up.

    Raises:
        ConfigError: a value outside its range.
    """

    epsilon: float
    delta: float
    filter: Filter = GDP_FILTER

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 2.0**20:
            raise ConfigError("a budget needs 0 < epsilon < 2^20")
        if not 2.0**-200 < self.delta < 1:
            raise ConfigError("a budget needs 2^-200 < delta < 1")

    @property
    def gaussian_delta(self) -> float:
        """The part of δ that the analysis of continuous noise may use."""
        return gaussian_delta(self.delta)

    @property
    def units(self) -> int:
        """The largest total cost, in units of 2⁻⁶⁴, rounded down."""
        return self.filter.largest(self.epsilon, self.delta)

    @property
    def mu_max(self) -> float:
        """Largest total μ of a GDP budget, rounded down.

        Raises:
            BudgetOfAnotherKind: an RDP budget has no μ.
        """
        if self.filter.kind is not BudgetKind.GDP:
            raise BudgetOfAnotherKind(f"a budget of {self.filter} has no μ")
        return math.sqrt(self.units / (1 << UNIT_BITS)) * (1 - 2.0**-51)

    def admits(self, spent_units: int, cost_units: int) -> bool:
        """Whether a release of this cost may follow what was spent; both in units of 2⁻⁶⁴."""
        return spent_units + cost_units <= self.units


def epsilon_of(mu_squared: float, delta: float) -> float:
    """Return ε of a total of μ² under GDP at δ, lattice share of δ kept back: the number that everybody is shown.

    >>> round(epsilon_of(0.25, 1e-5), 3)
    1.993

    Args:
        mu_squared: Σμ² ≥ 0.
        delta: 0 < δ < 1, the whole δ.
    """
    return gdp.epsilon(math.sqrt(mu_squared), gaussian_delta(delta))


def gaussian_delta(delta: float) -> float:
    """Return the part of δ that the analysis of continuous noise may use, rounded down."""
    return delta * (1 - LATTICE_SHARE) * (1 - 2.0**-52)


def check_delta(delta: float, patients: int) -> None:
    """Refuse a δ at which the release of one patient's whole record, drawn at random, would be allowed.

    Args:
        delta: δ of an account or a study.
        patients: a *declared*, public number of patients, never a count of a table: a check on a count would itself
            be a release.

    Raises:
        ConfigError: δ ≥ 1/patients, or not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ConfigError("delta must lie between 0 and 1")
    if patients < 1 or Fraction(delta) * patients >= 1:
        raise ConfigError(
            f"delta = {delta:g} is not below 1/{patients}, the declared number of patients: it would allow one of them "
            "to be published; use 1e-5 or less"
        )


@lru_cache(maxsize=4096)  # a ledger asks once per upload, and a study has a handful of events
def _units(rule: Filter, event: Event) -> int:
    if rule.kind is BudgetKind.GDP and not isinstance(event, GaussianEvent):
        what = "a Poisson sample" if isinstance(event, PoissonEvent) else "narrow lanes"
        raise BudgetOfAnotherKind(
            f"{event.kind}: {what} cannot be charged to a GDP budget: ask for an account with an RDP budget, "
            "or use full batches in 64-bit lanes"
        )
    match event:
        case GaussianEvent():
            mu_squared = 1 / Fraction(event.multiplier) ** 2
            cost = mu_squared if rule.kind is BudgetKind.GDP else mu_squared * rule.order / 2
        case PoissonEvent():
            cost = Fraction(rdp.poisson_gaussian(rule.order, event.multiplier, event.sampling_probability))
        case NarrowEvent():
            if rule.order > event.variance:
                raise BudgetOfAnotherKind(
                    f"{event.kind}: narrow lanes with honest noise of variance {event.variance} steps² are accounted "
                    f"at orders up to {event.variance}, this budget is of order {rule.order}: use wider lanes"
                )
            cost = Fraction(narrow.rdp(rule.order, event.multiplier, event.variance, event.length))
        case _:
            assert_never(event)
    units: int = math.ceil(cost * 2**UNIT_BITS)
    return units
