"""Invented patients with exactly the inputs that a score reads, and the published cohort where it is at hand."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.prognostic import Input, Patients, Score
from models.prognostic.inputs import FINDING, Float64

NAN = float("nan")


def people(score: Score, **values: Sequence[float] | float) -> Patients:
    """Findings that are not named are absent, other inputs that are not named are not known; scalars are repeated."""
    n = max((len(each) for each in values.values() if isinstance(each, Sequence)), default=1)
    known = {each.name: np.full(n, 0.0 if each.unit == FINDING and each.required else NAN) for each in score.inputs}
    assert values.keys() <= known.keys(), values.keys() - known.keys()
    return Patients(known | {name: np.broadcast_to(np.asarray(each, float), n) for name, each in values.items()})


def drawn(wanted: Input, n: int, rng: np.random.Generator) -> Float64:
    """Possible values; those of laboratories lie on, below and above the cuts of the tables."""
    if wanted.unit in (FINDING, "") or wanted.codes is not None:
        return rng.integers(wanted.lowest, wanted.highest, n, endpoint=True).astype(float)
    cuts = [0.1, 0.55, 0.8, 1, 2, 3.5, 4, 5, 5.5, 8, 10, 13, 20, 35, 50, 70, 100, 250]
    value = rng.choice(cuts, n) + rng.choice([-0.5, 0.0, 0.5], n)
    return np.clip(value, wanted.lowest, wanted.highest)


def cohort_folder() -> Path:
    """Folder of the IWG-PM cohort; skips the test where it is absent."""
    folder = Path(os.environ.get("HAEMFED_DATA", "absent")) / "mds_iwgpm"
    if not folder.is_dir():
        pytest.skip("the IWG-PM cohort is not on this machine (set HAEMFED_DATA)")
    return folder
