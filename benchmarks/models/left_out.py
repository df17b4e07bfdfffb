"""A hospital that joins later: figures 6.21 and 6.22, and their forest plot.

Every hospital of the MDS cohort in turn is left out of training; the model of all the others, in lockstep without noise
or at ε = 1, is scored by Harrell's C over the pairs of the left-out hospital's own patients, the published scores and
what the same model reaches there with the hospital's patients in training (five folds) beside it.

The interval of one hospital is a bootstrap over its patients. Over hospitals: mean and 95 % interval of the
random-effects model of DerSimonian & Laird (Control Clin Trials 1986;7:177), and the interval in which the next
hospital is to be expected (Higgins, Thompson & Spiegelhalter, J R Stat Soc A 2009;172:137). Hospitals have a number in
order of size, which is told in bands: nothing names one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import t as student

from benchmarks.dp.utility import pool
from benchmarks.models import arms
from benchmarks.models.centres import ALL, _loaded
from benchmarks.models.forest import Line, draw
from benchmarks.report import RESULTS, Row
from benchmarks.sections import Asked
from models.data import Float64, SurvivalData
from models.metrics import harrell_c

__all__ = ["Effect", "Summary", "band", "rows", "run", "summary"]

ARMS: Final = ("federated", "ε = 1", "IPSS-R", "IPSS-M")
PLOT: Final = "models_left_out.png"
_DRAWS: Final = 500
_BANDS: Final = (20, 40, 60, 100, 200, 400)


@dataclass(frozen=True)
class Effect:
    """A measurement at one hospital with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Summary:
    """Mean over hospitals, 95 % interval of the mean, 95 % interval of the next hospital, spread between them."""

    mean: float
    low: float
    high: float
    next_low: float
    next_high: float
    spread: float


def summary(effects: Sequence[Effect]) -> Summary:
    """Return the random-effects summary of three hospitals or more.

    >>> found = summary([Effect(0.1, 0.1), Effect(0.3, 0.1), Effect(0.5, 0.1)])
    >>> round(found.mean, 6), round(found.spread**2, 6)
    (0.3, 0.03)
    """
    y = np.array([effect.value for effect in effects])
    variance = np.array([effect.error for effect in effects]) ** 2
    w = 1 / variance
    q = float((w * (y - np.average(y, weights=w)) ** 2).sum())
    between = max(0.0, (q - (len(y) - 1)) / float(w.sum() - (w**2).sum() / w.sum()))
    w = 1 / (variance + between)
    mean, error = float(np.average(y, weights=w)), 1 / math.sqrt(float(w.sum()))
    half, ahead = 1.959964 * error, float(student.ppf(0.975, len(y) - 2)) * math.sqrt(between + error**2)
    return Summary(mean, mean - half, mean + half, mean - ahead, mean + ahead, math.sqrt(between))


def band(patients: int) -> str:
    """Return how many patients a hospital has, as a band."""
    above = [edge for edge in _BANDS if edge > patients]
    return f"{_BANDS[-1]} or more" if not above else f"{max(_BANDS[_BANDS.index(above[0]) - 1], 0)}-{above[0] - 1}"


def run(site: int, folder: Path) -> dict[str, Effect]:
    """Train without one hospital and score there."""
    whole = _loaded("MDS", folder)
    here, rng = whole.site == site, np.random.default_rng([21, site])
    data, sites = whole.tier(ALL), whole.site[~here]
    rest, held = data.rows(~here), data.rows(here)
    risks: dict[str, Float64] = {
        "federated": arms.lockstep("MDS", rest, sites, site)(held),
        "ε = 1": arms.private("MDS", rest, sites, 1.0, (site, 21))(held),
    }
    for published in ("IPSS-R", "IPSS-M"):
        values = whole.scores[published]
        risks[published] = np.where(np.isfinite(values), values, np.nanmean(values[~here]))[here]
    return _effects(risks, held, rng)


def _effects(risks: dict[str, Float64], held: SurvivalData, rng: np.random.Generator) -> dict[str, Effect]:
    """C of each risk, and of the federated model less each other one, by the same draws of patients."""
    draws = [rng.integers(0, len(held), len(held)) for _ in range(_DRAWS)]
    found = {arm: harrell_c(risk, held) for arm, risk in risks.items()}
    drawn = {arm: np.array([harrell_c(risk[d], held.rows(d)) for d in draws]) for arm, risk in risks.items()}
    effects = {arm: Effect(found[arm], float(np.nanstd(drawn[arm], ddof=1))) for arm in risks}
    for arm in risks:
        if arm != "federated":
            apart = drawn["federated"] - drawn[arm]
            effects[f"less {arm}"] = Effect(found["federated"] - found[arm], float(np.nanstd(apart, ddof=1)))
    return effects


def rows(asked: Asked) -> Iterator[Row]:
    """Measure the figures of this module, and draw them unless in a hurry."""
    whole = _loaded("MDS", asked.folder)
    sizes = np.bincount(whole.site)
    order = np.argsort(-sizes, kind="stable")[: 4 if asked.quick else None]
    found = []
    with pool(asked.workers) as processes:
        for number, effects in enumerate(processes.map(run, order.tolist(), repeat(asked.folder)), 1):
            asked.tell(f"hospital {number} of {len(order)}")
            found.append(effects)
    labels = [f"hospital {number} ({band(int(sizes[site]))} patients)" for number, site in enumerate(order, 1)]
    if not asked.quick:
        _plot(labels, found)
    yield from _lines(found)


def _lines(found: list[dict[str, Effect]]) -> Iterator[Row]:
    count = f"{len(found)} hospitals"
    for arm in ARMS:
        s = summary([effects[arm] for effects in found])
        what = f"hospital left out: {arm} (95 % {s.low:.3f} … {s.high:.3f}; next hospital "
        yield Row("6.21", f"{what}{s.next_low:.3f} … {s.next_high:.3f}; {count})", s.mean, "C-index")
    for arm in ARMS[1:]:
        s = summary([effects[f"less {arm}"] for effects in found])
        what = f"hospital left out: federated less {arm} (95 % {s.low:+.3f} … {s.high:+.3f}; next hospital "
        yield Row("6.22", f"{what}{s.next_low:+.3f} … {s.next_high:+.3f})", s.mean, "C-index")


def _plot(labels: list[str], found: list[dict[str, Effect]]) -> None:
    """C of the federated model and its gain over IPSS-R, a line for each hospital."""
    panels = []
    for arm, title in (
        ("federated", "C-index where the hospital was left out"),
        ("less IPSS-R", "the same less IPSS-R"),
        ("less ε = 1", "without noise less ε = 1"),
    ):
        of = [effects[arm] for effects in found]
        lines = [
            Line(name, e.value, e.value - 1.96 * e.error, e.value + 1.96 * e.error)
            for name, e in zip(labels, of, strict=True)
        ]
        s = summary(of)
        panels.append(
            (title, [*lines, Line("all; pale: the next hospital", s.mean, s.low, s.high, (s.next_low, s.next_high))])
        )
    draw(RESULTS / PLOT, panels, marks=(0.5, 0.0, 0.0))
