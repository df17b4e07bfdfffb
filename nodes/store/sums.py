"""The sums of a run, kept alike by sites and by the coordinator."""

import json

from sqlalchemy import Connection, func, insert, select

from nodes.store.rows import StoredSum, SumEntry
from nodes.store.tables import ServedSum, Sum

__all__ = ["add", "at", "entries", "words"]


def add(connection: Connection, table: type[Sum | ServedSum], run_id: bytes, new: StoredSum) -> None:
    """Insert a sum."""
    roster = json.dumps([[member, nonce.hex()] for member, nonce in new.roster], separators=(",", ":"))
    connection.execute(
        insert(table).values(
            run_id=run_id,
            position=new.position,
            round=new.round,
            roster=roster,
            survivors=" ".join(map(str, new.survivors)),
            words=new.words,
        )
    )


def at(connection: Connection, table: type[Sum | ServedSum], run_id: bytes, position: int) -> StoredSum | None:
    """Return the sum at a position."""
    columns = select(table.round, table.roster, table.survivors, table.words)
    found = connection.execute(columns.where(table.run_id == run_id, table.position == position)).first()
    if found is None:
        return None
    return StoredSum(position, found.round, _roster(found.roster), _members(found.survivors), found.words)


def entries(connection: Connection, table: type[Sum | ServedSum], run_id: bytes) -> list[SumEntry]:
    """Return a run's sums in order, without their words."""
    columns = select(table.position, table.round, table.roster, table.survivors, func.length(table.words))
    rows = connection.execute(columns.where(table.run_id == run_id).order_by(table.position))
    return [
        SumEntry(position, number, _roster(roster), _members(survivors), size)
        for position, number, roster, survivors, size in rows
    ]


def words(
    connection: Connection, table: type[Sum | ServedSum], run_id: bytes, position: int, offset: int, most: int
) -> bytes:
    """Return a piece of a sum's words; nothing if there is no such sum."""
    piece = select(func.substr(table.words, offset + 1, most))  # SQL counts from 1
    return bytes(connection.scalar(piece.where(table.run_id == run_id, table.position == position)) or b"")


def _roster(text: str) -> tuple[tuple[int, bytes], ...]:
    return tuple((int(member), bytes.fromhex(nonce)) for member, nonce in json.loads(text))


def _members(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))
