"""Federated, pooled, alone: figures 6.1–6.5 and 6.7–6.10 on the real hospitals of the MDS cohort.

A seed deals five folds over all hospitals' patients together. In each fold every arm is trained on the same training
patients and scored by Harrell's C over all pairs of the same pooled test fold; the C of pairs inside one hospital
stands beside it. A hospital that trains alone is scored on that test fold too. Its patients in training may be few or
none; a hospital without a training patient is left out of the means of that fold.

Intervals are of differences of two arms on the same folds: mean ± t·sd·√(1/m + 1/4) over the m = 5 × seeds folds, the
corrected resampled t of Nadeau & Bengio (Mach Learn 2003;52:239): training sets overlap, so m folds are not m
independent measurements; ¼ is test over training patients. Nothing about a single hospital is written down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import t as student

from benchmarks.dp.utility import pool
from benchmarks.models import arms
from benchmarks.models.arms import Risk
from benchmarks.models.cohorts import Hospitals, load
from benchmarks.report import Row
from benchmarks.sections import Asked
from models.data import Float64, SurvivalData
from models.fidelity.cox import parted
from models.metrics import harrell_c, within_c

__all__ = ["FOLDS", "Difference", "difference", "rows", "run"]

FOLDS: Final = 5
SEEDS: Final = 5
SMALL: Final = 60  # patients of the smallest hospitals at most, in the whole cohort
ALL: Final = "+ genes"
_WITHIN: Final = "within: "

Scores = dict[str, float]


@dataclass(frozen=True)
class Fold:
    """One fold of one seed."""

    cohort: str
    seed: int
    fold: int
    folder: Path

    @property
    def rng(self) -> np.random.Generator:
        """Of everything in this fold that is drawn and is not the deal itself."""
        return np.random.default_rng([6, self.seed, self.fold])

    def parts(self, patients: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of training and test patients."""
        return list(parted(patients, FOLDS, np.random.default_rng([5, self.seed])))[self.fold]


@cache
def _loaded(name: str, folder: Path) -> Hospitals:
    return load(name, folder)


def run(fold: Fold) -> Scores:
    """Train and score every arm of one fold."""
    whole = _loaded(fold.cohort, fold.folder)
    train, test = fold.parts(len(whole.data))
    sites, number, name = whole.site[train], fold.seed * FOLDS + fold.fold, fold.cohort
    found: Scores = {}

    def score(arm: str, data: SurvivalData, make: Callable[[SurvivalData], Risk]) -> None:
        held = data.rows(test)
        risk = make(data.rows(train))(held)
        found[arm] = harrell_c(risk, held)
        found[_WITHIN + arm] = within_c(risk, held, whole.site[test])

    everything = whole.tier(ALL)
    for tier in whole.tiers:
        score(f"ridge Cox, {tier}", whole.tier(tier), lambda data: arms.ridge_cox(data, fold.rng))
    score("stratified Cox", everything, lambda data: arms.ridge_cox(data, fold.rng, sites))
    score("Cox PEM", everything, lambda data: arms.cox_pem(name, data, number))
    score("Cox PEM, lockstep", everything, lambda data: arms.lockstep(name, data, sites, number, hidden=False))
    for tier in ("clinical", "+ cytogenetic", ALL):
        score(f"DeepSurv, {tier}", whole.tier(tier), lambda data: arms.deepsurv(name, data, number))
    score("DeepSurv, lockstep", everything, lambda data: arms.lockstep(name, data, sites, number))
    score("DeepSurv, FedAvg", everything, lambda data: arms.federated_rounds(name, data, sites, number))
    score("DeepSurv, FedProx", everything, lambda data: arms.fedprox(name, data, sites, number))
    for epsilon in (1.0, 3.0):
        seed = (fold.seed, fold.fold)
        score(f"ε = {epsilon:g}", everything, lambda data: arms.private(name, data, sites, epsilon, seed))  # noqa: B023
    for published, values in whole.scores.items():
        known = values[train][np.isfinite(values[train])]
        found[published] = harrell_c(np.where(np.isfinite(values), values, known.mean())[test], everything.rows(test))
    return found | _isolated(fold, whole, train, test)


def _isolated(fold: Fold, whole: Hospitals, train: np.ndarray, test: np.ndarray) -> Scores:
    """Mean over hospitals of what each reaches alone, weighted by training patients; of all, and of the smallest."""
    data, held = whole.tier(ALL).rows(train), whole.tier(ALL).rows(test)
    sites, sizes = whole.site[train], np.bincount(whole.site)
    scores, weights, small = [], [], []
    for site in np.unique(sites):
        own = data.rows(sites == site)
        scores.append(harrell_c(arms.alone(fold.cohort, own, fold.rng)(held), held))
        weights.append(len(own))
        small.append(sizes[site] < SMALL)
    few = np.array(small)
    every, numbers = np.array(scores), np.array(weights)
    return {
        "alone": float(np.average(every, weights=numbers)),
        "alone, smallest": float(np.average(every[few], weights=numbers[few])),
    }


