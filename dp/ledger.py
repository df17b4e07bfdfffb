"""The ledger as a pure fold: what was granted, reserved and spent.

Four kinds of entries (`dp.entries`). A **grant** gives an account its (ε, δ). A **reserve** sets aside the
whole cost of one run (every upload it may ever make) and is the only entry that is checked against
the budget. An **upload** moves one event from reserved to spent; it is written before the bytes are
sent, so a crash over-counts and never under-counts. A **close** returns what a run did not use;
afterwards the run can upload no more.

μ² is counted in whole units of 2⁻⁶⁴, rounded up (`dp.events`), so nothing depends on the order of
additions. The filter Σμ² ≤ μ_max² holds for adaptively chosen releases (Smith & Thakurta 2022;
Koskela, Tobaben & Honkela 2023).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from dp.budget import Budget
from dp.entries import GENESIS, JSON, Close, Entry, Grant, Item, Reserve, Stage, Upload, parse
from dp.errors import (
    BudgetExceeded,
    ClockWentBack,
    DPError,
    LedgerCorrupt,
    MisuseError,
    ReservationExceeded,
    RollbackDetected,
    RunReused,
)
from dp.events import UNIT_BITS, Account, GaussianEvent

__all__ = [
    "GENESIS",
    "JSON",
    "Close",
    "Entry",
    "Grant",
    "Head",
    "Item",
    "Reserve",
    "Run",
    "Stage",
    "State",
    "Upload",
    "append",
    "fold",
    "parse",
]

_UNIT: Final = 2.0**UNIT_BITS


@dataclass(frozen=True)
class Head:
    """What a witness remembers of a ledger: its length and last hash."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class Run:
    """What one run may still do."""

    study: str
    stages: Mapping[str, Stage]
    used: Mapping[str, int]
    last_round: int = -1
    open: bool = True

    def left(self, kind: str) -> int:
        """Uploads that are left for a kind of release; 0 when the run is closed."""
        return self.stages[kind].uploads - self.used[kind] if self.open and kind in self.stages else 0

    def spent_units(self, account: Account) -> int:
        """μ² of the uploads made, in units of 2⁻⁶⁴."""
        return sum(
            self.used[kind] * stage.event.units for kind, stage in self.stages.items() if stage.event.account is account
        )

    def reserved_units(self, account: Account) -> int:
        """μ² of the uploads that are left, in units of 2⁻⁶⁴."""
        return sum(
            self.left(kind) * stage.event.units for kind, stage in self.stages.items() if stage.event.account is account
        )


