import pickle
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from audits import membership, report
from audits.errors import MisuseError
from audits.membership import attack, half_masks, lira
from audits.sensitivity import joined
from audits.shadows import train_shadows
from tests.audits.cohorts import OVERFIT, RECIPE, Truth, patients, trained

N = 100
NAMES = [f"pseudonym-{i}" for i in range(N)]


@pytest.fixture(scope="module")
def sides() -> Any:
    rows = patients(2 * N, 5)
    return rows.rows(np.arange(N)), rows.rows(np.arange(N, 2 * N))


@pytest.fixture(scope="module")
def leaky(sides: Any) -> Any:
    return attack(trained(sides[0]), *sides, NAMES, OVERFIT, seed=3)


def test_scores_equal_the_definition_record_by_record() -> None:
    rng = np.random.default_rng(1)
    shadows, target, masks = rng.normal(size=(8, 20)), rng.normal(size=20), half_masks(8, 20, rng)
    for i, score in enumerate(lira(target, shadows, masks)):  # Carlini et al. 2022, algorithm 1
        inside, outside = shadows[masks[:, i], i], shadows[~masks[:, i], i]
        wanted = stats.norm.logpdf(target[i], inside.mean(), inside.std()) - stats.norm.logpdf(
            target[i], outside.mean(), outside.std()
        )
        assert score == pytest.approx(wanted, abs=1e-5)


def test_every_record_is_in_half_of_the_shadows() -> None:
    masks = half_masks(32, 50, np.random.default_rng(0))
    assert (masks.sum(axis=0) == 16).all()
    assert len({tuple(column) for column in masks.T.tolist()}) == 50
    for bad in (3, 5, 2):
        with pytest.raises(MisuseError):
            half_masks(bad, 5, np.random.default_rng(0))


@pytest.mark.slow
def test_an_overfitted_model_is_found_and_one_that_saw_nobody_is_not(sides: Any, leaky: Any) -> None:
    assert leaky.shadows == 32
    for result in leaky.results[1:]:
        assert result.auc.low > 0.65, result.name
    assert leaky.results[1].auc.estimate > leaky.results[0].auc.estimate + 0.05  # shadows beat a threshold
    clean = attack(Truth(), *sides, NAMES, OVERFIT, seed=3)
    for result in clean.results:
        assert result.auc.low < 0.55, result.name
    assert leaky.blind == clean.blind  # which never looks at the model
    assert leaky.blind.low < 0.5 < leaky.blind.high


@pytest.mark.slow
def test_what_cannot_be_resolved_says_so(leaky: Any) -> None:
    ten, one = leaky.results[-1].points
    assert ten.resolvable
    assert one.note == "not resolvable with n = 100 non-members; at least 1000 are needed"


def test_worst_records_are_own_members_in_order(leaky: Any) -> None:
    scores = [record.score for record in leaky.worst]
    assert scores == sorted(scores, reverse=True)
    assert {record.pseudonym for record in leaky.worst} <= set(NAMES)
    assert len(leaky.worst) == 10


def test_local_evidence_cannot_be_written_down(leaky: Any) -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(leaky)
    with pytest.raises(TypeError):
        msgspec.to_builtins(leaky)
    with pytest.raises(MisuseError):
        pickle.dumps(leaky)
    assert "pseudonym" not in repr(leaky)


def test_what_the_report_shows_of_it_names_no_patient(leaky: Any) -> None:
    shown = report.local_findings(leaky)
    assert shown.worst_records == 10
    assert "pseudonym-" not in repr(shown)


def test_one_patient_moves_other_patients_scores(sides: Any) -> None:
    """Why local evidence stays: shadows of the site's own patients couple them."""
    members, _ = sides
    rng = np.random.default_rng(0)
    masks = half_masks(8, N + 1, rng)
    target = np.zeros(N)
    more = joined(members, patients(1, 99))
    before = train_shadows(RECIPE, members, masks[:, :N], seed=1).signals(members).log_likelihood
    after = train_shadows(RECIPE, more, masks, seed=1).signals(members).log_likelihood
    moved = lira(target, before, masks[:, :N]) - lira(target, after, masks[:, :N])
    assert (np.abs(moved) > 1e-3).sum() > N / 2


def test_a_different_holdout_is_called_an_unfair_comparison(sides: Any) -> None:
    members, holdout = sides
    older = type(holdout)(holdout.x + 1.5, holdout.observed, holdout.duration, holdout.event)
    found = attack(Truth(), members, older, NAMES, RECIPE, seed=3, shadows=4)
    assert found.blind.low > 0.6
    assert any("fair comparison" in note for note in found.notes)


def test_a_tiny_holdout_is_named(sides: Any) -> None:
    members, holdout = sides
    found = attack(Truth(), members, holdout.rows(np.arange(5)), NAMES, RECIPE, seed=3, shadows=4)
    assert any("Only 5 hold-out patients" in note for note in found.notes)


def test_blocks_and_executors_change_nothing_but_last_bits(sides: Any) -> None:
    members, _ = sides
    masks = half_masks(8, N, np.random.default_rng(0))
    calls = []

    class Counting:
        def map(self, fn: Any, blocks: Any) -> Any:
            for block in blocks:
                calls.append(block.masks.shape[0])
                yield fn(block)

    whole = train_shadows(RECIPE, members, masks, seed=4)
    parts = train_shadows(RECIPE, members, masks, seed=4, executor=Counting(), block_size=3)
    assert calls == [3, 3, 2]
    assert whole.signals(members).log_likelihood == pytest.approx(parts.signals(members).log_likelihood, abs=1e-9)


def test_bad_calls_are_refused(sides: Any) -> None:
    members, holdout = sides
    with pytest.raises(MisuseError):
        attack(Truth(), members, holdout, NAMES[:-1], RECIPE, seed=1)
    with pytest.raises(MisuseError):
        attack(Truth(), members, holdout.rows(np.arange(0)), NAMES, RECIPE, seed=1)
    with pytest.raises(MisuseError):
        membership.lira(np.zeros(3), np.zeros((4, 3)), np.ones((4, 3), dtype=bool))
