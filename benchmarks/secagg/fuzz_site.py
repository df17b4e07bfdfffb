"""A site under attack: its disk, its process, and a record of every mask key it ever lays over a vector."""

from __future__ import annotations

import hashlib
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import CipherContext

from benchmarks.secagg import parties
from benchmarks.secagg.meddler import MeddledConnection, Meddler
from nodes.errors import NodeError
from nodes.rpc_client import GrpcLink
from nodes.session import Disconnected
from secagg.errors import MisuseError, PeerError, SecaggError
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Terms
from secagg.masks import CTR, Backend
from secagg.messages import Finish, Refused, Step, Sum

__all__ = ["Disk", "Recorder", "Site"]

LENGTH: Final = 20
_SILENCE: Final = 0.8  # seconds without a word after which a site hangs up: a message of its own may have been dropped
_BOUNDS: Final = {64: 1 << 40, 32: 1 << 30, 21: 1 << 19, 16: 1 << 14}


class Recorder:
    """Notes which streams were opened for which vector.

    Guarantee: :attr:`reused` counts the (member, key) that served for two different vectors. A key serves both ends of
    its pair, one adding and one subtracting it, so ends are kept apart by the member.
    """

    def __init__(self) -> None:
        self._used: dict[tuple[int, bytes], set[bytes]] = defaultdict(set)
        self._open: dict[int, list[bytes]] = defaultdict(list)

    def backend(self, member: int) -> Backend:
        """Return the cipher of a member's process, with our eyes on it."""

        def start(key: bytes, segment: int) -> CipherContext:
            self._open[member].append(key)
            return CTR.start(key, segment)

        return replace(CTR, start=start)

    def begin(self, member: int) -> None:
        """Forget the streams that were opened for anything else than the next upload."""
        self._open[member].clear()

    def bind(self, member: int, vector: Coordinates) -> int:
        """Say over which vector the streams opened since `begin` were laid; return how many there were."""
        digest = hashlib.sha256(np.ascontiguousarray(vector).tobytes()).digest()
        keys, self._open[member] = self._open[member], []
        for key in keys:
            self._used[member, key].add(digest)
        return len(keys)

    @property
    def keys(self) -> int:
        """How many different keys were seen."""
        return len(self._used)

    @property
    def reused(self) -> int:
        """How many of them were laid over two vectors."""
        return sum(len(vectors) > 1 for vectors in self._used.values())


@dataclass
class Disk:
    """What survives a site's process.

    Args:
        snapshot: of the client.
        last_round: largest round of a stored upload.
    """

    snapshot: bytes | None = None
    last_round: int = 0

    def copy(self) -> Disk:
        """Return a backup."""
        return Disk(self.snapshot, self.last_round)


@dataclass
class Site:
    """One member's machine; its process comes and goes.

    Args:
        of: the run.
        member: which one.
        recorder: watches its keys.
        meddler: stands in its streams.
        chance: dice of what happens to it.
        vectors: (member, round) → what was uploaded; shared by all sites of the run.
    """

    of: Manifest
    member: int
    recorder: Recorder
    meddler: Meddler
    chance: random.Random
    vectors: dict[tuple[int, int], list[Coordinates]]
    disk: Disk = field(default_factory=Disk)
    backups: list[Disk] = field(default_factory=list)
    accepted: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0
    refusals: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        self._connection: MeddledConnection | None = None
        self._heard = 0.0
        self._start()

    def _start(self) -> None:
        self.starts += 1
        self.client = parties.client(
            self.of,
            self.member,
            self.starts,
            snapshot=self.disk.snapshot,
            last_round=self.disk.last_round,
            backend=self.recorder.backend(self.member),
        )
        self._persist()

    def _persist(self) -> None:
        self.disk.snapshot = self.client.snapshot()

    # ---- what happens to it ----

    def kill(self, *, restore: bool) -> None:
        """SIGKILL and start again: from the disk as it is, or from an old copy of it."""
        self.hang_up()
        if restore and self.backups:
            self.disk = self.chance.choice(self.backups).copy()
        self._start()

    def back_up(self) -> None:
        """Copy the disk."""
        if self.client.ready:
            self.backups.append(self.disk.copy())

    def hang_up(self) -> None:
        """Lose the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- what it does ----

    def turn(self, link: GrpcLink, most: int = 4) -> bool:
        """Connect if need be and deal with what has arrived; return whether anything had."""
        try:
            if self._connection is None:
                self._connection, self._heard = MeddledConnection(link.connect(), self.meddler), time.monotonic()
                self._send(self.client.hello(), *self.client.begin())
            for taken in range(most):
                if self._connection is None or not self._connection.waiting():
                    if time.monotonic() - self._heard > _SILENCE:
                        self.hang_up()
                    return taken > 0
                self._heard = time.monotonic()
                self._take(self._connection.receive())
        except (Disconnected, NodeError):
            self.hang_up()
        except MisuseError:
            self.hang_up()  # a sum was kept from us: a new connection brings it
        except SecaggError as error:
            self._stop(error)
        return True

    def _stop(self, error: SecaggError) -> None:
        """The session is over here; say so, as a site does, or die of it. Then somebody restores a backup."""
        self.refusals += 1
        self._persist()
        if isinstance(error, PeerError) and self._connection is not None and self.chance.random() < 0.03:
            self._connection.send(Refused(self.member, error.code))
            self.ended = True
            return
        if self.backups:
            self.kill(restore=True)
        else:
            self.ended = True

    def _take(self, message: Any) -> None:
        match message:
            case Finish():
                self.ended = True
            case Sum():
                coordinates = self.client.accept(message, self._terms(len(message.roster)))
                self._persist()
                self.recorder.begin(self.member)
                self.accepted[message.round].append(coordinates.tobytes())
            case Step():
                self._upload(message)
            case _:
                answers = self.client.receive(message)
                self._persist()
                self._send(*answers)

    def _upload(self, step: Step) -> None:
        self.recorder.begin(self.member)
        context = self.client.open(step, self._terms(len(step.roster)))
        # Fresh values every time: were a key to serve twice, it would be for two vectors.
        largest = self._bound // len(self.of.members)
        vector = parties.vector(LENGTH, largest, *self.of.run_id[:4], self.member, self.starts, step.round)
        upload = self.client.upload(context, vector)
        streams = self.recorder.bind(self.member, vector)
        assert streams >= 2 * (len(step.roster) - 1), "the recorder does not see the streams"
        self.vectors[self.member, step.round].append(vector)
        self.disk.last_round = step.round
        self._persist()
        self._send(upload)

    def _send(self, *messages: Any) -> None:
        # A process may die between any two of these: the caller kills it from outside, at any message.
        for message in messages:
            if self._connection is not None:
                self._connection.send(message)

    @property
    def _bound(self) -> int:
        return _BOUNDS[self.of.lane_bits]

    def _terms(self, roster: int) -> Terms:
        return parties.simple_terms(self.of, LENGTH, roster, self.client.sums, self._bound)
