"""`haemfed study plan --algorithm`: rounds are simulated with the noise of the study that would be drafted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dp.events import Account
from dp.queries import Float64, Query
from models.algorithms.local import OwnNoise
from models.presets import preset
from models.training import initial_weights
from nodes import planning, planning_rounds, rounds
from nodes.errors import ConfigError, StudyInvalid
from nodes.planning import Asked, plan
from nodes.protocol import Terms
from nodes.rounds import Asked as Algorithm
from secagg.manifest import Noise
from secagg.masks import Keystream
from tests.nodes.modes import drafted
from tests.nodes.test_planning import SHORT, SIZES, invented, one_step, run

FEDAVG = Algorithm("fedavg", rounds=2, local_steps=4)


def asked(algorithm: Algorithm | None = FEDAVG, **changes: Any) -> Asked:
    numbers: dict[str, Any] = {"sizes": SIZES, "epsilons": (1.0, 8.0), "preset": SHORT, "runs": 2} | changes
    return Asked(**numbers, algorithm=algorithm)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lockstep that takes no time; the rounds are trained as they are."""
    monkeypatch.setattr(planning, "fit", one_step)
    monkeypatch.setattr(planning, "_TEST", 150)


@pytest.mark.usefixtures("quick")
def test_rounds_are_a_column_beside_lockstep() -> None:
    steps: list[tuple[int, int]] = []
    found = plan(asked(), invented(), lambda done, of: steps.append((done, of)))

    total = 2 * (3 * 2 + 1 + 4)
    assert steps == [(done, total) for done in range(1, total + 1)]
    record = json.loads(json.dumps(found.to_json()))
    assert record["algorithm"] == {
        "name": "fedavg", "rounds": 2, "local_rate": 0.3, "local_steps": 4, "bound": 10.0, "proximal": 0.0,
        "server_rate": 1.0, "shares": [60 / 150, 40 / 150, 30 / 150, 20 / 150],
    }  # fmt: skip
    for row, stated in zip(found.rows, record["at_epsilon"], strict=True):
        assert row.averages is not None
        assert 0.3 < row.averages.scores.low <= row.averages.scores.mean <= row.averages.scores.high < 0.9
        assert stated["algorithm"]["federation"] == vars(row.averages.scores)
    plain = plan(asked(None), invented())
    assert "algorithm" not in json.dumps(plain.to_json())
    for row, other in zip(found.rows, plain.rows, strict=True):
        assert (row.federation, row.site_noise) == (other.federation, other.site_noise)


@pytest.mark.parametrize(
    "algorithm", [Algorithm("fedavg"), Algorithm("fedprox", rounds=7, local_steps=9, proximal=0.2)]
)
def test_a_plan_charges_what_a_study_is_charged(algorithm: Algorithm) -> None:
    question = Asked((150,) * 5, (2.0,), preset("aml-small"), algorithm=algorithm)
    terms = Terms(noise=Noise.LOCAL, epsilon=2.0)
    study, _ = drafted(terms, bands=("150",) * 5, algorithm=algorithm, hidden=preset("aml-small").hidden)

    assert question.averaged is not None
    row = planning._averages(question, question.averaged, 2.0, {("averaged", 2.0): [0.5]})

    assert row.multipliers == {
        stage.kind: pytest.approx(stage.multiplier, rel=1e-12)
        for stage in study.stages
        if stage.account == Account.TRAINING
    }
    noise = rounds.step_noise(study)
    assert noise is not None
    assert row.step == pytest.approx(noise[1], rel=1e-12)
    assert row.step == pytest.approx(row.multipliers["update"] * math.sqrt(question.averaged.averaging.local_steps))
    everybody, replaced = row.views
    assert everybody.epsilon == pytest.approx(2.0, rel=1e-6)
    assert everybody.epsilon <= 2.0
    assert replaced.mu == 2 * everybody.mu
    assert question.averaged.averaging == rounds.algorithm_of(study)
    assert question.averaged.preset.uploads == study.stages[0].uploads


