"""SAVAE on the real hospitals of the MDS cohort: figures 6.1b and 6.4, on the folds of `centres`.

The preset is the public one, chosen on METABRIC and BeatAML; nothing of it was chosen on this cohort. Pooled and in
lockstep it takes the same clipped steps, without noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.dp.utility import pool
from benchmarks.models import learned
from benchmarks.models.centres import ALL, FOLDS, SEEDS, Fold, Scores, _folds, _loaded, difference
from benchmarks.report import Row
from benchmarks.sections import Asked
from models.metrics import harrell_c, within_c

__all__ = ["rows", "run"]


def run(fold: Fold) -> Scores:
    """Train pooled and in lockstep on one fold."""
    whole = _loaded(fold.cohort, fold.folder)
    train, test = fold.parts(len(whole.data))
    data, sites = whole.tier(ALL), whole.site[train]
    inside, held = data.rows(train), data.rows(test)
    chosen = learned.of_disease("savae-wide", fold.cohort, len(train)).described(binary=whole.binary(data.features))
    found: Scores = {}
    for arm, parts in (("pooled", [inside]), ("lockstep", [inside.rows(sites == site) for site in np.unique(sites)])):
        risk = learned.risk_of(learned.train(chosen, parts, fold.seed * FOLDS + fold.fold))(held)
        found[arm], found[f"within: {arm}"] = harrell_c(risk, held), within_c(risk, held, whole.site[test])
    return found


def rows(asked: Asked) -> Iterator[Row]:
    """Measure the figures of this module."""
    _loaded("MDS", asked.folder)
    found = []
    with pool(asked.workers) as processes:
        folds = _folds("MDS", asked.folder, 1 if asked.quick else SEEDS)
        for number, scores in enumerate(processes.map(run, folds), 1):
            asked.tell(f"fold {number} of {len(folds)}")
            found.append(scores)
    d = difference([scores["lockstep"] - scores["pooled"] for scores in found])
    what = f"SAVAE, federated in lockstep less pooled (95 % {d.low:+.4f} … {d.high:+.4f}, {len(found)} folds)"
    yield Row("6.1b", what, d.mean, "C-index", -0.005, "higher", 0.0)
    values = {arm: np.array([scores[arm] for scores in found]) for arm in found[0]}
    what = f"SAVAE, pooled without noise (sd of folds {values['pooled'].std(ddof=1):.3f})"
    yield Row("6.4", what, float(values["pooled"].mean()), "C-index", 0.72, "higher", 0.745)
    for arm in ("lockstep", "within: pooled", "within: lockstep"):
        yield Row("6.4", f"SAVAE, {arm}", float(values[arm].mean()), "C-index")
