"""What one federated study costs at demo size: figure 6.20, six hospitals of about 150 patients, every learner.

All six hospitals' work is done one after the other on one core and counted in full (in a study they work side by side):
gradients of each hospital, rounding and its shares of the noise at ε = 1, updates, recalibration. What all hospitals
compute alike, the public update or a generator's search, is done once, as it is once per hospital. Masks, messages and
signatures are left out; `benchmarks.secagg` measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.dp import federation
from benchmarks.dp.settings import DELTA, multiplier, preset_of
from benchmarks.models import learned, synthetic
from benchmarks.models.centres import ALL, _loaded
from benchmarks.models.settings import PRIVATE
from benchmarks.report import Row
from benchmarks.sections import Asked, NotThere
from benchmarks.timing import cpu
from dp.calibration import split_budget
from models.data import SurvivalData
from models.presets import Preset
from models.recalibration import Breslow
from nodes.protocol import TRAINING_SHARES

__all__ = ["rows"]

SITES: Final = 6
PATIENTS: Final = 900
_LIMIT: Final = 300.0
_EPSILON: Final = 1.0


def survival(chosen: Preset, parts: list[SurvivalData]) -> None:
    """One study of a survival model."""
    streams = [federation.stream("wall", chosen.learner, site) for site in range(len(parts))]
    door = federation.Distributed(len(parts), len(parts) - 1, streams)
    model = learned.train(chosen, parts, 0, door, multiplier(_EPSILON))
    release = Breslow(model, chosen)
    z = split_budget(_EPSILON, DELTA, {"breslow": (TRAINING_SHARES["breslow"], 2)})["breslow"]
    query = release.query(z, federation.PATIENT_CAP)
    total = door(query, [release.contribution(part) for part in parts])
    release.decode(total, query.multiplier * query.sensitivity)


def _studies(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    whole = _loaded("MDS", folder)
    some = np.random.default_rng(20).permutation(len(whole.data))[:PATIENTS]
    data = whole.tier(ALL).rows(some)
    parts = [data.rows(np.arange(PATIENTS) % SITES == site) for site in range(SITES)]
    widths = np.diff([0, *(len(whole.tiers[tier]) for tier in ("clinical", "+ cytogenetic", ALL))])
    deepsurv = preset_of("MDS", PRIVATE, PATIENTS)
    presets = {
        "linear Cox": learned.linear(deepsurv),
        "DeepSurv": deepsurv,
        "SAVAE": learned.of_disease("savae-wide", "MDS", PATIENTS).described(binary=whole.binary(data.features)),
        "fusion": learned.of_disease("fusion-wide", "MDS", PATIENTS).described(blocks=tuple(widths.tolist())),
    }
    for title, chosen in presets.items():
        yield f"{title}, {chosen.steps} steps", partial(survival, chosen, parts)
    known = synthetic.table_of(whole)
    patients = known.data.rows(some)
    for title, (without, private) in synthetic.GENERATORS.items():
        for name, epsilon, way in ((without, None, "no noise"), (private, _EPSILON, f"ε = {_EPSILON:g}")):
            try:
                synthetic.found_by(name)
            except NotThere:
                continue
            yield f"{title}, {way}", partial(synthetic.learn, name, known, patients, epsilon, 0)


def rows(asked: Asked) -> Iterator[Row]:
    """Measure figure 6.20."""
    torch.set_num_threads(1)
    taken = []
    for title, study in _studies(asked.folder):
        taken.append((title, cpu(study)[0]))
        asked.tell(f"{title}: {taken[-1][1]:.1f} CPU s")
    where = f"{SITES} hospitals, {PATIENTS} patients, masks left out"
    worst = max(seconds for _, seconds in taken)
    yield Row("6.20", f"dearest study: {where}", worst, "CPU s", _LIMIT, "lower")
    for title, seconds in taken:
        yield Row("6.20", f"{title}: {where}", seconds, "CPU s")
