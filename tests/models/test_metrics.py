"""Scores on data at hand, against pycox and by hand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from models.data import Bool, Float64, SurvivalData
from models.errors import MisuseError
from models.metrics import (
    antolini_c,
    brier_score,
    calibration_in_the_large,
    calibration_slope,
    harrell_c,
    integrated_brier_score,
    kaplan_meier,
    log_rank,
    uno_c,
    within_c,
)


@dataclass(frozen=True)
class Weibull:
    """Crossing survival curves: shape and scale of each patient from his two columns."""

    digest: str = ""

    def survival(self, x: Float64, observed: Bool, times: Float64) -> Float64:
        del observed
        return np.asarray(np.exp(-((times[None, :] / np.exp(6 + 0.5 * x[:, :1])) ** np.exp(0.5 * x[:, 1:]))))


def cohort(n: int = 150, seed: int = 0) -> SurvivalData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    death = np.exp(6 + 0.5 * x[:, 0]) * rng.exponential(size=n) ** np.exp(-0.5 * x[:, 1])
    last = rng.uniform(50, 1500, n)
    return SurvivalData(x, np.ones((n, 2), bool), np.minimum(death, last) + 0.01, death <= last)


def by_hand(*rows: tuple[float, bool]) -> SurvivalData:
    n = len(rows)
    return SurvivalData(
        np.zeros((n, 1)), np.ones((n, 1), bool), np.array([t for t, _ in rows]), np.array([d for _, d in rows])
    )


def pycox(data: SurvivalData) -> object:
    from pycox.evaluation import EvalSurv

    times = np.unique(np.concatenate([[0.0], data.duration]))
    curves = Weibull().survival(data.x, data.observed, times).T
    return EvalSurv(pd.DataFrame(curves, index=times), data.duration, data.event.astype(np.int64), censor_surv="km")


def test_antolini_and_brier_are_those_of_pycox() -> None:
    data, oracle = cohort(), pycox(cohort())
    # pycox reads a curve as a step from each of its times on: at those times there is nothing to interpolate
    times = np.sort(data.duration)[10:-20:7]
    alive = Weibull().survival(data.x, data.observed, times)

    assert antolini_c(Weibull(), data) == pytest.approx(oracle.concordance_td("antolini"), abs=1e-12)  # type: ignore[attr-defined]
    found = oracle.brier_score(times).to_numpy()  # type: ignore[attr-defined]
    assert brier_score(alive, data, times, cap=np.inf) == pytest.approx(found, abs=1e-9)
    trapezoid = np.trapezoid(found, times) / (times[-1] - times[0])
    assert integrated_brier_score(alive, data, times, cap=np.inf) == pytest.approx(trapezoid, abs=1e-9)


def test_antolini_differs_from_harrell_where_curves_cross() -> None:
    data = cohort(400)
    early = -Weibull().survival(data.x, data.observed, np.array([100.0]))[:, 0]

    assert antolini_c(Weibull(), data) > harrell_c(early, data) + 0.005


def test_brier_by_hand() -> None:
    # Censored on day 2: from then on Ĝ = 2/3. At day 3 the death of day 3 weighs 3/2, the survivor 3/2, the death of
    # day 1 one; the censored patient nothing.
    data = by_hand((1, True), (2, False), (3, True), (4, False))
    alive = np.array([[0.5], [0.9], [0.4], [0.8]])
    expected = (1 * 0.25 + 1.5 * 0.16 + 1.5 * 0.04) / (1 + 1.5 + 1.5)

    assert brier_score(alive, data, np.array([3.0]))[0] == pytest.approx(expected)
    assert np.isnan(brier_score(alive, by_hand(*[(1, False)] * 4), np.array([3.0]))[0])

    # Death and censoring on day 2: Ĝ(2−) = 1 for the death, Ĝ(3) = 2/3 for the survivor.
    tied = by_hand((1, True), (2, True), (2, False), (4, False))
    expected = (1 * 0.25 + 1 * 0.81 + 1.5 * 0.04) / (1 + 1 + 1.5)
    assert brier_score(alive, tied, np.array([3.0]))[0] == pytest.approx(expected)


def test_a_cap_bounds_one_patients_weight() -> None:
    data = by_hand(*[(1.0 + i / 100, False) for i in range(98)], (5, True), (6, False))
    alive = np.tile([[1.0]], (100, 1))

    assert brier_score(alive, data, np.array([5.0]), cap=10.0)[0] == pytest.approx(0.5)  # one dead, one alive
    assert brier_score(alive, by_hand((1, True), *[(7.0, False)] * 99), np.array([5.0]))[0] == pytest.approx(0.01)


def test_times_of_an_integral_increase() -> None:
    data = by_hand((1, True), (2, False))
    with pytest.raises(MisuseError, match="increasing"):
        integrated_brier_score(np.ones((2, 2)), data, np.array([2.0, 1.0]))
    with pytest.raises(MisuseError, match="2 patients at 1 times"):
        brier_score(np.ones((2, 2)), data, np.array([1.0]))


def test_uno_is_harrell_without_censoring_and_weighted_by_hand_with_it() -> None:
    rng = np.random.default_rng(1)
    risk = rng.normal(size=60)
    open_ = by_hand(*[(float(t), True) for t in rng.permutation(60) + 1])
    assert uno_c(risk, open_, 1e9) == pytest.approx(harrell_c(risk, open_))

    # Day 1: died, Ĝ(1−) = 1, three later patients. Day 3: died, Ĝ(3−) = 2/3 after the censoring of day 2 among three.
    data = by_hand((1, True), (2, False), (3, True), (4, False))
    scores = np.array([2.0, 3.0, 1.0, 1.0])  # day 1 beats two of three, day 3 ties with day 4
    assert uno_c(scores, data, 10.0) == pytest.approx((1 * 2 + 2.25 * 0.5) / (1 * 3 + 2.25 * 1))
    assert uno_c(scores, data, 3.0) == pytest.approx(2 / 3)  # day 3 is no longer before the horizon
    assert np.isnan(uno_c(scores, data, 1.0))


def test_uno_does_not_move_with_censoring_where_harrell_does() -> None:
    rng = np.random.default_rng(2)
    n = 4000
    x = rng.normal(size=n)
    death = rng.exponential(size=n) / np.exp(x) * 300
    late = SurvivalData(x[:, None], np.ones((n, 1), bool), death, np.ones(n, bool))
    lost = rng.exponential(300, n)
    early = SurvivalData(x[:, None], np.ones((n, 1), bool), np.minimum(death, lost), death <= lost)
    horizon = 500.0
    truth = uno_c(x, late, horizon)

    assert uno_c(x, early, horizon) == pytest.approx(truth, abs=0.012)
    assert abs(uno_c(x, early, horizon) - truth) < abs(harrell_c(x, early) - harrell_c(x, late)) + 0.01


def test_within_sites_no_pair_crosses() -> None:
    data = by_hand((1, True), (2, True), (3, True), (4, True))
    risk = np.array([1.0, 2.0, 0.0, -1.0])  # wrong in the first site, right in the second

    assert within_c(risk, data, np.array([0, 0, 1, 1])) == pytest.approx(0.5)
    assert harrell_c(risk, data) == pytest.approx(5 / 6)
    assert np.isnan(within_c(risk, data, np.arange(4)))


def test_kaplan_meier_by_hand() -> None:
    duration, event = np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, False, True, True])

    assert kaplan_meier(duration, event, 0.5) == 1.0
    assert kaplan_meier(duration, event, 2.0) == pytest.approx(3 / 4 * 2 / 3)
    assert kaplan_meier(duration, event, 9.0) == 0.0


def test_log_rank_by_hand() -> None:
    # Deaths on days 1 (of 4, 2 ours: ours), 2 (of 3, 1 ours: other), 3 (of 2, 1 ours: ours), 4 (of 1, not ours).
    data = by_hand((1, True), (2, True), (3, True), (4, True))
    ours = np.array([True, False, True, False])
    excess = 2 - (2 / 4 + 1 / 3 + 1 / 2)
    variance = 1 / 4 + 2 / 9 + 1 / 4

    assert log_rank(data, ours) == pytest.approx(excess**2 / variance)
    assert log_rank(data, ~ours) == pytest.approx(log_rank(data, ours))
    assert np.isnan(log_rank(data, np.ones(4, bool)))


def predicted(n: int, spread: float, level: float) -> tuple[Float64, Float64, SurvivalData]:
    """A model whose f is `spread` times and whose hazard is `level` times the truth."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    death, lost = rng.exponential(size=n) / np.exp(x), rng.exponential(size=n) * 2
    time = np.minimum(death, lost)
    data = SurvivalData(x[:, None], np.ones((n, 1), bool), time, death <= lost)
    risk = spread * x
    return risk, level * time * np.exp(risk), data


@pytest.mark.parametrize(("spread", "level"), [(1.0, 1.0), (2.0, 1.0), (0.5, 3.0)])
def test_calibration_finds_what_was_put_in(spread: float, level: float) -> None:
    risk, expected, data = predicted(20_000, spread, level)

    assert calibration_slope(risk, expected, data) == pytest.approx(1 / spread, rel=0.03)
    if spread == 1.0:
        assert calibration_in_the_large(expected, data) == pytest.approx(0.0, abs=0.03)


def test_calibration_in_the_large_is_deaths_against_predicted_deaths() -> None:
    risk, expected, data = predicted(500, 1.0, 1.0)
    double = calibration_in_the_large(2 * expected, data)

    assert double == pytest.approx(calibration_in_the_large(expected, data) - np.log(2))
    assert calibration_slope(risk, 7 * expected, data) == pytest.approx(calibration_slope(risk, expected, data))


def test_calibration_of_a_constant_is_not_known() -> None:
    _, expected, data = predicted(50, 1.0, 1.0)

    assert np.isnan(calibration_slope(np.zeros(50), expected, data))
    with pytest.raises(MisuseError, match="expected deaths"):
        calibration_in_the_large(expected[:3], data)
