"""The path of embeddings: figure 6.14. SIMULATED: no cohort at hand has images, so this shows that the path works.

Each of 1,600 invented patients has three clinical numbers and an embedding of 64; one direction of it tells the risk.
Two of the four hospitals that train have no images: their block is masked. Tested on fresh patients with and without an
image, against the same network with the block masked for everybody; without noise, and with that of ε = 3, where a
longer vector costs more: no bar there, as the risk was invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from benchmarks.dp.federation import Distributed, Door, Open, stream
from benchmarks.dp.settings import multiplier
from benchmarks.dp.utility import interval, pool
from benchmarks.models import learned
from benchmarks.models.arms import uncounted
from benchmarks.models.drugs import beside
from benchmarks.report import Row
from benchmarks.sections import Asked
from models.data import Float64, SurvivalData
from models.metrics import harrell_c

__all__ = ["rows", "run"]

_PATIENTS: Final = 1600
_WIDTH: Final = 64
_SITES: Final = 4
_EPSILON: Final = 3.0
_NOISY: Final = (16, 64, 768)


def invented(rng: np.random.Generator, width: int = _WIDTH) -> tuple[SurvivalData, Float64]:
    """Clinical numbers and follow-up, and the embedding of each patient."""
    direction = rng.normal(size=width) / np.sqrt(width)
    clinical, image = rng.normal(size=(_PATIENTS, 3)), rng.normal(size=(_PATIENTS, width))
    death = rng.exponential(size=_PATIENTS) * 900 * np.exp(-0.6 * clinical[:, 0] - 1.2 * image @ direction)
    lost = rng.exponential(size=_PATIENTS) * 2500
    seen = np.ones_like(clinical, dtype=bool)
    return SurvivalData(clinical, seen, np.minimum(death, lost) + 1, death <= lost), image


def run(seed: int, width: int = _WIDTH, epsilon: float | None = None) -> dict[str, float]:
    """Train with and without the images of two hospitals; C-index of fresh patients with and without one."""
    data, image = invented(np.random.default_rng([14, seed]), width)
    place = np.arange(_PATIENTS) * 2 * _SITES // _PATIENTS  # the first four places train, the others are fresh
    has = place % 2 == 0
    chosen = learned.of_disease("fusion-wide", "AML", _PATIENTS / 2).described(blocks=(3, width), vectors=(1,))
    found = {}
    for arm, shown in (("seen", has), ("blind", np.zeros_like(has))):
        table = beside(data, image, shown)
        sites = [table.rows(place == site) for site in range(_SITES)]
        model = learned.train(chosen, sites, seed, *_noise(epsilon, arm, seed, width))
        for group, which in (("image", has), ("none", ~has)):
            fresh = table.rows((place >= _SITES) & which)
            found[f"{arm}, {group}"] = harrell_c(model.risk(fresh.x, fresh.observed), fresh)
    return found


def _noise(epsilon: float | None, *about: object) -> tuple[Door, float]:
    """The door of a study with this ε, and its multiplier; the exact sum where there is none."""
    if epsilon is None:
        return Open(), 1.0
    streams = [stream("embeddings", *about, site) for site in range(_SITES)]
    return Distributed(_SITES, _SITES - uncounted(_SITES), streams), multiplier(epsilon)


def rows(asked: Asked) -> Iterator[Row]:
    """Measure figure 6.14."""
    seeds = 2 if asked.quick else 10
    with pool(asked.workers) as processes:
        found = list(processes.map(run, range(seeds)))
        noisy = {
            width: list(processes.map(partial(run, width=width, epsilon=_EPSILON), range(seeds))) for width in _NOISY
        }
    for figure, group, who, bar in (("6.14a", "image", "with one", 0.05), ("6.14b", "none", "without one", -0.02)):
        mean, low, high = interval([scores[f"seen, {group}"] - scores[f"blind, {group}"] for scores in found])
        what = (
            f"SIMULATED embedding of {_WIDTH} at two of four hospitals: gain of patients {who} "
            f"(95 % {low:+.3f} … {high:+.3f}, {seeds} seeds)"
        )
        yield Row(figure, what, mean, "C-index", bar)
    for width, scores_of in noisy.items():
        for group, who in (("image", "with one"), ("none", "without one")):
            mean, low, high = interval([scores[f"seen, {group}"] - scores[f"blind, {group}"] for scores in scores_of])
            what = (
                f"SIMULATED embedding of {width}, ε = {_EPSILON:g}: gain of patients {who} ({low:+.3f} … {high:+.3f})"
            )
            yield Row("6.14c", what, mean, "C-index")
