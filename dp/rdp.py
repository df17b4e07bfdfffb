r"""Rényi DP at one integer order: the Poisson-sampled Gaussian in closed form, and R_α ↔ (ε, δ).

With probability q a patient is in the sample, which moves the sum by at most one sensitivity; z is the noise
multiplier. For integers α ≥ 2 and add-or-remove-one-patient neighbours (Mironov, Talwar & Zhang 2019, section 3.3)

.. math:: (α − 1) R_α = \log Σ_{j=0}^{α} \binom{α}{j} (1 − q)^{α−j} q^j e^{(j² − j)/2z²}

The binomial weights w_j sum to one, so the sum is 1 + Σ_{j≥2} w_j (e^{(j²−j)/2z²} − 1): no term is negative, nothing
cancels, and in the log domain nothing overflows. On the lattice the noise is a discrete Gaussian and a patient moves
the sum by whole steps; the formula holds there as it stands (docs/explanation/accounting.md).

>>> round(poisson_gaussian(8, 5.0, 0.1), 6)
0.001669
>>> round(epsilon(8, 200 * poisson_gaussian(8, 5.0, 0.1), 1e-5), 3)
1.548
"""

import math
from typing import Final

from dp.errors import MisuseError

__all__ = ["LARGEST_ORDER", "LEAST_ORDER", "epsilon", "largest", "poisson_gaussian"]

LEAST_ORDER: Final = 2
LARGEST_ORDER: Final = 256

_SLACK: Final = 2.0**-45
"""Relative to the largest number that enters a logarithm: some hundred roundings of 2⁻⁵³ each."""


def poisson_gaussian(order: int, multiplier: float, sampling_probability: float) -> float:
    """Return R_α of one release over a Poisson sample, rounded up.

    Args:
        order: α, integer, 2 … 256.
        multiplier: z, 2⁻¹⁰⁰ < z < 2¹⁰⁰.
        sampling_probability: q, 2⁻¹⁰⁰ < q < 1.

    Raises:
        MisuseError: a value outside its range.
    """
    check_order(order)
    if not (2.0**-100 < multiplier < 2.0**100 and 2.0**-100 < sampling_probability < 1):
        raise MisuseError("the multiplier must lie between 2^-100 and 2^100, the sampling probability between 0 and 1")
    log_in, log_out = math.log(sampling_probability), math.log1p(-sampling_probability)
    terms, largest_part = [], 1.0
    for j in range(2, order + 1):
        exponent = (j * j - j) / 2 / multiplier**2
        parts = (math.log(math.comb(order, j)), j * log_in, (order - j) * log_out, _log_expm1(exponent))
        largest_part = max(largest_part, *map(abs, parts))
        terms.append(math.fsum(parts))
    top = max(terms)
    log_sum = top + math.log(math.fsum(math.exp(term - top) for term in terms)) + _SLACK * largest_part
    grown = max(log_sum, 0.0) + math.log1p(math.exp(-abs(log_sum)))  # log(1 + e^log_sum)
    return grown / (order - 1) * (1 + _SLACK)


def epsilon(order: int, divergence: float, delta: float) -> float:
    """Return an ε ≥ 0 for which R_α implies (ε, δ)-DP, rounded up.

    ε = R + log(1 − 1/α) − log(δα)/(α − 1) (Canonne, Kamath & Steinke 2020, proposition 12). Where nothing was
    released, ε is 0; the first release pays the conversion.

    Args:
        order: α, integer, 2 … 256.
        divergence: R_α ≥ 0, rounded up by whoever computed it; may be infinite.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a value outside its range.
    """
    check_order(order)
    if not divergence >= 0 or not 0 < delta < 1:
        raise MisuseError("a divergence is ≥ 0, and delta lies between 0 and 1")
    if divergence == 0:
        return 0.0
    if math.isinf(divergence):
        return math.inf
    toll = _toll(order, delta)
    return max(0.0, divergence + toll + _SLACK * (divergence + abs(toll) + 1))


def largest(order: int, epsilon: float, delta: float) -> float:
    """Return the largest R_α ≥ 0 that implies (ε, δ)-DP at this order, rounded down; 0 if there is none.

    Args:
        order: α, integer, 2 … 256.
        epsilon: ε ≥ 0, finite.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a value outside its range.
    """
    check_order(order)
    if not (math.isfinite(epsilon) and epsilon >= 0) or not 0 < delta < 1:
        raise MisuseError("epsilon must be finite and ≥ 0, and delta must lie between 0 and 1")
    toll = _toll(order, delta)
    # Twice the slack of `epsilon`, so that `epsilon(largest(e)) <= e` whatever the roundings.
    return max(0.0, epsilon - toll - 2 * _SLACK * (epsilon + 2 * abs(toll) + 1))


def check_order(order: int) -> None:
    """Raise unless the order is one that a budget may declare.

    Raises:
        MisuseError: not an integer in 2 … 256.
    """
    if type(order) is not int or not LEAST_ORDER <= order <= LARGEST_ORDER:
        raise MisuseError(f"an order is a whole number, {LEAST_ORDER} … {LARGEST_ORDER}")


def _toll(order: int, delta: float) -> float:
    """What the conversion adds to R_α: large at low orders, and smaller, the higher the order."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _log_expm1(x: float) -> float:
    """log(e^x − 1) for x > 0."""
    return math.log(math.expm1(x)) if x < 1 else x + math.log(-math.expm1(-x))
