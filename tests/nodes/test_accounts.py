"""The ledger in the database: reserved before it runs, charged before it is sent, never under-counted."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dp.errors import LedgerCorrupt, NotWitnessed, ReservationExceeded
from dp.ledger import GENESIS
from dp.queries import Account
from dp.witness import Statement
from models.plan import schedule
from nodes.accounts import Accounts
from nodes.approval import _charge, _require_first_without_noise
from nodes.errors import BudgetTooSmall, ConfigError, InternalError, PolicyRefusal, StorageProblem, StudyStopped
from nodes.protocol import spec_of
from nodes.store import LedgerRow, SiteStore
from nodes.study import Study
from secagg.manifest import Noise
from secagg.messages import Sum, Upload
from tests.nodes.studies import NOW, make


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    return SiteStore(tmp_path / "site.sqlite3")


def upload(number: int) -> Upload:
    """One with share boxes: a resend must have them, too."""
    return Upload(1, number, bytes(range(64)), ((2, b"b" * 48), (3, b"c" * 48)))


def granted(store: SiteStore) -> Accounts:
    accounts = Accounts(store, lambda: NOW)
    accounts.grant("training", 2.0, 1e-5)
    accounts.grant("holdout", 2.0, 1e-5)
    return accounts


def confirm(accounts: Accounts, study: Study) -> None:
    """What the peers' receipts do."""
    accounts.mark_witnessed(study.run_id, accounts.statement("alder"))


def begun(accounts: Accounts, uploads: int = 1) -> Study:
    """A run that was approved, reserved and confirmed, with some uploads."""
    study, _ = make()
    accounts.approve(study)
    accounts.open(study)
    confirm(accounts, study)
    send(accounts, study, uploads)
    return study


def send(accounts: Accounts, study: Study, uploads: int = 1) -> None:
    gradient = schedule(spec_of(study))[0]
    first = accounts.last_round(study.run_id) + 1
    for number in range(first, first + uploads):
        accounts.records(study).charge_and_store(gradient, number.to_bytes(32, "big"), upload(number))


def test_a_study_without_a_grant_does_not_fit(store: SiteStore) -> None:
    study, _ = make()

    with pytest.raises(BudgetTooSmall, match="nothing was granted"):
        Accounts(store, lambda: NOW).require_room(study, Account.TRAINING)


