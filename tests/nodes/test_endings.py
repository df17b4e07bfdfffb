"""How a study ends: completely, early, by a lie, by a full disk, and twice. Real sites and store, no sockets."""

from __future__ import annotations

import datetime as dt
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dp.errors import LedgerCorrupt
from dp.queries import Account
from models.presets import PRESETS
from nodes import accounts as ledgers
from nodes import rollback
from nodes.accounts import Accounts
from nodes.config import SiteConfig, load
from nodes.coordinator import Coordinator
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import PRESET, Consortium, found
from nodes.enrolment import load_identity
from nodes.errors import NodeError, StorageProblem, StudyStopped
from nodes.loopback import LoopbackConnection, LoopbackLink
from nodes.places import Places
from nodes.protocol import Terms
from nodes.results import write_results
from nodes.site import run_study
from nodes.store import CoordinatorStore, SiteStore, WitnessedRow
from nodes.study import Study
from nodes.witness_notes import STATEMENT
from nodes.witnessing import Witnessing
from secagg.errors import PeerError
from secagg.messages import FromServer, Step

pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
NOW = dt.datetime.now(dt.UTC)
PATIENCE = 8.0


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    preset = replace(PRESETS[PRESET], steps=4, uploads=6)
    root = tmp_path_factory.mktemp("endings") / "root"
    return found(root, hospitals(4), 1, Terms(roster_changes=6), 0.0, NOW, preset=preset)


class World:
    """Four sites and a coordinator in this process, on a copy of the consortium's folders."""

    def __init__(self, original: Consortium, root: Path) -> None:
        shutil.copytree(original.study_file.parent, root)
        self.root, self.study = root, original.study
        self.names = [site.name for site in original.study.sites]
        self.store = CoordinatorStore(f"sqlite:///{root / 'coordinator.sqlite3'}")
        self.coordinator = self.serve()

    def serve(self, deadline: float = PATIENCE) -> Coordinator:
        """A coordinator; where every round must come to its end, the deadline is long enough for any machine."""
        self.coordinator = Coordinator(
            self.study.manifest(),
            self.store,
            max_words=self.study.max_words,
            deadline=deadline,
            patience=PATIENCE,
            notice=lambda _event, _fields: None,
        )
        return self.coordinator

    def config(self, name: str) -> SiteConfig:
        config = load(SiteConfig, self.root / name / "site.toml")
        return config.model_copy(update={"reconnect_patience": 1.0})

    def site(self, name: str, link: Any = None, watch: Callable[..., None] = lambda *_: None) -> object:
        config = self.config(name)
        places = Places(config.paths)
        folder = places.run(self.study.run_id)
        try:
            return run_study(
                self.study,
                config,
                link or LoopbackLink(self.coordinator),
                watch=watch,
                deliver=lambda done: write_results(places, done) and None,
                delivered=(folder / "released.json").exists,
            )
        except (NodeError, PeerError, LedgerCorrupt) as error:
            return error

    def all(self, **of_one: Any) -> dict[str, object]:
        with ThreadPoolExecutor(len(self.names)) as pool:
            runs = {
                name: pool.submit(self.site, name, **(of_one if name == self.names[0] else {})) for name in self.names
            }
            return {name: run.result() for name, run in runs.items()}

    def accounts(self, name: str) -> Accounts:
        config = self.config(name)
        return ledgers.of(config, SiteStore(config.paths.database), lambda: NOW)

    def model(self, name: str) -> bytes:
        return (Places(self.config(name).paths).run(self.study.run_id) / "model.safetensors").read_bytes()

    def keys(self, name: str) -> Path:
        return self.config(name).paths.session(self.study.run_id)

    def nothing_is_locked(self, name: str) -> None:
        accounts = self.accounts(name)
        assert not self.keys(name).exists()
        for account in Account:
            assert accounts.state.reserved(account) == 0


