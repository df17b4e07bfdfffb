"""A public joint normal model of covariates, and what it says of a patient's missing ones.

Every conditional mean here is a linear regression of the missing covariates on the observed ones, with the
coefficients of the normal equations: for missing m and observed o, B = Σ_mo Σ_oo⁻¹ and C = Σ_mm − B Σ_om, computed from
the precision P = Σ⁻¹ as C = P_mm⁻¹ and B = −C P_mo. There is one such regression per pattern of missing values, a
function of the pattern and of the released model alone.

Everything is element-wise float64 in a fixed order, no BLAS: a patient's numbers have the same bits whoever else is in
the table, and a model made of released sums has the same bits at every hospital.

Source: Little & Rubin, Statistical Analysis with Missing Data, 3rd ed. 2019, ch. 7 and 11.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data import INPUT_BOUND, Bool, Float64
from models.errors import MisuseError

__all__ = ["LEAST_VARIANCE", "Covariate", "JointNormal", "Pattern", "cholesky", "inverse"]

LEAST_VARIANCE: Final = 1e-3  # in units of the profile's spread, squared; a property of one patient in a thousand
UNEXPLAINED: Final = 0.05  # of each variance at least so much stays unexplained: noise must not look like certainty


@dataclass(frozen=True)
class Covariate:
    """One column that is imputed or imputed from.

    Args:
        name: public; in the digest.
        column: place in the study's features, ≥ 0.
        low, high: public bounds of the scaled values, inside ±`INPUT_BOUND`; of a two-valued one its two values.
        two_valued: a property that a patient has (high) or has not (low): its conditional mean is a probability.

    Raises:
        MisuseError: no name, a negative place, or bounds that do not increase.
    """

    name: str
    column: int
    low: float
    high: float
    two_valued: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.name or self.column < 0:
            raise MisuseError("a covariate has a name and a place among the features")
        if not -INPUT_BOUND <= self.low < self.high <= INPUT_BOUND:
            raise MisuseError(f"{self.name}: bounds lie inside ±{INPUT_BOUND:g}, the lower one first")

    @property
    def largest_variance(self) -> float:
        """No variable inside these bounds has a larger one (Popoviciu)."""
        width = self.high - self.low
        return width * width / 4.0

    def variance(self, mean: float, moment: float) -> float:
        """Variance that a released second central moment is taken to mean, inside public bounds."""
        if self.two_valued:  # the mean says it all, and its noise is the smaller
            moment = (mean - self.low) * (self.high - mean)
        return min(max(moment, LEAST_VARIANCE), max(self.largest_variance, LEAST_VARIANCE))


@dataclass(frozen=True, eq=False)
class Pattern:
    """Patients who lack the same covariates, and the regression for them.

    Args:
        rows: their places in the table.
        missing, observed: places among the covariates.
        coefficients: B, float64[missing, observed].
        covariance: C, float64[missing, missing], of what is missing given what is not.
    """

    rows: NDArray[np.intp] = field(repr=False)
    missing: NDArray[np.intp] = field(repr=False)
    observed: NDArray[np.intp] = field(repr=False)
    coefficients: Float64 = field(repr=False)
    covariance: Float64 = field(repr=False)


@dataclass(frozen=True, eq=False)
class JointNormal:
    """Means and covariances of the covariates: the study's public start, or made of released sums.

    Args:
        covariates: p of them, names and columns each once.
        mean: float64[p].
        covariance: float64[p, p], symmetric positive definite.

    Raises:
        MisuseError: other shapes, a covariate named twice, or no positive definite matrix.
    """

    covariates: tuple[Covariate, ...]
    mean: Float64 = field(repr=False)
    covariance: Float64 = field(repr=False)

    def __post_init__(self) -> None:
        """Check and freeze private copies."""
        p = len(self.covariates)
        if p < 1 or any(len({getattr(c, key) for c in self.covariates}) < p for key in ("name", "column")):
            raise MisuseError("a joint model needs at least one covariate, each once")
        if self.mean.shape != (p,) or self.covariance.shape != (p, p):
            raise MisuseError(f"{p} covariates need mean[{p}] and covariance[{p}, {p}]")
        for name in ("mean", "covariance"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not (np.isfinite(self.mean).all() and np.array_equal(self.covariance, self.covariance.T)):
            raise MisuseError("a joint model is finite and its covariance symmetric")
        inverse(self.covariance)  # raises unless it is positive definite

    @classmethod
    def start(cls, covariates: tuple[Covariate, ...]) -> JointNormal:
        """What is known before any patient: the profile's centre (0) and spread (1), nothing correlated.

        Filling by it is the reference fill.
        """
        mean = np.array([min(max(0.0, c.low), c.high) for c in covariates])
        spread = np.diag([max(min(1.0, c.largest_variance), LEAST_VARIANCE) for c in covariates])
        return cls(covariates, mean, spread)

    @property
    def digest(self) -> bytes:
        """SHA-256 of all numbers: equal at all sites, whatever their CPU."""
        numbers = np.concatenate([self.mean, self.covariance.ravel()])
        return hashlib.sha256(numbers.astype("<f8").tobytes()).digest()

    @cached_property
    def precision(self) -> Float64:
        """P = Σ⁻¹, float64[p, p]."""
        return inverse(self.covariance)

    def patterns(self, observed: Bool) -> Iterator[Pattern]:
        """Groups of patients with something missing.

        Args:
            observed: bool[n, p], columns as `covariates`.
        """
        kinds, group = np.unique(observed, axis=0, return_inverse=True)
        for place, seen in enumerate(kinds):
            missing, there = np.flatnonzero(~seen), np.flatnonzero(seen)
            if not len(missing):
                continue
            spread = inverse(self.precision[np.ix_(missing, missing)])
            coefficients = np.zeros((len(missing), len(there)))
            for k, row in enumerate(missing):
                coefficients -= spread[:, k, None] * self.precision[row, there]
            yield Pattern(np.flatnonzero(group.ravel() == place), missing, there, coefficients, spread)

    def expected(self, x: Float64, pattern: Pattern) -> Float64:
        """Conditional means of a pattern's patients, float64[rows, missing], not yet bounded.

        Args:
            x: float64[n, p], the whole table; only observed values are read.
            pattern: from `patterns`.
        """
        found = np.tile(self.mean[pattern.missing], (len(pattern.rows), 1))
        for k, column in enumerate(pattern.observed):
            found += (x[pattern.rows, column] - self.mean[column])[:, None] * pattern.coefficients[:, k]
        return found

    def columns(self, x: Float64, observed: Bool) -> tuple[Float64, Bool]:
        """The covariates of a table inside their public bounds, 0 where not observed: float64[n, p], bool[n, p].

        Raises:
            MisuseError: the table lacks a covariate's column.
        """
        places = [c.column for c in self.covariates]
        if max(places) >= x.shape[1]:
            raise MisuseError(f"the data have {x.shape[1]} features, a covariate is in column {max(places)}")
        seen = observed[:, places]
        inside = np.where(seen, np.nan_to_num(x[:, places], nan=0.0), 0.0)
        return np.clip(inside, *self.bounds), seen

    @property
    def bounds(self) -> tuple[Float64, Float64]:
        """Public lower and upper bounds, float64[p] each."""
        return np.array([c.low for c in self.covariates]), np.array([c.high for c in self.covariates])


def inverse(matrix: Float64) -> Float64:
    """Inverse of a symmetric positive definite matrix by sweeping every pivot, element-wise.

    Raises:
        MisuseError: a pivot that is not positive.
    """
    work = matrix.copy()
    for k in range(len(work)):
        pivot = float(work[k, k])
        if not 0.0 < pivot < math.inf:
            raise MisuseError("a covariance matrix must be positive definite")
        row = work[k] / pivot
        column = work[:, k].copy()
        work -= column[:, None] * row[None, :]
        work[k], work[:, k] = row, column / pivot
        work[k, k] = -1.0 / pivot
    return -(work + work.T) / 2.0


def cholesky(matrix: Float64, share: float = 0.0) -> Float64:
    """Lower factor of the matrix or, where a pivot is below its share of the variance, of one near by.

    A row that noise made longer than its variance is shortened, so that variances stay as they are. Plain float64
    operations in a fixed order.

    Args:
        matrix: float64[p, p], symmetric, variances > 0.
        share: of each variance that the earlier variables leave unexplained at least, in [0, 1].
    """
    p = len(matrix)
    values, lower = matrix.tolist(), [[0.0] * p for _ in range(p)]
    for i in range(p):
        row, variance = lower[i], values[i][i]
        for j in range(i):
            earlier = lower[j]
            row[j] = (values[i][j] - math.fsum(row[m] * earlier[m] for m in range(j))) / earlier[j]
        length, room = math.fsum(value * value for value in row[:i]), (1.0 - share) * variance
        if length > room:
            shrink = math.sqrt(room / length)
            row[:i] = [value * shrink for value in row[:i]]
            length = room
        row[i] = math.sqrt(max(variance - length, LEAST_VARIANCE * variance))
    return np.array(lower)
