"""Sites that made different models of the same sums: the study ends disputed at all of them, and no model is used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dp.queries import Account
from models.predict import SurvivalModel
from models.presets import PRESETS
from nodes import daemon, plans, sealing
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import PRESET, found
from nodes.ending import COMPLETE, dispute, disputed, ending
from nodes.errors import Sealed, StudyDisputed, StudyStopped
from nodes.places import Places
from nodes.protocol import Terms
from nodes.results import MODEL
from nodes.site import _conclude
from secagg.server import PARTED
from tests.nodes.modes import drafted
from tests.nodes.test_endings import World

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("tests.nodes.test_endings.PATIENCE", 120.0)  # four sites build references on one processor
    pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
    preset = replace(PRESETS[PRESET], steps=2, uploads=4)
    made = World(found(tmp_path / "new", hospitals(4), 1, Terms(), 0.0, NOW, preset=preset), tmp_path / "root")
    yield made
    made.coordinator.close()
    made.store.close()


@pytest.mark.slow
def test_another_model_at_one_site_ends_the_study_disputed_at_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = plans.run

    def one_bit(study: Any, cohort: Any, door: Any, site: int) -> Any:
        left = honest(study, cohort, door, site)
        assert isinstance(left.model, SurvivalModel)
        return replace(left, model=left.model.with_hazard(left.model.hazard * (1 + 2.0**-52 * (site == 0))))

    monkeypatch.setattr(plans, "run", one_bit)

    ended = world.all()

    assert {type(each) for each in ended.values()} == {StudyDisputed}, ended
    assert {each.exit_code for each in ended.values()} == {25}  # type: ignore[attr-defined]
    assert world.names[0] in str(ended[world.names[1]])
    assert not world.coordinator.ok
    for name in world.names:
        world.nothing_is_locked(name)
        assert str(world.accounts(name).outcome(world.study.run_id)).startswith("disputed: ")
        assert world.accounts(name).units_of(world.study.run_id, Account.TRAINING) > 0, "what was sent stays charged"
        again = world.site(name)
        assert isinstance(again, StudyDisputed)
        assert "new run number" in str(again)


@pytest.mark.slow
def test_sites_that_agree_end_with_the_same_word(world: World) -> None:
    ended = world.all()

    assert all(getattr(each, "study", None) == world.study for each in ended.values()), ended
    assert {world.accounts(name).outcome(world.study.run_id) for name in world.names} == {COMPLETE}
    assert world.coordinator.ok
    # The same folder as the daemon seals it.
    places = Places(world.config(world.names[0]).paths)
    daemon._seal(places, world.study)
    path = places.run(world.study.run_id) / MODEL
    opened = sealing.opened(path, path.read_bytes())
    with pytest.raises(Sealed, match="ended disputed"):
        sealing.check(opened, None, NOW.date())


def test_the_word_covers_the_sums_and_the_model() -> None:
    words = {ending(t, m) for t in (bytes(32), b"\1" * 32) for m in ("00" * 32, "01" * 32)}

    assert len(words) == 4
    assert {len(word) for word in words} == {32}


def test_only_that_reason_is_a_dispute() -> None:
    study, _ = drafted(Terms())

    for reason in (None, COMPLETE, "patience is over", f"no: {PARTED}"):
        assert dispute(study, reason) is None
    parted = dispute(study, f"{PARTED}: 1 (alder)")
    assert parted is not None
    assert "1 (alder)" in str(parted)
    assert disputed("x") == "disputed: x"


def test_a_disputed_model_is_out_of_use_before_the_run_ends() -> None:
    study, _ = drafted(Terms())
    done: list[str] = []

    def concluded(reason: str | None) -> list[str]:
        done.clear()
        _conclude(study, reason, lambda: done.append("sealed"), done.append)
        return done

    assert concluded(None) == concluded(COMPLETE) == [COMPLETE]
    with pytest.raises(StudyDisputed):
        concluded(f"{PARTED}: 1 (alder)")
    assert done == ["sealed", f"disputed: {PARTED}: 1 (alder)"]
    with pytest.raises(StudyStopped, match="all sums and the model are here") as stopped:
        concluded("patience is over")
    assert stopped.value.exit_code == 22
    assert done == [COMPLETE]
