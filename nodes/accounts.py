"""A site's budget accounts: the pure ledger of `dp.ledger`, kept durably by `nodes.store`.

Every change is computed first and stored second; the folded state moves only after the database has it. An upload's
debit, its masked bytes and its round number are one transaction.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from dp import ledger
from dp.budget import Budget, epsilon_of
from dp.errors import BudgetExceeded
from dp.errors import ConfigError as DPConfigError
from dp.events import GaussianEvent
from dp.ledger import Close, Entry, Grant, Item, Reserve, State, Upload
from dp.queries import Account, Query
from nodes.errors import BudgetTooSmall, ConfigError, InternalError, StudyStopped
from nodes.store import LedgerRow, SiteStore, StoredSum
from nodes.study import Stage, Study
from secagg.messages import Sum, decode, encode
from secagg.messages import Upload as MaskedUpload


@dataclass(frozen=True)
class Line:
    """One account for a person to read.

    Args:
        account: "training" or "holdout".
        delta: δ of the grant; 1e-5 if nothing was granted.
        granted: ε granted, 0 without a grant.
        spent: ε of all uploads made.
        committed: ε of uploads made and reserved.
        remaining_mu_squared: μ² that a new study may reserve.
        uploads: uploads charged.
    """

    account: str
    delta: float
    granted: float
    spent: float
    committed: float
    remaining_mu_squared: float
    uploads: int


class Accounts:
    """The two accounts of one site.

    Args:
        store: this site's database; the caller holds the directory's lock if anything is written.
        now: the clock; an entry's time never precedes the last one's.

    Raises:
        LedgerCorrupt: the stored chain does not verify.
    """

    def __init__(self, store: SiteStore, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._now = now
        self._history = [_entry(row) for row in store.entries()]
        self._state = ledger.fold(self._history)

    @property
    def state(self) -> State:
        """The folded ledger."""
        return self._state

    @property
    def history(self) -> tuple[Entry, ...]:
        """Every entry in order."""
        return tuple(self._history)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self._history)

    @property
    def head(self) -> str:
        """Hash of the last entry, hex."""
        return self._state.head.hash if self._state.head is not None else ledger.GENESIS

    # ---- what may be asked ----

    def committed(self, account: Account) -> float:
        """μ² spent and reserved."""
        return self._state.spent(account) + self._state.reserved(account)

    def is_open(self, run_id: bytes) -> bool:
        """Whether the run's cost is reserved and not yet closed."""
        run = self._state.runs.get(run_id.hex())
        return run is not None and run.open

    def spent_by(self, run_id: bytes, account: Account) -> float:
        """μ² that one run has spent."""
        run = self._state.runs.get(run_id.hex())
        return run.spent_units(account) / 2.0**64 if run is not None else 0.0

    def uploads_of(self, run_id: bytes) -> list[Upload]:
        """Every upload ever made in a run, as charged."""
        items = (ledger.parse(entry.kind, entry.body) for entry in self._history if entry.kind == Upload.KIND)
        return [item for item in items if isinstance(item, Upload) and item.run == run_id.hex()]

    def require_room(self, study: Study, account: Account) -> None:
        """Refuse a study that does not fit the account.

        Raises:
            BudgetTooSmall: names the account, what is needed and what is left.
        """
        if self.is_open(study.run_id):
            return
        needed, left = study.mu_squared(account), self._state.remaining(account)
        if needed > left:
            raise BudgetTooSmall(
                f"study {study.name!r} needs μ² = {needed:.4f} of the {account.value} account, {left:.4f} is left; "
                f"the data protection officer may run `haemfed budget grant {account.value} --epsilon …`, or the study "
                "must ask for less"
            )

    def summary(self) -> tuple[Line, ...]:
        """Both accounts for a person to read."""
        return tuple(self._line(account) for account in Account)

    def last_round(self, run_id: bytes) -> int:
        """Largest round number masked or seen summed in a run; 0 if none."""
        return max(self._store.last_round(run_id), self._store.last_summed_round(run_id))

    def outcome(self, run_id: bytes) -> str | None:
        """How a run ended here; None while it is open or if it never began."""
        state = self._store.run_state(run_id)
        return state.outcome if state is not None else None

    def sums(self, run_id: bytes) -> int:
        """How many sums of a run this site has applied and kept."""
        state = self._store.run_state(run_id)
        return state.sums if state is not None else 0

    # ---- what may be done ----

    def grant(self, account: str, epsilon: float, delta: float) -> None:
        """Record the DPO's grant.

        Raises:
            ConfigError: no such account, or ε or δ out of range.
        """
        if account not in [each.value for each in Account]:
            raise ConfigError(f"there is no account {account!r}; the accounts are training and holdout")
        try:
            Budget(epsilon, delta)
        except DPConfigError as error:
            raise ConfigError(f"--epsilon {epsilon:g} --delta {delta:g}: {error}") from error
        self._append(Grant(Account(account), epsilon, delta))

    def approve(self, study: Study) -> None:
        """Record a person's approval of one run."""
        self._store.approve(study.digest(), self._time())

    def open(self, study: Study) -> None:
        """Use up the approval and reserve the study's whole cost; nothing to do if the run is open already.

        Raises:
            BudgetTooSmall: an account has too little left; nothing is recorded.
            PolicyRefusal: nobody approved the study, or the run was used before.
            StudyStopped: the run is closed at this site.
        """
        run = self._state.runs.get(study.run_id.hex())
        if run is not None:
            if not run.open:
                raise StudyStopped(
                    f"study {study.name!r} is over at this site; a new run needs a new run number and new signatures"
                )
            return
        stages = tuple(ledger.Stage(_event(stage), stage.uploads) for stage in study.stages)
        item = Reserve(study.digest().hex(), study.run_id.hex(), stages)
        try:
            entry = self._compute(item)
        except BudgetExceeded as error:
            raise BudgetTooSmall(str(error)) from error
        self._store.open_run(study.run_id, study.digest(), _row(entry))
        self._advance(entry)

    def close(self, study: Study, outcome: str) -> None:
        """End a run: what it did not use returns. Its keys must be erased before."""
        if self.is_open(study.run_id):
            entry = self._compute(Close(study.run_id.hex(), outcome))
            self._store.close_run(study.run_id, outcome, _row(entry))
            self._advance(entry)

    def records(self, study: Study) -> Records:
        """What the door of one run writes to."""
        return Records(self, study, self._store)

    def charge(self, item: Upload, run_id: bytes, context: bytes, payload: bytes) -> None:
        """Debit an upload and store its bytes in one transaction, before it is sent."""
        entry = self._compute(item)
        self._store.record_upload(_row(entry), run_id, item.round, context, payload)
        self._advance(entry)

    def _append(self, item: Item) -> None:
        entry = self._compute(item)
        self._store.append(_row(entry))
        self._advance(entry)

    def _compute(self, item: Item) -> Entry:
        return ledger.append(self._state, item.KIND, item.body(), self._time())

    def _advance(self, entry: Entry) -> None:
        self._state = self._state.after(entry)
        self._history.append(entry)

    def _time(self) -> str:
        moment = self._now()
        if self._state.at:
            moment = max(moment, dt.datetime.fromisoformat(self._state.at))
        return moment.astimezone(dt.UTC).isoformat(timespec="microseconds")

    def _line(self, account: Account) -> Line:
        budget = self._state.budgets.get(account)
        delta = budget.delta if budget is not None else 1e-5
        uploads = sum(count for _, count in self._state.events(account))
        return Line(
            account.value,
            delta,
            budget.epsilon if budget is not None else 0.0,
            epsilon_of(self._state.spent(account), delta),
            epsilon_of(self.committed(account), delta),
            self._state.remaining(account),
            uploads,
        )


class Records:
    """The ledger and database as `nodes.door.Door` sees them, for one run."""

    def __init__(self, accounts: Accounts, study: Study, store: SiteStore) -> None:
        self._accounts = accounts
        self._study = study
        self._store = store

    def charge_and_store(self, query: Query, context: bytes, upload: MaskedUpload) -> None:
        """See `nodes.door.Records`."""
        run_id = self._study.run_id
        item = Upload(self._study.digest().hex(), run_id.hex(), upload.round, context.hex(), query.event())
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


def _event(stage: Stage) -> GaussianEvent:
    return GaussianEvent(stage.kind, stage.multiplier, Account(stage.account))


def _row(entry: Entry) -> LedgerRow:
    body = json.dumps(entry.body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return LedgerRow(entry.sequence, entry.previous, entry.kind, body, entry.at, entry.hash)


def _entry(row: LedgerRow) -> Entry:
    return Entry(row.sequence, row.previous, row.kind, json.loads(row.body), row.at, row.hash)
