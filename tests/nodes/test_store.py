"""What is written together is true together, history does not change, and errors name the path."""

import hashlib
import importlib.resources
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from nodes.errors import (
    InternalError,
    PeerProblem,
    PolicyRefusal,
    StorageProblem,
    StudyStopped,
)
from nodes.store import CoordinatorStore, SiteStore, StoredUpload, WitnessedRow
from nodes.store.database import HEADS, Role
from nodes.store.tables import CoordinatorTables, SiteTables
from tests.nodes.rows import ROSTER, RUN, STUDY, row, total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haemfed.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SiteStore]:
    with SiteStore(path) as opened:
        yield opened


@pytest.fixture
def running(store: SiteStore) -> SiteStore:
    store.approve(STUDY, "2026-11-25T12:00:00Z")
    store.open_run(RUN, STUDY, row(0))
    return store


def test_ledger_is_a_chain_that_another_process_cannot_fork(store: SiteStore, path: Path) -> None:
    store.append(row(0))
    store.append(row(1))

    assert store.entries() == [row(0), row(1)]
    for wrong in (row(1), row(3), row(2, previous="f" * 64)):
        with pytest.raises(StorageProblem, match=f"{path}: ledger entry {wrong.sequence} does not follow"):
            store.append(wrong)
    with SiteStore(path) as other:
        other.append(row(2))
    with pytest.raises(StorageProblem, match="another process"):
        store.append(row(2, previous=row(1).hash))
    assert len(store.entries()) == 3


def test_a_run_needs_an_approval_and_uses_it_up(store: SiteStore) -> None:
    with pytest.raises(PolicyRefusal, match="not approved"):
        store.open_run(RUN, STUDY, row(0))
    assert store.entries() == []
    store.approve(STUDY, "now")
    store.approve(STUDY, "again: two clicks are not two runs")
    assert store.approved(STUDY)

    store.open_run(RUN, STUDY, row(0))

    assert not store.approved(STUDY)
    with pytest.raises(PolicyRefusal, match="not approved"):
        store.open_run(b"2" * 32, STUDY, row(1))
    with pytest.raises(PolicyRefusal, match="used before"):
        store.open_run(RUN, STUDY, row(1))
    store.approve(STUDY, "later")
    with pytest.raises(PolicyRefusal, match="used before"):
        store.open_run(RUN, STUDY, row(1))
    assert store.approved(STUDY)
    assert store.entries() == [row(0)]
    store.open_run(b"2" * 32, STUDY, row(1))
    assert [run.run_id for run in store.runs()] == [RUN, b"2" * 32]


def test_an_upload_is_charged_and_stored_together(running: SiteStore) -> None:
    running.record_upload(row(1), RUN, 7, b"c" * 32, b"words")

    assert running.stored_upload(RUN, 7) == StoredUpload(7, b"c" * 32, b"words")
    assert running.last_round(RUN) == 7
    assert running.entries()[-1] == row(1)


def test_rounds_only_grow_and_a_refused_upload_leaves_nothing(running: SiteStore) -> None:
    running.record_upload(row(1), RUN, 7, b"c" * 32, b"words")

    for number in (7, 6, 0):
        with pytest.raises(InternalError, match="rounds only grow"):
            running.record_upload(row(2), RUN, number, b"d" * 32, b"other")
    with pytest.raises(StorageProblem, match="break its history"):
        running.record_upload(row(2), RUN, 8, b"c" * 32, b"a context used twice")
    with pytest.raises(StorageProblem, match="does not follow"):
        running.record_upload(row(4), RUN, 8, b"d" * 32, b"other")
    with pytest.raises(InternalError, match="never opened"):
        running.record_upload(row(2), b"?" * 32, 8, b"d" * 32, b"other")
    assert running.entries() == [row(0), row(1)]
    assert running.last_round(RUN) == 7
    assert running.stored_upload(RUN, 8) is None


def test_upload_bytes_are_gone_from_the_disk_once_useless(running: SiteStore, path: Path) -> None:
    first, second = hashlib.sha256(b"1").digest() * 1000, hashlib.sha256(b"2").digest() * 1000
    running.record_upload(row(1), RUN, 1, b"c" * 32, first)
    assert first[:64] in path.read_bytes()

    running.record_upload(row(2), RUN, 2, b"d" * 32, second)
    assert running.stored_upload(RUN, 1) is None
    assert first[:64] not in path.read_bytes()

    running.close_run(RUN, "complete")
    assert running.stored_upload(RUN, 2) is None
    assert second[:64] not in path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_closed_run_takes_nothing_and_stays_closed(running: SiteStore) -> None:
    running.close_run(RUN, "complete", row(1))
    running.close_run(RUN, "complete", row(1))

    with pytest.raises(StudyStopped, match="closed \\(complete\\)"):
        running.record_upload(row(2), RUN, 1, b"c" * 32, b"words")
    with pytest.raises(StudyStopped, match="closed"):
        running.add_sum(RUN, total(0, 1, b"sum"))
    with pytest.raises(InternalError, match="cannot be closed as 'stopped'"):
        running.close_run(RUN, "stopped")
    state = running.run_state(RUN)
    assert state is not None
    assert state.outcome == "complete"
    assert running.entries() == [row(0), row(1)]


