"""Survival statistics through the door against references that see every patient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dp.calibration import split_budget
from dp.queries import Neighbours
from models.auc import TimeDependentAUC
from models.brier import BrierScore, trapezoid
from models.concordance import PairConcordance
from models.data import SurvivalData
from models.errors import MisuseError
from models.evaluation import Evaluation
from models.kaplan_meier import KaplanMeier, SurvivalCurve, life_table
from models.likelihood import LogLikelihood
from models.metrics import auc_at, kaplan_meier, negative_log_likelihood
from models.networks import Hazards, parameter_count
from models.predict import SurvivalModel
from models.presets import preset
from tests.models.support import FEATURES, patients
from tests.sweeps import thinned

PRESET = preset("aml-small")
HORIZON = PRESET.horizon
YEAR = 365.25
MONTHS = tuple(np.linspace(0, HORIZON, 61).tolist())


def model(hazard: float = 0.7) -> SurvivalModel:
    """A linear model that knows the truth of `support.patients`: f = 0.8·x0 + 0.3·x2."""
    weights = np.zeros(parameter_count(Hazards(()).layout(4, 6)))
    weights[6], weights[8] = 0.8, 0.3
    linear = SurvivalModel.as_trained(FEATURES, Hazards(()), PRESET.grid, weights.astype("<f8").tobytes())
    return linear.with_hazard(np.full(6, hazard))


def one(duration: float, event: bool) -> SurvivalData:
    return SurvivalData(np.zeros((1, 4)), np.ones((1, 4), dtype=bool), np.array([duration]), np.array([event]))


def multiplier(kind: str, epsilon: float) -> float:
    """Noise multiplier of a single release at (ε, 1e-5)."""
    return split_budget(epsilon, 1e-5, {kind: (1.0, 1)})[kind]


def noisy(release: Any, data: SurvivalData, epsilon: float, rng: np.random.Generator) -> tuple[Any, float]:
    """The decoded release at this ε, alone on the account."""
    scale = multiplier(release.kind, epsilon) * release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    return release.decode(release.contribution(data) + scale * rng.normal(size=release.length), scale), scale


# ---------------------------------------------------------------- Kaplan-Meier


@pytest.mark.parametrize(
    ("duration", "event", "cell"),
    [(10, True, 0), (10, False, 1), (100, True, 0), (100, False, 3), (0, True, 0), (250, True, 4), (250, False, 5),
     (300, True, 4), (300, False, 6), (301, True, 6), (math.nan, True, None)],
)  # fmt: skip
def test_each_patient_is_in_one_cell(duration: float, event: bool, cell: int | None) -> None:
    counts = KaplanMeier((0.0, 100.0, 200.0, 300.0)).contribution(one(duration, event))

    assert counts.tolist() == [float(i == cell) for i in range(7)]


def test_on_a_fine_grid_it_is_kaplan_meier() -> None:
    data = patients(2000, seed=2)
    release = KaplanMeier(MONTHS)

    said = release.decode(release.contribution(data), 0.0)

    assert said.patients.value == len(data.bounded(HORIZON))
    for time, point in list(zip(MONTHS, said.survival.survival, strict=True))[5::9]:
        exact = kaplan_meier(data.duration, data.event, time)
        assert point.value == pytest.approx(exact, abs=0.004)
        assert point.error == pytest.approx(math.sqrt(exact * (1 - exact) / 2000), rel=0.35)
    lost = kaplan_meier(data.duration, ~data.event, MONTHS[24])
    assert said.censoring.at(np.array([MONTHS[24]]))[0] == pytest.approx(lost, abs=0.004)


def test_numbers_at_risk_are_sums_of_released_cells() -> None:
    cells = np.array([3.0, 1.0, 2.0, 0.0, 4.0])  # 10 at risk, then 6

    risk, _ = life_table(cells, 2)

    assert risk == pytest.approx([3 / 9.5, 1 - (1 - 3 / 9.5) * (1 - 2 / 6)])
    assert life_table(cells, 2, which=1)[0][0] == pytest.approx(1 / 8.5)


def test_a_curve_ends_where_noise_takes_over() -> None:
    data = patients(400, seed=3)
    said, _ = noisy(KaplanMeier(MONTHS), data, 1.0, np.random.default_rng(1))

    assert not said.survival.survival[-1].resolved
    assert 0 < said.survival.resolved_until < HORIZON
    assert "not resolved" in str(said)
    assert not KaplanMeier(MONTHS).decode(np.zeros(121), 5.0).survival.survival[1].resolved


def test_kaplan_meier_intervals_cover() -> None:
    """Half-years, 600 patients, ε = 1: at least 93 % of the resolved intervals hold the population's survival."""
    rng = np.random.default_rng(8)
    release, fine = KaplanMeier(tuple((np.arange(0, 5) * YEAR / 2).tolist())), KaplanMeier(MONTHS)
    truth = fine.decode(fine.contribution(patients(100_000, seed=99)), 0.0).survival.at(np.array(release.grid))
    inside = []
    for seed in range(100):
        said = noisy(release, patients(600, seed), 1.0, rng)[0].survival
        points = zip(truth[1:], said.survival[1:], strict=True)
        inside += [point.low <= exact <= point.high for exact, point in points if point.resolved]

    assert len(inside) > 300
    assert np.mean(inside) > 0.93


