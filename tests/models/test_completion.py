"""One way to complete a record: the same bits wherever a model is asked about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dp.queries import Account, Float64, Query
from models.completion import Completion
from models.data import SurvivalData, joined
from models.errors import ConfigError, MisuseError
from models.gaussian import Covariate, JointNormal
from models.imputation import Imputation, fit, impute
from models.plan import Progress, Spec, schedule, survival_plan
from models.predict import SurvivalModel
from models.training import initial_weights
from tests.models.support import FEATURES, Alone, Replay, Together, patients, small, spec

COVARIATES = (
    Covariate("age", 0, -3.0, 3.0),
    Covariate("sex", 1, -1.0, 1.0, two_valued=True),
    Covariate("wbc", 2, -2.5, 2.5),
)
CORRELATED = JointNormal(COVARIATES, np.array([0.2, -0.1, 0.4]), np.array([[1, 0.2, 0.6], [0.2, 0.9, 0], [0.6, 0, 1]]))
WHOLE = Completion(CORRELATED)
BUT_WBC = Completion(CORRELATED, ("wbc",))


def imputing(rounds: int = 2, **changes: Any) -> Spec:
    study = Imputation(COVARIATES, radius=2.0, multiplier=1.0, patient_cap=1000, rounds=rounds, noise_inflation=1.1)
    plain = spec(small(2))
    return replace(plain, multipliers={**plain.multipliers, "sum": 1.0}, imputation=replace(study, **changes))


def with_gaps(n: int, seed: int = 0) -> SurvivalData:
    """wbc goes with age, so that there is something to be found."""
    data = patients(n, seed=seed, missing=0.3)
    x = np.array(data.x)
    x[:, 2] = np.clip(0.9 * x[:, 0] + 0.3 * x[:, 2], -3, 3)
    return SurvivalData(x, data.observed, data.duration, data.event)


def predicting(filling: Completion | None, hidden: tuple[int, ...] = (3,)) -> SurvivalModel:
    chosen = small(hidden=hidden)
    weights = np.frombuffer(initial_weights(chosen, 4, b"s"), "<f8")
    weights = np.random.default_rng(0).normal(size=weights.size) * 0.3
    return SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, weights.astype("<f8").tobytes(), filling)


# ---------------------------------------------------------------- completing


@pytest.mark.parametrize("filling", [WHOLE, BUT_WBC])
def test_a_model_predicts_of_a_record_with_gaps_what_it_predicts_of_its_completion(filling: Completion) -> None:
    model, plain, data = predicting(filling), predicting(None), with_gaps(60)
    done, times = filling.of(data), np.array([100.0, 900.0])

    for ask in (
        lambda m, d: m.risk(d.x, d.observed),
        lambda m, d: m.hazards(d.x, d.observed),
        lambda m, d: m.survival(d.x, d.observed, times),
    ):
        assert np.array_equal(ask(model, data), ask(model, done))
        assert np.array_equal(ask(model, data), ask(plain, done))
        assert not np.array_equal(ask(model, data), ask(plain, data))


def test_what_is_filled_is_the_conditional_mean_and_nothing_else_moves() -> None:
    data = with_gaps(200)
    done, rest = WHOLE.of(data), BUT_WBC.of(data)
    alone = data.observed[:, 0] & data.observed[:, 1] & ~data.observed[:, 2]
    # Cov(wbc, (age, sex)) Var((age, sex))⁻¹ of the released model
    slopes = np.linalg.solve(CORRELATED.covariance[:2, :2], CORRELATED.covariance[:2, 2])
    wanted = 0.4 + (np.clip(data.x[alone, :2], -3, 3) * 1.0 - CORRELATED.mean[:2]) @ slopes
    inside = np.abs(data.x[alone, 1]) <= 1  # others count at the bounds of their property

    assert done.x[alone, 2][inside] == pytest.approx(np.clip(wanted, -2.5, 2.5)[inside])
    assert np.array_equal(done.x[data.observed], data.x[data.observed])
    assert done.observed[:, :3].all()
    assert np.array_equal(done.observed[:, 3], data.observed[:, 3])  # no covariate
    assert np.array_equal(rest.observed[:, 2], data.observed[:, 2])  # kept
    assert np.array_equal(rest.x[:, :2], done.x[:, :2])  # but others are still filled from it
    assert np.array_equal(done.event, data.event)
    again = WHOLE.of(done)
    assert np.array_equal(again.x, done.x)


def test_what_is_filled_stays_inside_its_bounds_and_a_broken_record_as_it_is() -> None:
    tight = (*COVARIATES[:2], replace(COVARIATES[2], low=-0.5, high=0.5))
    filling = Completion(JointNormal(tight, CORRELATED.mean, CORRELATED.covariance))
    x, seen = np.array([[3.0, 0, 9, 9], [np.nan, 0, 9, 9]]), np.array([[True, True, False, False]] * 2)

    done, observed = filling.complete(x, seen)

    assert done[0].tolist() == [3.0, 0.0, 0.5, 9.0]
    assert np.array_equal(done[1], x[1], equal_nan=True)
    assert observed.sum(axis=1).tolist() == [3, 2]


def test_a_completed_record_is_a_function_of_that_patient() -> None:
    data = with_gaps(50)
    done = WHOLE.of(data)

    for row in range(50):
        one = WHOLE.of(data.rows(np.array([row])))
        assert np.array_equal(one.x[0], done.x[row])
    assert len(WHOLE.of(data.rows(np.zeros(50, dtype=bool)))) == 0


def test_the_study_decides_what_is_never_filled() -> None:
    study, data = imputing().imputation, with_gaps(30)
    assert study is not None
    never = replace(study, never_measured=("wbc", "age"))
    across = replace(never, cross_site=("wbc",))

    assert study.completion(CORRELATED).kept == ()
    assert never.completion(CORRELATED).kept == ("age", "wbc")
    assert across.completion(CORRELATED).kept == ("age",)
    assert study.completion(CORRELATED, {"sex"}).kept == ("sex",)
    assert np.array_equal(impute(across, CORRELATED, data).x, Completion(CORRELATED, ("age",)).of(data).x)
    assert (
        len({each.digest for each in (study, never, across, replace(study, radius=3.0), replace(study, rounds=9))}) == 5
    )


def test_what_fills_is_in_the_models_digest() -> None:
    other = JointNormal(COVARIATES, np.array([0.2, -0.1, 0.5]), CORRELATED.covariance)
    bounds = (replace(COVARIATES[0], high=2.0), *COVARIATES[1:])
    wider = JointNormal(bounds, CORRELATED.mean, CORRELATED.covariance)
    ways = [None, WHOLE, BUT_WBC, Completion(other), Completion(wider)]

    digests = [predicting(filling).digest for filling in ways]

    assert len(set(digests)) == len(ways)
    plain = predicting(None)
    grid = [float(edge).hex() for edge in plain.grid]
    form = json.dumps(["deepsurv", plain.network.to_json(), list(plain.features), grid], separators=(",", ":"))
    # Without imputation nothing stands for it.
    assert digests[0] == hashlib.sha256(form.encode() + plain.params + plain.hazard.tobytes()).hexdigest()


def test_recalibration_keeps_it() -> None:
    model = predicting(WHOLE)

    assert model.with_hazard(model.hazard * 2).imputation is WHOLE


def test_what_is_not_where_it_says_is_refused() -> None:
    moved = replace(COVARIATES[0], column=3)
    with pytest.raises(MisuseError, match="among the features"):
        predicting(Completion(JointNormal.start((moved,))))
    with pytest.raises(ConfigError, match="among the features"):
        imputing(covariates=(moved,))
    with pytest.raises(MisuseError, match="each once"):
        Completion(CORRELATED, ("wbc", "wbc"))
    with pytest.raises(MisuseError, match="each once"):
        Completion(CORRELATED, ("tpi",))
    with pytest.raises(ConfigError, match="never_measured"):
        imputing(never_measured=("tpi",))


def test_written_and_read_again() -> None:
    body = json.loads(json.dumps(BUT_WBC.to_json()))

    assert Completion.from_json(body, CORRELATED.mean, CORRELATED.covariance).digest == BUT_WBC.digest
    first = body["covariates"][0]
    for change in (
        None, [], {}, body | {"more": 1}, body | {"kept": "wbc"}, body | {"kept": [["wbc"]]}, body | {"covariates": {}},
        body | {"covariates": [3]}, body | {"covariates": []}, body | {"covariates": body["covariates"][:2]},
        *[body | {"covariates": [first | wrong, *body["covariates"][1:]]} for wrong in (
            {"more": 1}, {"name": 3}, {"column": True}, {"column": 0.0}, {"column": -1}, {"low": 10**400},
            {"low": float("nan")}, {"high": float("inf")}, {"two_valued": 1}, {"name": "sex"},
        )],
    ):  # fmt: skip
        with pytest.raises(MisuseError):
            Completion.from_json(change, CORRELATED.mean, CORRELATED.covariance)
    steep = np.eye(3)
    steep[0, 0], steep[0, 1], steep[1, 0] = 1e-300, 1e300, 1e300
    for covariance in (-np.eye(3), steep, np.eye(2)):
        with pytest.raises(MisuseError):
            Completion.from_json(body, CORRELATED.mean, covariance)


# ---------------------------------------------------------------- in the plan of a study


def test_imputation_comes_first_and_every_later_query_is_about_it() -> None:
    study = imputing()
    doors = [Alone(noise=0.2), Alone(noise=0.2)]
    for door, seed in zip(doors, (1, 2), strict=True):
        survival_plan(study, with_gaps(200, seed), with_gaps(40, seed + 5), door)

    kinds = [query.kind for query in schedule(study)]
    assert kinds == ["sum"] * 2 + ["gradient"] * 2 + ["breslow", "concordance", "calibration"]
    assert [query.kind for query in doors[0].asked] == kinds
    assert all(query.account is Account.TRAINING for query in schedule(study)[:5])
    first, second = ([query.digest() for query in door.asked] for door in doors)
    assert first[0] == second[0] == schedule(study)[0].digest()
    # From other sums other models: nobody with another imputation model completes a sum with us.
    assert not set(first[1:]) & set(second[1:])
    plain = replace(study, imputation=None)
    assert {q.digest() for q in schedule(study)[2:]}.isdisjoint(q.digest() for q in schedule(plain))


def test_sites_end_with_one_model_that_completes() -> None:
    study, progress = imputing(), list[Progress]()
    outcomes = Together(3).run(
        lambda i, door: survival_plan(study, with_gaps(60 + i, i), with_gaps(15, 10 + i), door, progress.append)
    )

    assert len({o.model.digest for o in outcomes}) == 1
    assert len({str(o.evaluation.summary()) for o in outcomes}) == 1
    assert all(o.imputed == 2 for o in outcomes)
    filling = outcomes[0].model.imputation
    assert filling is not None
    assert filling.normal.covariance[0, 2] > 0.3  # what 180 patients say of age and wbc
    rounds = [each for each in progress if each.stage == "sum"]
    assert {(each.done, each.of) for each in rounds} == {(1, 2), (2, 2)}
    assert len({each.digest for each in rounds}) == 2


def test_everything_after_it_reads_completed_records() -> None:
    study, train, holdout = imputing(), with_gaps(80), with_gaps(40, 3)
    door, after = Alone(), Alone()
    outcome = survival_plan(study, train, holdout, door)
    filling = outcome.model.imputation
    assert filling is not None
    plain = replace(study, imputation=None)
    bound = study.preset.horizon

    # The same sums as of a study of patients who came without gaps.
    survival_plan(plain, filling.of(train.bounded(bound)), filling.of(holdout.bounded(bound)), after)

    assert all(np.array_equal(a, b) for a, b in zip(door.sums[2:], after.sums, strict=True))


def test_a_returning_site_computes_nothing() -> None:
    study, door = imputing(), Alone(noise=0.2)
    seen = survival_plan(study, with_gaps(200), with_gaps(40), door)

    back = survival_plan(study, with_gaps(2, 8), with_gaps(0, 9), Replay(door.sums))

    assert back.model.digest == seen.model.digest
    assert back.evaluation == seen.evaluation
    assert back.imputed == 2


class Drowned(Alone):
    """Its imputation sums are of nobody."""

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        return super().__call__(query, (lambda: np.zeros(query.length)) if query.kind == "sum" else contribution)


@pytest.mark.parametrize(
    ("door", "imputed"),
    [
        (lambda: Alone(exhausted=lambda query: query.kind == "sum"), 0),
        (Drowned, 2),
    ],
    ids=["no uploads left", "drowned"],
)
def test_where_nothing_was_learned_it_is_the_reference_fill(door: Callable[[], Any], imputed: int) -> None:
    study, train, holdout, plain = imputing(), with_gaps(80), with_gaps(40, 3), Alone()
    asked = door()
    outcome = survival_plan(study, train, holdout, asked)
    without = survival_plan(replace(study, imputation=None), train, holdout, plain)

    assert outcome.model.imputation is None
    assert outcome.imputed == imputed
    assert outcome.model.digest == without.model.digest
    assert all(np.array_equal(a, b) for a, b in zip(asked.sums[imputed:], plain.sums, strict=True))


def test_a_round_that_is_lost_leaves_the_model_of_the_others() -> None:
    study = imputing(rounds=3)
    outcome = survival_plan(
        study, with_gaps(80), with_gaps(40, 3), Alone(exhausted=lambda q: (q.kind, q.index) == ("sum", 2))
    )

    assert outcome.imputed == 2
    assert outcome.model.imputation is not None
    two = study.imputation
    assert two is not None
    assert outcome.model.imputation.normal.digest == fit(replace(two, rounds=2), with_gaps(80), Alone()).digest


class Given:
    """Releases what another run released, whatever this one contributes."""

    def __init__(self, sums: list[Float64]) -> None:
        self._sums = iter(sums)
        self.own: list[tuple[Query, Float64]] = []

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        self.own.append((query, contribution()))
        return next(self._sums)


EXTREMES = {
    "only gaps": (0.0, False, 1.0, True),
    "highest": (3.0, True, 5000.0, False),
    "beyond": (-9.0, True, 1.0, True),
    "broken": (float("nan"), True, 1.0, True),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_one_patient_moves_every_sum_by_no_more_than_its_sensitivity(name: str) -> None:
    value, seen, duration, died = EXTREMES[name]
    study, train, holdout, door = imputing(), with_gaps(30), with_gaps(20, 3), Alone()
    survival_plan(study, with_gaps(200, 5), with_gaps(40, 6), door)
    one = SurvivalData(np.full((1, 4), value), np.full((1, 4), seen), np.array([duration]), np.array([died]))
    fewer, more, other = (Given(door.sums) for _ in range(3))

    survival_plan(study, train, holdout, fewer)
    survival_plan(study, joined([train, one]), holdout, more)
    survival_plan(study, train, joined([holdout, one]), other)

    for (query, vector), (_, trained), (_, held) in zip(fewer.own, more.own, other.own, strict=True):
        moved = trained if query.account is Account.TRAINING else held
        unmoved = held if query.account is Account.TRAINING else trained
        assert np.linalg.norm(moved - vector) <= query.sensitivity * (1 + 1e-9), query.kind
        assert np.array_equal(unmoved, vector), query.kind
