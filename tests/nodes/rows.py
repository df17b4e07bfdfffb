"""Rows that the store tests write."""

import hashlib
import json

from nodes.store import LedgerRow, StoredSum

RUN, STUDY = b"r" * 32, b"s" * 32
ROSTER = ((1, b"n" * 32), (4, b"m" * 32))


def total(position: int, number: int, words: bytes, survivors: tuple[int, ...] = (1, 4)) -> StoredSum:
    return StoredSum(position, number, ROSTER, survivors, words)


def row(number: int, previous: str = "", kind: str = "upload") -> LedgerRow:
    """A chain of its own: the store checks links, `dp.ledger` checks what they mean."""
    previous = previous or ("0" * 64 if number == 0 else row(number - 1).hash)
    body = json.dumps({"number": number})
    text = f"{number}|{previous}|{body}"
    return LedgerRow(number, previous, kind, body, "2026-11-25T12:00:00Z", hashlib.sha256(text.encode()).hexdigest())
