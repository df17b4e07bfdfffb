from dataclasses import replace

import numpy as np
import pytest
import torch

from audits.errors import MisuseError
from audits.shadows import Member, Recipe, train_shadows
from audits.signals import signals, usable
from models.data import SurvivalData
from models.losses import Batch, PiecewiseExponential
from models.presets import preset
from tests.audits.cohorts import GRID, RECIPE, Truth, patients


@pytest.mark.slow
def test_training_reaches_the_optimum_that_a_single_model_reaches() -> None:
    """A linear model, fitted by L-BFGS on the loss of `models.losses`, is the oracle."""
    data = patients(300, 8)
    batch = Batch.of(data, GRID)
    baseline = torch.full((6,), -0.3, dtype=torch.float64, requires_grad=True)
    slope = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([baseline, slope], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = PiecewiseExponential().per_patient(baseline + (batch.inputs @ slope)[:, None], batch).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    best = closure().item()
    linear = Recipe((), GRID, -0.3, steps=600, learning_rate=0.05)
    ensemble = train_shadows(linear, data, np.ones((2, 300), dtype=bool), seed=1)
    reached = -ensemble.signals(data).log_likelihood.mean(axis=1)
    # log-likelihoods use hazards per year on both sides, so the numbers are comparable as they stand
    assert reached == pytest.approx([best, best], abs=1e-4)


def test_a_shadow_sees_its_own_records_only() -> None:
    data = patients(40, 3)
    masks = np.arange(40)[None, :] < np.array([[20], [40]])
    changed = SurvivalData(np.where(np.arange(40)[:, None] < 20, data.x, 5.0), data.observed, data.duration, data.event)
    first, second = (train_shadows(RECIPE, rows, masks, seed=2).baseline for rows in (data, changed))
    assert np.array_equal(first[0], second[0])
    assert not np.allclose(first[1], second[1])


def test_a_shadow_is_penalised_as_the_study_is() -> None:
    """A heavy ridge on the linear path leaves the baseline alone; it weighs on the sum over a shadow's records."""
    data, masks = patients(60, 3), np.ones((1, 60), dtype=bool)
    free = Recipe((), GRID, -0.3, steps=300, learning_rate=0.05)
    held = train_shadows(replace(free, linear_penalty=1e6), data, masks, seed=3)
    assert np.abs(held.skip).max() < 1e-3 < np.abs(train_shadows(free, data, masks, seed=3).skip).max()
    twice = SurvivalData(*(np.concatenate([part, part]) for part in (data.x, data.observed, data.duration, data.event)))
    light = train_shadows(replace(free, linear_penalty=20.0), data, masks, seed=3)
    same = train_shadows(replace(free, linear_penalty=40.0), twice, np.ones((1, 120), dtype=bool), seed=3)
    assert same.skip == pytest.approx(light.skip, abs=1e-6)


def test_a_hidden_layer_has_its_own_penalty() -> None:
    data, masks = patients(60, 3), np.ones((1, 60), dtype=bool)
    held = train_shadows(replace(RECIPE, hidden_penalty=1e6, steps=400), data, masks, seed=3)
    assert max(np.abs(held.weights[0]).max(), np.abs(held.out).max()) < 1e-2 < np.abs(held.skip).max()
    chosen = preset("deepsurv-mds-open")
    of = Recipe.of(chosen)
    assert (of.linear_penalty, of.hidden_penalty) == (chosen.linear_penalty, chosen.hidden_penalty) != (0, 0)


def test_signals_of_a_known_model() -> None:
    data = patients(50, 4)
    found = signals(Truth(), data)
    edges = np.array(GRID)
    for i in range(50):
        time = data.duration[i]
        exposure = np.clip(time - edges[:-1], 0, np.diff(edges)) / 365.25
        risk = np.exp(Truth().risk(data.x[i : i + 1], data.observed[i : i + 1])[0])
        expected = risk * (Truth.hazard @ exposure)
        k = np.searchsorted(edges, time) - 1
        log_hazard = np.log(Truth.hazard[k] * risk) if data.event[i] else 0.0
        assert found.log_likelihood[i] == pytest.approx(log_hazard - expected)
        assert found.log_residual[i] == pytest.approx(-np.log(max(abs(data.event[i] - expected), 1e-4)))


def test_usable_is_what_bounded_keeps() -> None:
    data = patients(4, 4)
    x = data.x.copy()
    x[0, 0], x[1, 1] = np.nan, np.nan
    observed = np.ones_like(data.observed)
    observed[1, 1] = False
    broken = SurvivalData(x, observed, np.array([1.0, 2.0, np.inf, 3.0]), data.event)
    assert usable(broken).tolist() == [False, True, False, True]
    assert len(broken.bounded(GRID[-1])) == 2


def test_a_member_is_a_model() -> None:
    data = patients(20, 6)
    ensemble = train_shadows(RECIPE, data, np.ones((2, 20), dtype=bool), seed=1)
    single = signals(Member(ensemble, 1), data)
    assert single.log_likelihood == pytest.approx(ensemble.signals(data).log_likelihood[1])


def test_an_empty_shadow_is_refused() -> None:
    with pytest.raises(MisuseError):
        train_shadows(RECIPE, patients(5, 1), np.zeros((1, 5), dtype=bool), seed=1)
    with pytest.raises(MisuseError):
        Recipe((), (0.0,), 0.0)
