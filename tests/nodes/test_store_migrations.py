"""A database of an earlier version is brought up to date when it is opened, and loses nothing."""

import importlib.resources
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from nodes.store import CoordinatorStore, SiteStore, StoredUpload, SumEntry
from nodes.store.database import Role
from tests.nodes.rows import ROSTER, RUN, STUDY, row, total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haemfed.sqlite3"


def old_database(path: Path, role: Role) -> sqlite3.Connection:
    """A database as the first schema made it, with one run in it."""
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files("nodes") / "migrations" / role))
    with create_engine(f"sqlite:///{path}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, f"{role}_0001")
    return sqlite3.connect(path)


OLD_ROSTER = '[[1,"' + "6e" * 32 + '"],[4,"' + "6d" * 32 + '"]]'


def test_a_site_of_the_first_schema_keeps_its_history(path: Path) -> None:
    old = old_database(path, "site")
    for number in range(2):
        entry = row(number)
        old.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", tuple(vars(entry).values()))
    old.execute("INSERT INTO run VALUES (?, ?, 7, NULL, 0)", (RUN, STUDY))
    old.execute("INSERT INTO upload VALUES (?, 7, ?, ?, 1)", (RUN, b"c" * 32, b"words"))
    for position in range(2):
        old.execute("INSERT INTO sum VALUES (?, ?, ?, ?, ?)", (RUN, position, 3 + position, OLD_ROSTER, b"first"))
    old.commit()
    old.close()

    with SiteStore(path) as store:
        assert [store.sum_at(RUN, position) for position in range(2)] == [total(0, 3, b"first"), total(1, 4, b"first")]
        assert store.entries() == [row(0), row(1)]
        assert store.stored_upload(RUN, 7) == StoredUpload(7, b"c" * 32, b"words")
        store.add_sum(RUN, total(2, 8, b"third", survivors=(1,)))
    by_hand = sqlite3.connect(path)
    for statement in ("UPDATE sum SET survivors = ''", "DELETE FROM sum"):
        with pytest.raises(sqlite3.IntegrityError, match="history"):
            by_hand.execute(statement)


def test_a_coordinator_of_the_first_schema_keeps_its_sums(path: Path) -> None:
    old = old_database(path, "coordinator")
    old.execute("INSERT INTO run VALUES (?, 3, '1 4', 0, NULL, NULL)", (RUN,))
    old.execute("INSERT INTO sum VALUES (?, 0, 3, ?, ?)", (RUN, OLD_ROSTER, b"first"))
    old.commit()
    old.close()

    with CoordinatorStore(f"sqlite:///{path}") as store:
        assert store.history(RUN) == [SumEntry(0, 3, ROSTER, (1, 4), 5)]
        store.add_sum(RUN, total(0, 3, b"first"))
        store.add_sum(RUN, total(1, 4, b"second"))
