from typing import Any

import numpy as np
import pytest
import torch

from audits.errors import MisuseError
from audits.sensitivity import Neighbours, extreme_neighbours, probe
from dp.rows import clipped_rows
from models.data import SurvivalData
from models.deepsurv import DeepSurv
from models.losses import Batch
from tests.audits.cohorts import GRID, patients
from tests.sweeps import thinned

CLIP = 3.0
torch.manual_seed(0)
NETWORK = DeepSurv(4, (4,), 6)


def gradients(data: SurvivalData) -> np.ndarray:
    """Per-patient gradients by plain autograd, one patient at a time: not the production kernel."""
    bounded = data.bounded(GRID[-1])
    rows = []
    for i in range(len(bounded)):
        loss = NETWORK.per_patient_loss(Batch.of(bounded.rows(np.array([i])), GRID)).sum()
        grads = torch.autograd.grad(loss, list(NETWORK.parameters()))
        rows.append(torch.cat([g.flatten() for g in grads]).numpy())
    return np.array(rows).reshape(-1, sum(p.numel() for p in NETWORK.parameters()))


def sound(data: SurvivalData) -> np.ndarray:
    return clipped_rows(gradients(data), CLIP)


def unclipped(data: SurvivalData) -> np.ndarray:
    return gradients(data).sum(axis=0)


def batch_clip(data: SurvivalData) -> np.ndarray:
    """Clips the sum instead of the patients: passes every test on noise, leaks every patient."""
    total = gradients(data).sum(axis=0)
    return total * min(1.0, CLIP / max(np.linalg.norm(total), 1e-9)) * len(data)


def batch_mean(data: SurvivalData) -> np.ndarray:
    """Divides by the number of patients: the sum moves for everybody."""
    return clipped_rows(gradients(data), CLIP) / max(len(data), 1) * 100


def no_finite_guard(data: SurvivalData) -> np.ndarray:
    return sound(data) + np.nansum(data.duration) * 0 + data.duration.sum() * 0


PAIRS = extreme_neighbours(patients(12, 3), GRID[-1])


def test_the_production_clipping_holds_for_every_extreme_patient() -> None:
    found = probe(sound, PAIRS, CLIP)
    assert found.holds
    assert len(found.probes) == 13
    assert 0.05 < found.worst <= 1.0


@pytest.mark.parametrize("mutant", thinned([unclipped, batch_clip, batch_mean, no_finite_guard]))
def test_unsound_clipping_is_caught(mutant: Any) -> None:
    assert not probe(mutant, PAIRS, CLIP).holds


@pytest.mark.parametrize(("moved", "holds"), [(1.0, True), (1.0 + 1e-15, True), (1.0 + 1e-6, False), (1.2, False)])
def test_the_bound_is_sharp(moved: float, holds: bool) -> None:
    pair = Neighbours("one", 0.0, moved * CLIP, 10)
    assert probe(lambda value: np.array([value]), [pair], CLIP).holds is holds


def test_a_non_finite_movement_fails_and_stays_a_number() -> None:
    pair = Neighbours("nan", 0.0, float("nan"), 1)
    found = probe(lambda value: np.array([value]), [pair], 1.0)
    assert not found.holds
    assert np.isfinite(found.worst)


def test_an_empty_probe_proves_nothing() -> None:
    with pytest.raises(MisuseError):
        probe(sound, [], CLIP)
    with pytest.raises(MisuseError):
        probe(sound, PAIRS, 0.0)
