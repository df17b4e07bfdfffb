"""What a Rényi divergence says about ε, a second time.

Not imported from `dp.rdp`, as `audits.gaussian` is not from `dp.gdp`: one slip cannot confirm itself.
"""

from __future__ import annotations

import math

from audits.errors import MisuseError

__all__ = ["epsilon_of"]


def epsilon_of(order: int, divergence: float, delta: float) -> float:
    """ε at δ of a mechanism whose Rényi divergence of one order is bounded, for neighbours in both directions.

    ε = R + log((α − 1)/α) − (log δ + log α)/(α − 1) (Canonne, Kamath & Steinke 2020, proposition 12); 0 if the total
    variation, at most √(1 − e^−R), is no more than δ (Bretagnolle & Huber 1979).

    >>> round(epsilon_of(16, 0.5, 1e-5), 3)
    1.018

    Args:
        order: α > 1.
        divergence: R_α ≥ 0 of everything released together.
        delta: in (0, 1).

    Raises:
        MisuseError: a value outside its range.
    """
    if not order > 1 or not (math.isfinite(divergence) and divergence >= 0.0) or not 0.0 < delta < 1.0:
        raise MisuseError(f"no ε for order {order!r}, divergence {divergence!r} and delta {delta!r}")
    if -math.expm1(-divergence) <= delta**2:
        return 0.0
    tail = (math.log(delta) + math.log(order)) / (order - 1)
    return max(0.0, divergence + math.log1p(-1.0 / order) - tail)
