"""How a run ends at a site: keys erased first, then the account closed, each half safe to be killed in.

An unused reservation may return only when nothing more can be uploaded under it, so the session's keys go before the
closing entry. Whoever is killed in between finds an open run without keys and finishes the ending at the next start.
"""

from __future__ import annotations

from pathlib import Path

from nodes import files
from nodes.accounts import Accounts
from nodes.cohort import Cohort
from nodes.errors import StorageProblem, StudyStopped
from nodes.places import Places
from nodes.study import Study

COMPLETE = "complete"
_SNAPSHOT = "table-digest.txt"


def is_complete(accounts: Accounts, study: Study, keys: Path, *, delivered: bool) -> bool:
    """Say whether the run is complete here; finish an ending that was cut off.

    Args:
        accounts: this site's ledger.
        study: the study.
        keys: session file of the run.
        delivered: whether the run's results lie in its folder.

    Raises:
        StudyStopped: the run ended here without completing.
    """
    outcome = accounts.outcome(study.run_id)
    if outcome is None and accounts.last_round(study.run_id) > 0 and not keys.exists():
        outcome = COMPLETE if delivered else "stopped: its session keys are gone"
        accounts.close(study, outcome)
    if outcome is None or outcome == COMPLETE:
        return outcome == COMPLETE
    raise StudyStopped(
        f"study {study.name!r} is over at this site ({outcome}); another attempt "
        "needs the study with a new run number, signed by every site"
    )


def end(accounts: Accounts, study: Study, keys: Path, outcome: str) -> None:
    """Erase the run's keys and close its account; ending it again changes nothing."""
    keys.unlink(missing_ok=True)
    accounts.close(study, outcome)


def hold_to_snapshot(places: Places, study: Study, cohort: Cohort) -> None:
    """Note the table that a run began with, and refuse another one later: a study reads one frozen snapshot.

    Raises:
        StorageProblem: the table has changed since the run began.
    """
    path = places.run(study.run_id) / _SNAPSHOT
    if not path.exists():
        files.make_private_directory(path.parent)
        files.write(path, cohort.digest.encode(), private=True)
    elif files.read_private(path).decode(errors="replace") != cohort.digest:
        raise StorageProblem(
            f"{places.table(study.profile)}: changed since this run of study {study.name!r} began; restore it, or "
            "give the run up with `haemfed study close`"
        )
