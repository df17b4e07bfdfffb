"""What ε and μ mean to a data protection officer: the best that any attacker can do.

Two kinds of numbers. `posterior` holds for every differentially private release and needs ε alone;
it ignores δ, the probability with which it may fail. The others are exact for Gaussian noise and need μ:
they belong to the optimal attacker who knows everything but whether one patient took part.

Compare studies by μ, not by ε: two mechanisms with one ε at one δ can differ in what they protect.

>>> round(accuracy(0.5), 2), round(true_positive_rate(0.5, 0.01), 3)
(0.6, 0.034)
>>> round(posterior(2.0, 0.1), 2)
0.45

Source: Dong, Roth & Su 2022 (trade-off function of Gaussian DP); Kaissis et al. 2022 for the readings.
"""

import math
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from dp.errors import MisuseError


@dataclass(frozen=True)
class Meaning:
    """The plain-language numbers of one account, each a probability.

    Args:
        accuracy: best attacker's share of right answers when half of the candidates took part.
        caught: share of the participants he names when one in 100 of the others is named wrongly.
        suspicion: (suspicion before, largest suspicion after) by ε.
        precision: (share of participants among candidates, share of right ones among those he
            names at 1 % false alarms).
    """

    accuracy: float
    caught: float
    suspicion: tuple[tuple[float, float], ...]
    precision: tuple[tuple[float, float], ...]


def meaning(mu: float, epsilon: float, priors: tuple[float, ...] = (0.5, 0.1, 0.01)) -> Meaning:
    """Return the plain-language numbers of a μ-GDP history whose headline is ε.

    Args:
        mu: ≥ 0.
        epsilon: ≥ 0.
        priors: suspicions before the release, each in (0, 1).
    """
    return Meaning(
        accuracy(mu),
        true_positive_rate(mu, 0.01),
        tuple((prior, posterior(epsilon, prior)) for prior in priors),
        tuple((prior, precision(mu, prior, 0.01)) for prior in priors),
    )


def accuracy(mu: float) -> float:
    """Return the best attacker's accuracy with a fair coin as prior: Φ(μ/2); 0.5 is guessing."""
    return float(ndtr(mu / 2))


def true_positive_rate(mu: float, false_positive_rate: float) -> float:
    """Return the largest true positive rate at a false positive rate: Φ(Φ⁻¹(α) + μ).

    Raises:
        MisuseError: the rate is not in (0, 1).
    """
    _probability(false_positive_rate, "false positive rate")
    return float(ndtr(ndtri(false_positive_rate) + mu))


def precision(mu: float, prior: float, false_positive_rate: float) -> float:
    """Return the positive predictive value of the best attacker at a false positive rate.

    Raises:
        MisuseError: a probability is not in (0, 1).
    """
    _probability(prior, "prior")
    hit = prior * true_positive_rate(mu, false_positive_rate)
    return hit / (hit + (1 - prior) * false_positive_rate)


def posterior(epsilon: float, prior: float) -> float:
    """Return the largest suspicion after the release: odds grow at most by e^ε.

    Raises:
        MisuseError: the prior is not in (0, 1).
    """
    _probability(prior, "prior")
    return prior / (prior + (1 - prior) * math.exp(-epsilon))


def _probability(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise MisuseError(f"the {name} must lie between 0 and 1")
