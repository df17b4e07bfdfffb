"""DP-EM: the sufficient statistics of a Gaussian mixture, one bounded vector per patient.

An EM step needs N_k = Σ r_k, Σ r_k x and Σ r_k xxᵀ. With x clipped to ‖x‖ ≤ R and the responsibilities r of the
*released* mixture, a patient's vector is ⊕_k r_k (1, x/R, xxᵀ/R²), the symmetric matrix as its upper
triangle with the off-diagonal entries times √2: the same norm in half the coordinates. The start is public,
the number of steps too, and each step is one release.

Everything after a release is + − × ÷ √ on released numbers in a fixed order, so each site has the same next
mixture bit for bit: covariances are kept as Cholesky factors, made positive definite by a floor on the pivots.

Source: Park, Foulds, Chaudhuri & Welling, "DP-EM", AISTATS 2017 (arXiv 1605.06995).
"""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64, Neighbours, Query, norm, query_of
from dp.releases.estimate import QUANTILE, Estimate, checked
from dp.releases.records import Records
from dp.rows import clipped_rows

_ROOT_TWO: Final = math.sqrt(2.0)
RESOLVED: Final = 2.0
"""A component is updated if its noisy size exceeds this many 95 % noise bounds; else it stays as it was."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A public Gaussian mixture: the study's start, or made of released sums.

    Args:
        weights: float64[K], > 0, summing to 1 but for rounding.
        means: float64[K, D].
        factors: float64[K, D, D], lower-triangular Cholesky factors of the covariances, positive diagonals.

    Raises:
        MisuseError: other shapes, or no mixture.
    """

    weights: Float64 = field(repr=False)
    means: Float64 = field(repr=False)
    factors: Float64 = field(repr=False)

    def __post_init__(self) -> None:
        k, d = self.means.shape if self.means.ndim == 2 else (0, 0)
        if k < 1 or d < 1 or self.weights.shape != (k,) or self.factors.shape != (k, d, d):
            raise MisuseError("a mixture needs weights[K], means[K, D] and factors[K, D, D]")
        finite = all(bool(np.isfinite(a).all()) for a in (self.weights, self.means, self.factors))
        if not finite or self.weights.min() <= 0 or np.einsum("kii->ki", self.factors).min() <= 0:
            raise MisuseError("a mixture's weights and pivots are positive and everything is finite")

    @property
    def covariances(self) -> Float64:
        """float64[K, D, D]."""
        return self.factors @ self.factors.transpose(0, 2, 1)

    def responsibilities(self, x: Float64) -> Float64:
        """P(component | x), float64[n, K]: non-negative, rows sum to 1; each row a function of that row alone.

        Element-wise, so that a patient's numbers have the same bits whoever else is in the table.
        """
        logs = np.empty((len(x), len(self.weights)))
        for k, (weight, mean, factor) in enumerate(zip(self.weights, self.means, self.factors, strict=True)):
            square = np.zeros(len(x))
            solved: list[Float64] = []
            for i in range(x.shape[1]):  # forward substitution
                z = x[:, i] - mean[i]
                for j, earlier in enumerate(solved):
                    z = z - factor[i, j] * earlier
                solved.append(z / factor[i, i])
                square += solved[-1] * solved[-1]
            scale = math.fsum(math.log(float(factor[i, i])) for i in range(x.shape[1]))
            logs[:, k] = math.log(float(weight)) - scale - square / 2.0
        top = logs[:, 0]
        for k in range(1, logs.shape[1]):
            top = np.maximum(top, logs[:, k])
        likelihood = np.exp(logs - top[:, None])
        total = likelihood[:, 0].copy()
        for k in range(1, logs.shape[1]):
            total += likelihood[:, k]
        return likelihood / total[:, None]


@dataclass(frozen=True, eq=False)
class NoisyMixture:
    """The mixture after one released step.

    Args:
        mixture: with the components that were resolved updated.
        sizes: each component's number of patients; "not resolved" ones kept their mean and covariance.
        mean_errors: standard error of each coordinate of a component's mean from the noise; inf if not resolved.
    """

    mixture: Mixture
    sizes: tuple[Estimate, ...]
    mean_errors: tuple[float, ...]

    def __str__(self) -> str:
        return "; ".join(f"component {k}: {size} patients" for k, size in enumerate(self.sizes))


