"""DP-Breslow: one release that sets the baseline right after clipping has bent it.

Clipping long survivors' gradients biases the baseline hazards far more than the ranking. After training each
patient contributes one vector: deaths D_i (one-hot over the K intervals) and expected deaths Λ_ik under the
trained model. From the noisy sums each hazard is multiplied by (D_k + m·R) / (E_k + m), where R = ΣD / ΣE is
the correction of all intervals together: m pseudo-deaths pull an interval towards the common correction, the
more the fewer died in it (a gamma prior with mean R). f, hence the ranking, does not change.

The bound without a bias. Scaling long vectors down would shrink the expected deaths of those who survive long
and not the deaths of those who die early. Instead a patient's follow-up *ends* when the L2 norm of his Λ
reaches √(B'² − 1): neither exposure nor death counts after that. That moment is a function of his covariates
and the released model, so it is independent censoring and Breslow's estimator stays consistent; and
‖(D_i, Λ_i)‖² ≤ 1 + (B'² − 1) = B'² for every record. All coordinates are ≥ 0, so two patients' vectors differ
by at most √2·B'.

Source: Breslow, JRSS B 1972;34:216 (discussion of Cox), on a public grid.
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
from models.data import Float64, SurvivalData, exposures
from models.errors import MisuseError
from models.predict import SurvivalModel
from models.presets import Preset

FLOOR: Final = 1.0  # deaths: no noisy count below one is believed
CORRECTION: Final = 16.0  # a hazard moves by at most this factor: public bound on what noise can do


@dataclass(frozen=True, eq=False)
class Recalibration:
    """What the release says.

    Args:
        model: recalibrated; as trained if the release is not resolved.
        corrections: factor on each interval's hazard with its standard error from the noise, the pull towards the
            common correction included.
    """

    model: SurvivalModel = field(repr=False)
    corrections: tuple[Estimate, ...]

    @property
    def resolved(self) -> bool:
        """Whether the noise left anything to correct by."""
        return all(correction.resolved for correction in self.corrections)

    def __str__(self) -> str:
        return ", ".join(str(correction) for correction in self.corrections)


@dataclass(frozen=True, eq=False)
class Breslow:
    """Σ over patients of (deaths, expected deaths under the trained model) per interval.

    Args:
        model: as trained; its digest is in the query's.
        preset: public constants: grid, breslow_bound B', breslow_pseudo_events.
        kind: "breslow".
    """

    model: SurvivalModel = field(repr=False)
    preset: Preset = field(repr=False)
    kind: str = "breslow"

    @property
    def length(self) -> int:
        """2K."""
        return 2 * self.preset.intervals

    def sensitivity(self, neighbours: Neighbours) -> float:
        """B', and √2·B' for replace-one.

        Proof: follow-up ends when ‖Λ_i‖ reaches √(B'² − 1), and D_i is one-hot or zero: ‖(D_i, Λ_i)‖² ≤ B'²; `dp.rows`
        clips to the same B' and so changes nothing but rounding. The vector is a function of the patient and the
        released model. Deaths and expected deaths are ≥ 0, so two such vectors are at no obtuse angle:
        ‖a − b‖² ≤ ‖a‖² + ‖b‖² ≤ 2B'². ∎
        """
        bound = self.preset.breslow_bound
        return bound if neighbours is Neighbours.ADD_OR_REMOVE_ONE else norm(2 * Fraction(bound) ** 2)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the trained model."""
        query = query_of(self, {"preset": self.preset.digest()}, multiplier, patient_cap, index)
        return query.about(self.model.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's sum, float64[2K], exact (`dp.rows`)."""
        bound = self.preset.breslow_bound
        return clipped_rows(rows(self.model, data.bounded(self.preset.horizon), bound), bound)

    def decode(self, total: Float64, noise_sd: float) -> Recalibration:
        """Return the recalibrated model with the standard errors of its corrections.

        If the expected deaths of all intervals together are not clear of the noise, nothing is corrected. E_k + m is
        floored at one death, a public constant: the error of interval k is that of (D_k + mR)/(E_k + m) by the delta
        method, the error of R added to it without counting on independence.
        """
        checked(self.kind, total, self.length, noise_sd)
        k, m = self.preset.intervals, self.preset.breslow_pseudo_events
        deaths, expected = total[:k], total[k:]
        everything = float(sum(expected.tolist()))
        noise_of_all = noise_sd * math.sqrt(k)
        if everything <= max(QUANTILE * noise_of_all, FLOOR):
            lost = tuple(Estimate.unresolved(1.0 / CORRECTION, CORRECTION) for _ in range(k))
            return Recalibration(self.model, lost)
        overall = max(float(sum(deaths.tolist())), FLOOR) / everything
        common = noise_of_all * math.sqrt(1.0 + overall * overall) / everything
        corrections = []
        for d, e in zip(deaths.tolist(), expected.tolist(), strict=True):
            weight = max(e + m, FLOOR)
            ratio = max(d + m * overall, FLOOR) / weight
            error = noise_sd * math.sqrt(1.0 + ratio * ratio) / weight + m * common / weight
            corrections.append(Estimate.of(ratio, error, 1.0 / CORRECTION, CORRECTION))
        return Recalibration(apply(self.model, self.preset, total), tuple(corrections))


def rows(model: SurvivalModel, data: SurvivalData, bound: float) -> Float64:
    """Each patient's vector, float64[n, 2K]: (deaths, expected deaths as trained), follow-up ended at the bound.

    Row i has L2 norm ≤ bound and depends on patient i and on the released model only.

    Args:
        model: as trained.
        data: bounded.
        bound: B' > 1.
    """
    at_risk, deaths = exposures(data, model.grid)
    expected = at_risk * model.hazards(data.x, data.observed)
    square = np.cumsum(expected * expected, axis=1)
    before = np.concatenate([np.zeros((len(data), 1)), square[:, :-1]], axis=1)
    room = np.sqrt(np.maximum(bound * bound - 1.0 - before, 0.0))
    seen = deaths * (expected <= room)  # a death is at the end of its interval's exposure
    return np.concatenate([seen, np.minimum(expected, room)], axis=1)


def apply(model: SurvivalModel, preset: Preset, total: Float64) -> SurvivalModel:
    """Post-process the released sums into a recalibrated model.

    Only + × ÷ and comparisons: the same bits everywhere.

    Args:
        model: as trained.
        preset: its public constants.
        total: float64[2K], noisy (D, E).
    """
    k = preset.intervals
    if total.shape != (2 * k,):
        raise MisuseError(f"recalibration needs {2 * k} sums, got {total.shape}")
    m = preset.breslow_pseudo_events
    deaths, expected = total[:k], total[k:]
    # Plain additions in a fixed order: a library's sum may pair its terms differently on another host.
    overall = np.clip(_floored(sum(deaths.tolist())) / _floored(sum(expected.tolist())), 1.0 / CORRECTION, CORRECTION)
    ratio = _floored(deaths + m * overall) / _floored(expected + m)
    return model.with_hazard(model.hazard * np.clip(ratio, 1.0 / CORRECTION, CORRECTION))


def _floored(count: float | Float64) -> Float64:
    floored: Float64 = np.maximum(count, FLOOR)
    return floored
