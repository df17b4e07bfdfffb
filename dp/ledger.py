"""The ledger as a pure fold: what was granted, reserved and spent.

A **grant** gives an account its (ε, δ). A **reserve** sets aside the whole cost of one run (every upload it may ever
make) and is the only entry that is checked against the budget. An **upload** moves one event from reserved to spent; it
is written before the bytes are sent, so a crash over-counts and never under-counts. A **close** returns what a run did
not use, but only if no other process went on with it (**resume**): a ledger that was restored in between lacks uploads,
and no later process can know. An **open-year** begins a new year of the yearly limits. A **recover** takes over what
witnesses saw (`dp.witness`). The whole argument, with proof: docs/explanation/ledger.md.

Costs are whole units of 2⁻⁶⁴, rounded up (`dp.budget.Filter`), so nothing depends on the order of additions. They are
written into the reservation and never computed again: a version that rounds in another way replays the same sums. The
filter holds for adaptively chosen releases (Smith & Thakurta 2022; Koskela, Tobaben & Honkela 2023; Feldman & Zrnic
2021).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from dp.budget import Budget
from dp.chain import check_time
from dp.entries import (
    GENESIS,
    JSON,
    Close,
    Entry,
    Grant,
    Item,
    Link,
    OpenYear,
    Plain,
    Recover,
    Reserve,
    Resume,
    Stage,
    Terms,
    Unprotected,
    Upload,
    parse,
)
from dp.errors import (
    BudgetOfAnotherKind,
    ConfigError,
    DPError,
    LedgerCorrupt,
    MisuseError,
    ReservationExceeded,
    RollbackDetected,
    RunReused,
)
from dp.events import UNIT_BITS, Account, Event
from dp.limits import EXHAUSTED, Usage, check_room
from dp.runs import Run, priced

__all__ = [
    "GENESIS",
    "JSON",
    "MOST_OPEN_RUNS",
    "Close",
    "Entry",
    "Grant",
    "Head",
    "Item",
    "Link",
    "OpenYear",
    "Plain",
    "Recover",
    "Reserve",
    "Resume",
    "Run",
    "Stage",
    "State",
    "Terms",
    "Unprotected",
    "Upload",
    "append",
    "fold",
    "parse",
]

_UNIT: Final = 2.0**UNIT_BITS

MOST_OPEN_RUNS: Final = 256
"""Every open run stands in a statement to the peers (`dp.witness`), which must stay small."""


@dataclass(frozen=True)
class Head:
    """What a witness remembers of a ledger: its length and last hash."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class State:
    """The ledger, folded: every question that a site asks before it uploads.

    Args:
        head: of the last entry; None for an empty ledger.
        at: time of the last entry, "" for an empty ledger.
        grants: the grant in force per account.
        terms: filter and δ per account, as first granted.
        runs: every run ever reserved.
        counts: uploads per event, over all runs, those included that must be taken to have been made.
        year: the year that a person opened last; 0 before the first.
        year_before: the one that was open before it; 0 if there was none.
        carried: units that a recovery took over, per account and opened year.
        unbounded: accounts whose ε is "not bounded": a run without noise read their patients.
    """

    head: Head | None = None
    at: str = ""
    grants: Mapping[Account, Grant] = field(default_factory=dict)
    terms: Mapping[Account, Terms] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    counts: Mapping[Event, int] = field(default_factory=dict)
    year: int = 0
    year_before: int = 0
    carried: Mapping[tuple[Account, int], int] = field(default_factory=dict)
    unbounded: frozenset[Account] = frozenset()

    @property
    def budgets(self) -> Mapping[Account, Budget]:
        """Granted budget per account."""
        return {account: Budget(grant.epsilon, grant.delta, grant.filter) for account, grant in self.grants.items()}

    def spent(self, account: Account) -> float:
        """What all uploads of an account cost: μ², or R_α of an RDP budget."""
        return self.spent_units(account) / _UNIT

    def reserved(self, account: Account) -> float:
        """What open runs may still upload."""
        return self.reserved_units(account) / _UNIT

    def remaining(self, account: Account) -> float:
        """What a new reservation may take: 0 without a grant."""
        return self.remaining_units(account) / _UNIT

    def spent_units(self, account: Account) -> int:
        """Exact form of `spent`, in units of 2⁻⁶⁴; with what was carried over, and what no run may return."""
        return self.carried_units(account) + sum(run.spent_units(account) for run in self.runs.values())

    def reserved_units(self, account: Account) -> int:
        """Exact form of `reserved`, in units of 2⁻⁶⁴."""
        return sum(run.reserved_units(account) for run in self.runs.values())

    def committed_units(self, account: Account) -> int:
        """Spent and reserved, in units of 2⁻⁶⁴: what witnesses remember."""
        return self.spent_units(account) + self.reserved_units(account)

    def carried_units(self, account: Account) -> int:
        """Part of `spent_units` that a recovery took over: known as a sum, not as uploads."""
        return sum(units for (owner, _), units in self.carried.items() if owner is account)

    def remaining_units(self, account: Account) -> int:
        """Exact form of `remaining`, in units of 2⁻⁶⁴."""
        granted = self.budgets[account].units if account in self.grants else 0
        return max(0, granted - self.committed_units(account))

    def year_units(self, account: Account) -> int:
        """Committed in the open year; what was carried over counts in the next one, too: it may have begun before."""
        runs = sum(run.committed_units(account) for run in self.runs.values() if run.year == self.year)
        if self.year_before != self.year:
            runs += self.carried.get((account, self.year_before), 0)
        return runs + self.carried.get((account, self.year), 0)

    def study_units(self, account: Account, study: str) -> int:
        """Committed under one study hash: by one run, since the hash covers the run number."""
        return sum(run.committed_units(account) for run in self.runs.values() if run.study == study)

    def open_runs(self) -> tuple[str, ...]:
        """Ids of the runs that may still upload, in order."""
        return tuple(sorted(name for name, run in self.runs.items() if run.open))

    def events(self, account: Account) -> list[tuple[Event, int]]:
        """Every event charged to an account with its number of uploads: the input of `accountant`."""
        return [(event, count) for event, count in self.counts.items() if event.account is account]

    def usage(self, account: Account, study: str = "") -> Usage:
        """Return what a new cost is held against; `study` is its hash, hex."""
        committed, known = self.committed_units(account), account in self.terms
        return Usage(committed, self.study_units(account, study), self.year_units(account), self.year, known)

    def place(self, item: Item) -> tuple[int, str]:
        """Sequence number and previous hash that an entry with this content must have."""
        sequence, previous = (self.head.sequence + 1, self.head.hash) if self.head is not None else (0, GENESIS)
        if isinstance(item, Recover):
            # Past everything that was seen: to every witness a recovered ledger is newer than the one it lost.
            sequence = max([sequence, *(seen + 1 for seen, _ in item.heads)])
        return sequence, previous

    def after(self, entry: Entry) -> "State":
        """Return the state after one more entry.

        Raises:
            LedgerCorrupt: the entry does not continue the chain.
            BudgetExceeded, BudgetOfAnotherKind, ReservationExceeded, RunReused, ClockWentBack, ConfigError,
            MisuseError: as `append`.
        """
        if entry.hash != entry.computed_hash():
            if entry.is_of_an_older_version():
                raise LedgerCorrupt(
                    "this ledger was written by an older version of haemfed (ledger format 1), which this one does not "
                    "read: go on with that version, or keep it as a record and begin in a new data directory. A new "
                    "directory is an empty account, and the same patients have spent what this ledger says: grant "
                    "there only what is left of what was meant to be granted to them for ever"
                )
            raise LedgerCorrupt("its content does not match its hash")
        item = parse(entry.kind, entry.body)
        if (entry.sequence, entry.previous) != self.place(item):
            raise LedgerCorrupt("it does not continue the entry before it")
        check_time(self.at, entry.at)
        state = replace(self, head=Head(entry.sequence, entry.hash), at=entry.at)
        match item:
            case Grant():
                return _granted(state, item)
            case OpenYear(year):
                return replace(state, year=_next_year(state, year), year_before=state.year)
            case Recover():
                return _recovered(state, item)
            case _:
                return _of_run(state, item)


