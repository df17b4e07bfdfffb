"""Personalised heads: what they gain, and that they stay."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import artefact
from models.algorithms.personal import Head, LocalModel, personalise, report
from models.concordance import PairConcordance
from models.data import SurvivalData
from models.errors import ConfigError, MisuseError
from models.likelihood import LogLikelihood, log_likelihoods
from models.networks import Ensemble, FusedBlocks, Hazards, LatentWeibull, Network, parameter_count
from models.predict import SurvivalModel
from models.recalibration import Breslow
from tests.models.support import FEATURES, patients, small

GRID = small().grid
HEAD = Head(ridge=1.0)
NETWORKS = (
    Hazards(()),
    Hazards((3,)),
    Hazards((3, 2)),
    Ensemble((3, 2), 3),
    FusedBlocks((), 2, (1, 3), (1,)),
    FusedBlocks((2,), 2, (), ()),
)


def released(network: Network, seed: int = 1) -> SurvivalModel:
    rng = np.random.default_rng(seed)
    length = parameter_count(network.layout(4, len(GRID) - 1))
    params = 0.2 * rng.normal(size=length)
    return SurvivalModel.as_trained(FEATURES, network, GRID, params.astype("<f8").tobytes())


def likelihood(model: SurvivalModel | LocalModel, data: SurvivalData) -> float:
    return float(np.sum(log_likelihoods(model, data.bounded(GRID[-1]))))  # type: ignore[arg-type]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("n", [1, 5, 60])
def test_never_worse_than_the_released_model_on_the_training_likelihood(network: Network, n: int) -> None:
    for seed in range(3):
        data, model = patients(n, seed), released(network, seed)

        assert likelihood(personalise(model, data, HEAD), data) >= likelihood(model, data) - 1e-9


def test_a_step_too_far_is_halved() -> None:
    """A released model that expects next to no deaths: the curvature there is too small by far."""
    made = patients(40)
    data = SurvivalData(np.full((40, 4), 10.0), np.ones((40, 4), bool), made.duration, made.event)
    params = np.zeros(len(GRID) - 1 + 8)
    params[len(GRID) - 1] = -0.75
    model = SurvivalModel.as_trained(FEATURES, Hazards(()), GRID, params.astype("<f8").tobytes())

    assert likelihood(personalise(model, data, Head(1e-3)), data) > likelihood(model, data) + 50


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_a_hospital_of_its_own_kind_gains(network: Network) -> None:
    data, model = patients(300), released(network)
    train, test = data.rows(np.arange(200)), data.rows(np.arange(200, 300))

    own = personalise(model, train, HEAD)
    found = report(model, own, test)

    assert likelihood(own, train) > likelihood(model, train) + 10
    assert likelihood(own, test) > likelihood(model, test) + 5
    assert found.after > found.before
    assert "stays here" in str(found)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_slope_vanishes_where_it_ends_and_only_the_head_moves(network: Network) -> None:
    data, model = patients(120), released(network)
    own = personalise(model, data, Head(ridge=3.0, steps=40))._model
    layout, first, before, after = network.layout(4, model.intervals), 0, _numbers(model), _numbers(own)
    places: list[int] = []
    for name, shape in layout:
        size = int(np.prod(shape))
        here = slice(first, first + size)
        if name.endswith(("skip.weight", "out.weight")):
            places += range(first, first + size)
        else:
            assert np.array_equal(before[here], after[here]), name
        first += size

    members = network.members if isinstance(network, Ensemble) else 1

    def objective(params: np.ndarray[Any, Any]) -> float:
        moved = replace(own, params=params.astype("<f8").tobytes())
        return -likelihood(moved, data) + 1.5 * float(np.sum((params - before)[places] ** 2)) / members

    for place in places:
        step = np.zeros(len(after))
        step[place] = 1e-5
        assert abs(objective(after + step) - objective(after - step)) / 2e-5 < 1e-3


def test_a_large_ridge_or_nobody_leaves_the_released_model() -> None:
    model, data = released(Hazards((3,))), patients(50)
    x, seen = data.x, data.observed

    for own in (personalise(model, data, Head(ridge=1e12)), personalise(model, patients(0), HEAD)):
        assert np.allclose(own.risk(x, seen), model.risk(x, seen), atol=1e-8)
        assert np.allclose(own.hazards(x, seen), model.hazards(x, seen), rtol=1e-8)


def test_an_ensemble_of_equal_members_becomes_what_one_of_them_becomes() -> None:
    one, data = released(Hazards((3,))), patients(80)
    three = SurvivalModel.as_trained(FEATURES, Ensemble((3,), 3), GRID, 3 * one.params)

    alone, together = (personalise(model, data, HEAD) for model in (one, three))

    assert np.allclose(alone.hazards(data.x, data.observed), together.hazards(data.x, data.observed), rtol=1e-6)


def test_dull_hospitals() -> None:
    model, data = released(Hazards((3,))), patients(40)
    nobody_died = SurvivalData(data.x, data.observed, data.duration, np.zeros(40, bool))
    nothing_seen = SurvivalData(np.full((40, 4), np.nan), np.zeros((40, 4), bool), data.duration, data.event)
    constant = SurvivalData(np.full((40, 4), 10.0), np.ones((40, 4), bool), data.duration, data.event)

    for table in (nobody_died, nothing_seen, constant):
        own = personalise(model, table, HEAD)
        assert likelihood(own, table) >= likelihood(model, table) - 1e-9
        assert np.all(np.isfinite(own.hazards(data.x, data.observed)))
    assert "no comparable pair" in str(report(model, personalise(model, data, HEAD), nobody_died))
    fewer = personalise(model, nobody_died, Head(1e-6, 100))._model.hazard / model.hazard
    assert np.all((fewer >= 1 / 16.001) & (fewer < 1 / 8))  # as recalibration allows


def test_it_predicts_like_a_model() -> None:
    own = personalise(released(Hazards((3,))), patients(60), HEAD)
    data = patients(9, seed=4)

    alive = own.survival(data.x, data.observed, np.array([0.0, 365.25]))
    assert np.all((alive[:, 1] < alive[:, 0]) & (alive[:, 0] == 1.0))
    assert own.features == FEATURES
    assert own.grid == GRID
    assert "never leaves" in repr(own)


CARD = dict.fromkeys(artefact.REQUIRED_CARD, "x")


@pytest.mark.parametrize(
    "leave",
    [
        lambda own: artefact.to_bytes(own, CARD),
        pickle.dumps,
        lambda own: own.params,
        lambda own: own.digest,
        lambda own: PairConcordance(own, GRID[-1], "antolini").query(1.0, 100),
        lambda own: PairConcordance(own, GRID[-1]).query(1.0, 100),
        lambda own: LogLikelihood(own, 5.0).query(1.0, 100),
        lambda own: Breslow(own, small()).query(1.0, 100),
    ],
)
def test_nothing_that_leaves_takes_it(leave: Any) -> None:
    own = personalise(released(Hazards((3,))), patients(30), HEAD)

    with pytest.raises(MisuseError):
        leave(own)


def test_what_it_is_not_for() -> None:
    with pytest.raises(MisuseError, match="no linear head"):
        personalise(released(LatentWeibull((3,), 2, ())), patients(5), HEAD)
    narrow = patients(5)
    with pytest.raises(MisuseError, match="features"):
        personalise(
            released(Hazards(())),
            SurvivalData(narrow.x[:, :3], narrow.observed[:, :3], narrow.duration, narrow.event),
            HEAD,
        )
    for ridge, steps in ((0.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0), (1.0, 101)):
        with pytest.raises(ConfigError):
            Head(ridge, steps)
    assert Head().to_json() == {"ridge": 100.0, "steps": 15}


def _numbers(model: SurvivalModel) -> np.ndarray[Any, Any]:
    return np.frombuffer(model.params, dtype="<f8")
