"""Real sites with ledger, policy and files, in studies that name an algorithm: charged, replayed, reported."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dp.queries import Account
from models import artefact
from models.presets import PRESETS
from nodes import files
from nodes.approval import check_study
from nodes.daemon import LOCAL
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import PRESET, Consortium, found
from nodes.door import Progress
from nodes.enrolment import load_identity
from nodes.errors import Interrupted, PolicyRefusal
from nodes.places import Places
from nodes.protocol import Terms
from nodes.reporting import report_without_noise
from nodes.rounds import Asked
from secagg.manifest import Noise
from tests.nodes.test_endings import World
from tests.nodes.test_modes_at_a_site import certified, complete, fresh

pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def founded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Terms, Asked], World]]:
    made: list[World] = []
    monkeypatch.setattr("tests.nodes.test_endings.PATIENCE", 120.0)

    def make(terms: Terms, asked: Asked) -> World:
        preset = replace(PRESETS[PRESET], hidden=(3,))
        consortium: Consortium = found(
            tmp_path / "new", hospitals(4), 1, terms, 0.0, NOW, preset=preset, algorithm=asked
        )
        made.append(World(consortium, tmp_path / "root"))
        return made[-1]

    yield make
    for world in made:
        world.coordinator.close()
        world.store.close()


@pytest.mark.slow
def test_a_site_that_restarts_replays_its_sums_and_everybody_has_the_same_file(
    founded: Callable[[Terms, Asked], World], tmp_path: Path
) -> None:
    world = founded(Terms(noise=Noise.LOCAL), Asked("fedprox", rounds=8, local_steps=2))
    stopping = world.names[0]

    def stop(progress: Progress, _units: int) -> None:
        if (progress.kind, progress.event, progress.index) == ("update", "sum", 3):
            raise Interrupted("by a test")

    def twice() -> object:
        first = world.site(stopping, watch=stop)
        assert isinstance(first, Interrupted), first
        assert world.accounts(stopping).sums(world.study.run_id) >= 3
        return world.site(stopping)

    with ThreadPoolExecutor(len(world.names)) as pool:
        runs = [pool.submit(twice), *(pool.submit(world.site, name) for name in world.names[1:])]
        ended = [run.result() for run in runs]

    assert all(getattr(each, "study", None) == world.study for each in ended), ended
    assert len({world.model(name) for name in world.names}) == 1
    for name in world.names:
        accounts = world.accounts(name)
        charged = Counter(upload.event.kind for upload in accounts.uploads_of(world.study.run_id))
        assert 1 <= charged["update"] <= world.study.stages[0].uploads
        assert world.study.event(world.study.stages[0]) in {
            upload.event for upload in accounts.uploads_of(world.study.run_id)
        }
        assert accounts.units_of(world.study.run_id, Account.TRAINING) <= world.study.units(Account.TRAINING)

    checked, page = certified(world, world.names[1], tmp_path)
    outcomes = {reason.rule: reason for reason in checked.statement.predicate.verdict.reasons}
    assert outcomes["ledger"].outcome == "PASS", outcomes["ledger"]
    assert outcomes["mechanism"].outcome == "PASS", outcomes["mechanism"]
    assert checked.statement.predicate.evidence.claims[0].noise == world.study.protection
    assert "local noise: each hospital added to every local step" in page
    assert "trained by FedProx" in page
    assert "noisy sums of what local steps did to the weights" in page
    _, card = artefact.from_bytes(world.model(stopping))
    assert card["algorithm"] == world.study.learning.algorithm
    assert card["privacy"]["protection"] == world.study.protection


@pytest.mark.slow
@pytest.mark.parametrize("asked", [Asked("newton"), Asked("fedavg", rounds=3)], ids=lambda asked: asked.name)
def test_without_noise_the_report_names_algorithm_and_protection(
    founded: Callable[[Terms, Asked], World], asked: Asked
) -> None:
    world = founded(Terms(noise=Noise.NONE), asked)

    complete(world)

    study, name = world.study, world.names[0]
    config = world.config(name)
    assert world.accounts(name).state.unbounded == {Account.TRAINING, Account.HOLDOUT}
    files.write(Places(config.paths).run(study.run_id) / LOCAL, b"null", private=True)
    page = report_without_noise(config, study, now=NOW).read_text()
    assert "Not differentially private" in page
    assert ("exact by Newton" in page) is (asked.name == "newton")
    assert ("trained by FedAvg" in page) is (asked.name == "fedavg")
    _, card = artefact.from_bytes(world.model(name))
    assert card["algorithm"]["name"] == asked.name
    assert card["privacy"]["epsilon"] == "not bounded"


@pytest.mark.slow
def test_a_policy_that_allows_gradients_does_not_allow_updates(founded: Callable[[Terms, Asked], World]) -> None:
    world = founded(Terms(noise=Noise.LOCAL), Asked("fedavg", rounds=3))
    config: Any = world.config(world.names[0])
    files.write(config.paths.policy, config.paths.policy.read_text().replace('"update"', '"gradient"').encode())

    with pytest.raises(PolicyRefusal, match="update"):
        check_study(world.study, config, load_identity(config.paths.identity), fresh(config))
