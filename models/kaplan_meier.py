"""Survival of all patients from one histogram: public interval × {died, censored}.

A patient adds 1 to one cell, whatever the number of intervals. Numbers at risk are *not* released (each
patient is in up to K of them: √K): they are the reverse cumulative sums of the noisy cells, after the release.

On a grid the product-limit estimator is the actuarial one: of those at risk at the start of an interval, the
ones censored in it count half. Its bias vanishes with the widths; with a sixth of the patients censored in
a first interval of one year it is .007 (tests/models/test_calibration.py). The same cells with the two roles
exchanged give the censoring curve G, which Brier scores are weighted by.

Source: Kaplan & Meier, JASA 1958;53:457; Cutler & Ederer, J Chronic Dis 1958;8:699; Greenwood 1926.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, query_of
from dp.releases import QUANTILE, Estimate, cell_counts
from dp.releases.estimate import checked
from dp.releases.histogram import cell_sensitivity
from models.data import Float64, SurvivalData
from models.errors import MisuseError

RESOLVED: Final = 2.0
"""A curve is shown as long as the noisy number at risk exceeds this many 95 % noise bounds."""


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """A released curve at the edges of its grid.

    Args:
        times: K+1 edges in days, the first 0.
        survival: one estimate per edge, the first exactly 1; "not resolved" from the edge on where too few are
            at risk for this noise.
    """

    times: tuple[float, ...]
    survival: tuple[Estimate, ...]

    @property
    def resolved_until(self) -> float:
        """Last time in days with a value."""
        return max(t for t, s in zip(self.times, self.survival, strict=True) if s.resolved)

    def at(self, times: Float64) -> Float64:
        """Survival at any times, float64[n]: linear between edges, constant beyond the last resolved one."""
        known = [(t, s.value) for t, s in zip(self.times, self.survival, strict=True) if s.resolved]
        edges, values = np.array(known).T
        between: Float64 = np.interp(times, edges, values)
        return between

    def __str__(self) -> str:
        return "\n".join(f"{t:6.0f} d  {s}" for t, s in zip(self.times, self.survival, strict=True))


@dataclass(frozen=True, eq=False)
class ReleasedCurves:
    """What one histogram says.

    Args:
        survival: time to death.
        censoring: time to censoring, G.
        patients: number of patients.
    """

    survival: SurvivalCurve
    censoring: SurvivalCurve = field(repr=False)
    patients: Estimate

    def __str__(self) -> str:
        return f"{self.patients} patients\n{self.survival}"


@dataclass(frozen=True)
class KaplanMeier:
    """Counts per public interval of deaths and of censorings, and of those alive at the horizon.

    | patient                                  | cell                                  |
    |------------------------------------------|---------------------------------------|
    | died in (t_{k−1}, t_k]                   | deaths of interval k                  |
    | censored in [t_{k−1}, t_k)               | censorings of interval k              |
    | died or censored later                   | alive at the horizon                  |
    | duration NaN, ±inf                       | none                                  |

    Args:
        grid: K+1 increasing edges in days, first 0, last the horizon; public, never event times.
        kind: "kaplan-meier" of training patients, "survival-holdout" of the others.

    Raises:
        MisuseError: another grid.
    """

    grid: tuple[float, ...]
    kind: str = "kaplan-meier"

    def __post_init__(self) -> None:
        """Check the grid."""
        if len(self.grid) < 2 or self.grid[0] != 0 or not np.all(np.diff(self.grid) > 0):
            raise MisuseError("a survival curve needs a grid that starts at 0 and increases")

    @property
    def length(self) -> int:
        """2K + 1 cells: died, censored, died, censored, …, alive."""
        return 2 * len(self.grid) - 1

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and √2 for replace-one.

        Proof: a patient is in one cell or none, and which one is a function of his follow-up and the public
        grid. One more patient moves one count by one; one exchanged moves two counts by one. Numbers at risk are
        computed from the released counts. ∎
        """
        return cell_sensitivity(neighbours)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        return query_of(self, {"grid": self.grid}, multiplier, patient_cap, index)

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's counts, float64[2K+1], whole numbers."""
        kept = data.bounded(self.grid[-1])
        return cell_counts(follow_up_cells(kept, np.asarray(self.grid[1:])), self.length)

    def decode(self, total: Float64, noise_sd: float) -> ReleasedCurves:
        """Return S and G with errors: the delta method on the known noise, plus Greenwood's for sampling."""
        cells = checked(self.kind, total, self.length, noise_sd)
        patients = Estimate.of(float(cells.sum()), noise_sd * math.sqrt(self.length), lowest=0.0)
        return ReleasedCurves(self._curve(cells, noise_sd, 0), self._curve(cells, noise_sd, 1), patients)

    def _curve(self, cells: Float64, noise_sd: float, which: int) -> SurvivalCurve:
        k = len(self.grid) - 1
        risk, sampling = life_table(cells, k, which, noisy=noise_sd > 0)
        noise = noise_sd * np.sqrt(noise_gradient(cells, k, which))
        at_risk = np.cumsum(cells[::-1])[::-1][0 : 2 * k : 2]  # at the start of each interval
        bound = RESOLVED * QUANTILE * noise_sd * np.sqrt(np.arange(2 * k + 1, 1, -2))
        points = [Estimate.of(1.0, 0.0, 0.0, 1.0)]
        for i in range(k):
            if not points[-1].resolved or at_risk[i] <= max(bound[i], 1.0):
                points.append(Estimate.unresolved(0.0, 1.0))
            else:
                points.append(
                    Estimate.of(float(1.0 - risk[i]), float(noise[i]), 0.0, 1.0, sampling_error=float(sampling[i]))
                )
        return SurvivalCurve(self.grid, tuple(points))


