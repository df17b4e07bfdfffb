"""One cell per patient: histograms on public bins."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64, Int64, Neighbours, Query, norm, query_of
from dp.releases.estimate import QUANTILE, Estimate, checked
from dp.releases.records import Records


def cell_counts(cells: Int64, length: int) -> Float64:
    """Return how many patients are in each cell, float64[length] of whole numbers: exact.

    Args:
        cells: int64[n], one cell per patient, 0 … length − 1; −1 = he contributes zero.
        length: number of cells.
    """
    return np.bincount(cells[cells >= 0], minlength=length).astype(np.float64)


def cell_sensitivity(neighbours: Neighbours, blocks: int = 1) -> float:
    """√m for patients who add at most 1 to one cell of each of m blocks; √(2m) for replace-one.

    Proof: a patient's vector has at most m ones, so its norm is ≤ √m. All coordinates are ≥ 0, hence for two
    patients ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩ ≤ 2m, reached by patients who share no cell. ∎
    """
    return norm(blocks if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2 * blocks)


@dataclass(frozen=True)
class NoisyCounts:
    """Released counts.

    Args:
        values: noisy counts, unbiased: some may be below zero.
        error: standard error of each; only the noise, for they count these patients and no population.
    """

    values: tuple[float, ...]
    error: float

    @property
    def total(self) -> Estimate:
        """Number of patients."""
        return Estimate.of(math.fsum(self.values), self.error * math.sqrt(len(self.values)), lowest=0.0)

    @property
    def cells(self) -> tuple[Estimate, ...]:
        """Each count, cut at zero."""
        return tuple(Estimate.of(value, self.error, lowest=0.0) for value in self.values)

    @property
    def shares(self) -> tuple[Estimate, ...]:
        """Each count ÷ total; "not resolved" if the total is not clear of the noise.

        For a share p = S/N the error S − pN has variance σ²((1−p)² + p²(B−1)).
        """
        total = self.total
        if total.low <= 0.0:
            return tuple(Estimate.unresolved(0.0, 1.0) for _ in self.values)
        shares = []
        for value in self.values:
            p = min(max(value / total.value, 0.0), 1.0)
            spread = math.sqrt((1.0 - p) ** 2 + p * p * (len(self.values) - 1))
            shares.append(Estimate.of(p, self.error * spread / total.value, 0.0, 1.0))
        return tuple(shares)

    def __str__(self) -> str:
        return ", ".join(f"{value:.1f}" for value in self.values) + f" (each ± {QUANTILE * self.error:.1f}, 95 %)"


@dataclass(frozen=True)
class Histogram:
    """Counts of patients in public bins (−∞, e₁), [e₁, e₂), …, [e_{B−1}, ∞).

    | patient                     | contribution                               |
    |-----------------------------|--------------------------------------------|
    | value on an edge            | the bin above it                           |
    | NaN, ±inf                   | zero                                       |
    | several records             | his first finite one                       |

    Args:
        name: what is counted; public.
        edges: B − 1 strictly increasing finite numbers, public: never quantiles of anything.
        kind: "histogram", or another kind whose release is one.

    Raises:
        MisuseError: no edge, or edges that do not increase.
    """

    name: str
    edges: tuple[float, ...]
    kind: str = "histogram"

    def __post_init__(self) -> None:
        if not self.edges or not all(math.isfinite(edge) for edge in self.edges):
            raise MisuseError(f"{self.kind}: a histogram needs at least one finite edge")
        if any(left >= right for left, right in pairwise(self.edges)):
            raise MisuseError(f"{self.kind}: the edges of a histogram must strictly increase")

    @property
    def length(self) -> int:
        """Number of bins B."""
        return len(self.edges) + 1

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and √2 for replace-one.

        Proof: a patient adds 1 to one bin or nothing, and which bin is a function of his records and
        the public edges: `cell_sensitivity` with one block. ∎
        """
        return cell_sensitivity(neighbours)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        return query_of(self, {"name": self.name, "edges": self.edges}, multiplier, patient_cap, index)

    def contribution(self, data: Records) -> Float64:
        """Return the site's counts, float64[B], whole numbers."""
        values = data.of_width(self.kind, 1).firsts(np.isfinite(data.values[:, 0]))[:, 0]
        return cell_counts(np.searchsorted(np.asarray(self.edges), values, side="right"), self.length)

    def decode(self, total: Float64, noise_sd: float) -> NoisyCounts:
        """Return the counts with their standard error."""
        return NoisyCounts(tuple(checked(self.kind, total, self.length, noise_sd).tolist()), noise_sd)
