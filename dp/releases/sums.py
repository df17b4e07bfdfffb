"""Bounded sums and counts."""

from dataclasses import dataclass

import numpy as np

from dp.queries import Float64, Neighbours, Query, query_of
from dp.releases.estimate import Estimate, checked
from dp.releases.records import Records
from dp.rows import clipped_rows


@dataclass(frozen=True)
class NoisySum:
    """A released vector.

    Args:
        values: one estimate per coordinate; the noise in each has the same known variance.
    """

    values: tuple[Estimate, ...]

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


@dataclass(frozen=True)
class BoundedSum:
    """Σ over patients of his vector, clipped to L2 norm C.

    | patient                          | contribution                       |
    |----------------------------------|------------------------------------|
    | several records                  | their sum, clipped once            |
    | NaN or ±inf in one of them       | zero                               |
    | norm above 2⁶⁴·C                 | zero: no record, a fault           |

    Args:
        name: what is summed; public, in the digest.
        length: d, columns of the records.
        bound: C > 0, public.
        kind: "sum".
    """

    name: str
    length: int
    bound: float
    kind: str = "sum"

    def sensitivity(self, neighbours: Neighbours) -> float:
        """C, and 2C for replace-one.

        Proof: the sum is Σ_p v_p with ‖v_p‖ ≤ C and v_p a function of patient p's records alone
        (`dp.rows`), so one patient more or fewer moves it by ‖v_p‖ ≤ C, and one exchanged by
        ‖v_p − v_q‖ ≤ 2C, reached by v_q = −v_p. ∎
        """
        return self.bound if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2.0 * self.bound

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        return query_of(self, {"name": self.name}, multiplier, patient_cap, index)

    def contribution(self, data: Records) -> Float64:
        """Return the site's sum, float64[d], exact (`dp.rows`)."""
        return clipped_rows(data.of_width(self.kind, self.length).sums(), self.bound)

    def decode(self, total: Float64, noise_sd: float) -> NoisySum:
        """Return each coordinate with its standard error, which is that of the noise.

        No coordinate is ever "not resolved": a sum that noise drowns is zero within its interval.
        """
        checked(self.kind, total, self.length, noise_sd)
        return NoisySum(tuple(Estimate.of(float(value), noise_sd) for value in total))


@dataclass(frozen=True)
class Count:
    """Number of patients of whom something is true.

    Args:
        name: what is counted; public.
        kind: "count".
    """

    name: str
    kind: str = "count"

    @property
    def length(self) -> int:
        """1."""
        return 1

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1 for both relations.

        Proof: each patient adds 0 or 1. One more or fewer moves the count by at most 1; one exchanged
        moves it by |0 − 1| at most ("constant" lemma: two contributions differ by no more than one). ∎
        """
        return {Neighbours.ADD_OR_REMOVE_ONE: 1.0, Neighbours.REPLACE_ONE: 1.0}[neighbours]

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        return query_of(self, {"name": self.name}, multiplier, patient_cap, index)

    def contribution(self, data: Records) -> Float64:
        """Return how many patients have a record other than zero, float64[1], a whole number.

        A value that is not finite counts as zero.
        """
        values = data.of_width(self.kind, 1).values[:, 0]
        return np.array([float(len(data.firsts(np.isfinite(values) & (values != 0.0))))])

    def decode(self, total: Float64, noise_sd: float) -> Estimate:
        """Return the count ± noise; the interval is cut at zero, the value too."""
        return Estimate.of(float(checked(self.kind, total, 1, noise_sd)[0]), noise_sd, lowest=0.0)
