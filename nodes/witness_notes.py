"""The four notes of witnessing: question, more, receipt, objection; their canonical octets.

A note is ``enc(label, fields in order)`` of `secagg.encoding`; what cannot be read is no note, and whoever gets it
ignores it: the coordinator may hand over anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dp.chain import Link, canonical
from nodes.notes import NOTE
from nodes.windows import Placed
from secagg.encoding import Value, dec, enc
from secagg.errors import MalformedMessage

__all__ = [
    "MOST_PAGES",
    "NONCE",
    "OBJECTION",
    "QUESTION",
    "RECEIPT",
    "STATEMENT",
    "More",
    "Objection",
    "Question",
    "Receipt",
    "WitnessNote",
    "digest",
    "pages",
    "read",
]

NONCE: Final = 32
"""Octets of the nonce that a site draws at every start of its process: the session nonce of `secagg`."""
STATEMENT: Final = "ledger-statement"
QUESTION: Final = "ledger-question"
RECEIPT: Final = "ledger-receipt"
OBJECTION: Final = "ledger-objection"
"""Purposes for which a site's identity signs."""
MOST_PAGES: Final = 64
"""Questions over which one chain of links is spread at most: far more than 50,000 entries."""
_DIGEST, _SIGNATURE = 32, 64
_MOST: Final = 2**63  # entries of a ledger, round numbers, stages
_ROOM: Final = NOTE - (1 << 16) - 1024  # octets for links, beside the longest statement and everything else
_QUESTION: Final = "haemfed/witness-question/v1"
_MORE: Final = "haemfed/witness-more/v1"
_RECEIPT: Final = "haemfed/witness-receipt/v2"
_OBJECTION: Final = "haemfed/witness-objection/v1"


@dataclass(frozen=True)
class Question:
    """Do you hold a statement of mine that this one does not continue?

    Args:
        nonce: the asking process's session nonce; the answer repeats it.
        statement: `dp.witness.Statement.encode` of the asking site's ledger.
        signature: by the asking site's identity, over the statement.
        asked: by the asking site's identity, over nonce and digest of the statement: nobody else asks in the name of a
            process.
        page: which of the pages of links this is, from 0.
        count: how many there are, 1 … `MOST_PAGES`.
        links: how this statement continues the one that the peer holds, oldest first; empty until that is known.
    """

    nonce: bytes
    statement: bytes
    signature: bytes = field(repr=False)
    asked: bytes = field(repr=False)
    page: int = 0
    count: int = 1
    links: tuple[Link, ...] = ()

    def encode(self) -> bytes:
        """Return the note."""
        links = tuple(map(_record, self.links))
        return enc(_QUESTION, self.nonce, self.statement, self.signature, self.asked, self.page, self.count, links)


@dataclass(frozen=True)
class More:
    """I have the pages before this one: send it.

    Args:
        nonce: of the question.
        digest: SHA-256 of its statement.
        page: which is wanted.
    """

    nonce: bytes
    digest: bytes
    page: int

    def encode(self) -> bytes:
        """Return the note."""
        return enc(_MORE, self.nonce, self.digest, self.page)


@dataclass(frozen=True)
class Receipt:
    """I hold this statement of yours, on my disk.

    Args:
        nonce: of the question.
        digest: SHA-256 of the statement.
        last: the last round of this run for which the answering site may have uploaded together with another process of
            the asking site, and the stage that this round was in.
        by: session nonce of the answering process.
        signature: by the answering site's identity, over nonce, digest, the asking site's identity, round, stage,
            start and `by`.
    """

    nonce: bytes
    digest: bytes
    last: Placed
    by: bytes
    signature: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the note."""
        last = (self.last.round, self.last.stage, self.last.start)
        return enc(_RECEIPT, self.nonce, self.digest, *last, self.by, self.signature)


@dataclass(frozen=True)
class Objection:
    """I hold this other statement of yours, and as far as I can see yours does not continue it.

    Args:
        nonce: of the question.
        statement: the one that is held.
        signature: over it, by the *asking* site's identity: what it signed itself is all that it believes.
        shown: by the answering site's identity, over nonce, digest of the held statement and the asking site's
            identity: nobody else shows old statements in its name.
    """

    nonce: bytes
    statement: bytes
    signature: bytes = field(repr=False)
    shown: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the note."""
        return enc(_OBJECTION, self.nonce, self.statement, self.signature, self.shown)


