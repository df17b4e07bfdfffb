"""A site's budget accounts: the pure ledger of `dp.ledger`, kept durably by `nodes.store`.

Every change is computed first and stored second; the folded state moves only after the database has it, and then the
anchor. An upload's debit, its masked bytes and its round number are one transaction.

A site has one pair of accounts, whatever its tables: a patient who is in two tables has one budget.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from dp import ledger
from dp.budget import GDP_FILTER, Filter
from dp.errors import BudgetExceeded, BudgetOfAnotherKind, NotWitnessed
from dp.errors import ConfigError as DPConfigError
from dp.events import Account
from dp.ledger import Close, Entry, Grant, Item, Link, OpenYear, Plain, Recover, Resume, State, Upload
from dp.limits import check_room
from dp.witness import Statement, links, recovery, statement
from nodes.anchor import Anchor
from nodes.balances import Line, line
from nodes.config import SiteConfig
from nodes.errors import BudgetTooSmall, ConfigError, StorageProblem, StudyStopped
from nodes.ledger_rows import entry_of, row_of
from nodes.store import SiteStore

if TYPE_CHECKING:
    from nodes.records import Records
    from nodes.study import Study

__all__ = ["Accounts", "Line", "of"]

_PROCESS, _RECOVERED = 16, "stopped: the ledger was recovered"


class Accounts:
    """The two accounts of one site.

    Args:
        store: this site's database; the caller holds the directory's lock if anything is written.
        now: the clock; an entry's time never precedes the last one's.
        anchor: remembers outside the data directory where the ledger stood. None only where there is no such place:
            a ledger in memory, a test.
        entropy: the operating system's generator.
        restoring: do not hold the ledger against the anchor: `recover` comes next.

    Raises:
        LedgerCorrupt: the stored chain does not verify.
        RollbackDetected, ForkedLedger: the anchor has seen another ledger.
    """

    def __init__(
        self,
        store: SiteStore,
        now: Callable[[], dt.datetime],
        anchor: Anchor | None = None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        restoring: bool = False,
    ) -> None:
        self._store = store
        self._now = now
        self._anchor = anchor
        self._process = entropy(_PROCESS).hex()
        held = anchor.read() if anchor is not None else None  # before the ledger, which may be growing
        self._history = [entry_of(row) for row in store.entries()]
        self._state = ledger.fold(self._history)
        self._begun: dict[str, int] = {}  # run id → entry with which this process began or resumed it
        self._witnessed: set[str] = set()
        if anchor is not None and not restoring:
            anchor.check(held, self.statement(anchor.site), self.links)

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

    def filter(self, account: Account) -> Filter:
        """How an account adds up; GDP before its first grant."""
        terms = self._state.terms.get(account)
        return terms.filter if terms is not None else GDP_FILTER

    def committed(self, account: Account) -> float:
        """Spent and reserved: μ², or R_α of an RDP account."""
        return self._state.spent(account) + self._state.reserved(account)

    def is_open(self, run_id: bytes) -> bool:
        """Whether the run's cost is reserved and not yet closed."""
        run = self._state.runs.get(run_id.hex())
        return run is not None and run.open

    def spent_by(self, run_id: bytes, account: Account) -> float:
        """What the uploads of one run have cost: μ², or R_α of an RDP account."""
        return self.units_of(run_id, account) / 2.0**64

    def units_of(self, run_id: bytes, account: Account) -> int:
        """Exact form of `spent_by`, in units of 2⁻⁶⁴."""
        run = self._state.runs.get(run_id.hex())
        return run.spent_units(account) if run is not None else 0

    def uploads_of(self, run_id: bytes) -> list[Upload]:
        """Every upload ever charged in a run."""
        items = (ledger.parse(entry.kind, entry.body) for entry in self._history if entry.kind == Upload.KIND)
        return [item for item in items if isinstance(item, Upload) and item.run == run_id.hex()]

    def require_room(self, study: Study, account: Account) -> None:
        """Refuse a study that does not fit the account, before anything is computed for it.

        Raises:
            BudgetTooSmall: names the account, what is needed, what is left, or the kind of budget that is needed.
        """
        if self.is_open(study.run_id):
            return
        rule = self.filter(account)
        try:
            cost = sum(uploads * rule.units(event) for event, uploads in study.charges(account))
            usage = self._state.usage(account, study.digest().hex())
            check_room(account, self._state.grants.get(account), usage, cost, f"study {study.name!r}")
        except (BudgetExceeded, BudgetOfAnotherKind) as error:
            raise BudgetTooSmall(
                f"{error} (`haemfed budget show` lists the accounts, `haemfed budget grant` raises one)"
            ) from error

    def summary(self) -> tuple[Line, ...]:
        """Both accounts for a person to read."""
        return tuple(line(self._state, account) for account in Account)

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

    # ---- what others are told, and what they answer ----

    def statement(self, site: str) -> Statement:
        """What the peers of `site` are told about this ledger: public numbers."""
        return statement(self._state, site)

    def links(self, after: int) -> tuple[Link, ...]:
        """What follows entry number `after`, without bodies; see `dp.witness.links`."""
        return links(self._history, after)

    def mark_witnessed(self, run_id: bytes, seen: Statement) -> None:
        """Note that a quorum of peers has accepted `seen` since this process began the run.

        Until then the run uploads nothing; the mark is in memory only, so that every process earns its own.

        Raises:
            NotWitnessed: the statement is not of this ledger, or older than this process's own entry for the run.
        """
        name = run_id.hex()
        mine = any((entry.sequence, entry.hash) == (seen.sequence, seen.hash) for entry in self._history)
        if not mine or name not in self._begun or seen.sequence < self._begun[name]:
            raise NotWitnessed(
                f"entry {seen.sequence}, which peers have seen, does not show that this process began run {name[:16]}"
            )
        self._witnessed.add(name)

    def is_witnessed(self, run_id: bytes) -> bool:
        """Whether the run may upload in this process."""
        return run_id.hex() in self._witnessed

    # ---- what may be done ----

    def grant(
        self,
        account: str,
        epsilon: float,
        delta: float,
        *,
        kind: str = "GDP",
        order: int = 0,
        study_epsilon: float | None = None,
        year_epsilon: float | None = None,
    ) -> None:
        """Record the DPO's grant.

        Raises:
            ConfigError: no such account; ε, δ, kind, order or a limit out of range, or not those of the first grant.
            StorageProblem: the database or the anchor cannot be written; the message says whether the grant counts.
        """
        if account not in [each.value for each in Account]:
            raise ConfigError(
                f"there is no account {account!r}: a site has two, training and holdout, for all its tables together, "
                "because one patient may be in several"
            )
        item = Grant(Account(account), epsilon, delta, kind, order, study_epsilon, year_epsilon)
        try:
            entry = self._compute(item)
        except DPConfigError as error:
            raise ConfigError(f"grant of ε = {epsilon:g} at δ = {delta:g} to the {account} account: {error}") from error
        if item.filter.largest(epsilon, delta) == 0:
            raise ConfigError(
                f"grant of ε = {epsilon:g} to the {account} account: nothing could be released under it; at this order "
                f"and δ every release has an ε above {item.filter.least_epsilon(delta):.4g}"
            )
        self._write(entry, f"the grant of ε = {epsilon:g} to the {account} account")

    def open_year(self, year: int) -> None:
        """Begin a new year of the yearly limits: the DPO's act.

        Raises:
            ConfigError: the year has not begun, or it is not after the one that is open.
        """
        try:
            entry = self._compute(OpenYear(year))
        except DPConfigError as error:
            raise ConfigError(str(error)) from error
        self._write(entry, f"the year {year}")

    def approve(self, study: Study) -> None:
        """Record a person's approval of one run."""
        self._store.approve(study.digest(), self._time())

    def open(self, study: Study) -> None:
        """Use up the approval and reserve the study's whole cost, or go on with a run that another process began.

        Either is an entry of this very process, and the peers must see it before the first upload. Nothing to do if
        this process has begun the run already.

        Raises:
            BudgetTooSmall: an account has too little left; nothing is recorded.
            PolicyRefusal: nobody approved the study, or the run was used before.
            StudyStopped: the run is closed at this site.
        """
        name = study.run_id.hex()
        run = self._state.runs.get(name)
        if run is None:
            self._reserve(study)
        elif not run.open:
            raise StudyStopped(
                f"study {study.name!r} is over at this site; a new run needs a new run number and new signatures"
            )
        else:
            self._resume(name)

    def close(self, study: Study, outcome: str) -> None:
        """End a run. Its keys must be erased before.

        What it did not use returns if this process began it. Any other process first puts down that it took the run
        over, and then all of it stays spent: see `dp.entries.Resume`.
        """
        if self.is_open(study.run_id):
            name = study.run_id.hex()
            self._resume(name)
            entry = self._compute(Close(name, outcome))
            self._store.close_run(study.run_id, outcome, row_of(entry))
            self._advance(entry)

    def recovery(self, statements: Sequence[Statement], exhaust: Collection[Account] = ()) -> Recover:
        """Return what `recover` would write, or say why it would not.

        Args:
            statements: this site's own, their signatures checked by the caller; the anchor's is added.
            exhaust: accounts to give up, if they add up in one way here and in another at the witnesses.

        Raises:
            ConfigError: there is nothing to recover from, or an account to give up that adds up in one way.
            BudgetOfAnotherKind: they are of a ledger that adds up in another way.
        """
        held = self._anchor.read() if self._anchor is not None else None
        seen = [*statements, *([held] if held is not None else [])]
        lost = self._anchor is not None and held is None and bool(self._history)
        known = {(entry.sequence, entry.hash) for entry in self._history} | {
            head for entry in self._history if entry.kind == Recover.KIND for head in Recover.parse(entry.body).heads
        }
        if not lost and all((each.sequence, each.hash) in known or each.sequence < 0 for each in seen):
            raise ConfigError(
                "this ledger contains everything that the anchor and the peers have seen: nothing to recover"
            )
        for account in exhaust:
            mine = [str(self._state.terms[account])] if account in self._state.terms else []
            if len({*mine, *(each.filters[account] for each in seen if account in each.filters)}) < 2:
                raise ConfigError(f"the {account} account adds up in one way everywhere: recover without giving it up")
        item = recovery(seen, exhaust=exhaust)
        self._compute(item)
        return item

    def recover(self, statements: Sequence[Statement], exhaust: Collection[Account] = ()) -> Recover:
        """Take over what others have seen of this site's ledger, and close every run; a person's act.

        The keys of the open runs must be erased before. Arguments and errors: `recovery`.
        """
        item = self.recovery(statements, exhaust)
        # The upload bytes go before the entry: killed in between, the runs are open in the ledger alone, can send
        # nothing, and the next attempt closes them.
        for name in {*self._state.open_runs(), *item.runs}:
            run = self._store.run_state(bytes.fromhex(name))
            if run is not None and run.outcome is None:
                self._store.close_run(run.run_id, _RECOVERED)
        self._write(self._compute(item), "the recovery")
        return item

    def records(self, study: Study) -> Records:
        """What the door of one run writes to."""
        from nodes.records import Records  # noqa: PLC0415 -- who only asks the ledger does not load the protocol

        return Records(self, study, self._store)

    def charge(self, item: Upload | Plain, run_id: bytes, context: bytes, payload: bytes) -> None:
        """Debit an upload and store its bytes in one transaction, before it is sent.

        Raises:
            NotWitnessed: too few peers have accepted this process's entry for the run; nothing is recorded.
        """
        if not self.is_witnessed(run_id):
            raise NotWitnessed(
                f"run {item.run[:16]}: too few hospitals have confirmed where this ledger stands; nothing is uploaded "
                "before they have"
            )
        entry = self._compute(item)
        self._store.record_upload(row_of(entry), run_id, item.round, context, payload)
        self._advance(entry)

    def _reserve(self, study: Study) -> None:
        name, digest = study.run_id.hex(), study.digest().hex()
        charges = [charge for account in Account for charge in study.charges(account)]
        item: ledger.Reserve | ledger.Unprotected
        if charges:
            stages = tuple(ledger.Stage(event, uploads) for event, uploads in charges)
            item = ledger.Reserve(digest, name, stages, self._process)
        else:
            uploads = {stage.kind: stage.uploads for stage in study.stages}
            item = ledger.Unprotected(digest, name, uploads, self._process)
        try:
            entry = self._compute(item)
        except (BudgetExceeded, BudgetOfAnotherKind) as error:
            raise BudgetTooSmall(str(error)) from error
        self._store.open_run(study.run_id, study.digest(), row_of(entry))
        self._begun[name] = entry.sequence
        self._advance(entry)

    def _resume(self, name: str) -> None:
        if name not in self._begun:
            entry = self._append(Resume(name, self._process))
            self._begun[name] = entry.sequence

    def _write(self, entry: Entry, what: str) -> None:
        """Record a person's act; if only its anchor fails, say that it stands, or it would be done twice."""
        self._store.append(row_of(entry))
        try:
            self._advance(entry)
        except StorageProblem as error:
            raise StorageProblem(f"{what} is in the ledger and counts; do not repeat it. But {error}") from error

    def _append(self, item: Item) -> Entry:
        entry = self._compute(item)
        self._store.append(row_of(entry))
        self._advance(entry)
        return entry

    def _compute(self, item: Item) -> Entry:
        return ledger.append(self._state, item.KIND, item.body(), self._time())

    def _advance(self, entry: Entry) -> None:
        self._state = self._state.after(entry)
        self._history.append(entry)
        if self._anchor is not None:
            self._anchor.write(self.statement(self._anchor.site))

    def _time(self) -> str:
        moment = self._now()
        if self._state.at:
            moment = max(moment, dt.datetime.fromisoformat(self._state.at))
        return moment.astimezone(dt.UTC).isoformat(timespec="microseconds")


def of(config: SiteConfig, store: SiteStore, now: Callable[[], dt.datetime], *, restoring: bool = False) -> Accounts:
    """Return the accounts of a configured site, held against its anchor: what every command and the daemon use."""
    return Accounts(store, now, Anchor(config.anchor_file, config.name), restoring=restoring)
