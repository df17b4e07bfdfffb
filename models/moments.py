"""DP moments of incomplete records: the normal equations of every covariate on all others, in one bounded sum.

Each patient adds the first two moments of his record as the last released model expects them: observed values as they
are, missing ones by their conditional mean and covariance, cut to a public norm. Repeated with the model of the sums it
is EM for a joint normal model.

Source: Dempster, Laird & Rubin, JRSS B 1977;39:1 (EM); Park et al., AISTATS 2017 (arXiv 1605.06995: EM with bounded
sums); Wang, UAI 2018 (arXiv 1803.02596: a ridge as large as the noise in the moments).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, norm, query_of
from dp.releases import QUANTILE, Estimate
from dp.releases.estimate import checked
from dp.rows import clipped_rows
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.gaussian import UNEXPLAINED, JointNormal, cholesky

__all__ = ["Moments", "NoisyMoments"]

RESOLVED: Final = 2.0  # a round counts if its noisy number of patients exceeds this many 95 % noise bounds
_ROOT_TWO: Final = math.sqrt(2.0)


@dataclass(frozen=True, eq=False)
class NoisyMoments:
    """What one round says.

    Args:
        model: new; the old one if the round is not resolved.
        patients: number of patients.
        mean_error: standard error of each mean from the noise, in spreads; inf if not resolved.
        ridge: λ by which covariances were shrunk, the size of the noise in them; inf if not resolved.
    """

    model: JointNormal = field(repr=False)
    patients: Estimate
    mean_error: float
    ridge: float

    @property
    def resolved(self) -> bool:
        """Whether the noise left anything to learn."""
        return self.patients.resolved

    def __str__(self) -> str:
        if not self.resolved:
            return "not resolved"
        return f"{self.patients} patients, means ± {self.mean_error:.2g}, ridge {self.ridge:.2g}"


@dataclass(frozen=True, eq=False)
class Moments:
    """Σ over patients of (1, E x/R, E xxᵀ/R²), expected under the last released model.

    | patient                                   | contribution                                             |
    |-------------------------------------------|----------------------------------------------------------|
    | tr E xxᵀ ≤ R²                             | (1, E x/R, E xxᵀ/R²), the matrix as a triangle           |
    | larger                                    | the same of x·R/√(tr E xxᵀ)                              |
    | no covariate observed                     | the model's own moments                                  |
    | an observed value or the duration not finite | exactly zero                                          |

    The triangle has √2 on the entries off the diagonal: the same norm in half the coordinates.

    Args:
        model: released before, or the public start; its digest is in the query's.
        radius: R > 0, public.
        kind: "sum".

    Raises:
        MisuseError: no radius.
    """

    model: JointNormal = field(repr=False)
    radius: float
    kind: str = "sum"

    def __post_init__(self) -> None:
        """Check the radius."""
        if not 2.0**-20 < self.radius < 2.0**20:
            raise MisuseError("moments need a public radius between 2^-20 and 2^20")

    @property
    def length(self) -> int:
        """1 + p + p(p + 1)/2."""
        p = len(self.model.covariates)
        return 1 + p + p * (p + 1) // 2

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√3, and √4.5 for replace-one.

        Proof: let M = E xxᵀ/R² = mmᵀ + C with m = E x/R and C positive semidefinite, and s² = tr M ≤ 1 after the cut.
        Then ‖m‖² ≤ s², and ‖M‖_F ≤ tr M = s² as M is positive semidefinite; the triangle has the norm of M. So a
        patient's vector has squared norm ≤ 1 + s² + s⁴ ≤ 3. It is a function of his record and the released model:
        nobody else's moves.
        Replace-one: the ones cancel. For (m, M) and (m', M') with t = ⟨m, m'⟩, tr MM' ≥ (mᵀm')² = t², since a product
        of positive semidefinite matrices has no negative trace. ‖m − m'‖² + ‖M − M'‖² ≤ 2 − 2t + 2 − 2t² ≤ 4.5, at
        t = −½. Exchanged for somebody who adds zero: ≤ 3. ∎
        """
        return norm(3 if neighbours is Neighbours.ADD_OR_REMOVE_ONE else Fraction(9, 2))

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the model that missing values are expected under."""
        listed = tuple((c.name, c.column, c.low, c.high, int(c.two_valued)) for c in self.model.covariates)
        constants = {"covariates": listed, "radius": self.radius, "unexplained": UNEXPLAINED}
        return query_of(self, constants, multiplier, patient_cap, index).about(self.model.digest)

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's sum, float64[length], exact (`dp.rows`).

        Raises:
            MisuseError: the data lack a covariate's column.
        """
        usable = data.bounded(math.inf)
        return clipped_rows(self._rows(usable), self.sensitivity(Neighbours.ADD_OR_REMOVE_ONE))

    def decode(self, total: Float64, noise_sd: float) -> NoisyMoments:
        """Return the next model: means and covariances inside public bounds, positive definite whatever the noise.

        The noise in the matrix of covariances has a spectral norm of about λ = √(2p)·sd·R²/N. Variances stay; a
        covariance is divided by √((1 + λ/v_j)(1 + λ/v_k)), which is Σ + λI scaled back to the variances of Σ. What is
        still not positive definite is made so by leaving at least `UNEXPLAINED` of each variance to each pivot.
        """
        checked(self.kind, total, self.length, noise_sd)
        covariates, p = self.model.covariates, len(self.model.covariates)
        size = float(total[0])
        if size <= max(RESOLVED * QUANTILE * noise_sd, 1.0):
            return NoisyMoments(self.model, Estimate.unresolved(0.0), math.inf, math.inf)
        low, high = self.model.bounds
        mean = np.clip(total[1 : p + 1] / size * self.radius, low, high)
        first, second = np.triu_indices(p)
        entries = total[p + 1 :] / np.where(first == second, 1.0, _ROOT_TWO) / size * (self.radius * self.radius)
        moments = np.zeros((p, p))
        moments[first, second] = moments[second, first] = entries - mean[first] * mean[second]
        ridge = math.sqrt(2.0 * p) * noise_sd * self.radius * self.radius / size
        variances = np.array([c.variance(mean[i], moments[i, i]) for i, c in enumerate(covariates)])
        shrink = np.sqrt(variances / (variances + ridge))
        moments *= shrink[:, None] * shrink[None, :]
        np.fill_diagonal(moments, variances)
        model = JointNormal(covariates, mean, _product(cholesky(moments, UNEXPLAINED)))
        error = noise_sd * self.radius / size * math.sqrt(1.0 + float(np.max(mean * mean)) / self.radius**2)
        return NoisyMoments(model, Estimate.of(size, noise_sd, lowest=0.0), error, ridge)

    def _rows(self, data: SurvivalData) -> Float64:
        model, n = self.model, len(data)
        x, observed = model.columns(data.x, data.observed)
        p = x.shape[1]
        first, second = np.triu_indices(p)
        entry = np.zeros((p, p), dtype=np.intp)
        entry[first, second] = entry[second, first] = np.arange(len(first))
        spread, trace = np.zeros((n, len(first))), np.zeros(n)
        for pattern in model.patterns(observed):
            x[np.ix_(pattern.rows, pattern.missing)] = model.expected(x, pattern)
            above = np.triu_indices(len(pattern.missing))
            places = entry[pattern.missing[above[0]], pattern.missing[above[1]]]
            spread[np.ix_(pattern.rows, places)] = pattern.covariance[above]
            trace[pattern.rows] = math.fsum(np.diag(pattern.covariance).tolist())
        x = np.clip(x, *model.bounds)
        square = trace
        for column in range(p):
            square = square + x[:, column] * x[:, column]
        scale = np.maximum(np.sqrt(square), self.radius)[:, None]
        x = x / scale
        pairs = (x[:, first] * x[:, second] + spread / (scale * scale)) * np.where(first == second, 1.0, _ROOT_TWO)
        return np.concatenate([np.ones((n, 1)), x, pairs], axis=1)


def _product(factor: Float64) -> Float64:
    """L Lᵀ by additions in a fixed order, exactly symmetric."""
    out = np.zeros_like(factor)
    for k in range(len(factor)):
        out += factor[:, k, None] * factor[None, :, k]
    return out
