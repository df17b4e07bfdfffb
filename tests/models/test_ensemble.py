from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import artefact
from models.data import SurvivalData
from models.deepsurv import Members, flat, pour
from models.errors import MisuseError
from models.losses import Batch
from models.networks import MOST_MEMBERS, RISK_BOUND, Ensemble, Hazards, parameter_count, rebuild
from models.plan import Spec
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.training import fit, initial_weights
from tests.models.support import FEATURES, Alone, Together, patients, small, spec

GRID = preset("aml-small").grid
FORM = Ensemble((3,), 3)
LENGTH = parameter_count(Hazards((3,)).layout(4, 6))


def invented(form: Ensemble = FORM, seed: int = 0, spread: float = 0.5) -> SurvivalModel:
    count = parameter_count(form.layout(4, 6))
    params = np.random.default_rng(seed).normal(scale=spread, size=count)
    return SurvivalModel.as_trained(FEATURES, form, GRID, params.astype("<f8").tobytes())


def members(model: SurvivalModel) -> list[SurvivalModel]:
    size = 8 * LENGTH
    parts = [model.params[start : start + size] for start in range(0, len(model.params), size)]
    return [SurvivalModel.as_trained(FEATURES, Hazards((3,)), GRID, part) for part in parts]


def ensemble(**changes: object) -> Preset:
    return replace(small(), members=3, **changes)  # type: ignore[arg-type]


def test_log_hazards_are_the_mean_of_the_members() -> None:
    model, data = invented(spread=2.0), patients(30)
    x, seen = data.x, data.observed
    each = members(model)

    assert np.allclose(model.risk(x, seen), np.mean([m.risk(x, seen) for m in each], axis=0), atol=1e-14)
    assert np.allclose(np.log(model.hazard), np.mean([np.log(m.hazard) for m in each], axis=0), atol=1e-12)
    assert any(np.any(np.abs(m.risk(x, seen)) == RISK_BOUND) for m in each)
    assert np.abs(model.risk(x, seen)).max() <= RISK_BOUND


def test_a_patients_prediction_knows_no_other_patient() -> None:
    model, data = invented(), patients(9)
    alone = [model.risk(data.x[i : i + 1], data.observed[i : i + 1])[0] for i in range(9)]

    assert np.array_equal(model.risk(data.x, data.observed), alone)


def test_the_torch_side_predicts_and_loses_as_the_members_do() -> None:
    model, data = invented(), patients(20).bounded(GRID[-1])
    network = Members(4, FORM, 6)
    pour(network, model.params)
    batch = Batch.of(data, GRID)
    with torch.no_grad():
        loss = network.per_patient_loss(batch)
        singles = [member.per_patient_loss(batch) for member in network.members]  # type: ignore[operator]
    wanted = 0.0
    for each in members(model):
        hazards = each.hazards(data.x, data.observed)
        wanted = wanted + (hazards * batch.at_risk.numpy() - batch.deaths.numpy() * np.log(hazards)).sum(axis=1)

    assert flat(network) == model.params
    assert torch.equal(loss, singles[0] + singles[1] + singles[2])
    assert np.allclose(loss.numpy(), wanted, atol=1e-10)


def test_members_start_apart_and_rank_nobody() -> None:
    weights = initial_weights(ensemble(), 4, b"seed")
    model = SurvivalModel.as_trained(FEATURES, FORM, GRID, weights)
    hidden = [each._arrays["hidden.0.weight"] for each in members(model)]
    data = patients(5)

    assert not np.any(model.risk(data.x, data.observed))
    assert len({array.tobytes() for array in hidden}) == 3
    assert weights[: 8 * LENGTH] != initial_weights(small(), 4, b"seed")


def test_three_sites_own_one_ensemble_and_its_file_gives_it_back() -> None:
    study = spec(ensemble(linear_penalty=20.0, hidden_penalty=3.0))
    everybody = patients(60)
    parts = [everybody.rows(np.arange(a, b)) for a, b in ((0, 30), (30, 55), (55, 60))]

    def train(data: SurvivalData, secure_sum: object) -> SurvivalModel:
        asked = lambda t: study.query("gradient", t)  # noqa: E731
        trained = fit(study.preset, 4, study.weights, data, secure_sum, asked)  # type: ignore[arg-type]
        return SurvivalModel.as_trained(FEATURES, study.preset.network, study.preset.grid, trained.params)

    left = Together(3).run(lambda i, secure_sum: train(parts[i], secure_sum))
    card = dict.fromkeys(artefact.REQUIRED_CARD, "x")
    again, _ = artefact.from_bytes(artefact.to_bytes(left[0], card))

    assert len({model.digest for model in left}) == 1
    assert again.network == FORM
    assert again.digest == left[0].digest


def test_members_share_the_clip() -> None:
    one, three = (spec(replace(small(1), members=e, clip=0.5)) for e in (1, 3))
    sums = []
    for study in (one, three):
        door = Alone()
        fit(study.preset, 4, study.weights, patients(1), door, lambda t, study=study: study.query("gradient", t))  # type: ignore[misc]
        sums.append(np.linalg.norm(door.sums[0]))

    assert sums == pytest.approx([0.5, 0.5], rel=1e-6)
    assert isinstance(three, Spec)


@pytest.mark.parametrize(
    "form",
    [
        {"hidden": [3], "members": 1}, {"hidden": [3], "members": MOST_MEMBERS + 1}, {"hidden": [3], "members": True},
        {"hidden": [3], "members": 2.0}, {"hidden": [3], "members": [2]}, {"hidden": [], "members": 2},
        {"members": 2}, {"hidden": [3], "members": 2, "latent": 1}, {"hidden": [3], "members": 10**30},
    ],
)  # fmt: skip
def test_a_file_that_describes_another_ensemble_is_refused(form: dict[str, object]) -> None:
    assert rebuild("deepsurv", {"hidden": [3], "members": 2}) == Ensemble((3,), 2)
    with pytest.raises(MisuseError):
        rebuild("deepsurv", form)
    with pytest.raises(MisuseError):
        rebuild("cox", {"hidden": [3], "members": 2})


def test_no_such_ensemble() -> None:
    for form in (Ensemble((), 2), Ensemble((3,), 1), Ensemble((3,), MOST_MEMBERS + 1)):
        with pytest.raises(MisuseError, match="no ensemble"):
            form.layout(4, 6)