def follow_up_cells(data: SurvivalData, times: Float64) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Each patient's cell among 2H + 1: (died, censored) per interval that ends at `times`, then alive.

    Args:
        data: bounded.
        times: float64[H] increasing, public.
    """
    died = np.searchsorted(times, data.duration, side="left")  # (lo, hi]
    lost = np.searchsorted(times, data.duration, side="right")  # [lo, hi)
    cells = np.minimum(np.where(data.event, 2 * died, 2 * lost + 1), 2 * len(times))
    return cells.astype(np.int64)


def noise_gradient(cells: Float64, h: int, which: int = 0) -> Float64:
    """Squared gradient of the risks of `life_table` with respect to all cells: what noise of variance 1 adds to each.

    Taken where no cell is below zero: at the clamp of a noisy cell the derivative would vanish, and an interval of no
    width at all would be the most confident where the noise is largest.
    """
    return squared_gradient(lambda v: life_table(v, h, which)[0], np.maximum(cells, 0.5))


def life_table(cells: Float64, h: int, which: int = 0, *, noisy: bool = False) -> tuple[Float64, Float64]:
    """Actuarial risk at each time with Greenwood's standard error; noisy cells are clamped at 0.

    Args:
        cells: float64[2H + 1], order of `follow_up_cells`.
        h: H.
        which: 0 = of death, 1 = of censoring.
        noisy: the cells carry noise; then the standard error counts at least one death in every interval, because a
            cell that the noise has pushed to zero says nothing about how few there were.
    """
    counts = np.maximum(cells, 0.0).tolist()
    at_risk, alive, variance = math.fsum(counts), 1.0, 0.0
    risk, error = np.zeros(h), np.zeros(h)
    for i in range(h):
        exposed = max(at_risk - counts[2 * i + 1 - which] / 2, 1.0)
        q = min(counts[2 * i + which] / exposed, 1.0)
        alive *= 1.0 - q
        likely = max(q, min(1.0 / exposed, 1.0)) if noisy else q
        variance += likely / (exposed * max(1.0 - likely, 1.0 / exposed))
        risk[i], error[i] = 1.0 - alive, alive * math.sqrt(variance)
        at_risk -= counts[2 * i] + counts[2 * i + 1]
    return risk, error


def squared_gradient(function: Callable[[Float64], Float64], at: Float64) -> Float64:
    """Σ_cells (∂f_i/∂cell)² by central differences of one patient."""
    total = np.zeros_like(function(at))
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += 0.5
        down[index] -= 0.5
        total = total + (function(up) - function(down)) ** 2
    return total
