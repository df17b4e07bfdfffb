"""A federation in this process that runs the production path on data without patients.

The audit's self-check needs sums whose contributions are known. Production has no hook for that, because a place where
a sum could be seen before its noise would be a second door; here the contributions are made up, so nothing is protected
and everything can be compared. Same client, server, session, door, lattice and noise as in a study.
"""

from __future__ import annotations

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from audits.mechanism import PathRun
from dp.chain import Link
from dp.ledger import State
from dp.noise_shares import local_lattice
from dp.queries import Account, Float64, Query
from dp.witness import Statement, statement
from models.algorithms.averaging import Averaging
from models.algorithms.chosen import describe
from models.algorithms.local import step_query
from models.algorithms.protection import UPDATE
from models.presets import PRESETS
from nodes.coordinator import Coordinator
from nodes.door import Door
from nodes.grids import grid
from nodes.loopback import LoopbackLink
from nodes.session import Session
from nodes.store import CoordinatorRun, StoredSetup, StoredSum, SumEntry, WitnessedRow
from nodes.study import FORMAT, Federation, Learning, Privacy, Site, Stage, Study
from nodes.witnessing import witnessing
from secagg.client import Client
from secagg.keys import Identity
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise
from secagg.messages import Complete, Sum, Upload

_WAIT = 60.0


class MemoryStore:
    """A coordinator's store without a disk; see `nodes.coordinator.Store`."""

    def __init__(self) -> None:
        self._last: tuple[int, tuple[int, ...], int] = (0, (), 0)
        self._sums: list[StoredSum] = []
        self._setup: list[StoredSetup] = []
        self._end: tuple[str, bool] | None = None

    def state(self, run_id: bytes) -> CoordinatorRun | None:
        """Return the run."""
        last, roster, changes = self._last
        reason, ok = self._end or (None, None)
        return CoordinatorRun(run_id, last, roster, changes, len(self._sums), reason, ok)

    def set_last_round(self, _run_id: bytes, number: int, roster: tuple[int, ...], changes: int) -> None:
        """Reserve a round number, or count a change of who is in the last one."""
        self._last = (number, roster, changes)

    def add_setup(self, _run_id: bytes, kind: str, member: int, payload: bytes) -> None:
        """Keep a set-up message."""
        self._setup.append(StoredSetup(kind, member, payload))

    def setup(self, _run_id: bytes) -> list[StoredSetup]:
        """Return the set-up messages."""
        return list(self._setup)

    def add_sum(self, _run_id: bytes, new: StoredSum) -> None:
        """Keep a sum."""
        self._sums.append(new)

    def history(self, _run_id: bytes) -> list[SumEntry]:
        """Return the sums without their words."""
        return [
            SumEntry(each.position, each.round, each.roster, each.survivors, len(each.words)) for each in self._sums
        ]

    def words(self, _run_id: bytes, position: int, offset: int, most: int) -> bytes:
        """Return a piece of a sum's words."""
        return self._sums[position].words[offset : offset + most]

    def finish(self, _run_id: bytes, reason: str, *, ok: bool) -> None:
        """End the run."""
        self._end = (reason, ok)


@dataclass
class MemoryRecords:
    """Uploads and sums of one site without a disk; see `nodes.door.Records`."""

    uploads: dict[int, tuple[bytes, Upload]] = field(default_factory=dict)
    sums: list[Sum] = field(default_factory=list)

    def charge_and_store(self, query: Query, context: bytes, upload: Upload) -> None:
        """Store an upload."""
        del query
        self.uploads[upload.round] = (context, upload)

    def stored_upload(self, round_number: int) -> tuple[bytes, Upload] | None:
        """Return an upload."""
        return self.uploads.get(round_number)

    def keep_sum(self, position: int, total: Sum) -> None:
        """Store a sum."""
        del position
        self.sums.append(total)

    def kept_sum(self, position: int) -> Sum:
        """Return a sum."""
        return self.sums[position]

    def rounds(self) -> list[int]:
        """Return the rounds of the sums."""
        return [each.round for each in self.sums]


class EmptyBook:
    """The ledger of a site without patients: empty, and its peers witness that; see `nodes.witnessing.Book`."""

    def statement(self, site: str) -> Statement:
        """Return what the site says about it."""
        return statement(State(), site)

    def links(self, _after: int) -> tuple[Link, ...]:
        """Return nothing: no entry follows."""
        return ()


@dataclass
class MemoryHeld:
    """What one site holds of its peers' ledgers, without a disk; see `nodes.witnessing.Held`."""

    rows: dict[bytes, WitnessedRow] = field(default_factory=dict)

    def witnessed(self, identity: bytes) -> WitnessedRow | None:
        """Return what is held of a site."""
        return self.rows.get(identity)

    def witnessed_of_others(self, identity: bytes) -> list[WitnessedRow]:
        """Return what is held of all other sites."""
        return [row for row in self.rows.values() if row.identity != identity]

    def witness(self, row: WitnessedRow) -> None:
        """Hold a statement."""
        self.rows[row.identity] = row


