"""How a run ends at a site: keys erased first, then the account closed, each half safe to be killed in.

An unused reservation may return only when nothing more can be uploaded under it, so the session's keys go before the
closing entry. Whoever is killed in between finds an open run without keys and finishes the ending at the next start.

What follows the last sum enters no later query, so masks cannot notice if hosts part there. Each site therefore ends
with a digest of its transcript *and* of its model, and the coordinator, who compares these words, ends the run
disputed if they differ. A coordinator that lies about that can call a dispute, as it can stop any study, or hide one:
then sites know no less than they would without it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nodes import files
from nodes.accounts import Accounts
from nodes.cohort import Cohort
from nodes.errors import StorageProblem, StudyDisputed, StudyStopped
from nodes.places import Places
from nodes.study import Study
from secagg.encoding import enc
from secagg.server import PARTED

COMPLETE = "complete"
_DISPUTED = "disputed"
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
    raise (StudyDisputed if outcome.startswith(_DISPUTED) else StudyStopped)(
        f"study {study.name!r} is over at this site ({outcome}); another attempt "
        "needs the study with a new run number, signed by every site"
    )


def ending(transcript: bytes, model: str) -> bytes:
    """What a site says that it ends with, 32 octets, equal at every site: its sums, and the model that it made of them.

    Args:
        transcript: of all sums.
        model: digest of the model, hex.
    """
    return hashlib.sha256(enc("haemfed/ending/v1", transcript, bytes.fromhex(model))).digest()


def dispute(study: Study, reason: str | None) -> StudyDisputed | None:
    """The error of a run that the sites did not end alike; None of any other.

    Args:
        study: the study.
        reason: of the coordinator's Finish; None if it sent none in time.
    """
    if reason is None or not reason.startswith(PARTED):
        return None
    return StudyDisputed(
        f"study {study.name!r} ended {_DISPUTED}: {reason}. The sites made different models, and nobody can say which "
        "is right: this one is out of use. Compare versions and processors with the hospitals named, then ask for "
        "another run"
    )


def disputed(reason: str) -> str:
    """The outcome that the ledger keeps."""
    return f"{_DISPUTED}: {reason}"


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
