"""Ledger and witnesses: nothing is un-spent, nobody goes on with a restored or copied ledger."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

NOON = "2026-01-01T12:00:00+00:00"
STUDY = "5e" * 32


class Book:
    """A ledger in memory with one granted account."""

    def __init__(self, **grant: Any) -> None:
        from dp.ledger import Grant, State
        from tests.dp.checks.budget import DELTA

        self.entries: list[Any] = []
        self.state = State()
        self.add(Grant(_training(), 2.0, DELTA, **grant))

    def add(self, item: Any, at: str = NOON) -> Any:
        from dp.ledger import append

        entry = append(self.state, item.KIND, item.body(), at)
        self.entries.append(entry)
        self.state = self.state.after(entry)
        return entry

    def copy(self) -> Book:
        other = object.__new__(Book)
        other.entries, other.state = list(self.entries), self.state
        return other

    def copy_to(self, head: Any) -> Any:
        """The state when `head` was the last entry."""
        from dp.ledger import fold

        return fold(self.entries[: [entry.hash for entry in self.entries].index(head.hash) + 1])

    def units(self) -> int:
        return int(self.state.committed_units(_training()))


def _training() -> Any:
    from dp.events import Account

    return Account.TRAINING


def _event(multiplier: float = 20.0) -> Any:
    from dp.events import event

    return event("gradient", multiplier)


def run_id(number: int = 1) -> str:
    return f"{number:064x}"


def reserve(uploads: int = 5, number: int = 1) -> Any:
    from dp.ledger import Reserve, Stage

    return Reserve(STUDY, run_id(number), (Stage(_event(), uploads),), "ab" * 16)


def upload(number: int, run: int = 1, multiplier: float = 20.0) -> Any:
    from dp.ledger import Upload

    return Upload(STUDY, run_id(run), number, f"{number:064x}", _event(multiplier))


def cost(uploads: int) -> int:
    from dp.budget import GDP_FILTER

    return uploads * int(GDP_FILTER.units(_event()))


def _largest(epsilon: float, delta: float) -> int:
    from dp.budget import GDP_FILTER

    return int(GDP_FILTER.largest(epsilon, delta))


def any_edit_of_any_field_is_seen() -> None:
    """Field by field, without touching the hash; and the hash, too. Later entries are there: nothing is at the end."""
    from dp.errors import DPError, LedgerCorrupt
    from dp.ledger import fold

    book = Book()
    book.add(reserve())
    for number in range(1, 4):
        book.add(upload(number), f"2026-01-01T12:0{number}:00+00:00")
    fold(book.entries)
    target = book.entries[3]
    edits = {
        "at": "2026-01-01T12:01:30+00:00",  # still between its neighbours
        "body": {**target.body, "round": 7},
        "hash": "0" * 64,
        "kind": "close",
        "previous": book.entries[1].hash,
        "sequence": 9,
    }
    assert set(edits) == set(vars(target))
    for name, value in edits.items():
        with pytest.raises((LedgerCorrupt, DPError)):
            fold([*book.entries[:3], replace(target, **{name: value})])
    for gap in range(1, 5):
        with pytest.raises(LedgerCorrupt):
            fold([*book.entries[: gap - 1], *book.entries[gap:]])


def uploads_are_spent_for_ever() -> None:
    """An aborted round and a closed run give back what was never uploaded, and nothing else."""
    from dp.ledger import Close

    book = Book()
    book.add(reserve(5))
    assert book.units() == cost(5), "a run is reserved whole"
    for number in (1, 2, 4):  # round 3 was somebody else's business; 2 was aborted
        before = book.state.spent_units(_training())
        book.add(upload(number))
        assert book.state.spent_units(_training()) == before + cost(1)
    book.add(Close(run_id(), "stopped"))
    assert book.units() == book.state.spent_units(_training()) == cost(3)
    assert book.state.events(_training()) == [(_event(), 3)], "what the accountants are asked about"


def a_run_that_another_process_took_over_gives_nothing_back() -> None:
    """The disk may have been restored in between: uploads that the ledger lacks may have been made."""
    from dp.ledger import Close, Resume

    book = Book()
    book.add(reserve(5))
    book.add(upload(1))
    book.add(Resume(run_id(), "cd" * 16))
    book.add(Close(run_id(), "stopped"))
    assert book.units() == cost(5)


def no_run_uploads_more_than_it_reserved() -> None:
    """Not once more, not with less noise, not after its end, not under an old number, not twice over."""
    from dp.errors import DPError
    from dp.ledger import Close

    book = Book()
    book.add(reserve(2))
    book.add(upload(3))
    for wrong in (upload(3), upload(2), upload(4, multiplier=10.0), upload(4, run=2), reserve(2)):
        with pytest.raises(DPError):
            book.copy().add(wrong)
    book.add(upload(4))
    with pytest.raises(DPError):
        book.copy().add(upload(5))
    book.add(Close(run_id(), "complete"))
    for wrong in (upload(5), reserve(2)):
        with pytest.raises(DPError):
            book.copy().add(wrong)


def a_reservation_beyond_any_limit_is_refused() -> None:
    """Lifetime, study and year, each to the last upload that fits; two runs of one study share its limit."""
    from dp.budget import GDP_FILTER
    from dp.errors import BudgetExceeded
    from dp.ledger import OpenYear
    from tests.dp.checks.budget import DELTA

    for limits, epsilon in (({}, 2.0), ({"study_epsilon": 0.7}, 0.7), ({"year_epsilon": 0.7}, 0.7)):
        book = Book(**limits)
        book.add(OpenYear(2026))
        most = GDP_FILTER.largest(epsilon, DELTA) // cost(1)
        assert most > 3
        with pytest.raises(BudgetExceeded):
            book.copy().add(reserve(most + 1))
        book.add(reserve(most - 1, 1))
        with pytest.raises(BudgetExceeded):
            book.copy().add(reserve(2, 2))
        book.add(reserve(1, 3))


def time_alone_frees_no_budget() -> None:
    """A year is opened by a person, after it has begun: not by the clock, not ahead, not twice."""
    from dp.errors import DPError
    from dp.ledger import Close, OpenYear

    book = Book(year_epsilon=0.7)
    for wrong in (2027, 2100):
        with pytest.raises(DPError):
            book.copy().add(OpenYear(wrong))
    book.add(OpenYear(2026))
    most = 0
    while True:
        try:
            book.add(reserve(1, 100 + most))
        except DPError:
            break
        most += 1
    for year in (2027, 2030):
        with pytest.raises(DPError):
            book.copy().add(reserve(1, 1), f"{year}-06-01T00:00:00+00:00")
    late = book.copy()
    late.add(Close(run_id(100), "complete"), "2027-06-01T00:00:00+00:00")
    for wrong in (2026, 2025):
        with pytest.raises(DPError):
            late.copy().add(OpenYear(wrong), "2027-06-01T00:00:00+00:00")
    late.add(OpenYear(2027), "2027-06-01T00:00:00+00:00")
    assert late.units() == cost(most - 1), "the lifetime account knows no years"


def the_terms_of_an_account_never_change() -> None:
    from dp.errors import BudgetOfAnotherKind
    from dp.ledger import Grant

    book = Book()
    book.add(Grant(_training(), 3.0, 1e-5))
    for wrong in (Grant(_training(), 3.0, 1e-4), Grant(_training(), 3.0, 1e-5, "RDP", 8)):
        with pytest.raises(BudgetOfAnotherKind):
            book.copy().add(wrong)


def what_was_seen_is_spent_after_a_recovery() -> None:
    """At least the most that any witness saw; every run that was open is over, and none of it returns."""
    from dp.ledger import fold
    from dp.witness import extends, links, recovery, statement

    book = Book()
    backup = book.copy()
    book.add(reserve(5))
    begun = book.copy()
    seen = [statement(book.state, "alder")]
    book.add(upload(1))
    book.add(reserve(3, 2))
    seen.append(statement(book.state, "alder"))
    for copy, order in itertools.product((backup, begun), (seen, seen[::-1], seen[:1], seen[1:])):
        restored = copy.copy()
        restored.add(recovery(order))
        most = max(each.committed["training"] for each in order)
        assert restored.units() >= most
        assert not restored.state.open_runs()
        new = statement(restored.state, "alder")
        for held in order:
            extends(held, new, links(restored.entries, held.sequence))
        assert fold(restored.entries) == restored.state
        for run in order[-1].runs:
            with pytest.raises(Exception, match="approved before"):
                restored.copy().add(reserve(1, int(run, 16)))


def a_recovery_without_witnesses_gives_up_what_is_open() -> None:
    """If only the anchor is lost, nobody knows what the open runs have uploaded: all that they reserved."""
    from dp.errors import BudgetOfAnotherKind
    from dp.witness import Statement, recovery

    book = Book()
    book.add(reserve(5))
    book.add(upload(1))
    other = Statement("alder", 7, "ab" * 32, {"training": 5}, {"training": "GDP 0.0001"})
    with pytest.raises(BudgetOfAnotherKind):
        book.copy().add(recovery([other]))
    book.add(recovery([]))
    assert book.units() == cost(5)
    assert book.state.events(_training()) == [(_event(), 5)]


def what_a_recovery_carries_over_counts_in_the_open_year() -> None:
    from dp.errors import BudgetExceeded
    from dp.ledger import Grant, OpenYear
    from dp.witness import recovery, statement
    from tests.dp.checks.budget import DELTA

    book = Book(year_epsilon=0.7)
    book.add(OpenYear(2026))
    backup = book.copy()
    most = _largest(0.7, DELTA) // cost(1)
    book.add(reserve(most))
    backup.add(recovery([statement(book.state, "alder")]))
    with pytest.raises(BudgetExceeded):
        backup.copy().add(reserve(2, 2))
    backup.add(Grant(_training(), 2.0, DELTA, year_epsilon=0.7))  # whatever a person grants anew
    with pytest.raises(BudgetExceeded):
        backup.add(reserve(2, 2))


def a_ledger_must_contain_what_was_seen_of_it() -> None:
    """Replayed against a head that somebody holds: a shorter chain, another branch, and a recovery's way out."""
    from dp.errors import RollbackDetected
    from dp.ledger import fold
    from dp.witness import recovery, statement

    book = Book()
    backup = book.copy()
    book.add(reserve(5))
    seen = book.state.head
    book.add(upload(1))
    assert fold(book.entries, witnessed=seen) == book.state
    other = backup.copy()
    other.add(reserve(4))
    other.add(upload(1))
    for behind in (backup, other):
        with pytest.raises(RollbackDetected):
            fold(behind.entries, witnessed=seen)
    unnamed = backup.copy()
    unnamed.add(recovery([statement(other.state, "alder")]))
    with pytest.raises(RollbackDetected):
        fold(unnamed.entries, witnessed=seen)
    backup.add(recovery([statement(book.copy_to(seen), "alder")]))
    assert fold(backup.entries, witnessed=seen) == backup.state


