"""The coordinator's database: round numbers, set-up messages and sums. It holds no key and no model.

Each method is one transaction and is on the disk when it returns, so that "store, then send" is two lines.
"""

import hashlib

from sqlalchemy import Connection, func, insert, select, update

from nodes.errors import InternalError, StudyStopped
from nodes.store import sums
from nodes.store.database import Database, Store
from nodes.store.rows import CoordinatorRun, StoredSetup, StoredSum, SumEntry
from nodes.store.tables import RelayedSetup, ServedRun, ServedSum

__all__ = ["CoordinatorStore"]


class CoordinatorStore(Store):
    """Open (and create or migrate) a coordinator's database.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        ConfigError: not a usable URL.
        StorageProblem: (from every method, too) disk full, locked, damaged, unreachable, or newer than this
            version; names the path or the URL without its password. Nothing was written.
    """

    def __init__(self, url: str) -> None:
        super().__init__(Database(url, "coordinator"))

    def state(self, run_id: bytes) -> CoordinatorRun | None:
        """Return the run, or None if nothing was ever stored about it."""
        with self._database.read() as connection:
            return _run(connection, run_id)

    def last_round(self, run_id: bytes) -> int:
        """Return the last round number that was reserved; 0 if none."""
        run = self.state(run_id)
        return 0 if run is None else run.last_round

    def set_last_round(self, run_id: bytes, number: int, roster: tuple[int, ...], changes: int) -> None:
        """Reserve a round number before anything of the round is sent, or count that a member dropped out of it.

        Args:
            run_id: The run.
            number: The round; the last one again with more changes than before.
            roster: Member indices that are asked; when it comes again, those that are left.
            changes: How often the roster has changed so far.

        Raises:
            StudyStopped: the run is finished.
            InternalError: neither the number nor the changes grow.
        """
        with self._database.write() as connection:
            run = self._open(connection, run_id)
            if (number, changes) <= (run.last_round, run.changes) or number < 1 or changes < run.changes:
                raise InternalError(f"round {number} cannot follow round {run.last_round}: rounds only grow")
            connection.execute(
                update(ServedRun)
                .where(ServedRun.run_id == run_id)
                .values(last_round=number, roster=" ".join(map(str, roster)), changes=changes)
            )

    def add_setup(self, run_id: bytes, kind: str, member: int, payload: bytes) -> None:
        """Keep a set-up message for members that come later; keeping the same bytes again changes nothing.

        Args:
            run_id: The run.
            kind: Name of the message type.
            member: Its sender, 1..255, or 0 for the coordinator itself.
            payload: Its bytes.

        Raises:
            StudyStopped: the run is finished.
        """
        digest = hashlib.sha256(payload).digest()
        known = select(func.count()).where(
            RelayedSetup.run_id == run_id,
            RelayedSetup.kind == kind,
            RelayedSetup.member == member,
            RelayedSetup.digest == digest,
        )
        with self._database.write() as connection:
            self._open(connection, run_id)
            if not connection.scalar(known):
                connection.execute(
                    insert(RelayedSetup).values(run_id=run_id, kind=kind, member=member, digest=digest, payload=payload)
                )

    def setup(self, run_id: bytes) -> list[StoredSetup]:
        """Return the run's set-up messages in the order of arrival."""
        columns = select(RelayedSetup.kind, RelayedSetup.member, RelayedSetup.payload)
        with self._database.read() as connection:
            rows = connection.execute(columns.where(RelayedSetup.run_id == run_id).order_by(RelayedSetup.number))
            return [StoredSetup(*row) for row in rows]

    def add_sum(self, run_id: bytes, new: StoredSum) -> None:
        """Keep a sum before it is sent; keeping the identical sum again changes nothing.

        Args:
            run_id: The run.
            new: The sum; its position is the number of sums before it.

        Raises:
            StudyStopped: the run is finished.
            InternalError: another sum stands there, or one before it is missing.
        """
        with self._database.write() as connection:
            run = self._open(connection, run_id)
            if new.position < run.sums and sums.at(connection, ServedSum, run_id, new.position) == new:
                return
            if run.sums != new.position:
                raise InternalError(f"sum {new.position} of run {run_id.hex()[:16]} does not follow {run.sums} sums")
            sums.add(connection, ServedSum, run_id, new)

    def history(self, run_id: bytes) -> list[SumEntry]:
        """Return the run's sums in order, without their words."""
        with self._database.read() as connection:
            return sums.entries(connection, ServedSum, run_id)

    def words(self, run_id: bytes, position: int, offset: int, most: int) -> bytes:
        """Return at most `most` octets of a sum's words from `offset` on: nobody needs a whole sum in memory."""
        with self._database.read() as connection:
            return sums.words(connection, ServedSum, run_id, position, offset, most)

    def finish(self, run_id: bytes, reason: str, *, ok: bool) -> None:
        """End the run for ever; ending it again in the same way changes nothing.

        Raises:
            InternalError: it ended in another way before.
        """
        with self._database.write() as connection:
            run = _run(connection, run_id)
            if run is not None and run.reason is not None:
                if (run.reason, run.ok) != (reason, ok):
                    raise InternalError(f"run {run_id.hex()[:16]} ended before as {run.reason!r}")
                return
            self._open(connection, run_id)
            ending = update(ServedRun).where(ServedRun.run_id == run_id)
            connection.execute(ending.values(reason=reason, ok=ok))

    @staticmethod
    def _open(connection: Connection, run_id: bytes) -> CoordinatorRun:
        """Return the run, locked until the transaction ends; the first word about a run creates it."""
        locked = select(ServedRun.run_id).where(ServedRun.run_id == run_id).with_for_update()
        if connection.execute(locked).first() is None:
            connection.execute(
                insert(ServedRun).values(run_id=run_id, last_round=0, roster="", changes=0, reason=None, ok=None)
            )
        run = _run(connection, run_id)
        if run is None:  # pragma: no cover -- inserted or locked two lines above
            raise InternalError(f"run {run_id.hex()[:16]} vanished")
        if run.reason is not None:
            raise StudyStopped(f"run {run_id.hex()[:16]} ended ({run.reason}); it takes nothing more")
        return run


def _run(connection: Connection, run_id: bytes) -> CoordinatorRun | None:
    count = select(func.count()).where(ServedSum.run_id == run_id).scalar_subquery()
    columns = select(
        ServedRun.run_id,
        ServedRun.last_round,
        ServedRun.roster,
        ServedRun.changes,
        count,
        ServedRun.reason,
        ServedRun.ok,
    )
    found = connection.execute(columns.where(ServedRun.run_id == run_id)).first()
    if found is None:
        return None
    identifier, last_round, roster, *rest = found
    return CoordinatorRun(identifier, last_round, tuple(map(int, roster.split())), *rest)
