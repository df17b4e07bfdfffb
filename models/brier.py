"""Integrated Brier score with inverse-probability-of-censoring weights that are public.

BS(t) = mean of S_i(t)²·1{T_i ≤ t, died}/G(T_i−) + (1 − S_i(t))²·1{T_i > t}/G(t). With G estimated from the same
patients one patient would move everybody's weight; here Ĝ was *released* before (`models.kaplan_meier`) and 1/Ĝ
is capped at a public bound M. Then each patient has one number b_i = Σ_h w_h·(his term at t_h) in [0, M], the
trapezoid weights w_h summing to 1, and contributes (b_i/M, α): his score and, with public weight α, himself.

The mean is M·ΣB/N. α = ¼: the score is small against M, so the noise of N hardly counts, and the joint
sensitivity is √(1 + 1/16).

Source: Graf, Schmoor, Sauerbrei & Schumacher, Stat Med 1999;18:2529; Gerds & Schumacher, Biom J 2006;48:1029.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, norm, query_of
from dp.releases import QUANTILE, Estimate
from dp.releases.estimate import checked
from dp.rows import clipped_rows
from models.concordance import SurvivalFunction
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.kaplan_meier import SurvivalCurve

COUNT_WEIGHT: Final = 0.25
SENSITIVITY: Final = norm(1.0 + COUNT_WEIGHT**2)
RESOLVED: Final = 2.0
"""The number of patients must exceed this many 95 % noise bounds."""


@dataclass(frozen=True, eq=False)
class BrierScore:
    """Brier score of a released model at one time, or integrated over several.

    Args:
        model: released.
        times: days, increasing, 0 < t ≤ horizon; public. One time = BS(t), several = their trapezoid mean.
        horizon: days, public.
        censoring: Ĝ, released before; its numbers are in the query's digest.
        cap: M ≥ 1, public bound on the weights 1/Ĝ. Where Ĝ falls below 1/M the score is biased downwards.
        kind: "brier".

    Raises:
        MisuseError: a constant outside its range.
    """

    model: SurvivalFunction = field(repr=False)
    times: tuple[float, ...]
    horizon: float
    censoring: SurvivalCurve = field(repr=False)
    cap: float = 5.0
    kind: str = "brier"

    def __post_init__(self) -> None:
        """Check the public constants."""
        if not self.times or not np.all(np.diff([0.0, *self.times]) > 0) or self.times[-1] > self.horizon:
            raise MisuseError("a Brier score needs increasing times inside the horizon")
        if not 1.0 <= self.cap < math.inf:
            raise MisuseError("the cap on weights is finite and at least 1")

    @property
    def length(self) -> int:
        """2."""
        return 2

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√(1 + α²) for both relations, α = ¼.

        Proof: at each time at most one of the two terms is not zero, its square is ≤ 1 and its weight ≤ M;
        Σ w_h = 1, so b_i ∈ [0, M] and ‖(b_i/M, α)‖² ≤ 1 + α². b_i is a function of the patient, the released model
        and the released Ĝ. Two patients' vectors differ in the first coordinate alone, by at most 1; if one of two
        records is unusable the change is an addition or a removal. ∎
        """
        return {Neighbours.ADD_OR_REMOVE_ONE: SENSITIVITY, Neighbours.REPLACE_ONE: SENSITIVITY}[neighbours]

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the released model and the released Ĝ."""
        known = [point.value for point in self.censoring.survival if point.resolved]
        constants = {
            "times": self.times,
            "horizon": self.horizon,
            "cap": self.cap,
            "censoring": (self.censoring.times, tuple(known)),
        }
        return query_of(self, constants, multiplier, patient_cap, index).about(self.model.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's sum, float64[2], exact (`dp.rows`)."""
        scores = self.scores(data.bounded(self.horizon))
        rows = np.stack([scores / self.cap, np.full(len(scores), COUNT_WEIGHT)], axis=1)
        return clipped_rows(rows, SENSITIVITY)

    def scores(self, data: SurvivalData) -> Float64:
        """Each patient's weighted score b_i, float64[n] in [0, cap].

        Args:
            data: bounded.
        """
        times = np.asarray(self.times)
        alive = self.model.survival(data.x, data.observed, times)
        own = self._weights(data.duration)
        later = self._weights(times)
        scores = np.zeros(len(data))
        for h, (time, share) in enumerate(zip(times, trapezoid(times), strict=True)):
            died = data.event & (data.duration <= time)
            known_alive = (data.duration > time) | (~data.event & (data.duration >= time))
            term = np.where(
                died, alive[:, h] ** 2 * own, np.where(known_alive, (1.0 - alive[:, h]) ** 2 * later[h], 0.0)
            )
            scores += share * term
        clipped: Float64 = np.clip(scores, 0.0, self.cap)
        return clipped

    def _weights(self, times: Float64) -> Float64:
        """1/Ĝ capped at M; Ĝ is continuous between its edges, so G(t−) = G(t)."""
        weights: Float64 = 1.0 / np.maximum(self.censoring.at(times), 1.0 / self.cap)
        return weights

    def decode(self, total: Float64, noise_sd: float) -> Estimate:
        """Return the score with noise and sampling error; "not resolved" if N is not clear of the noise.

        Sampling: a variable in [0, M] with mean b has variance ≤ b(M − b) (Bhatia & Davis 2000): an upper bound.
        """
        checked(self.kind, total, self.length, noise_sd)
        patients, error = float(total[1]) / COUNT_WEIGHT, noise_sd / COUNT_WEIGHT
        if patients <= max(RESOLVED * QUANTILE * error, 1.0):
            return Estimate.unresolved(0.0, 1.0)
        share = min(max(float(total[0]) / patients, 0.0), 1.0)
        noise = self.cap * noise_sd * math.sqrt(1.0 + (share / COUNT_WEIGHT) ** 2) / patients
        sampling = self.cap * math.sqrt(share * (1.0 - share) / patients)
        return Estimate.of(self.cap * share, noise, 0.0, self.cap, sampling_error=sampling)


def trapezoid(times: Float64) -> Float64:
    """Weights of the trapezoid rule, summing to 1 but for rounding; one time has the weight 1."""
    if len(times) == 1:
        return np.ones(1)
    steps = np.diff(times)
    weights = np.zeros(len(times))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    total: Float64 = weights / (times[-1] - times[0])
    return total
