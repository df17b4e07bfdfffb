"""Mean log-likelihood of a released model on hold-out patients, each term clipped to a public range.

Source: Friedman, Annals of Statistics 1982;10:101 (piecewise exponential likelihood).
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
from models.data import Float64, SurvivalData, exposures
from models.errors import MisuseError
from models.predict import SurvivalModel

COUNT_WEIGHT: Final = 0.5
SENSITIVITY: Final = norm(1.0 + COUNT_WEIGHT**2)
SMALLEST_HAZARD: Final = 1e-12  # per year: a recalibrated hazard of 0 has no logarithm
RESOLVED: Final = 2.0
"""The number of patients must exceed this many 95 % noise bounds."""


def log_likelihoods(model: SurvivalModel, data: SurvivalData) -> Float64:
    """Each patient's piecewise-exponential log-likelihood in nats, float64[n], on the model's own grid.

    Args:
        model: hazards below 1e-12 a year count as that.
        data: bounded.
    """
    at_risk, deaths = exposures(data, model.grid)
    hazards = np.maximum(model.hazards(data.x, data.observed), SMALLEST_HAZARD)
    terms: Float64 = np.sum(deaths * np.log(hazards) - hazards * at_risk, axis=1)
    return terms


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Σ over patients of (clipped log-likelihood, himself).

    Args:
        model: released; its digest is in the query's.
        bound: B > 0 nats: a patient's log-likelihood is clipped to centre ± B, public. What is clipped biases the
            mean towards the centre.
        centre: nats, public.
        kind: "likelihood".

    Raises:
        MisuseError: a bound that is not positive, or a centre that is not finite.
    """

    model: SurvivalModel = field(repr=False)
    bound: float
    centre: float = 0.0
    kind: str = "likelihood"

    def __post_init__(self) -> None:
        """Check the public constants."""
        if not (0 < self.bound < math.inf and math.isfinite(self.centre)):
            raise MisuseError("a clipped log-likelihood needs a bound > 0 and a finite centre")

    @property
    def length(self) -> int:
        """2."""
        return 2

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√(1 + α²) with α = ½; 2 for replace-one.

        Proof: a patient contributes (u, α) with u = (ℓ − centre)/B clipped to [−1, 1], a function of him and the
        released model. Two patients' vectors differ in u alone, by at most 2; an unusable record instead makes it an
        addition or a removal, √1.25 < 2. ∎
        """
        return SENSITIVITY if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2.0

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the released model."""
        constants = {"bound": self.bound, "centre": self.centre}
        return query_of(self, constants, multiplier, patient_cap, index).about(self.model.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's sum, float64[2], exact (`dp.rows`)."""
        terms = (log_likelihoods(self.model, data.bounded(self.model.grid[-1])) - self.centre) / self.bound
        rows = np.stack([np.clip(terms, -1.0, 1.0), np.full(len(terms), COUNT_WEIGHT)], axis=1)
        return clipped_rows(rows, SENSITIVITY)

    def decode(self, total: Float64, noise_sd: float) -> Estimate:
        """Return the mean in nats per patient, noise and sampling error; "not resolved" if N is not clear of the noise.

        Sampling: a variable in [−1, 1] with mean u has variance ≤ 1 − u² (Bhatia & Davis 2000): an upper bound.
        """
        checked(self.kind, total, self.length, noise_sd)
        patients, error = float(total[1]) / COUNT_WEIGHT, noise_sd / COUNT_WEIGHT
        lowest, highest = self.centre - self.bound, self.centre + self.bound
        if patients <= max(RESOLVED * QUANTILE * error, 1.0):
            return Estimate.unresolved(lowest, highest)
        mean = min(max(float(total[0]) / patients, -1.0), 1.0)
        noise = noise_sd * math.sqrt(1.0 + (mean / COUNT_WEIGHT) ** 2) / patients
        sampling = math.sqrt((1.0 - mean * mean) / patients)
        return Estimate.of(
            self.centre + self.bound * mean, self.bound * noise, lowest, highest, sampling_error=self.bound * sampling
        )
