"""The sums of a run, kept alike by sites and by the coordinator."""

import json

from sqlalchemy import Connection, insert, select

from nodes.store.rows import StoredSum
from nodes.store.tables import ServedSum, Sum

__all__ = ["add", "at", "every"]


def add(connection: Connection, table: type[Sum | ServedSum], run_id: bytes, new: StoredSum) -> None:
    """Insert a sum."""
    roster = json.dumps([[member, nonce.hex()] for member, nonce in new.roster], separators=(",", ":"))
    connection.execute(
        insert(table).values(run_id=run_id, position=new.position, round=new.round, roster=roster, words=new.words)
    )


def at(connection: Connection, table: type[Sum | ServedSum], run_id: bytes, position: int) -> StoredSum | None:
    """Return the sum at a position."""
    columns = select(table.position, table.round, table.roster, table.words)
    found = connection.execute(columns.where(table.run_id == run_id, table.position == position)).first()
    return None if found is None else _read(*found)


def every(connection: Connection, table: type[Sum | ServedSum], run_id: bytes) -> list[StoredSum]:
    """Return a run's sums in order."""
    columns = select(table.position, table.round, table.roster, table.words)
    rows = connection.execute(columns.where(table.run_id == run_id).order_by(table.position))
    return [_read(*row) for row in rows]


def _read(position: int, number: int, roster: str, words: bytes) -> StoredSum:
    pairs = tuple((int(member), bytes.fromhex(nonce)) for member, nonce in json.loads(roster))
    return StoredSum(position, number, pairs, words)
