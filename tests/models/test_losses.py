from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.errors import MisuseError, NotPerPatient
from models.losses import Batch, CoxPartialLikelihood, PiecewiseExponential, require_per_patient
from models.training import fit
from tests.models.support import Alone, patients, small, spec


def test_cox_partial_likelihood_is_a_type_error_under_dp() -> None:
    study = spec(small())

    with pytest.raises(TypeError, match="no sum over patients") as caught:
        fit(
            study.preset, 4, study.weights, patients(20), Alone(), lambda t: study.query("gradient", t),
            loss=CoxPartialLikelihood(),  # type: ignore[arg-type]  # the type checker refuses it as well
        )  # fmt: skip
    assert isinstance(caught.value, NotPerPatient | MisuseError)


def test_the_full_likelihood_is_accepted() -> None:
    assert isinstance(require_per_patient(PiecewiseExponential()), PiecewiseExponential)


def test_piecewise_exponential_by_hand() -> None:
    """Hazard 2 per year, 3 after the first year; a death after 1.5 years, a censoring after half a year."""
    log_hazard = torch.log(torch.tensor([[2.0, 3.0], [2.0, 3.0]], dtype=torch.float64))
    batch = Batch(
        torch.zeros((2, 2), dtype=torch.float64),
        torch.tensor([[1.0, 0.5], [0.5, 0.0]], dtype=torch.float64),
        torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64),
    )

    loss = PiecewiseExponential().per_patient(log_hazard, batch)

    assert loss.tolist() == pytest.approx([2.0 + 1.5 - np.log(3.0), 1.0])


def test_only_the_full_likelihood_is_a_sum_over_patients() -> None:
    """∂(gradient of patient i)/∂(f of patient j) is zero for i ≠ j in one loss and not in the other."""
    data = patients(12)
    batch = Batch.of(data, (0.0, 365.25, 1826.25))
    risk = torch.zeros(12, dtype=torch.float64)
    time, event = torch.from_numpy(data.duration.copy()), torch.from_numpy(data.event.copy())

    def full(f: torch.Tensor) -> torch.Tensor:
        return PiecewiseExponential().per_patient(f[:, None].expand(-1, 2), batch).sum()

    def partial(f: torch.Tensor) -> torch.Tensor:
        return CoxPartialLikelihood().total(f, time, event)

    def coupling(function: Callable[[torch.Tensor], torch.Tensor]) -> float:
        hessian = torch.autograd.functional.hessian(function, risk)
        return float((hessian - torch.diag(torch.diag(hessian))).abs().max())

    assert coupling(full) == 0.0
    assert coupling(partial) > 0.01


def test_cox_equals_a_direct_sum() -> None:
    data = patients(9, seed=4)
    risk = data.x[:, 0]
    direct = sum(
        np.log(np.sum(np.exp(risk[data.duration >= t]))) - f
        for f, t, e in zip(risk, data.duration, data.event, strict=True)
        if e
    )

    total = CoxPartialLikelihood().total(*(torch.from_numpy(a.copy()) for a in (risk, data.duration, data.event)))

    assert float(total) == pytest.approx(direct)
