"""Studies of every learner, in one process through real doors: drafted, checked, run, equal at every site."""

import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from dp.queries import Account, SecureSum
from models import artefact
from models.generators import file as generator_file
from models.networks import Ensemble
from nodes import plans
from nodes.door import Door
from nodes.drafting import check_plan
from nodes.errors import StudyInvalid
from nodes.protocol import Terms
from nodes.study import Study
from secagg.manifest import Noise
from tests.nodes.modes import drafted, patients, run

SURVIVAL = ("aml-small", "savae-wide", "fusion-wide")
CARD: dict[str, Any] = {
    "profile": {}, "study": {}, "transcript": "00", "metrics": {}, "intended_use": "", "limits": [], "privacy": {},
}  # fmt: skip


def _generate(study: Study, member: int, through: SecureSum, _door: Door) -> Any:
    return plans.generator_spec(study).run(patients(study, member), through)


@pytest.mark.parametrize("name", SURVIVAL)
def test_a_survival_model_is_the_same_at_every_site(name: str) -> None:
    study, identities = drafted(Terms(), name)

    left = [each for each in run(study, identities) if each is not None]

    assert len(left) == len(identities)
    assert len({artefact.to_bytes(each.outcome.model, CARD) for each in left}) == 1
    assert plans.title(study).endswith(f"preset {name}")
    assert plans.main_stage(study).kind == "gradient"


def test_an_ensemble_with_penalties_is_the_same_at_every_site_without_noise() -> None:
    study, identities = drafted(Terms(noise=Noise.NONE), "deepsurv-aml-open")

    left = [each for each in run(study, identities) if each is not None]

    assert len({artefact.to_bytes(each.outcome.model, CARD) for each in left}) == 1
    assert left[0].outcome.model.network == Ensemble((3,), 3)
    assert left[0].outcome.recalibrated


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        ("bayesnet-scores", Noise.DISTRIBUTED),
        pytest.param("bayesnet-tables", Noise.NONE, marks=pytest.mark.slow),
        pytest.param("vaebgm-private", Noise.DISTRIBUTED, marks=pytest.mark.slow),
        pytest.param("ctgan-private", Noise.DISTRIBUTED, marks=pytest.mark.slow),
    ],
)
def test_a_generator_is_the_same_at_every_site(name: str, noise: Noise) -> None:
    study, identities = drafted(Terms(noise=noise), name)

    left = [each for each in run(study, identities, learn=_generate) if each is not None]

    assert len(left) == len(identities)
    files = {generator_file.to_bytes(each.outcome, CARD) for each in left}
    assert len(files) == 1
    (file,) = files
    made = plans.model_in(study, file)
    drawn = made.draw(50, np.random.default_rng(0))  # type: ignore[union-attr]
    assert drawn.features == len(study.learning.features)
    # Every sum was asked once, stage by stage, and all of it is paid for by training patients.
    asked = Counter(query.kind for query in left[0].records.queries)
    assert asked == {stage.kind: stage.steps for stage in study.stages}
    assert {stage.account for stage in study.stages} == {Account.TRAINING.value}
    if noise is not Noise.NONE:
        assert study.epsilon(Account.TRAINING) == pytest.approx(2.0, rel=1e-6)
        assert study.epsilon(Account.HOLDOUT) == 0.0


def test_a_generator_study_with_other_settings_is_refused_before_anybody_signs() -> None:
    study, _ = drafted(Terms(), "bayesnet-scores")
    changed = {**study.learning.preset, "parents": 9}

    other = msgspec.structs.replace(study, learning=msgspec.structs.replace(study.learning, preset=changed))

    with pytest.raises(StudyInvalid, match="parents"):
        check_plan(other)


def test_a_generator_reads_everybody_and_completes_nobody() -> None:
    with pytest.raises(StudyInvalid, match="leave sampling out"):
        drafted(Terms(budget="RDP", order=8, sampling_probability=0.5), "bayesnet-scores")


def test_a_missing_package_is_named_before_anybody_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = drafted(Terms(), "ctgan-private")
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)

    with pytest.raises(StudyInvalid, match=r"haemfed\[ctgan\]"):
        check_plan(study)


def test_released_follow_up_changes_no_faster_than_the_policies_allow() -> None:
    study, _ = drafted(Terms(), "bayesnet-scores")
    grid = plans.generator_spec(study).dictionary.fine.grid

    assert min(b - a for a, b in pairwise(grid)) >= 30
