from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dp.queries import Account, Float64, Query, SecureSum
from dp.sampling import Poisson
from models.data import SurvivalData
from models.errors import MisuseError
from models.metrics import harrell_c
from models.plan import Spec
from models.predict import SurvivalModel
from models.presets import preset
from models.training import Trained, descend, fit, initial_weights, model_digest, ridge
from tests.models.support import FEATURES, Alone, Replay, Together, patients, small, spec
from tests.sweeps import examples, thinned


def train(study: Spec, data: SurvivalData, secure_sum: SecureSum) -> Trained:
    return fit(study.preset, len(FEATURES), study.weights, data, secure_sum, lambda t: study.query("gradient", t))


@pytest.mark.parametrize("update", thinned(["adam", "sgd-momentum"], 2))
def test_three_sites_own_one_model_bit_for_bit_and_it_is_the_pooled_one(update: str) -> None:
    study = spec(replace(small(8), update=update))
    everybody = patients(90)
    parts = [everybody.rows(np.arange(a, b)) for a, b in ((0, 50), (50, 80), (80, 90))]

    federated = Together(3).run(lambda i, secure_sum: train(study, parts[i], secure_sum))
    pooled = train(study, everybody, Alone())

    assert len({t.digest for t in federated}) == 1
    assert np.allclose(_numbers(federated[0].params), _numbers(pooled.params), atol=1e-9)
    assert federated[0].params != study.weights


def test_a_site_that_was_away_replays_to_the_same_bits_and_computes_nothing() -> None:
    study = spec(small())
    door = Alone(noise=1.0)
    seen = train(study, patients(60), door)

    replayed = train(study, patients(3, seed=9), Replay(door.sums))

    assert replayed == seen


def test_training_ends_early_when_uploads_run_out() -> None:
    study = spec(small(6))
    cut = train(study, patients(40), Alone(exhausted=lambda q: q.index >= 4))
    steps: list[tuple[int, str]] = []
    full = fit(
        study.preset, 4, study.weights, patients(40), Alone(), lambda t: study.query("gradient", t),
        lambda done, digest: steps.append((done, digest)),
    )  # fmt: skip

    assert cut.steps_done == 4
    assert full.steps_done == 6
    assert [done for done, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[3][1] == cut.digest
    assert steps[5][1] == full.digest == model_digest(full.params)


def test_no_upload_at_all_leaves_the_public_weights() -> None:
    study = spec(small())

    assert train(study, patients(10), Alone(exhausted=lambda _: True)) == Trained(study.weights, 0)


def test_an_empty_site_takes_part() -> None:
    study = spec(small(2))
    door = Alone()

    train(study, patients(0), door)

    assert all(not np.any(total) for total in door.sums)


SHARP = st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf, -np.inf, 1e30, 1e200, -1e200])


@given(
    x=st.lists(SHARP, min_size=4, max_size=4),
    duration=SHARP,
    event=st.booleans(),
    observed=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(max_examples=examples(60), deadline=None)
def test_one_patient_whatever_he_is_moves_the_sum_by_at_most_the_clip(
    x: list[float], duration: float, event: bool, observed: list[bool]
) -> None:
    study = spec(replace(small(1), clip=0.5))
    base = patients(20)
    more = SurvivalData(
        np.vstack([base.x, x]), np.vstack([base.observed, observed]),
        np.append(base.duration, duration), np.append(base.event, event),
    )  # fmt: skip
    sums = []
    for data in (base, more):
        door = Alone()
        train(study, data, door)
        sums.append(door.sums[0])

    assert np.all(np.isfinite(sums[1]))
    assert np.linalg.norm(sums[1] - sums[0]) <= 0.5 * (1 + 1e-12)


def test_the_result_is_the_average_of_the_iterates() -> None:
    last = [
        _numbers(train(spec(replace(small(t), averaging=1e15)), patients(30), Alone()).params) for t in (1, 2, 3, 4)
    ]

    average = _numbers(train(spec(replace(small(4), averaging=0.0)), patients(30), Alone()).params)

    assert np.allclose(average, np.mean(last, axis=0), atol=1e-12)
    assert not np.allclose(average, last[-1], atol=1e-3)


def test_penalties_weigh_on_the_sum_of_everybody() -> None:
    start = np.linspace(-1, 1, _numbers(initial_weights(small(1), 4, b"")).size)
    free, held = (
        replace(small(1), update="sgd-momentum", learning_rate=1.0, linear_penalty=a, hidden_penalty=b)
        for a, b in ((0.0, 0.0), (30.0, 7.0))
    )
    left = []
    for chosen in (free, held):
        study = replace(spec(chosen), weights=start.astype("<f8").tobytes())
        left.append(_numbers(train(study, patients(40), Alone()).params))
    weight = np.concatenate(
        [
            np.full(
                math.prod(shape), {"baseline": 0.0, "skip": 30.0}.get(name.split(".")[0], 7.0) * (name[-4:] != "bias")
            )
            for name, shape in free.network.layout(4, 6)
        ]
    )

    # One step of size 1: the released mean, and λw over the declared number of patients.
    assert left[0] - left[1] == pytest.approx(weight * start / 100.0, abs=1e-12)
    assert {0.0, 7.0, 30.0} == set(weight)


def test_beside_a_sample_penalties_weigh_as_much_less_as_there_are_fewer_patients() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    query = Query("gradient", 0, 1, 1.0, 1.0, Account.TRAINING, 100, b"", 0.25)
    chosen = replace(small(1), update="sgd-momentum", learning_rate=1.0, clip=1.0, normaliser=25.0)

    def zeros(n: int) -> bytes:
        return bytes(n)

    trained = descend(
        chosen, model, lambda m, x: 0.0 * m(x)[:, 0], np.array([2.0]).tobytes(), [torch.ones(8, 1)], Alone(),
        lambda _: query, penalties=(10.0,), sampler=Poisson(0.25, zeros),
    )  # fmt: skip

    # q·λ/(q·N) = λ/N with N = 100
    assert _numbers(trained.params) == pytest.approx([2.0 - 10.0 / 100.0 * 2.0])


@pytest.mark.parametrize("penalties", [(1.0,), (1.0, -1.0), (1.0, float("nan")), (1.0, 2.0, 3.0)])
def test_penalties_must_fit_the_model(penalties: tuple[float, ...]) -> None:
    with pytest.raises(MisuseError, match="penalties"):
        ridge(nn.Linear(2, 1, dtype=torch.float64), penalties, 1.0)


@pytest.mark.slow
def test_it_learns() -> None:
    chosen = replace(preset("aml-small"), normaliser=400.0)
    study = spec(chosen, gradient=1.0)
    data, fresh = patients(400), patients(400, seed=77)

    trained = train(study, data, Alone())

    model = SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, trained.params)
    assert harrell_c(model.risk(fresh.x, fresh.observed), fresh) > 0.65


def test_query_data_and_weights_must_fit() -> None:
    study = spec(small())

    def other(step: int) -> Query:
        return replace(study.query("gradient", step), sensitivity=99.0)

    with pytest.raises(MisuseError, match="sensitivity"):
        fit(study.preset, 4, study.weights, patients(5), Alone(), other)
    with pytest.raises(MisuseError, match="features"):
        fit(study.preset, 3, study.weights, patients(5), Alone(), lambda t: study.query("gradient", t))
    with pytest.raises(MisuseError, match="bytes"):
        fit(study.preset, 4, b"", patients(5), Alone(), lambda t: study.query("gradient", t))


def _numbers(params: bytes) -> Float64:
    return np.frombuffer(params, dtype="<f8")
