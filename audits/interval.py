"""Estimates with two one-sided bounds; Clopper-Pearson for counts, normal for noisy sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special, stats

from audits.errors import MisuseError

__all__ = ["Interval", "clopper_pearson", "normal"]


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds, each of which fails with probability at most `alpha`.

    The pair is therefore a two-sided interval at level 1 − 2·alpha; a verdict reads one bound only.

    Attributes:
        low: lower confidence bound.
        estimate: point estimate, low ≤ estimate ≤ high.
        high: upper confidence bound; verdicts use this one, never the estimate.
        alpha: error probability of each bound on its own, in (0, ½).
        method: name of the estimator, for the reader of a certificate.
    """

    low: float
    estimate: float
    high: float
    alpha: float
    method: str


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 0.5:
        raise MisuseError(f"alpha {alpha!r} is not in (0, 0.5)")


def clopper_pearson(successes: int, trials: int, alpha: float) -> Interval:
    """Exact binomial bounds, each one-sided at `alpha` (Clopper & Pearson 1934).

    >>> interval = clopper_pearson(0, 59, 0.05)
    >>> round(interval.high, 3)     # the "rule of three"
    0.05

    Args:
        successes: 0 ≤ successes ≤ trials.
        trials: ≥ 0; with 0 trials the interval is [0, 1].
        alpha: error of each bound.

    Raises:
        MisuseError: counts or alpha out of range.
    """
    _check_alpha(alpha)
    if not 0 <= successes <= trials:
        raise MisuseError(f"{successes} successes of {trials} trials")
    low = float(stats.beta.ppf(alpha, successes, trials - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1.0 - alpha, successes + 1, trials - successes)) if successes < trials else 1.0
    estimate = successes / trials if trials else 0.5
    return Interval(low, estimate, high, alpha, "Clopper-Pearson")


def normal(estimate: float, std: float, alpha: float, method: str) -> Interval:
    """Normal bounds clipped to [0, 1], for rates and areas whose variance is known or bounded.

    Args:
        estimate: the rate; values outside [0, 1] (noise can do that) are clipped.
        std: its standard deviation, ≥ 0; a non-finite one gives [0, 1].
        alpha: error of each bound.
        method: name printed beside the number.
    """
    _check_alpha(alpha)
    if not (math.isfinite(estimate) and math.isfinite(std)):
        return Interval(0.0, 0.5, 1.0, alpha, method)
    reach = -float(special.ndtri(alpha)) * std
    low, high = (min(1.0, max(0.0, bound)) for bound in (estimate - reach, estimate + reach))
    return Interval(low, min(1.0, max(0.0, estimate)), high, alpha, method)
