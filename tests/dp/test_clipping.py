"""Torch in, exact sums out; Opacus' own hooks are the oracle."""

from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

from dp.clipping import clipped_sum
from dp.errors import MisuseError
from dp.optimizer import per_patient_gradients


def net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def gradients(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Per-patient gradients, one tensor per parameter."""
    model.zero_grad()
    for p in model.parameters():
        p.grad_sample = None
    ((model(x)[:, 0] - y) ** 2).sum().backward()
    return [p.grad_sample for p in model.parameters()]


def cohort(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, 5)) * 3), torch.from_numpy(rng.standard_normal(n) * 3)


@pytest.mark.parametrize("clip", [0.1, 1.0, 30.0, 1e4])
def test_equal_to_opacus_hooks(clip: float) -> None:
    x, y = cohort(200)
    opacus_model = GradSampleModule(net(), loss_reduction="sum")
    oracle = DPOptimizer(
        torch.optim.SGD(opacus_model.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    gradients(opacus_model, x, y)
    oracle.clip_and_accumulate()
    expected = np.concatenate([p.summed_grad.detach().numpy().ravel() for p in oracle.params])

    found = clipped_sum(gradients(per_patient_gradients(net()), x, y), clip)

    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e200])
def test_a_record_out_of_this_world_contributes_exactly_zero(value: Any) -> None:
    x, y = cohort(64)
    torch.manual_seed(0)
    # ReLU: a saturating layer would give such a record an ordinary gradient, clipped like any other.
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).double()
    model = per_patient_gradients(model)
    clean = clipped_sum(gradients(model, x, y), 1.0)
    bad_x = torch.cat([x[:10], torch.full((1, 5), value, dtype=torch.float64), x[10:]])
    bad_y = torch.cat([y[:10], y[:1], y[10:]])
    with_bad = clipped_sum(gradients(model, bad_x, bad_y), 1.0)

    assert np.array_equal(with_bad, clean)


def test_a_poisoned_gradient_of_one_parameter_removes_the_whole_patient() -> None:
    samples = [torch.ones(3, 2, 2, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)]
    samples[1][1, 2] = float("nan")
    expected = clipped_sum([s[[0, 2]] for s in samples], 1.0)

    assert np.array_equal(clipped_sum(samples, 1.0), expected)


def test_norms_run_over_all_parameters_of_a_patient() -> None:
    samples = [torch.full((1, 2), 3.0, dtype=torch.float64), torch.full((1, 2), 4.0, dtype=torch.float64)]

    assert np.linalg.norm(clipped_sum(samples, 1.0)) == pytest.approx(1.0, rel=1e-5)


def test_an_empty_hospital() -> None:
    samples = [torch.zeros(0, 2, 3, dtype=torch.float64), torch.zeros(0, 4, dtype=torch.float64)]

    assert clipped_sum(samples, 1.0).tolist() == [0.0] * 10


def test_float32_is_refused() -> None:
    with pytest.raises(MisuseError, match=r"model\.double"):
        clipped_sum([torch.zeros(2, 3)], 1.0)


def test_a_patients_gradient_does_not_depend_on_the_others() -> None:
    """The forward pass must keep rows apart, or clipping bounds the wrong thing."""
    x, y = cohort(500)
    model = per_patient_gradients(net())
    everyone = [s.clone() for s in gradients(model, x, y)]
    without = gradients(model, x[1:], y[1:])

    changed = sum(int((a[1:] != b).flatten(1).any(1).sum()) for a, b in zip(everyone, without, strict=True))
    assert changed == 0
