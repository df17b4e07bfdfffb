"""What the door of one run writes to: the ledger and the database, one transaction for each upload."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dp.ledger import Plain, Upload
from dp.queries import Query
from nodes.errors import InternalError
from nodes.store import SiteStore, StoredSum
from nodes.study import Study
from secagg.messages import Sum, decode, encode
from secagg.messages import Upload as MaskedUpload

if TYPE_CHECKING:
    from nodes.accounts import Accounts

__all__ = ["Records"]


class Records:
    """The ledger and database as `nodes.door.Door` sees them, for one run."""

    def __init__(self, accounts: Accounts, study: Study, store: SiteStore) -> None:
        self._accounts = accounts
        self._study = study
        self._store = store

    def charge_and_store(self, query: Query, context: bytes, upload: MaskedUpload) -> None:
        """See `nodes.door.Records`."""
        study, run_id = self._study.digest().hex(), self._study.run_id
        stage = self._study.stage_of(query)
        run = self._accounts.state.runs.get(run_id.hex())
        item: Upload | Plain
        if run is not None and run.plain:
            item = Plain(study, run_id.hex(), upload.round, context.hex(), query.kind)
        else:
            item = Upload(study, run_id.hex(), upload.round, context.hex(), self._study.event(stage))
        self._accounts.charge(item, run_id, context, encode(upload))

    def stored_upload(self, round_number: int) -> tuple[bytes, MaskedUpload] | None:
        """See `nodes.door.Records`."""
        stored = self._store.stored_upload(self._study.run_id, round_number)
        return (stored.context, cast("MaskedUpload", decode(stored.payload))) if stored is not None else None

    def keep_sum(self, position: int, total: Sum) -> None:
        """See `nodes.door.Records`."""
        kept = StoredSum(position, total.round, total.roster, total.survivors, total.words)
        self._store.add_sum(self._study.run_id, kept)

    def kept_sum(self, position: int) -> Sum:
        """See `nodes.door.Records`."""
        row = self._store.sum_at(self._study.run_id, position)
        if row is None:
            raise InternalError(f"sum {position} of study {self._study.name!r} is not kept here")
        return Sum(row.round, row.roster, row.survivors, row.words)
