"""What a study measures on hold-out patients, against measures that see all of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import calibration, evaluating, measures
from models.calibration_slope import slopes
from models.data import SurvivalData
from models.errors import ConfigError
from models.evaluating import WIDEST, evaluate
from models.evaluation import Evaluation
from models.likelihood import log_likelihoods
from models.metrics import auc_at, calibration_slope, integrated_brier_score, within_c
from models.networks import Hazards, parameter_count
from models.plan import schedule, survival_plan
from models.predict import SurvivalModel
from tests.models.support import FEATURES, Alone, Replay, Together, patients, small, spec
from tests.sweeps import examples

EVERY = {"gradient": 1.0, "breslow": 1.0} | dict.fromkeys(measures.KINDS, 2.0**-99)
PRESET = small(1)


def model(slope: float = 1.0, hazard: float = 0.73) -> SurvivalModel:
    """The truth of `support.patients` for a slope of 1: f = 0.8·x0 + 0.3·x2, 365.25/500 deaths a year."""
    weights = np.zeros(parameter_count(Hazards(()).layout(4, 6)))
    weights[6], weights[8] = 0.8 * slope, 0.3 * slope
    linear = SurvivalModel.as_trained(FEATURES, Hazards(()), PRESET.grid, weights.astype("<f8").tobytes())
    return linear.with_hazard(np.full(6, hazard))


def pooled(parts: list[SurvivalData]) -> SurvivalData:
    return SurvivalData(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "observed", "duration", "event"))
    )


def released(of: SurvivalModel, parts: list[SurvivalData], noise: float = 0.0) -> Evaluation:
    """Exact sums over the sites."""
    asked = spec(PRESET, **EVERY)

    def site(part: SurvivalData, secure_sum: object) -> Evaluation:
        return evaluate(
            of,
            PRESET,
            part.bounded(PRESET.horizon),
            lambda kind, index, contribution: secure_sum(asked.query(kind, index), contribution),  # type: ignore[operator]
            lambda _: noise,
        )

    found = Together(len(parts)).run(lambda i, secure_sum: site(parts[i], secure_sum))
    assert len({str(each.summary()) for each in found}) == 1
    return found[0]


@given(seed=st.integers(0, 10_000), sites=st.integers(1, 4))
@settings(max_examples=examples(40), deadline=None)
def test_without_noise_the_sums_of_the_sites_are_the_measures_of_all_patients(seed: int, sites: int) -> None:
    of, parts = model(), [patients(60, seed=seed + i) for i in range(sites)]
    everybody = pooled(parts).bounded(PRESET.horizon)

    said = released(of, parts)

    assert said.concordance is not None
    site = np.repeat(np.arange(sites), 60)
    assert said.concordance.estimate == pytest.approx(
        within_c(of.risk(everybody.x, everybody.observed), everybody, site)
    )
    for index, time in enumerate(PRESET.calibration_times):
        release = measures.auc_at(of, PRESET, index)
        risk = 1.0 - of.survival(everybody.x, everybody.observed, np.array([time]))[:, 0]
        binned = np.searchsorted(np.asarray(release.edges), risk, side="right").astype(float)
        score = said.scores[f"auc_{time:.0f}"]
        if score.resolved:
            assert score.value == pytest.approx(auc_at(binned, everybody, time))
            # Risks of one bin are ties: what they would say lies between all of them wrong and all of them right.
            died = 0.5 * (everybody.event & (everybody.duration <= time))
            worst, best = (auc_at(binned + sign * died, everybody, time) for sign in (-1.0, 1.0))
            assert worst - 1e-9 <= auc_at(risk, everybody, time) <= best + 1e-9
            assert worst - 1e-9 <= score.value <= best + 1e-9
    likelihood = np.clip(log_likelihoods(of, everybody), -1.3 - 3.0, -1.3 + 3.0)
    if said.scores["log_likelihood"].resolved:
        assert said.scores["log_likelihood"].value == pytest.approx(float(np.mean(likelihood)), abs=1e-6)


def test_without_noise_the_brier_score_is_grafs_and_the_slope_that_of_the_model() -> None:
    parts = [patients(700, seed=seed) for seed in range(3)]
    everybody = pooled(parts).bounded(PRESET.horizon)
    times = np.asarray(measures.censoring(PRESET).grid[1:])
    for slope in (0.6, 1.0, 1.5):
        of = model(slope)

        said = released(of, parts)

        alive = of.survival(everybody.x, everybody.observed, times)
        exact = integrated_brier_score(alive, everybody, times)
        assert said.scores["integrated_brier"].value == pytest.approx(exact, abs=0.005)
        expected = of.cumulative_hazard(everybody.duration) * np.exp(of.risk(everybody.x, everybody.observed))
        whole = calibration_slope(of.risk(everybody.x, everybody.observed), expected, everybody)
        for time in PRESET.calibration_times:
            found = said.scores[f"calibration_slope_{time:.0f}"]
            assert found.value == pytest.approx(whole, rel=0.15)
            assert found.low < 1 / slope < found.high


def test_what_the_noise_drowns_is_called_not_resolved() -> None:
    said = released(model(), [patients(60), patients(60, seed=1)], noise=40.0)

    assert math.isnan(said.concordance.estimate)  # type: ignore[union-attr]
    assert {name for name, score in said.scores.items() if score.resolved} == set()
    assert set(said.scores) == {
        "auc_365", "auc_730", "integrated_brier", "under_observation_730", "log_likelihood",
        "calibration_slope_365", "calibration_slope_730",
    }  # fmt: skip


def test_an_interval_that_says_nothing_is_called_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [patients(400), patients(400, seed=1)]
    said = released(model(), parts, noise=2.0).scores
    assert all(score.resolved for score in said.values())
    assert all((said[f"auc_{day}"].high - said[f"auc_{day}"].low) / 2 <= WIDEST["auc"] for day in (365, 730))

    monkeypatch.setattr(evaluating, "WIDEST", dict.fromkeys(WIDEST, 0.0))
    wide = released(model(), parts, noise=2.0).scores

    assert {name for name, score in wide.items() if score.resolved} == {"under_observation_730"}
    assert (wide["auc_365"].low, wide["auc_365"].high) == (0.0, 1.0)
    assert (wide["integrated_brier"].low, wide["integrated_brier"].high) == (0.0, measures.BRIER_CAP)
    assert wide["log_likelihood"].low == -math.inf


def test_a_brier_score_needs_its_censoring_curve() -> None:
    """Few of many are followed up to the last time: the curve ends before it, and the score says nothing."""
    short = patients(200)
    short = SurvivalData(
        short.x, short.observed, np.minimum(short.duration, 300.0), short.event & (short.duration < 300)
    )

    said = released(model(), [short])

    assert not said.scores["under_observation_730"].resolved
    assert not said.scores["integrated_brier"].resolved


def test_a_slope_needs_two_bins_and_different_risks() -> None:
    constant = model(0.0)
    data = patients(400).bounded(PRESET.horizon)
    cells = calibration.rows(constant, PRESET, data).sum(axis=0)

    found = slopes(calibration.decode(constant, PRESET, cells, 0.0))

    assert [(score.resolved, score.low, score.high) for score in found.values()] == [(False, -math.inf, math.inf)] * 2


def test_slopes_hold_the_truth_in_their_intervals() -> None:
    rng, inside, of = np.random.default_rng(5), [], model()
    for seed in range(30):
        data = patients(1500, seed=seed).bounded(PRESET.horizon)
        cells = calibration.rows(of, PRESET, data).sum(axis=0)
        found = slopes(calibration.decode(of, PRESET, cells + 4.0 * rng.normal(size=cells.shape), 4.0))
        inside += [score.low <= 1.0 <= score.high for score in found.values() if score.resolved]

    assert len(inside) == 60
    assert np.mean(inside) >= 0.93


def test_a_study_asks_what_it_prices_and_a_returning_site_reads_the_same() -> None:
    study = spec(PRESET, **EVERY)
    door = Alone(noise=1.0)
    seen = survival_plan(study, patients(50), patients(80), door)

    assert [(q.kind, q.index) for q in door.asked] == [(q.kind, q.index) for q in schedule(study)]
    assert [q.kind for q in door.asked][2:] == [
        "concordance", "calibration", "survival-holdout", "brier", "auc", "auc", "likelihood",
    ]  # fmt: skip
    back = survival_plan(study, patients(2, seed=8), patients(2, seed=9), Replay(door.sums))
    assert back.evaluation == seen.evaluation


def test_a_lost_upload_costs_its_own_score_alone() -> None:
    study = spec(PRESET, **EVERY)
    door = Alone(exhausted=lambda q: q.kind == "survival-holdout" or (q.kind, q.index) == ("auc", 1))

    outcome = survival_plan(study, patients(50), patients(80), door)

    scores = outcome.evaluation.scores
    assert "auc_365" in scores
    assert "auc_730" not in scores
    assert not scores["integrated_brier"].resolved, "no weights"
    assert [q.kind for q in door.asked][-3:] == ["brier", "auc", "likelihood"], "the order never depends on a sum"


def test_shapes_known_before_training_are_those_of_the_releases() -> None:
    of, curve = model(), measures.censoring(PRESET).decode(np.full(11, 20.0), 0.0).censoring
    for kind, release in (
        ("survival-holdout", measures.censoring(PRESET)),
        ("brier", measures.brier_score(of, PRESET, curve)),
        ("auc", measures.auc_at(of, PRESET, 0)),
        ("likelihood", measures.log_likelihood(of, PRESET)),
    ):
        query, shape = release.query(1.0, 100), measures.shape(kind, PRESET)
        assert (query.kind, query.length, query.sensitivity) == (kind, shape.length, shape.sensitivity)


def test_bins_of_risk_lie_about_the_released_baseline() -> None:
    edges = measures.auc_at(model(), PRESET, 0).edges

    assert len(edges) == 9
    assert edges[4] == pytest.approx(1 - math.exp(-0.73))
    assert edges[0] == pytest.approx(1 - math.exp(-0.73 * math.exp(-1.6)))


@pytest.mark.parametrize("hazard", [0.0, 1e6])
def test_bins_of_an_extreme_baseline_are_bins_of_risk(hazard: float) -> None:
    assert measures.auc_at(model(hazard=hazard), PRESET, 0).edges == tuple(i / 10 for i in range(1, 10))


def test_any_public_constant_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {kind: spec(PRESET, **EVERY).query(kind).digest() for kind in measures.KINDS}
    monkeypatch.setattr(measures, "BRIER_CAP", 3.0)
    monkeypatch.setattr(measures, "AUC_STEPS", (-1.0, 0.0, 1.0))
    monkeypatch.setattr(measures, "LIKELIHOOD_BOUND", 4.0)
    after = {kind: spec(PRESET, **EVERY).query(kind).digest() for kind in measures.KINDS}

    assert {kind for kind in before if before[kind] != after[kind]} == {"brier", "auc", "likelihood"}
    moved = replace(PRESET, calibration_times=(300.0, 700.0))
    assert spec(moved, **EVERY).query("survival-holdout").digest() != before["survival-holdout"]


@pytest.mark.parametrize(
    ("names", "word"), [((), "measures something"), (("auroc",), "'auroc'"), (("auc", "auc"), "twice")]
)
def test_a_choice_that_cannot_be_is_named(names: tuple[str, ...], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        measures.checked(names)
