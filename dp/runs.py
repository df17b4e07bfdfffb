"""One run of a study in the ledger: what it reserved, what it used, what it may still upload."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dp.entries import Plain, Reserve, Stage, Terms, Upload
from dp.errors import MisuseError, ReservationExceeded
from dp.events import Account, Event

__all__ = ["Run", "priced"]


def priced(item: Reserve, terms: Mapping[Account, Terms]) -> Reserve:
    """Return the reservation with the cost of an upload in every stage: what is written down, and never computed again.

    Args:
        item: a stage of cost 0 gets the account's; one that names a cost keeps it.
        terms: how each account adds up; a stage of an account without them stays as it is.

    Raises:
        BudgetOfAnotherKind: the account cannot hold an event.
        MisuseError: a stage names less than it costs.
    """
    stages = []
    for stage in item.stages:
        known = terms.get(stage.event.account)
        least = known.filter.units(stage.event) if known is not None else 0
        if 0 < stage.cost < least:
            raise MisuseError(f"{stage.event.kind}: an upload costs {least} units, not {stage.cost}")
        stages.append(replace(stage, cost=stage.cost or least))
    return replace(item, stages=tuple(stages))


@dataclass(frozen=True)
class Run:
    """What one run may still do.

    Args:
        study: hash of the study, hex; "" for a run that only witnesses know.
        stages: reserved stages by kind of release.
        costs: cost of one upload of each kind, units of 2⁻⁶⁴, as reserved.
        used: uploads made of each kind.
        lost: uploads of each kind that must be taken to have been made: nobody may give them back.
        plain: uploads allowed without noise, by kind; empty for a protected run.
        last_round: largest round number so far.
        year: the opened year in which it was reserved.
        resumed: another process than the one that reserved it went on with it.
        open: it may upload.
    """

    study: str
    stages: Mapping[str, Stage] = field(default_factory=dict)
    costs: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    plain: Mapping[str, int] = field(default_factory=dict)
    last_round: int = -1
    year: int = 0
    resumed: bool = False
    open: bool = True

    def left(self, kind: str) -> int:
        """Uploads that are left for a kind of release; 0 when the run is closed."""
        return self.stages[kind].uploads - self.used.get(kind, 0) if self.open and kind in self.stages else 0

    def spent_units(self, account: Account) -> int:
        """Cost of the uploads made, those included that must be taken to have been made, in units of 2⁻⁶⁴."""
        return sum((self.used.get(kind, 0) + self.lost.get(kind, 0)) * self.costs[kind] for kind in self._of(account))

    def reserved_units(self, account: Account) -> int:
        """Cost of the uploads that are left, in units of 2⁻⁶⁴."""
        return sum(self.left(kind) * self.costs[kind] for kind in self._of(account))

    def committed_units(self, account: Account) -> int:
        """Spent and reserved."""
        return self.spent_units(account) + self.reserved_units(account)

    def upload(self, item: Upload) -> "Run":
        """Return the run after an upload.

        Raises:
            ReservationExceeded: nothing was reserved for it.
            MisuseError: the round number does not grow.
        """
        kind, name = item.event.kind, item.run[:16]
        self._check_study(item.study, name)
        if kind not in self.stages or item.event != self.stages[kind].event:
            raise ReservationExceeded(f"run {name} has no reservation for this {kind} release")
        if self.left(kind) < 1:
            raise ReservationExceeded(f"run {name} has used all {self.stages[kind].uploads} uploads of {kind}")
        return self._used(kind, item.round, name)

    def send_plain(self, item: Plain) -> "Run":
        """Return the run after an upload without noise; raises as `upload`."""
        kind, name = item.release, item.run[:16]
        self._check_study(item.study, name)
        if kind not in self.plain:
            raise ReservationExceeded(f"run {name} was not approved for a {kind} release without noise")
        if self.used.get(kind, 0) >= self.plain[kind]:
            raise ReservationExceeded(f"run {name} has used all {self.plain[kind]} uploads of {kind}")
        return self._used(kind, item.round, name)

    def closed(self) -> tuple["Run", list[tuple[Event, int]]]:
        """Return the closed run, and the uploads that count as made from now on.

        What was not used returns, unless another process went on with the run: then nobody knows what was used.
        """
        lost = {kind: left for kind in self.stages if self.resumed and (left := self.left(kind)) > 0}
        return replace(self, open=False, lost=lost), [(self.stages[kind].event, left) for kind, left in lost.items()]

    def _of(self, account: Account) -> list[str]:
        return [kind for kind, stage in self.stages.items() if stage.event.account is account]

    def _check_study(self, study: str, name: str) -> None:
        if study != self.study:
            raise ReservationExceeded(f"run {name} was approved for another study")

    def _used(self, kind: str, number: int, name: str) -> "Run":
        if number <= self.last_round:
            raise MisuseError(f"round {number} of run {name} is not after {self.last_round}")
        return replace(self, used={**self.used, kind: self.used.get(kind, 0) + 1}, last_round=number)
