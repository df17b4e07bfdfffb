"""A whole federation in memory: clients, server, their disks and the wires between them, all scripted.

No sockets, no threads, no clock. A test kills and restarts parties, restores old disks, and puts an attacker
on a wire; then it compares what every site decoded with plain integers.
"""

import gc
import hashlib
import random
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secagg import (
    Arm,
    Client,
    Identity,
    Manifest,
    Member,
    Mode,
    PeerError,
    Send,
    SendSums,
    Server,
    Stop,
    StoreRound,
    StoreSetup,
    StoreSum,
    SumRecord,
    Terms,
    masks,
    rounds,
)
from secagg.messages import (
    Agreement,
    Complete,
    Consent,
    Finish,
    Part,
    Refused,
    Roster,
    Shares,
    Step,
    Sum,
    Survivors,
    Upload,
    parts,
)

BOUND = 1 << 40


def entropy(seed: str) -> Callable[[int], bytes]:
    """A deterministic stand-in for the operating system's generator."""
    counter = iter(range(1 << 62))

    def draw(size: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(size)

    return draw


def identity(member: int) -> Identity:
    return Identity.generate(entropy(f"identity {member}"))


def manifest(n: int = 4, c: int = 1, **changes: Any) -> Manifest:
    members = tuple(Member(i, f"Hospital {i}", identity(i).public) for i in range(1, n + 1))
    shares = 2 * n // 3 + 1 if changes.get("mode") is Mode.B else 0
    values: dict[str, Any] = {
        "run_id": b"R" * 32,
        "study_digest": b"S" * 32,
        "members": members,
        "collusion": c,
        "minimum_roster": max((n + c) // 2 + 1, c + 2, shares),
        "roster_changes": 4,
        "max_rounds": 5000,
    }
    return Manifest(**(values | changes))


def pins(of: Manifest) -> frozenset[bytes]:
    return frozenset(member.identity for member in of.members)


@dataclass(frozen=True)
class Study:
    """What a site believes it takes part in: the terms and the data of each step."""

    steps: int = 3
    length: int = 5
    model: str = "model"
    share_variance: int = 1 << 20
    clamp: int = 1 << 30
    bound: int = BOUND
    scale: int = 1 << 30

    def terms(self, step: int, roster: int, c: int) -> Terms:
        """What a step sums in mode A."""
        query = hashlib.sha256(f"{self.model}/{step}".encode()).digest()
        return Terms(query, self.length, self.share_variance, roster - c, 1 << 20, self.clamp, self.bound)

    def data(self, member: int, step: int, attempt: int) -> np.ndarray:
        """A fresh vector for every attempt: a mask key used twice would reveal a difference."""
        chance = np.random.default_rng([member, step, attempt])
        return chance.integers(-self.scale, self.scale + 1, self.length, dtype=np.int64)


@dataclass
class Disk:
    """What survives a site's process."""

    snapshot: bytes | None = None
    uploads: list[Upload] = field(default_factory=list)
    data: dict[bytes, np.ndarray] = field(default_factory=dict)  # context digest → what was uploaded
    applied: list[Sum] = field(default_factory=list)

    @property
    def last_round(self) -> int:
        return max((upload.round for upload in self.uploads), default=0)

    def copy(self) -> "Disk":
        return Disk(self.snapshot, list(self.uploads), dict(self.data), list(self.applied))


class Site:
    """The shell of one client, as the node would be: persist, then send."""

    def __init__(
        self, of: Manifest, member: int, study: Study, disk: Disk, start: str, *, chunk: int = 1 << 20
    ) -> None:
        self.manifest, self.member, self.study, self.disk, self.chunk = of, member, study, disk, chunk
        self.totals: list[np.ndarray] = []
        self.contexts: list[bytes] = []
        self.error: Exception | None = None
        self.reason = ""
        chance = entropy(f"site {member} {start}")
        self.attempt = int.from_bytes(chance(4), "big")
        self.client = Client(
            of, member, identity(member), entropy=chance, nonce=chance(32), pins=pins(of),
            snapshot=disk.snapshot, last_round=disk.last_round,
        )  # fmt: skip
        self.persist()

    def persist(self) -> None:
        self.disk.snapshot = self.client.snapshot()

    def terms(self, roster: int) -> Terms:
        terms = self.study.terms(self.client.sums, roster, self.manifest.collusion)
        return replace(terms, honest=self.manifest.honest(roster))

    def receive(self, message: Any) -> list[Any]:
        """Take what the server sent and return what goes back, uploads in parts."""
        try:
            answers = list(self._answer(message))
        except PeerError as error:
            self.error = error
            answers = [Refused(self.member, error.code)]
        self.persist()
        return answers

    def _answer(self, message: Any) -> Iterator[Any]:
        match message:
            case Sum():
                self.accept(message)
            case Finish():
                self.reason = message.reason
            case Step() if self.client.sums == self.study.steps:
                yield Complete(self.member, self.client.transcript)
            case Step():
                yield from parts(self.upload(message), self.chunk)
            case _:
                yield from self.client.receive(message)

    def accept(self, total: Sum) -> None:
        self.totals.append(self.client.accept(total, self.terms(len(total.roster))))
        self.disk.applied.append(total)

    def upload(self, step: Step) -> Upload:
        context = self.client.open(step, self.terms(len(step.roster)))
        self.attempt += 1
        values = self.study.data(self.member, self.client.sums, self.attempt)
        upload = self.client.upload(context, values)
        self.disk.uploads.append(upload)
        self.disk.data[context.digest] = values
        self.contexts.append(context.digest)
        return upload

    def greet(self) -> list[Any]:
        """What goes out first on every connection, after the hello."""
        greeting: list[Any] = list(self.client.begin())
        if self.manifest.mode is Mode.B and self.contexts and self.disk.last_round == self.client.last_round:
            # A round of mode B may still wait for this upload: the stored bytes again, never masked anew.
            greeting += parts(self.disk.uploads[-1], self.chunk)
        return greeting


@dataclass
class Uses:
    """What was laid over what, in the whole process: see :func:`recording`."""

    streams: Counter[tuple[bytes, str]] = field(default_factory=Counter)  # (key, sign) → how often a site used it
    vectors: dict[tuple[int, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def check(self) -> None:
        """No stream is in two pads, and no pad on two vectors."""
        assert all(times == 1 for times in self.streams.values())
        assert all(len(vectors) == 1 for vectors in self.vectors.values())


@contextmanager
def recording() -> Iterator[Uses]:
    """Record every use of a mask stream by a site, and every vector that is masked.

    What the server takes off a sum with keys that were revealed to it is not recorded.
    """
    uses = Uses()
    pad, apply, mask = masks.pad, masks.apply, rounds.Opened.mask

    def count(add: Any, subtract: Any) -> None:
        # A key serves both ends of its pair: the sign keeps them apart.
        uses.streams.update([(key, "+") for key in add] + [(key, "-") for key in subtract])

    def recorded_pad(length: int, *, add: Any, subtract: Any, backend: Any = masks.CTR) -> Any:
        count(add, subtract)
        return pad(length, add=add, subtract=subtract, backend=backend)

    def recorded_apply(words: Any, *, add: Any, subtract: Any, backend: Any = masks.CTR) -> None:
        count(add, subtract)
        apply(words, add=add, subtract=subtract, backend=backend)

    def recorded_mask(opened: Any, coordinates: Any, group: bytes) -> bytes:
        uses.vectors[opened.me, opened.context.digest].add(coordinates.tobytes())
        return mask(opened, coordinates, group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "masks", SimpleNamespace(**vars(masks) | {"pad": recorded_pad, "apply": recorded_apply}))
        patch.setattr(rounds.Opened, "mask", recorded_mask)
        yield uses


def held(root: Any) -> int:
    """Octets in everything that an object leads to, except code."""
    seen: set[int] = set()
    queue, size = [root], 0
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, type) or hasattr(each, "__code__") or type(each).__name__ == "module":
            continue
        seen.add(id(each))
        size += each.nbytes if isinstance(each, np.ndarray) else sys.getsizeof(each)
        queue += gc.get_referents(each)
    return size


def passed(_receiver: int, message: Any) -> list[Any]:
    return [message]


class Federation:
    """Sites, a server and their wires.

    Args:
        of: the manifest.
        study: what every site runs; `studies` overrides it for single sites.
        to_site: attacker on the way to a member: (member, message) → what arrives instead.
        to_server: attacker on the way from a member.
        seed: order in which the wires deliver; each wire keeps its own order.
        chunk: octets of one part of an upload; by default a vector of five words and its tag travels in two.
        max_words: the longest upload the server takes.
        strict: a message that the server refuses fails the test; else its sender's stream breaks, and it comes back.
    """

    def __init__(
        self, of: Manifest, study: Study = Study(), *, studies: dict[int, Study] | None = None,
        to_site: Callable[[int, Any], list[Any]] = passed,
        to_server: Callable[[int, Any], list[Any]] = passed, seed: int = 0, chunk: int = 32, max_words: int = 1 << 20,
        strict: bool = True,
    ) -> None:  # fmt: skip
        self.manifest, self.study, self.studies = of, study, studies or {}
        self.to_site, self.to_server = to_site, to_server
        self.chance, self.chunk, self.max_words = random.Random(seed), chunk, max_words
        self.strict = strict
        self.disks = {member: Disk() for member in of.indices}
        self.sites: dict[int, Site] = {}
        self.down: dict[int, deque[Any]] = {}  # server → member, of connected members
        self.up: dict[int, deque[Any]] = {}
        self.setup: list[Any] = []
        self.rounds: list[StoreRound] = []
        self.sums: list[Sum] = []
        self.timer: str | None = None
        self.stopped: Stop | None = None
        self.starts = 0
        self.log: list[Any] = []  # every message a member sent, in order
        self.server = self._new_server()

    def _new_server(self) -> Server:
        last = self.rounds[-1] if self.rounds else StoreRound(0, (), 0)
        return Server(
            self.manifest, sums=[SumRecord.of(each) for each in self.sums], last_round=last.number,
            relayed=self.setup, max_words=self.max_words, roster=last.roster, changes=last.changes,
        )  # fmt: skip

    # ---- script ----

    def start(self, *members: int) -> None:
        """Start sites' processes (all by default) and connect them."""
        for member in members or self.manifest.indices:
            self.starts += 1
            study = self.studies.get(member, self.study)
            site = Site(self.manifest, member, study, self.disks[member], str(self.starts), chunk=self.chunk)
            self.sites[member] = site
            self.connect(member)

    def connect(self, member: int) -> None:
        site = self.sites[member]
        self.up[member], self.down[member] = deque(), deque()
        self._do(self.server.connect(site.client.hello()))
        self.up[member].extend(site.greet())

    def kill(self, member: int) -> None:
        """SIGKILL: memory gone, disk as it is; the server notices the broken stream."""
        del self.sites[member]
        self.disconnect(member)

    def disconnect(self, member: int) -> None:
        self.up.pop(member), self.down.pop(member)
        self._do(self.server.disconnect(member))

    def restart_server(self) -> None:
        """The coordinator dies and comes back with what it stored; every stream breaks."""
        self.up, self.down, self.timer = {}, {}, None
        self.server = self._new_server()
        for member, site in list(self.sites.items()):
            if site.error is None:
                self.connect(member)

    def deadline(self) -> None:
        self.timer = None
        self._do(self.server.deadline())

    def run(self, until: Callable[[], bool] = lambda: False, limit: int = 100_000) -> None:
        """Deliver messages until nothing moves or a condition holds."""
        for _ in range(limit):
            if until() or not self.step():
                return
        raise AssertionError("the federation does not come to rest")

    def step(self) -> bool:
        """Deliver one message."""
        wires = [(self.up, m) for m in self.up if self.up[m]] + [(self.down, m) for m in self.down if self.down[m]]
        if not wires:
            return False
        wire, member = self.chance.choice(wires)
        message = wire[member].popleft()
        if wire is self.up:
            self.log.append(message)
            for arrived in self.to_server(member, message):
                if member in self.up:
                    self.deliver(member, arrived)
        else:
            for arrived in self.to_site(member, message):
                site = self.sites[member]
                if site.error is None:
                    answers = site.receive(arrived)
                    self.up[member].extend(answers)
        return True

    def deliver(self, member: int, message: Any) -> None:
        """Hand the server a message, as the coordinator's shell does."""
        try:
            self._do(self.server.receive(member, message))
        except PeerError:
            if self.strict:
                raise
            self.disconnect(member)
            self.connect(member)

    def _do(self, actions: list[Any]) -> None:  # noqa: C901  # one case per action
        for action in actions:
            match action:
                case Send(member, message):
                    if member in self.down:
                        self.down[member].append(message)
                case SendSums(member, start, stop):
                    assert 0 <= start < stop <= len(self.sums), action
                    if member in self.down:
                        self.down[member].extend(self.sums[start:stop])
                case StoreSetup(message):
                    self.setup.append(message)
                case StoreRound():
                    self.rounds.append(action)
                case StoreSum(total):
                    self.sums.append(total)
                case Arm(deadline):
                    self.timer = deadline
                case Stop():
                    self.stopped, self.timer = action, None
                case _:
                    raise AssertionError(action)

    # ---- verdict ----

    def uploaded(self, member: int) -> bool:
        """Whether a member's whole upload for the last round has reached the server's end of the wire."""
        last = self.rounds[-1].number
        return any(isinstance(m, Part) and m.last and (m.member, m.round) == (member, last) for m in self.log)

    def expected(self, number: int) -> np.ndarray:
        """The plain integer sum of what the survivors of a round (in mode A: its roster) uploaded."""
        total = self.sums[number]
        vectors = []
        for member in total.survivors:
            disk = self.disks[member]
            upload = next(each for each in disk.uploads if each.round == total.round)
            position = disk.uploads.index(upload)
            vectors.append(list(disk.data.values())[position])
        return np.array([sum(int(v[j]) for v in vectors) for j in range(len(vectors[0]))], dtype=object)

    def check(self) -> None:
        """Every sum is exact and every site has the same history."""
        expected = [self.expected(number) for number in range(len(self.sums))]
        for member, disk in self.disks.items():
            assert disk.applied == self.sums[: len(disk.applied)], member
        for site in self.sites.values():
            offset = site.client.sums - len(site.totals)
            for number, total in enumerate(site.totals):
                assert total.dtype == np.int64
                assert [int(each) for each in total] == list(expected[offset + number])
        finished = [site for site in self.sites.values() if site.client.sums == len(self.sums)]
        assert len({site.client.transcript for site in finished}) <= 1


def ready(of: Manifest, study: Study = Study(), studies: dict[int, Study] | None = None) -> dict[int, Site]:
    """Sites that have finished set-up and wait for a test that plays the coordinator itself."""
    federation = Federation(of, study, studies=studies)
    federation.start()
    federation.run(lambda: bool(federation.rounds))
    return federation.sites


def roster(sites: dict[int, Site], *members: int) -> Roster:
    """The honest roster of these members (all by default) in their present sessions."""
    return tuple((member, sites[member].client.hello().nonce) for member in members or sorted(sites))


def add(number: int, of: Roster, *uploads: Upload, canary: int | None = None) -> Sum:
    """What a coordinator makes of uploads in mode A; with `canary` it repairs the last word."""
    total = np.zeros(len(uploads[0].words) // 8, dtype=np.uint64)
    for upload in uploads:
        total += np.frombuffer(upload.words, dtype="<u8")
    if canary is not None:
        total[-1] = canary
    return Sum(number, of, tuple(member for member, _ in of), total.tobytes())


def play(sites: dict[int, Site], number: int, *members: int, dropped: Collection[int] = ()) -> tuple[Sum, list[int]]:
    """One honest round: the sum and, in plain integers, what it must decode to.

    In mode B the uploads of `dropped` do not arrive.
    """
    of = roster(sites, *members)
    uploads = [sites[member].upload(Step(number, sites[member].client.sums, of)) for member, _ in of]
    arrived = [upload for upload in uploads if upload.member not in dropped]
    vectors = [list(sites[upload.member].disk.data.values())[-1] for upload in arrived]
    total = add(number, of, *arrived)
    if sites[of[0][0]].manifest.mode is Mode.B:
        total = unmask(sites, total, arrived)
    return total, [sum(map(int, column)) for column in zip(*vectors, strict=True)]


def unmask(sites: dict[int, Site], masked: Sum, uploads: list[Upload]) -> Sum:
    """What an honest coordinator of mode B does with the uploads that have arrived whole."""
    survivors = tuple(upload.member for upload in uploads)
    revealed = reveal(sites, masked.round, uploads)
    return opened(sites[survivors[0]].manifest, masked, survivors, revealed)


def reveal(sites: dict[int, Site], number: int, uploads: list[Upload]) -> dict[int, Shares]:
    """Ask all survivors for consent and then for what opens their sum."""
    survivors = tuple(upload.member for upload in uploads)
    consents: dict[int, dict[int, bytes]] = {}
    for member in survivors:
        (consent,) = sites[member].client.receive(Survivors(number, survivors))
        assert isinstance(consent, Consent)
        consents[member] = dict(consent.to)
    boxes = {upload.member: dict(upload.boxes) for upload in uploads}
    revealed: dict[int, Shares] = {}
    for member in survivors:
        others = [each for each in survivors if each != member]
        macs = tuple((each, consents[each][member]) for each in others)
        agreement = Agreement(number, macs, tuple((each, boxes[each][member]) for each in others))
        (shares,) = sites[member].client.receive(agreement)
        assert isinstance(shares, Shares)
        revealed[member] = shares
    return revealed


def opened(of: Manifest, masked: Sum, survivors: tuple[int, ...], revealed: dict[int, Shares]) -> Sum:
    """The sum of the survivors, unmasked with what they revealed."""
    from secagg.unmasking import open_sum

    words = np.frombuffer(masked.words, dtype="<u8").copy()
    shares = {member: dict(each.shares) for member, each in revealed.items()}
    keys = {member: dict(each.keys) for member, each in revealed.items()}
    asked = tuple(member for member, _ in masked.roster)
    open_sum(words, asked, survivors, of.threshold, shares, keys)
    return replace(masked, survivors=survivors, words=words.tobytes())


def complete(federation: Federation) -> None:
    """Run to the good end and check it."""
    federation.run()
    assert federation.stopped == Stop("complete", ok=True), federation.stopped
    federation.check()
    assert len(federation.sums) == federation.study.steps
