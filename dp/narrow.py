r"""Rényi DP of a sum in narrow lanes: secret stochastic rounding, then discrete Gaussian noise.

A coordinate x of a clipped sum, in lattice steps, becomes SR(x) + N: SR(x) is ⌊x⌋ or ⌈x⌉ with mean x, chosen by
secret bits, and N is discrete Gaussian with the variance σ² of all honest shares. In narrow lanes the clip norm is
about one step, so the rounding must be part of the mechanism: to charge for √d steps of rounding would cost a hundred
times more, to ignore it would be wrong.

Theorem (proof: docs/explanation/narrow-lanes.md). If neighbours move the sum by Δ in the Euclidean norm, σ² ≥ 64 and
1.01 ≤ α ≤ σ², then

.. math:: R_α ≤ \frac{αΔ²}{2σ²}·Ψ(α, σ²) + d·10^{−30}

.. math::
    Ψ = \frac{A² e^s}{(1 − s/4)(1 − β²)(1 − A s(α−1)/4)}, \quad s = 1/σ², \quad β² = \frac{s}{1 − αs/4},
    \quad A = 1 + ½β²W(β), \quad W(β) = 2e^{β²/2}((1+β²)Φ(β) + βφ(β)).

The noise that is drawn is cut at 16 standard deviations: another law by less than 2⁻¹⁸⁰ a draw, to be charged to δ
(`dp.slack` does), not to R_α.

Ψ grows with the order without a limit: there is no z for which this is a Gaussian mechanism. So narrow lanes are
accounted in RDP alone, at orders up to σ², for full batches; privacy-loss distributions and Gaussian DP do not apply.
"""

from math import erf, exp, pi, sqrt
from typing import Final

from dp.errors import MisuseError

__all__ = ["LEAST_ORDER", "LEAST_VARIANCE", "inflation", "rdp"]

LEAST_VARIANCE: Final = 64
"""Smallest σ² of the honest noise, in steps², for which the theorem is stated."""

LEAST_ORDER: Final = 1.01

_REMAINDER: Final = 1e-30  # per coordinate: integers against the real line, and a sum of shares against one Gaussian
_ROUNDED_UP: Final = 1 + 1e-12  # a few dozen roundings of 1.1e-16 each


def inflation(order: float, variance: float) -> float:
    """Return Ψ ≥ 1: how much more a sum in narrow lanes costs than a continuous Gaussian mechanism.

    >>> [round(inflation(order, 28**2), 4) for order in (2, 8, 32, 64)]
    [1.0046, 1.0065, 1.0143, 1.0249]

    Args:
        order: α of the Rényi divergence, 1.01 ≤ α ≤ `variance`.
        variance: σ² of the noise of all honest sites, in lattice steps², ≥ 64.

    Raises:
        MisuseError: outside these ranges: nothing is proven there.
    """
    if not variance >= LEAST_VARIANCE:
        raise MisuseError(
            f"narrow lanes need honest noise of variance {LEAST_VARIANCE} steps² or more, not {variance:g}"
        )
    if not LEAST_ORDER <= order <= variance:
        raise MisuseError(f"narrow lanes are accounted at orders {LEAST_ORDER} to {variance:g}, not {order:g}")
    s = 1 / variance
    beta2 = s / (1 - order * s / 4)
    beta = sqrt(beta2)
    cumulative = (1 + erf(beta / sqrt(2))) / 2
    density = exp(-beta2 / 2) / sqrt(2 * pi)
    weight = 2 * exp(beta2 / 2) * ((1 + beta2) * cumulative + beta * density)
    bend = 1 + beta2 * weight / 2
    psi = bend**2 * exp(s) / ((1 - s / 4) * (1 - beta2) * (1 - bend * s * (order - 1) / 4))
    return psi * _ROUNDED_UP


def rdp(order: float, multiplier: float, variance: float, length: int) -> float:
    """Return R_α of one full-batch release in narrow lanes.

    Args:
        order: α, fixed when the budget is granted; 1.01 ≤ α ≤ `variance`.
        multiplier: z = σ / Δ with Δ the sensitivity on the lattice, input rounding included; > 0.
        variance: σ² of the noise of all honest sites, in lattice steps².
        length: d, number of coordinates, ≥ 1.

    Raises:
        MisuseError: outside these ranges.
    """
    if not multiplier > 0 or length < 1:
        raise MisuseError("a release has a positive multiplier and at least one coordinate")
    return order / (2 * multiplier**2) * inflation(order, variance) * _ROUNDED_UP + length * _REMAINDER
