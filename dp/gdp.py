"""Gaussian differential privacy in closed form: μ ↔ (ε, δ), in the log domain.

A release with noise multiplier z is μ-GDP with μ = 1/z (sampling probability 1); releases compose to
μ² = Σ μ_i², chosen adaptively or not. μ-GDP is (ε, δ)-DP exactly when

    δ ≥ Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2)

Source: Balle & Wang 2018, theorem 8; Dong, Roth & Su 2022, corollary 2.13.

>>> round(epsilon(0.5, 1e-5), 3), round(mu(2.0, 1e-5), 4)
(1.993, 0.5016)
"""

import math
from collections.abc import Callable
from typing import Final

from scipy.special import erfcx, log_ndtr

from dp.errors import MisuseError

_LARGEST: Final = 2.0**40
_MILLS_FROM: Final = -5.0
_ROUNDING: Final = 2.0**-46


def log_delta(mu: float, epsilon: float) -> float:
    """Return log δ of μ-GDP at ε, rounded up by about 1e-14 of the first term.

    With x = ε/μ − μ/2 and e^ε φ(x + μ) = φ(x) the formula becomes φ(x) (m(x) − m(x + μ)), m the Mills
    ratio: no exponential of ε, and the difference keeps its digits where the textbook form has none.

    Args:
        mu: > 0.
        epsilon: ≥ 0.
    """
    x = epsilon / mu - mu / 2
    if x > _MILLS_FROM:
        first, second = float(erfcx(x / math.sqrt(2))), float(erfcx((x + mu) / math.sqrt(2)))
        return -x * x / 2 - math.log(2) + math.log(first - second + _ROUNDING * first)
    # Here μ > 10 and δ is near one: erfcx would overflow, and the textbook form is harmless.
    return float(log_ndtr(-x)) + math.log(-math.expm1(epsilon + float(log_ndtr(-x - mu)) - float(log_ndtr(-x))))


def epsilon(mu: float, delta: float) -> float:
    """Return the smallest ε ≥ 0 such that μ-GDP implies (ε, δ)-DP, rounded up.

    Args:
        mu: ≥ 0; 0 means nothing was released.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a value outside its range.
    """
    _check(mu, delta, "mu")
    if mu == 0 or log_delta(mu, 0.0) <= math.log(delta):
        return 0.0
    low, high = 0.0, 1.0
    while log_delta(mu, high) > math.log(delta):
        low, high = high, 2 * high
    return _bisect(low, high, lambda value: log_delta(mu, value) > math.log(delta))[1]


def mu(epsilon: float, delta: float) -> float:
    """Return the largest μ such that μ-GDP implies (ε, δ)-DP, rounded down.

    Args:
        epsilon: ≥ 0.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a value outside its range.
    """
    _check(epsilon, delta, "epsilon")
    low, high = 0.0, 1.0
    while log_delta(high, epsilon) <= math.log(delta):
        low, high = high, 2 * high
    return _bisect(low, high, lambda value: value == 0 or log_delta(value, epsilon) <= math.log(delta))[0]


def _check(value: float, delta: float, name: str) -> None:
    if not (math.isfinite(value) and 0 <= value < _LARGEST):
        raise MisuseError(f"{name} must be finite and ≥ 0")
    if not 0 < delta < 1:
        raise MisuseError("delta must lie between 0 and 1")


def _bisect(low: float, high: float, below: Callable[[float], bool]) -> tuple[float, float]:
    """Narrow (low, high) around the point where `below` turns false, to neighbouring floats."""
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return low, high
        if below(middle):
            low = middle
        else:
            high = middle
