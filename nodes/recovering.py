"""`haemfed budget recover`: a ledger that was restored or copied takes over what others have seen of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from dp.entries import Recover
from dp.events import Account
from nodes import accounts, files, rollback
from nodes.config import SiteConfig
from nodes.enrolment import load_identity
from nodes.store import SiteStore

__all__ = ["Recovered", "recover"]


@dataclass(frozen=True)
class Recovered:
    """What a recovery did.

    Args:
        item: the entry; it names what was seen.
        closed: runs that were open here and are over now.
        lines: both accounts afterwards.
    """

    item: Recover
    closed: int
    lines: tuple[accounts.Line, ...]


def recover(config: SiteConfig, now: dt.datetime, exhaust: Collection[Account] = ()) -> Recovered:
    """Append what the anchor and the peers have seen, and close every run; a person's act.

    Args:
        config: this site; nothing else may be running on its data directory.
        now: the time.
        exhaust: accounts to give up for ever; see `dp.grants.Recover`.

    Raises:
        ConfigError: there is nothing to recover from.
        BudgetOfAnotherKind: an account adds up in one way here and in another at the witnesses; nothing was written.
        StorageProblem: a file is damaged, or holds what this site never signed.
        LedgerCorrupt: the ledger itself does not verify; nothing was written.
    """
    identity = load_identity(config.paths.identity)
    with files.lock(config.data_dir), SiteStore(config.paths.database) as store:
        path = config.data_dir / rollback.NAME
        seen = rollback.read(path, config.name, identity.public)
        books = accounts.of(config, store, lambda: now, restoring=True)
        open_runs = books.state.open_runs()
        lost = books.recovery(seen, exhaust).runs
        for run in {*open_runs, *lost}:  # as always: the keys go before the account is closed
            config.paths.session(bytes.fromhex(run)).unlink(missing_ok=True)
        item = books.recover(seen, exhaust)
        path.unlink(missing_ok=True)
        return Recovered(item, len(open_runs), books.summary())