@dataclass(frozen=True)
class Rehearsal:
    """`audits.mechanism.TrainingPath` over the production code.

    Args:
        sites: hospitals, at least 4.
        length: coordinates per round.
        collusion: c.
        clip: sensitivity of the query.
        multiplier: z of the query.
        patient_cap: public cap of the query.
        mode: how rounds open.
        noise: who adds it; there is no rehearsal without noise.
        lane_bits: width of a coordinate.
        local_steps: whether contributions are clipped sums of local steps, which the door makes noisy one by one, and
            whose sum has no noise of its own; `clip` and `multiplier` are then those of a local step.
    """

    sites: int = 6
    length: int = 256
    collusion: int = 1
    clip: float = 3.0
    multiplier: float = 16.0
    patient_cap: int = 4096
    mode: Mode = Mode.A
    noise: Noise = Noise.DISTRIBUTED
    lane_bits: int = WIDE
    local_steps: bool = False

    def run(self, contributions: Float64) -> PathRun:
        """Send `contributions` float64[rounds, sites, d] through the path."""
        rounds = contributions.shape[0]
        identities = [Identity.generate(os.urandom) for _ in range(self.sites)]
        study = self._study(identities, rounds)
        coordinator = Coordinator(
            study.manifest(),
            MemoryStore(),
            max_words=study.max_words,
            deadline=_WAIT,
            patience=_WAIT,
            notice=lambda _event, _fields: None,
        )
        with ThreadPoolExecutor(self.sites) as pool:
            runs = [
                pool.submit(self._site, study, index, identities[index - 1], coordinator, contributions[:, index - 1])
                for index in range(1, self.sites + 1)
            ]
            results = [run.result() for run in runs]
        coordinator.close()
        for other in results[1:]:
            if not np.array_equal(results[0], other):
                raise AssertionError("two sites decoded one sum differently")
        # Nobody drops out of a rehearsal: every site's noise is in every sum.
        manifest = study.manifest()
        honest = manifest.honest(self.sites)
        if self.local_steps:
            claimed = step_query(self._query(0), self.clip, 1, 0)
            return PathRun(claimed, results[0], self.sites, honest, self.clip / local_lattice(claimed, 1).steps)
        step = grid(manifest, self._query(0), self.sites).step(self._query(0))
        return PathRun(self._query(0), results[0], self.sites, honest, step)

    def _site(self, study: Study, index: int, identity: Identity, coordinator: Coordinator, rows: Float64) -> Float64:
        pins, nonce = frozenset(study.identities()), os.urandom(32)
        client = Client(study.manifest(), index, identity, entropy=os.urandom, nonce=nonce, pins=pins)
        name, records = study.sites[index - 1].name, MemoryRecords()
        session = Session(
            client,
            LoopbackLink(coordinator),
            witnessing(study, name, identity, pins, EmptyBook(), nonce=nonce, held=MemoryHeld(), sums=records.rounds),
            keep=lambda _snapshot: None,
            patience=_WAIT,
            now=time.monotonic,
            sleep=time.sleep,
        )
        door = Door(study, client, session, records, noise_secret=os.urandom(32))
        asked = [(self._query(step), row) for step, row in enumerate(rows)]
        sums = [door(query, partial(self._contribution, door, query, row)) for query, row in asked]
        session.farewell(Complete(index, client.transcript))
        session.wait_for_end(_WAIT)
        session.close()
        return np.stack(sums)

    def _contribution(self, door: Door, query: Query, row: Float64) -> Float64:
        return door.local_noise(step_query(query, self.clip, 1, query.index), row) if self.local_steps else row

    @property
    def _unit(self) -> float:
        """Of the sum's integers: updates are as long as their noise."""
        return self.clip * max(1.0, self.multiplier) if self.local_steps else self.clip

    def _query(self, index: int) -> Query:
        if self.local_steps:
            return Query(UPDATE, index, self.length, self._unit, self.multiplier, Account.TRAINING, self.patient_cap)
        return Query("gradient", index, self.length, self.clip, self.multiplier, Account.TRAINING, self.patient_cap)

    def _study(self, identities: list[Identity], rounds: int) -> Study:
        kind = self._query(0).kind
        stage = Stage(kind, "training", rounds, rounds, self.length, self._unit, self.multiplier)
        learning = Learning({}, (), "")
        if self.local_steps:
            plain = replace(next(iter(PRESETS.values())), clip=self.clip).to_json()
            alone = Averaging(1, self._unit, 0.0, 1.0, (1 / self.sites,) * self.sites)
            learning = Learning(plain, (), "", None, describe(alone))
        return Study(
            format=FORMAT,
            name="self-check",
            purpose="mechanism audit on data without patients",
            profile="none",
            profile_digest="",
            run_number=1,
            not_after="9999-12-31T00:00:00+00:00",
            sites=tuple(
                Site(index, f"site-{index}", base64.b64encode(identity.public).decode(), "none")
                for index, identity in enumerate(identities, start=1)
            ),
            learning=learning,
            privacy=Privacy(1.0, 1e-5, 1.0, 1e-5, self.collusion, self.patient_cap, self.noise),
            federation=Federation(self.sites, 4, _WAIT, _WAIT, self.mode, self.lane_bits),
            stages=(stage,),
        )
