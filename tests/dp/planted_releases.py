"""Releases with a bug in them: each is what a careless hand would write, and each must be caught.

A planted release keeps everything of the real one but its contribution, or what it declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dp.queries import Float64, Neighbours
from dp.releases import Histogram, Records
from dp.rows import clipped_rows
from models import calibration, recalibration
from models.data import SurvivalData
from models.kaplan_meier import KaplanMeier
from models.likelihood import COUNT_WEIGHT, log_likelihoods
from models.moments import Moments
from tests.dp.adversary import Sensitive, Subject

Contribution = Callable[[Any, Any], Float64]


@dataclass(frozen=True)
class Planted:
    """One bug.

    Args:
        subject: whose release it is in, by name.
        bug: what is wrong.
        contribution: (real release, data) → vector; None = the real one.
        declares: factor on the real sensitivity per relation; None = the real one.
        length: of the vector, if another one.
    """

    subject: str
    bug: str
    contribution: Contribution | None = None
    declares: Callable[[Any, Neighbours], float] | None = None
    length: int | None = None

    def __str__(self) -> str:
        return f"{self.subject}: {self.bug}"

    def inside(self, subject: Subject) -> Subject:
        return replace(subject, name=str(self), release=Broken(subject.release, self))


@dataclass(frozen=True)
class Broken:
    """The release with the bug."""

    real: Any
    bug: Planted

    @property
    def length(self) -> int:
        return self.bug.length if self.bug.length is not None else int(self.real.length)

    def sensitivity(self, neighbours: Neighbours) -> float:
        real: Sensitive = self.real
        return self.bug.declares(real, neighbours) if self.bug.declares else real.sensitivity(neighbours)

    def contribution(self, data: Any) -> Float64:
        real: Sensitive = self.real
        return self.bug.contribution(real, data) if self.bug.contribution else real.contribution(data)


def _finite(rows: Float64) -> Float64:
    return rows[np.isfinite(rows).all(axis=1) & (np.abs(rows) < 1e15).all(axis=1)]


def _clip_sum(total: Float64, bound: float) -> Float64:
    return total * min(1.0, bound / max(float(np.linalg.norm(total)), 1e-300))


# ---------------------------------------------------------------- records


def _histogram_of_own_quantiles(release: Any, data: Records) -> Float64:
    values = _finite(data.values)
    edges = tuple(np.unique(np.quantile(values, [0.2, 0.4, 0.6, 0.8]))) if len(values) else (0.0,)
    counts = Histogram("x", tuple(float(e) for e in edges)).contribution(data)
    return np.concatenate([counts, np.zeros(release.length)])[: release.length]


def _grid_from_range(release: Any, data: Records) -> Float64:
    values = _finite(data.values)[:, 0]
    if not len(values) or values.min() == values.max():
        return np.concatenate([[float(len(values))], np.zeros(release.length - 1)])
    return np.histogram(values, bins=release.length)[0].astype(np.float64)


def _discovered_levels(release: Any, data: Records) -> Float64:
    columns = [np.unique(c, return_inverse=True)[1] for c in np.nan_to_num(data.values).T]
    return release.contribution(Records(np.array(columns, dtype=np.float64).T.reshape(data.values.shape), data.patient))


def _unnormalised(release: Any, data: Records) -> Float64:
    d = release.mixture.means.shape[1]
    x = _finite(data.sums())
    x = x / np.maximum(np.linalg.norm(x, axis=1) / release.radius, 1.0)[:, None]
    r = release.mixture.responsibilities(x) * 3.0
    one = np.concatenate([np.ones((len(x), 1)), x / release.radius, np.zeros((len(x), d * (d + 1) // 2))], axis=1)
    return (r[:, :, None] * one[:, None, :]).sum(axis=0).ravel()


def _outside_the_ball(release: Any, data: Records) -> Float64:
    d = release.mixture.means.shape[1]
    x = _finite(data.sums()) / release.radius
    first, second = np.triu_indices(d)
    one = np.concatenate([np.ones((len(x), 1)), x, x[:, first] * x[:, second]], axis=1)
    r = release.mixture.responsibilities(x * release.radius)
    return (r[:, :, None] * one[:, None, :]).sum(axis=0).ravel()


def _own_mean(release: Any, data: Records) -> Float64:
    x = _finite(data.sums())
    x = x / np.maximum(np.linalg.norm(x, axis=1) / release.radius, 1.0)[:, None]
    return release.contribution(Records(x - x.mean(axis=0) if len(x) else x))


# ---------------------------------------------------------------- follow-up


def _at_risk(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.grid[-1])
    counts = (kept.duration[:, None] > np.array(release.grid[:-1])).sum(axis=0).astype(np.float64)
    return np.concatenate([counts, np.zeros(release.length - len(counts))])


def _event_times(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.grid[-1])
    days = np.unique(kept.duration[kept.event])[: len(release.grid) - 2]
    grid = (0.0, *days.tolist(), release.grid[-1]) if not len(days) or days[-1] < release.grid[-1] else release.grid
    counts = KaplanMeier(grid).contribution(data)
    return np.concatenate([counts, np.zeros(release.length)])[: release.length]


def _never_ended(release: Any, data: SurvivalData) -> Float64:
    return recalibration.rows(release.model, data.bounded(release.preset.horizon), 1e9).sum(axis=0)


def _breslow_clipped_late(release: Any, data: SurvivalData) -> Float64:
    return _clip_sum(_never_ended(release, data), 3.0 * release.preset.breslow_bound)


def _divided_by_at_risk(release: Any, data: SurvivalData) -> Float64:
    total = release.contribution(data)
    k = len(total) // 2
    return np.concatenate([total[:k] / np.maximum(total[k:], 1e-3), total[k:]])


def _pairs(divisor: Callable[[int], float], *, only_v: bool = False) -> Contribution:
    def contribution(release: Any, data: SurvivalData) -> Float64:
        signed, comparable, n = release.counts(data)
        by = divisor(n)
        return np.array([signed / 2 / by, float(comparable) if only_v else comparable / by])

    return contribution


def _ratio(release: Any, data: SurvivalData) -> Float64:
    signed, comparable, n = release.counts(data)
    return np.array([signed / 2 / max(comparable, 1) * n, comparable / max(n - 1, 1)])


def _antolini_at_own_median(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.horizon)
    if len(kept) < 2:
        return np.zeros(2)
    alive = release.model.survival(kept.x, kept.observed, np.array([np.median(kept.duration)]))[:, 0]
    earlier = kept.event[:, None] & (kept.duration[:, None] < kept.duration[None, :])
    signed = np.sum(np.sign(alive[None, :] - alive[:, None]) * earlier)
    return np.array([signed / (2 * (len(kept) - 1)), earlier.sum() / (len(kept) - 1)])


def _auc_pairs(release: Any, data: SurvivalData) -> Float64:
    table = release.contribution(data).reshape(-1, 2)
    phi = (1 + np.sign(np.arange(len(table))[:, None] - np.arange(len(table))[None, :])) / 2
    return np.array([float(table[:, 0] @ phi @ table[:, 1]), float(table[:, 0].sum() * table[:, 1].sum())])


def _own_risk_edges(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.horizon)
    risk = 1.0 - release.model.survival(kept.x, kept.observed, np.array([release.time]))[:, 0]
    bins = (np.argsort(np.argsort(risk)) * (len(release.edges) + 1) // max(len(risk), 1)).astype(np.int64)
    died = kept.event & (kept.duration <= release.time)
    return np.bincount(2 * bins + ~died, minlength=release.length).astype(np.float64)


def _heavy_deviations(release: Any, data: SurvivalData) -> Float64:
    rows = calibration.rows(release.model, release.preset, data.bounded(release.preset.horizon))
    bins = len(release.preset.risk_edges) + 1
    cells = rows.reshape(len(rows), bins, release.length // bins)
    cells[:, :, 2 * len(release.preset.calibration_times) + 1 :] *= 2.0
    return cells.reshape(len(rows), release.length).sum(axis=0)


def _recentred_calibration(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.preset.horizon)
    middle = kept.x.mean(axis=0) if len(kept) else 0.0
    return release.contribution(SurvivalData(kept.x - middle, kept.observed, kept.duration, kept.event))


def _filled_by_own_means(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(math.inf)
    many = np.maximum(kept.observed.sum(axis=0), 1)
    filled = np.where(kept.observed, kept.x, kept.x.sum(axis=0) / many)
    return release.contribution(SurvivalData(filled, np.ones_like(kept.observed), kept.duration, kept.event))


def _beyond_the_radius(release: Any, data: SurvivalData) -> Float64:
    whole = Moments(release.model, 2.0**10)
    p = len(release.model.covariates)
    power = np.repeat([0, 1, 2], [1, p, p * (p + 1) // 2])
    return whole.contribution(data) * (2.0**10 / release.radius) ** power


def _mean_score(release: Any, data: SurvivalData) -> Float64:
    total = release.contribution(data)
    return total / max(len(data), 1) * 20.0


def _uncapped(release: Any, data: SurvivalData) -> Float64:
    scores = replace(release, cap=1e9).scores(data.bounded(release.horizon))
    return np.array([scores.sum() / release.cap * 3.0, 0.25 * len(scores)])


def _mean_clipped(release: Any, data: SurvivalData) -> Float64:
    terms = (log_likelihoods(release.model, data.bounded(release.model.grid[-1])) - release.centre) / release.bound
    mean = float(np.clip(terms.mean(), -1.0, 1.0)) if len(terms) else 0.0
    return np.array([mean * len(terms), COUNT_WEIGHT * len(terms)])


def _standard_scores(release: Any, data: Float64) -> Float64:
    kept = data[np.isfinite(data) & (np.abs(data) < 1e15)]
    return release.contribution((kept - kept.mean()) / max(float(kept.std()), 1e-9) if len(kept) else kept)


def _per_patient_mean(release: Any, data: SurvivalData) -> Float64:
    return release.contribution(data) / max(len(data), 1) * 10.0


def _standardised_inputs(release: Any, data: SurvivalData) -> Float64:
    kept = data.bounded(release.preset.horizon)
    middle = kept.x.mean(axis=0) if len(kept) else 0.0
    return release.contribution(SurvivalData(kept.x - middle, kept.observed, kept.duration, kept.event))


def _one(_: Any, neighbours: Neighbours) -> float:
    return 1.0


def _same_for_both(release: Any, neighbours: Neighbours) -> float:
    return float(release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE))


PLANTED = [
    Planted("bounded sum", "clips after summing", lambda r, d: _clip_sum(_finite(d.sums()).sum(axis=0), r.bound)),
    Planted("bounded sum", "clips each row of a patient", lambda r, d: clipped_rows(d.values, r.bound)),
    Planted("bounded sum", "adds what is no number", lambda r, d: d.sums().sum(axis=0)),
    Planted("bounded sum", "divides by the number of rows", lambda r, d: r.contribution(d) / max(len(d.values), 1) * 9),
    Planted("bounded sum", "takes replace-one for add-or-remove-one", declares=_same_for_both),
    Planted("count", "counts rows", lambda r, d: np.array([float(np.isfinite(d.values).sum())])),
    Planted("histogram", "counts rows", lambda r, d: r.contribution(Records(d.values))),
    Planted("histogram", "bins at its own quantiles", _histogram_of_own_quantiles),
    Planted("histogram", "declares 1 for replace-one", declares=_one),
    Planted("quantiles", "grid over its own range", _grid_from_range),
    Planted("marginals", "declares 1 for several tables", declares=_one),
    Planted("marginals", "levels discovered in the data", _discovered_levels),
    Planted("mixture", "responsibilities that sum to 3", _unnormalised),
    Planted("mixture", "latents outside the ball", _outside_the_ball),
    Planted("mixture", "centred at its own mean", _own_mean),
    Planted("kaplan-meier", "numbers at risk", _at_risk),
    Planted("kaplan-meier", "its own event times as grid", _event_times),
    Planted("breslow, absurd baseline", "follow-up never ends, no clip", _never_ended),
    Planted("breslow, sensible baseline", "clips after summing", _breslow_clipped_late),
    Planted("breslow, sensible baseline", "releases hazards instead of sums", _divided_by_at_risk),
    Planted("concordance, Harrell", "forgets the divisor n - 1", _pairs(lambda n: 1.0)),
    Planted("concordance, Harrell", "divides by a constant", _pairs(lambda n: 5.0)),
    Planted("concordance, Harrell", "divides V alone", _pairs(lambda n: max(n - 1.0, 1.0), only_v=True)),
    Planted("concordance, Harrell", "releases the index", _ratio),
    Planted("concordance, Harrell", "declares 1", declares=_one),
    Planted("concordance, Antolini", "forgets the divisor n - 1", _pairs(lambda n: 1.0)),
    Planted("concordance, Antolini", "order at its own median time", _antolini_at_own_median),
    Planted("auc", "counts pairs", _auc_pairs, length=2),
    Planted("auc", "bins at its own quantiles", _own_risk_edges),
    Planted("calibration, sensible baseline", "deviations of weight 1, no clip", _heavy_deviations),
    Planted("calibration, sensible baseline", "recentred at its own mean", _recentred_calibration),
    Planted("integrated brier", "mean over its own patients", _mean_score),
    Planted("integrated brier", "weights without a cap", _uncapped),
    Planted("moments, public start", "fills by its own means", _filled_by_own_means),
    Planted("moments, correlated model", "records beyond the radius", _beyond_the_radius),
    Planted("moments, public start", "takes add-or-remove-one for replace-one", declares=_same_for_both),
    Planted("log-likelihood, sensible baseline", "clips the mean", _mean_clipped),
    Planted("log-likelihood, sensible baseline", "declares 1.118 for replace-one", declares=_same_for_both),
    Planted("score-histogram-members", "scores standardised by its own mean", _standard_scores),
    Planted("loss PiecewiseExponential", "divides by the number of patients", _per_patient_mean),
    Planted("loss PiecewiseExponential", "inputs standardised by its own mean", _standardised_inputs),
]


def half(release: Any, neighbours: Neighbours) -> float:
    """What a release declares if somebody halves its bound: for the test of the test."""
    return math.ldexp(float(release.sensitivity(neighbours)), -1)
