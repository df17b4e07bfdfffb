"""How far off is a plan? `haemfed study plan` beside what the MDS cohort then gave: rows "plan".

The planner is told public numbers only, written down before the cohort was looked at with it: the sizes that are dealt
to sixteen hospitals, 57 columns of which 46 are properties of one patient in ten, a median survival of three years, a
median follow-up of three years, and C = 0.75 (the published score's). The measured side is the federation of `utility`
on held-out folds with the same preset. No bar: a plan is a simulation, this row says how good one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.dp import utility
from benchmarks.dp.settings import WAYS, preset_of
from benchmarks.report import Row
from models.simulation import Column, Disease
from nodes.planning import Asked, plan
from nodes.planning_source import Invented

__all__ = ["rows"]

_NUMBERS, _PROPERTIES = 11, 46
_DISEASE: Final = Disease(
    columns=(*(Column(-3.0, 3.0),) * _NUMBERS, *(Column(0.0, 1.0, 0.1),) * _PROPERTIES),
    concordance=0.75,
    median_survival=3 * 365.25,
    follow_up=3 * 365.25,
    missing=0.05,
)


def rows(data: Path, tell: Callable[[str], None], *, quick: bool, workers: int) -> list[Row]:
    """Plan, measure, and subtract."""
    deal = utility.Deal("MDS", 0, 6, data)
    train, _ = deal.sides()
    preset = preset_of("MDS", WAYS["distributed"], len(train))
    sizes = tuple(round(len(part) / 0.8) for part in deal.parts(len(train)))
    asked = Asked(sizes, utility.EPSILONS, replace(preset, name="benchmark-wide"), runs=2 if quick else 8)
    tell(f"plan: {asked.repetitions} runs for {len(sizes)} hospitals")
    expected = plan(asked, Invented(_DISEASE))
    found = []
    with utility.pool(workers) as processes:
        for row in expected.rows:
            deals = [utility.Deal("MDS", seed, 6, data) for seed in range(2 if quick else 10)]
            real = [one for one, _ in processes.map(partial(utility.pair, row.epsilon), deals)]
            low, high = np.percentile(real, [10, 90])
            name = (
                f"plan for MDS, ε = {row.epsilon:g}: expected {row.federation.mean:.3f} ({row.federation.low:.3f} … "
                f"{row.federation.high:.3f}), measured {np.mean(real):.3f} ({low:.3f} … {high:.3f}); off by"
            )
            found.append(Row("plan", name, row.federation.mean - float(np.mean(real)), "C-index"))
    return found
