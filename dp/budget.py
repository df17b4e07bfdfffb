"""What a data protection officer grants: (ε, δ) for one account, kept as an exact μ² filter.

The budget is of the kind GDP: it admits Gaussian releases of sampling probability 1 as long as
Σ μ_i² ≤ μ_max², which is a valid filter when later releases, whole studies included, are chosen
after earlier results were seen. Numerical composition (PLD) is not, so it decides nothing here.

A thousandth of δ is kept for what the Gaussian analysis leaves out: the noise is a sum of
discrete Gaussians on a lattice (`accountant.lattice_slack`, 1e-12 in practice).
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from dp import gdp
from dp.errors import ConfigError
from dp.events import UNIT_BITS

LATTICE_SHARE: Final = 2.0**-10
"""Share of δ that is kept for the difference between discrete and continuous noise."""

KIND: Final = "GDP"


def epsilon_of(mu_squared: float, delta: float) -> float:
    """Return ε of a total of μ² at δ, lattice share of δ kept back: the number that everybody is shown.

    >>> round(epsilon_of(0.25, 1e-5), 3)
    1.993

    Args:
        mu_squared: Σμ² ≥ 0.
        delta: 0 < δ < 1, the whole δ.
    """
    return gdp.epsilon(math.sqrt(mu_squared), delta * (1 - LATTICE_SHARE))


@dataclass(frozen=True)
class Budget:
    """A granted budget under add-or-remove-one-patient neighbours.

    Args:
        epsilon: ε > 0.
        delta: 0 < δ < 1; the whole δ, lattice share included.

    Raises:
        ConfigError: a value outside its range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 2.0**20:
            raise ConfigError("a budget needs 0 < epsilon < 2^20")
        if not 2.0**-200 < self.delta < 1:
            raise ConfigError("a budget needs 2^-200 < delta < 1")

    @property
    def gaussian_delta(self) -> float:
        """The part of δ that the Gaussian analysis may use."""
        return self.delta * (1 - LATTICE_SHARE)

    @property
    def mu_max(self) -> float:
        """Largest total μ that is (ε, δ)-DP, lattice share of δ kept back."""
        return gdp.mu(self.epsilon, self.gaussian_delta)

    @property
    def units(self) -> int:
        """μ_max² in units of 2⁻⁶⁴, rounded down."""
        return int(Fraction(self.mu_max) ** 2 * 2**UNIT_BITS)

    def admits(self, spent_units: int, cost_units: int) -> bool:
        """Whether a release of this cost may follow what was spent; both in units of 2⁻⁶⁴ μ²."""
        return spent_units + cost_units <= self.units
