"""Real daemons on loopback that are killed at random moments, and what must hold afterwards."""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from models.presets import PRESETS
from nodes.accounts import Accounts
from nodes.demo import consortium as founding
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import Consortium, found
from nodes.demo.outcome import compare
from nodes.demo.processes import Daemon, Fleet, free_port
from nodes.protocol import Terms
from nodes.store import SiteStore
from secagg.manifest import Mode

LIMIT = 900.0


@dataclass(frozen=True)
class Report:
    """What a run under fire left.

    Args:
        kills: how often a process was killed, by name.
        received: (member, round) of every upload that reached the coordinator, completed or not.
        charged: (member, round) of every upload in a ledger.
        endings: exit status of every process.
        reasons: last words of those that ended with an error.
    """

    kills: dict[str, int]
    received: set[tuple[int, int]]
    charged: set[tuple[int, int]]
    endings: dict[str, int]
    reasons: dict[str, str]


def small_consortium(
    root: Path, *, steps: int, uploads: int, changes: int, pace: float, mode: Mode = Mode.A
) -> Consortium:
    """Four hospitals whose study tolerates many failures."""
    preset = replace(PRESETS[founding.PRESET], steps=steps, uploads=uploads)
    # In mode B a round waits for who has broken off until the deadline: it may come back and send the same again.
    deadline = 60.0 if mode is Mode.A else 8.0
    terms = Terms(roster_changes=changes, deadline_seconds=deadline, patience_seconds=120.0, mode=mode)
    now = dt.datetime.now(dt.UTC)
    return found(root, hospitals(4), free_port(), terms, pace, now, preset=preset)


def under_fire(consortium: Consortium, kills: int, seed: int) -> Report:
    """Run the study and SIGKILL a random process at a random moment, `kills` times; each is started again at once."""
    moments = random.Random(seed)
    fleet = Fleet(consortium)
    struck: dict[str, int] = {}
    until = time.monotonic() + LIMIT
    fleet.start()
    try:
        for _ in range(kills):
            _wait(until, moments.uniform(0.5, 5.0))
            alive = [daemon for daemon in _daemons(fleet) if daemon.exit_code is None]
            if not alive or all(daemon.exit_code == 0 for daemon in fleet.sites.values()):
                break
            victim = moments.choice(alive)
            victim.kill()
            struck[victim.name] = struck.get(victim.name, 0) + 1
            victim.start()
        while any(daemon.exit_code is None for daemon in _daemons(fleet)) and time.monotonic() < until:
            time.sleep(0.2)
    finally:
        fleet.stop()
    endings = {daemon.name: daemon.exit_code if daemon.exit_code is not None else -1 for daemon in _daemons(fleet)}
    reasons = {daemon.name: daemon.last_words() for daemon in _daemons(fleet) if daemon.exit_code}
    return Report(struck, _received(fleet.coordinator.log), _charged(consortium), endings, reasons)


def all_models_equal(consortium: Consortium) -> str:
    """Digest of the model file, equal at all sites."""
    return compare(consortium).digest


def _daemons(fleet: Fleet) -> list[Daemon]:
    return [fleet.coordinator, *fleet.sites.values()]


def _wait(until: float, seconds: float) -> None:
    time.sleep(max(0.0, min(seconds, until - time.monotonic())))


def _received(log: Path) -> set[tuple[int, int]]:
    uploads = set()
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that SIGKILL cut off
        if entry.get("event") == "upload":
            uploads.add((int(entry["member"]), int(entry["round"])))
    return uploads


def _charged(consortium: Consortium) -> set[tuple[int, int]]:
    study = consortium.study
    charged = set()
    for site in consortium.sites:
        with SiteStore(site.config.paths.database) as store:
            uploads = Accounts(store, lambda: dt.datetime.now(dt.UTC)).uploads_of(study.run_id)
        index = study.site(site.hospital.name).index
        rounds = [upload.round for upload in uploads]
        assert len(rounds) == len(set(rounds)), f"{site.hospital.name} charged a round twice"
        assert len({upload.context for upload in uploads}) == len(uploads)
        charged |= {(index, number) for number in rounds}
    return charged
