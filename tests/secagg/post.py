"""Clients, a relay and the wires between them: set-up alone, every message scripted."""

import copy
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from secagg import Client, Manifest
from secagg.errors import PeerError
from secagg.messages import Bundle
from secagg.relay import Relay
from tests.federation import entropy, identity, pins


def passed(_member: int, message: Any) -> list[Any]:
    return [message]


def client(of: Manifest, member: int, start: str = "", **changes: Any) -> Client:
    """A client that draws the same keys whenever it is started the same way."""
    chance = entropy(f"client {member} {start}")
    values: dict[str, Any] = {"entropy": chance, "nonce": chance(32), "pins": pins(of)}
    return Client(of, member, changes.pop("identity", identity(member)), **(values | changes))


class Post:
    """Set-up of some members; the others may come later.

    Args:
        of: the manifest.
        members: who is there at first; wave 0 is closed when the bundles of all of them are in.
        to_site, to_server: an attacker on the way: (member, message) → what arrives instead.
        seed: order in which the wires deliver; each wire keeps its own order.
    """

    def __init__(
        self, of: Manifest, *members: int, to_site: Callable[[int, Any], list[Any]] = passed,
        to_server: Callable[[int, Any], list[Any]] = passed, seed: int = 0,
    ) -> None:  # fmt: skip
        self.manifest, self.first = of, members or of.indices
        self.to_site, self.to_server = to_site, to_server
        self.chance = random.Random(seed)
        self.clients: dict[int, Client] = {}
        self.disks: dict[int, bytes] = {}
        self.up: dict[int, deque[Any]] = {}
        self.down: dict[int, deque[Any]] = {}
        self.stored: list[Any] = []
        self.log: list[Any] = []  # what members sent, in order
        self.received: dict[int, list[Any]] = {member: [] for member in of.indices}
        self.errors: dict[int, PeerError] = {}
        self.refused: list[tuple[int, PeerError]] = []
        self.sums: list[Any] = []  # of rounds that a test has played
        self.relay = Relay(of, [])
        self.starts = 0
        for member in self.first:
            self.start(member)

    def start(self, member: int) -> None:
        """Start a member's process from its disk and connect it; a process that ran before is killed."""
        self.starts += 1
        self.clients[member] = client(self.manifest, member, str(self.starts), snapshot=self.disks.get(member))
        self.disks[member] = self.clients[member].snapshot()
        self.connect(member)

    def connect(self, member: int) -> None:
        self.up[member] = deque(self.clients[member].begin())
        self.down[member] = deque(message for _, message in self.relay.backlog(member))
        self._decide()

    def restart_relay(self) -> None:
        """The coordinator dies and comes back with what it stored; every stream breaks."""
        self.up, self.down = {}, {}
        self.relay = Relay(self.manifest, list(self.stored))
        for member in list(self.clients):
            if member not in self.errors:
                self.connect(member)

    def fork(self) -> "Post":
        """Return a copy of everything, made of what is stored and what is on the wires."""
        other = object.__new__(Post)
        other.__dict__ |= {name: copy.copy(value) for name, value in self.__dict__.items()}
        other.relay = Relay(self.manifest, list(self.stored))
        other.clients = {
            member: client(self.manifest, member, f"fork {self.starts}", snapshot=self.disks[member])
            for member in self.clients
        }
        other.up = {member: deque(wire) for member, wire in self.up.items()}
        other.down = {member: deque(wire) for member, wire in self.down.items()}
        other.received = {member: list(messages) for member, messages in self.received.items()}
        return other

    def kill(self, member: int) -> None:
        del self.clients[member], self.up[member], self.down[member]

    def run(self, until: Callable[[], bool] = lambda: False) -> "Post":
        """Deliver messages until nothing moves or a condition holds."""
        while not until() and self.step():
            pass
        return self

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
                self._store(member, arrived)
        else:
            for arrived in self.to_site(member, message):
                self._receive(member, arrived)
        return True

    def _store(self, member: int, message: Any) -> None:
        try:
            new = self.relay.store(member, message)
        except PeerError as error:
            self.refused.append((member, error))
            return
        if new:
            self.stored.append(message)
            self._send(self.relay.hand_on(message))
            self._decide()

    def _decide(self) -> None:
        """Do what a server does: close wave 0, begin and settle further ones."""
        if not self.relay.closed and self.relay.offered >= set(self.first):
            self._take(self.relay.close())
        if bundles := self.relay.settle():
            self._take(bundles)
        if invite := self.relay.invite(frozenset(self.down)):
            self._take(invite)

    def _take(self, decision: Any) -> None:
        self.stored.append(decision)
        self.relay.take(decision)
        self._send(self.relay.hand_on(decision))

    def _send(self, addressed: list[tuple[int, Any]]) -> None:
        for member, message in addressed:
            if member in self.down:
                self.down[member].append(message)

    def _receive(self, member: int, message: Any) -> None:
        if member in self.errors:
            return
        self.received[member].append(message)
        try:
            answers = self.clients[member].receive(message)
        except PeerError as error:
            self.errors[member], answers = error, []
        self.disks[member] = self.clients[member].snapshot()
        self.up[member].extend(answers)

    # ---- verdict ----

    @property
    def joined(self) -> set[int]:
        """Members whose client is in its rounds and has no wave under way."""
        done = {member for member, each in self.clients.items() if each.ready}
        return {member for member in done if self.clients[member]._phase.joining is None}

    def check(self, *members: int) -> None:
        """These members, and no others, share keys and the group key, and nothing of set-up is left."""
        assert not self.errors
        assert not self.refused
        assert self.joined == set(members) == self.relay.ready
        rounds = {member: self.clients[member]._phase for member in members}
        chains = {member: each.ratchet.chains for member, each in rounds.items()}
        for u, keys in chains.items():
            assert set(keys) == set(members) - {u}
        turned = {
            u: each.ratchet.advance(max(r.ratchet.position for r in rounds.values())) for u, each in rounds.items()
        }
        for u in members:
            assert all(turned[u].chains[v] == turned[v].chains[u] for v in chains[u])
        assert (
            len({key for each in turned.values() for key in each.chains.values()})
            == len(members) * (len(members) - 1) // 2
        )
        assert {each.group for each in rounds.values()} == {rounds[members[0]].group}
        assert len(rounds[members[0]].group) == 32

    def bundle(self, member: int, wave: int = 0) -> Bundle:
        """The bundle that a member has sent."""
        return next(
            each for each in self.log if isinstance(each, Bundle) and (each.member, each.wave) == (member, wave)
        )