@pytest.mark.parametrize("grid", [(0.0,), (1.0, 2.0), (0.0, 2.0, 2.0), ()])
def test_a_grid_that_is_none_is_refused(grid: tuple[float, ...]) -> None:
    with pytest.raises(MisuseError):
        KaplanMeier(grid)


# ---------------------------------------------------------------- AUC(t)


def test_auc_without_noise_is_the_pairwise_one() -> None:
    data = patients(1500, seed=4).bounded(HORIZON)
    fine = TimeDependentAUC(model(), YEAR, HORIZON, tuple(np.linspace(0, 1, 401)[1:-1].tolist()))

    said = fine.decode(fine.contribution(data), 0.0)

    exact = auc_at(model().risk(data.x, data.observed), data, YEAR)
    assert said.value == pytest.approx(exact, abs=0.002)
    assert said.noise_error == 0.0
    coarse = TimeDependentAUC(model(), YEAR, HORIZON)
    assert exact - 0.01 < coarse.decode(coarse.contribution(data), 0.0).value < exact


@pytest.mark.parametrize(
    ("duration", "event", "column"),
    [(YEAR, True, 0), (YEAR, False, 1), (YEAR + 1, True, 1), (10, True, 0), (10, False, None), (math.inf, True, None)],
)
def test_the_state_at_t(duration: float, event: bool, column: int | None) -> None:
    counts = TimeDependentAUC(model(), YEAR, HORIZON, (0.5,)).contribution(one(duration, event)).reshape(2, 2)

    assert counts.sum(axis=0).tolist() == [float(i == column) for i in range(2)]


def test_ties_count_half() -> None:
    release = TimeDependentAUC(model(), YEAR, HORIZON, (0.5,))

    assert release.decode(np.array([30.0, 20.0, 10.0, 20.0]), 0.0).value == pytest.approx(
        (30 * 20 / 2 + 10 * 20 + 10 * 20 / 2) / 1600
    )


def test_the_error_of_auc_is_that_of_repeated_noise() -> None:
    data = patients(600, seed=5)
    release, rng = TimeDependentAUC(model(), YEAR, HORIZON), np.random.default_rng(1)
    said = [noisy(release, data, 1.0, rng)[0] for _ in range(200)]
    exact = release.decode(release.contribution(data), 0.0).value

    rmse = math.sqrt(np.mean([(s.value - exact) ** 2 for s in said]))
    assert np.mean([s.noise_error for s in said]) == pytest.approx(rmse, rel=0.15)
    assert rmse < 0.027


