"""What distributed noise is worth: figures 4.6 and 4.7.

Every seed deals a cohort anew: a held-out fold (one of five), unequal hospitals, initial weights and noise. Only this
program can do so, because it holds all patients; nothing but means over seeds is written down.

4.6 compares a federation with a curator who has all patients and draws the same number of the same shares: same law of
the noise, independent draws. The number of seeds comes from a pilot. 4.7 compares with sites that protect themselves:
(a) each adds the whole noise to its sum and the sums are added; (b) each takes noisy steps alone and the models are
averaged (FedAvg). All three have the ε that they claim against the coordinator and three hospitals, and each the preset
that METABRIC gave it, so that no baseline runs with another one's step size; rows without a bar show the baselines with
the preset of distributed noise.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.cohorts import Cohort, load, split
from benchmarks.dp.federation import Distributed, Local, Open, descend, fedavg, score, stream, tensors
from benchmarks.dp.settings import WAYS, multiplier, preset_of
from benchmarks.report import Row
from models.data import SurvivalData
from models.presets import Preset
from models.training import initial_weights

__all__ = ["COHORTS", "EPSILONS", "Deal", "equivalences", "gain", "interval", "pair", "pool"]

COHORTS: Final = ("MDS", "AML", "MM")
EPSILONS: Final = (0.5, 1.0, 3.0)
MARGIN: Final = 0.005
GAIN: Final = 0.05
PILOT: Final = 16
FOLDS: Final = 5
_SITES, _COLLUSION = 6, 1
_MANY, _MANY_COLLUSION, _MANY_EPSILON = 16, 3, 0.5
_AIM: Final = 0.0025  # half-width asked of the pilot: an interval of two equal arms then lies inside 19 times in 20


@dataclass(frozen=True)
class Deal:
    """One seed's hospitals.

    Args:
        cohort: name.
        seed: decides fold, hospitals, weights and noise.
        sites: number of hospitals.
        data: folder of the cohorts.
    """

    cohort: str
    seed: int
    sites: int
    data: Path

    def whole(self) -> Cohort:
        """The cohort."""
        return _load(self.cohort, self.data)

    def sides(self) -> tuple[SurvivalData, SurvivalData]:
        """Patients who train, patients of the held-out fold."""
        cohort = self.whole()
        order = np.random.default_rng([1, self.seed // FOLDS]).permutation(len(cohort))
        fold = self.seed % FOLDS
        held = np.zeros(len(cohort), dtype=bool)
        held[order[fold::FOLDS]] = True
        return cohort.data.rows(~held), cohort.data.rows(held)

    def parts(self, patients: int) -> list[np.ndarray]:
        """Which training patient is in which hospital."""
        return split(patients, self.sites, np.random.default_rng([2, self.seed]))

    def start(self, preset: Preset, features: int) -> bytes:
        """Initial weights."""
        return initial_weights(preset, features, b"benchmarks/dp/%d" % self.seed)


@cache
def _load(name: str, data: Path) -> Cohort:
    return load(name, data)


def pair(epsilon: float, deal: Deal, *, same_draws: bool = False) -> tuple[float, float]:
    """C-index of a federation and of a curator, who draws his own noise or, to show what is left, the same."""
    train, test = deal.sides()
    preset = preset_of(deal.cohort, WAYS["distributed"], len(train))
    weights, z = deal.start(preset, train.features), multiplier(epsilon)
    parts = [tensors(train.rows(part), preset) for part in deal.parts(len(train))]
    found = []
    for arm, sites in (("federation", parts), ("curator", [tensors(train, preset)])):
        whose = "both" if same_draws else arm
        streams = [stream(whose, deal.cohort, deal.seed, epsilon, site) for site in range(deal.sites)]
        door = Distributed(deal.sites, deal.sites - _COLLUSION, streams)
        params = descend(preset, weights, sites, door, z, block=128 if arm == "federation" else 512)
        found.append(score(preset, deal.whole().features, params, test))
    return found[0], found[1]


def _arms(deal: Deal) -> dict[str, float]:
    """C-index of every way of adding noise: with the preset chosen for it, and with that of distributed noise."""
    train, test = deal.sides()
    z, n = multiplier(_MANY_EPSILON), deal.sites
    found = {}
    for arm in ("distributed", "local", "fedavg", "local, same preset", "fedavg, same preset", "open"):
        way = WAYS.get(arm, replace(WAYS["distributed"], rounds=WAYS["fedavg"].rounds))
        preset = preset_of(deal.cohort, way, len(train))
        if arm == "open":
            preset = _unclipped(preset)
        weights = deal.start(preset, train.features)
        parts = [tensors(train.rows(part), preset) for part in deal.parts(len(train))]
        streams = [stream(arm, deal.cohort, deal.seed, site) for site in range(n)]
        match arm.partition(",")[0]:
            case "fedavg":
                params = fedavg(preset, weights, parts, streams, z, way.rounds)
            case "open":
                params = descend(preset, weights, [tensors(train, preset)], Open(), z, block=512)
            case "local":
                params = descend(preset, weights, parts, Local(streams), z)
            case _:
                params = descend(preset, weights, parts, Distributed(n, n - _MANY_COLLUSION, streams), z)
        found[arm] = score(preset, deal.whole().features, params, test)
    return found


def _unclipped(preset: Preset) -> Preset:
    return replace(preset, clip=1000.0)


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lower and upper end of the 95 % normal interval."""
    mean = float(np.mean(differences))
    half = 1.96 * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def equivalences(data: Path, tell: Callable[[str], None], *, most: int, workers: int) -> Iterator[Row]:
    """Measure 4.6 for every cohort and ε.

    Args:
        data: folder of the cohorts.
        tell: where to say what is going on.
        most: seeds at most; an interval that would need more is then as wide as it is.
        workers: processes.
    """
    letters = iter("bcdefghij")
    with pool(workers) as processes:
        for cohort in COHORTS:
            _load(cohort, data)  # missing cohorts are noticed here, not in a process
            for epsilon in EPSILONS:
                deals = [Deal(cohort, seed, _SITES, data) for seed in range(most)]
                first = min(PILOT, most)
                pairs = list(processes.map(partial(pair, epsilon), deals[:first]))
                spread = float(np.std([one - other for one, other in pairs], ddof=1))
                seeds = min(most, max(first, math.ceil((1.96 * spread / _AIM) ** 2)))
                tell(f"4.6 {cohort}, ε = {epsilon:g}: sd of a difference {spread:.4f}, {seeds} seeds")
                pairs += processes.map(partial(pair, epsilon), deals[first:seeds])
                letter = next(letters)
                yield _equal(f"4.6{letter}", f"{cohort}, ε = {epsilon:g}", pairs)
                same = list(processes.map(partial(pair, epsilon, same_draws=True), deals[:10]))
                largest = max(abs(one - other) for one, other in same)
                what = f"{cohort}, ε = {epsilon:g}: largest difference if both draw the same noise, {len(same)} seeds"
                yield Row(f"4.6{letter}", what, largest, "C-index")


