"""The ledger in the database: reserved before it runs, charged before it is sent, never under-counted."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from dp.errors import LedgerCorrupt, ReservationExceeded
from dp.queries import Account
from models.plan import schedule
from nodes.accounts import Accounts
from nodes.errors import BudgetTooSmall, ConfigError, InternalError, PolicyRefusal, StudyStopped
from nodes.protocol import spec_of
from nodes.store import SiteStore
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


def test_a_study_without_a_grant_does_not_fit(store: SiteStore) -> None:
    study, _ = make()

    with pytest.raises(BudgetTooSmall, match="haemfed budget grant training"):
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
    with pytest.raises(ConfigError, match="--epsilon -1"):
        Accounts(store, lambda: NOW).grant("training", -1.0, 1e-5)