_OfRun: TypeAlias = Reserve | Unprotected | Resume | Upload | Plain | Close


def _granted(state: State, grant: Grant) -> State:
    Budget(grant.epsilon, grant.delta, grant.filter)  # checks the ranges
    terms, old = Terms(grant.filter, grant.delta), state.terms.get(grant.account)
    if old is not None and terms != old:
        raise BudgetOfAnotherKind(
            f"the {grant.account} account adds up in {old.filter} at δ = {old.delta:g} since its first grant; a later "
            f"grant cannot change that to {terms.filter} at δ = {terms.delta:g}"
        )
    for name, limit in (("study", grant.study_epsilon), ("year", grant.year_epsilon)):
        if limit is not None and not 0 < limit <= grant.epsilon:
            raise ConfigError(f"the limit for one {name} must lie above 0 and not above the budget itself")
    account = grant.account
    return replace(state, grants={**state.grants, account: grant}, terms={**state.terms, account: terms})


def _next_year(state: State, year: int) -> int:
    if year <= state.year:
        raise ConfigError(f"the year {year} cannot be opened: {state.year} is open, and years only go on")
    if year > (reached := datetime.fromisoformat(state.at).year):
        raise ConfigError(f"the year {year} has not begun: the ledger stands in {reached}")
    return year