def a_run_without_noise_is_never_forgotten() -> None:
    """Whoever was summed without noise has no bound, after a close and a recovery, too; and it ends where agreed."""
    from dp.errors import DPError
    from dp.ledger import Close, Plain, Unprotected
    from dp.witness import recovery, statement

    book = Book()
    backup = book.copy()
    book.add(Unprotected(STUDY, run_id(), {"gradient": 2}))
    for number in (1, 2):
        book.add(Plain(STUDY, run_id(), number, f"{number:064x}", "gradient"))
    for wrong in (Plain(STUDY, run_id(), 3, "aa" * 32, "gradient"), Plain(STUDY, run_id(), 3, "aa" * 32, "count")):
        with pytest.raises(DPError):
            book.copy().add(wrong)
    book.add(Close(run_id(), "complete"))
    assert book.state.unbounded == {_training()}
    seen = statement(book.state, "alder")
    assert seen.unbounded == ("training",)
    backup.add(recovery([seen]))
    assert backup.state.unbounded == {_training()}


def two_copies_of_a_ledger_are_not_both_witnessed() -> None:
    """Whoever was shown one copy takes no other that parts from it before that point, older or longer or as long."""
    from dp.chain import _hash
    from dp.errors import DPError
    from dp.witness import extends, links, statement

    book = Book()
    book.add(reserve(5))
    first, second = book.copy(), book.copy()
    held = [statement(book.state, "alder")]
    for number in (1, 2):
        first.add(upload(number))
        held.append(statement(first.state, "alder"))
        extends(held[0], held[-1], links(first.entries, held[0].sequence))
    extends(held[1], held[2], links(first.entries, held[1].sequence))
    for number in (1, 2, 3):
        second.add(replace(upload(number), context="ee" * 32))
        other = statement(second.state, "alder")
        for seen in held[1:]:
            for after in (-1, held[0].sequence, seen.sequence):
                with pytest.raises(DPError):
                    extends(seen, other, links(second.entries, after))
    with pytest.raises(DPError):
        extends(held[2], held[1], links(first.entries[:-1], -1))
    with pytest.raises(DPError):
        extends(held[2], replace(held[2], committed={"training": 0}), ())
    # Chains of both, put together; and an entry that leaves numbers out without being a recovery.
    jump = first.copy()
    jump.add(upload(3))
    (link,) = links(jump.entries, held[2].sequence)
    second.add(upload(4))
    with pytest.raises(DPError):
        extends(held[2], statement(second.state, "alder"), (link, *links(second.entries, link.sequence)))
    link = replace(link, sequence=link.sequence + 5)
    link = replace(link, hash=_hash(link.at, link.body_digest, link.kind, link.previous, link.sequence))
    with pytest.raises(DPError):
        extends(held[2], replace(statement(jump.state, "alder"), sequence=link.sequence, hash=link.hash), (link,))


def two_quorums_share_an_honest_peer() -> None:
    from dp.witness import quorum

    for sites, collusion in itertools.product(range(3, 40), range(1, 10)):
        if collusion < sites - 1:
            needed = quorum(sites, collusion)
            assert 2 * needed - (sites - 1) > collusion
            assert needed > collusion


CHECKS = (
    any_edit_of_any_field_is_seen,
    uploads_are_spent_for_ever,
    a_run_that_another_process_took_over_gives_nothing_back,
    no_run_uploads_more_than_it_reserved,
    a_reservation_beyond_any_limit_is_refused,
    time_alone_frees_no_budget,
    the_terms_of_an_account_never_change,
    what_was_seen_is_spent_after_a_recovery,
    a_recovery_without_witnesses_gives_up_what_is_open,
    what_a_recovery_carries_over_counts_in_the_open_year,
    a_ledger_must_contain_what_was_seen_of_it,
    a_run_without_noise_is_never_forgotten,
    two_copies_of_a_ledger_are_not_both_witnessed,
    two_quorums_share_an_honest_peer,
)
