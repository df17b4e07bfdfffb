"""Sites without patients: real client, session and door, made-up contributions; over loopback or over gRPC with TLS."""

from __future__ import annotations

import base64
import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dp.queries import Account, Float64, Query
from nodes import enrolment, tls
from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.coordinator import Coordinator
from nodes.door import Door, Progress
from nodes.provision import create_coordinator, create_site
from nodes.rehearsal import EmptyBook, MemoryHeld, MemoryRecords, MemoryStore
from nodes.rpc_client import GrpcLink
from nodes.rpc_server import serve
from nodes.session import Link, Session
from nodes.study import FORMAT, Federation, Learning, Privacy, Site, Stage, Study
from nodes.tls import Credentials
from nodes.witnessing import Book, witnessing
from secagg.client import Client
from secagg.keys import Identity
from secagg.manifest import Mode
from secagg.messages import Complete, Sum

LENGTH = 12
CAP = 8
SMALL_NOISE = 2.0**-10


def query(index: int) -> Query:
    return Query("gradient", index, LENGTH, 3.0, SMALL_NOISE, Account.TRAINING, CAP)


def contribution(member: int, step: int) -> Float64:
    """Whole numbers of their own for every member and step: a sum says who is in it."""
    return np.full(LENGTH, float(10 ** (member - 1))) / 1e4 + step / 64


@dataclass
class Disk:
    """What survives a site's process."""

    snapshot: bytes | None = None
    records: MemoryRecords = field(default_factory=MemoryRecords)
    book: Book = field(default_factory=EmptyBook)
    held: MemoryHeld = field(default_factory=MemoryHeld)


class Stopped(Exception):  # noqa: N818 -- not an error
    """A test has stopped this process."""


class Party:
    """One site's process: takes part in all steps, in a thread of its own.

    Args:
        world: study and identities.
        member: index.
        link: reaches the coordinator.
        before: called before each contribution with (party, step); may raise `Stopped`.
    """

    def __init__(
        self, world: World, member: int, link: Link, before: Callable[[Party, int], None] = lambda _party, _step: None
    ) -> None:
        self.world, self.member, self.before = world, member, before
        self.disk = world.disks[member]
        self.told: list[Progress] = []
        self.totals: list[Float64] = []
        self.error: BaseException | None = None
        self.reason: str | None = None
        nonce = os.urandom(32)
        self.client = Client(
            world.study.manifest(),
            member,
            world.identities[member - 1],
            entropy=os.urandom,
            nonce=nonce,
            pins=frozenset(world.study.identities()),
            snapshot=self.disk.snapshot,
            last_round=max((*self.disk.records.uploads, 0)),
        )
        self.witness = witnessing(
            world.study,
            f"site-{member}",
            world.identities[member - 1],
            frozenset(world.study.identities()),
            self.disk.book,
            nonce=nonce,
            held=self.disk.held,
            sums=self.disk.records.rounds,
            last_round=self.client.last_round,
        )
        self.session = Session(
            self.client, link, self.witness, keep=self._keep, patience=20.0, now=time.monotonic, sleep=time.sleep
        )
        self.door = Door(
            world.study,
            self.client,
            self.session,
            self.disk.records,
            noise_secret=bytes([member]) * 32,
            progress=self.told.append,
            kept=len(self.disk.records.sums),
        )
        self.thread = threading.Thread(target=self._run, name=f"site-{member}", daemon=True)

    def start(self) -> Party:
        self.thread.start()
        return self

    def join(self, seconds: float = 60.0) -> Party:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"site {self.member} hangs"
        return self

    @property
    def rosters(self) -> list[tuple[int, ...]]:
        """Whose uploads were in each sum."""
        return [total.survivors for total in self.disk.records.sums]

    def _keep(self, snapshot: bytes) -> None:
        self.disk.snapshot = snapshot

    def _run(self) -> None:
        try:
            for step in range(self.world.steps):
                self.totals.append(self.door(query(step), lambda step=step: self._contribute(step)))  # type: ignore[misc]
            self.session.farewell(Complete(self.member, self.client.transcript))
            self.reason = self.session.wait_for_end(20.0)
        except BaseException as error:  # noqa: BLE001 -- shown by the test
            self.error = error
        finally:
            self.session.close()

    def _contribute(self, step: int) -> Float64:
        self.before(self, step)
        return contribution(self.member, step)


