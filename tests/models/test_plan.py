from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dp.queries import Account
from models.concordance import SENSITIVITY, pair_sums
from models.errors import ConfigError
from models.plan import Progress, schedule, survival_plan
from models.presets import preset
from tests.models.support import Alone, Replay, Together, patients, small, spec


def test_the_order_is_a_function_of_the_study_alone() -> None:
    study = spec(small(3))
    doors = [Alone(noise=1.0), Alone(noise=1.0)]
    for door, seed in zip(doors, (1, 2), strict=True):
        survival_plan(study, patients(30, seed=seed), patients(10, seed=seed + 5), door)

    # Behind the public bytes of the plan each query carries the digest of the model that it is asked about.
    plain = [[replace(query, public=query.public[:-32]) for query in door.asked] for door in doors]
    assert plain[0] == plain[1] == list(schedule(study))
    digests = [[query.public[-32:] for query in door.asked] for door in doors]
    assert digests[0][0] == digests[1][0], "all sites start from the study's weights"
    assert all(a != b for a, b in zip(*(each[1:] for each in digests), strict=True)), "other sums, other models"
    kinds = [q.kind for q in schedule(study)]
    assert kinds == ["gradient"] * 3 + ["breslow", "concordance", "calibration"]
    accounts = [q.account for q in schedule(study)]
    assert accounts == [Account.TRAINING] * 4 + [Account.HOLDOUT] * 2
    assert len({q.digest() for q in schedule(study)}) == 6


def test_any_public_constant_changes_every_digest() -> None:
    chosen = small(1)
    digests = {
        spec(p).query("gradient").digest()
        for p in (
            chosen,
            replace(chosen, learning_rate=0.01),
            replace(chosen, risk_edges=(0.5,)),
            chosen.sized(7),
        )
    }

    assert len(digests) == 4


def test_sites_end_with_one_model_and_one_evaluation() -> None:
    study = spec(small(3))
    outcomes = Together(3).run(
        lambda i, secure_sum: survival_plan(study, patients(20 + i, seed=i), patients(15, seed=10 + i), secure_sum)
    )

    assert len({o.model.digest for o in outcomes}) == 1
    assert len({str(o.evaluation.summary()) for o in outcomes}) == 1
    assert all(o.recalibrated for o in outcomes)


def test_a_later_stage_without_uploads_is_not_released() -> None:
    study = spec(small(2))
    door = Alone(exhausted=lambda q: q.kind in {"breslow", "concordance"})
    progress: list[Progress] = []

    outcome = survival_plan(study, patients(40), patients(20), door, progress.append)

    assert outcome.trained.steps_done == 2
    assert not outcome.recalibrated
    assert outcome.evaluation.concordance is None
    assert outcome.evaluation.calibration is not None
    assert outcome.evaluation.summary()["concordance"] is None
    assert [(p.stage, p.done, p.of) for p in progress] == [
        ("gradient", 1, 2),
        ("gradient", 2, 2),
        ("calibration", 1, 1),
    ]


def test_what_the_study_does_not_price_is_not_asked() -> None:
    study = spec(small(2), gradient=1.0, concordance=1.0)
    door = Alone()

    outcome = survival_plan(study, patients(40), patients(20), door)

    assert [q.kind for q in door.asked] == ["gradient", "gradient", "concordance"]
    assert outcome.evaluation.calibration is None
    with pytest.raises(ConfigError, match="breslow"):
        study.query("breslow")


def test_a_returning_site_reaches_the_same_outcome_without_computing_anything() -> None:
    study = spec(small(3))
    door = Alone(noise=1.0)
    seen = survival_plan(study, patients(50), patients(20), door)

    back = survival_plan(study, patients(2, seed=8), patients(2, seed=9), Replay(door.sums))

    assert back.model.digest == seen.model.digest
    assert back.evaluation == seen.evaluation


def test_empty_sites_take_part() -> None:
    outcome = survival_plan(spec(small(1)), patients(0), patients(0), Alone())

    assert outcome.trained.steps_done == 1
    assert "not resolved" in str(outcome.evaluation.concordance)


def test_each_account_pays_for_its_own_patients() -> None:
    """Training and recalibration read the training patients alone, evaluation the hold-out alone."""
    study = spec(small(2))
    train, holdout = patients(30), patients(20, seed=4)
    door, other = Alone(), Alone()
    outcome = survival_plan(study, train, holdout, door)
    survival_plan(study, train, patients(25, seed=6), other)
    kept = holdout.bounded(study.preset.horizon)

    assert all(np.array_equal(a, b) for a, b in zip(door.sums[:3], other.sums[:3], strict=True))
    assert np.any(door.sums[2])
    assert np.array_equal(door.sums[3], pair_sums(outcome.model.risk(kept.x, kept.observed), kept))
    cells = door.sums[4].reshape(len(study.preset.risk_edges) + 1, -1)[:, :5]
    assert cells.sum() == pytest.approx(20, rel=1e-6)


def test_queries_carry_the_proved_sensitivities() -> None:
    study = spec(small(1))

    assert study.query("gradient").sensitivity == study.preset.clip
    assert study.query("breslow").sensitivity == study.preset.breslow_bound
    assert study.query("concordance").sensitivity == SENSITIVITY
    assert study.query("calibration").sensitivity == pytest.approx(np.sqrt(1.5))
    assert study.noise_sd("concordance") == pytest.approx(1.1 * SENSITIVITY)


def test_a_study_that_cannot_be_is_refused() -> None:
    good = spec(small(1))
    for change, word in (
        ({"features": ()}, "feature"),
        ({"features": ("age", "age", "wbc", "tpi")}, "once"),
        ({"multipliers": {"breslow": 1.0}}, "gradient"),
        ({"weights": b""}, "weights"),
        ({"noise_inflation": 0.5}, "noise_inflation"),
    ):
        with pytest.raises(ConfigError, match=word):
            replace(good, **change)


def test_presets_travel_in_a_study() -> None:
    chosen = preset("aml-small").sized(834)

    assert type(chosen).from_json(chosen.to_json()) == chosen
    assert chosen.digest() != preset("aml-small").digest()
    for change in (
        {"steps": 0}, {"uploads": 60}, {"clip": -1.0}, {"update": "lbfgs"}, {"grid": (1.0, 2.0)},
        {"momentum": 1.0}, {"calibration_times": (5000.0,)}, {"risk_edges": (0.7, 0.2)}, {"hidden": (0,)},
        {"learning_rate": float("nan")},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="aml-small"):
            replace(chosen, **change)
    with pytest.raises(ConfigError, match="exactly the fields"):
        type(chosen).from_json({"name": "x"})
    with pytest.raises(ConfigError, match="'steps'"):
        type(chosen).from_json({**chosen.to_json(), "steps": True})
    with pytest.raises(ConfigError, match="no preset"):
        preset("leukaemia")