@pytest.fixture
def world(original: Consortium, tmp_path: Path) -> Iterator[World]:
    made = World(original, tmp_path / "root")
    yield made
    made.coordinator.close()
    made.store.close()


@pytest.mark.slow
def test_a_complete_run_frees_what_it_did_not_use_and_starting_again_changes_nothing(world: World) -> None:
    world.coordinator.close()
    world.serve(deadline=300.0)
    ended = world.all()

    assert all(getattr(each, "study", None) == world.study for each in ended.values()), ended
    assert len({world.model(name) for name in world.names}) == 1
    for name in world.names:
        world.nothing_is_locked(name)
        assert world.site(name) is None


@pytest.mark.slow
def test_every_upload_is_noted_in_the_stage_that_it_is_made_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a receipt says of a stage comes from the sums in the site's database; the door goes by the model."""
    noted: dict[tuple[int, int], str] = {}
    told: dict[int, str] = {}
    uploaded = Witnessing.uploaded

    def note(self: Witnessing, step: Step) -> None:
        uploaded(self, step)
        last = self._uploads[self._member][self._nonce]
        noted[self._member, last.round] = world.study.stages[last.stage].kind

    def watch(progress: Any, _spent: float) -> None:
        if progress.event == "upload":
            told[progress.round] = progress.kind

    monkeypatch.setattr(Witnessing, "uploaded", note)
    world.coordinator.close()
    world.serve(deadline=300.0)
    world.all(watch=watch)

    assert [*dict.fromkeys(told.values())] == [stage.kind for stage in world.study.stages]
    assert noted == {(site.index, number): kind for site in world.study.sites for number, kind in told.items()}


@pytest.mark.slow
def test_an_ending_that_was_cut_off_is_finished_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Accounts.close

    def cut(self: Accounts, study: Study, outcome: str) -> None:
        raise StorageProblem("the power went")

    monkeypatch.setattr(Accounts, "close", cut)
    ended = world.all()
    assert all(isinstance(each, StorageProblem) for each in ended.values())
    monkeypatch.setattr(Accounts, "close", close)

    for name in world.names:
        assert world.site(name) is None
        world.nothing_is_locked(name)


@pytest.mark.slow
def test_a_coordinator_that_ends_early_costs_only_what_was_uploaded(world: World) -> None:
    stopped = threading.Event()

    def stop(progress: Any, _spent: float) -> None:
        if progress.event == "sum" and progress.index == 2 and not stopped.is_set():
            stopped.set()
            with world.coordinator._lock:
                world.coordinator._execute(world.coordinator._server._stop("I had enough"))

    ended = world.all(watch=stop)

    assert all(isinstance(each, StudyStopped) for each in ended.values()), ended
    for name in world.names:
        world.nothing_is_locked(name)
        accounts = world.accounts(name)
        assert 0 < accounts.state.spent(Account.TRAINING) < world.study.mu_squared(Account.TRAINING)
        again = world.site(name)
        assert isinstance(again, StudyStopped)
        assert "new run number" in str(again)


@pytest.mark.slow
def test_a_roster_below_the_minimum_is_the_coordinators_fault_and_final(world: World) -> None:
    class Lying(LoopbackConnection):
        def receive(self) -> FromServer:
            message = super().receive()
            if isinstance(message, Step) and message.round == 2:
                return Step(message.round, message.sums, message.roster[:2])
            return message

    class Link:
        def connect(self) -> Lying:
            return Lying(world.coordinator)

    ended = world.all(link=Link())

    victim = world.names[0]
    assert isinstance(ended[victim], PeerError)
    assert "at least 3 were agreed" in str(ended[victim])
    world.nothing_is_locked(victim)
    assert all(getattr(ended[name], "study", None) for name in world.names[1:]), ended