def _equal(figure: str, where: str, pairs: Sequence[tuple[float, float]]) -> Row:
    mean, low, high = interval([one - other for one, other in pairs])
    name = (
        f"{where}: C-index of federation less pooled, far end of 95 % ({low:+.4f} … {high:+.4f}; mean {mean:+.4f}, "
        f"{len(pairs)} seeds, C {np.mean(pairs):.3f})"
    )
    return Row(figure, name, max(abs(low), abs(high)), "C-index", MARGIN, "lower")


def gain(data: Path, tell: Callable[[str], None], *, seeds: int, workers: int) -> list[Row]:
    """Measure 4.7."""
    tell(f"4.7: {seeds} seeds")
    _load("MDS", data)
    with pool(workers) as processes:
        runs = list(processes.map(_arms, [Deal("MDS", seed, _MANY, data) for seed in range(seeds)]))
    return list(_gains(runs))


def _gains(runs: Sequence[dict[str, float]]) -> Iterator[Row]:
    where = f"MDS, {_MANY} hospitals, ε = {_MANY_EPSILON:g} against coordinator + {_MANY_COLLUSION}"
    for letter, arm, what in (("a", "local", "local noise, summed"), ("b", "fedavg", "FedAvg of local DP descent")):
        mean, low, high = interval([run["distributed"] - run[arm] for run in runs])
        name = f"{where}: gain over {what} (95 % {low:+.3f} … {high:+.3f}, {len(runs)} seeds)"
        yield Row(f"4.7{letter}", name, mean, "C-index", GAIN)
    for arm in ("local, same preset", "fedavg, same preset"):
        mean, low, high = interval([run["distributed"] - run[arm] for run in runs])
        yield Row("4.7", f"{where}: gain over {arm} as distributed ({low:+.3f} … {high:+.3f})", mean, "C-index")
    for arm in runs[0]:
        yield Row("4.7", f"{where}: C-index, {arm}", float(np.mean([run[arm] for run in runs])), "C-index")


def pool(workers: int) -> ProcessPoolExecutor:
    """Return processes of one thread each."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)
