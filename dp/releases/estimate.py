"""A number with what is known about its error, or the statement that there is none."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64

QUANTILE: Final = 1.959963984540054
"""97.5 % point of the standard normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A released number.

    Args:
        value: nan if the noise leaves nothing to see.
        error: standard error; inf if there is no value.
        low, high: 95 % interval inside the range that the quantity has; the whole range if there is no value.
        noise_error: the part of the error that is the privacy noise; the rest is sampling.
    """

    value: float
    error: float
    low: float
    high: float
    noise_error: float

    @classmethod
    def of(
        cls,
        value: float,
        noise_error: float,
        lowest: float = -math.inf,
        highest: float = math.inf,
        *,
        sampling_error: float = 0.0,
    ) -> "Estimate":
        """Return value ± both errors, independent of each other, cut to the range of the quantity."""
        error = math.hypot(noise_error, sampling_error)
        low, high = (min(max(value + side * QUANTILE * error, lowest), highest) for side in (-1.0, 1.0))
        return cls(min(max(value, lowest), highest), error, low, high, noise_error)

    @classmethod
    def unresolved(cls, lowest: float = -math.inf, highest: float = math.inf) -> "Estimate":
        """Return the statement that nothing is known beyond the range."""
        return cls(math.nan, math.inf, lowest, highest, math.inf)

    @property
    def resolved(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    def __str__(self) -> str:
        if not self.resolved:
            return "not resolved"
        return f"{self.value:.4g} (95 % {self.low:.4g} to {self.high:.4g})"


def checked(kind: str, total: Float64, length: int, noise_sd: float) -> Float64:
    """Return the released sum if it is one.

    Raises:
        MisuseError: another shape or type, a number that is not finite, or a negative noise.
    """
    if total.dtype != np.float64 or total.shape != (length,):
        raise MisuseError(f"{kind}: expected {length} sums as float64, got {total.dtype}{list(total.shape)}")
    if not (np.isfinite(total).all() and 0.0 <= noise_sd < math.inf):
        raise MisuseError(f"{kind}: released sums are finite and their noise is known")
    return total