def test_sums_are_kept_once_in_order(running: SiteStore) -> None:
    first, second = total(0, 3, b"first"), total(1, 5, b"second", survivors=(4,))
    running.add_sum(RUN, first)
    running.add_sum(RUN, first)
    running.add_sum(RUN, second)

    assert [running.sum_at(RUN, position) for position in range(3)] == [first, second, None]
    assert running.sum_at(b"?" * 32, 0) is None
    for other in (
        total(0, 4, b"first"),
        replace(first, roster=ROSTER[:1]),
        total(0, 3, b"other"),
        replace(first, survivors=(1,)),
    ):
        with pytest.raises(PeerProblem, match="two histories"):
            running.add_sum(RUN, other)
    with pytest.raises(InternalError, match="gap"):
        running.add_sum(RUN, total(3, 9, b"fourth"))
    assert running.run_state(RUN) == running.runs()[0]
    assert running.runs()[0].sums == 2
    assert running.last_summed_round(RUN) == 5
    assert running.summed_rounds(RUN) == [3, 5]


STATEMENTS = [
    "DELETE FROM ledger",
    "UPDATE ledger SET body = '{}'",
    "DELETE FROM run",
    "UPDATE run SET last_round = 0",
    "UPDATE run SET study_digest = x'00'",
    "DELETE FROM approval",
    "UPDATE approval SET run_id = NULL",
    "DELETE FROM upload",
    "UPDATE upload SET payload = x'00'",
    "UPDATE upload SET context = x'00'",
    "DELETE FROM sum",
    "UPDATE sum SET words = x'00'",
    "INSERT OR REPLACE INTO ledger VALUES (0, '', 'grant', '{}', '', 'x')",
    "INSERT INTO ledger VALUES (2, 'x', 'grant', '{}', '', 'y')",
    "INSERT INTO ledger VALUES (9, (SELECT hash FROM ledger WHERE sequence = 1), '', '', '', 'y')",
    "INSERT OR REPLACE INTO run SELECT run_id, study_digest, 0, NULL, reserved_by FROM run",
    "INSERT OR REPLACE INTO upload SELECT run_id, round, context, x'00', charged_by FROM upload",
    "UPDATE sum SET survivors = '1'",
    "INSERT OR REPLACE INTO sum SELECT run_id, position, round, roster, x'00', survivors FROM sum",
]


def test_history_does_not_change_even_by_hand(running: SiteStore, path: Path) -> None:
    running.record_upload(row(1), RUN, 7, b"c" * 32, b"words")
    running.add_sum(RUN, total(0, 3, b"first"))

    by_hand = sqlite3.connect(path)
    for statement in STATEMENTS:
        with pytest.raises(sqlite3.IntegrityError, match="history"):
            pytest.fail(f"{by_hand.execute(statement).rowcount} rows: {statement}")
        by_hand.rollback()
    by_hand.close()


def test_reopening_finds_everything(running: SiteStore, path: Path) -> None:
    running.record_upload(row(1), RUN, 7, b"c" * 32, b"words")
    running.close()

    with SiteStore(path) as again:
        assert again.stored_upload(RUN, 7) == StoredUpload(7, b"c" * 32, b"words")
        assert again.entries() == [row(0), row(1)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_database_that_is_not_ours(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE patients (name TEXT)")
    foreign.close()

    with pytest.raises(StorageProblem, match=f"{path}: holds tables that are not haemfed's"):
        SiteStore(path)


def test_a_newer_database_and_one_of_the_other_role(store: SiteStore, path: Path, tmp_path: Path) -> None:
    store.close()
    newer = sqlite3.connect(path)
    newer.execute("UPDATE alembic_version SET version_num = 'site_9999'")
    newer.commit()
    newer.close()
    with pytest.raises(StorageProblem, match=f"{path}: schema 'site_9999' .*newer haemfed.*: install"):
        SiteStore(path)

    CoordinatorStore(f"sqlite:///{tmp_path / 'other'}").close()
    with pytest.raises(StorageProblem, match="for another role"):
        SiteStore(tmp_path / "other")


def test_damage(store: SiteStore, path: Path, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "text").write_text("this is not a database, it is a letter to the editor" * 100)
    with pytest.raises(StorageProblem, match=f"{tmp_path / 'text'}: damaged; restore"):
        SiteStore(tmp_path / "text")
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StorageProblem, match=f"{path}: damaged; restore"), SiteStore(path) as damaged:
        damaged.entries()


def test_disk_full_loses_nothing(running: SiteStore, path: Path) -> None:
    pages = sqlite3.connect(path).execute("PRAGMA page_count").fetchone()[0]
    with running._database.read() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")

    with pytest.raises(StorageProblem, match=f"{path}: no space left"):
        running.record_upload(row(1), RUN, 1, b"c" * 32, b"x" * 100_000)

    assert running.entries() == [row(0)]
    assert running.last_round(RUN) == 0


def test_locked(running: SiteStore, path: Path) -> None:
    with running._database.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StorageProblem, match=f"{path}: in use by another process"):
        running.append(row(1))
    other.rollback()
    running.append(row(1))


