"""Calibration at public horizons from one histogram: are the predicted risks the risks that occur?

A hold-out patient falls in one public bin of predicted risk (before the first horizon) and, inside it, in
one of 2H + 1 cells: died in (t_{h−1}, t_h], censored in [t_{h−1}, t_h), or alive at t_H. Observed risk at
t_h in a bin is the actuarial life-table estimate from the noisy cells. This serves all horizons with one
sensitivity-1 histogram and needs no released Ĝ: instead of weighting by a marginal censoring curve (IPCW),
it assumes that censoring tells nothing about death *within a risk bin and interval*, which is weaker. Beside
its cell the patient adds ½·u_h, where u_h ∈ [−1, 1] is the predicted risk at t_h as a deviation from the
bin's middle in half-widths: the mean predicted risk of the bin for a sensitivity of √(1 + H/4) in all.

The actuarial estimate treats censoring as spread evenly over an interval. With a sixth of the patients
censored in the first year, most deaths early, it is .007 below Kaplan-Meier
(tests/models/test_calibration.py); finer intervals would cost more in noise than that.

Everything after the release is post-processing: standard errors are the delta method on the known noise
variance, plus Greenwood's for sampling.

Source: Cutler & Ederer, J Chronic Dis 1958;8:699 (life table); Greenwood 1926.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, norm, query_of
from dp.releases import QUANTILE
from dp.rows import clipped_rows
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.kaplan_meier import follow_up_cells, life_table, noise_gradient, squared_gradient
from models.predict import SurvivalModel
from models.presets import Preset

DEVIATION_WEIGHT: Final = 0.5
RESOLVED: Final = 2.0  # a bin is shown if its noisy size exceeds this many 95 % noise bounds


def length(preset: Preset) -> int:
    """Coordinates of the query: (number of bins) × (3H + 1)."""
    return (len(preset.risk_edges) + 1) * (3 * len(preset.calibration_times) + 1)


def sensitivity(preset: Preset) -> float:
    """L2 bound of one patient's row: √(1 + H/4)."""
    return norm(1.0 + len(preset.calibration_times) * DEVIATION_WEIGHT**2)


@dataclass(frozen=True)
class Point:
    """Observed against predicted risk in one bin at one time.

    Args:
        time: days.
        low, high: the bin's edges of predicted risk before the first calibration time; (0, 1) for all
            patients.
        patients: noisy number of hold-out patients in the bin.
        observed, predicted: risk of death before `time`; nan if the bin is not resolved under this noise.
        observed_error, predicted_error: standard errors; of the observed risk noise and sampling, of the
            predicted mean noise.
        noise_error: the part of `observed_error` that is the privacy noise.
    """

    time: float
    low: float
    high: float
    patients: float
    observed: float
    predicted: float
    observed_error: float
    predicted_error: float
    noise_error: float

    @property
    def resolved(self) -> bool:
        """Whether the noise leaves anything to see."""
        return not math.isnan(self.observed)

    def __str__(self) -> str:
        head = f"{self.time:.0f} d, predicted risk bin {self.low:.2f}-{self.high:.2f}: "
        if not self.resolved:
            return head + "not resolved"
        observed = f"observed {self.observed:.2f} ± {QUANTILE * self.observed_error:.2f}"
        return head + f"{observed}, predicted {self.predicted:.2f} ± {QUANTILE * self.predicted_error:.2f} (95 %)"


@dataclass(frozen=True)
class Calibration:
    """Points per bin and time, and the same for all patients (calibration in the large)."""

    bins: tuple[Point, ...]
    overall: tuple[Point, ...]

    def __str__(self) -> str:
        return "\n".join(str(point) for point in (*self.overall, *self.bins))


