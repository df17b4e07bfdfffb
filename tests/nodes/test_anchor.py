"""The file that remembers where the ledger stood: restored, lost, foreign; and a process killed at any statement."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dp.errors import ForkedLedger, RollbackDetected
from dp.queries import Account
from models.plan import schedule
from nodes import accounts as ledgers
from nodes import anchor as anchors
from nodes import files
from nodes.accounts import Accounts
from nodes.anchor import Anchor
from nodes.errors import ConfigError, StorageProblem
from nodes.protocol import spec_of
from nodes.store import SiteStore
from nodes.store import site as stores
from nodes.study import Study
from secagg.messages import Upload
from tests.nodes.studies import NOW, make


class Place:
    """A site's data directory with its database, and the anchor beside it."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.anchor = root / "data.anchor"

    @property
    def database(self) -> Path:
        return self.data / "haemfed.sqlite3"

    def open(self, *, restoring: bool = False) -> Accounts:
        anchor = Anchor(self.anchor, "alder")
        return Accounts(SiteStore(self.database), lambda: NOW, anchor, restoring=restoring)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_entry_is_anchored_outside_the_data_directory(place: Place) -> None:
    accounts = place.open()
    assert not place.anchor.exists()
    for epsilon in (2.0, 3.0):
        accounts.grant("training", epsilon, 1e-5)
        assert Anchor(place.anchor, "alder").read() == accounts.statement("alder")
    assert place.anchor.stat().st_mode & 0o777 == 0o600
    assert place.open().entries == 2


def test_a_restored_data_directory_is_noticed(place: Place, tmp_path: Path) -> None:
    place.open().grant("training", 2.0, 1e-5)
    shutil.copytree(place.data, tmp_path / "backup")
    place.open().grant("training", 3.0, 1e-5)
    shutil.rmtree(place.data)
    shutil.copytree(tmp_path / "backup", place.data)

    with pytest.raises(
        RollbackDetected, match=r"data.anchor: the ledger of alder ends at entry 0, and entry 1 was seen"
    ):
        place.open()

    recovering = place.open(restoring=True)
    recovering.recover([])
    assert [entry.kind for entry in place.open().history] == ["grant", "recover"]
    assert place.open().history[-1].sequence == 2


def test_a_copy_that_went_on_is_noticed(place: Place, tmp_path: Path) -> None:
    place.open().grant("training", 2.0, 1e-5)
    shutil.copytree(place.data, tmp_path / "backup")
    place.open().grant("training", 3.0, 1e-5)
    shutil.rmtree(place.data)
    shutil.copytree(tmp_path / "backup", place.data)
    Accounts(SiteStore(place.database), lambda: NOW).grant("training", 4.0, 1e-5)

    with pytest.raises(ForkedLedger, match="both copies went on"):
        place.open()


def test_a_missing_anchor_stops_until_a_person_says_so(place: Place) -> None:
    place.open().grant("training", 2.0, 1e-5)
    place.anchor.unlink()
    with pytest.raises(RollbackDetected, match=r"data.anchor is missing: .* haemfed budget recover"):
        place.open()

    place.open(restoring=True).recover([])

    assert [entry.kind for entry in place.open().history] == ["grant", "recover"]
    with pytest.raises(ConfigError, match="nothing to recover"):
        place.open(restoring=True).recover([])


@pytest.mark.parametrize("entries", [1, 5])
def test_an_anchor_that_is_behind_is_no_rollback(place: Place, entries: int) -> None:
    """After a crash by one entry, after a restore of the anchor alone by any number: the ledger leads on from it."""
    place.open().grant("training", 2.0, 1e-5)
    old = place.anchor.read_bytes()
    for _ in range(entries):
        place.open().grant("training", 3.0, 1e-5)
    place.anchor.write_bytes(old)

    assert place.open().entries == 1 + entries


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 10, b"0" * 100_000])
def test_a_damaged_anchor(place: Place, content: bytes) -> None:
    place.open().grant("training", 2.0, 1e-5)
    place.anchor.write_bytes(content)
    with pytest.raises(StorageProblem, match=r"data\.anchor: "):
        place.open()


def test_the_anchor_of_another_site(place: Place) -> None:
    place.open().grant("training", 2.0, 1e-5)
    with pytest.raises(StorageProblem, match="the anchor of site 'alder', not of 'birch'"):
        Accounts(SiteStore(place.database), lambda: NOW, Anchor(place.anchor, "birch"))


