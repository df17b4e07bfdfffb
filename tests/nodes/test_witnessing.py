"""A restored disk and a second copy are found out, and an honest site is witnessed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import ForkedLedger, RollbackDetected
from dp.witness import Statement, quorum
from nodes.witness_notes import QUESTION, STATEMENT, digest
from nodes.witnessing import Peer, Witnessing
from tests.nodes.witnesses import (
    IDENTITIES,
    NAMES,
    Disk,
    Net,
    consortium,
    head,
    held,
    party,
    receipt,
    start,
)


@pytest.mark.parametrize("entries", [0, 1, 5])
def test_an_honest_start(entries: int) -> None:
    disks = consortium(entries=entries)
    net = start(disks)
    assert not any(each.ready for each in net.parties.values())
    assert net.parties[0].missing() == ("site-1", "site-2", "site-3")
    net.ask()

    for member, each in net.parties.items():
        assert each.ready
        assert each.missing() == ()
        assert not each.questions()
        each.require()
        for other in set(disks) - {member}:
            assert held(disks[member], other) == head(disks[other], other)


def test_a_ledger_that_has_grown_shows_how() -> None:
    disks = consortium()
    start(disks).ask()
    disks[0].book.grow(70)
    again = start(disks)
    again.ask(0)

    assert again.parties[0].ready
    assert all(held(disks[member], 0) == head(disks[0], 0) for member in (1, 2, 3))


def test_the_statement_is_of_the_start_though_the_ledger_grows_meanwhile() -> None:
    disks = consortium()
    start(disks).ask()
    disks[0].book.grow(2)
    net = start(disks)
    stated = head(disks[0], 0)
    disks[0].book.grow(5)  # uploads
    net.ask(0)

    assert net.parties[0].ready
    assert held(disks[1], 0) == stated


def test_it_is_ready_with_the_quorum_and_not_before() -> None:
    disks = consortium(7)
    needed = quorum(7, 1)
    confirmed: list[Statement] = []
    one = party(0, disks[0], 7, confirmed=confirmed.append)
    for number, peer in enumerate(range(1, 7), start=1):
        one.receive(peer, receipt(one, 0, peer))
        one.receive(peer, receipt(one, 0, peer))  # nobody counts twice
        assert one.ready == (number >= needed)
        assert len(confirmed) == (number >= needed)
    assert confirmed == [head(disks[0], 0)]


def test_who_does_not_answer_is_asked_again() -> None:
    disks = consortium()
    net = start(disks, 0, 1, 2)
    net.ask(0)
    assert net.parties[0].missing() == ("site-3",)
    assert [to for to, _ in net.parties[0].questions()] == [3]
    assert not net.parties[0].ready
    net.parties[3] = party(3, disks[3])
    net.ask(0)
    assert net.parties[0].ready


def test_a_peer_that_starts_again_remembers() -> None:
    disks = consortium()
    old = disks[0].copy()
    disks[0].book.grow(4)
    start(disks).ask()
    disks[0] = old
    again = start(disks)
    again.ask(0)

    assert not again.parties[0].ready
    with pytest.raises(RollbackDetected):
        again.parties[0].require()


# ---- another name, another key


def called(name: str, disk: Disk) -> Witnessing:
    """Site 0 under another name."""
    one = party(0, disk)
    one._statement = replace(one._statement, site=name)
    one._octets = one._statement.encode()
    one._signature = IDENTITIES[0].sign(STATEMENT, one._octets)
    one._asked = IDENTITIES[0].sign(QUESTION, one._nonce, digest(one._octets))
    return one


def renamed(disks: dict[int, Disk]) -> Net:
    net = start(disks, 1, 2, 3)
    for peer in net.parties.values():
        peer._peers[0] = Peer("renamed", IDENTITIES[0].public)
    net.parties[0] = called("renamed", disks[0])
    return net


@pytest.mark.parametrize("more", [0, 2])
def test_a_renamed_site_is_witnessed_as_before(more: int) -> None:
    disks = consortium()
    start(disks).ask()
    disks[0].book.grow(more)
    net = renamed(disks)
    net.ask(0)
    assert net.parties[0].ready


def test_a_renamed_site_that_was_restored_is_refused_as_before() -> None:
    disks = consortium()
    old = disks[0].copy()
    disks[0].book.grow(2)
    start(disks).ask()
    disks[0] = old
    net = renamed(disks)
    net.ask(0)
    with pytest.raises(RollbackDetected, match="haemfed budget recover"):
        net.parties[0].require()


def test_a_known_name_under_a_new_key_is_named() -> None:
    disks = consortium()
    start(disks).ask()
    one = party(1, disks[1])
    assert one.renewed() == ()
    one._peers[0] = Peer(NAMES[0], IDENTITIES[9].public)
    assert one.renewed() == (NAMES[0],)


# ---- restored and copied


def test_a_restored_site_is_refused_by_name() -> None:
    disks = consortium()
    old = disks[2].copy()
    disks[2].book.grow(6)
    start(disks).ask()
    spent = head(disks[2], 2)
    disks[2] = old
    net = start(disks)
    net.ask()

    restored = net.parties[2]
    assert not restored.ready
    (found,) = restored.objections
    assert (found.statement, found.peers) == (spent, ("site-0", "site-1", "site-3"))
    with pytest.raises(
        RollbackDetected, match=r"site-0, site-1, site-3 have seen up to entry 8.*haemfed budget recover"
    ):
        restored.require()
    # The others go on, and still hold what they held.
    assert all(net.parties[member].ready for member in (0, 1, 3))
    assert held(disks[0], 2) == spent


def test_a_restored_site_whose_newest_entry_is_another_one_is_a_fork() -> None:
    disks = consortium()
    old = disks[2].copy()
    disks[2].book.grow(1)
    start(disks).ask()
    disks[2] = old
    disks[2].book.grow(1, salt=77)  # the same number, another entry
    net = start(disks)
    net.ask(2)

    with pytest.raises(ForkedLedger):
        net.parties[2].require()


def test_a_copy_that_ran_further_ahead_is_a_fork_too() -> None:
    disks = consortium()
    clone = disks[2].copy()
    disks[2].book.grow(2)
    start(disks).ask()
    clone.book.grow(9, salt=77)
    disks[2] = clone
    net = start(disks)
    net.ask(2)

    assert not net.parties[2].ready
    with pytest.raises(ForkedLedger, match="another copy of it is in use"):
        net.parties[2].require()


def test_one_peer_that_remembers_is_enough() -> None:
    disks = consortium(8)
    old = disks[0].copy()
    disks[0].book.grow(3)
    start(disks, 0, 5).ask()
    disks[0] = old
    net = start(disks)
    net.ask(0)

    assert len(net.parties[0]._receipts) == 6 >= quorum(8, 1)
    assert not net.parties[0].ready


def test_an_objection_after_the_quorum_stops_it_still() -> None:
    disks = consortium(8)
    old = disks[0].copy()
    disks[0].book.grow(3)
    start(disks, 0, 7).ask()
    disks[0] = old
    net = start(disks, *range(7))
    net.ask(0)
    assert net.parties[0].ready
    late = party(7, disks[7], 8)
    ((_, question),) = [each for each in net.parties[0].questions() if each[0] == 7]
    for _, answer in late.receive(0, question):
        net.parties[0].receive(7, answer)

    assert not net.parties[0].ready


def test_a_recovered_ledger_is_witnessed_again() -> None:
    disks = consortium()
    old = disks[2].copy()
    disks[2].book.grow(6)
    start(disks).ask()
    disks[2] = old
    net = start(disks)
    net.ask(2)
    disks[2].book.recover([each.statement for each in net.parties[2].objections]).grow(1)
    again = start(disks)
    again.ask()

    assert all(each.ready for each in again.parties.values())
    assert held(disks[0], 2) == head(disks[2], 2)


def test_it_waits_until_everybody_had_time_to_speak_so_that_one_recovery_is_enough() -> None:
    disks = consortium()
    first = disks[0].copy()
    disks[0].book.grow(1)
    start(disks).ask()
    disks[0].book.grow(4)
    start(disks, 0, 3).ask()  # only site-3 has seen the longest
    disks[0] = first
    net = start(disks)
    one = net.parties[0]
    questions = dict(one.questions())
    for peer in (1, 3):
        for _, answer in net.parties[peer].receive(0, questions[peer]):
            one.receive(peer, answer)
            one.require()  # site-2 has not spoken
    one.questions()
    one.require()
    one.questions()

    with pytest.raises(RollbackDetected, match="site-1, site-3 have seen up to entry 7"):
        one.require()
    assert [each.statement.sequence for each in one.objections] == [3, 7]


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.integers(1, 2), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_two_copies_of_a_site_are_never_both_ready(
    sites: int, collusion: int, seed: int, same: bool, mixed: bool
) -> None:
    """Whatever the coordinator carries to whom, and though `collusion` peers say yes to everything."""
    if sites - 1 <= collusion:
        return
    chance = random.Random(seed)
    disks = consortium(sites)
    copies = []
    for number in range(2):
        disk = disks[0].copy()
        disk.book.grow(1 if same else 1 + number, salt=number)
        copies.append(party(0, disk, sites, collusion))
    liars = chance.sample(range(1, sites), collusion)
    peers = {member: party(member, disks[member], sites, collusion) for member in range(1, sites)}
    # Nobody hears of the other copy from an honest peer that the coordinator keeps for one of them alone.
    half = {member: chance.choice([(0,), (1,), (0, 1)] if mixed else [(0,), (1,)]) for member in peers}
    for _ in range(3):
        turns = [(number, to) for number in (0, 1) for to in peers if to in liars or number in half[to]]
        for number, to in chance.sample(turns, len(turns)):
            one = copies[number]
            if (note := dict(one.questions()).get(to)) is not None:
                for _, answer in [(0, receipt(one, 0, to))] if to in liars else peers[to].receive(0, note):
                    one.receive(to, answer)

    assert not all(each.ready for each in copies)