@dataclass(frozen=True)
class State:
    """The ledger, folded: every question that a site asks before it uploads.

    Args:
        head: of the last entry; None for an empty ledger.
        at: time of the last entry, "" for an empty ledger.
        budgets: granted budget per account.
        runs: every run ever reserved.
        counts: uploads per event, over all runs.
    """

    head: Head | None = None
    at: str = ""
    budgets: Mapping[Account, Budget] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    counts: Mapping[GaussianEvent, int] = field(default_factory=dict)

    def spent(self, account: Account) -> float:
        """μ² of all uploads of an account."""
        return self.spent_units(account) / _UNIT

    def reserved(self, account: Account) -> float:
        """μ² that open runs may still upload."""
        return self.reserved_units(account) / _UNIT

    def remaining(self, account: Account) -> float:
        """μ² that a new reservation may take: 0 without a grant."""
        return self.remaining_units(account) / _UNIT

    def spent_units(self, account: Account) -> int:
        """Exact form of `spent`, in units of 2⁻⁶⁴."""
        return sum(run.spent_units(account) for run in self.runs.values())

    def reserved_units(self, account: Account) -> int:
        """Exact form of `reserved`, in units of 2⁻⁶⁴."""
        return sum(run.reserved_units(account) for run in self.runs.values())

    def remaining_units(self, account: Account) -> int:
        """Exact form of `remaining`, in units of 2⁻⁶⁴."""
        granted = self.budgets[account].units if account in self.budgets else 0
        return max(0, granted - self.spent_units(account) - self.reserved_units(account))

    def events(self, account: Account) -> list[tuple[GaussianEvent, int]]:
        """Every event charged to an account with its number of uploads: the input of `accountant`."""
        return [(event, count) for event, count in self.counts.items() if event.account is account]

    def after(self, entry: Entry) -> "State":
        """Return the state after one more entry.

        Raises:
            LedgerCorrupt: the entry does not continue the chain.
            BudgetExceeded, ReservationExceeded, RunReused, ClockWentBack, MisuseError: as `append`.
        """
        if self.head is None:
            sequence, previous = 0, GENESIS
        else:
            sequence, previous = self.head.sequence + 1, self.head.hash
        if (entry.sequence, entry.previous) != (sequence, previous):
            raise LedgerCorrupt("it does not continue the entry before it")
        if entry.hash != entry.computed_hash():
            raise LedgerCorrupt("its content does not match its hash")
        _check_time(self.at, entry.at)
        state = replace(self, head=Head(entry.sequence, entry.hash), at=entry.at)
        match parse(entry.kind, entry.body):
            case Grant(account, epsilon, delta):
                return replace(state, budgets={**self.budgets, account: Budget(epsilon, delta)})
            case Reserve() as item:
                return replace(state, runs={**self.runs, item.run: self._reserve(item)})
            case Upload() as item:
                counts = {**self.counts, item.event: self.counts.get(item.event, 0) + 1}
                return replace(state, runs={**self.runs, item.run: self._upload(item)}, counts=counts)
            case Close(run, _):
                return replace(state, runs={**self.runs, run: replace(self._open(run), open=False)})

    def _reserve(self, item: Reserve) -> Run:
        if item.run in self.runs:
            raise RunReused(f"run {item.run[:16]} was approved before: start the study as a new run")
        for account in Account:
            cost, left = item.units(account), self.remaining_units(account)
            if cost > left:
                raise BudgetExceeded(
                    f"run {item.run[:16]} needs μ² = {cost / _UNIT:.6g} of the {account} account, "
                    f"{left / _UNIT:.6g} is left: ask the data protection officer for a grant, "
                    "or plan fewer uploads or more noise"
                )
        stages = {stage.event.kind: stage for stage in item.stages}
        return Run(item.study, stages, dict.fromkeys(stages, 0))

    def _upload(self, item: Upload) -> Run:
        run = self._open(item.run)
        kind = item.event.kind
        if item.study != run.study:
            raise ReservationExceeded(f"run {item.run[:16]} was approved for another study")
        if kind not in run.stages or item.event != run.stages[kind].event:
            raise ReservationExceeded(f"run {item.run[:16]} has no reservation for this {kind} release")
        if run.left(kind) < 1:
            raise ReservationExceeded(f"run {item.run[:16]} has used all {run.stages[kind].uploads} uploads of {kind}")
        if item.round <= run.last_round:
            raise MisuseError(f"round {item.round} of run {item.run[:16]} is not after {run.last_round}")
        return replace(run, used={**run.used, kind: run.used[kind] + 1}, last_round=item.round)

    def _open(self, run_id: str) -> Run:
        run = self.runs.get(run_id)
        if run is None or not run.open:
            raise ReservationExceeded(f"run {run_id[:16]} is {'closed' if run else 'not approved'} at this site")
        return run


def append(history: State | Iterable[Entry], kind: str, body: Mapping[str, JSON], at: str) -> Entry:
    """Return the entry that records `body` after `history`; record it durably *before* acting on it.

    Args:
        history: the folded state (cheap) or the entries.
        kind: kind of entry.
        body: from the `body` method of `Grant`, `Reserve`, `Upload` or `Close`.
        at: ISO 8601 time in UTC, ending in "Z" or "+00:00".

    Raises:
        BudgetExceeded: a reservation passes the budget of an account.
        ReservationExceeded: an upload or closing that no open reservation covers.
        RunReused: a reservation for a run id that exists.
        ClockWentBack: `at` is before the last entry.
        MisuseError: malformed body, or a round that does not grow.
        In every case nothing is recorded: this function has no effect but its result.
    """
    state = history if isinstance(history, State) else fold(history)
    sequence, previous = (state.head.sequence + 1, state.head.hash) if state.head else (0, GENESIS)
    draft = Entry(sequence, previous, kind, body, at, "")
    entry = replace(draft, hash=draft.computed_hash())
    state.after(entry)
    return entry


def fold(entries: Iterable[Entry], *, witnessed: Head | None = None) -> State:
    """Replay a ledger from its first entry.

    Args:
        entries: all of them, in order.
        witnessed: a head that somebody outside this machine has seen; the chain must contain it.

    Raises:
        LedgerCorrupt: names the first entry that was edited, removed, reordered, or that no honest
            site could have written.
        RollbackDetected: the chain ends before the witnessed head, or has another entry there.
    """
    state = State()
    seen = witnessed is None
    for position, entry in enumerate(entries):
        try:
            state = state.after(entry)
        except DPError as error:
            raise LedgerCorrupt(f"ledger entry {position}: {error}") from error
        if witnessed is not None and entry.sequence == witnessed.sequence:
            seen = entry.hash == witnessed.hash
    if witnessed is not None and not seen:
        raise RollbackDetected(
            f"this ledger does not contain entry {witnessed.sequence} as a peer has seen it: "
            "it was restored from a backup or copied"
        )
    return state


def _check_time(before: str, at: str) -> None:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise MisuseError("a ledger time is not ISO 8601") from error
    if moment.utcoffset() != timedelta(0):
        raise MisuseError("a ledger time is not UTC")
    if before and moment < datetime.fromisoformat(before):
        raise ClockWentBack(f"the clock went back: {at} is before the last entry, {before}; correct the clock")