def test_an_anchor_that_others_may_write(place: Place) -> None:
    place.open().grant("training", 2.0, 1e-5)
    place.anchor.chmod(0o666)
    with pytest.raises(StorageProblem, match="chmod 600"):
        place.open()


def test_an_anchor_that_cannot_be_written_stops_before_anything_is_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = place.open()
    study = begun(accounts)

    monkeypatch.setattr(files, "write", _full)
    with pytest.raises(StorageProblem, match=r"anchor of the ledger cannot be written \(no space left\)"):
        send(accounts, study, 2)
    monkeypatch.undo()

    assert len(place.open().uploads_of(study.run_id)) == 2  # charged, and never sent: over-counted


def test_a_grant_whose_anchor_cannot_be_written_says_that_it_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = place.open()
    monkeypatch.setattr(files, "write", _full)
    with pytest.raises(StorageProblem, match=r"grant of ε = 2 to the training account is in the ledger and counts"):
        accounts.grant("training", 2.0, 1e-5)
    with pytest.raises(StorageProblem, match=r"the year 2026 is in the ledger and counts; do not repeat it"):
        accounts.open_year(2026)
    with pytest.raises(StorageProblem, match=r"the recovery is in the ledger and counts; do not repeat it"):
        place.open(restoring=True).recover([])
    monkeypatch.undo()

    with pytest.raises(RollbackDetected, match="is missing"):
        place.open()
    assert [entry.kind for entry in place.open(restoring=True).history] == ["grant", "open-year", "recover"]


def _full(*_: Any, **__: Any) -> None:
    raise StorageProblem("no space left")


# --- killed at every statement ---------------------------------------------------------------------

_TRACED = {module.__file__ for module in (ledgers, anchors, files, stores)}


def begun(accounts: Accounts) -> Study:
    """A run with one upload."""
    study, _ = make()
    for account in ("training", "holdout"):
        accounts.grant(account, 2.0, 1e-5)
    accounts.approve(study)
    accounts.open(study)
    accounts.mark_witnessed(study.run_id, accounts.statement("alder"))
    send(accounts, study, 1)
    return study


def send(accounts: Accounts, study: Study, number: int) -> None:
    records = accounts.records(study)
    records.charge_and_store(schedule(spec_of(study))[0], number.to_bytes(32, "big"), Upload(1, number, bytes(64)))


def killed_at(statement: int, place: Place, study: Study) -> bool:
    """Upload once more in a child that dies before its n-th statement; False if it had finished by then."""
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here, whatever happens
        try:
            accounts = place.open()
            accounts.open(study)
            accounts.mark_witnessed(study.run_id, accounts.statement("alder"))
            left = [statement]

            def trace(frame: FrameType, event: str, _: Any) -> Any:
                if frame.f_code.co_filename in _TRACED:
                    left[0] -= event == "line"
                    if left[0] < 0:
                        os._exit(9)
                return trace

            sys.settrace(trace)
            send(accounts, study, accounts.last_round(study.run_id) + 1)
            sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.slow
def test_killed_at_every_statement_of_an_upload(place: Place, tmp_path: Path) -> None:
    """Ledger, bytes, round number and anchor: after any kill they fit, and nothing is under-counted."""
    study = begun(place.open())
    unit = place.open().units_of(study.run_id, Account.TRAINING)
    statement, outcomes = 0, set()
    while True:
        root = tmp_path / str(statement)
        shutil.copytree(place.data, root / "data")
        shutil.copy2(place.anchor, root / "data.anchor")
        here = Place(root)

        killed = killed_at(statement, here, study)

        after = here.open()  # the chain verifies, and the anchor is not ahead of it
        uploads = after.uploads_of(study.run_id)
        last = after.last_round(study.run_id)
        assert [upload.round for upload in uploads] == list(range(1, last + 1))
        assert after.units_of(study.run_id, Account.TRAINING) == last * unit
        stored = after.records(study).stored_upload(last)
        assert stored is not None
        assert stored[0] == last.to_bytes(32, "big") == bytes.fromhex(uploads[-1].context)
        held = Anchor(here.anchor, "alder").read()
        assert held is not None
        assert after.history[-1].sequence - held.sequence in (0, 1)
        outcomes.add((last, after.history[-1].sequence - held.sequence))
        if not killed:
            break
        statement += 1
    assert statement > 30
    assert len(outcomes) >= 3  # before the charge, between charge and anchor, after both
