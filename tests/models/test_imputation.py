"""Federated MICE: bounded sums, known structures found again, patients who do not touch each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.calibration import split_budget
from dp.events import Account
from dp.queries import Float64, Neighbours, Query
from models.data import Bool, SurvivalData
from models.errors import ConfigError, MisuseError
from models.gaussian import LEAST_VARIANCE, Covariate, JointNormal, cholesky, inverse
from models.imputation import Imputation, Marks, draws, fit, impute, schedule
from models.moments import Moments
from tests.dp.adversary import Case, judge
from tests.dp.subjects import subjects
from tests.models.support import Alone, Together

NUMBERS = tuple(Covariate(name, column, -4.0, 4.0) for column, name in enumerate(("hb", "plt", "anc", "wbc")))
HAS = Covariate("complex", 4, 0.0, 1.0, two_valued=True)
COVARIATES = (*NUMBERS, HAS)
STUDY = Imputation(COVARIATES, radius=4.0, multiplier=1.0, patient_cap=100_000, rounds=6)
CONVERGED = Imputation(COVARIATES, radius=8.0, multiplier=1e-3, patient_cap=100_000, rounds=20)
SECRET = bytes(range(32))
SLOPES = np.array([0.8, -0.5])  # of anc on hb and plt; what is left has a variance of 0.2


def complete(n: int, seed: int = 0) -> Float64:
    """hb and plt correlate by 0.3, anc is linear in both, wbc stands alone, complex is likelier where hb is high."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[:, 1] = 0.3 * x[:, 0] + math.sqrt(1 - 0.09) * x[:, 1]
    x[:, 2] = x[:, :2] @ SLOPES + math.sqrt(0.2) * x[:, 2]
    x[:, 4] = rng.random(n) < np.where(x[:, 0] > 0, 0.6, 0.2)
    return np.clip(x, -4.0, 4.0)


def table(x: Float64, observed: Bool) -> SurvivalData:
    return SurvivalData(x, observed, np.full(len(x), 100.0), np.arange(len(x)) % 2 == 0)


def with_gaps(n: int, seed: int = 0, share: float = 0.3) -> tuple[Float64, SurvivalData]:
    x = complete(n, seed)
    return x, table(x, np.random.default_rng(seed + 1000).random(x.shape) >= share)


def explained(x: Float64, data: SurvivalData, model: JointNormal, column: int) -> float:
    """R² of the imputed values of one covariate."""
    gaps = ~data.observed[:, column]
    error = impute(STUDY, model, data).x[gaps, column] - x[gaps, column]
    return float(1.0 - np.mean(error**2) / np.var(x[gaps, column]))