class World:
    """A study, its identities, and what its sites and its coordinator keep."""

    def __init__(
        self,
        mode: Mode,
        *,
        sites: int = 4,
        steps: int = 4,
        minimum: int = 0,
        deadline: float = 20.0,
        patience: float = 20.0,
        identities: list[Identity] | None = None,
    ) -> None:
        self.steps = steps
        self.identities = identities or [Identity.generate(os.urandom) for _ in range(sites)]
        self.waits = (deadline, patience)
        self.study = Study(
            format=FORMAT,
            name="no patients",
            purpose="a test",
            profile="none",
            profile_digest="",
            run_number=1,
            not_after="9999-12-31T00:00:00+00:00",
            sites=tuple(
                Site(index, f"site-{index}", base64.b64encode(identity.public).decode(), "none")
                for index, identity in enumerate(self.identities, start=1)
            ),
            learning=Learning({}, (), ""),
            privacy=Privacy(1.0, 1e-5, 1.0, 1e-5, 1, CAP),
            federation=Federation(minimum or (len(self.identities) + 1) // 2 + 1, 8, deadline, patience, mode),
            stages=(Stage("gradient", "training", steps, steps + 8, LENGTH, 3.0, SMALL_NOISE),),
        )
        self.disks = {index: Disk() for index in range(1, len(self.identities) + 1)}
        self.store: Any = MemoryStore()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.coordinator = self.serve()

    def serve(self) -> Coordinator:
        self.coordinator = Coordinator(
            self.study.manifest(),
            self.store,
            max_words=self.study.max_words,
            deadline=self.waits[0],
            patience=self.waits[1],
            notice=lambda event, fields: self.told.append((event, fields)),
        )
        return self.coordinator

    @property
    def rounds(self) -> list[int]:
        return [fields["round"] for event, fields in self.told if event == "round"]


def check(*parties: Party) -> None:
    """Everybody has the same sums, bit for bit, and each is what its survivors contributed."""
    for party in parties:
        assert party.error is None, party.error
        assert party.reason == "complete"
    first = parties[0]
    for other in parties[1:]:
        assert other.disk.records.sums == first.disk.records.sums
        assert other.client.transcript == first.client.transcript
        assert np.array_equal(other.totals, first.totals)
    for step, (total, members) in enumerate(zip(first.totals, first.rosters, strict=True)):
        np.testing.assert_allclose(total, sum(contribution(member, step) for member in members), atol=0.05)


def total_of(party: Party, position: int) -> Sum:
    return party.disk.records.sums[position]


@dataclass(frozen=True)
class Certificates:
    """TLS credentials of a coordinator and its sites, and the sites' identities."""

    coordinator: Credentials
    sites: dict[int, Credentials]
    identities: list[Identity]


def provision(root: Path, sites: int) -> Certificates:
    """What `coordinator init`, `site init`, `coordinator admit` and `site join` do."""
    now = dt.datetime.now(dt.UTC)
    telephone = create_coordinator(root / "coordinator", "a test", "127.0.0.1:0", ["localhost", "127.0.0.1"], now)
    coordinator = load(CoordinatorConfig, root / "coordinator" / "coordinator.toml").paths
    authority = tls.load_authority(coordinator)
    credentials, identities = {}, []
    for index in range(1, sites + 1):
        name = f"site-{index}"
        request, _ = create_site(root / name, name, "127.0.0.1:1")
        admitted = enrolment.admit(authority, enrolment.read_document(request), now)
        paths = load(SiteConfig, root / name / "site.toml").paths
        enrolment.accept(paths, admitted.bundle, site=name, expected=telephone, now=now)
        credentials[index] = tls.load_credentials(paths, now)
        identities.append(enrolment.load_identity(paths.identity))
    return Certificates(tls.load_credentials(coordinator, now), credentials, identities)


@contextmanager
def served(certificates: Certificates, study: Study) -> Iterator[Callable[[Coordinator], Callable[[int], Link]]]:
    """How each member reaches a coordinator through gRPC with TLS, for `tests.nodes.modes.run`; ends its server."""
    names = {index: f"site-{index}" for index in certificates.sites}
    servers: list[Any] = []

    def links(coordinator: Coordinator) -> Callable[[int], Link]:
        server, port = serve(coordinator, names, address="127.0.0.1:0", tls=certificates.coordinator)
        servers.append(server)
        return lambda member: GrpcLink(f"127.0.0.1:{port}", certificates.sites[member], max_words=study.max_words)

    try:
        yield links
    finally:
        for server in servers:
            server.stop(1.0).wait()