def _of_run(state: State, item: _OfRun) -> State:
    match item:
        case Reserve():
            return replace(state, runs={**state.runs, item.run: _reserved(state, item)})
        case Unprotected():
            _check_new(state, item.run)
            run = Run(item.study, year=state.year, plain=item.uploads)
            return replace(state, runs={**state.runs, item.run: run}, unbounded=state.unbounded | item.accounts)
        case Resume(name, _):
            return replace(state, runs={**state.runs, name: replace(_open(state, name), resumed=True)})
        case Upload():
            run = _open(state, item.run).upload(item)
            return replace(state, runs={**state.runs, item.run: run}, counts=_add(state.counts, [(item.event, 1)]))
        case Plain():
            return replace(state, runs={**state.runs, item.run: _open(state, item.run).send_plain(item)})
        case Close(name, _):
            return _closed(state, name, _open(state, name))


def _check_new(state: State, name: str) -> None:
    if name in state.runs:
        raise RunReused(f"run {name[:16]} was approved before: start the study as a new run")
    if len(state.open_runs()) >= MOST_OPEN_RUNS:
        raise ConfigError(f"{MOST_OPEN_RUNS} runs are open here: close those that will not go on")


def _reserved(state: State, item: Reserve) -> Run:
    _check_new(state, item.run)
    who = f"run {item.run[:16]}"
    for stage in item.stages:
        if stage.event.account not in state.terms:
            check_room(stage.event.account, None, Usage(0, 0, 0, 0), stage.uploads, who)
        elif not stage.cost:
            raise MisuseError(f"{who} does not say what an upload of {stage.event.kind} costs")
    costs = {stage.event.kind: stage.cost for stage in item.stages}
    run = Run(item.study, {stage.event.kind: stage for stage in item.stages}, costs, year=state.year)
    for account in Account:
        grant, usage = state.grants.get(account), state.usage(account, item.study)
        check_room(account, grant, usage, run.reserved_units(account), who)
    return run


def _open(state: State, name: str) -> Run:
    run = state.runs.get(name)
    if run is None or not run.open:
        raise ReservationExceeded(f"run {name[:16]} is {'closed' if run else 'not approved'} at this site")
    return run


