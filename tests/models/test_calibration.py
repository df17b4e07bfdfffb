from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.queries import Neighbours
from models import calibration
from models.data import SurvivalData
from models.errors import MisuseError
from models.metrics import kaplan_meier
from models.networks import Hazards, parameter_count
from models.predict import SurvivalModel
from models.presets import preset
from tests.models.support import FEATURES, patients
from tests.sweeps import examples

PRESET = preset("aml-small")


def model(hazard: float = 0.7) -> SurvivalModel:
    """A linear model that knows the truth of `support.patients`: f = 0.8·x0 + 0.3·x2."""
    weights = np.zeros(parameter_count(Hazards(()).layout(4, 6)))
    weights[6], weights[8] = 0.8, 0.3
    linear = SurvivalModel.as_trained(FEATURES, Hazards(()), PRESET.grid, weights.astype("<f8").tobytes())
    return linear.with_hazard(np.full(6, hazard))


@given(
    x=st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    duration=st.floats(0.5, 1826.25) | st.sampled_from([365.25, 730.5]),
    event=st.booleans(),
    hazard=st.sampled_from([0.0, 1e-9, 0.7, 1e6]),
)
@settings(max_examples=examples(200), deadline=None)
def test_a_row_is_one_cell_and_bounded_deviations(x: list[float], duration: float, event: bool, hazard: float) -> None:
    data = SurvivalData(np.array([x]), np.ones((1, 4), dtype=bool), np.array([duration]), np.array([event]))

    row = calibration.rows(model(hazard), PRESET, data)

    assert row.shape == (1, calibration.length(PRESET))
    assert np.linalg.norm(row) <= calibration.sensitivity(PRESET) + 1e-12
    cells = row.reshape(len(PRESET.risk_edges) + 1, -1)[:, :5]
    assert np.sum(cells) == np.max(cells) == 1.0


@pytest.mark.parametrize(
    ("duration", "event", "cell"),
    [(365.25, True, 0), (365.25, False, 3), (100, False, 1), (365.26, True, 2), (730.5, True, 2),
     (730.5, False, 4), (731, True, 4)],
)  # fmt: skip
def test_edges_of_time(duration: float, event: bool, cell: int) -> None:
    data = SurvivalData(np.zeros((1, 4)), np.ones((1, 4), dtype=bool), np.array([duration]), np.array([event]))

    cells = calibration.rows(model(), PRESET, data).reshape(len(PRESET.risk_edges) + 1, -1)[:, :5]

    assert int(cells.sum(axis=0).argmax()) == cell


def test_without_noise_it_is_the_life_table_and_the_mean_prediction() -> None:
    data = patients(5000, missing=0.0).bounded(PRESET.horizon)
    truth = model()
    predicted = 1 - truth.survival(data.x, data.observed, np.array([365.25, 730.5]))

    released = calibration.decode(truth, PRESET, calibration.rows(truth, PRESET, data).sum(axis=0), 0.0)

    for point, mean in zip(released.overall, predicted.mean(axis=0), strict=True):
        km = 1 - kaplan_meier(data.duration, data.event, point.time)
        assert point.observed == pytest.approx(km, abs=0.01)  # one interval a year: biased by .007 here
        assert point.predicted == pytest.approx(mean, abs=1e-12)
        assert point.patients == 5000
        assert point.observed_error == pytest.approx(np.sqrt(km * (1 - km) / 5000), rel=0.15)
        assert point.predicted_error == 0.0
    for point in released.bins:
        inside = (predicted[:, 0] >= point.low) & (predicted[:, 0] < point.high)
        column = PRESET.calibration_times.index(point.time)
        assert point.predicted == pytest.approx(predicted[inside, column].mean(), abs=1e-12)
        assert point.observed == pytest.approx(
            1 - kaplan_meier(data.duration[inside], data.event[inside], point.time), abs=0.02
        )


@pytest.mark.slow
def test_standard_errors_match_repeated_noise() -> None:
    data = patients(400, missing=0.0).bounded(PRESET.horizon)
    total = calibration.rows(model(), PRESET, data).sum(axis=0)
    rng = np.random.default_rng(3)
    quiet = calibration.decode(model(), PRESET, total, 0.0).overall[0]
    noisy = [
        calibration.decode(model(), PRESET, total + 4 * rng.normal(size=total.size), 4.0).overall[0] for _ in range(150)
    ]

    observed = np.std([p.observed for p in noisy])
    stated = np.sqrt(np.mean([p.observed_error**2 for p in noisy]) - quiet.observed_error**2)
    assert stated == pytest.approx(observed, rel=0.2)
    assert np.mean([p.predicted_error for p in noisy]) == pytest.approx(np.std([p.predicted for p in noisy]), rel=0.2)


def test_a_bin_that_noise_drowns_says_so() -> None:
    released = calibration.decode(model(), PRESET, np.zeros(calibration.length(PRESET)), 5.0)

    assert not any(point.resolved for point in (*released.bins, *released.overall))
    assert "not resolved" in str(released.overall[0])


def test_wrong_length_is_misuse() -> None:
    with pytest.raises(MisuseError, match="sums"):
        calibration.decode(model(), PRESET, np.zeros(3), 1.0)


def test_the_release_is_the_sum_of_its_rows() -> None:
    release = calibration.CalibrationAtTimes(model(), PRESET)
    data = patients(80)

    sums = release.contribution(data)

    assert sums == pytest.approx(calibration.rows(model(), PRESET, data.bounded(PRESET.horizon)).sum(axis=0), abs=1e-4)
    assert release.decode(sums, 0.0) == calibration.decode(model(), PRESET, sums, 0.0)
    assert release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE) == pytest.approx(math.sqrt(1.5))
    assert release.sensitivity(Neighbours.REPLACE_ONE) == 2.0
    assert (
        release.query(3.0, 100).digest() != calibration.CalibrationAtTimes(model(0.3), PRESET).query(3.0, 100).digest()
    )


def test_four_times_cost_no_more_than_the_root_of_two() -> None:
    four = replace(PRESET, calibration_times=(90.0, 180.0, 365.25, 730.5))

    assert calibration.CalibrationAtTimes(model(), four).sensitivity(Neighbours.ADD_OR_REMOVE_ONE) ** 2 <= 2.0 + 1e-12