def test_what_a_write_read_stays_true_until_it_writes(running: SiteStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, timeout=0)

    with running._database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem, match="missing"):
        SiteStore(tmp_path / "missing" / "haemfed.sqlite3")


def test_durability_is_what_the_docstring_says(store: SiteStore) -> None:
    with store._database.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        }
    assert settings == {"journal_mode": "delete", "synchronous": 3, "secure_delete": 1, "foreign_keys": 1}


@pytest.mark.parametrize(("role", "tables"), [("site", SiteTables), ("coordinator", CoordinatorTables)])
def test_migrations_make_the_declared_tables(
    role: Role, tables: type[SiteTables | CoordinatorTables], path: Path
) -> None:
    (SiteStore(path) if role == "site" else CoordinatorStore(f"sqlite:///{path}")).close()

    with create_engine(f"sqlite:///{path}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files("nodes") / "migrations" / role))
    assert ScriptDirectory.from_config(config).get_heads() == [HEADS[role]]


def test_a_copied_directory_is_a_database_of_its_own(running: SiteStore, path: Path, tmp_path: Path) -> None:
    """Nothing in a file can tell a copy from the original; that is what session nonces are for."""
    shutil.copy(path, tmp_path / "copy")
    with SiteStore(tmp_path / "copy") as copy:
        assert copy.entries() == running.entries()


PEER = WitnessedRow(b"p" * 32, 7, b"a statement", b"s" * 64)


def test_what_is_held_of_a_peer_is_replaced_by_later_statements_only(store: SiteStore, path: Path) -> None:
    other = replace(PEER, identity=b"q" * 32, sequence=3)
    assert store.witnessed(PEER.identity) is None
    for row_ in (PEER, other, replace(PEER, sequence=9, statement=b"a later one")):
        store.witness(row_)

    with SiteStore(path) as again:
        assert again.witnessed(PEER.identity) == replace(PEER, sequence=9, statement=b"a later one")
        assert again.witnessed(other.identity) == other
    with pytest.raises(InternalError, match="entry 8 cannot replace one about entry 9"):
        store.witness(replace(PEER, sequence=8))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM witnessed",
        "UPDATE witnessed SET sequence = 6",
        "UPDATE witnessed SET identity = X'00'",
        "INSERT OR REPLACE INTO witnessed SELECT identity, 1, statement, signature FROM witnessed",
    ],
)
def test_what_is_held_does_not_go_back_even_by_hand(store: SiteStore, path: Path, statement: str) -> None:
    store.witness(PEER)
    by_hand = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="history"):
        by_hand.execute(statement)
    assert store.witnessed(PEER.identity) == PEER


def test_a_recovery_alone_leaves_numbers_of_the_ledger_out(store: SiteStore, path: Path) -> None:
    store.append(row(0))
    jump = replace(row(8), kind="recover", previous=row(0).hash)
    back = replace(jump, sequence=0, hash="b" * 64)
    with pytest.raises(StorageProblem, match="entry 0 does not follow"):
        store.append(back)
    store.append(jump)
    with pytest.raises(StorageProblem, match="entry 11 does not follow"):
        store.append(replace(row(11), previous=jump.hash))
    store.append(replace(row(9), previous=jump.hash))

    assert [each.sequence for each in store.entries()] == [0, 8, 9]
    by_hand = sqlite3.connect(path)
    for kind, sequence in (("upload", 12), ("recover", 9), ("recover", 3)):
        entry = replace(row(sequence), kind=kind, previous=store.entries()[-1].hash, hash="c" * 64)
        with pytest.raises(sqlite3.IntegrityError, match="history"):
            by_hand.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", tuple(vars(entry).values()))
