"""All clients and the server of one run in this process, and what each of them costs.

Messages are handed over as objects. The clients, the server, every check and every cipher are the product's; what is
missing is the wire. CPU seconds are taken around each party's calls, so that one process can tell the parties apart.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.secagg import parties
from benchmarks.timing import cpu
from dp.queries import Int64
from nodes import wire
from nodes.chunks import outgoing
from secagg.actions import Action, Send, SendSums, StoreSum
from secagg.context import Context
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Terms
from secagg.masks import Backend
from secagg.messages import Step, Sum, Upload
from secagg.server import Server

__all__ = ["Assembly", "Contribution", "Costs"]


class Contribution(Protocol):
    """What a site does between the opening of a round and its upload."""

    @property
    def length(self) -> int:
        """Return d."""

    def terms(self, of: Manifest, roster: int) -> Terms:
        """Return what every round sums."""

    def coordinates(self, member: int, context: Context) -> Coordinates:
        """Quantise the member's vector and add its share of the noise. This is timed."""


@dataclass
class Costs:
    """CPU seconds so far.

    Args:
        client: one entry for each upload: opening, quantising, noise, masking.
        tail: the last of these alone, the call of ``Client.upload``.
        accept: one for each sum taken by a client.
        server: one for each sum: all parts of all members, and making the sum.
    """

    client: list[float] = field(default_factory=list)
    tail: list[float] = field(default_factory=list)
    accept: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


class Assembly:
    """One run of all members.

    Args:
        of: the run.
        contribution: what sites sum; None for a run that only sets up.
        backend: cipher implementation of the clients.
    """

    def __init__(self, of: Manifest, contribution: Contribution | None, backend: Backend) -> None:
        self.manifest, self.contribution, self.costs = of, contribution, Costs()
        self.setup_cpu: dict[int, float] = defaultdict(float)
        self.octets_up: dict[int, int] = defaultdict(int)
        self.octets_down: dict[int, int] = defaultdict(int)
        self.trips: list[int] = []  # for each sum, how often the first member has answered the server for it
        self.last: Upload | None = None
        self.steps: dict[int, Step] = {}
        self.sums: list[Sum] = []
        self._inbox: deque[tuple[int, Any]] = deque()
        self._answered = 0
        words = 0 if contribution is None else contribution.length
        self._server = Server(of, max_words=words + 2)
        self.clients = {
            member: self._spend(member, partial(parties.client, of, member, backend=backend)) for member in of.indices
        }

    def set_up(self) -> None:
        """Take every member from its first word to the first Step."""
        for member, client in self.clients.items():
            hello = self._spend(member, client.hello)
            self.octets_up[member] += _weight(wire.to_coordinator(hello))
            self._do(self._server.connect(hello))
        for member, client in self.clients.items():
            self._answer(member, self._spend(member, client.begin))
        while self._inbox:
            member, message = self._inbox.popleft()
            if isinstance(message, Step):
                self.steps[member] = message
                continue
            self.octets_down[member] += _weight(wire.to_site(message))
            client = self.clients[member]
            answers = self._spend(member, partial(client.receive, message))
            # Persist, then send: a site writes this to its disk before it answers.
            self._spend(member, client.snapshot)
            self._answer(member, answers)
        assert self.steps.keys() == self.clients.keys(), "set-up did not come to a round"

    def turns(self) -> Iterator[None]:
        """Run rounds for ever, one client's upload a turn; each sum is compared with plain integers."""
        assert self.contribution is not None
        while True:
            expected = np.zeros(self.contribution.length, dtype=np.int64)
            server = 0.0
            for member in self.manifest.indices:
                upload, coordinates = self._upload(member, self.steps.pop(member))
                expected += coordinates
                for part in outgoing(upload):
                    taken, actions = cpu(partial(self._server.receive, member, part))
                    server += taken
                    self._do(actions)
                yield
            self.costs.server.append(server)
            for decoded in self._accepted():
                assert np.array_equal(decoded, expected), "a sum is not the sum of the plain integers"

    def _upload(self, member: int, step: Step) -> tuple[Upload, Coordinates]:
        client, contribution = self.clients[member], self.contribution
        assert contribution is not None
        terms = contribution.terms(self.manifest, len(step.roster))
        opening, context = cpu(lambda: client.open(step, terms))
        encoding, coordinates = cpu(lambda: contribution.coordinates(member, context))
        masking, upload = cpu(lambda: client.upload(context, coordinates))
        self.costs.client.append(opening + encoding + masking)
        self.costs.tail.append(masking)
        self.last, self._answered = upload, self._answered + (member == self.manifest.indices[0])
        return upload, coordinates

    def _accepted(self) -> Iterator[Int64]:
        """Take everybody's Sum and next Step; yield each sum as that member's client accepts it."""
        contribution = self.contribution
        assert contribution is not None
        while self._inbox:
            member, message = self._inbox.popleft()
            if isinstance(message, Step):
                self.steps[member] = message
                continue
            assert isinstance(message, Sum), type(message).__name__
            client = self.clients[member]
            terms = contribution.terms(self.manifest, len(message.roster))
            taken, decoded = cpu(partial(client.accept, message, terms))
            self.costs.accept.append(taken)
            yield decoded

    def _spend(self, member: int, work: Any) -> Any:
        taken, value = cpu(work)
        self.setup_cpu[member] += taken
        return value

    def _answer(self, member: int, answers: list[Any]) -> None:
        for answer in answers:
            self.octets_up[member] += _weight(wire.to_coordinator(answer))
            self._do(self._server.receive(member, answer))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StoreSum(sum=total):
                    self.sums.append(total)
                    self.trips.append(self._answered)
                    self._answered = 0
                case SendSums(member=member, start=start, stop=stop):
                    self._inbox.extend((member, total) for total in self.sums[start:stop])
                case Send(member=member, message=message):
                    self._inbox.append((member, message))
                case _:
                    pass  # disk and timers: nothing here dies or waits


def _weight(message: Any) -> int:
    """Return the octets of a protobuf message."""
    return len(message.SerializeToString())
