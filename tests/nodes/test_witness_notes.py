"""Whatever the octets, nothing is raised and nothing held by mistake."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import chain
from dp.chain import Link, canonical
from dp.witness import LARGEST_STATEMENT, Statement
from nodes.notes import NOTE
from nodes.windows import Placed
from nodes.witness_notes import MOST_PAGES, More, Objection, Question, Receipt, digest, pages, read
from secagg.encoding import enc
from tests.nodes.witnesses import (
    AT,
    NAMES,
    Disk,
    Ledger,
    consortium,
    head,
    held,
    party,
    question,
    start,
)


class Long:
    """A ledger of so many entries of which only the chain matters."""

    def __init__(self, entries: int) -> None:
        self.chain: list[Link] = []
        previous = chain.GENESIS
        for sequence in range(entries):
            digest_ = f"{sequence:064x}"
            own = chain._hash(AT, digest_, "upload", previous, sequence)
            self.chain.append(Link(sequence, previous, "upload", AT, digest_, own))
            previous = own

    def statement(self, site: str) -> Statement:
        return Statement(site, len(self.chain) - 1, self.chain[-1].hash)

    def links(self, after: int) -> tuple[Link, ...]:
        return tuple(self.chain[after + 1 :])


@pytest.mark.parametrize("entries", [3000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_peers_that_have_not_met_for_thousands_of_entries_are_told_in_pages(entries: int) -> None:
    disks = consortium(3)
    book: Any = Long(entries)
    disks[0].book = book
    whole, book.chain = book.chain, book.chain[:1]
    start(disks).ask()
    book.chain = whole
    notes: list[int] = []
    net = start(disks)
    net.carry = lambda sender, to, octets: notes.append(len(octets)) or [(sender, to, octets)]  # type: ignore[func-returns-value]
    net.ask(0)

    assert net.parties[0].ready
    assert held(disks[1], 0).sequence == entries - 1
    assert max(notes) <= NOTE
    assert not net.parties[1]._collected._kept


@pytest.mark.slow
def test_a_page_that_is_lost_or_doubled_costs_time_and_nothing_else() -> None:
    disks = consortium(3)
    book: Any = Long(3000)
    disks[0].book = book
    whole, book.chain = book.chain, book.chain[:1]
    start(disks).ask()
    book.chain = whole
    net = start(disks)
    chance = random.Random(1)

    def carry(sender: int, to: int, octets: bytes) -> list[tuple[int, int, bytes]]:
        return [(sender, to, octets)] * chance.choice([0, 1, 1, 2])

    net.carry = carry
    for _ in range(20):
        net.ask(0)
    assert net.parties[0].ready


def test_a_page_that_nobody_asked_for_is_answered_once() -> None:
    disks = consortium(3)
    one = party(0, disks[0], 3)
    note = More(one._nonce, digest(one._octets), 5).encode()
    assert one.receive(1, note) == []  # there is none
    again = More(one._nonce, digest(one._octets), 0).encode()
    assert [len(one.receive(1, again)) for _ in range(3)] == [1, 0, 0]


@pytest.mark.slow
def test_more_than_fifty_thousand_entries_fit_and_what_does_not_fit_is_left_out() -> None:
    one = Long(1).chain[0]
    longest = replace(one, sequence=2**40, kind="k" * 12)
    cut = pages([longest] * 50_000)
    assert 1 < len(cut) <= MOST_PAGES
    assert sum(map(len, cut)) == 50_000
    for page in (cut[0], cut[-1]):
        assert len(Question(bytes(32), bytes(LARGEST_STATEMENT), bytes(64), bytes(64), 0, 64, page).encode()) <= NOTE
    assert pages([longest] * 150_000) == ((),)
    assert pages([]) == ((),)


def test_notes_are_read_as_they_were_written() -> None:
    ledger = Ledger().grow(3)
    ledger.recover([replace(ledger.statement("site-1"), sequence=7, hash="a" * 64)]).grow(1)
    for note in (
        Question(b"n" * 32, b"statement", b"s" * 64, b"a" * 64, 2, 64, ledger.links(-1)),
        More(b"n" * 32, b"d" * 32, 63),
        Receipt(b"n" * 32, b"d" * 32, Placed(7, 1, 5), b"b" * 32, b"s" * 64),
        Objection(b"n" * 32, b"statement", b"s" * 64, b"h" * 64),
    ):
        assert read(note.encode()) == note


LINK = (0, "grant", "t", bytes(32), bytes(32), bytes(32), b"")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"x",
        enc(1, 2, 3),
        enc("haemfed/witness-receipt/v1", bytes(32), bytes(32), 0, 0, 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v1", bytes(32), bytes(32), 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(31), bytes(32), 0, 0, 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(33), 0, 0, 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 2**63, 0, 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, 2**63, 0, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, 0, 2**63, bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, 0, 0, bytes(33), bytes(64)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, 0, 0, bytes(32), bytes(63)),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), 0, 0, 0, bytes(32), bytes(64), b""),
        enc("haemfed/witness-objection/v1", bytes(32), "text", bytes(64), bytes(64)),
        enc("haemfed/witness-objection/v1", bytes(32), b"text", bytes(64), bytes(63)),
        enc("haemfed/witness-more/v1", bytes(32), bytes(32), 64),
        enc("haemfed/witness-more/v1", bytes(32), bytes(31), 1),
        enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), bytes(64), 0, 1),
        enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), bytes(63), 0, 1, ()),
        enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), bytes(64), 1, 1, ()),
        enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), bytes(64), 0, 65, ()),
        *(
            enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), bytes(64), 0, 1, (LINK, link))
            for link in (
                1,
                LINK[:-1],
                (2**63, *LINK[1:]),
                (*LINK[:3], bytes(31), *LINK[4:]),
                (*LINK[:6], b"{"),
                (*LINK[:6], b"{} "),
                (*LINK[:6], b"{}"),
                (*LINK[:6], b"5"),
                (*LINK[:6], b"[[1]]"),
                (*LINK[:6], b'{"a":NaN}'),
                (*LINK[:6], b"[" * 100_000),
            )
        ),
    ],
)
def test_what_is_no_note_is_ignored(octets: bytes) -> None:
    assert read(octets) is None
    assert party(0, consortium()[0]).receive(1, octets) == []


@cache
def _grown() -> tuple[Disk, Statement, Statement, bytes]:
    """A site, what it holds of another one, what that one says two entries later, and how it asks."""
    disks = consortium()
    start(disks).ask()
    before = head(disks[1], 1)
    disks[1].book.grow(2)
    asking = party(1, disks[1])
    asking._pages = {0: (disks[1].book.links(2),)}
    return disks[0], before, head(disks[1], 1), dict(asking.questions())[0]


@pytest.mark.parametrize(
    "body",
    [
        5,
        [[1]],
        ["committed", "heads", "runs", "terms", "unbounded"],
        {"runs": [[1]]},
        {"unbounded": [[]]},
        {"heads": 1},
        {"committed": {"nobody": "1"}},
        {"heads": [{"hash": "", "sequence": -1}]},
    ],
)
def test_a_recovery_in_a_hostile_spelling_is_objected_to(body: Any) -> None:
    """Its body is read by peers, so it is the one thing in a chain that somebody else's mistakes are in."""
    disks = consortium()
    ledger = disks[1].book.copy()
    disks[1].book.grow(1)
    start(disks).ask()
    good = ledger.recover([replace(ledger.statement(NAMES[1]), sequence=9, hash="a" * 64)]).links(-1)[-1]
    whole = {**(good.body or {}), **body} if isinstance(body, dict) else body
    link = _rehashed(replace(good, body=whole, body_digest=digest(canonical(whole)).hex()))
    said = replace(ledger.statement(NAMES[1]), sequence=link.sequence, hash=link.hash).encode()
    note = question(1, said, links=(link,))

    if not isinstance(body, dict):
        assert read(note) is None
        assert party(0, disks[0]).receive(1, note) == []
        return
    ((_, answer),) = party(0, disks[0]).receive(1, note)
    assert isinstance(read(answer), Objection)


def _rehashed(link: Link) -> Link:
    return replace(link, hash=chain._hash(link.at, link.body_digest, link.kind, link.previous, link.sequence))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_the_octets_nothing_is_raised_and_nothing_held_by_mistake(data: st.DataObject) -> None:
    disk, before, after, octets = _grown()
    note = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(note) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                note[place] ^= 1 << data.draw(st.integers(0, 7))
            case 1:
                del note[place:]
                note += b"t"
            case _:
                note[place:place] = data.draw(st.binary(max_size=9))
    one = disk.copy()
    for _, answer in party(0, one).receive(1, bytes(note)):
        assert read(answer) is not None
    assert held(one, 1) in (before, after)
