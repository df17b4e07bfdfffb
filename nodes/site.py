"""A hospital's daemon for one study: policy → data → sums through the door → model, evidence and report.

Everything can be interrupted anywhere. What was charged stays charged, what was summed is replayed from this site's own
records, and starting the same command again goes on where it stopped. At every start, also in the middle of a run, the
peers are asked whether this ledger is the one they know, and nothing is uploaded before enough of them have answered.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dp.errors import LedgerCorrupt
from dp.queries import Account
from nodes import accounts as ledgers
from nodes import files, plans, rollback
from nodes.accounts import Accounts
from nodes.approval import check_study
from nodes.cohort import Cohort, load_cohort
from nodes.config import SiteConfig
from nodes.door import Door, Progress
from nodes.ending import COMPLETE, dispute, disputed, end, ending, hold_to_snapshot, is_complete
from nodes.enrolment import load_identity
from nodes.errors import StorageProblem, StudyStopped
from nodes.places import Places, load_secrets
from nodes.session import Link, Session
from nodes.store import SiteStore
from nodes.study import Study, require_current
from nodes.witnessing import Witnessing, witnessing
from secagg import masks
from secagg.client import Client
from secagg.errors import SecaggError
from secagg.keys import Identity
from secagg.messages import Complete, Refused

_NONCE = 32
_NOT_OURS = "stopped: the ledger is not the one that its peers have seen"
_FAREWELL_PATIENCE = 5.0  # seconds: all sums are here, the coordinator only wants to know

Watch = Callable[[Progress, int], None]
"""Told of every upload and sum, with the units that this run has spent so far of the training account."""


@dataclass(frozen=True)
class Finished:
    """What a completed study leaves at a site before anything is written.

    Args:
        study: the signed study.
        left: model and what was released beside it, equal at every site.
        cohort: this site's patients, for the local audit.
        transcript: digest of all sums in order, hex.
        largest_roster: most sites in one sum.
        completed: kind of sum → how many were completed.
    """

    study: Study
    left: plans.Left
    cohort: Cohort
    transcript: str
    largest_roster: int
    completed: Mapping[str, int]


def run_study(
    study: Study,
    config: SiteConfig,
    link: Link,
    *,
    watch: Watch,
    deliver: Callable[[Finished], None],
    delivered: Callable[[], bool],
    seal: Callable[[], None] = lambda: None,
    entropy: Callable[[int], bytes] = os.urandom,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    sleep: Callable[[float], None] = time.sleep,
    notice: Callable[[str, Mapping[str, str]], None] = lambda _event, _fields: None,
) -> Finished | None:
    """Take part in a study from wherever this site stands in it, to its end.

    The caller holds the data directory's lock.

    Args:
        study: validated: signed by every site, not expired.
        config: this site.
        link: reaches the coordinator.
        watch: progress, public and released facts only.
        deliver: writes down what the study left. It runs before the run is closed here: killed in between, the next
            start replays this site's own records and delivers again.
        delivered: whether that has happened.
        seal: takes what was delivered out of use, because the sites have made different models of their sums.
        entropy: the operating system's generator.
        now: the clock.
        sleep: waits between attempts to connect.
        notice: called with an event name and its public fields.

    Returns:
        What the study left, or None if it was complete here before.

    Raises:
        NodeError: see `nodes.errors`; whatever was charged is in the ledger.
        SecaggError: the coordinator or a peer broke the protocol, or a sum was forged; the study is over here.
    """
    places = Places(config.paths)
    identity, secrets = load_identity(config.paths.identity), load_secrets(places)
    with SiteStore(config.paths.database) as store, _beside() as executor:
        accounts = ledgers.of(config, store, now)
        keys = config.paths.session(study.run_id)
        if is_complete(accounts, study, keys, delivered=delivered()):
            return None
        if not accounts.is_open(study.run_id):
            require_current(study, now())
        pins = check_study(study, config, identity, accounts)
        cohort = load_cohort(study, places.table(study.profile), secrets.split)
        hold_to_snapshot(places, study, cohort)
        reserved_here = not accounts.is_open(study.run_id)
        accounts.open(study)
        nonce = entropy(_NONCE)  # memory only: a restored disk or a cloned machine cannot repeat a mask key
        client = _client(study, config, identity, pins, accounts, nonce, entropy)
        witness = witnessing(
            study,
            config.name,
            identity,
            pins,
            accounts,
            nonce=nonce,  # the same: peers upload only with the very process that they have answered
            held=store,
            sums=partial(store.summed_rounds, study.run_id),
            last_round=client.last_round,
            confirmed=lambda seen: accounts.mark_witnessed(study.run_id, seen),
        )
        _name_new_keys(witness, notice)
        session = Session(
            client,
            link,
            witness,
            keep=_keeper(keys),
            patience=config.reconnect_patience,
            now=time.monotonic,
            sleep=sleep,
            notice=notice,
        )

        require_no_objection = partial(
            _require_no_objection,
            witness,
            config,
            unspent=lambda: reserved_here and not store.last_round(study.run_id),
            give_back=partial(end, accounts, study, keys, _NOT_OURS),
        )
        party = _join(study, config, client, session, accounts, secrets.noise, watch, entropy, executor)
        try:
            left = plans.run(study, cohort, party.door, party.member - 1)
            transcript = party.client.transcript
            sums = party.sums
            largest = max((size for _, size in sums), default=0)
            finished = Finished(study, left, cohort, transcript.hex(), largest, Counter(kind for kind, _ in sums))
            # First the word that the others wait for, then our own results; the end of the run changes neither.
            party.session.farewell(Complete(party.member, ending(transcript, left.model.digest)))
            deliver(finished)
            reason = party.session.wait_for_end(_FAREWELL_PATIENCE)
            require_no_objection()
        except (SecaggError, StudyStopped) as error:
            # Final here: a broken protocol, a forged sum, or an end before the last sum. What was not used returns.
            require_no_objection()
            if isinstance(error, SecaggError):
                party.session.farewell(Refused(party.member, error.code))
            end(accounts, study, keys, f"stopped: {error}")
            if isinstance(error, StudyStopped) and not witness.ready:
                raise _unwitnessed(witness, error) from error
            raise
        except LedgerCorrupt:
            # Not the run is over, but this ledger: it is not continued, not even by the end of a run, until a person
            # has recovered it.
            require_no_objection()
            raise
        finally:
            party.session.close()
        _conclude(study, reason, seal, partial(end, accounts, study, keys))
    return finished


def _conclude(study: Study, reason: str | None, seal: Callable[[], None], over: Callable[[str], None]) -> None:
    """End a run whose sums are all here, by what the coordinator says of the others."""
    if (parted := dispute(study, reason)) is not None:
        seal()  # before the end: killed in between, the model is out of use at least
        over(disputed(str(reason)))
        raise parted
    over(COMPLETE)
    if reason not in (None, COMPLETE):
        raise StudyStopped(f"all sums and the model are here, but the coordinator ended the study with: {reason}")


def _name_new_keys(witness: Witnessing, notice: Callable[[str, Mapping[str, str]], None]) -> None:
    """Say whose ledger begins anew here: its name is known under another identity."""
    if renewed := witness.renewed():
        notice("a known site under a new key", {"peer": ", ".join(renewed)})


def _require_no_objection(
    witness: Witnessing, config: SiteConfig, *, unspent: Callable[[], bool], give_back: Callable[[], None]
) -> None:
    """Write down what peers have seen beyond this site's ledger, and stop.

    If this very process has reserved the run and uploaded nothing, the reservation returns first: nothing of it can
    have been spent, whoever has shown the old statement, and the recovery that comes next would count it as spent.
    """
    if witness.objections:
        rollback.add(config.data_dir / rollback.NAME, witness.objections)
        if unspent():
            give_back()
        raise witness.refusal()


def _unwitnessed(witness: Witnessing, error: StudyStopped) -> StudyStopped:
    names = ", ".join(witness.missing())
    return StudyStopped(
        f"{error}; nothing was uploaded from here after this start, because too few hospitals had confirmed where this "
        f"site's ledger stands ({names} had not): they have to be in the study at the same time"
    )


@dataclass(frozen=True)
class _Party:
    """This site in a running study; `sums` say the kind of each sum so far and how many sites were in it."""

    member: int
    client: Client
    session: Session
    door: Door
    sums: list[tuple[str, int]]


def _client(
    study: Study,
    config: SiteConfig,
    identity: Identity,
    pins: frozenset[bytes],
    accounts: Accounts,
    nonce: bytes,
    entropy: Callable[[int], bytes],
) -> Client:
    keys = config.paths.session(study.run_id)
    return Client(
        study.manifest(),
        study.site(config.name).index,
        identity,
        entropy=entropy,
        nonce=nonce,
        pins=pins,
        snapshot=files.read_private(keys) if keys.exists() else None,
        last_round=accounts.last_round(study.run_id),
        backend=masks.fastest(time.perf_counter),
    )


def _join(
    study: Study,
    config: SiteConfig,
    client: Client,
    session: Session,
    accounts: Accounts,
    noise_secret: bytes,
    watch: Watch,
    entropy: Callable[[int], bytes],
    executor: Executor | None,
) -> _Party:
    member = study.site(config.name).index
    kept = accounts.sums(study.run_id)
    if kept < client.sums:
        raise StorageProblem(
            f"{config.paths.database}: holds {kept} sums of study {study.name!r}, this site has applied "
            f"{client.sums}: the database was restored from a backup; the study is over here, join the next run"
        )
    sums: list[tuple[str, int]] = []

    def report(progress: Progress) -> None:
        if progress.event == "sum":  # an upload may belong to a round that never completes, here and nowhere else
            sums.append((progress.kind, len(progress.roster)))
        watch(progress, accounts.units_of(study.run_id, Account.TRAINING))

    door = Door(
        study,
        client,
        session,
        accounts.records(study),
        noise_secret=noise_secret,
        entropy=entropy,
        progress=report,
        kept=kept,
        executor=executor,
        backend=masks.fastest(time.perf_counter),
    )
    return _Party(member, client, session, door, sums)


@contextmanager
def _beside() -> Iterator[Executor | None]:
    """Yield a thread that makes masks while this one computes gradients; none where that would only take turns."""
    if _cores() > 1:
        with ThreadPoolExecutor(1, thread_name_prefix="masks") as executor:
            yield executor
    else:
        yield None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _keeper(path: Path) -> Callable[[bytes], None]:
    last: list[bytes] = []

    def keep(snapshot: bytes) -> None:
        if last != [snapshot]:
            files.write(path, snapshot, private=True)
            last[:] = [snapshot]

    return keep
