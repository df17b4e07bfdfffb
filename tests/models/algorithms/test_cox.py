"""Exact Cox models of a federation against pooled fits that share no code with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from dp.errors import UploadsExhausted
from dp.queries import Float64, Neighbours, Query, SecureSum
from models.algorithms.newton import CoxFit, Newton, fit, survival_model
from models.algorithms.partial import OnGrid, PartialLikelihood, Stratified, local
from models.data import SurvivalData, exposures, inputs, joined
from models.errors import ConfigError, MisuseError, NotPerPatient
from models.losses import CoxPartialLikelihood
from secagg.manifest import Noise
from tests.models.algorithms.support import CAP, SILENT, Whole, cut, days, linear
from tests.models.support import FEATURES, Replay, patients

HORIZON = 1826.25
GRID = (0.0, 91.3125, 182.625, 365.25, 730.5, 1095.75, HORIZON)
NEWTON = Newton(steps=12, ridge=2.0)
SIZES = (70, 25, 5)
EXACT = Stratified(4)
DISCRETE = OnGrid(4, GRID)


def federated(likelihood: PartialLikelihood, parts: list[SurvivalData], newton: Newton = NEWTON) -> list[CoxFit]:
    def job(i: int, secure_sum: SecureSum) -> CoxFit:
        return fit(
            newton, likelihood, 4, parts[i], HORIZON, secure_sum,
            lambda t: likelihood.query(SILENT, CAP, t), noise=Noise.NONE,
        )  # fmt: skip

    found = Whole(len(parts)).run(job)
    assert len({each.beta.tobytes() for each in found}) == 1, "sites own different models"
    return found


def pooled(strata: list[SurvivalData], ridge: float) -> Float64:
    """A quasi-Newton fit of torch's O(n²) likelihood: no code in common with the one under test."""
    parts = [data.bounded(HORIZON) for data in strata]

    def objective(beta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.tensor(beta, requires_grad=True)
        loss = ridge / 2 * (at**2).sum()
        for data in parts:
            z = torch.from_numpy(inputs(data.x, data.observed))
            time, event = torch.tensor(data.duration), torch.tensor(data.event)
            loss = loss + CoxPartialLikelihood().total(z @ at, time, event)
        loss.backward()
        assert at.grad is not None
        return float(loss.detach()), at.grad.numpy()

    found = minimize(objective, np.zeros(8), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    return np.asarray(found.x)


def on_grid(data: SurvivalData) -> SurvivalData:
    """Durations replaced by the middle of their interval."""
    kept = data.bounded(HORIZON)
    middle = (np.array(GRID)[:-1] + np.array(GRID)[1:]) / 2
    return SurvivalData(
        kept.x, kept.observed, middle[np.searchsorted(GRID, kept.duration, side="left") - 1], kept.event
    )


@pytest.mark.parametrize("ridge", [0.01, 2.0, 100.0])
def test_the_federated_stratified_fit_is_the_pooled_one(ridge: float) -> None:
    parts = cut(days(100), SIZES)

    found = federated(EXACT, parts, Newton(12, ridge))[0]

    assert np.allclose(found.beta, pooled(parts, ridge), atol=2e-6)
    assert found.decrement < 1e-10
    assert found.noise.startswith("no noise")


def test_the_fit_on_the_grid_is_the_pooled_one_of_discrete_times() -> None:
    made = patients(100)
    edges = np.where(np.arange(100) % 3 == 0, np.array(GRID)[1 + np.arange(100) % 6], made.duration)  # (lo, hi]
    parts = cut(SurvivalData(made.x, made.observed, edges, made.event), SIZES)

    found = federated(DISCRETE, parts)[0]

    assert np.allclose(found.beta, pooled([on_grid(joined(parts))], 2.0), atol=2e-5)
    assert found.decrement < 1e-8


def test_one_site_is_the_unstratified_cox_model() -> None:
    everybody = days(100)

    alone = federated(EXACT, [everybody])[0]
    three = federated(EXACT, cut(everybody, SIZES))[0]

    assert np.allclose(alone.beta, pooled([everybody], 2.0), atol=2e-6)
    assert not np.allclose(alone.beta, three.beta, atol=1e-3), "strata make no difference here: the test sees nothing"


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
def test_slope_and_curvature_are_the_differences_of_the_value(likelihood: PartialLikelihood) -> None:
    data = days(60).bounded(HORIZON)
    beta = np.linspace(-0.5, 0.5, 8)

    def at(b: Float64) -> tuple[float, Float64, Float64]:
        found = likelihood.pieces(likelihood.contribution(b, data))
        return found.value, found.slope, found.curvature

    value, slope, curvature = at(beta)
    step = 1e-5
    for j in range(8):
        move = step * np.eye(8)[j]
        (up, slope_up, _), (down, slope_down, _) = at(beta + move), at(beta - move)
        assert (up - down) / (2 * step) == pytest.approx(slope[j], abs=1e-5)
        assert np.allclose((slope_up - slope_down) / (2 * step), -curvature[j], atol=1e-4)
    assert value < 0


def test_where_the_risk_is_at_its_bound_the_slope_is_that_of_the_clipped_risk() -> None:
    data = days(40).bounded(HORIZON)
    beta = np.array([9.0, 0.1, 0.0, 0.2, 0.1, 0.0, 0.0, 0.0])
    assert np.any(np.abs(inputs(data.x, data.observed) @ beta) > 8)

    for j in range(8):
        move = 1e-6 * np.eye(8)[j]
        difference = (local(beta + move, data).value - local(beta - move, data).value) / 2e-6
        assert difference == pytest.approx(local(beta, data).slope[j], abs=1e-4)


def test_the_value_of_one_site_is_that_of_the_loss() -> None:
    data = days(50).bounded(HORIZON)
    beta = np.linspace(-0.3, 0.3, 8)
    risk = torch.from_numpy(inputs(data.x, data.observed) @ beta)

    loss = CoxPartialLikelihood().total(risk, torch.tensor(data.duration), torch.tensor(data.event))

    assert local(beta, data).value == pytest.approx(-float(loss), rel=1e-12)


def test_a_step_too_far_is_halved_and_the_value_never_falls() -> None:
    """Of two carriers among 200 one dies first and one outlives all: the curvature at 0 is too small by far."""
    n = 200
    x, event = np.zeros((n, 4)), np.zeros(n, bool)
    x[[0, n - 1], 0] = 10.0
    event[:5] = True
    data = SurvivalData(x, np.ones((n, 4), bool), np.arange(1.0, n + 1), event)
    fits = [federated(EXACT, [data], Newton(steps, 0.01))[0] for steps in range(1, 12)]
    values = [found.value - 0.005 * float(found.beta @ found.beta) for found in fits]

    assert values[0] == values[1] == values[2] < values[5], "Newton's first step was not too far"
    assert all(a <= b for a, b in pairwise(values))
    assert fits[-1].decrement < 1e-9


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
def test_sites_with_nothing_to_say_change_nothing(likelihood: PartialLikelihood) -> None:
    known = days(80)
    dull = days(30, seed=5)
    censored = SurvivalData(dull.x, dull.observed, dull.duration, np.zeros(30, bool))

    alone = federated(likelihood, [known])[0]
    beside = federated(likelihood, [known, patients(0), patients(0)])[0]
    without_deaths = federated(EXACT, [known, censored])[0]

    assert np.allclose(alone.beta, beside.beta, atol=1e-8)
    assert np.allclose(federated(EXACT, [known])[0].beta, without_deaths.beta, atol=1e-8)


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
def test_nobody_anywhere_leaves_zero(likelihood: PartialLikelihood) -> None:
    found = federated(likelihood, [patients(0), patients(0)])[0]

    assert not np.any(found.beta)
    assert found.value == 0.0


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
def test_a_constant_and_an_unmeasured_column_have_no_weight(likelihood: PartialLikelihood) -> None:
    made = days(80)
    x, observed = made.x.copy(), made.observed.copy()
    x[:, 1], observed[:, 1] = 10.0, True
    observed[:, 2] = False
    x[:, 2] = np.nan
    parts = cut(SurvivalData(x, observed, made.duration, made.event), (50, 30))

    found = federated(likelihood, parts)[0]

    assert np.allclose(found.beta[[1, 2, 5, 6]], 0.0, atol=1e-6)  # the integers of the sum
    assert abs(found.beta[0]) > 0.1


def test_a_broken_record_contributes_nothing() -> None:
    made = days(60)
    x = np.vstack([made.x, [[np.nan, 0, 0, 0]]])
    broken = SurvivalData(
        x,
        np.vstack([made.observed, np.ones((1, 4), bool)]),
        np.append(made.duration, 300.0),
        np.append(made.event, True),
    )

    assert federated(EXACT, [broken])[0].beta.tobytes() == federated(EXACT, [made])[0].beta.tobytes()


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
def test_no_coordinate_passes_its_cap_even_with_extreme_records(likelihood: PartialLikelihood) -> None:
    rng = np.random.default_rng(3)
    n = 200
    x = rng.choice([-10.0, 10.0], (n, 4))
    data = SurvivalData(x, rng.random((n, 4)) > 0.5, rng.integers(1, 1800, n).astype(float), np.ones(n, bool))
    for scale in (0.0, 1.0, 100.0):
        vector = likelihood.contribution(scale * rng.normal(size=8), data)
        assert np.max(np.abs(vector)) <= n


def test_the_queries_are_recorded_in_order_about_the_present_coefficients() -> None:
    door, parts = Whole(2), cut(days(60), (40, 20))
    door.run(
        lambda i, s: fit(
            NEWTON, EXACT, 4, parts[i], HORIZON, s, lambda t: EXACT.query(SILENT, CAP, t), noise=Noise.NONE
        )
    )
    asked = door.asked[0]

    assert [query.index for query in asked] == list(range(NEWTON.steps))
    assert {(query.kind, query.length, query.sensitivity) for query in asked} == {("newton", 1 + 8 + 36, 1.0)}
    assert asked[0].public == EXACT.query(SILENT, CAP).about(np.zeros(8).tobytes()).public
    assert len({query.public for query in asked[:4]}) == 4
    assert OnGrid(4, GRID).query(SILENT, CAP).public != OnGrid(4, (*GRID[:-1], 2000.0)).query(SILENT, CAP).public


def test_uploads_that_run_out_leave_the_best_so_far_and_a_replay_the_same_bits() -> None:
    kept: list[Float64] = []

    def three(query: Query, contribution: Callable[[], Float64]) -> Float64:
        if query.index >= 3:
            raise UploadsExhausted(query.kind)
        kept.append(contribution())
        return kept[-1]

    def run(secure_sum: SecureSum, data: SurvivalData) -> CoxFit:
        return fit(NEWTON, EXACT, 4, data, HORIZON, secure_sum, lambda t: EXACT.query(SILENT, CAP, t), noise=Noise.NONE)

    found = run(three, days(60))
    replayed = fit(
        Newton(3, 2.0), EXACT, 4, days(2), HORIZON, Replay(kept), lambda t: EXACT.query(SILENT, CAP, t),
        noise=Noise.NONE,
    )  # fmt: skip

    assert found.steps_done == 3
    assert replayed.beta.tobytes() == found.beta.tobytes()
    assert not np.any(fit(
        NEWTON, EXACT, 4, days(9), HORIZON, _never, lambda t: EXACT.query(SILENT, CAP, t), noise=Noise.NONE
    ).beta)  # fmt: skip


def _never(query: Query, contribution: object) -> Float64:
    raise UploadsExhausted(query.kind)


@pytest.mark.parametrize("noise", [Noise.DISTRIBUTED, Noise.LOCAL])
def test_a_study_with_noise_is_refused_before_any_sum(noise: Noise) -> None:
    with pytest.raises(NotPerPatient, match=r"learner \"cox\", lockstep.*or declare a study without"):
        fit(
            NEWTON, EXACT, 4, days(9), HORIZON, _untouched, lambda t: EXACT.query(1.0, CAP, t), noise=noise
        )  # fmt: skip
    assert issubclass(NotPerPatient, TypeError)


def _untouched(query: Query, contribution: object) -> Float64:
    raise AssertionError("a sum was asked for")


@pytest.mark.parametrize("likelihood", [EXACT, DISCRETE])
@pytest.mark.parametrize("neighbours", list(Neighbours))
def test_there_is_no_sensitivity(likelihood: PartialLikelihood, neighbours: Neighbours) -> None:
    with pytest.raises(NotPerPatient, match="piecewise-exponential"):
        likelihood.sensitivity(neighbours)


def test_one_patient_moves_the_slopes_of_many() -> None:
    """Why there is none: the same record, more neighbours, a larger change."""
    changes = []
    for n in (20, 80, 320):
        data = SurvivalData(np.zeros((n, 1)), np.ones((n, 1), bool), np.arange(1.0, n + 1), np.ones(n, bool))
        extra = SurvivalData(np.array([[10.0]]), np.ones((1, 1), bool), np.array([n + 1.0]), np.zeros(1, bool))
        beta = np.array([0.3, 0.0])
        changes.append(abs(local(beta, joined([data, extra])).slope[0] - local(beta, data).slope[0]))

    assert changes[0] < changes[1] < changes[2]
    assert changes[2] > 50


def test_the_model_has_breslows_baseline_and_the_coefficients() -> None:
    preset = linear(breslow_pseudo_events=0.0, breslow_bound=1000.0, grid=GRID)
    parts = cut(days(100), SIZES)
    fitted = federated(EXACT, parts)[0]
    models = Whole(3).run(
        lambda i, s: survival_model(fitted, FEATURES, preset, parts[i], s, lambda release: release.query(SILENT, CAP))
    )
    everybody = joined(parts).bounded(HORIZON)

    at_risk, deaths = exposures(everybody, GRID)
    risk = inputs(everybody.x, everybody.observed) @ fitted.beta
    breslow = deaths.sum(axis=0) / (at_risk * np.exp(risk)[:, None]).sum(axis=0)

    assert len({model.digest for model in models}) == 1
    assert models[0].network.learner == "cox"
    assert np.allclose(models[0].risk(everybody.x, everybody.observed), risk)
    assert np.allclose(models[0].hazard, breslow, rtol=1e-5)


def test_no_upload_for_the_baseline_leaves_the_public_guess() -> None:
    preset = linear()
    fitted = federated(EXACT, [days(60)])[0]

    model = survival_model(fitted, FEATURES, preset, days(60), _never, lambda release: release.query(SILENT, CAP))

    assert np.allclose(model.hazard, np.exp(preset.initial_log_hazard))
    assert fitted.trained(preset).params == model.params


def test_contradictions_are_refused() -> None:
    fitted = federated(EXACT, [days(20)])[0]
    with pytest.raises(MisuseError, match="hidden layers"):
        fitted.trained(replace(linear(), learner="deepsurv", hidden=(3,)))
    with pytest.raises(MisuseError, match="unit 1"):
        fit(NEWTON, EXACT, 4, days(9), HORIZON, _untouched, lambda t: DISCRETE.query(SILENT, CAP, t), noise=Noise.NONE)
    with pytest.raises(MisuseError, match="features"):
        fit(NEWTON, EXACT, 5, days(9), HORIZON, _untouched, lambda t: EXACT.query(SILENT, CAP, t), noise=Noise.NONE)
    with pytest.raises(MisuseError, match="coefficients"):
        local(np.zeros(3), days(4))
    with pytest.raises(MisuseError, match="sums"):
        EXACT.pieces(np.zeros(3))
    for steps, ridge in ((0, 1.0), (101, 1.0), (5, 0.0), (5, float("nan")), (5, float("inf"))):
        with pytest.raises(ConfigError):
            Newton(steps, ridge)


def test_the_constants_go_into_a_study_and_come_back() -> None:
    assert Newton.from_json(NEWTON.to_json()) == NEWTON
    assert NEWTON.digest() != Newton(12, 3.0).digest()
    for body in ({}, {"steps": 3}, {"steps": 3.0, "ridge": 1.0}, {"steps": 3, "ridge": 1.0, "more": 1}):
        with pytest.raises(ConfigError):
            Newton.from_json(body)