@pytest.mark.slow
def test_a_disk_that_fails_at_the_coordinator_stops_it_and_nobody_else_is_blamed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = world.store.add_sum, []

    def fails_once(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise StorageProblem("no space left")
        add(*arguments)

    monkeypatch.setattr(world.store, "add_sum", fails_once)
    ended = world.all()

    assert isinstance(world.coordinator.failure, StorageProblem)
    assert all("no connection to the coordinator" in str(each) for each in ended.values()), ended
    assert len(world.store.history(world.study.run_id)) == 1

    world.serve()  # the next process starts from what was stored
    ended = world.all()
    assert all(getattr(each, "study", None) for each in ended.values()), ended
    assert len({world.model(name) for name in world.names}) == 1


@pytest.mark.slow
def test_a_site_that_comes_after_the_end_still_gets_every_sum(world: World) -> None:
    late = world.names[-1]
    kept = threading.Event()

    def keep(progress: Any, _spent: float) -> None:
        if progress.event == "sum" and progress.index == 1 and not kept.is_set():
            kept.set()
            raise StorageProblem("this machine goes down")

    with ThreadPoolExecutor(4) as pool:
        runs = {
            name: pool.submit(world.site, name, watch=keep if name == late else lambda *_: None) for name in world.names
        }
        ended = {name: run.result() for name, run in runs.items()}
    assert isinstance(ended[late], StorageProblem)
    assert all(getattr(ended[name], "study", None) for name in world.names[:-1]), ended
    world.coordinator.close()

    world.serve()  # a new process for a run that has ended
    assert world.coordinator.ended
    assert world.coordinator.ok
    assert getattr(world.site(late), "study", None) == world.study
    assert world.model(late) == world.model(world.names[0])
    world.nothing_is_locked(late)


@pytest.mark.slow
def test_another_table_in_the_middle_of_a_run_is_refused(world: World) -> None:
    name = world.names[0]
    config = world.config(name)
    with SiteStore(config.paths.database) as store:
        ledgers.of(config, store, lambda: NOW).open(world.study)
    folder = Places(config.paths).run(world.study.run_id)
    folder.mkdir(parents=True)
    digest = folder / "table-digest.txt"
    digest.write_text("0" * 64)
    digest.chmod(0o600)

    refused = world.site(name)

    assert isinstance(refused, StorageProblem)
    assert "haemfed study close" in str(refused)


@pytest.mark.slow
def test_a_site_whose_ledger_nobody_can_witness_uploads_nothing_and_says_whom_it_missed(world: World) -> None:
    """Four hospitals, one of which may lie: every other one has to answer, and one does not come."""
    absent = world.names[-1]
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(world.site, world.names[:-1]))

    for each in ended:
        assert isinstance(each, StudyStopped)
        assert "nothing was uploaded from here after this start" in str(each)
        assert f"({absent} had not)" in str(each)
    for name in world.names[:-1]:
        world.nothing_is_locked(name)
        assert world.accounts(name).uploads_of(world.study.run_id) == []


@pytest.mark.slow
def test_what_one_peer_has_seen_stops_a_site_and_not_the_others(world: World) -> None:
    victim = world.names[0]
    config = world.config(victim)
    identity = load_identity(config.paths.identity)
    seen = replace(world.accounts(victim).statement(victim), sequence=50, hash="e" * 64)
    octets = seen.encode()
    with SiteStore(world.config(world.names[2]).paths.database) as store:
        store.witness(WitnessedRow(identity.public, 50, octets, identity.sign(STATEMENT, octets)))

    ended = world.all()

    refused = ended.pop(victim)
    assert isinstance(refused, LedgerCorrupt)
    assert f"not the one that {world.names[2]} have seen up to entry 50" in str(refused)
    assert all(getattr(each, "study", None) == world.study for each in ended.values()), ended
    assert rollback.read(config.data_dir / rollback.NAME, victim, identity.public) == (seen,)
    # Nothing can have been spent by this process: its own run is closed before a recovery would count it as spent.
    assert not world.accounts(victim).is_open(world.study.run_id)
    assert world.accounts(victim).uploads_of(world.study.run_id) == []
    assert not world.keys(victim).exists()
