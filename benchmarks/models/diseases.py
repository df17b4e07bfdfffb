"""Other diseases against their published scores: figures 6.11–6.13, repeated five-fold cross-validation, pooled.

BeatAML over ELN 2017, CMML over CPSS, myeloma over ISS. The score is the published one as it is; who has none gets the
training fold's mean. Ridge Cox and DeepSurv stand side by side; the bar is on the better one of the two *by rule*:
DeepSurv, whose constants were chosen elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.dp.utility import pool
from benchmarks.models import arms
from benchmarks.models.centres import FOLDS, Fold, Scores, _folds, _loaded, difference
from benchmarks.report import Row
from benchmarks.sections import Asked
from models.metrics import harrell_c

__all__ = ["aml", "cmml", "mm"]


def run(tier: str, fold: Fold) -> Scores:
    """Train and score on one fold."""
    whole = _loaded(fold.cohort, fold.folder)
    train, test = fold.parts(len(whole.data))
    data = whole.tier(tier)
    inside, held = data.rows(train), data.rows(test)
    found = {
        "ridge Cox": harrell_c(arms.ridge_cox(inside, fold.rng)(held), held),
        "DeepSurv": harrell_c(arms.deepsurv(fold.cohort, inside, fold.seed * FOLDS + fold.fold)(held), held),
    }
    for name, values in whole.scores.items():
        mean = values[train][np.isfinite(values[train])].mean()
        found[name] = harrell_c(np.where(np.isfinite(values), values, mean)[test], held)
    return found


def _over(asked: Asked, cohort: str, tier: str, score: str, level: float) -> tuple[list[Scores], str]:
    _loaded(cohort, asked.folder)
    folds = _folds(cohort, asked.folder, 2 if asked.quick else 10)
    with pool(asked.workers) as processes:
        found = list(processes.map(partial(run, tier), folds))
    d = difference([scores["DeepSurv"] - scores[score] for scores in found], level=level)
    return found, f"{100 * level:.0f} % {d.low:+.4f} … {d.high:+.4f}, {len(found)} folds"


def _arms(figure: str, cohort: str, score: str, found: list[Scores]) -> Iterator[Row]:
    d = difference([scores["ridge Cox"] - scores[score] for scores in found])
    yield Row(figure, f"{cohort}: ridge Cox less {score} (95 % {d.low:+.4f} … {d.high:+.4f})", d.mean, "C-index")
    for arm in found[0]:
        yield Row(figure, f"{cohort}: {arm}", float(np.mean([scores[arm] for scores in found])), "C-index")


def aml(asked: Asked) -> Iterator[Row]:
    """BeatAML over ELN 2017."""
    found, interval = _over(asked, "AML", "+ genes", "ELN 2017", 0.95)
    mean = float(np.mean([scores["DeepSurv"] - scores["ELN 2017"] for scores in found]))
    yield Row("6.11", f"BeatAML: DeepSurv less ELN 2017 ({interval})", mean, "C-index", 0.05)
    yield from _arms("6.11", "BeatAML", "ELN 2017", found)


def cmml(asked: Asked) -> Iterator[Row]:
    """CMML over CPSS, haemoglobin in place of transfusion: no bar, too few patients."""
    found, interval = _over(asked, "CMML", "+ genes", "CPSS", 0.95)
    mean = float(np.mean([scores["DeepSurv"] - scores["CPSS"] for scores in found]))
    yield Row("6.12", f"CMML: DeepSurv less CPSS ({interval})", mean, "C-index", aim=0.0)
    for score in ("CPSS-Mol", "IPSS-M"):
        d = difference([scores["DeepSurv"] - scores[score] for scores in found])
        yield Row("6.12", f"CMML: DeepSurv less {score} (95 % {d.low:+.4f} … {d.high:+.4f})", d.mean, "C-index")
    yield from _arms("6.12", "CMML", "CPSS", found)


def mm(asked: Asked) -> Iterator[Row]:
    """Myeloma over ISS: the bar is on the lower end of the 90 % interval."""
    found, interval = _over(asked, "MM", "+ drugs", "ISS", 0.90)
    d = difference([scores["DeepSurv"] - scores["ISS"] for scores in found], level=0.90)
    name = f"myeloma: DeepSurv less ISS, lower end (mean {d.mean:+.4f}; {interval})"
    yield Row("6.13", name, d.low, "C-index", 0.0, "higher", 0.03)
    yield from _arms("6.13", "myeloma", "ISS", found)
