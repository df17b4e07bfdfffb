"""A site's database: ledger, approvals, runs, uploads and the sums it applied.

Each method is one transaction. What must be true together is written together: an upload exists if and only
if its charge does, and a run exists if and only if its reservation does and an approval was used up for it.
The database holds these rules too (foreign keys, triggers), so that no other program breaks them by accident.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.engine import URL

from nodes.errors import InternalError, PeerProblem, PolicyRefusal, StorageProblem, StudyStopped
from nodes.store import sums
from nodes.store.database import Database, Store
from nodes.store.rows import LedgerRow, SiteRun, StoredSum, StoredUpload, WitnessedRow
from nodes.store.tables import Approval, Ledger, Run, Sum, Upload, Witnessed

__all__ = ["SiteStore"]

_RECOVERY: Final = "recover"


class SiteStore(Store):
    """Open (and create or migrate) a site's SQLite database, mode 0600.

    The caller holds the lock of the data directory; a command that only reads may open it beside the daemon.

    Args:
        path: The database file; its directory exists.

    Raises:
        StorageProblem: (from every method, too) disk full, locked, damaged, not writable, or newer than this
            version; names the path. Nothing was written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(Database(URL.create("sqlite", database=str(path)), "site"))

    # The ledger.

    def entries(self) -> list[LedgerRow]:
        """Return every ledger entry in order; `dp.ledger.fold` verifies the chain."""
        with self._database.read() as connection:
            columns = (Ledger.sequence, Ledger.previous, Ledger.kind, Ledger.body, Ledger.at, Ledger.hash)
            rows = connection.execute(select(*columns).order_by(Ledger.sequence))
            return [LedgerRow(*row) for row in rows]

    def append(self, row: LedgerRow) -> None:
        """Append one entry; when this returns it is on the disk.

        Raises:
            StorageProblem: it does not follow the last entry: another process wrote in between.
        """
        with self._database.write() as connection:
            self._append(connection, row)

    # Runs.

    def approve(self, study_digest: bytes, at: str) -> None:
        """Record a person's approval of one run of a study.

        Approving again while an approval is still open changes nothing: two clicks are not two runs.
        """
        with self._database.write() as connection:
            if _open_approval(connection, study_digest) is None:
                connection.execute(insert(Approval).values(study_digest=study_digest, at=at))

    def approved(self, study_digest: bytes) -> bool:
        """Say whether an approval of this study is waiting to be used."""
        with self._database.read() as connection:
            return _open_approval(connection, study_digest) is not None

    def open_run(self, run_id: bytes, study_digest: bytes, row: LedgerRow) -> None:
        """Use up the approval, reserve the study's whole cost and begin the run, all or nothing.

        Args:
            run_id: 32 bytes; never used before at this site.
            study_digest: 32 bytes of the approved study.
            row: The reservation.

        Raises:
            PolicyRefusal: the run id was used before, or nobody approved this study.
        """
        with self._database.write() as connection:
            if _run(connection, run_id) is not None:
                raise PolicyRefusal(
                    f"run {run_id.hex()[:16]} was used before at this site and a run is never reopened; "
                    "ask for the study with a new run number and approve that"
                )
            approval = _open_approval(connection, study_digest)
            if approval is None:
                raise PolicyRefusal(f"study {study_digest.hex()[:16]} is not approved here; run: haemfed study sign")
            self._append(connection, row)
            connection.execute(
                insert(Run).values(
                    run_id=run_id,
                    study_digest=study_digest,
                    last_round=0,
                    outcome=None,
                    reserved_by=row.sequence,
                )
            )
            connection.execute(update(Approval).where(Approval.number == approval).values(run_id=run_id))

    def close_run(self, run_id: bytes, outcome: str, row: LedgerRow | None = None) -> None:
        """End the run for ever and erase its upload bytes; the sums stay, they were released.

        Args:
            run_id: An open run; closing it again with the same outcome changes nothing.
            outcome: One word or our own sentence.
            row: The closing ledger entry, written in the same transaction; ignored if already closed.

        Raises:
            InternalError: no such run, or it is closed with another outcome.
        """
        with self._database.write() as connection:
            run = _run(connection, run_id)
            if run is None or run.outcome not in {None, outcome}:
                raise InternalError(f"run {run_id.hex()[:16]} cannot be closed as {outcome!r}: it is not open")
            if run.outcome is None:
                if row is not None:
                    self._append(connection, row)
                connection.execute(update(Run).where(Run.run_id == run_id).values(outcome=outcome))
                connection.execute(update(Upload).where(Upload.run_id == run_id).values(payload=None))

    def run_state(self, run_id: bytes) -> SiteRun | None:
        """Return the run, or None if it was never opened here."""
        with self._database.read() as connection:
            return _run(connection, run_id)

    def runs(self) -> list[SiteRun]:
        """Return every run this site ever opened, oldest first."""
        with self._database.read() as connection:
            identifiers = connection.scalars(select(Run.run_id).order_by(Run.reserved_by)).all()
            return [run for run_id in identifiers if (run := _run(connection, run_id)) is not None]

    # Uploads.

    def record_upload(
        self,
        row: LedgerRow,
        run_id: bytes,
        round: int,  # noqa: A002 -- the protocol's word
        context: bytes,
        payload: bytes,
    ) -> None:
        """Charge and store an upload before it is sent: ledger entry, bytes and round number together.

        The bytes of earlier rounds of the run are erased: round numbers only grow, nobody can ask for them.

        Args:
            row: The charge.
            run_id: An open run.
            round: Greater than every round of the run before.
            context: 32 bytes, the mask context; never used before.
            payload: The upload as it will be sent, and sent again if need be, share boxes included.

        Raises:
            StudyStopped: the run is closed.
            InternalError: no such run, or the round number does not grow.
        """
        with self._database.write() as connection:
            last = self._writable(connection, run_id).last_round
            if round <= last:
                raise InternalError(f"round {round} cannot be masked after round {last}: rounds only grow")
            self._append(connection, row)
            connection.execute(update(Upload).where(Upload.run_id == run_id).values(payload=None))
            connection.execute(
                insert(Upload).values(
                    run_id=run_id, round=round, context=context, payload=payload, charged_by=row.sequence
                )
            )
            connection.execute(update(Run).where(Run.run_id == run_id).values(last_round=round))

    def stored_upload(self, run_id: bytes, round: int) -> StoredUpload | None:  # noqa: A002 -- the protocol's word
        """Return what was recorded for the round, if its bytes can still be asked for."""
        with self._database.read() as connection:
            columns = select(Upload.round, Upload.context, Upload.payload)
            found = connection.execute(columns.where(Upload.run_id == run_id, Upload.round == round)).first()
        if found is None or found.payload is None:
            return None
        return StoredUpload(found.round, found.context, found.payload)

    def last_round(self, run_id: bytes) -> int:
        """Return the largest round this site ever masked in the run; 0 if none."""
        state = self.run_state(run_id)
        return 0 if state is None else state.last_round

    # Sums.

    def last_summed_round(self, run_id: bytes) -> int:
        """Return the round of the last applied sum; 0 if none."""
        return max(self.summed_rounds(run_id), default=0)

    def summed_rounds(self, run_id: bytes) -> list[int]:
        """Return the rounds of all applied sums, in order."""
        with self._database.read() as connection:
            return list(connection.scalars(select(Sum.round).where(Sum.run_id == run_id).order_by(Sum.position)))

    def add_sum(self, run_id: bytes, new: StoredSum) -> None:
        """Keep a verified sum as it was broadcast; keeping the identical sum again changes nothing.

        Args:
            run_id: An open run.
            new: The sum; its position is the number of sums before it.

        Raises:
            PeerProblem: another sum stands at this position: two histories were shown to this site.
            StudyStopped: the run is closed.
            InternalError: no such run, or a sum before it is missing.
        """
        with self._database.write() as connection:
            known = sums.at(connection, Sum, run_id, new.position)
            if known == new:
                return
            if known is not None:
                raise PeerProblem(
                    f"sum {new.position} of run {run_id.hex()[:16]} differs from the one applied before; the "
                    "coordinator shows two histories: stop and tell the other hospitals"
                )
            if self._writable(connection, run_id).sums != new.position:
                raise InternalError(f"sum {new.position} of run {run_id.hex()[:16]} leaves a gap")
            sums.add(connection, Sum, run_id, new)

    def sum_at(self, run_id: bytes, position: int) -> StoredSum | None:
        """Return the sum with so many before it, or None if there is none."""
        with self._database.read() as connection:
            return sums.at(connection, Sum, run_id, position)

    # Other sites' ledgers.

    def witnessed(self, identity: bytes) -> WitnessedRow | None:
        """Return what is held of the ledger of a site, or None if it never said anything here."""
        with self._database.read() as connection:
            columns = select(Witnessed.identity, Witnessed.sequence, Witnessed.statement, Witnessed.signature)
            found = connection.execute(columns.where(Witnessed.identity == identity)).first()
        return None if found is None else WitnessedRow(*found)

    def witnessed_of_others(self, identity: bytes) -> list[WitnessedRow]:
        """Return what is held of the ledgers of all sites but one, whatever the study."""
        with self._database.read() as connection:
            columns = select(Witnessed.identity, Witnessed.sequence, Witnessed.statement, Witnessed.signature)
            return [WitnessedRow(*row) for row in connection.execute(columns.where(Witnessed.identity != identity))]

    def witness(self, row: WitnessedRow) -> None:
        """Hold a statement instead of the one before; when this returns it is on the disk and may be answered for.

        Raises:
            InternalError: a later one is held: whoever calls this has compared the two.
        """
        with self._database.write() as connection:
            held = connection.scalar(select(Witnessed.sequence).where(Witnessed.identity == row.identity))
            values = {"sequence": row.sequence, "statement": row.statement, "signature": row.signature}
            if held is None:
                connection.execute(insert(Witnessed).values(identity=row.identity, **values))
            elif row.sequence < held:
                raise InternalError(f"a statement about entry {row.sequence} cannot replace one about entry {held}")
            else:
                connection.execute(update(Witnessed).where(Witnessed.identity == row.identity).values(**values))

    def _append(self, connection: Connection, row: LedgerRow) -> None:
        last = connection.execute(
            select(Ledger.sequence, Ledger.hash).order_by(Ledger.sequence.desc()).limit(1)
        ).first()
        following = 0 if last is None else last.sequence + 1
        # A recovery alone leaves numbers out: those of the entries that are lost here and that peers have seen.
        if (row.sequence < following if row.kind == _RECOVERY else row.sequence != following) or (
            last is not None and row.previous != last.hash
        ):
            raise StorageProblem(
                f"{self._database.name}: ledger entry {row.sequence} does not follow the last one; another "
                "process wrote to the ledger. Start again: nothing was sent"
            )
        connection.execute(
            insert(Ledger).values(
                sequence=row.sequence,
                previous=row.previous,
                kind=row.kind,
                body=row.body,
                at=row.at,
                hash=row.hash,
            )
        )

    @staticmethod
    def _writable(connection: Connection, run_id: bytes) -> SiteRun:
        run = _run(connection, run_id)
        if run is None:
            raise InternalError(f"run {run_id.hex()[:16]} was never opened at this site")
        if run.outcome is not None:
            raise StudyStopped(f"run {run_id.hex()[:16]} is closed ({run.outcome}); nothing more can be sent")
        return run


def _run(connection: Connection, run_id: bytes) -> SiteRun | None:
    count = select(func.count()).where(Sum.run_id == run_id).scalar_subquery()
    columns = select(Run.run_id, Run.study_digest, Run.last_round, count, Run.outcome)
    found = connection.execute(columns.where(Run.run_id == run_id)).first()
    return None if found is None else SiteRun(*found)


def _open_approval(connection: Connection, study_digest: bytes) -> int | None:
    waiting = select(Approval.number).where(Approval.study_digest == study_digest, Approval.run_id.is_(None))
    return connection.scalars(waiting).first()