def test_auc_of_a_drowned_hold_out_is_not_resolved() -> None:
    release = TimeDependentAUC(model(), YEAR, HORIZON)

    assert str(release.decode(release.contribution(patients(40)), 5.0)) == "not resolved"
    for time, edges in ((0.0, (0.5,)), (HORIZON + 1, (0.5,)), (YEAR, ()), (YEAR, (0.5, 0.5)), (YEAR, (0.0,))):
        with pytest.raises(MisuseError):
            TimeDependentAUC(model(), time, HORIZON, edges)


# ---------------------------------------------------------------- Brier


def censoring_of(data: SurvivalData) -> SurvivalCurve:
    release = KaplanMeier(MONTHS, "survival-holdout")
    return release.decode(release.contribution(data), 0.0).censoring


def test_the_score_is_graf_s_formula() -> None:
    data = patients(400, seed=6).bounded(HORIZON)
    release = BrierScore(model(), (YEAR,), HORIZON, censoring_of(data), cap=50.0)
    g = release.censoring.at
    alive = model().survival(data.x, data.observed, np.array([YEAR]))[:, 0]
    total = 0.0
    for i in range(len(data)):
        if data.event[i] and data.duration[i] <= YEAR:
            total += alive[i] ** 2 / g(data.duration[i : i + 1])[0]
        elif data.duration[i] > YEAR:
            total += (1 - alive[i]) ** 2 / g(np.array([YEAR]))[0]

    assert release.decode(release.contribution(data), 0.0).value == pytest.approx(total / len(data), rel=1e-5)


@pytest.mark.slow  # pycox compiles for several seconds
def test_the_integrated_score_agrees_with_pycox() -> None:
    from pycox.evaluation import EvalSurv

    data = patients(1500, seed=7).bounded(HORIZON)
    times = np.linspace(100, 900, 9)
    release = BrierScore(model(), tuple(times.tolist()), HORIZON, censoring_of(data), cap=50.0)
    survival = model().survival(data.x, data.observed, times)
    oracle = EvalSurv(pd.DataFrame(survival.T, index=times), data.duration, data.event.astype(int), censor_surv="km")
    scores = oracle.brier_score(times).to_numpy()

    said = release.decode(release.contribution(data), 0.0)

    # pycox divides by the sum of the weights, Graf by n; they differ by the error of Ĝ.
    assert said.value == pytest.approx(float(trapezoid(times) @ scores), rel=0.02)


def test_integrating_is_the_trapezoid_rule() -> None:
    assert trapezoid(np.array([5.0])).tolist() == [1.0]
    assert trapezoid(np.array([0.0, 1.0, 4.0])) == pytest.approx([1 / 8, 4 / 8, 3 / 8])


def test_the_cap_bounds_a_score() -> None:
    data = patients(300, seed=8).bounded(HORIZON)
    curve = censoring_of(data)
    low = BrierScore(model(), (2 * YEAR,), HORIZON, curve, cap=1.0)

    assert low.scores(data).max() <= 1.0
    assert (
        low.decode(low.contribution(data), 0.0).value
        < BrierScore(model(), (2 * YEAR,), HORIZON, curve)
        .decode(BrierScore(model(), (2 * YEAR,), HORIZON, curve).contribution(data), 0.0)
        .value
    )


def test_another_released_curve_is_another_query() -> None:
    curve = censoring_of(patients(300))
    points = [replace(p, value=p.value * (1 - 1e-16 * 4)) if i == 3 else p for i, p in enumerate(curve.survival)]
    release = BrierScore(model(), (YEAR,), HORIZON, curve)

    moved = replace(release, censoring=SurvivalCurve(curve.times, tuple(points)))
    assert moved.query(1.0, 10).digest() != release.query(1.0, 10).digest()


# ---------------------------------------------------------------- likelihood