@dataclass(frozen=True, eq=False)
class MixtureStatistics:
    """One EM step's sums.

    | patient                  | contribution                                  |
    |--------------------------|-----------------------------------------------|
    | ‖x‖ ≤ R                  | ⊕_k r_k (1, x/R, xxᵀ/R²)                      |
    | ‖x‖ > R                  | that of x·R/‖x‖                               |
    | NaN, ±inf, ‖x‖ > 2⁶⁴·R   | zero                                          |
    | several records          | their sum as x                                |

    Args:
        mixture: released before, or the public start. Its numbers are in the query's digest.
        radius: R > 0, public.
        floor: smallest pivot of a covariance, in units of R²; public.
        kind: "mixture".
    """

    mixture: Mixture
    radius: float
    floor: float = 1e-3
    kind: str = "mixture"

    def __post_init__(self) -> None:
        if not (0 < self.radius < 2.0**64 and 0 < self.floor <= 1):
            raise MisuseError("a mixture needs a public radius > 0 and a floor in (0, 1]")

    @property
    def _block(self) -> int:
        d = int(self.mixture.means.shape[1])
        return 1 + d + d * (d + 1) // 2

    @property
    def length(self) -> int:
        """K·(1 + D + D(D+1)/2)."""
        return len(self.mixture.weights) * self._block

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√3, and √6 for replace-one.

        Proof: with s = ‖x‖/R ≤ 1 a patient's vector has the squared norm Σ_k r_k² (1 + s² + s⁴): the triangle with √2
        off the diagonal has the Frobenius norm of xxᵀ/R², which is s². As r_k ≥ 0 and Σ r_k = 1, Σ r_k² ≤ 1: at most
        3. r is a function of x and the released mixture, so no other patient's vector moves.
        Replace-one: for patients x, y with t = ⟨x, y⟩/R² ∈ [−1, 1] the inner product is Σ_k r_k r'_k (1 + t + t²)
        with 1 + t + t² ≥ ¾ > 0: a cone, so ‖a − b‖² ≤ 3 + 3, reached by patients of two components at the rim. ∎
        """
        return norm(3 if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 6)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; the mixture that responsibilities come from is in its digest."""
        state = b"".join(a.astype("<f8").tobytes() for a in (self.mixture.weights, self.mixture.means))
        constants = {
            "radius": self.radius,
            "floor": self.floor,
            "shape": self.mixture.means.shape,
        }
        query = query_of(self, constants, multiplier, patient_cap, index)
        return query.about(state + self.mixture.factors.astype("<f8").tobytes())

    def contribution(self, data: Records) -> Float64:
        """Return the site's sum, float64[length], exact (`dp.rows`)."""
        d = self.mixture.means.shape[1]
        x = data.of_width(self.kind, d).sums() / self.radius
        with np.errstate(over="ignore", invalid="ignore"):
            square = x[:, 0] * x[:, 0]
            for i in range(1, d):
                square = square + x[:, i] * x[:, i]
        sound = square <= 2.0**128  # False for NaN
        x = np.where(sound[:, None], x, 0.0) / np.maximum(np.sqrt(np.where(sound, square, 0.0)), 1.0)[:, None]
        r = self.mixture.responsibilities(x * self.radius)
        first, second = np.triu_indices(d)
        pairs = x[:, first] * x[:, second] * np.where(first == second, 1.0, _ROOT_TWO)
        one = np.concatenate([np.ones((len(x), 1)), x, pairs], axis=1)
        rows = (r[:, :, None] * one[:, None, :]).reshape(len(x), self.length)
        return clipped_rows(np.where(sound[:, None], rows, 0.0), self.sensitivity(Neighbours.ADD_OR_REMOVE_ONE))

    def decode(self, total: Float64, noise_sd: float) -> NoisyMixture:
        """Return the next mixture.

        A component whose noisy size is not clear of the noise keeps its mean and covariance and gets the least weight
        that counts, 1 patient: nothing is invented for it. A covariance is S/N − mmᵀ with its pivots floored.
        """
        checked(self.kind, total, self.length, noise_sd)
        k, d = self.mixture.means.shape
        table = total.reshape(k, self._block)
        limit = RESOLVED * QUANTILE * noise_sd
        means, factors = self.mixture.means.copy(), self.mixture.factors.copy()
        sizes, errors, weights = [], [], []
        for i, row in enumerate(table.tolist()):
            if row[0] <= max(limit, 1.0):
                sizes.append(Estimate.unresolved(0.0))
                errors.append(math.inf)
                weights.append(1.0)
                continue
            sizes.append(Estimate.of(row[0], noise_sd, lowest=0.0))
            weights.append(row[0])
            mean = [min(max(value / row[0], -1.0), 1.0) for value in row[1 : d + 1]]
            spread = sum(value * value for value in mean)
            errors.append(self.radius * noise_sd * math.sqrt(1.0 + spread / d) / row[0])
            means[i] = np.array(mean) * self.radius
            factors[i] = np.array(_factor(_covariance(row[d + 1 :], row[0], mean), self.floor)) * self.radius
        whole = sum(weights)
        mixture = Mixture(np.array([w / whole for w in weights]), means, factors)
        return NoisyMixture(mixture, tuple(sizes), tuple(errors))


def _covariance(triangle: list[float], size: float, mean: list[float]) -> list[list[float]]:
    d = len(mean)
    matrix = [[0.0] * d for _ in range(d)]
    entries = iter(triangle)
    for i in range(d):
        for j in range(i, d):
            scale = 1.0 if i == j else _ROOT_TWO
            matrix[i][j] = matrix[j][i] = next(entries) / scale / size - mean[i] * mean[j]
    return matrix


def _factor(matrix: list[list[float]], floor: float) -> list[list[float]]:
    """Cholesky factor of the nearest-by matrix whose pivots are in [floor, 1] and whose variances are ≤ 1.

    In plain float64 operations in a fixed order. A row that noise made longer than its variance is shortened.
    """
    d = len(matrix)
    lower = [[0.0] * d for _ in range(d)]
    for i in range(d):
        variance = min(max(matrix[i][i], floor), 1.0)
        for j in range(i):
            inner = sum(lower[i][m] * lower[j][m] for m in range(j))
            lower[i][j] = (matrix[i][j] - inner) / lower[j][j]
        length = sum(value * value for value in lower[i][:i])
        if length > variance - floor:
            shrink = math.sqrt(max(variance - floor, 0.0) / length) if length > 0 else 0.0
            lower[i][:i] = [value * shrink for value in lower[i][:i]]
            length = max(variance - floor, 0.0)
        lower[i][i] = math.sqrt(max(variance - length, floor))
    return lower
