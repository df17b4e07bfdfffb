from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.validators import ModuleValidator

from dp.bookkeeping import ClippedGradients
from models.data import SurvivalData, inputs
from models.deepsurv import DeepSurv, flat, pour
from models.errors import MisuseError
from models.losses import Batch
from models.networks import RISK_BOUND, Hazards, parameter_count
from models.predict import SurvivalModel
from models.presets import preset
from models.training import initial_weights
from tests.models.support import FEATURES, patients, small


def random_weights(hidden: tuple[int, ...], scale: float = 0.5) -> bytes:
    count = parameter_count(Hazards(hidden).layout(4, 6))
    return (scale * np.random.default_rng(1).normal(size=count)).astype("<f8").tobytes()


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
def test_numpy_and_torch_predict_the_same(hidden: tuple[int, ...]) -> None:
    data = patients(40)
    network = DeepSurv(4, hidden, 6)
    pour(network, random_weights(hidden))
    model = SurvivalModel.as_trained(FEATURES, Hazards(hidden), preset("aml-small").grid, flat(network))

    with torch.no_grad():
        risk = network.risk(torch.from_numpy(inputs(data.x, data.observed)))[:, 0].numpy()

    assert np.allclose(model.risk(data.x, data.observed), risk, atol=1e-12)
    assert flat(network) == random_weights(hidden)


def test_opacus_finds_nothing_to_refuse_and_every_parameter_is_in_a_linear_layer() -> None:
    network = DeepSurv(4, (5,), 6)

    assert ModuleValidator.validate(network, strict=True) == []
    owned = {id(p) for m in network.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters()}
    assert owned == {id(p) for p in network.parameters()}
    assert not list(network.buffers())


def test_risk_is_clipped_and_has_no_gradient_outside() -> None:
    network = DeepSurv(4, (), 6)
    pour(network, np.full(parameter_count(Hazards(()).layout(4, 6)), 5.0).astype("<f8").tobytes())
    z = torch.full((1, 8), 10.0, dtype=torch.float64)

    risk = network.risk(z)
    risk.sum().backward()

    assert float(risk.detach()) == RISK_BOUND
    assert float(network.skip.weight.grad.abs().max()) == 0.0


def test_one_patients_loss_ignores_all_others() -> None:
    data = patients(30)
    network = DeepSurv(4, (5,), 6)
    pour(network, random_weights((5,)))
    grid = preset("aml-small").grid
    together = network.per_patient_loss(Batch.of(data, grid)).detach().numpy()

    alone = [float(network.per_patient_loss(Batch.of(data.rows(np.array([i])), grid)).detach()) for i in range(30)]

    assert np.allclose(together, alone, rtol=1e-13, atol=0)


def test_a_patient_moves_the_clipped_sum_by_his_own_gradient_to_the_last_bit() -> None:
    """The sensitivity proof takes each patient's row as a function of that patient; matrix products could spoil it."""
    network = DeepSurv(4, (8,), 6)
    pour(network, random_weights((8,)))
    grid = preset("aml-small").grid
    model = SurvivalModel.as_trained(FEATURES, Hazards((8,)), grid, flat(network))
    data = patients(835)

    def losses(twin: DeepSurv, *columns: torch.Tensor) -> torch.Tensor:
        return twin.per_patient_loss(Batch(*columns))

    gradients = ClippedGradients(network, losses, clip=1.0)  # a power of two: every number of the sum is exact

    def clipped(chosen: SurvivalData) -> np.ndarray:
        batch = Batch.of(chosen, grid)
        return gradients.sum((batch.inputs, batch.at_risk, batch.deaths))

    whole, risk = clipped(data), model.risk(data.x, data.observed)
    for out in (0, 5, 834):
        rest = np.arange(835) != out
        fewer = data.rows(rest)
        assert np.array_equal(whole - clipped(fewer), clipped(data.rows(~rest)))
        assert np.array_equal(model.risk(fewer.x, fewer.observed), risk[rest])


def test_survival_falls_from_one_and_ends_at_the_horizon() -> None:
    chosen = small()
    data = patients(5)
    model = SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, initial_weights(chosen, 4, b"s"))
    times = np.array([0.0, 10.0, 365.25, 1826.25])

    survival = model.survival(data.x, data.observed, times)

    assert survival.shape == (5, 4)
    assert np.all(survival[:, 0] == 1.0)
    assert np.all(np.diff(survival, axis=1) < 0)
    with pytest.raises(MisuseError, match="1826"):
        model.survival(data.x, data.observed, np.array([2000.0]))


def test_initial_model_has_the_public_hazard_and_ranks_nobody() -> None:
    chosen = preset("aml-small")
    model = SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, initial_weights(chosen, 4, b"s"))
    data = patients(5)

    assert model.risk(data.x, data.observed).tolist() == [0.0] * 5
    assert np.allclose(model.hazard, np.exp(chosen.initial_log_hazard), rtol=1e-13)


def test_wrong_sizes_are_misuse() -> None:
    with pytest.raises(MisuseError, match="bytes"):
        pour(DeepSurv(4, (), 6), b"\0" * 8)
    with pytest.raises(MisuseError, match="layout needs"):
        SurvivalModel.as_trained(FEATURES, Hazards(()), preset("aml-small").grid, b"\0" * 8 * 7)
    with pytest.raises(MisuseError, match="no model with"):
        Hazards(()).layout(0, 6)
