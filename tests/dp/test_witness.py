"""Statements, links, extensions and recoveries, one at a time; `test_witness_histories` has all of them at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.budget import BudgetKind, Filter
from dp.errors import (
    BudgetOfAnotherKind,
    DPError,
    ForkedLedger,
    LedgerCorrupt,
    MisuseError,
    RollbackDetected,
)
from dp.ledger import (
    GENESIS,
    MOST_OPEN_RUNS,
    Close,
    Grant,
    Head,
    Recover,
    Resume,
    State,
    Upload,
    fold,
)
from dp.witness import LARGEST_STATEMENT, Statement, extends, links, quorum, recovery, statement
from tests.dp.copies import EVENT, HOLDOUT, STUDY, TRAINING, UNITS, UPLOADS, Copy, reserve, run_id


@pytest.mark.parametrize("sites", range(3, 12))
def test_two_quorums_share_an_honest_peer(sites: int) -> None:
    for collusion in range(sites - 1):
        enough = quorum(sites, collusion)
        assert 2 * enough - (sites - 1) > collusion  # overlap, even if all colluding peers are in it
        assert collusion + 1 <= enough <= sites - 1
        assert 2 * (enough - 1) - (sites - 1) <= collusion or enough == collusion + 1  # and no smaller one would do
    with pytest.raises(MisuseError, match="no honest peer"):
        quorum(sites, sites - 1)


# --- one story at a time ---------------------------------------------------------------------------


def book(uploads: int = 2) -> Copy:
    copy = Copy()
    copy.add(Grant(TRAINING, 3.0, 1e-5))
    copy.add(Grant(HOLDOUT, 1.0, 1e-5))
    copy.add(reserve(1))
    for number in range(1, uploads + 1):
        copy.add(Upload(STUDY, run_id(1), number, f"{number:064x}", EVENT))
    return copy


def said(copy: Copy, site: str = "alder") -> Statement:
    return statement(copy.state, site)


def test_a_statement_says_public_numbers_only() -> None:
    seen = said(book())

    assert json.loads(seen.encode()) == {
        "committed": {"holdout": "0", "training": str(UPLOADS * UNITS)},
        "filters": {"holdout": "GDP 1e-05", "training": "GDP 1e-05"},
        "format": "haemfed/ledger-statement/v1",
        "hash": seen.hash,
        "runs": [run_id(1)],
        "sequence": 4,
        "site": "alder",
        "unbounded": [],
    }
    assert Statement.decode(seen.encode()) == seen


def test_an_empty_ledger_has_a_statement() -> None:
    seen = statement(State(), "alder")

    assert (seen.sequence, seen.hash) == (-1, GENESIS)
    assert Statement.decode(seen.encode()) == seen
    extends(seen, said(book()), links(book().entries, -1))


def test_the_largest_statement_fits() -> None:
    runs = tuple(sorted(run_id(number) for number in range(MOST_OPEN_RUNS)))
    seen = replace(said(book()), runs=runs, site="a" * 63)

    assert len(seen.encode()) < LARGEST_STATEMENT
    assert Statement.decode(seen.encode()) == seen


@pytest.mark.parametrize(
    "change",
    [
        {"site": "Alder"},
        {"site": ""},
        {"sequence": -2},
        {"sequence": True},
        {"sequence": -1},
        {"hash": GENESIS},
        {"hash": "x" * 64},
        {"committed": {"training": -1}},
        {"committed": {"pocket": 1}},
        {"committed": {}},
        {"filters": {"holdout": "GDP 1e-05", "training": "RDP 1e-05"}},
        {"filters": {"holdout": "GDP 1e-05", "training": "GDP 1e-5"}},
        {"runs": ("ff", "00")},
        {"runs": ("ff", "ff")},
        {"runs": ("FF",)},
        {"runs": tuple(f"{number:03x}" for number in range(MOST_OPEN_RUNS + 1))},
        {"unbounded": ("training", "holdout")},
        {"unbounded": ("pocket",)},
    ],
)
def test_statements_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(LedgerCorrupt, match="not a ledger statement"):
        Statement.decode(replace(said(book()), **change).encode())


@pytest.mark.parametrize("octets", [b"", b"{}", b"[]", b"\xff", b"[" * 70_000, b'{"site":"a"}', b"null"])
def test_octets_that_are_no_statement(octets: bytes) -> None:
    with pytest.raises(LedgerCorrupt):
        Statement.decode(octets)


@settings(max_examples=60, deadline=None)
@given(octets=st.binary(max_size=200) | st.text().map(str.encode))
def test_decoding_raises_one_error_only(octets: bytes) -> None:
    with pytest.raises(LedgerCorrupt):
        Statement.decode(octets)


def test_another_spelling_is_another_statement() -> None:
    octets = said(book()).encode()
    with pytest.raises(LedgerCorrupt):
        Statement.decode(octets.replace(b'":', b'": ', 1))
    with pytest.raises(LedgerCorrupt):
        Statement.decode(octets[:-1] + b',"more":1}')


def test_links_prove_the_way_and_show_no_body() -> None:
    copy = book()
    early, late = said(Copy(copy.entries[:2])), said(copy)
    chain = links(copy.entries, early.sequence)

    extends(early, late, chain)
    extends(early, late, links(copy.entries, -1))  # more than needed
    extends(late, late, ())
    assert [link.body for link in chain] == [None] * 3
    assert "epsilon" not in repr(links(copy.entries, -1))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("change", [{"at": "2026-01-01T13:00:00Z"}, {"body_digest": "0" * 64}, {"kind": "close"}])
def test_an_edited_link_proves_nothing(place: int, change: dict[str, str]) -> None:
    copy = book()
    chain = list(links(copy.entries, 1))
    chain[place] = replace(chain[place], **change)
    with pytest.raises(LedgerCorrupt, match="link"):
        extends(said(Copy(copy.entries[:2])), said(copy), chain)


def test_links_that_begin_too_late_are_asked_for_again() -> None:
    copy = book()
    with pytest.raises(MisuseError, match="links from entry 2 on are needed"):
        extends(said(Copy(copy.entries[:2])), said(copy), links(copy.entries, 2))
    with pytest.raises(MisuseError, match="do not end in entry 4"):
        extends(said(Copy(copy.entries[:2])), said(copy), links(copy.entries[:-1], 1))
    with pytest.raises(MisuseError, match="do not end"):
        extends(said(Copy(copy.entries[:2])), said(copy), ())
    with pytest.raises(MisuseError, match="alder is not held against one of birch"):
        extends(said(copy, "birch"), said(copy), ())


def test_a_restored_ledger_is_behind() -> None:
    copy = book()
    restored = Copy(copy.entries[:3])
    with pytest.raises(RollbackDetected, match="ends at entry 2, and entry 4 was seen"):
        extends(said(copy), said(restored), links(restored.entries, -1))


@pytest.mark.parametrize("more", [1, 2, 5])
def test_cloned_ledger_fork(more: int) -> None:
    """Two copies of one directory go on separately; however far the other is, it does not contain what was seen."""
    first, second = book(0), book(0)
    first.add(Resume(run_id(1), "aa"))
    second.add(Resume(run_id(1), "bb"))
    for number in range(2, more + 1):
        second.add(reserve(number))
    with pytest.raises(ForkedLedger, match="both copies went on"):
        extends(said(first), said(second), links(second.entries, said(first).sequence))
    with pytest.raises(ForkedLedger):
        extends(said(first), said(second), links(second.entries, -1))


def test_two_copies_that_do_the_same_at_the_same_time_still_differ() -> None:
    first, second = book(0), book(0)
    assert first.add(Resume(run_id(1), "aa")).hash != second.add(Resume(run_id(1), "bb")).hash
    assert first.add(reserve(2, "aa")).hash != second.add(reserve(2, "bb")).hash


def test_one_entry_has_one_statement() -> None:
    seen = said(book())
    with pytest.raises(ForkedLedger, match="one of them is forged"):
        extends(seen, replace(seen, committed={"training": 0, "holdout": 0}), ())


def test_links_of_two_chains_do_not_join() -> None:
    first, second = book(0), book(0)
    first.add(Resume(run_id(1), "aa"))
    second.add(Resume(run_id(1), "bb"))
    second.add(Close(run_id(1), "stopped"))
    joined = [*links(first.entries, 1), links(second.entries, 1)[-1]]
    with pytest.raises(ForkedLedger, match="link 4 of alder does not follow link 3"):
        extends(said(Copy(first.entries[:2])), said(second), joined)


# --- recovery --------------------------------------------------------------------------------------


def test_a_recovery_takes_over_what_was_seen() -> None:
    copy = book()
    seen = said(copy)
    restored = Copy(copy.entries[:2])
    entry = restored.add(recovery([seen]))

    assert entry.sequence == seen.sequence + 1  # to every witness newer than what was lost
    state = restored.state
    assert state.spent_units(TRAINING) == UPLOADS * UNITS == state.carried_units(TRAINING)
    assert state.reserved_units(TRAINING) == 0
    assert state.open_runs() == ()
    with pytest.raises(DPError, match="approved before"):
        restored.add(reserve(1))
    extends(seen, said(restored), links(restored.entries, seen.sequence))
    assert fold(restored.entries, witnessed=Head(seen.sequence, seen.hash)) == state
    restored.add(Grant(TRAINING, 3.0, 1e-5))
    restored.add(reserve(2))
    extends(seen, said(restored), links(restored.entries, seen.sequence))


def test_what_was_open_at_a_recovery_stays_spent() -> None:
    """Else closing it would return what the recovery has only counted once."""
    lost, mine = book(), Copy(book(0).entries[:2])
    mine.add(reserve(2))
    mine.add(recovery([said(lost)]))

    assert mine.state.spent_units(TRAINING) == UPLOADS * UNITS
    assert mine.state.events(TRAINING) == [(EVENT, UPLOADS)]
    with pytest.raises(DPError, match="closed"):
        mine.add(Close(run_id(2), "stopped"))


def test_a_recovery_names_every_head_that_it_was_shown() -> None:
    old, new = book(0), book(2)
    old.add(Resume(run_id(1), "aa"))
    mine = Copy(new.entries[:1])
    mine.add(recovery([said(old), said(new)]))

    for seen in (said(old), said(new)):
        extends(seen, said(mine), links(mine.entries, seen.sequence))
    other = book(1)
    with pytest.raises(ForkedLedger):
        extends(said(other), said(mine), links(mine.entries, said(other).sequence))


def test_an_ancestor_of_a_recovered_ledger_is_extended_over_the_gap() -> None:
    copy = book()
    early, restored = said(Copy(copy.entries[:2])), Copy(copy.entries[:3])
    restored.add(recovery([said(copy)]))

    extends(early, said(restored), links(restored.entries, early.sequence))
    extends(said(Copy(copy.entries[:3])), said(restored), links(restored.entries, 2))


def test_a_recovery_that_forgets_is_not_believed() -> None:
    """Nobody honest writes it, and no peer accepts it."""
    copy = book()
    seen = said(copy)
    mine = Copy(copy.entries[:2])
    mine.add(replace(recovery([seen]), committed={TRAINING: 0, HOLDOUT: 0}, runs=()))
    with pytest.raises(ForkedLedger):
        extends(seen, said(mine), links(mine.entries, seen.sequence))


def test_a_recovery_hides_nothing() -> None:
    copy = book()
    mine = Copy(copy.entries[:2])
    mine.add(recovery([said(copy)]))
    (link,) = links(mine.entries, 1)
    for forged in (replace(link, body=None), replace(link, body={**(link.body or {}), "runs": []})):
        with pytest.raises(LedgerCorrupt):
            extends(said(copy), said(mine), [forged])
    (plain,) = links(copy.entries, 3)
    with pytest.raises(LedgerCorrupt, match="shows a body"):
        extends(said(Copy(copy.entries[:4])), said(copy), [replace(plain, body=copy.entries[4].body)])


def test_a_ledger_of_another_kind_is_not_recovered_from() -> None:
    mine = Copy()
    mine.add(Grant(TRAINING, 3.0, 1e-5, "RDP", 32))
    with pytest.raises(BudgetOfAnotherKind, match="witnesses saw GDP"):
        mine.add(recovery([said(book())]))
    with pytest.raises(BudgetOfAnotherKind, match="in different ways"):
        recovery([said(book()), said(mine)])


@pytest.mark.parametrize("order", [1, -1])
def test_an_account_of_two_kinds_is_given_up_and_stays_so(order: int) -> None:
    """Peers take it, and whoever recovers from their statement has it, too: also an older copy."""
    mine = Copy()
    mine.add(Grant(TRAINING, 3.0, 1e-5, "RDP", 32))
    backup, shown = Copy(mine.entries), [said(book()), said(mine)][::order]
    mine.add(recovery(shown, exhaust=[TRAINING]))

    after = said(mine)
    assert after.filters["training"] == "RDP 32 1e-05"
    for seen in shown:
        extends(seen, after, links(mine.entries, seen.sequence))
    assert Statement.decode(after.encode()) == after
    for copy in (backup, Copy()):
        copy.add(recovery([after]))
        copy.add(Grant(TRAINING, 3.0, 1e-5, "RDP", 32))
        with pytest.raises(DPError, match="was given up"):
            copy.add(reserve(7))
        extends(after, said(copy), links(copy.entries, after.sequence))
    assert recovery([said(book())], exhaust=[]).exhausted == ()


def test_an_empty_directory_recovers_and_keeps_the_terms() -> None:
    """The database is gone, the identity is not: the first entry of the new ledger is the recovery."""
    mine = Copy()
    mine.add(recovery([said(book())]))

    assert mine.state.spent_units(TRAINING) == UPLOADS * UNITS
    assert mine.state.terms[TRAINING].filter == Filter(BudgetKind.GDP)
    with pytest.raises(BudgetOfAnotherKind):
        mine.add(Grant(TRAINING, 3.0, 1e-5, "RDP", 32))
    mine.add(Grant(TRAINING, 3.0, 1e-5))


def test_a_recovery_without_heads_gives_up_what_is_open() -> None:
    copy = book(1)
    copy.add(Recover())

    assert copy.state.spent_units(TRAINING) == UPLOADS * UNITS
    assert copy.state.open_runs() == ()
