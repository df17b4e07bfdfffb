"""How much of what privacy costs in likelihood comes back at the same total ε: figure 6.19.

Three arms on the folds of `centres`, every hospital its own clipped sum and share of the noise:

| arm        | steps                                                      | baseline                       |
|------------|------------------------------------------------------------|--------------------------------|
| as trained | C = 1; the gradient has the recalibration's part of ε, too | as the steps left it           |
| chosen     | C as it was chosen on other cohorts                        | recalibrated, same total ε     |
| without    | no noise: DeepSurv of figure 6.3, one member               | as penalised training left it  |

The share is (as trained − chosen) ÷ (as trained − without), of mean test −log-likelihoods per patient. "Without" is the
best that is known without privacy, not the same 60 steps without noise, which would flatter the share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.dp import federation
from benchmarks.dp.settings import DELTA, preset_of
from benchmarks.dp.utility import interval, pool
from benchmarks.models import learned
from benchmarks.models.arms import uncounted
from benchmarks.models.centres import ALL, FOLDS, Fold, Scores, _folds, _loaded
from benchmarks.models.settings import PRIVATE, of_disease
from benchmarks.report import Row
from benchmarks.sections import Asked
from dp.calibration import split_budget
from models.data import SurvivalData
from models.metrics import harrell_c, negative_log_likelihood
from models.predict import SurvivalModel
from models.presets import Preset
from models.recalibration import Breslow
from nodes.protocol import SPARE_UPLOADS, TRAINING_SHARES

__all__ = ["rows", "run"]

EPSILON: Final = 1.0
_CLIP: Final = 1.0


def _multipliers(chosen: Preset, *, recalibrated: bool) -> dict[str, float]:
    """Noise multipliers of a study of this ε; without recalibration its share goes to the gradient."""
    gradient, breslow = TRAINING_SHARES["gradient"], TRAINING_SHARES["breslow"]
    shares = {"gradient": (gradient if recalibrated else gradient + breslow, chosen.uploads)}
    if recalibrated:
        shares["breslow"] = (breslow, 1 + SPARE_UPLOADS["breslow"])
    return split_budget(EPSILON, DELTA, shares)


def _private(chosen: Preset, parts: list[SurvivalData], fold: Fold, *, recalibrated: bool) -> SurvivalModel:
    multipliers = _multipliers(chosen, recalibrated=recalibrated)
    sites = len(parts)
    streams = [federation.stream("gap", chosen.clip, fold.seed, fold.fold, site) for site in range(sites)]
    door = federation.Distributed(sites, sites - uncounted(sites), streams)
    model = learned.train(chosen, parts, fold.seed * FOLDS + fold.fold, door, multipliers["gradient"])
    if not recalibrated:
        return model
    release = Breslow(model, chosen)
    query = release.query(multipliers["breslow"], federation.PATIENT_CAP)
    total = door(query, [release.contribution(part) for part in parts])
    inflation = (sites / (sites - uncounted(sites))) ** 0.5
    return release.decode(total, query.multiplier * query.sensitivity * inflation).model


def run(fold: Fold) -> Scores:
    """−log-likelihood and C-index of the three arms on one fold."""
    whole = _loaded(fold.cohort, fold.folder)
    train, test = fold.parts(len(whole.data))
    data, sites = whole.tier(ALL), whole.site[train]
    inside, held = data.rows(train), data.rows(test)
    parts = [inside.rows(sites == site) for site in np.unique(sites)]
    chosen = preset_of(fold.cohort, PRIVATE, len(train))
    bounded = held.bounded(chosen.horizon)
    found: Scores = {}
    for arm, which, recalibrated in (
        ("as trained", replace(chosen, clip=_CLIP), False),
        ("C = 1, recalibrated", replace(chosen, clip=_CLIP), True),
        ("chosen C, as trained", chosen, False),
        ("chosen", chosen, True),
    ):
        model = _private(which, parts, fold, recalibrated=recalibrated)
        found[arm] = negative_log_likelihood(model, bounded)
        found[f"C-index: {arm}"] = harrell_c(model.risk(bounded.x, bounded.observed), bounded)
    best = replace(of_disease(fold.cohort), members=1).sized(len(train))
    trained = learned.train(best, [inside], fold.seed * FOLDS + fold.fold)
    found["without"] = negative_log_likelihood(trained, bounded)
    found["C-index: without"] = harrell_c(trained.risk(bounded.x, bounded.observed), bounded)
    return found


def rows(asked: Asked) -> Iterator[Row]:
    """Measure figure 6.19."""
    _loaded("MDS", asked.folder)
    with pool(asked.workers) as processes:
        found = []
        folds = _folds("MDS", asked.folder, 1 if asked.quick else 2)
        for number, scores in enumerate(processes.map(run, folds), 1):
            asked.tell(f"fold {number} of {len(folds)}")
            found.append(scores)
    means = {arm: float(np.mean([scores[arm] for scores in found])) for arm in found[0]}
    gap = [scores["as trained"] - scores["without"] for scores in found]
    closed = [scores["as trained"] - scores["chosen"] for scores in found]
    _, low, high = interval([one / other for one, other in zip(closed, gap, strict=True)])
    what = (
        f"ε = {EPSILON:g}: gap in negative log-likelihood closed by C = {PRIVATE.clip:g} and recalibration "
        f"(95 % {low:.2f} … {high:.2f}, {len(found)} folds)"
    )
    yield Row("6.19", what, 100 * sum(closed) / sum(gap), "%", 50.0, "higher", 75.0)
    for arm, value in means.items():
        unit = "C-index" if arm.startswith("C-index") else "nats"
        yield Row("6.19", f"ε = {EPSILON:g}: {arm.removeprefix('C-index: ')}", value, unit)
