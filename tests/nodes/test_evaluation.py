"""What a study evaluates: chosen at drafting, priced, asked over real sockets, equal at every site, in every report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from dp.queries import Account
from models import measures
from models.data import SurvivalData
from models.evaluating import evaluate
from models.metrics import auc_at
from models.plan import Outcome, survival_plan
from models.predict import SurvivalModel
from nodes import plans, showing
from nodes.door import Door
from nodes.errors import StudyInvalid
from nodes.evaluated import scores
from nodes.protocol import (
    HOLDOUT_SHARES,
    HOLDOUT_WEIGHTS,
    Terms,
    histogram_queries,
    holdout_shares,
    measured,
    score_bins,
    spec_of,
)
from nodes.results import Released
from nodes.study import Study
from secagg.manifest import Noise
from tests.nodes.modes import NAMES, drafted, patients, run
from tests.nodes.parties import provision, served
from tests.nodes.released import drafting

EVERY = tuple(measures.MEASURES)
HELD = 80


def _plan(study: Study, member: int, through: Any, _door: Door) -> Outcome:
    return survival_plan(spec_of(study), patients(study, member), patients(study, member + 100, HELD), through)


def _released(evaluation: dict[str, Any]) -> Released:
    return Released(evaluation, {}, 5, None, None, "00")


def test_a_study_over_sockets_yields_every_measure_and_the_same_one_at_every_site(tmp_path: Path) -> None:
    study, identities = drafted(Terms(evaluate=EVERY, epsilon=60.0, holdout_epsilon=400.0), calibration_times=(365.25,))
    with served(provision(tmp_path, len(identities)), study) as links:
        left = [each for each in run(study, identities, learn=_plan, links=links) if each is not None]

    assert len(left) == len(identities)
    summaries = [each.outcome.evaluation.summary() for each in left]
    assert all(summary == summaries[0] for summary in summaries)
    asked = [query.kind for query in left[0].records.queries]
    assert asked[-6:] == ["concordance", "calibration", "survival-holdout", "brier", "auc", "likelihood"]
    assert asked[-6:] == [query.kind for query in plans.wanted(study)][-8:-2]
    found = left[0].outcome.evaluation.scores
    held = [patients(study, member + 100, HELD) for member in range(1, len(left) + 1)]
    everybody = SurvivalData(
        *(np.concatenate([getattr(part, name) for part in held]) for name in ("x", "observed", "duration", "event"))
    )
    risk = left[0].outcome.model.risk(everybody.x, everybody.observed)
    assert found["auc_365"].value == pytest.approx(auc_at(risk, everybody, 365.25), abs=0.06)
    assert found["auc_365"].noise_error > 0
    assert found["under_observation_365"].resolved
    assert found["integrated_brier"].resolved
    assert found["log_likelihood"].resolved
    lines = {line.name: line for line in scores(study, _released(summaries[0]))}
    assert set(lines) == {
        "C-index (within hospitals)", "Death before 365 days", "AUC at 365 days", "Integrated Brier score",
        "Not censored before 365 days", "Log-likelihood, nats per patient", "Calibration slope at 365 days",
    }  # fmt: skip
    line = lines["AUC at 365 days"]
    auc = found["auc_365"]
    assert [line.estimate, line.low, line.high] == pytest.approx([auc.value, auc.low, auc.high], rel=1e-5)


def test_a_study_that_does_not_say_evaluates_what_it_always_did() -> None:
    study, _ = drafted(Terms())

    assert measured(study) == ("concordance", "calibration")
    assert HOLDOUT_SHARES == {"concordance": 0.7, "calibration": 0.15, "score-histogram-nonmembers": 0.15}
    assert "evaluates: concordance, calibration" in list(showing.terms(study))


@pytest.mark.parametrize("chosen", [("likelihood",), ("auc", "concordance"), EVERY])
def test_what_is_asked_shares_the_whole_of_the_holdout_account(chosen: tuple[str, ...]) -> None:
    study, _ = drafted(Terms(evaluate=chosen))

    assert set(measured(study)) == set(chosen)
    assert study.epsilon(Account.HOLDOUT) == pytest.approx(2.0, rel=1e-6)
    shares = holdout_shares(chosen)
    whole = study.mu_squared(Account.HOLDOUT)
    mine = {stage.kind: stage.mu_squared / whole for stage in study.stages if stage.account == Account.HOLDOUT}
    assert mine == pytest.approx(dict(shares), rel=1e-6)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(stage.steps == stage.uploads for stage in study.stages if stage.account == Account.HOLDOUT)
    assert f"evaluates: {', '.join(measured(study))}" in list(showing.terms(study))
    assert set(HOLDOUT_WEIGHTS) == {*measures.KINDS, "score-histogram-nonmembers"}


@pytest.mark.parametrize(("declared", "bins"), [(3999.0, 5), (4000.0, 11)])
def test_the_audits_bins_follow_from_the_patients_declared(declared: float, bins: int) -> None:
    study, _ = drafted(Terms(declared_patients=declared))

    assert score_bins(study).count == bins
    assert {query.length for query in histogram_queries(study)} == {bins}


@pytest.mark.parametrize(("lengths", "said"), [((7, 7), "not of 7"), ((5, 11), "of one length")])
def test_histograms_of_no_known_bins_are_refused(lengths: tuple[int, int], said: str) -> None:
    study, _ = drafted(Terms())
    changed = dict(zip(("score-histogram-members", "score-histogram-nonmembers"), lengths, strict=True))
    stages = tuple(replace(stage, length=changed.get(stage.kind, stage.length)) for stage in study.stages)

    with pytest.raises(StudyInvalid, match=said):
        histogram_queries(replace(study, stages=stages))


def test_a_study_without_noise_evaluates_the_same() -> None:
    study, _ = drafted(Terms(noise=Noise.NONE, evaluate=EVERY))

    assert [query.kind for query in plans.wanted(study)][-8:-2] == [
        "calibration", "survival-holdout", "brier", "auc", "auc", "likelihood",
    ]  # fmt: skip


def test_without_noise_every_score_has_the_interval_of_its_patients() -> None:
    study, _ = drafted(Terms(noise=Noise.NONE, evaluate=EVERY))
    noisy, _ = drafted(Terms(evaluate=EVERY))
    preset = spec_of(study).preset
    model = SurvivalModel.as_trained(study.learning.features, preset.network, preset.grid, study.weights)
    held = patients(study, 101, 2_000).bounded(preset.horizon)
    found = _released(evaluate(model, preset, held, lambda _kind, _index, part: part(), lambda _kind: 0.0).summary())

    lines = scores(study, found)

    assert len(lines) == 10
    for line, other in zip(lines, scores(noisy, found), strict=True):
        assert (line.name, line.estimate, line.low, line.high) == (other.name, other.estimate, other.low, other.high)
        assert "noise" not in line.note
        if line.estimate is None:  # an untrained model: its risks are too much alike for a slope
            assert line.name.startswith("Calibration slope")
            assert line.note == "not resolved: too few patients"
            continue
        assert line.low is not None
        assert line.high is not None
        assert line.low < line.estimate < line.high, line.name
        assert ("and the noise of the release" in other.note) is ("95 % interval" in line.note)


def test_a_choice_that_cannot_be_is_refused_at_drafting() -> None:
    for names, word in (((), "measures something"), (("auroc",), "no measure 'auroc'"), (("auc", "auc"), "twice")):
        with pytest.raises(StudyInvalid, match=word):
            drafted(Terms(evaluate=names))
    with pytest.raises(StudyInvalid, match="leave evaluate out"):
        drafted(Terms(evaluate=("auc",)), "bayesnet-scores")


def test_a_report_says_what_was_lost_and_what_noise_left_nothing_of() -> None:
    study, _ = drafted(Terms(evaluate=EVERY))
    nothing = {"estimate": None, "low": 0.0, "high": 1.0, "error": None, "noise_error": None}

    lines = {
        line.name: line
        for line in scores(study, _released({"concordance": None, "calibration": None, "scores": {"auc_730": nothing}}))
    }

    assert lines.pop("AUC at 730 days").note.startswith("not resolved")
    assert set(lines) == {
        "C-index (within hospitals)", "Calibration", "Integrated Brier score", "Not censored",
        "Log-likelihood, nats per patient",
    }  # fmt: skip
    for name, line in lines.items():
        assert line.note.startswith("not released"), name
    assert scores(study, _released({})) == ()
    plain, _ = drafted(Terms(evaluate=("auc",)))
    assert {line.name for line in scores(plain, _released({"scores": {"auc_365": nothing}}))} == {"AUC at 365 days"}


def test_the_choice_is_made_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    haemfed, draft = drafting(tmp_path, NAMES[:4], capsys, monkeypatch)

    assert haemfed(*draft, "--evaluate", "auc,likelihood")[0] == 0

    code, out, _ = haemfed("study", "show", "study.json")
    assert code == 0
    assert "evaluates: auc, likelihood" in out
    assert "concordance" not in out
    code, _, err = haemfed(*draft, "--evaluate", "auroc")
    assert code == 12
    assert "no measure 'auroc'; there are concordance, calibration, brier, auc, likelihood" in err
