"""Entries of the ledger as rows of the database, and back; apart from `nodes.records`, which loads the protocol."""

from __future__ import annotations

import json

from dp.chain import canonical
from dp.errors import LedgerCorrupt
from dp.ledger import Entry
from nodes.store import LedgerRow

__all__ = ["entry_of", "row_of"]


def row_of(entry: Entry) -> LedgerRow:
    """Return a ledger entry as the store keeps it."""
    body = canonical(entry.body).decode()
    return LedgerRow(entry.sequence, entry.previous, entry.kind, body, entry.at, entry.hash)


def entry_of(row: LedgerRow) -> Entry:
    """Return a stored ledger entry; its place and content are checked by `dp.ledger.fold`.

    Raises:
        LedgerCorrupt: its content is no object.
    """
    try:
        body = json.loads(row.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise LedgerCorrupt(f"ledger entry {row.sequence}: its content is not what haemfed writes")
    return Entry(row.sequence, row.previous, row.kind, body, row.at, row.hash)