@dataclass(frozen=True)
class Difference:
    """Mean difference of two arms with its interval."""

    mean: float
    low: float
    high: float


def difference(values: Sequence[float], folds: int = FOLDS, level: float = 0.95) -> Difference:
    """Return mean and interval by the corrected resampled t.

    >>> found = difference([0.01, 0.02, 0.03, 0.02, 0.02])
    >>> round(found.mean, 4), round(found.high - found.mean, 4)
    (0.02, 0.0132)

    Args:
        values: differences on each fold of each deal.
        folds: of one deal.
        level: of the two-sided interval.
    """
    m = len(values)
    mean = float(np.mean(values))
    half = float(student.ppf((1 + level) / 2, m - 1) * np.std(values, ddof=1)) * math.sqrt(1 / m + 1 / (folds - 1))
    return Difference(mean, mean - half, mean + half)


def _folds(cohort: str, folder: Path, seeds: int) -> list[Fold]:
    return [Fold(cohort, seed, fold, folder) for seed in range(seeds) for fold in range(FOLDS)]


def measured(asked: Asked, processes: ProcessPoolExecutor) -> list[Scores]:
    """Run every fold."""
    folds = _folds("MDS", asked.folder, 1 if asked.quick else SEEDS)
    found = []
    for number, scores in enumerate(processes.map(run, folds), 1):
        asked.tell(f"fold {number} of {len(folds)}")
        found.append(scores)
    return found


_FIGURES: Final[Mapping[str, tuple[str, str, str, float | None, float | None]]] = {
    "6.1a": ("DeepSurv, federated in lockstep less pooled", "DeepSurv, lockstep", f"DeepSurv, {ALL}", -0.005, 0.0),
    "6.1c": ("linear Cox (PEM), federated in lockstep less pooled", "Cox PEM, lockstep", "Cox PEM", -0.005, 0.0),
    "6.1d": ("Cox, exact, stratified by hospital less pooled", "stratified Cox", f"ridge Cox, {ALL}", -0.005, 0.0),
    "6.1e": ("DeepSurv, FedAvg less pooled", "DeepSurv, FedAvg", f"DeepSurv, {ALL}", None, None),
    "6.1f": ("DeepSurv, FedProx less pooled", "DeepSurv, FedProx", f"DeepSurv, {ALL}", None, None),
    "6.2": ("DeepSurv, federated less alone (weighted mean)", "DeepSurv, lockstep", "alone", 0.03, 0.05),
    "6.3": ("DeepSurv, pooled less ridge Cox", f"DeepSurv, {ALL}", f"ridge Cox, {ALL}", -0.002, None),
    "6.5": ("federated at ε = 1 less pooled without noise", "ε = 1", f"DeepSurv, {ALL}", -0.010, -0.005),
    "6.6": ("hospitals under 60 patients: federated at ε = 1 less alone", "ε = 1", "alone, smallest", 0.03, 0.05),
    "6.7": ("all modalities less IPSS-R", f"DeepSurv, {ALL}", "IPSS-R", 0.04, None),
    "6.8": ("all modalities less clinical only", f"DeepSurv, {ALL}", "DeepSurv, clinical", 0.03, None),
    "6.9": ("all modalities at ε = 3 less IPSS-R", "ε = 3", "IPSS-R", 0.03, None),
    "6.10": ("all modalities less IPSS-M refitted in each fold", f"DeepSurv, {ALL}", "ridge Cox, IPSS-M", -0.005, 0.0),
}
"""Figure → name, arm, arm to be subtracted, bar, aim. 6.1b and 6.4 are SAVAE's."""


def rows(asked: Asked) -> Iterator[Row]:
    """Measure the figures of this module."""
    _loaded("MDS", asked.folder)
    with pool(asked.workers) as processes:
        found = measured(asked, processes)
    count = f"{len(found)} folds"
    for figure, (what, arm, other, bar, aim) in _FIGURES.items():
        d = difference([scores[arm] - scores[other] for scores in found])
        yield Row(figure, f"{what} (95 % {d.low:+.4f} … {d.high:+.4f}, {count})", d.mean, "C-index", bar, "higher", aim)
        if _WITHIN + arm in found[0] and _WITHIN + other in found[0]:
            d = difference([scores[_WITHIN + arm] - scores[_WITHIN + other] for scores in found])
            yield Row(figure, f"{what}, pairs of one hospital ({d.low:+.4f} … {d.high:+.4f})", d.mean, "C-index")
    for arm in found[0]:
        values: Float64 = np.array([scores[arm] for scores in found])
        yield Row("6.arms", f"{arm}: C-index (sd of folds {values.std(ddof=1):.3f}, {count})", values.mean(), "C-index")
