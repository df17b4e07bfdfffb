"""Whatever the octets, nothing is raised and nothing held by mistake."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.chain import Link, canonical
from dp.witness import Statement
from nodes.notes import NOTE
from nodes.witness_notes import STATEMENT, Objection, Question, Receipt, digest, read
from secagg.encoding import enc
from tests.nodes.witnesses import (
    IDENTITIES,
    NAMES,
    Disk,
    Ledger,
    consortium,
    head,
    held,
    party,
    start,
)


def test_a_chain_that_is_too_long_for_a_note_leaves_its_peer_missing() -> None:
    disks = consortium(4)
    start(disks).ask()
    long = Ledger(disks[0].book.entries[:])
    link = long.links(-1)[-1]
    disks[0].book.grow(1)
    net = start(disks)
    one = net.parties[0]
    many = (replace(link, sequence=3),) * 2000
    one._links = lambda _after: many
    one._after = dict.fromkeys((1, 2, 3), 0)

    for _, octets in one.questions():
        assert len(octets) <= NOTE
        question = read(octets)
        assert isinstance(question, Question)
        assert question.links == ()


def test_notes_are_read_as_they_were_written() -> None:
    ledger = Ledger().grow(3)
    ledger.recover([replace(ledger.statement("site-1"), sequence=7, hash="a" * 64)]).grow(1)
    for note in (
        Question(b"n" * 32, b"statement", b"s" * 64, ledger.links(-1)),
        Receipt(b"n" * 32, b"d" * 32, b"s" * 64),
        Objection(b"n" * 32, b"statement", b"s" * 64),
    ):
        assert read(note.encode()) == note


LINK = (0, "grant", "t", bytes(32), bytes(32), bytes(32), b"")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"x",
        enc(1, 2, 3),
        enc("haemfed/witness-receipt/v2", bytes(32), bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v1", bytes(31), bytes(32), bytes(64)),
        enc("haemfed/witness-receipt/v1", bytes(32), bytes(33), bytes(64)),
        enc("haemfed/witness-receipt/v1", bytes(32), bytes(32), bytes(63)),
        enc("haemfed/witness-receipt/v1", bytes(32), bytes(32), bytes(64), b""),
        enc("haemfed/witness-objection/v1", bytes(32), "text", bytes(64)),
        enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64)),
        *(
            enc("haemfed/witness-question/v1", bytes(32), b"", bytes(64), (LINK, link))
            for link in (
                1,
                LINK[:-1],
                (2**63, *LINK[1:]),
                (*LINK[:3], bytes(31), *LINK[4:]),
                (*LINK[:6], b"{"),
                (*LINK[:6], b"{} "),
                (*LINK[:6], b"{}"),
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
    asking._after = {0: 2}
    return disks[0], before, head(disks[1], 1), dict(asking.questions())[0]


@pytest.mark.parametrize(
    "body", [{"heads": 1}, {"committed": {"nobody": "1"}}, {"heads": [{"hash": "", "sequence": -1}]}]
)
def test_a_recovery_in_a_hostile_spelling_is_objected_to(body: dict[str, Any]) -> None:
    """Its body is read by peers, so it is the one thing in a chain that somebody else's mistakes are in."""
    disks = consortium()
    ledger = disks[1].book.copy()
    disks[1].book.grow(1)
    start(disks).ask()
    good = ledger.recover([replace(ledger.statement(NAMES[1]), sequence=9, hash="a" * 64)]).links(-1)[-1]
    whole = {**(good.body or {}), **body}
    link = _rehashed(replace(good, body=whole, body_digest=digest(canonical(whole)).hex()))
    said = replace(ledger.statement(NAMES[1]), sequence=link.sequence, hash=link.hash).encode()
    note = Question(bytes(32), said, IDENTITIES[1].sign(STATEMENT, said), (link,)).encode()

    ((_, answer),) = party(0, disks[0]).receive(1, note)
    assert isinstance(read(answer), Objection)


def _rehashed(link: Link) -> Link:
    from dp import chain  # the module's own recipe

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