WitnessNote: TypeAlias = Question | More | Receipt | Objection


def digest(statement: bytes) -> bytes:
    """Return what a receipt names a statement by."""
    return hashlib.sha256(statement).digest()


def pages(links: Sequence[Link]) -> tuple[tuple[Link, ...], ...]:
    """Cut links into pages that fit into a question each; at least one, and one empty one if they are too many."""
    cut: list[list[Link]] = [[]]
    room = _ROOM
    for link in links:
        size = len(enc(_record(link)))
        if size > room and cut[-1]:
            cut.append([])
            room = _ROOM
        if size > room or len(cut) > MOST_PAGES:
            return ((),)
        cut[-1].append(link)
        room -= size
    return tuple(map(tuple, cut))


def read(octets: bytes) -> WitnessNote | None:
    """Return the note, or None if this is none."""
    try:
        values = dec(octets)
    except MalformedMessage:
        return None
    match values:
        case (str(label), bytes(nonce), bytes(first), *rest) if len(nonce) == NONCE:
            return _note(label, nonce, first, rest)
    return None


def _note(label: str, nonce: bytes, first: bytes, rest: Sequence[Value]) -> WitnessNote | None:
    match rest:
        case [bytes(own), bytes(asked), int(page), int(count), tuple(records)] if label == _QUESTION:
            if len(own) == len(asked) == _SIGNATURE and page < count <= MOST_PAGES:
                links = [_link(each) for each in records]
                whole = tuple(link for link in links if link is not None)
                return Question(nonce, first, own, asked, page, count, whole) if len(whole) == len(links) else None
        case [int(page)] if label == _MORE:
            return More(nonce, first, page) if len(first) == _DIGEST and page < MOST_PAGES else None
        case [int(number), int(stage), int(start), bytes(by), bytes(own)] if label == _RECEIPT:
            sized = len(first) == _DIGEST and len(by) == NONCE and len(own) == _SIGNATURE
            if sized and max(number, stage, start) < _MOST:
                return Receipt(nonce, first, Placed(number, stage, start), by, own)
        case [bytes(own), bytes(shown)] if label == _OBJECTION and len(own) == len(shown) == _SIGNATURE:
            return Objection(nonce, first, own, shown)
    return None


def _record(link: Link) -> Value:
    body = canonical(link.body) if link.body is not None else b""
    hashes = (bytes.fromhex(each) for each in (link.previous, link.body_digest, link.hash))
    return (link.sequence, link.kind, link.at, *hashes, body)


def _link(value: Value) -> Link | None:
    match value:
        case (int(sequence), str(kind), str(at), bytes(previous), bytes(body_digest), bytes(own), bytes(body)):
            hashes = (previous, body_digest, own)
            if all(len(each) == _DIGEST for each in hashes) and sequence < _MOST:
                return _with_body(sequence, kind, at, [each.hex() for each in hashes], body)
    return None


def _with_body(sequence: int, kind: str, at: str, hashes: list[str], octets: bytes) -> Link | None:
    previous, body_digest, own = hashes
    if not octets:
        return Link(sequence, previous, kind, at, body_digest, own)
    try:
        body = json.loads(octets)
        spelt = canonical(body)
    except (ValueError, RecursionError):
        return None
    # The one spelling only: so the octets are what the digest is of, and hold no number that JSON has not.
    whole = isinstance(body, dict) and bool(body) and spelt == octets
    return Link(sequence, previous, kind, at, body_digest, own, body) if whole else None
