"""Nobody's lie stops a site or lets one go on: peers, the coordinator, a disk that fails."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.errors import StorageProblem
from nodes.rehearsal import MemoryHeld
from nodes.store import WitnessedRow
from nodes.windows import Placed
from nodes.witness_notes import OBJECTION, STATEMENT, Objection, Receipt, digest, read
from tests.nodes.witnesses import (
    IDENTITIES,
    NAMES,
    Disk,
    Ledger,
    Net,
    consortium,
    head,
    held,
    objection,
    party,
    question,
    receipt,
    start,
)

N = 4


# ---- liars


def test_a_forged_objection_stops_nobody() -> None:
    disks = consortium()
    one = party(0, disks[0])
    further = replace(head(disks[0], 0), sequence=900, hash="f" * 64)
    for signer in (1, 2):  # not with our key
        assert one.receive(1, objection(one, further, signer)) == []
    assert one.receive(1, objection(one, further, 0, by=2)) == []  # not by the peer: the coordinator shows it
    wrong_nonce = objection(one, further, 0, nonce=bytes(32))
    assert one.receive(1, wrong_nonce) == []
    shown = IDENTITIES[1].sign(OBJECTION, one._nonce, digest(b"{}"), IDENTITIES[0].public)
    not_a_statement = Objection(one._nonce, b"{}", IDENTITIES[0].sign(STATEMENT, b"{}"), shown).encode()
    assert one.receive(1, not_a_statement) == []
    for wrong in (  # another start, another statement, shown to another site
        (bytes(32), digest(further.encode()), IDENTITIES[0].public),
        (one._nonce, bytes(32), IDENTITIES[0].public),
        (one._nonce, digest(further.encode()), IDENTITIES[3].public),
    ):
        signature = IDENTITIES[0].sign(STATEMENT, further.encode())
        bad = Objection(one._nonce, further.encode(), signature, IDENTITIES[1].sign(OBJECTION, *wrong))
        assert one.receive(1, bad.encode()) == []

    assert one.objections == ()
    start_again = Net({0: one, **{member: party(member, disks[member]) for member in (1, 2, 3)}})
    start_again.ask(0)
    assert one.ready


def test_an_objection_in_our_own_words_is_believed_from_one_peer() -> None:
    """The positive control of the test above."""
    disks = consortium()
    one = party(0, disks[0])
    one.receive(1, objection(one, replace(head(disks[0], 0), sequence=900, hash="f" * 64), 0))
    assert len(one.objections) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(32)},  # an answer to an earlier start of this process
        {"named": bytes(32)},  # for another statement
        {"whose": IDENTITIES[3].public},  # for another site
    ],
)
def test_a_receipt_for_something_else_does_not_count(changes: dict[str, Any]) -> None:
    one = party(0, consortium()[0])
    for peer in (1, 2, 3):
        one.receive(peer, receipt(one, 0, peer, **changes))
    assert len(one.missing()) == 3


@pytest.mark.parametrize("changes", [{"round": 4}, {"stage": 2}, {"start": 3}])
def test_nobody_makes_a_receipt_name_another_round_or_stage(changes: dict[str, int]) -> None:
    one = party(0, consortium()[0])
    for peer in (1, 2, 3):
        signed = read(receipt(one, 0, peer, 5, 1, 4))
        assert isinstance(signed, Receipt)
        one.receive(peer, replace(signed, last=replace(signed.last, **changes)).encode())
        assert peer not in one._receipts
        one.receive(peer, signed.encode())
        assert one._receipts[peer] == Placed(5, 1, 4)


def test_a_receipt_counts_for_its_signer_alone() -> None:
    one = party(0, consortium()[0])
    for said in (1, 2, 3):
        one.receive(said, receipt(one, 0, 3))
    assert one.missing() == ("site-1", "site-2")
    assert not one.ready


def test_who_is_not_pinned_neither_counts_nor_is_answered() -> None:
    disks = consortium()
    one = party(0, disks[0], peers=(1, 2))
    assert [to for to, _ in one.questions()] == [1, 2]
    one.receive(3, receipt(one, 0, 3))
    one.receive(3, objection(one, replace(head(disks[0], 0), sequence=900, hash="f" * 64), 0))
    assert not one._receipts
    assert one.objections == ()
    stranger = party(3, disks[3])
    note = dict(stranger.questions())[0]
    assert one.receive(3, note) == []
    assert disks[0].held.rows == {}
    # Nor one's own question, sent back.
    assert one.receive(0, dict(one.questions())[1]) == []
    assert one.receive(1, dict(one.questions())[1]) == []


def test_a_statement_about_another_site_is_not_held() -> None:
    disks = consortium()
    one = party(0, disks[0])
    false = replace(head(disks[1], 1), site=NAMES[2]).encode()
    note = question(1, false)
    assert one.receive(1, note) == []
    assert disks[0].held.rows == {}


def test_nobody_gets_a_site_to_talk_without_end() -> None:
    """A peer that shows old statements of ours over and over gets one answer each second."""
    disks = consortium()
    old = [Ledger(disks[0].book.entries[:length]).statement(NAMES[0]) for length in (1, 2)]
    one = party(0, disks[0])
    answers = [one.receive(1, objection(one, old[turn % 2], 0)) for turn in range(10)]
    assert [len(each) for each in answers] == [1] + [0] * 9
    one.questions()
    assert len(one.receive(1, objection(one, old[0], 0))) == 1


def test_a_site_that_lies_about_itself_is_held_to_what_it_said() -> None:
    """It signs two statements about one entry: the first one stays, whatever the second says it had spent."""
    disks = consortium()
    start(disks).ask()
    said = held(disks[0], 1)
    less = replace(said, committed=dict.fromkeys(said.committed, 1)).encode()
    one = party(0, disks[0])
    ((_, answer),) = one.receive(1, question(1, less))
    assert isinstance(read(answer), Objection)
    assert held(disks[0], 1) == said


# ---- the coordinator


def test_answers_to_an_earlier_process_are_worth_nothing() -> None:
    disks = consortium()
    recorded: list[tuple[int, bytes]] = []
    net = start(disks)

    def record(sender: int, to: int, octets: bytes) -> list[tuple[int, int, bytes]]:
        recorded.extend([(sender, octets)] if to == 0 else [])
        return [(sender, to, octets)]

    net.carry = record
    net.ask(0)
    assert net.parties[0].ready
    again = party(0, disks[0])
    for sender, octets in recorded:
        again.receive(sender, octets)
    assert len(again.missing()) == 3


def test_notes_of_the_wrong_sender_are_worth_nothing() -> None:
    disks = consortium()
    net = start(disks)
    net.carry = lambda sender, to, octets: [((sender + 1) % N, to, octets), (sender, (to + 1) % N, octets)]
    net.ask()
    assert not any(each._receipts for each in net.parties.values())
    net.carry = lambda sender, to, octets: [(sender, to, octets)]
    net.ask()
    assert all(each.ready for each in net.parties.values())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_lost_repeated_and_reordered_notes_cost_time_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    disks = consortium()
    start(disks).ask()
    for disk in disks.values():
        disk.book.grow(chance.randrange(4))
    parties = start(disks).parties
    waiting: list[tuple[int, int, bytes]] = []
    for turn in range(400):
        if turn % 40 == 0:
            waiting += [(member, *note) for member, each in parties.items() for note in each.questions()]
        if not waiting:
            continue
        sender, to, octets = waiting.pop(chance.randrange(len(waiting)))
        fate = chance.random()
        if fate < 0.2:
            continue  # lost
        waiting += [(sender, to, octets)] if fate > 0.9 else []
        waiting += [(to, *answer) for answer in parties[to].receive(sender, octets)]
    for _ in range(2):
        Net(parties).ask()

    assert all(each.ready for each in parties.values())
    assert not any(each.objections for each in parties.values())


# ---- the disk


class Failing(MemoryHeld):
    def witness(self, row: WitnessedRow) -> None:
        raise StorageProblem("no space left")


class Killed(Exception):  # noqa: N818 -- not an error
    pass


class Dying(MemoryHeld):
    def witness(self, row: WitnessedRow) -> None:
        super().witness(row)
        raise Killed


def test_what_cannot_be_stored_is_not_answered_for() -> None:
    disks = consortium()
    one = party(0, Disk(disks[0].book, Failing()))
    note = dict(party(1, disks[1]).questions())[0]
    with pytest.raises(StorageProblem):
        one.receive(1, note)


def test_a_peer_that_dies_between_storing_and_answering_knows_it_at_its_next_start() -> None:
    disks = consortium()
    old = disks[1].copy()
    disks[1].book.grow(1)
    asking = party(1, disks[1])
    note = dict(asking.questions())[0]
    dying = Dying()
    with pytest.raises(Killed):
        party(0, Disk(disks[0].book, dying)).receive(1, note)
    disks[0].held = MemoryHeld(dying.rows)
    assert not asking._receipts

    again = party(0, disks[0])
    ((_, answer),) = again.receive(1, note)
    asking.receive(0, answer)
    assert asking._receipts == {0: Placed(0, 0, 0)}
    # And a restored copy is refused, although nobody ever got an answer about the newer one.
    ((_, refused),) = again.receive(1, dict(party(1, old).questions())[0])
    assert isinstance(read(refused), Objection)
