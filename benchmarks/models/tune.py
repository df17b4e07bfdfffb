"""Choose the constants of the disease presets (`models.presets`) on public cohorts, and write down what was tried.

    make bench-preset        (or: python -m benchmarks.models.tune [--data DIR] [--only deepsurv-open,…])

| preset for     | cohorts with a vote          |
|----------------|------------------------------|
| mds, cmml, mm  | BeatAML and METABRIC         |
| aml            | METABRIC and CoMMpass (MM)   |

So no disease's constants are chosen on its own cohort. Every candidate is trained by the product's own steps
(`models.training.descend`) on four fifths of a cohort and scored by Harrell's C on the last fifth: three folds of one
deal without noise ("open"), all five with it ("private"), each with another noise. That is the noise of the gradients
of a study of 1,000 training patients with a total ε = 2, δ = 1e-5, scaled to the cohort's size, so that a candidate
sees the signal against noise of such a study.

Rule: the first candidate is what was in use before; it stays unless another one's mean C over the votes is more than
.002 higher, because smaller differences are noise. Of DeepSurv without noise an earlier search on the same cohorts had
tried three of the candidates on more folds (`benchmarks.models.settings.FOUND`). It counts by its folds beside this
one, which alone would give MDS λ = 100 and κ = 10; that was decided after this search had been seen. Constants of the
recalibration come last, by the −log-likelihood of the test folds under DeepSurv. The table is the section "diseases" of
``benchmarks/results/preset.json``; a test holds the presets to it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import cohorts, timing
from benchmarks.cohorts import CohortMissing
from benchmarks.dp.federation import PATIENT_CAP, Door, Open
from benchmarks.models import learned
from benchmarks.models.settings import FOUND
from dp.calibration import split_budget
from dp.queries import Float64, Query
from models.data import SurvivalData
from models.fidelity.cox import parted
from models.metrics import harrell_c, negative_log_likelihood
from models.presets import Preset, preset
from models.recalibration import Breslow
from nodes.protocol import SPARE_UPLOADS, TRAINING_SHARES

__all__ = ["CANDIDATES", "RECALIBRATION", "TOLERANCE", "VOTES", "chosen", "recalibrated"]

EPSILON, DELTA, PATIENTS = 2.0, 1e-5, 1000.0
FOLDS: Final = 5
FOLDS_TESTED: Final = (3, 5)  # without noise, with it
FOLDS_EARLIER: Final = 5
TOLERANCE: Final = 0.002
OUT: Final = Path(__file__).resolve().parent.parent / "results" / "preset.json"

VOTES: Final[Mapping[str, tuple[str, ...]]] = {
    "aml": ("METABRIC", "MM"),
    "mds": ("AML", "METABRIC"),
    "cmml": ("AML", "METABRIC"),
    "mm": ("AML", "METABRIC"),
}
"""Disease → cohorts that choose its constants."""

_LONG: Final = {"steps": 200, "uploads": 220, "clip": 30.0, "learning_rate": 0.01, "averaging": 8.0}
_PRIVATE: Final = {"steps": 60, "uploads": 66, "clip": 3.0, "learning_rate": 0.01, "averaging": 3.0}
_SAVAE: Final = {"hidden": (8,), "latent": 4, "time_weight": 10.0, "kl_weight": 1.0, **_PRIVATE, "clip": 30.0}
_PLAIN: Final = {**_SAVAE, "update": "sgd-momentum", "learning_rate": 0.002}
_FUSION: Final = {"hidden": (), "latent": 8}
_BENCH: Final = {"hidden": (16,), "members": 3, "linear_penalty": 200.0, "hidden_penalty": 30.0, **_LONG}

CANDIDATES: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "cox-private": tuple(
        {**_PRIVATE, "hidden": (), "learning_rate": rate, "linear_penalty": penalty}
        for rate, penalty in ((0.01, 0.0), (0.02, 0.0), (0.01, 100.0), (0.02, 100.0))
    ),
    "cox-open": tuple({**_LONG, "hidden": (), "linear_penalty": penalty} for penalty in (200.0, 100.0, 50.0, 20.0)),
    "deepsurv-private": (
        {**_PRIVATE, "hidden": (8,)},
        {**_PRIVATE, "hidden": (8,), "learning_rate": 0.02},
        {**_PRIVATE, "hidden": (8,), "linear_penalty": 100.0, "hidden_penalty": 30.0},
        {**_PRIVATE, "hidden": (8,), "linear_penalty": 100.0, "hidden_penalty": 30.0, "learning_rate": 0.02},
        {**_PRIVATE, "hidden": (8,), "members": 3, "linear_penalty": 100.0, "hidden_penalty": 30.0},
    ),
    "deepsurv-open": (
        _BENCH,
        {**_BENCH, "linear_penalty": 100.0, "hidden_penalty": 10.0},
        {**_BENCH, "linear_penalty": 300.0},
        {**_BENCH, "hidden_penalty": 100.0},
        {**_BENCH, "members": 1},
    ),
    "savae-private": (
        _SAVAE,
        {**_SAVAE, "learning_rate": 0.005},
        {**_SAVAE, "learning_rate": 0.02},
        _PLAIN,
    ),
    "savae-open": (_SAVAE, {**_SAVAE, "steps": 120, "uploads": 132}, _PLAIN),
    "fusion-private": (
        {**_PRIVATE, **_FUSION, "learning_rate": 0.02},
        {**_PRIVATE, **_FUSION},
        {**_PRIVATE, **_FUSION, "linear_penalty": 100.0, "hidden_penalty": 30.0, "learning_rate": 0.02},
    ),
    "fusion-open": (
        {**_PRIVATE, **_FUSION, "learning_rate": 0.02},
        {**_LONG, **_FUSION, "linear_penalty": 200.0, "hidden_penalty": 30.0},
    ),
}
"""Learner and variant → what is tried, the incumbent first."""

_FOUND: Final = FOUND["DeepSurv, (λ, κ, steps): BeatAML, METABRIC"]
_NOTHING: Final[Mapping[int, Mapping[str, float]]] = {}
EARLIER: Final[Mapping[str, Mapping[int, Mapping[str, float]]]] = {
    "deepsurv-open": {
        place: dict(zip(("AML", "METABRIC"), _FOUND[key], strict=True))
        for place, key in enumerate(("(200, 30, 200)", "(100, 10, 200)", "(300, 30, 200)"))
    }
}
"""Learner and variant → candidate → its C in `benchmarks.models.settings.FOUND`: five folds of one deal at least."""

RECALIBRATION: Final = tuple(itertools.product((1.25, 1.5, 2.0, 5.0), (10.0, 40.0, 160.0, 400.0)))
"""(breslow_bound, breslow_pseudo_events)."""

_REST: Final[Mapping[str, Any]] = {
    "members": 1, "linear_penalty": 0.0, "hidden_penalty": 0.0, "latent": 0, "time_weight": 1.0, "kl_weight": 0.0,
    "update": "adam", "name": "candidate", "provenance": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """The law of a study's released sum of n patients whose noise weighs as that of a study of `PATIENTS`."""

    rng: np.random.Generator
    patients: int

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """See `Door`."""
        deviation = query.multiplier * query.sensitivity * self.patients / PATIENTS
        total: Float64 = np.sum(sums, axis=0) + deviation * self.rng.normal(size=query.length)
        return total


