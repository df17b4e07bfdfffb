"""What a coordinator keeps, in SQLite and in PostgreSQL."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.errors import ConfigError, InternalError, StudyStopped
from nodes.store import CoordinatorStore, StoredSetup, SumEntry
from tests.nodes.rows import ROSTER, RUN, total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haemfed.sqlite3"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    if not (given := os.environ.get("HAEMFED_TEST_POSTGRES")):
        pytest.skip("HAEMFED_TEST_POSTGRES names no empty PostgreSQL database")
    return given


def test_coordinator(url: str) -> None:
    first = total(0, 3, b"the first sum", survivors=(4,))
    with CoordinatorStore(url) as store:
        assert (store.state(RUN), store.last_round(RUN), store.history(RUN), store.setup(RUN)) == (
            None,
            0,
            [],
            [],
        )
        store.add_setup(RUN, "Bundle", 2, b"bundle 2")
        store.add_setup(RUN, "Bundle", 1, b"bundle 1")
        store.add_setup(RUN, "Bundle", 2, b"bundle 2")
        store.add_setup(RUN, "Bundles", 0, b"all bundles")
        store.set_last_round(RUN, 3, (1, 2, 3), 0)
        store.add_sum(RUN, first)
        store.add_sum(RUN, first)
        for number, changes in ((3, 0), (2, 1), (0, 9)):
            with pytest.raises(InternalError, match="rounds only grow"):
                store.set_last_round(RUN, number, (1, 2), changes)
        store.set_last_round(RUN, 3, (2, 3), 1)  # one has dropped out of it
        with pytest.raises(InternalError, match="rounds only grow"):
            store.set_last_round(RUN, 4, (2, 3), 0)
        for other in (total(0, 3, b"other"), replace(first, survivors=(1, 4))):
            with pytest.raises(InternalError, match="does not follow"):
                store.add_sum(RUN, other)
        with pytest.raises(InternalError, match="does not follow"):
            store.add_sum(RUN, total(2, 4, b"third"))

    with CoordinatorStore(url) as store:
        assert store.setup(RUN) == [
            StoredSetup("Bundle", 2, b"bundle 2"),
            StoredSetup("Bundle", 1, b"bundle 1"),
            StoredSetup("Bundles", 0, b"all bundles"),
        ]
        assert store.last_round(RUN) == 3
        assert store.history(RUN) == [SumEntry(0, 3, ROSTER, (4,), 13)]
        pieces = [store.words(RUN, 0, offset, 5) for offset in range(0, 15, 5)]
        assert pieces == [b"the f", b"irst ", b"sum"]
        assert (store.words(RUN, 0, 13, 5), store.words(RUN, 1, 0, 5)) == (b"", b"")
        store.finish(RUN, "complete", ok=True)
        store.finish(RUN, "complete", ok=True)
        with pytest.raises(InternalError, match="ended before as 'complete'"):
            store.finish(RUN, "patience", ok=False)
        for late in (
            lambda: store.set_last_round(RUN, 9, (1,), 0),
            lambda: store.add_sum(RUN, total(1, 9, b"late")),
            lambda: store.add_setup(RUN, "Ready", 1, b"late"),
        ):
            with pytest.raises(StudyStopped, match="ended \\(complete\\)"):
                late()
        state = store.state(RUN)
        assert state is not None
        assert (state.reason, state.ok, state.sums) == ("complete", True, 1)
        assert (state.last_round, state.roster, state.changes) == (3, (2, 3), 1)


def test_a_run_that_ends_before_anything_happened(path: Path) -> None:
    with CoordinatorStore(f"sqlite:///{path}") as store:
        store.finish(RUN, "nobody came", ok=False)
        state = store.state(RUN)
        assert state is not None
        assert (state.reason, state.ok) == ("nobody came", False)


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://h/d", "postgresql+nodriver://h/d"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="database: not a usable URL"):
        CoordinatorStore(url)
