"""The three notes of witnessing: question, receipt, objection; their canonical octets.

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
from secagg.encoding import Value, dec, enc
from secagg.errors import MalformedMessage

__all__ = ["NONCE", "RECEIPT", "STATEMENT", "Objection", "Question", "Receipt", "WitnessNote", "digest", "read"]

NONCE: Final = 32
"""Octets of the nonce that a site draws at every start of its process."""
STATEMENT: Final = "ledger-statement"
RECEIPT: Final = "ledger-receipt"
"""Purposes for which a site's identity signs."""
_DIGEST, _SIGNATURE = 32, 64
_MOST: Final = 2**63  # entries of a ledger
_QUESTION: Final = "haemfed/witness-question/v1"
_RECEIPT: Final = "haemfed/witness-receipt/v1"
_OBJECTION: Final = "haemfed/witness-objection/v1"


@dataclass(frozen=True)
class Question:
    """Do you hold a statement of mine that this one does not continue?

    Args:
        nonce: of the asking process; the answer repeats it.
        statement: `dp.witness.Statement.encode` of the asking site's ledger.
        signature: by the asking site's identity, over the statement.
        links: how this statement continues the one that the peer holds, oldest first; empty until that is known.
    """

    nonce: bytes
    statement: bytes
    signature: bytes = field(repr=False)
    links: tuple[Link, ...] = ()

    def encode(self) -> bytes:
        """Return the note; without its links if they make it longer than a note may be."""
        links = tuple(map(_record, self.links))
        octets = enc(_QUESTION, self.nonce, self.statement, self.signature, links)
        return octets if len(octets) <= NOTE else enc(_QUESTION, self.nonce, self.statement, self.signature, ())


@dataclass(frozen=True)
class Receipt:
    """I hold this statement of yours, on my disk.

    Args:
        nonce: of the question.
        digest: SHA-256 of the statement.
        signature: by the answering site's identity, over nonce, digest and the asking site's identity.
    """

    nonce: bytes
    digest: bytes
    signature: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the note."""
        return enc(_RECEIPT, self.nonce, self.digest, self.signature)


@dataclass(frozen=True)
class Objection:
    """I hold this other statement of yours, and as far as I can see yours does not continue it.

    Args:
        nonce: of the question.
        statement: the one that is held.
        signature: over it, by the *asking* site's identity: what it signed itself is all that it believes.
    """

    nonce: bytes
    statement: bytes
    signature: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the note."""
        return enc(_OBJECTION, self.nonce, self.statement, self.signature)


WitnessNote: TypeAlias = Question | Receipt | Objection


def digest(statement: bytes) -> bytes:
    """Return what a receipt names a statement by."""
    return hashlib.sha256(statement).digest()


def read(octets: bytes) -> WitnessNote | None:
    """Return the note, or None if this is none."""
    try:
        values = dec(octets)
    except MalformedMessage:
        return None
    match values:
        case (str(label), bytes(nonce), bytes(first), bytes(signature), *rest) if (
            len(nonce) == NONCE and len(signature) == _SIGNATURE
        ):
            return _note(label, nonce, first, signature, rest)
    return None


def _note(label: str, nonce: bytes, first: bytes, signature: bytes, rest: Sequence[Value]) -> WitnessNote | None:
    if label == _QUESTION and len(rest) == 1 and isinstance(rest[0], tuple):
        links = [_link(each) for each in rest[0]]
        whole = [link for link in links if link is not None]
        return Question(nonce, first, signature, tuple(whole)) if len(whole) == len(links) else None
    if label == _RECEIPT and not rest and len(first) == _DIGEST:
        return Receipt(nonce, first, signature)
    if label == _OBJECTION and not rest:
        return Objection(nonce, first, signature)
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
    return Link(sequence, previous, kind, at, body_digest, own, body) if body and spelt == octets else None
