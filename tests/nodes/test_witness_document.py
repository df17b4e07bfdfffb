"""A second implementation, written from docs/reference/witness-protocol.md alone, speaks with ours."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dp import witness
from nodes import notes, rollback, witness_notes
from nodes.windows import Placed
from tests.nodes.witnesses import IDENTITIES, NAMES, Disk, consortium, party

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "witness-protocol.md").read_text()


# ---- section 1


def enc(*values: Any) -> bytes:
    out = b""
    for value in values:
        match value:
            case int():
                kind, payload = b"i", value.to_bytes((value.bit_length() + 7) // 8, "big")
            case bytes():
                kind, payload = b"b", value
            case str():
                kind, payload = b"t", value.encode()
            case _:
                kind, payload = b"l", enc(*value)
        out += kind + len(payload).to_bytes(8, "big") + payload
    return out


def dec(octets: bytes) -> tuple[Any, ...]:
    values: list[Any] = []
    while octets:
        kind, size = octets[:1], int.from_bytes(octets[1:9], "big")
        payload, octets = octets[9 : 9 + size], octets[9 + size :]
        read = {b"i": lambda raw: int.from_bytes(raw, "big"), b"b": bytes, b"t": bytes.decode, b"l": dec}
        values.append(read[kind](payload))  # type: ignore[operator]
    return tuple(values)


def canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def signed(public: bytes, signature: bytes, *values: Any) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, enc(*values))
    except InvalidSignature:
        return False
    return True


# ---- section 3


def follows(link: tuple[Any, ...], before: tuple[int, bytes]) -> bool:
    number: int = link[0]
    previous: bytes = link[3]
    return previous == before[1] and (number > before[0] if link[1] == "recover" else number == before[0] + 1)


def right(link: tuple[Any, ...]) -> bool:
    sequence, kind, at, previous, body_digest, own, body = link
    entry = {"at": at, "body_digest": body_digest.hex(), "kind": kind, "previous": previous.hex(), "sequence": sequence}
    shown: bool = hashlib.sha256(body).digest() == body_digest if kind == "recover" else body == b""
    return shown and bytes(own) == hashlib.sha256(b"haemfed/ledger/v2\n" + canonical(entry)).digest()


def extends(held: dict[str, Any], new: dict[str, Any], links: tuple[Any, ...]) -> bool:
    if new == held:
        return True
    if new["sequence"] <= held["sequence"] or not links or links[-1][5].hex() != new["hash"]:
        return False
    if not all(map(right, links)) or not all(follows(b, (a[0], a[5])) for a, b in pairwise(links)):
        return False
    if any(follows(link, (held["sequence"], bytes.fromhex(held["hash"]))) for link in links):
        return True
    head = {"hash": held["hash"], "sequence": held["sequence"]}
    named = any(link[1] == "recover" and head in json.loads(link[6])["heads"] for link in links)
    return named and all(int(new["committed"][name]) >= int(units) for name, units in held["committed"].items())


class Peer:
    """Section 5."""

    def __init__(self, key: bytes, peers: dict[int, tuple[str, bytes]]) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(key)
        self.peers = peers
        self.held: dict[bytes, tuple[bytes, bytes]] = {}

    def answer(self, member: int, note: bytes) -> bytes | None:
        label, nonce, statement, signature, asked, page, count, links = dec(note)
        name, public = self.peers[member]
        assert (label, page, count) == ("haemfed/witness-question/v1", 0, 1)
        digest = hashlib.sha256(statement).digest()
        if not signed(public, signature, "haemfed/ledger-statement/v1", statement):
            return None
        if not signed(public, asked, "haemfed/ledger-question/v1", nonce, digest):
            return None
        new = json.loads(statement)
        if canonical(new) != statement or new["site"] != name:
            return None
        held, theirs = self.held.get(public, (statement, signature))
        if not extends({**json.loads(held), "site": name}, new, links):
            shown = self.key.sign(enc("haemfed/ledger-objection/v1", nonce, hashlib.sha256(held).digest(), public))
            return enc("haemfed/witness-objection/v1", nonce, held, theirs, shown)
        self.held[public] = (statement, signature)
        receipt = self.key.sign(enc("haemfed/ledger-receipt/v1", nonce, digest, public, 0, 0, 0, b"p" * 32))
        return enc("haemfed/witness-receipt/v2", nonce, digest, 0, 0, 0, b"p" * 32, receipt)


class Others:
    """All peers of site 0, in the second implementation."""

    def __init__(self) -> None:
        everybody = {index: (NAMES[index], IDENTITIES[index].public) for index in range(4)}
        self.peers = {index: Peer(IDENTITIES[index].seed, everybody) for index in (1, 2, 3)}

    def start(self, disk: Disk) -> Any:
        ours = party(0, disk)
        waiting = ours.questions()
        while waiting:
            to, note = waiting.pop()
            answer = self.peers[to].answer(0, note)
            waiting += ours.receive(to, answer) if answer is not None else []
        return ours


def test_theirs_witness_ours() -> None:
    disk, others = consortium()[0], Others()
    assert others.start(disk).ready
    disk.book.grow(5)
    old = disk.copy()
    assert others.start(disk).ready
    disk.book.grow(2)
    assert others.start(disk).ready

    restored = others.start(old)
    assert not restored.ready
    old.book.grow(1, salt=9)
    forked = others.start(old)
    assert not forked.ready
    old.book.recover([each.statement for each in (*restored.objections, *forked.objections)]).grow(1)
    assert others.start(old).ready
    disk.book.grow(9)  # the other copy
    assert not others.start(disk).ready


def test_ours_witness_theirs() -> None:
    disks = consortium()
    ours = party(0, disks[0], last_round=9, place=lambda number: Placed(number, 1, 7))
    key = Ed25519PrivateKey.from_private_bytes(IDENTITIES[1].seed)

    def ask(statement: bytes, links: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        signature = key.sign(enc("haemfed/ledger-statement/v1", statement))
        asked = key.sign(enc("haemfed/ledger-question/v1", b"n" * 32, hashlib.sha256(statement).digest()))
        note = enc("haemfed/witness-question/v1", b"n" * 32, statement, signature, asked, 0, 1, links)
        ((to, answer),) = ours.receive(1, note)
        assert to == 1
        return (*dec(answer), signature)

    def statement(sequence: int, head: str) -> bytes:
        values = {"committed": {"training": "7"}, "filters": {"training": "GDP 1e-05"}, "runs": [], "unbounded": []}
        place = {"hash": head, "sequence": sequence, "site": "site-1", "format": "haemfed/ledger-statement/v1"}
        return canonical({**values, **place})

    def link(sequence: int, previous: str) -> tuple[Any, ...]:
        body_digest = hashlib.sha256(b"{}").hexdigest()
        entry = {"at": "t", "body_digest": body_digest, "kind": "k", "previous": previous, "sequence": sequence}
        own = hashlib.sha256(b"haemfed/ledger/v2\n" + canonical(entry)).digest()
        return (sequence, "k", "t", bytes.fromhex(previous), bytes.fromhex(body_digest), own, b"")

    first = statement(4, "a" * 64)
    label, nonce, digest, number, stage, start, by, signature, _ = ask(first)
    assert (number, stage, start, by) == (9, 1, 7, ours._nonce)
    assert (label, nonce, digest) == ("haemfed/witness-receipt/v2", b"n" * 32, hashlib.sha256(first).digest())
    values = ("haemfed/ledger-receipt/v1", nonce, digest, IDENTITIES[1].public, number, stage, start, by)
    assert signed(IDENTITIES[0].public, signature, *values)

    fifth = link(5, "a" * 64)
    links: tuple[Any, ...] = (fifth, link(6, fifth[5].hex()))
    later = statement(6, links[1][5].hex())
    for too_few in ((), links[1:], links[:1]):
        label, _, shown, by_them, by_us, _ = ask(later, too_few)
        assert (label, shown) == ("haemfed/witness-objection/v1", first)
        assert signed(IDENTITIES[1].public, by_them, "haemfed/ledger-statement/v1", first)
        about = (b"n" * 32, hashlib.sha256(first).digest(), IDENTITIES[1].public)
        assert signed(IDENTITIES[0].public, by_us, "haemfed/ledger-objection/v1", *about)
    assert ask(later, links)[0] == "haemfed/witness-receipt/v2"
    assert ask(first)[:3] == ("haemfed/witness-objection/v1", b"n" * 32, later)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (notes.NOTE, "262,144 octets"),
        (notes._WAITING, "finds four notes"),
        (witness.LARGEST_STATEMENT, "at most 65,536 octets"),
        (witness_notes.NONCE, "nonce (32)"),
        (rollback._FORMAT, "haemfed/rollback/1"),
        (rollback.NAME, "rollback.json"),
        (witness_notes._QUESTION, "haemfed/witness-question/v1"),
        (witness_notes.MOST_PAGES, "64 questions"),
        (witness_notes._MORE, "haemfed/witness-more/v1"),
        (witness_notes._RECEIPT, "haemfed/witness-receipt/v2"),
        (witness_notes._OBJECTION, "haemfed/witness-objection/v1"),
    ],
)
def test_numbers_and_names_are_those_of_the_code(number: int | str, said: str) -> None:
    assert said in TEXT
    words = {"four": 4}
    found = [word.strip("()") for word in said.replace(",", "").split()]
    assert number in [words.get(word, int(word) if word.isdigit() else word) for word in found]
