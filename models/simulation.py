"""Invented patients under proportional hazards, described by public numbers alone.

For planning: what could a federation of these sizes learn? Nobody's record is in it, so nothing here costs privacy,
and nothing here is evidence about a real cohort.

    log h(t | x) = log λ + f(x),    f = s·(√(1 − q)·ℓ(x) + √q·m(x))

ℓ is linear, with effects that fall by a fifth from one column to the next and alternate in sign; m is the sum of the
products of neighbouring columns, each less its mean (what a linear model cannot learn); both have mean 0 and variance 1
in the invented population. Columns are independent. λ gives the population's median survival, and s the C-index that
the true f would reach without censoring, C = E[1/(1 + e^−|f − f'|)] over pairs of patients (a tie counts ½). Follow-up
ends independently of x, uniformly between 0 and twice its median.

Source: Bender, Augustin & Blettner, Stat Med 2005;24:1713 (survival times under proportional hazards).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.data import Float64, SurvivalData
from models.errors import ConfigError

_DECAY = 0.8
_REFERENCE = 20_000  # patients whose mean and spread stand for the population's
_LARGEST = 64.0  # factor on a standardised risk


@dataclass(frozen=True)
class Column:
    """One feature on the scale that models see.

    Args:
        low, high: public bounds after scaling, low < high.
        share: None = a number, normal around 0 with spread 1, clipped to the bounds; else a property with the two
            values low and high, high with this probability.

    Raises:
        ConfigError: bounds that are not finite and increasing, or a share outside (0, 1).
    """

    low: float
    high: float
    share: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges once."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError("a column needs finite bounds, the lower one first")
        if self.share is not None and not 0 < self.share < 1:
            raise ConfigError("the share of patients with a property lies between 0 and 1")


@dataclass(frozen=True)
class Disease:
    """The public numbers of a population.

    Args:
        columns: features, at least one.
        concordance: C-index of the true risk, 0.5 … 0.9 (0.5: nothing can be predicted).
        median_survival: days, > 0.
        follow_up: median potential follow-up in days, > 0.
        missing: probability that a value was not measured, in [0, 1).
        nonlinear: q, share of the risk's variance that a linear model cannot learn, in [0, 1).

    Raises:
        ConfigError: a value outside its range; names it.
    """

    columns: tuple[Column, ...]
    concordance: float
    median_survival: float
    follow_up: float
    missing: float = 0.0
    nonlinear: float = 0.2

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        problems = {
            "there is no column": not self.columns,
            f"a C-index of {self.concordance:g} is not in 0.5 … 0.9": not 0.5 <= self.concordance <= 0.9,
            "the median survival must be above 0 days": not 0 < self.median_survival < math.inf,
            "the follow-up must be above 0 days": not 0 < self.follow_up < math.inf,
            "the share of missing values must be in [0, 1)": not 0 <= self.missing < 1,
            "the share of non-linear risk must be in [0, 1)": not 0 <= self.nonlinear < 1,
        }
        for problem, present in problems.items():
            if present:
                raise ConfigError(f"cannot invent patients: {problem}")


class Population:
    """Draws patients of one disease.

    Args:
        disease: the public numbers.
        rng: fixes the population (what its mean and spread are taken from); draws have their own.
    """

    def __init__(self, disease: Disease, rng: np.random.Generator) -> None:
        self.disease = disease
        signs = np.where(np.arange(len(disease.columns)) % 2 == 0, 1.0, -1.0)
        self._effects = signs * _DECAY ** np.arange(len(disease.columns))
        sample = self._features(_REFERENCE, rng)
        self._centre = sample.mean(axis=0)
        parts = self._parts(sample)
        self._mean, deviation = parts.mean(axis=0), parts.std(axis=0)
        self._spread = np.where(deviation > 0, deviation, 1.0)
        self._scale = 1.0
        pairs = self.risk(sample).reshape(2, -1)
        self._scale = spread(np.abs(pairs[0] - pairs[1]), disease.concordance)
        self._rate = _rate(self.risk(sample), disease.median_survival)

    @property
    def features(self) -> int:
        """Number of columns."""
        return len(self.disease.columns)

    def risk(self, x: Float64) -> Float64:
        """True log-risk of complete records, float64[n, p] → float64[n]; higher = earlier death."""
        standard = (self._parts(x) - self._mean) / self._spread
        linear, products = math.sqrt(1 - self._nonlinear), math.sqrt(self._nonlinear)
        risk: Float64 = self._scale * (linear * standard[:, 0] + products * standard[:, 1])
        return risk

    def draw(self, patients: int, rng: np.random.Generator) -> SurvivalData:
        """Return so many new patients.

        Args:
            patients: n ≥ 0.
            rng: its state decides who they are.
        """
        x = self._features(patients, rng)
        death = rng.exponential(size=patients) / (self._rate * np.exp(self.risk(x)))
        end = rng.uniform(0.0, 2.0 * self.disease.follow_up, size=patients)
        observed = rng.random(x.shape) >= self.disease.missing
        return SurvivalData(x, observed, np.minimum(death, end), death <= end)

    @property
    def _nonlinear(self) -> float:
        """A single column has no neighbour."""
        return self.disease.nonlinear if self.features > 1 else 0.0

    def _features(self, patients: int, rng: np.random.Generator) -> Float64:
        x = np.empty((patients, self.features))
        for place, column in enumerate(self.disease.columns):
            if column.share is None:
                x[:, place] = np.clip(rng.normal(size=patients), column.low, column.high)
            else:
                x[:, place] = np.where(rng.random(patients) < column.share, column.high, column.low)
        return x

    def _parts(self, x: Float64) -> Float64:
        """[n, p] → [n, 2]: the linear part and the products, neither standardised."""
        centred = x - self._centre
        return np.stack([x @ self._effects, np.sum(centred[:, :-1] * centred[:, 1:], axis=1)], axis=1)


def spread(differences: Float64, concordance: float) -> float:
    """Return the factor on risks that gives this C-index, without censoring.

    >>> gaussian = np.sqrt(2) * np.abs(np.random.default_rng(0).normal(size=100_000))
    >>> round(spread(gaussian, 0.7), 1)
    0.8

    Args:
        differences: |f − f'| of pairs of patients.
        concordance: 0.5 … 0.9.

    Raises:
        ConfigError: too many pairs are tied: no factor reaches it.
    """
    if concordance <= 0.5:
        return 0.0

    def reached(factor: float) -> float:
        return float(np.mean(1.0 / (1.0 + np.exp(-factor * differences))))

    if reached(_LARGEST) <= concordance:
        raise ConfigError(
            f"cannot invent patients: with these columns no risk reaches a C-index of {concordance:g}, too many people "
            "are alike; lower it, or use a profile with more columns"
        )
    return _bisect(0.0, _LARGEST, lambda factor: reached(factor) < concordance)


def _rate(risk: Float64, median: float) -> float:
    """λ per day such that half of a population with these risks is alive at the median."""
    hazard = np.exp(risk)
    # The rate at the mean risk; the true one is off by far less than a factor of 64.
    high = 64.0 * math.log(2.0) / (median * float(np.exp(np.mean(risk))))
    return _bisect(0.0, high, lambda rate: float(np.mean(np.exp(-rate * median * hazard))) > 0.5)


def _bisect(low: float, high: float, below: Callable[[float], bool]) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
