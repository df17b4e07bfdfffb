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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.concordance import QUANTILE
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.predict import SurvivalModel
from models.presets import Preset

DEVIATION_WEIGHT: Final = 0.5
RESOLVED: Final = 2.0  # a bin is shown if its noisy size exceeds this many 95 % noise bounds


def length(preset: Preset) -> int:
    """Coordinates of the query: (number of bins) × (3H + 1)."""
    return (len(preset.risk_edges) + 1) * (3 * len(preset.calibration_times) + 1)


def sensitivity(preset: Preset) -> float:
    """L2 bound of one patient's row: √(1 + H/4)."""
    return math.sqrt(1.0 + len(preset.calibration_times) * DEVIATION_WEIGHT**2)


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
    """

    time: float
    low: float
    high: float
    patients: float
    observed: float
    predicted: float
    observed_error: float
    predicted_error: float

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


def rows(model: SurvivalModel, preset: Preset, data: SurvivalData) -> Float64:
    """Each patient's contribution, float64[n, length].

    Row i has L2 norm ≤ `sensitivity` and depends on patient i and the released model alone.
    """
    times = np.asarray(preset.calibration_times)
    n, h = len(data), len(times)
    predicted = 1.0 - model.survival(data.x, data.observed, times)
    bins = np.searchsorted(np.asarray(preset.risk_edges), predicted[:, 0], side="right")
    before = np.concatenate([[0.0], times[:-1]])
    time = data.duration[:, None]
    died = data.event[:, None] & (time > before) & (time <= times)
    lost = ~data.event[:, None] & (time >= before) & (time < times)
    alive = ~(died.any(axis=1) | lost.any(axis=1))
    middle, half = _bin_scale(model, preset)
    u = np.clip((predicted - middle[bins]) / half[bins], -1.0, 1.0)
    block = np.zeros((n, 3 * h + 1))
    block[:, 0 : 2 * h : 2], block[:, 1 : 2 * h : 2], block[:, 2 * h] = died, lost, alive
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
        return [Point(t, *edges, patients, unknown, unknown, unknown, unknown) for t in preset.calibration_times]
    observed, sampling = _life_table(cells.sum(axis=0), h)
    predicted = _mean_predicted(table, middle, half)
    noise_observed = noise_sd * np.sqrt(_squared_gradient(lambda v: _life_table(v.sum(axis=0), h)[0], cells))
    noise_predicted = noise_sd * np.sqrt(_squared_gradient(lambda v: _mean_predicted(v, middle, half), table))
    return [
        Point(
            preset.calibration_times[i], *edges, patients, float(observed[i]), float(predicted[i]),
            float(math.hypot(noise_observed[i], sampling[i])), float(noise_predicted[i]),
        )
        for i in range(h)
    ]  # fmt: skip


def _life_table(cells: Float64, h: int) -> tuple[Float64, Float64]:
    """Actuarial risk at each time with Greenwood's standard error; noisy cells are clamped at 0."""
    counts = np.maximum(cells, 0.0)
    at_risk, alive, variance = float(counts.sum()), 1.0, 0.0
    risk, error = np.zeros(h), np.zeros(h)
    for i in range(h):
        exposed = max(at_risk - counts[2 * i + 1] / 2, 1.0)
        q = min(counts[2 * i] / exposed, 1.0)
        alive *= 1.0 - q
        variance += q / (exposed * max(1.0 - q, 1.0 / exposed))
        risk[i], error[i] = 1.0 - alive, alive * math.sqrt(variance)
        at_risk -= counts[2 * i] + counts[2 * i + 1]
    return risk, error


def _mean_predicted(table: Float64, middle: Float64, half: Float64) -> Float64:
    """Mean predicted risk at each time over the bins in `table`, cut to [0, 1]."""
    h = middle.shape[1]
    sizes = table[:, : 2 * h + 1].sum(axis=1)
    total = sizes @ middle + np.sum(table[:, 2 * h + 1 :] * half, axis=0) / DEVIATION_WEIGHT
    mean: Float64 = np.clip(total / max(float(sizes.sum()), 1.0), 0.0, 1.0)
    return mean


def _squared_gradient(function: Callable[[Float64], Float64], at: Float64) -> Float64:
    """Σ_cells (∂f_i/∂cell)² by central differences of one patient."""
    total = np.zeros_like(function(at))
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += 0.5
        down[index] -= 0.5
        total = total + (function(up) - function(down)) ** 2
    return total
