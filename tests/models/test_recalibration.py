from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.queries import Neighbours
from dp.rows import clipped_rows
from models import recalibration
from models.data import SurvivalData
from models.errors import MisuseError
from models.metrics import negative_log_likelihood
from models.networks import Hazards
from models.predict import SurvivalModel
from models.training import initial_weights
from tests.models.support import FEATURES, patients, small


def model(hazard: float = 0.2) -> SurvivalModel:
    chosen = small()
    start = SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, initial_weights(chosen, 4, b"s"))
    return start.with_hazard(np.full(chosen.intervals, hazard))


def test_without_noise_and_clip_it_is_breslow() -> None:
    chosen = replace(small(), breslow_pseudo_events=0.0)
    data = patients(4000).bounded(chosen.horizon)
    rows = recalibration.rows(model(), data, bound=1e6)
    deaths, expected = rows[:, :6].sum(axis=0), rows[:, 6:].sum(axis=0)

    better = recalibration.apply(model(), chosen, rows.sum(axis=0))

    assert np.allclose(better.hazard, 0.2 * deaths / expected, rtol=1e-12)  # = deaths ÷ risk-weighted years
    assert negative_log_likelihood(better, data) < negative_log_likelihood(model(), data)


def test_pseudo_deaths_pull_towards_the_common_correction() -> None:
    chosen = replace(small(), breslow_pseudo_events=20.0)
    deaths, expected = np.array([0.0, 10, 10, 10, 10, 80]), np.full(6, 10.0)  # twice as many as expected

    better = recalibration.apply(model(), chosen, np.concatenate([deaths, expected]))

    assert np.allclose(better.hazard / 0.2, [40 / 30, 50 / 30, 50 / 30, 50 / 30, 50 / 30, 120 / 30])


def test_noise_below_zero_is_floored() -> None:
    chosen = replace(small(), breslow_pseudo_events=0.0)
    deaths, expected = np.array([-9.0, 8, 8, 8, 8, 8]), np.array([8.0, -9, 8, 8, 8, 8])

    better = recalibration.apply(model(), chosen, np.concatenate([deaths, expected]))

    assert np.allclose(better.hazard / 0.2, [1 / 8, 8 / 1, 1, 1, 1, 1])


@pytest.mark.parametrize("hazard", [0.05, 1.0, 5.0])
def test_ending_follow_up_at_the_bound_leaves_no_bias(hazard: float) -> None:
    """D ÷ E at a tight bound estimates the same correction as without a bound; scaling rows down would not."""
    data = patients(40_000, missing=0.0).bounded(1826.25)
    weights = np.zeros(6 + 8)
    weights[6], weights[8] = 0.8, 0.3
    grid = (0.0, 30.4375, 91.3125, 182.625, 365.25, 730.5, 1826.25)
    truth = SurvivalModel.as_trained(FEATURES, Hazards(()), grid, weights.astype("<f8").tobytes())
    wrong = truth.with_hazard(np.full(6, hazard))

    rows = recalibration.rows(wrong, data, bound=1.5)

    assert np.linalg.norm(rows, axis=1).max() <= 1.5 + 1e-12
    deaths, expected = rows[:, :6].sum(axis=0), rows[:, 6:].sum(axis=0)
    enough = deaths > 300  # a hazard of 5 ends everybody's follow-up early
    assert enough.sum() >= 3
    assert np.allclose(hazard * deaths[enough] / expected[enough], 365.25 / 500, rtol=0.13)


def test_ranking_does_not_move() -> None:
    chosen = small()
    data = patients(50)
    better = recalibration.apply(model(), chosen, np.arange(12.0))

    assert np.array_equal(better.risk(data.x, data.observed), model().risk(data.x, data.observed))
    assert better.params == model().params
    assert better.digest != model().digest


@given(st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12))
@settings(deadline=None)
def test_whatever_noise_does_hazards_stay_inside_public_bounds(total: list[float]) -> None:
    better = recalibration.apply(model(), small(), np.array(total))

    assert np.all(better.hazard >= 0.2 / recalibration.CORRECTION * (1 - 1e-12))
    assert np.all(better.hazard <= 0.2 * recalibration.CORRECTION * (1 + 1e-12))


def test_one_patient_moves_the_clipped_sum_by_at_most_the_bound() -> None:
    chosen = small()
    base = patients(30).bounded(chosen.horizon)
    bound = chosen.breslow_bound
    extreme = model(hazard=1e6)  # a trained baseline can be absurd under much noise
    whole = clipped_rows(recalibration.rows(extreme, base, bound), bound)
    for i in range(30):
        rest = base.rows(np.arange(30) != i)
        change = whole - clipped_rows(recalibration.rows(extreme, rest, bound), bound)
        assert np.linalg.norm(change) <= bound * (1 + 1e-9)


def test_nobody_gives_an_empty_sum() -> None:
    empty = SurvivalData(np.zeros((0, 4)), np.zeros((0, 4), dtype=bool), np.zeros(0), np.zeros(0, dtype=bool))

    assert clipped_rows(recalibration.rows(model(), empty, 1.5), 1.5).tolist() == [0.0] * 12


def test_wrong_length_is_misuse() -> None:
    with pytest.raises(MisuseError, match="12 sums"):
        recalibration.apply(model(), small(), np.zeros(3))


def test_the_release_is_the_sum_of_its_rows() -> None:
    chosen = small()
    release = recalibration.Breslow(model(), chosen)
    data = patients(60)
    bound = chosen.breslow_bound

    sums = release.contribution(data)

    assert sums == pytest.approx(recalibration.rows(model(), data.bounded(chosen.horizon), bound).sum(axis=0), rel=1e-5)
    assert release.length == 12
    assert release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE) == bound
    assert release.sensitivity(Neighbours.REPLACE_ONE) == pytest.approx(math.sqrt(2) * bound)
    assert release.query(3.0, 100).digest() != recalibration.Breslow(model(0.3), chosen).query(3.0, 100).digest()


def test_decoding_corrects_as_apply_does_and_says_the_error() -> None:
    chosen = replace(small(), breslow_pseudo_events=5.0)
    release = recalibration.Breslow(model(), chosen)
    total = release.contribution(patients(3000))
    rng = np.random.default_rng(1)
    noisy = [release.decode(total + 6.0 * rng.normal(size=12), 6.0) for _ in range(300)]

    said = release.decode(total, 6.0)

    assert np.array_equal(said.model.hazard, recalibration.apply(model(), chosen, total).hazard)
    assert said.resolved
    for k, correction in enumerate(said.corrections):
        assert correction.value == pytest.approx(said.model.hazard[k] / 0.2)
        spread = np.std([n.corrections[k].value for n in noisy])
        assert spread <= correction.error * 1.2  # the delta method at a size of ten standard errors
        assert correction.error < 3 * spread


def test_a_drowned_release_corrects_nothing() -> None:
    release = recalibration.Breslow(model(), small())

    said = release.decode(release.contribution(patients(5)), 20.0)

    assert said.model is release.model
    assert not said.resolved
    assert "not resolved" in str(said)