class Listening(OwnNoise):
    """Remembers what noise was drawn for."""

    drawn: list[tuple[int, Query]] = []  # noqa: RUF012 - of the class, on purpose

    def __call__(self, query: Query, clipped: Float64) -> Float64:
        self.drawn.append((id(self.keystream), query))
        return super().__call__(query, clipped)


def trained(multiplier: float = 5.0, place: int = -1) -> bytes:
    """One training of four hospitals, with the noise of one of them other than usual."""
    averaged = planning_rounds.Averaged.of(FEDAVG, SHORT, SIZES)
    parts, _ = invented().draw(SIZES, 10, np.random.default_rng(0))
    weights = initial_weights(averaged.preset, parts[0].features, b"")
    bounded = [part.bounded(SHORT.horizon) for part in parts]
    return averaged.train(
        parts[0].features,
        weights,
        bounded,
        multiplier,
        lambda site: Keystream(bytes([site + 100 * (site == place)]) * 32),
    )


def test_every_hospital_draws_the_whole_noise_of_each_local_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_rounds, "OwnNoise", Listening)
    Listening.drawn.clear()

    trained()

    assert len(Listening.drawn) == 4 * 2 * 4  # hospitals, rounds, local steps
    assert len({key for key, _ in Listening.drawn}) == 4
    assert {(query.multiplier, query.sensitivity) for _, query in Listening.drawn} == {(10.0, SHORT.clip)}


def test_everybodys_changes_and_noise_are_in_the_model() -> None:
    usual = trained()

    assert trained() == usual
    for place in range(4):
        assert trained(place=place) != usual


def test_what_fails_at_one_hospital_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: Any, **_: object) -> None:
        place, secure_sum, query = arguments[2], arguments[6], arguments[7]
        if place == 2:
            raise ConfigError("no noise left")
        secure_sum(query(0), lambda: np.zeros(3))  # waits for the third hospital

    monkeypatch.setattr(planning_rounds.averaging, "fit", fit)
    with pytest.raises(ConfigError, match="no noise left"):
        trained()


@pytest.mark.parametrize(
    ("algorithm", "kind", "says"),
    [
        (Algorithm("newton"), ConfigError, "newton runs without noise only: it has no ε, so there is nothing to plan"),
        (Algorithm("fedprox", proximal=0.0), StudyInvalid, "is fedavg"),
    ],
)
def test_what_has_no_plan_is_said(algorithm: Algorithm, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        asked(algorithm)


def test_longer_rounds_are_repeated_less_often() -> None:
    few, many = (asked(Algorithm("fedavg", rounds=4, local_steps=e), runs=None) for e in (1, 20))

    assert many.repetitions < few.repetitions < asked(None, runs=None).repetitions


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_rounds_learn_less_with_more_noise() -> None:
    longer = Algorithm("fedavg", rounds=6, local_steps=3)
    found = plan(asked(longer, epsilons=(0.05, 50.0), sizes=(120,) * 4, runs=3), invented())

    low, high = (row.averages.scores.mean for row in found.rows if row.averages is not None)
    assert high > low + 0.03


@pytest.mark.usefixtures("quick")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ("--sizes", "40,30,20,20", "--epsilon", "1,2", "--runs", "2", "--rounds", "2", "--local-steps", "3")
    code, text, _ = run(monkeypatch, capsys, *shape, "--algorithm", "fedprox", "--out", str(tmp_path / "plan.json"))

    assert code == 0
    for word in (
        "fedprox: 2 rounds of 3 local steps at each hospital",
        "noise multiplier: update",
        "noise multiplier: each of 3 local steps",
        "everybody else together (3 hospitals and the coordinator)",
        "noise multiplier: gradient",
    ):
        assert word in text, word
    assert json.loads((tmp_path / "plan.json").read_text())["algorithm"]["proximal"] == 0.1
    for options, ended, says in (
        (("--algorithm", "newton"), 10, "nothing to plan"),
        (("--rounds", "5"), 12, "lockstep has none of these"),
        (("--algorithm", "fedavg", "--proximal", "0.1"), 12, "fedavg has no proximal"),
    ):
        code, _, err = run(monkeypatch, capsys, "--sizes", "40,30,20,20", *options)
        assert (code, says in err) == (ended, True), err
