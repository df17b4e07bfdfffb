"""What a μ-GDP guarantee lets an attacker do, in closed form (Dong, Roth & Su 2022).

This is deliberately not imported from `dp.accountant`: the numbers that a data protection officer reads
are computed here a second time, so that one slip cannot confirm itself.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from audits.errors import MisuseError

__all__ = ["accuracy", "auc_ceiling", "delta_of", "epsilon_of", "posterior", "tpr_ceiling"]


def delta_of(epsilon: float, mu: float) -> float:
    """Smallest δ with which a μ-GDP mechanism is (ε, δ)-DP.

    δ(ε) = Φ(−ε/μ + μ/2) − e^ε·Φ(−ε/μ − μ/2), evaluated in the log domain so that small μ does not
    cancel (Balle & Wang 2018, theorem 8; Dong, Roth & Su 2022, corollary 2.13).

    Args:
        epsilon: ≥ 0.
        mu: ≥ 0.
    """
    if mu == 0.0:
        return 0.0
    first = float(special.log_ndtr(-epsilon / mu + mu / 2.0))
    second = epsilon + float(special.log_ndtr(-epsilon / mu - mu / 2.0))
    if second >= first:
        return 0.0
    return math.exp(first) * -math.expm1(second - first)


def epsilon_of(mu: float, delta: float) -> float:
    """ε of a μ-GDP mechanism at δ, rounded up by less than 1e-9.

    >>> round(epsilon_of(0.5, 1e-5), 3)
    1.993
    >>> round(epsilon_of(1.0, 1e-5), 2)
    4.38

    Args:
        mu: ≥ 0; privacy parameter of everything released together.
        delta: in (0, 1).

    Raises:
        MisuseError: mu negative or not finite, or delta outside (0, 1).
    """
    if not (math.isfinite(mu) and mu >= 0.0):
        raise MisuseError(f"mu {mu!r} is not a finite number >= 0")
    if not 0.0 < delta < 1.0:
        raise MisuseError(f"delta {delta!r} is not in (0, 1)")
    if mu == 0.0 or delta_of(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high, mu) > delta:
        high *= 2.0
    return float(optimize.brentq(lambda eps: delta_of(eps, mu) - delta, 0.0, high, xtol=1e-12)) + 1e-10


def auc_ceiling(mu: float) -> float:
    """Largest area under the ROC curve that any attack on a μ-GDP mechanism can have: Φ(μ/√2)."""
    return float(special.ndtr(mu / math.sqrt(2.0)))


def tpr_ceiling(mu: float, fpr: float) -> float:
    """Largest true-positive rate at false-positive rate `fpr`: Φ(Φ⁻¹(fpr) + μ).

    >>> round(100 * tpr_ceiling(0.5, 0.01), 1)
    3.4
    """
    if fpr <= 0.0:
        return 0.0
    return 1.0 if fpr >= 1.0 else float(special.ndtr(special.ndtri(fpr) + mu))


def accuracy(mu: float) -> float:
    """Best accuracy at guessing a fair coin-flip membership: Φ(μ/2).

    >>> round(accuracy(0.5), 2)
    0.6
    """
    return float(special.ndtr(mu / 2.0))


def posterior(prior: float, epsilon: float) -> float:
    """Highest belief that Bayes' rule allows after a release with odds bound e^ε.

    >>> round(posterior(0.5, 2.0), 2), round(posterior(0.1, 2.0), 2)
    (0.88, 0.45)

    Args:
        prior: belief before, in [0, 1].
        epsilon: ≥ 0.
    """
    return prior / (prior + (1.0 - prior) * math.exp(-epsilon))
