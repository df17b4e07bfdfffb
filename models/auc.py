"""AUC at a time t from one histogram: public risk bin × {died by t, alive after t}.

Cumulative/dynamic AUC(t) = P(risk of a patient who died by t > risk of one alive after t). Each patient is in
one cell, so the noise does not grow with the number of pairs. Two risks in one bin count as tied, which pulls the
AUC towards ½, and the noise grows with √B: for 600 patients at ε = 1 ten bins lose .004 and have an rmse of .024,
four bins lose .026 and have .014, twenty lose .001 and have .033. Who was censored before t is in no cell: AUC(t)
is over those whose state at t is known, which is the population value if censoring does not depend on risk.

Errors. With cases c, controls a and φ = 1, ½, 0, the numerator U = Σ φ_ij c_i a_j. The noise of U − θ·Σc·Σa has
the variance σ²(Σ_i (Σ_j (φ_ij − θ)a_j)² + Σ_j (Σ_i (φ_ij − θ)c_i)²) + σ⁴ Σ_ij (φ_ij − θ)², which the noisy cells
overestimate; sampling adds θ(1 − θ)/min(cases, controls), the largest variance of any two distributions.

Source: Heagerty, Lumley & Pepe, Biometrics 2000;56:337; Birnbaum & Klose, Ann Math Stat 1957;28:933.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, query_of
from dp.releases import QUANTILE, Estimate, cell_counts
from dp.releases.estimate import checked
from dp.releases.histogram import cell_sensitivity
from models.concordance import SurvivalFunction
from models.data import Float64, SurvivalData
from models.errors import MisuseError

RESOLVED: Final = 2.0
"""Cases and controls must each exceed this many 95 % noise bounds."""


@dataclass(frozen=True, eq=False)
class TimeDependentAUC:
    """How well a released model's risk before t separates those who die by t.

    Args:
        model: released; its digest is in the query's.
        time: t in days, 0 < t ≤ horizon.
        horizon: days, public.
        edges: B − 1 increasing inner edges of predicted risk before t, in (0, 1); public.
        kind: "auc".

    Raises:
        MisuseError: a time or edges outside their range.
    """

    model: SurvivalFunction = field(repr=False)
    time: float
    horizon: float
    edges: tuple[float, ...] = tuple(i / 10 for i in range(1, 10))
    kind: str = "auc"

    def __post_init__(self) -> None:
        """Check the public constants."""
        if not 0 < self.time <= self.horizon:
            raise MisuseError("AUC(t) needs 0 < t ≤ horizon")
        if not self.edges or not np.all(np.diff([0.0, *self.edges, 1.0]) > 0):
            raise MisuseError("risk bins need edges that increase between 0 and 1")

    @property
    def length(self) -> int:
        """Two cells per bin: died by t, alive after t."""
        return 2 * (len(self.edges) + 1)

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and √2 for replace-one.

        Proof: a patient adds 1 to one cell or nothing; his bin is a function of his covariates and the released
        model, his state at t of his follow-up. No pair is counted before the release. ∎
        """
        return cell_sensitivity(neighbours)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the released model."""
        constants = {"time": self.time, "horizon": self.horizon, "edges": self.edges}
        return query_of(self, constants, multiplier, patient_cap, index).about(self.model.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's counts, float64[2B], whole numbers."""
        kept = data.bounded(self.horizon)
        risk = 1.0 - self.model.survival(kept.x, kept.observed, np.array([self.time]))[:, 0]
        bins = np.searchsorted(np.asarray(self.edges), risk, side="right")
        died = kept.event & (kept.duration <= self.time)
        # Who is seen alive at the horizon itself is alive after t = horizon as far as the study can know.
        alive = (kept.duration > self.time) | (~kept.event & (kept.duration >= self.time))
        return cell_counts(np.where(died, 2 * bins, np.where(alive, 2 * bins + 1, -1)), self.length)

    def decode(self, total: Float64, noise_sd: float) -> Estimate:
        """Return AUC(t) with noise and sampling error.

        "Not resolved" if the cases or the controls are not clear of the noise.
        """
        table = checked(self.kind, total, self.length, noise_sd).reshape(-1, 2)
        cases, controls = (float(side.sum()) for side in table.T)
        if min(cases, controls) <= max(RESOLVED * QUANTILE * noise_sd * math.sqrt(len(table)), 1.0):
            return Estimate.unresolved(0.0, 1.0)
        order = np.sign(np.arange(len(table))[:, None] - np.arange(len(table))[None, :])
        phi = (1.0 + order) / 2.0
        died, alive = table.T
        theta = min(max(float(died @ phi @ alive) / (cases * controls), 0.0), 1.0)
        gap = phi - theta
        square = float(np.sum((gap @ alive) ** 2) + np.sum((died @ gap) ** 2))
        noise = noise_sd * math.sqrt(square + noise_sd**2 * float(np.sum(gap**2))) / (cases * controls)
        sampling = math.sqrt(theta * (1.0 - theta) / min(cases, controls))
        return Estimate.of(theta, noise, 0.0, 1.0, sampling_error=sampling)
