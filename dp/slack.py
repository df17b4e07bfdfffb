"""The part of δ that analysis with continuous noise leaves out, because the noise is drawn on a lattice.

Honest noise is a sum of discrete Gaussians of total variance σ² ≥ 4.5·10¹⁵ steps² (wide lattice). A *rounded* Gaussian
would be post-processing of the continuous mechanism. `dp.budget.LATTICE_SHARE` keeps 2⁻¹⁰ of δ for the difference; this
module computes how much of it is needed. Proofs: docs/explanation/accounting.md, section "The lattice".

* **GDP.** The smaller of two bounds. (1) Total variation: (1 + e^ε)·n·0.0202/σ², n the number of coordinates of all
  uploads. (2) Both laws of all n noise coordinates have nearly the same *likelihood*: their log-ratio is below
  η ≈ √n/σ² but for a probability ζ = 2e⁻¹⁰⁰. So ε moves by 2η, which costs 2η·P(loss > ε) of δ, and only ζ is
  multiplied by e^ε.
* **RDP at an integer order.** Nothing: the discrete Gaussian has the divergence of the continuous one, sampled or not.
* Both: the support that is cut (2⁻¹⁷⁰ a coordinate, as total variation) and the convolution that builds the noise (a
  factor within e^{±2⁻¹⁰⁰} a coordinate).
"""

from collections.abc import Iterable, Sequence
from math import exp, expm1, fsum, inf, sqrt
from typing import Final

from scipy.special import ndtr

from dp.budget import GDP_FILTER, BudgetKind, Filter, gaussian_delta
from dp.errors import MisuseError
from dp.events import UNIT_BITS

__all__ = ["TV_CONSTANT", "lattice_slack"]

# TV(discrete, rounded Gaussian) ≤ this / σ² for σ ≥ 10: E|Z² − 1| / 48 = φ(1)/12 = 0.02016 and higher orders.
TV_CONSTANT: Final = 0.0202

_CUT: Final = 2.0**-170
_CONVOLUTION: Final = 2.0**-100
_EXPONENT: Final = 100.0  # x in P(deviation) ≤ e^−x
_LEAST_VARIANCE: Final = 100.0
_WIDE: Final = 2.0**40
_LARGEST_EXPONENT: Final = 700.0


def lattice_slack(
    units: int,
    delta: float,
    releases: Iterable[tuple[int, int, float]],
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
) -> float:
    """Return the δ to add to the continuous analysis at the headline ε, rounded up.

    >>> from dp.events import event
    >>> cost = 66 * GDP_FILTER.units(event("gradient", 17.3))
    >>> lattice_slack(cost, 1e-5, [(7_500, 66, 1.35e16)]) < 1e-5 * 2**-30
    True

    Args:
        units: total cost of everything that is charged, as the filter counts it.
        delta: 0 < δ < 1, the whole δ.
        releases: (length d, uploads, variance of the honest noise in lattice steps², ≥ 100) of each kind. For narrow
            lanes the variance is not used: their theorem is about the discrete noise itself.
        filter: of the account's budget.

    Raises:
        MisuseError: a variance below 100, where the bound is not proven.
    """
    listed = [(length * uploads, variance) for length, uploads, variance in releases]
    if filter.kind is BudgetKind.GDP and any(not variance >= _LEAST_VARIANCE for _, variance in listed):
        raise MisuseError("the lattice bound needs noise of at least 10 steps")
    epsilon, rest = filter.epsilon(units, delta), gaussian_delta(delta)
    count = fsum(n for n, _ in listed)
    odds = 1 + exp(epsilon) if epsilon < _LARGEST_EXPONENT else inf
    if not count:
        return 0.0
    if filter.kind is BudgetKind.RDP:
        return expm1((2 * filter.order - 1) * count * _CONVOLUTION) * rest + odds * count * _CUT
    distance = fsum(n * (TV_CONSTANT / variance + _CONVOLUTION + _CUT) for n, variance in listed)
    if any(variance < _WIDE for _, variance in listed):
        return odds * distance
    return min(odds * distance, _by_likelihood(sqrt(units / (1 << UNIT_BITS)), epsilon, rest, odds, listed))


def _by_likelihood(
    mu: float, epsilon: float, delta: float, odds: float, listed: Sequence[tuple[float, float]]
) -> float:
    """Bound (2): e^η δ(ε − 2η) − δ(ε) + (1 + e^ε)ζ."""
    count = fsum(n for n, _ in listed)
    weights = [(n, 1 / (24 * variance)) for n, variance in listed]
    # Laurent & Massart 2000, lemma 1, for Σ aᵢ(Zᵢ² − 1); then what rounding to integers adds to Zᵢ² at |Zᵢ| ≤ 40, and
    # the convolution. One per cent covers the next term of the expansion, which is smaller by 1/σ².
    spread = 2 * sqrt(fsum(n * a * a for n, a in weights) * _EXPONENT) + 2 * max(a for _, a in weights) * _EXPONENT
    rounding = fsum(n * a * 41 / sqrt(1 / (24 * a)) for n, a in weights)
    eta = 1.01 * (spread + rounding) + count * _CONVOLUTION
    beyond = float(ndtr(mu / 2 - (epsilon - 2 * eta) / mu)) if mu > 0 else 0.0
    rare = 2 * exp(-_EXPONENT) + count * _CUT
    return expm1(eta) * delta + exp(eta) * 2 * eta * beyond * 1.0001 + odds * rare
