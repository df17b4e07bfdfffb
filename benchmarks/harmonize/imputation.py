"""What to do about missing values, measured on a public cohort: figure 5.8.

The IWG-PM cohort (MDS, Bernard 2022): in five strong predictors 30 % of the values are deleted, in training and
hold-out patients alike, by three mechanisms:

| mechanism                       | a value is deleted with a probability that depends on        |
|---------------------------------|--------------------------------------------------------------|
| completely at random (MCAR)     | nothing                                                      |
| at random (MAR)                 | age and neutrophils, which are kept                          |
| not at random (MNAR)            | the value itself                                             |

Then a ridge Cox model is trained on 70 % of the patients and ranks the other 30 %; ways differ in what it is given. The
imputation model is learned from training patients alone, in two rounds, without noise or with that of ε = 1 at δ = 10⁻⁵
for both together. Last, whole private trainings of DeepSurv at ε = 2: the default, and a study that imputes, whose
sums for it are paid out of the same ε. No bar: which way is best depends on the cohort.

    python -m benchmarks.harmonize.imputation [--quick] [--data DIR]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from scipy.optimize import minimize

from benchmarks import report, timing
from benchmarks.cohorts import Cohort, load
from benchmarks.report import Row
from benchmarks.sections import Asked
from dp.calibration import split_budget
from dp.central import CentralSum
from dp.queries import Float64, Query
from models.data import INPUT_BOUND, SurvivalData, inputs
from models.gaussian import Covariate, JointNormal
from models.imputation import Imputation, Marks, draws, fit, impute
from models.metrics import harrell_c
from models.plan import Spec, survival_plan
from models.presets import PRESETS
from models.training import initial_weights
from nodes import imputing
from nodes.protocol import SPARE_UPLOADS, TRAINING_SHARES

__all__ = ["rows"]

_FIGURE: Final = "5.8"
_DELETED: Final = ("clin_bm_blast", "clin_hb", "clin_plt", "cyto_ipssr", "cyto_complex")
_NUMBERS: Final = (
    "clin_age", "clin_bm_blast", "clin_pb_blast", "clin_wbc", "clin_anc", "clin_monocytes", "clin_hb", "clin_plt",
    "cyto_ipssr",
)  # fmt: skip
_PROPERTIES: Final = ("cyto_complex", "cyto_del5q", "mut_TP53multi", "mut_SF3B1")
_COVARIATES: Final = (*_NUMBERS, *_PROPERTIES)
_SHARE: Final = 0.3
_RADIUS: Final = 3.5
_ROUNDS: Final = 2
_RIDGE: Final = 20.0
_DELTA: Final = 1e-5
_SEEDS: Final = 6
_EPSILON: Final = 2.0  # of a whole private training
_SITES: Final = (6, 1, 6)  # sites, of them not counted on, shares of noise in a sum
_NOISES: Final = 2
_CAP: Final = 4096
_SECRET: Final = bytes(32)  # of nobody: the cohort is public


def rows(asked: Asked) -> Iterable[Row]:
    """Return the mean C-index of every way under every mechanism, and what imputation explains of deleted values.

    Raises:
        CohortMissing: the cohort is not there.
    """
    cohort = load("MDS", asked.folder)
    seeds = range(1 if asked.quick else _SEEDS)
    yield from _mean("nothing deleted", [_whole(cohort, seed) for seed in seeds])
    for mechanism, weights in _MECHANISMS.items():
        found = [dict(_ways(cohort, weights, seed)) for seed in seeds]
        for way in found[0]:
            yield from _mean(f"{mechanism}: {way}", [one[way] for one in found])
        asked.tell(mechanism)


def _mean(name: str, values: list[float]) -> Iterator[Row]:
    yield Row(_FIGURE, name, float(np.mean(values)), "R²" if "explained" in name else "C")


# ---------------------------------------------------------------- deleting


def _cohort_columns(cohort: Cohort, names: Iterable[str]) -> list[int]:
    return [cohort.features.index(name) for name in names]


def _at_random(cohort: Cohort, _: int) -> Float64:
    age, neutrophils = (_standard(cohort, name) for name in ("clin_age", "clin_anc"))
    return 1.5 * (age - neutrophils)


def _by_itself(cohort: Cohort, column: int) -> Float64:
    return 1.5 * _standard(cohort, cohort.features[column])


_MECHANISMS: Final[dict[str, Callable[[Cohort, int], Float64]]] = {
    "MCAR": lambda cohort, _: np.zeros(len(cohort)),
    "MAR": _at_random,
    "MNAR": _by_itself,
}


def _standard(cohort: Cohort, name: str) -> Float64:
    column = cohort.features.index(name)
    seen = cohort.data.observed[:, column]
    x = np.where(seen, cohort.data.x[:, column], 0.0)
    standard: Float64 = np.where(seen, (x - x[seen].mean()) / x[seen].std(), 0.0)
    return standard


def _deleted(cohort: Cohort, scores: Callable[[Cohort, int], Float64], rng: np.random.Generator) -> SurvivalData:
    data = cohort.data
    observed = data.observed.copy()
    for column in _cohort_columns(cohort, _DELETED):
        score = scores(cohort, column)
        low, high = -20.0, 20.0  # the intercept at which the expected share is as wanted
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _logistic(score + middle).mean() < _SHARE else (low, middle)
        observed[:, column] &= rng.random(len(cohort)) >= _logistic(score + low)
    return SurvivalData(data.x, observed, data.duration, data.event)


def _logistic(score: Float64) -> Float64:
    share: Float64 = 1.0 / (1.0 + np.exp(-score))
    return share


# ---------------------------------------------------------------- the ways


def _split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    return order[: n * 7 // 10], order[n * 7 // 10 :]


def _whole(cohort: Cohort, seed: int) -> float:
    train, test = (cohort.data.rows(part) for part in _split(len(cohort), seed))
    return harrell_c(inputs(test.x, test.observed) @ _cox(inputs(train.x, train.observed), train), test)


def _ways(cohort: Cohort, scores: Callable[[Cohort, int], Float64], seed: int) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng([seed, 58])
    data = _deleted(cohort, scores, rng)
    first, second = _split(len(cohort), seed)
    train, test = data.rows(first), data.rows(second)
    complete = train.rows(np.flatnonzero(train.observed[:, _cohort_columns(cohort, _DELETED)].all(axis=1)))
    for way, on in (("complete cases", complete), ("mask + fill", train)):
        weights = _cox(inputs(on.x, on.observed), on)
        yield way, harrell_c(inputs(test.x, test.observed) @ weights, test)
    for name, epsilon in (("no noise", math.inf), ("ε = 1", 1.0)):
        study = _study(cohort, epsilon)
        model = fit(study, train, _Door(rng, noise=epsilon < math.inf))
        filled = [impute(study, model, part).data(Marks.OBSERVED) for part in (train, test)]
        yield f"MICE, means, {name}", _scored(filled[0], filled[1], test)
        with_mask = [_masked(done, part) for done, part in zip(filled, (train, test), strict=True)]
        yield f"MICE, means and mask, {name}", harrell_c(with_mask[1] @ _cox(with_mask[0], train), test)
        yield f"MICE, 5 draws, {name}", _drawn(study, model, train, test)
        yield f"explained by MICE, {name}", _explained(cohort, second, test, filled[1])
    yield "private training, mask + fill, ε = 2", _trained(cohort, (train, test), seed, imputed=False)
    yield "private training, imputed, ε = 2", _trained(cohort, (train, test), seed, imputed=True)


def _study(cohort: Cohort, epsilon: float) -> Imputation:
    z = split_budget(epsilon, _DELTA, {"sum": (1.0, _ROUNDS)})["sum"] if epsilon < math.inf else 1e-6
    columns = [Covariate(n, cohort.features.index(n), -INPUT_BOUND, INPUT_BOUND) for n in _NUMBERS]
    columns += [Covariate(n, cohort.features.index(n), 0.0, 1.0, two_valued=True) for n in _PROPERTIES]
    return Imputation(tuple(columns), _RADIUS, z, 10_000, _ROUNDS)


class _Door:
    """The sum of one pooled site: what six sites add up to, and the noise that it would carry."""

    def __init__(self, rng: np.random.Generator, *, noise: bool) -> None:
        self._rng, self._noise = rng, noise

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        noise = query.multiplier * query.sensitivity * self._rng.normal(size=query.length)
        return contribution() + (noise if self._noise else 0.0)


def _masked(filled: SurvivalData, original: SurvivalData) -> Float64:
    gaps = 1.0 - original.observed.astype(np.float64)
    return np.concatenate([np.where(filled.observed, filled.x, 0.0), gaps], axis=1)


def _scored(train: SurvivalData, test: SurvivalData, outcome: SurvivalData) -> float:
    return harrell_c(inputs(test.x, test.observed) @ _cox(inputs(train.x, train.observed), train), outcome)


def _drawn(study: Imputation, model: JointNormal, train: SurvivalData, test: SurvivalData) -> float:
    risk = np.zeros(len(test))
    tables = [
        draws(study, model, part, [f"{name}{i}" for i in range(len(part))], _SECRET)
        for name, part in (("train", train), ("test", test))
    ]
    for one, other in zip(*tables, strict=True):
        here, there = one.data(Marks.OBSERVED), other.data(Marks.OBSERVED)
        risk += inputs(there.x, there.observed) @ _cox(inputs(here.x, here.observed), here)
    return harrell_c(risk, test)


def _explained(cohort: Cohort, rows: np.ndarray, test: SurvivalData, filled: SurvivalData) -> float:
    """Share of the variance of the deleted numbers that the imputed ones have, mean over the four numbers."""
    shares = []
    for column in _cohort_columns(cohort, _DELETED[:4]):
        true, known = cohort.data.x[rows, column], cohort.data.observed[rows, column]
        gaps = known & ~test.observed[:, column]
        shares.append(1.0 - np.mean((filled.x[gaps, column] - true[gaps]) ** 2) / np.var(true[known]))
    return float(np.mean(shares))


# ---------------------------------------------------------------- a study's own training


def _trained(cohort: Cohort, parts: tuple[SurvivalData, SurvivalData], seed: int, *, imputed: bool) -> float:
    """C-index of a study's training and recalibration with six sites' noise, mean over two draws of it."""
    columns = _cohort_columns(cohort, _COVARIATES)
    train, test = (SurvivalData(d.x[:, columns], d.observed[:, columns], d.duration, d.event) for d in parts)
    spec = _spec(len(train), seed, imputed=imputed)
    test, scores = test.bounded(spec.preset.horizon), []
    for draw in range(_NOISES):
        noise = random.Random(10 * seed + draw).randbytes  # noqa: S311 - a benchmark that anybody can repeat
        model = survival_plan(spec, train, test.rows(np.zeros(len(test), dtype=bool)), CentralSum(noise, *_SITES)).model
        scores.append(harrell_c(model.risk(test.x, test.observed), test))
    return float(np.mean(scores))


def _spec(patients: int, seed: int, *, imputed: bool) -> Spec:
    preset = PRESETS["aml-small"].sized(patients)
    shares = {imputing.KIND: imputing.SHARE} if imputed else {}
    shares |= {kind: share * (1 - sum(shares.values())) for kind, share in TRAINING_SHARES.items()}
    uploads = {imputing.KIND: _ROUNDS, "gradient": preset.uploads}
    found = split_budget(
        _EPSILON, _DELTA, {k: (share, uploads.get(k, 1 + SPARE_UPLOADS.get(k, 0))) for k, share in shares.items()}
    )
    covariates = [Covariate(n, i, -INPUT_BOUND, INPUT_BOUND) for i, n in enumerate(_NUMBERS)]
    covariates += [Covariate(n, len(_NUMBERS) + i, 0.0, 1.0, two_valued=True) for i, n in enumerate(_PROPERTIES)]
    radius = math.sqrt(len(_NUMBERS) + len(_PROPERTIES) / 4)  # what `nodes.imputing.chosen` takes
    study = Imputation(tuple(covariates), radius, found[imputing.KIND], _CAP, _ROUNDS) if imputed else None
    weights = initial_weights(preset, len(_COVARIATES), seed.to_bytes(8, "little"))
    return Spec(preset, _COVARIATES, weights, found, _CAP, imputation=study)


# ---------------------------------------------------------------- ridge Cox


def _cox(z: Float64, data: SurvivalData) -> Float64:
    """Weights of Breslow's partial likelihood less ½·ridge·‖w‖²; float64[columns]."""
    order = np.argsort(-data.duration, kind="stable")
    z, time, died = z[order], data.duration[order], data.event[order]
    last = np.searchsorted(-time, -time, side="right") - 1  # of those still followed at this time

    def loss(weights: Float64) -> tuple[float, Float64]:
        risk = z @ weights
        top = risk.max()
        hazard = np.exp(risk - top)
        at_risk = np.cumsum(hazard)[last]
        shares = np.zeros(len(z))
        np.add.at(shares, last[died], 1.0 / at_risk[died])
        expected = hazard * np.cumsum(shares[::-1])[::-1]
        value = float(np.sum(np.log(at_risk[died]) + top - risk[died])) + _RIDGE / 2 * float(weights @ weights)
        return value, z.T @ (expected - died) + _RIDGE * weights

    found: Float64 = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one split instead of six")
    parser.add_argument("--data", type=Path, help="folder of the public cohorts; HAEMFED_DATA by default")
    given = parser.parse_args()
    timing.single_threaded()
    print(report.table("Missing values", list(rows(Asked(given.quick, given.data)))))


if __name__ == "__main__":
    main()