def test_the_mean_log_likelihood() -> None:
    data = patients(500, seed=9).bounded(HORIZON)
    release = LogLikelihood(model(), 100.0)

    said = release.decode(release.contribution(data), 0.0)

    assert said.value == pytest.approx(-negative_log_likelihood(model(), data), rel=1e-5)
    tight = LogLikelihood(model(), 0.5, -1.0)
    assert -1.5 <= tight.decode(tight.contribution(data), 0.0).value <= -0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogLikelihood(model(), 4.0, -1.0),
        lambda: BrierScore(model(), (YEAR / 2, YEAR), HORIZON, censoring_of(patients(600, seed=5))),
    ],
)
def test_errors_of_scores_are_those_of_repeated_noise(make: Any) -> None:
    data, release, rng = patients(600, seed=5), make(), np.random.default_rng(1)
    exact, total = release.decode(release.contribution(data), 0.0), release.contribution(data)
    scale = multiplier(release.kind, 1.0) * release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    said = [release.decode(total + scale * rng.normal(size=2), scale) for _ in range(400)]

    rmse = math.sqrt(np.mean([(s.value - exact.value) ** 2 for s in said]))
    assert np.mean([s.noise_error for s in said]) == pytest.approx(rmse, rel=0.15)
    assert np.mean([s.low <= exact.value <= s.high for s in said]) > 0.95
    assert not release.decode(np.array([1.0, 1.0]), 5.0).resolved
    assert "not resolved" in str(release.decode(np.array([1.0, 1.0]), 5.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogLikelihood(model(), 0.0),
        lambda: LogLikelihood(model(), 1.0, math.inf),
        lambda: BrierScore(model(), (), HORIZON, censoring_of(patients(9))),
        lambda: BrierScore(model(), (YEAR, YEAR), HORIZON, censoring_of(patients(9))),
        lambda: BrierScore(model(), (HORIZON + 1,), HORIZON, censoring_of(patients(9))),
        lambda: BrierScore(model(), (YEAR,), HORIZON, censoring_of(patients(9)), cap=0.5),
        lambda: PairConcordance(model(), HORIZON, "alphabetical"),
    ],
)
def test_constants_outside_their_range_are_refused(make: Any) -> None:
    with pytest.raises(MisuseError):
        make()


def test_other_scores_stand_in_the_summary() -> None:
    release = LogLikelihood(model(), 4.0)
    said = release.decode(release.contribution(patients(500)), 1.0)
    lost = release.decode(np.zeros(2), 5.0)

    summary = Evaluation(None, None, {"log_likelihood": said, "again": lost}).summary()

    assert "scores" not in Evaluation(None, None).summary()
    scores = summary["scores"]
    assert isinstance(scores, dict)
    assert list(scores) == ["again", "log_likelihood"]
    assert scores["log_likelihood"]["estimate"] == pytest.approx(said.value, rel=1e-5)
    assert scores["again"]["estimate"] is None


@pytest.mark.parametrize(
    ("deaths", "noise"),
    thinned(pytest.param(*each) for each in [((6, 6, 6, 6), 8.0), ((3, 30, 30, 60), 10.0), ((3, 6, 6, 6), 4.0)]),
)
def test_few_deaths_under_much_noise_do_not_make_an_interval_confident(deaths: tuple[int, ...], noise: float) -> None:
    """A cell that noise has pushed below zero is clamped; its uncertainty is not."""
    rng, n, turns = np.random.default_rng(5), 600, 400
    share = np.array([*deaths, n - sum(deaths)]) / n
    truth, release = 1 - np.cumsum(share[:4]), KaplanMeier((0.0, 30.0, 90.0, 180.0, 365.0))
    covered = np.zeros(4)
    for _ in range(turns):
        cells, drawn = np.zeros(9), rng.multinomial(n, share)
        cells[:8:2], cells[8] = drawn[:4], drawn[4]
        points = release.decode(cells + rng.normal(size=9) * noise, noise).survival.survival[1:]
        covered += [not p.resolved or p.low <= s <= p.high for p, s in zip(points, truth, strict=True)]

    assert (covered / turns >= 0.92).all(), covered / turns
