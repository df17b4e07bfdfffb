"""Ledgers under test: a list of entries with its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dp.events import Account, GaussianEvent
from dp.ledger import (
    Entry,
    Reserve,
    Stage,
    append,
    fold,
)

NOON = "2026-01-01T12:00:00Z"
TRAINING, HOLDOUT = Account.TRAINING, Account.HOLDOUT
EVENT = GaussianEvent("gradient", 8.0, TRAINING)
UNITS = EVENT.units
STUDY = "5e" * 32
UPLOADS = 4
"""Rounds of a run: no honest peer uploads in a later one (the stage windows of the protocol)."""


def run_id(number: int) -> str:
    return f"{number:064x}"


def reserve(number: int, process: str = "") -> Reserve:
    return Reserve(STUDY, run_id(number), (Stage(EVENT, UPLOADS),), process)


class Copy:
    """One copy of the site's data directory, and the process that runs on it, if one does."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.restore(entries)

    def restore(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)
        self.state = fold(self.entries)
        self.stop()

    def add(self, item: Any) -> Entry:
        entry = append(self.state, item.KIND, item.body(), NOON)
        self.state = self.state.after(entry)
        self.entries.append(entry)
        return entry

    def stop(self) -> None:
        self.process = ""
        self.begun: dict[int, int] = {}
        self.witnessed: set[int] = set()
        self.after: dict[int, int] = {}  # run → round behind which there is a quorum of receipts