@dataclass(frozen=True, eq=False)
class CalibrationAtTimes:
    """Observed and predicted risk at public times in public bins of predicted risk, in one vector.

    Args:
        model: released; its digest is in the query's.
        preset: public constants: calibration_times, risk_edges, horizon.
        kind: "calibration".
    """

    model: SurvivalModel = field(repr=False)
    preset: Preset = field(repr=False)
    kind: str = "calibration"

    @property
    def length(self) -> int:
        """(Number of bins) × (3H + 1)."""
        return length(self.preset)

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√(1 + H/4), which is ≤ √2 for up to four times; √(2 + H) for replace-one.

        Proof: a patient adds 1 to one cell of one bin and ½·u_h to the H deviations of that bin, |u_h| ≤ 1; cell, bin
        and u are functions of him and the released model. Norm² ≤ 1 + H/4. Two patients in different bins share no
        coordinate: ≤ 2 + H/2. In one bin the cells differ by at most 2 (norm²) and each deviation by at most
        ½·2: ≤ 2 + H, reached by u = 1 and u' = −1 in different cells. The larger is 2 + H, below (2·√(1 + H/4))²
        = 4 + H. ∎
        """
        if neighbours is Neighbours.ADD_OR_REMOVE_ONE:
            return sensitivity(self.preset)
        return norm(2 + len(self.preset.calibration_times))

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the released model."""
        query = query_of(self, {"preset": self.preset.digest()}, multiplier, patient_cap, index)
        return query.about(self.model.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's sum, float64[length], exact (`dp.rows`)."""
        vectors = rows(self.model, self.preset, data.bounded(self.preset.horizon))
        return clipped_rows(vectors, sensitivity(self.preset))

    def decode(self, total: Float64, noise_sd: float) -> Calibration:
        """Return the points with standard errors; a bin that noise drowns is "not resolved"."""
        return decode(self.model, self.preset, total, noise_sd)


def rows(model: SurvivalModel, preset: Preset, data: SurvivalData) -> Float64:
    """Each patient's contribution, float64[n, length].

    Row i has L2 norm ≤ `sensitivity` and depends on patient i and the released model alone.
    """
    times = np.asarray(preset.calibration_times)
    n, h = len(data), len(times)
    predicted = 1.0 - model.survival(data.x, data.observed, times)
    bins = np.searchsorted(np.asarray(preset.risk_edges), predicted[:, 0], side="right")
    cells = follow_up_cells(data, times)
    middle, half = _bin_scale(model, preset)
    u = np.clip((predicted - middle[bins]) / half[bins], -1.0, 1.0)
    block = np.zeros((n, 3 * h + 1))
    block[np.arange(n), cells] = 1.0
    block[:, 2 * h + 1 :] = DEVIATION_WEIGHT * u
    out = np.zeros((n, len(preset.risk_edges) + 1, 3 * h + 1))
    out[np.arange(n), bins] = block
    return out.reshape(n, length(preset))


def decode(model: SurvivalModel, preset: Preset, total: Float64, noise_sd: float) -> Calibration:
    """Turn the noisy histogram into calibration points with standard errors.

    Args:
        model: as used by `rows`.
        preset: its public constants.
        total: float64[length], noisy.
        noise_sd: standard deviation of the noise on each coordinate, ≥ 0.
    """
    if total.shape != (length(preset),):
        raise MisuseError(f"calibration needs {length(preset)} sums, got {total.shape}")
    table = total.reshape(len(preset.risk_edges) + 1, -1)
    middle, half = _bin_scale(model, preset)
    edges = (0.0, *preset.risk_edges, 1.0)
    points: list[Point] = []
    for b, cells in enumerate(table):
        points += _points(preset, cells[None], middle[b : b + 1], half[b : b + 1], noise_sd, (edges[b], edges[b + 1]))
    return Calibration(tuple(points), tuple(_points(preset, table, middle, half, noise_sd, (0.0, 1.0))))


def _bin_scale(model: SurvivalModel, preset: Preset) -> tuple[Float64, Float64]:
    """Middle and half-width of the predicted risk per bin and time, [bins, H] each, from the baseline."""
    baseline = model.cumulative_hazard(np.asarray(preset.calibration_times))
    ratio = baseline / baseline[0] if baseline[0] > 0 else np.ones_like(baseline)
    edges = np.array([0.0, *preset.risk_edges, 1.0])
    at_edges = 1.0 - (1.0 - edges[:, None]) ** ratio[None, :]
    half = np.maximum((at_edges[1:] - at_edges[:-1]) / 2, 1e-9)
    return (at_edges[1:] + at_edges[:-1]) / 2, half


def _points(
    preset: Preset,
    table: Float64,
    middle: Float64,
    half: Float64,
    noise_sd: float,
    edges: tuple[float, float],
) -> list[Point]:
    h = len(preset.calibration_times)
    cells = table[:, : 2 * h + 1]
    patients = float(cells.sum())
    limit = RESOLVED * QUANTILE * noise_sd * math.sqrt(cells.size)
    if patients <= max(limit, 1.0):
        unknown = math.nan
        return [Point(t, *edges, patients, *[unknown] * 5) for t in preset.calibration_times]
    observed, sampling = life_table(cells.sum(axis=0), h, noisy=noise_sd > 0)
    predicted = _mean_predicted(table, middle, half)
    # Every bin's cell moves the sum alike.
    noise_observed = noise_sd * np.sqrt(len(cells) * noise_gradient(cells.sum(axis=0), h))
    noise_predicted = noise_sd * np.sqrt(squared_gradient(lambda v: _mean_predicted(v, middle, half), table))
    return [
        Point(
            preset.calibration_times[i], *edges, patients, float(observed[i]), float(predicted[i]),
            float(math.hypot(noise_observed[i], sampling[i])), float(noise_predicted[i]), float(noise_observed[i]),
        )
        for i in range(h)
    ]  # fmt: skip


def _mean_predicted(table: Float64, middle: Float64, half: Float64) -> Float64:
    """Mean predicted risk at each time over the bins in `table`, cut to [0, 1]."""
    h = middle.shape[1]
    sizes = table[:, : 2 * h + 1].sum(axis=1)
    total = sizes @ middle + np.sum(table[:, 2 * h + 1 :] * half, axis=0) / DEVIATION_WEIGHT
    mean: Float64 = np.clip(total / max(float(sizes.sum()), 1.0), 0.0, 1.0)
    return mean
