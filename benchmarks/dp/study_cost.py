"""What a whole study costs one hospital without the network: figure 4.5.

5,000 training patients (and 1,250 held-out ones) in one hospital, 200 columns, T = 60: bounding the table, every
gradient, recalibration, concordance and calibration (`models.plan.survival_plan` itself), rounding and exact noise. To
that is added what secure aggregation costs a client for each of these sums in a federation of six: opening the round,
masks, tag, and taking the sum (its rounding and noise are counted twice, which is in the peer's favour).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.dp.exact import Masked
from benchmarks.dp.federation import stream
from benchmarks.report import Row
from benchmarks.timing import cpu, median
from dp import noise_shares
from dp.calibration import split_budget
from dp.queries import Account, Float64, Query
from models.data import SurvivalData
from models.plan import KINDS, Spec, survival_plan
from models.presets import Preset, preset
from models.training import initial_weights
from nodes.protocol import HOLDOUT_SHARES, SPARE_UPLOADS, TRAINING_SHARES
from secagg.masks import Backend

__all__ = ["rows"]

SEED: Final = 20260204
_PATIENTS, _HELD, _COLUMNS, _SITES = 5000, 1250, 200, 6
_CAP: Final = 8192


def rows(backend: Backend, *, quick: bool) -> Iterator[Row]:
    """Measure the bar at the preset's width, and a wide network beside it; CPU seconds."""
    for hidden, bar in (((8,), 3.0), ((64, 64), None)):
        chosen = replace(preset("aml-small").sized(_PATIENTS * _SITES), hidden=hidden)
        if quick:
            chosen = replace(chosen, steps=6)
        spec = _spec(chosen)
        learning = cpu(lambda spec=spec: survival_plan(spec, _patients(1, _PATIENTS), _patients(2, _HELD), _Site()))[0]
        masking = _masking(spec.length, backend) * (chosen.steps + len(spec.multipliers) - 1)
        what = f"{_PATIENTS:,} patients of one hospital, {_COLUMNS} columns, {chosen.steps} steps, hidden {hidden}"
        name = f"a study's CPU, {what}, d = {spec.length:,}"
        yield Row("4.5", name, learning + masking, "CPU s", bar, "lower")
        yield Row("4.5", f"of which secure aggregation, d = {spec.length:,}", masking, "CPU s")


class _Site:
    """What one hospital does with its own sum: round, add its share of the noise, and scale the total back."""

    def __init__(self) -> None:
        self._stream = stream("study cost")

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Return its own noisy sum in place of everybody's."""
        grid = noise_shares.lattice(query, _SITES, honest=_SITES - 1)
        total = noise_shares.encode(contribution(), query, grid)
        total += noise_shares.draw(self._stream, query.length)
        return noise_shares.decode(total, query, grid)


def _spec(chosen: Preset) -> Spec:
    uploads = {kind: 1 + SPARE_UPLOADS.get(kind, 0) for kind in (*TRAINING_SHARES, *HOLDOUT_SHARES)}
    uploads["gradient"] = chosen.uploads
    multipliers: dict[str, float] = {}
    for shares in (TRAINING_SHARES, HOLDOUT_SHARES):
        multipliers |= split_budget(1.0, 1e-5, {kind: (share, uploads[kind]) for kind, share in shares.items()})
    names = tuple(f"x{i}" for i in range(_COLUMNS))
    asked = {kind: multipliers[kind] for kind in KINDS if kind in multipliers}
    return Spec(chosen, names, initial_weights(chosen, _COLUMNS, b"study cost"), asked, patient_cap=_CAP)


def _patients(seed: int, count: int) -> SurvivalData:
    rng = np.random.default_rng([SEED, seed])
    x = rng.normal(size=(count, _COLUMNS))
    death, end = rng.exponential(500 * np.exp(-0.5 * x[:, 0])), rng.uniform(0, 2000, count)
    return SurvivalData(x, rng.random(x.shape) > 0.05, np.minimum(death, end) + 1, death <= end)


def _masking(length: int, backend: Backend) -> float:
    """CPU seconds that one sum costs one client."""
    door = Masked(length, [stream("masking", site) for site in range(_SITES)], backend)
    for step in range(4):
        query = Query("gradient", step, length, 1.0, 17.3, Account.TRAINING, _CAP)
        door(query, [np.zeros(length)] * _SITES)
    costs = door.assembly.costs
    return median(costs.client[_SITES:]) + median(costs.accept[_SITES:])