def _closed(state: State, name: str, run: Run) -> State:
    closed, lost = run.closed()
    return replace(state, runs={**state.runs, name: closed}, counts=_add(state.counts, lost))


def _recovered(state: State, item: Recover) -> State:
    kept = dict(state.terms)
    for account, terms in item.terms.items():
        old = state.terms.get(account)
        if old is not None and old != terms:
            if account not in item.exhausted:
                raise BudgetOfAnotherKind(
                    f"the {account} account adds up in {old.filter} at δ = {old.delta:g}, witnesses saw {terms.filter} "
                    f"at δ = {terms.delta:g}: its first grant was made anew after the restore. Restore the backup "
                    "again, grant nothing, and recover from there; if it is gone, the account can only be given up"
                )
        else:
            kept[account] = terms
    for name in state.open_runs():
        state = _closed(state, name, replace(state.runs[name], resumed=True))
    runs = {name: Run("", open=False) for name in item.runs} | dict(state.runs)
    carried = dict(state.carried)
    for account, seen in item.committed.items():
        units = EXHAUSTED if account in item.exhausted else seen
        place, more = (account, state.year), max(0, units - state.committed_units(account))
        carried[place] = carried.get(place, 0) + more
    grants = {} if item.heads else state.grants  # among the lost entries there may be a lower one
    state = replace(state, terms=kept, grants=grants)
    return replace(state, runs=runs, carried=carried, unbounded=state.unbounded | set(item.unbounded))


def append(history: State | Iterable[Entry], kind: str, body: Mapping[str, JSON], at: str) -> Entry:
    """Return the entry that records `body` after `history`; record it durably *before* acting on it.

    Args:
        history: the folded state (cheap) or the entries.
        kind: kind of entry.
        body: from the `body` method of an `Item`; a reservation that names no costs gets them (`dp.runs.priced`).
        at: ISO 8601 time in UTC, ending in "Z" or "+00:00".

    Raises:
        BudgetExceeded: a reservation passes the budget of an account, or the limit of a study or a year.
        BudgetOfAnotherKind: an event that the account cannot hold, or a grant of another kind, order or δ.
        ReservationExceeded: an upload or closing that no open reservation covers.
        RunReused: a reservation for a run id that exists.
        ClockWentBack: `at` is before the last entry.
        ConfigError: an amount out of range, a year that cannot be opened, too many open runs.
        MisuseError: malformed body, a round that does not grow, or a cost below the account's own.
        In every case nothing is recorded: this function has no effect but its result.
    """
    state = history if isinstance(history, State) else fold(history)
    item = parse(kind, body)
    if isinstance(item, Reserve):
        body = priced(item, state.terms).body()
    sequence, previous = state.place(item)
    draft = Entry(sequence, previous, kind, body, at, "")
    entry = replace(draft, hash=draft.computed_hash())
    state.after(entry)
    return entry


def fold(entries: Iterable[Entry], *, witnessed: Head | None = None) -> State:
    """Replay a ledger from its first entry.

    Args:
        entries: all of them, in order.
        witnessed: a head that somebody outside this machine has seen; the chain must contain it, or a recovery that
            names it.

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
        if witnessed is not None:
            seen = seen or (entry.sequence, entry.hash) == (witnessed.sequence, witnessed.hash)
            if not seen and entry.kind == Recover.KIND:
                seen = (witnessed.sequence, witnessed.hash) in Recover.parse(entry.body).heads
    if witnessed is not None and not seen:
        raise RollbackDetected(
            f"this ledger does not contain entry {witnessed.sequence} as a peer has seen it: "
            "it was restored from a backup or copied"
        )
    return state


def _add(counts: Mapping[Event, int], more: Iterable[tuple[Event, int]]) -> Mapping[Event, int]:
    total = dict(counts)
    for event, count in more:
        total[event] = total.get(event, 0) + count
    return total