def test_a_study_is_reserved_whole_and_only_with_an_approval(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    with pytest.raises(PolicyRefusal, match="not approved"):
        accounts.open(study)
    assert accounts.committed(Account.TRAINING) == 0

    accounts.approve(study)
    accounts.open(study)

    assert accounts.committed(Account.TRAINING) == pytest.approx(study.mu_squared(Account.TRAINING))
    assert Accounts(store, lambda: NOW).is_open(study.run_id)


def test_a_second_study_finds_the_account_used_up(store: SiteStore) -> None:
    (first, _), (second, _) = make(), make()
    accounts = granted(store)
    accounts.approve(first)
    accounts.open(first)

    with pytest.raises(BudgetTooSmall, match="is left"):
        accounts.require_room(second, Account.TRAINING)


def test_an_upload_is_charged_with_its_bytes(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.approve(study)
    accounts.open(study)
    query = schedule(spec_of(study))[0]
    confirm(accounts, study)

    accounts.records(study).charge_and_store(query, b"c" * 32, upload(1))

    again = Accounts(store, lambda: NOW)
    assert again.spent_by(study.run_id, Account.TRAINING) == pytest.approx(1 / query.multiplier**2)
    assert again.records(study).stored_upload(1) == (b"c" * 32, upload(1))
    assert again.records(study).stored_upload(2) is None
    assert [upload.round for upload in again.uploads_of(study.run_id)] == [1]


def test_a_sum_is_kept_with_its_survivors(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.approve(study)
    accounts.open(study)
    roster = ((1, b"n" * 32), (2, b"m" * 32), (4, b"o" * 32))
    totals = [Sum(3, roster, (1, 2, 4), bytes(24)), Sum(5, roster, (1, 4), bytes(32))]
    for position, total in enumerate(totals):
        accounts.records(study).keep_sum(position, total)

    again = Accounts(store, lambda: NOW)
    assert again.sums(study.run_id) == 2
    assert [again.records(study).kept_sum(position) for position in range(2)] == totals
    assert again.last_round(study.run_id) == 5
    with pytest.raises(InternalError, match="sum 2 of study 'test' is not kept"):
        again.records(study).kept_sum(2)


def test_no_upload_beyond_the_reservation(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.approve(study)
    accounts.open(study)
    gradient = schedule(spec_of(study))[0]
    records = accounts.records(study)
    confirm(accounts, study)
    for number in range(1, study.stages[0].uploads + 1):
        records.charge_and_store(gradient, number.to_bytes(32, "big"), upload(number))

    with pytest.raises(ReservationExceeded, match="has used all 66 uploads"):
        records.charge_and_store(gradient, b"x" * 32, upload(100))
    assert len(accounts.uploads_of(study.run_id)) == 66


def test_closing_returns_what_was_not_used_and_ends_the_run(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.approve(study)
    accounts.open(study)
    confirm(accounts, study)
    accounts.records(study).charge_and_store(schedule(spec_of(study))[0], b"c" * 32, upload(1))

    accounts.close(study, "complete")

    assert accounts.state.reserved(Account.TRAINING) == 0
    assert accounts.state.spent(Account.TRAINING) > 0
    with pytest.raises(StudyStopped, match="over at this site"):
        Accounts(store, lambda: NOW).open(study)


def test_a_clock_that_goes_back_does_not_stop_a_study(store: SiteStore) -> None:
    granted(store)

    Accounts(store, lambda: NOW - dt.timedelta(days=3)).grant("training", 3.0, 1e-5)

    entries = [entry.at for entry in store.entries()]
    assert entries == sorted(entries)


def test_an_edited_row_is_found(store: SiteStore, tmp_path: Path) -> None:
    import sqlite3

    granted(store)
    store.close()
    connection = sqlite3.connect(tmp_path / "site.sqlite3")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE ledger SET body = replace(body, '2.0', '9.0') WHERE sequence = 0")
    connection.commit()

    with pytest.raises(LedgerCorrupt, match="entry 0"):
        Accounts(SiteStore(tmp_path / "site.sqlite3"), lambda: NOW)


def test_no_such_account(store: SiteStore) -> None:
    with pytest.raises(ConfigError, match="training and holdout"):
        Accounts(store, lambda: NOW).grant("pocket", 1.0, 1e-5)
    with pytest.raises(ConfigError, match="ε = -1"):
        Accounts(store, lambda: NOW).grant("training", -1.0, 1e-5)


# --- witnessed, resumed, limited -------------------------------------------------------------------


def test_nothing_is_uploaded_before_peers_have_confirmed_this_process(store: SiteStore) -> None:
    accounts = granted(store)
    study, _ = make()
    accounts.approve(study)
    before = accounts.statement("alder")
    accounts.open(study)

    with pytest.raises(NotWitnessed, match="too few hospitals"):
        send(accounts, study)
    with pytest.raises(NotWitnessed, match="does not show"):
        accounts.mark_witnessed(study.run_id, before)  # from before this process began the run
    with pytest.raises(NotWitnessed, match="does not show"):
        accounts.mark_witnessed(study.run_id, replace(accounts.statement("alder"), hash="0" * 64))
    assert accounts.entries == 3
    assert store.stored_upload(study.run_id, 1) is None

    confirm(accounts, study)
    send(accounts, study)
    assert accounts.is_witnessed(study.run_id)


def test_every_process_earns_its_own_confirmation(store: SiteStore) -> None:
    study = begun(granted(store))
    seen = Accounts(store, lambda: NOW).statement("alder")

    again = Accounts(store, lambda: NOW)
    again.open(study)
    assert [entry.kind for entry in again.history][-1] == "resume"
    again.open(study)
    assert [entry.kind for entry in again.history].count("resume") == 1
    with pytest.raises(NotWitnessed):
        again.mark_witnessed(study.run_id, seen)
    with pytest.raises(NotWitnessed):
        send(again, study)
    confirm(again, study)
    send(again, study)


def test_what_a_resumed_run_did_not_use_stays_spent(store: SiteStore) -> None:
    """Uploads may be missing from a ledger that was restored in between."""
    study = begun(granted(store))
    again = Accounts(store, lambda: NOW)
    again.open(study)
    again.close(study, "stopped")

    assert again.state.reserved(Account.TRAINING) == 0
    assert again.state.spent_units(Account.TRAINING) == study.units(Account.TRAINING)


def test_a_run_that_is_only_closed_by_another_process_stays_spent_too(store: SiteStore) -> None:
    study = begun(granted(store))
    again = Accounts(store, lambda: NOW)
    again.close(study, "stopped: given up by a person")

    assert [entry.kind for entry in again.history][-2:] == ["resume", "close"]
    assert again.state.spent_units(Account.TRAINING) == study.units(Account.TRAINING)
    again.close(study, "stopped: given up by a person")
    assert again.outcome(study.run_id) == "stopped: given up by a person"


def test_a_study_above_the_limit_of_one_study(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.grant("training", 2.0, 1e-5, study_epsilon=1.0)
    with pytest.raises(BudgetTooSmall, match=r"one run may take ε = 1"):
        accounts.require_room(study, Account.TRAINING)
    accounts.approve(study)
    with pytest.raises(BudgetTooSmall, match=r"one run may take ε = 1"):
        accounts.open(study)
    assert not accounts.is_open(study.run_id)
    assert store.approved(study.digest())


def test_a_yearly_limit_needs_an_opened_year(store: SiteStore) -> None:
    study, _ = make()
    accounts = granted(store)
    accounts.grant("training", 4.0, 1e-5, year_epsilon=2.5)
    with pytest.raises(BudgetTooSmall, match="no year is open"):
        accounts.require_room(study, Account.TRAINING)
    accounts.open_year(2026)
    begun(accounts)
    other, _ = make()
    with pytest.raises(BudgetTooSmall, match="in the year 2026"):
        accounts.require_room(other, Account.TRAINING)
    with pytest.raises(ConfigError, match="2027 has not begun"):
        accounts.open_year(2027)
    later = Accounts(store, lambda: NOW + dt.timedelta(days=60))
    later.open_year(2027)
    later.require_room(other, Account.TRAINING)
    with pytest.raises(ConfigError, match="2027 is open, and years only go on"):
        later.open_year(2026)


def test_a_grant_of_another_kind_order_or_delta(store: SiteStore) -> None:
    accounts = granted(store)
    for other in ({"kind": "RDP", "order": 32}, {"delta": 1e-6}):
        with pytest.raises(ConfigError, match="since its first grant"):
            accounts.grant(**{"account": "training", "epsilon": 3.0, "delta": 1e-5, **other})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="whole number 2"):
        accounts.grant("training", 3.0, 1e-5, kind="RDP", order=1)
    with pytest.raises(ConfigError, match="GDP or RDP"):
        accounts.grant("training", 3.0, 1e-5, kind="PLD")
    with pytest.raises(ConfigError, match="limit for one year"):
        accounts.grant("training", 3.0, 1e-5, year_epsilon=4.0)
    assert accounts.entries == 2


def test_an_rdp_budget_that_admits_nothing_is_not_granted(store: SiteStore) -> None:
    accounts = Accounts(store, lambda: NOW)
    with pytest.raises(ConfigError, match="every release has an ε above"):
        accounts.grant("training", 0.1, 1e-5, kind="RDP", order=8)
    assert accounts.entries == 0
    accounts.grant("training", 3.0, 1e-5, kind="RDP", order=8)
    assert accounts.summary()[0].budget == "RDP at order 8"


def test_a_study_charges_an_rdp_account_in_its_own_way(store: SiteStore) -> None:
    accounts = Accounts(store, lambda: NOW)
    accounts.grant("training", 4.0, 1e-5, kind="RDP", order=8)
    accounts.grant("holdout", 4.0, 1e-5)
    study = begun(accounts)

    cost = sum(
        uploads * accounts.filter(Account.TRAINING).units(event) for event, uploads in study.charges(Account.TRAINING)
    )
    assert accounts.state.committed_units(Account.TRAINING) == cost
    assert accounts.state.committed_units(Account.HOLDOUT) == study.units(Account.HOLDOUT)


def test_an_older_ledger_is_called_older(store: SiteStore) -> None:
    """Not edited: its hashes are those of another format."""
    body = {"account": "training", "delta": "1e-05", "epsilon": "2.0"}
    # Written by the last version with ledger format 1.
    store.append(
        LedgerRow(
            0,
            GENESIS,
            "grant",
            json.dumps(body, sort_keys=True, separators=(",", ":")),
            "2026-01-01T12:00:00Z",
            "c0735f468893c62fbfcfea88bbd54500ee1709c5717c550d3b29ffc956304204",
        )
    )
    with pytest.raises(LedgerCorrupt, match="older version of haemfed"):
        Accounts(store, lambda: NOW)


def test_two_processes_on_one_ledger(store: SiteStore) -> None:
    """The lock of the directory stops them first; without it, the store does."""
    first, second = granted(store), Accounts(store, lambda: NOW)
    first.grant("training", 3.0, 1e-5)
    with pytest.raises(StorageProblem, match="another process wrote"):
        second.grant("training", 9.0, 1e-5)
    assert second.entries == 2


def test_a_recovery_closes_what_was_open(store: SiteStore, tmp_path: Path) -> None:
    accounts = granted(store)
    study = begun(accounts, uploads=3)
    seen = accounts.statement("alder")
    restored = granted(SiteStore(tmp_path / "restored.sqlite3"))
    other = begun(restored)

    item = restored.recover([seen])

    assert item.heads == ((seen.sequence, seen.hash),)
    assert restored.state.spent_units(Account.TRAINING) == study.units(Account.TRAINING)
    assert restored.state.open_runs() == ()
    assert restored.outcome(other.run_id) == "stopped: the ledger was recovered"
    assert restored.history[-1].sequence == max(seen.sequence, restored.history[-2].sequence) + 1
    restored.approve(study)
    with pytest.raises(StudyStopped):
        restored.open(study)
    with pytest.raises(ConfigError, match="nothing to recover"):
        restored.recover([seen])
    assert Accounts(SiteStore(tmp_path / "restored.sqlite3"), lambda: NOW).state == restored.state


class Killed(BaseException):
    """The process is gone."""


def test_killed_before_the_entry_of_a_recovery_no_bytes_are_left(
    store: SiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And killed at any other place, too: the bytes go first, and the second attempt does the rest."""
    seen = granted(store).statement("alder")
    restored = granted(SiteStore(tmp_path / "restored.sqlite3"))
    restored.grant("training", 3.0, 1e-5)
    study = begun(restored, uploads=2)
    lost = replace(seen, sequence=99, hash="ab" * 32)

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(SiteStore, "append", killed)
    with pytest.raises(Killed):
        restored.recover([lost])
    monkeypatch.undo()
    second = SiteStore(tmp_path / "restored.sqlite3")
    again = Accounts(second, lambda: NOW)
    assert again.is_open(study.run_id)
    assert second.stored_upload(study.run_id, 1) is None  # its bytes are erased

    again.recover([lost])

    assert again.state.open_runs() == ()
    assert again.state.spent_units(Account.TRAINING) == study.units(Account.TRAINING)
    assert again.outcome(study.run_id) == "stopped: the ledger was recovered"


def test_a_recovered_account_needs_a_new_grant(store: SiteStore, tmp_path: Path) -> None:
    """The backup holds a grant of 20; the officer had lowered it to 0.5 since."""
    study, _ = make()
    backup = Accounts(SiteStore(tmp_path / "backup.sqlite3"), lambda: NOW)
    accounts = Accounts(store, lambda: NOW)
    for books in (backup, accounts):
        for account in ("training", "holdout"):
            books.grant(account, 20.0, 1e-5)
    accounts.grant("training", 0.5, 1e-5)
    backup.recover([accounts.statement("alder")])

    assert [line.granted for line in backup.summary()] == [0.0, 0.0]
    backup.approve(study)
    with pytest.raises(BudgetTooSmall, match="whose grant a recovery has cleared"):
        backup.require_room(study, Account.TRAINING)
    with pytest.raises(BudgetTooSmall, match="whose grant a recovery has cleared"):
        backup.open(study)
    for account in ("training", "holdout"):
        backup.grant(account, 20.0, 1e-5)
    backup.open(study)


def test_nothing_to_recover(store: SiteStore) -> None:
    accounts = granted(store)
    with pytest.raises(ConfigError, match="nothing to recover"):
        accounts.recover([])
    with pytest.raises(ConfigError, match="nothing to recover"):
        accounts.recover([accounts.statement("alder")])


def test_a_study_without_noise_makes_an_account_unbounded(store: SiteStore) -> None:
    accounts = granted(store)
    study, _ = make()
    study = msgspec.structs.replace(study, privacy=msgspec.structs.replace(study.privacy, noise=Noise.NONE))
    accounts.require_room(study, Account.TRAINING)
    accounts.approve(study)
    accounts.open(study)
    confirm(accounts, study)

    assert accounts.state.unbounded == {Account.TRAINING, Account.HOLDOUT}
    assert accounts.state.committed_units(Account.TRAINING) == 0
    assert accounts.summary()[0].spent == math.inf
    plain, _ = make()
    assert _charge(plain, Account.TRAINING, accounts).total == math.inf
    assert Statement.decode(accounts.statement("alder").encode()).unbounded == ("holdout", "training")


def test_a_second_study_without_noise_is_refused_after_a_recovery_too(store: SiteStore, tmp_path: Path) -> None:
    """Its entry is lost with the disk; that the accounts are not bounded is not."""
    study, _ = make()
    study = msgspec.structs.replace(study, privacy=msgspec.structs.replace(study.privacy, noise=Noise.NONE))
    again = msgspec.structs.replace(study, run_number=study.run_number + 1)
    accounts, restored = granted(store), granted(SiteStore(tmp_path / "restored.sqlite3"))
    _require_first_without_noise(study, accounts)
    accounts.approve(study)
    accounts.open(study)
    _require_first_without_noise(study, accounts)  # it goes on
    with pytest.raises(PolicyRefusal, match="ledger entry 2"):
        _require_first_without_noise(again, accounts)

    restored.recover([accounts.statement("alder")])

    for each in (study, again):
        with pytest.raises(PolicyRefusal, match="before the ledger was recovered; holdout and training"):
            _require_first_without_noise(each, restored)