@cache
def _cohort(name: str) -> tuple[SurvivalData, tuple[int, ...], tuple[int, ...]]:
    """Patients, 0/1 columns, and widths of the groups of columns of one kind (as their names begin)."""
    found = cohorts.load(name)
    x = np.where(found.data.observed, found.data.x, 0.0)
    binary = tuple(int(j) for j in np.flatnonzero(np.isin(x, (0.0, 1.0)).all(axis=0)))
    kinds = [feature.partition("_")[0] for feature in found.features]
    groups = tuple(len(list(group)) for _, group in itertools.groupby(kinds))
    return found.data, binary, groups if len(groups) == len(set(kinds)) <= 4 else ()


def _preset(kind: str, cohort: str, changes: Mapping[str, Any], patients: int) -> Preset:
    """A candidate for one cohort: its grid and hazard, its columns."""
    _, binary, blocks = _cohort(cohort)
    full = {**_REST, **changes, "learner": kind.partition("-")[0]}
    start = replace(preset("aml-small"), **full)
    return learned.sized(start, cohort, patients).described(binary=binary, blocks=blocks)


def _multipliers(uploads: int) -> dict[str, float]:
    kinds = {"gradient": uploads} | {kind: 1 + more for kind, more in SPARE_UPLOADS.items()}
    return split_budget(EPSILON, DELTA, {kind: (TRAINING_SHARES[kind], count) for kind, count in kinds.items()})