# ---------------------------------------------------------------- the release


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-10, 10)] * 2, st.booleans(), st.booleans()), max_size=4),
    st.lists(
        st.tuples(*[st.sampled_from((-10.0, 10.0, 0.0))] * 2, st.booleans(), st.booleans()), min_size=2, max_size=2
    ),
)
def test_one_extreme_patient_moves_the_vector_by_at_most_the_sensitivity(others: list[Any], two: list[Any]) -> None:
    chosen = [subject for subject in subjects() if isinstance(subject.release, Moments)]
    assert len(chosen) == 2

    def patient(row: tuple[float, float, bool, bool]) -> Any:
        return row[:2], row[2:], 100.0, True

    first, second = map(patient, two)
    for subject in chosen:
        assert max(judge(subject, Case(tuple(map(patient, others)), len(others) // 2, first, second))) <= 1.0


def test_the_rim_is_reached() -> None:
    release = Moments(JointNormal.start(NUMBERS[:2]), 1.0)
    a, b = np.array([4.0, 0.0]), 4.0 * np.array([-0.5, math.sqrt(0.75)])
    one, other = (release.contribution(table(row[None], np.ones((1, 2), bool))) for row in (a, b))

    assert np.linalg.norm(one) == pytest.approx(release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE), rel=1e-5)
    assert np.linalg.norm(one - other) == pytest.approx(release.sensitivity(Neighbours.REPLACE_ONE), rel=1e-5)


def test_what_is_missing_is_cut_with_its_variance() -> None:
    """Cut by the expected square, not by the square of the mean: the count of patients stays whole."""
    model = JointNormal(NUMBERS[:2], np.zeros(2), np.diag([1.0, 16.0]))

    one = Moments(model, 1.0).contribution(table(np.array([[1.0, 0.0]]), np.array([[True, False]])))

    assert one[0] == pytest.approx(1.0, abs=1e-5)
    assert one[1:3] == pytest.approx([1 / math.sqrt(17), 0.0], abs=1e-5)
    assert one[3:] == pytest.approx([1 / 17, 0.0, 16 / 17], abs=1e-5)


def test_the_vector_is_the_moments_of_a_complete_table() -> None:
    x = complete(50)
    release = Moments(JointNormal.start(COVARIATES), 100.0)

    total = release.contribution(table(x, np.ones_like(x, dtype=bool)))

    upper = np.triu_indices(5)
    weights = np.where(upper[0] == upper[1], 1.0, math.sqrt(2.0))
    assert total[0] == pytest.approx(50)
    assert total[1:6] * 100 == pytest.approx(x.sum(axis=0), abs=1e-4)
    assert total[6:] * 100**2 / weights == pytest.approx((x.T @ x)[upper], abs=1e-2)


def test_a_patient_of_whom_nothing_is_known_adds_the_model() -> None:
    model = fit(STUDY, with_gaps(2000)[1], Alone())
    nothing = table(np.zeros((1, 5)), np.zeros((1, 5), bool))
    release = Moments(model, 100.0)

    said = release.decode(np.concatenate([release.contribution(nothing)]) * 1000, 0.0).model

    assert said.mean == pytest.approx(model.mean, abs=1e-3)
    assert said.covariance[0] == pytest.approx(model.covariance[0], abs=1e-2)


def test_the_event_is_one_that_accountants_know() -> None:
    asked = schedule(STUDY)

    assert [query.index for query in asked] == list(range(6))
    assert {query.account for query in asked} == {Account.TRAINING}
    assert {query.event().kind for query in asked} == {"sum"}
    split_budget(1.0, 1e-5, {"sum": (1.0, len(asked))})
    assert asked[0].length == 1 + 5 + 15


def test_every_round_is_about_the_model_before_it() -> None:
    door = Alone()

    fit(STUDY, with_gaps(300)[1], door)

    assert len({query.public for query in door.asked}) == STUDY.rounds
    assert door.asked[0].digest() == schedule(STUDY)[0].digest()


# ---------------------------------------------------------------- what is learned


@pytest.mark.slow
def test_a_known_linear_structure_is_found_without_noise() -> None:
    x, data = with_gaps(20_000)
    model = fit(CONVERGED, data, Alone())

    slopes = model.covariance[2, :2] @ np.linalg.inv(model.covariance[:2, :2])
    assert slopes == pytest.approx(SLOPES, abs=0.03)
    assert np.diag(model.covariance)[:4] == pytest.approx(x.var(axis=0)[:4], rel=0.05)
    assert model.mean == pytest.approx(x.mean(axis=0), abs=0.03)
    assert explained(x, data, model, 2) > 0.48  # 0.76 where hb and plt are both there, which is half of the gaps
    assert abs(explained(x, data, model, 3)) < 0.02  # nothing to be found


@pytest.mark.slow
def test_missing_at_random_leaves_no_bias_that_complete_cases_have() -> None:
    """anc is missing where hb is high: its mean among those who have it is wrong by half a spread."""
    x = complete(20_000)
    observed = np.ones_like(x, dtype=bool)
    observed[:, 2] = np.random.default_rng(0).random(len(x)) < np.where(x[:, 0] > 0, 0.2, 0.9)
    model = fit(CONVERGED, table(x, observed), Alone())

    assert abs(x[observed[:, 2], 2].mean() - x[:, 2].mean()) > 0.25
    assert model.mean[2] == pytest.approx(x[:, 2].mean(), abs=0.03)


@pytest.mark.parametrize("n", [30, 300, 3000])
def test_noise_at_epsilon_one_is_graceful(n: int) -> None:
    x, data = with_gaps(n)
    z = split_budget(1.0, 1e-5, {"sum": (1.0, 2)})["sum"]
    study = Imputation(COVARIATES, 3.0, z, 100_000, rounds=2)

    model = fit(study, data, Alone(noise=1.0))

    variances = np.diag(model.covariance)
    assert np.linalg.eigvalsh(model.covariance).min() > 0
    assert all(c.low <= m <= c.high for c, m in zip(COVARIATES, model.mean, strict=True))
    assert (variances >= LEAST_VARIANCE * 0.99).all()
    if n == 30:
        assert model.digest == JointNormal.start(COVARIATES).digest  # drowned: the reference fill
        assert "not resolved" in str(Moments(model, 3.0).decode(np.zeros(21), z))
    if n == 3000:
        assert explained(x, data, model, 2) > 0.35


def test_wild_sums_still_make_a_model() -> None:
    release, rng = Moments(JointNormal.start(COVARIATES), 3.0), np.random.default_rng(0)
    for _ in range(50):
        total = rng.normal(size=release.length) * 10.0 ** rng.integers(0, 9)
        total[0] = 50.0
        said = release.decode(total, 5.0)
        assert np.linalg.eigvalsh(said.model.covariance).min() > 0
        assert np.isfinite(said.model.covariance).all()


def test_covariances_shrink_by_the_size_of_their_noise_and_variances_do_not() -> None:
    release = Moments(JointNormal.start(NUMBERS[:2]), 2.0)
    total = 1000 * np.array([1.0, 0.0, 0.0, 1 / 4, math.sqrt(2) * 0.5 / 4, 1 / 4])

    quiet, loud = release.decode(total, 0.0), release.decode(total, 50.0)

    assert quiet.model.covariance == pytest.approx(np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert loud.ridge == pytest.approx(2 * 50 * 4 / 1000)  # √(2p)·sd·R²/N
    assert loud.model.covariance == pytest.approx(np.array([[1.0, 0.5 / 1.4], [0.5 / 1.4, 1.0]]))


def test_the_federation_learns_what_the_pooled_table_says() -> None:
    _, data = with_gaps(900)
    parts = [data.rows(np.arange(900) % 3 == site) for site in range(3)]

    federated = Together(3).run(lambda i, door: fit(STUDY, parts[i], door))
    pooled = fit(STUDY, data, Alone())

    assert len({model.digest for model in federated}) == 1
    assert federated[0].covariance == pytest.approx(pooled.covariance, abs=1e-9)


def test_uploads_that_run_out_leave_the_model_so_far() -> None:
    def third(query: Query) -> bool:
        return query.index >= 2

    door = Alone(exhausted=third)

    model = fit(STUDY, with_gaps(500)[1], door)

    assert len(door.asked) == 2
    assert model.digest == fit(Imputation(COVARIATES, 4.0, 1.0, 100_000, rounds=2), with_gaps(500)[1], Alone()).digest


# ---------------------------------------------------------------- at one site


def test_filling_keeps_the_outcome_what_was_observed_and_the_state() -> None:
    _, data = with_gaps(200)
    model = fit(STUDY, data, Alone())

    done = impute(STUDY, model, data)

    assert np.array_equal(done.imputed, ~data.observed)
    assert np.array_equal(done.x[data.observed], data.x[data.observed])
    kept, seen = done.data(Marks.NOT_OBSERVED), done.data(Marks.OBSERVED)
    assert np.array_equal(kept.observed, data.observed)
    assert seen.observed.all()
    assert np.array_equal(kept.x, seen.x)
    for filled in (kept, seen):
        assert np.array_equal(filled.duration, data.duration)
        assert np.array_equal(filled.event, data.event)
    assert ((done.x[:, 4] >= 0) & (done.x[:, 4] <= 1)).all()


def test_the_outcome_changes_nothing() -> None:
    _, data = with_gaps(200)
    other = SurvivalData(data.x, data.observed, data.duration * 3, ~data.event)

    assert fit(STUDY, data, Alone()).digest == fit(STUDY, other, Alone()).digest


def test_what_a_site_never_measures_stays_missing_unless_the_study_says_so() -> None:
    x, data = with_gaps(400)
    observed = data.observed.copy()
    observed[:, 2] = False
    here, model = table(x, observed), fit(STUDY, data, Alone())
    allowed = Imputation(COVARIATES, 4.0, 1.0, 100_000, rounds=6, cross_site=("anc",))

    assert not impute(STUDY, model, here, absent={"anc"}).imputed[:, 2].any()
    assert impute(allowed, model, here, absent={"anc"}).imputed[:, 2].all()
    assert not draws(STUDY, model, here, pids(400), SECRET, m=1, absent={"anc"})[0].imputed[:, 2].any()


def pids(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def test_draws_are_deterministic_and_differ_from_each_other() -> None:
    _, data = with_gaps(100)
    model = fit(STUDY, data, Alone())

    once, again = (draws(STUDY, model, data, pids(100), SECRET) for _ in range(2))
    other = draws(STUDY, model, data, pids(100), bytes(32))

    assert len(once) == 5
    assert all(np.array_equal(a.x, b.x) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0].x, once[1].x)
    assert not np.array_equal(once[0].x, other[0].x)


def test_one_patient_more_changes_nobody_elses_completed_record() -> None:
    _, data = with_gaps(60)
    model, names, without = fit(STUDY, data, Alone()), pids(60), np.arange(60) != 17
    fewer = data.rows(without)

    more, less = impute(STUDY, model, data), impute(STUDY, model, fewer)
    drawn = draws(STUDY, model, data, names, SECRET, m=1)[0]
    redrawn = draws(STUDY, model, fewer, [p for p in names if p != "p17"], SECRET, m=1)[0]

    assert np.array_equal(more.x[without], less.x)
    assert np.array_equal(drawn.x[without], redrawn.x)


def test_draws_have_the_spread_that_means_lack() -> None:
    x, data = with_gaps(4000)
    model = fit(STUDY, data, Alone())
    gaps = ~data.observed

    drawn, filled = draws(STUDY, model, data, pids(4000), SECRET, m=1)[0], impute(STUDY, model, data)

    for column in (2, 3):
        rows = gaps[:, column]
        assert drawn.x[rows, column].std() == pytest.approx(x[rows, column].std(), rel=0.07)
        assert filled.x[rows, column].std() < 0.9 * x[rows, column].std()
    both = gaps[:, 2] & gaps[:, 0]  # drawn together, they correlate as they should
    together, truth = (np.asarray(np.corrcoef(t[:, 0], t[:, 2]))[0, 1] for t in (drawn.x[both], x))
    assert together == pytest.approx(truth, abs=0.1)
    assert set(np.unique(drawn.x[gaps[:, 4], 4])) == {0.0, 1.0}
    assert drawn.x[gaps[:, 4], 4].mean() == pytest.approx(x[:, 4].mean(), abs=0.05)


def test_a_broken_record_is_left_as_it_is() -> None:
    x = np.array([[math.inf, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    observed = np.array([[True, False, True, True, True]] * 2)

    done = impute(STUDY, JointNormal.start(COVARIATES), table(x, observed))

    assert done.imputed.sum(axis=1).tolist() == [0, 1]


# ---------------------------------------------------------------- refused


def _data() -> SurvivalData:
    return with_gaps(10)[1]


def _start() -> JointNormal:
    return JointNormal.start(COVARIATES)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Covariate("", 0, -1.0, 1.0),
        lambda: Covariate("hb", -1, -1.0, 1.0),
        lambda: Covariate("hb", 0, 1.0, 1.0),
        lambda: Covariate("hb", 0, -11.0, 1.0),
        lambda: Covariate("hb", 0, math.nan, 1.0),
        lambda: JointNormal.start(()),
        lambda: JointNormal.start((NUMBERS[0], NUMBERS[0])),
        lambda: JointNormal(NUMBERS[:2], np.zeros(3), np.eye(2)),
        lambda: JointNormal(NUMBERS[:2], np.zeros(2), np.ones((2, 2))),
        lambda: JointNormal(NUMBERS[:2], np.zeros(2), np.array([[1.0, 0.1], [0.2, 1.0]])),
        lambda: Moments(_start(), 0.0),
        lambda: Moments(_start(), math.nan),
        lambda: Moments(_start(), 1.0).contribution(table(np.zeros((1, 2)), np.ones((1, 2), bool))),
        lambda: impute(STUDY, JointNormal.start(NUMBERS), _data()),
        lambda: impute(STUDY, _start(), _data(), absent={"haemoglobin"}),
        lambda: impute(STUDY, _start(), _data(), absent="hb"),
        lambda: draws(STUDY, _start(), _data(), ["p"] * 10, SECRET),
        lambda: draws(STUDY, _start(), _data(), pids(9), SECRET),
        lambda: draws(STUDY, _start(), _data(), pids(10), b"short"),
        lambda: draws(STUDY, _start(), _data(), pids(10), SECRET, m=0),
    ],
)
def test_misuse_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(MisuseError):
        make()


@pytest.mark.parametrize("change", [{"rounds": 0}, {"noise_inflation": 0.5}, {"cross_site": ("albumin",)}])
def test_a_study_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Imputation(COVARIATES, 3.0, 1.0, 100, **change)


# ---------------------------------------------------------------- plain linear algebra


def test_inverse_and_factor_are_those_of_lapack() -> None:
    rng = np.random.default_rng(3)
    half = rng.normal(size=(7, 9))
    matrix = half @ half.T
    matrix = (matrix + matrix.T) / 2

    assert inverse(matrix) == pytest.approx(np.linalg.inv(matrix), rel=1e-9)
    assert cholesky(matrix) == pytest.approx(np.linalg.cholesky(matrix), rel=1e-9)