def _trained(kind: str, cohort: str, changes: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """(preset, model, training patients, test patients, door) of each fold."""
    data = _cohort(cohort)[0]
    private = kind.endswith("-private")
    parts = list(parted(len(data), FOLDS, np.random.default_rng([8, 0])))
    for fold, (train, test) in enumerate(parts[: FOLDS_TESTED[private]]):
        which = _preset(kind, cohort, changes, len(train))
        door: Door = Noise(np.random.default_rng([9, fold]), len(train)) if private else Open()
        z = _multipliers(which.uploads)["gradient"] if private else 1.0
        inside = data.rows(train)
        yield which, learned.train(which, [inside], fold, door, z), inside, data.rows(test), door


def _c(kind: str, cohort: str, changes: Mapping[str, Any]) -> float:
    """Mean C on the test folds."""
    scores = []
    for which, model, _, test, _ in _trained(kind, cohort, changes):
        held = test.bounded(which.horizon)
        scores.append(harrell_c(model.risk(held.x, held.observed), held))
    return float(np.mean(scores))


def _likelihoods(kind: str, cohort: str, changes: Mapping[str, Any]) -> Float64:
    """Mean −log-likelihood of the test folds under each of `RECALIBRATION`, float64[m]."""
    found = []
    for which, model, train, test, door in _trained(kind, cohort, changes):
        z, held, row = _multipliers(which.uploads)["breslow"], test.bounded(which.horizon), []
        for bound, pseudo in RECALIBRATION:
            release = Breslow(model, replace(which, breslow_bound=bound, breslow_pseudo_events=pseudo))
            total = door(release.query(z, PATIENT_CAP), [release.contribution(train)])
            row.append(negative_log_likelihood(release.decode(total, 0.0).model, held))
        found.append(row)
    mean: Float64 = np.mean(found, axis=0)
    return mean


def chosen(
    rows: Sequence[Mapping[str, Any]], votes: Sequence[str], earlier: Mapping[int, Mapping[str, float]] = _NOTHING
) -> int:
    """The rule: which of the rows a group of cohorts chooses.

    >>> [chosen([{"c": {"A": 0.7}}, {"c": {"A": other}}], ["A"]) for other in (0.7015, 0.703)]
    [0, 1]

    Args:
        rows: candidates with the C on each cohort.
        votes: whose C counts.
        earlier: row → C on some of these cohorts in an earlier search; its gain counts by its folds.
    """

    def gain(place: int) -> float:
        found = [(FOLDS_TESTED[0], _mean(rows[place]["c"], votes) - _mean(rows[0]["c"], votes))]
        known = [vote for vote in votes if vote in earlier.get(place, {})]
        if known:
            found.append((FOLDS_EARLIER, _mean(earlier[place], known) - _mean(earlier[0], known)))
        return sum(folds * more for folds, more in found) / sum(folds for folds, _ in found)

    best = max(range(len(rows)), key=gain)
    return best if gain(best) > TOLERANCE else 0


def _mean(scores: Mapping[str, float], votes: Sequence[str]) -> float:
    return float(np.mean([scores[vote] for vote in votes]))


def recalibrated(rows: Sequence[Mapping[str, Any]], votes: Sequence[str]) -> int:
    """Which constants of the recalibration: the lowest mean −log-likelihood."""
    return int(np.argmin([np.mean([row["nll"][vote] for vote in votes]) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default=",".join(CANDIDATES), help="learner-variant,…; the others stay as they are")
    asked = parser.parse_args()
    timing.single_threaded()
    names = sorted({vote for votes in VOTES.values() for vote in votes})
    try:
        for name in names:
            cohorts.load(name, asked.data)
    except CohortMissing as error:
        sys.exit(f"tune: {error}")
    report = json.loads(OUT.read_text())
    section = report.setdefault("diseases", {"search": {}, "recalibration": {}})
    for kind in asked.only.split(","):
        start = time.process_time()
        rows = [{"constants": dict(changes), "c": {}} for changes in CANDIDATES[kind]]
        for row, name in itertools.product(rows, names):
            row["c"][name] = round(_c(kind, name, row["constants"]), 4)
        section["search"][kind] = {
            "rows": rows,
            "folds": FOLDS_TESTED[kind.endswith("-private")],
            "cpu_seconds": round(time.process_time() - start),
        }
        for row in rows:
            print(kind, row, flush=True)
        if kind.startswith("deepsurv"):
            nll = {name: _likelihoods(kind, name, CANDIDATES[kind][0]) for name in names}
            section["recalibration"][kind.partition("-")[2]] = [
                {
                    "bound": bound,
                    "pseudo_events": pseudo,
                    "nll": {name: round(float(nll[name][j]), 4) for name in names},
                }
                for j, (bound, pseudo) in enumerate(RECALIBRATION)
            ]
        section |= {"epsilon": EPSILON, "delta": DELTA, "patients": PATIENTS, "tolerance": TOLERANCE}
        OUT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
