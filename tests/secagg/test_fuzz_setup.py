"""Clients in set-up under whatever a relay may send: honest, twisted, again, to whom it likes, with old disks.

Each step checks what must hold whatever is sent.
"""

import itertools
from collections import defaultdict
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secagg.agreement import Advertised, Agreeing, Confirming, partners
from secagg.errors import SessionOver
from secagg.messages import (
    Blame,
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    Invite,
    SetupMessage,
    Step,
    Sum,
    Survivors,
)
from secagg.snapshot import Rounds
from tests.federation import manifest
from tests.secagg.fuzzing import Node, few, many, twisted, watching

chances = st.randoms(use_true_random=False)
members = st.integers(1, 4)


class SetUp(RuleBasedStateMachine):
    """Four members and a relay that composes messages from whatever the members have said."""

    manifest: ClassVar = manifest(4, 1)

    @initialize(first=st.sampled_from([(1, 2, 3, 4), (1, 2, 3), (2, 3, 4), (1, 3, 4)]))
    def start(self, first: tuple[int, ...]) -> None:
        self.watch = watching()
        self.secrets = self.watch.__enter__()  # left in teardown
        self.starts = itertools.count()
        self.nodes: dict[int, Node] = {}
        self.said: dict[tuple[type, int, int], list[Any]] = defaultdict(list)  # (kind, sender, wave) → messages
        self.pool: list[Any] = []
        self.decided: dict[int, Bundles] = {}
        self.invited: dict[int, tuple[int, ...]] = {}
        for member in first:
            self.restart(member, 0)

    def teardown(self) -> None:
        self.watch.__exit__(None, None, None)

    def hear(self, member: int, answers: list[Any]) -> None:
        for each in (each for each in answers if isinstance(each, SetupMessage)):
            known = self.said[type(each), member, each.wave]
            if each not in known:
                known.append(each)

    def give(self, member: int, message: Any) -> None:
        if member not in self.nodes:
            return
        before = self.nodes[member].client._phase
        self.pool.append(message)
        node = self.nodes[member]
        self.hear(member, node.give(self.secrets, message))
        if isinstance(message, Bundles) and node.error is None and node.client._phase != before:
            for each in message.bundles:
                said = [own.bare() for own in self.said[Bundle, each.member, each.wave]]
                assert each.bare() in said, "a bundle that its member never sent"

    @rule(member=members, back=st.sampled_from([1, 1, 1, 2, 3, 4, 0]))
    def restart(self, member: int, back: int) -> None:
        """A process dies; the next one finds the last disk, an older one, or none."""
        old = self.nodes.get(member)
        disk = old.disk[-back:] if old and back else []
        try:
            node = Node(self.manifest, member, str(next(self.starts)), disk[0] if disk else None)
        except SessionOver:
            return
        self.nodes[member] = node
        self.hear(member, node.client.begin())

    @rule(to=st.sets(members))
    def relay(self, to: set[int]) -> None:
        """Give members what an honest relay would."""
        for member in sorted(to or self.nodes):
            message = self._next(member)
            if message is not None:
                self.give(member, message)

    @rule(hops=st.integers(2, 6))
    def relay_to_all(self, hops: int) -> None:
        for _ in range(hops):
            self.relay(set())

    def _next(self, member: int) -> Any:
        if member not in self.nodes:
            return None
        match self.nodes[member].client._phase:
            case Advertised(wave=wave) | Rounds(joining=Advertised(wave=wave)):
                return self._bundles(wave)
            case Agreeing(wave=wave) | Rounds(joining=Agreeing(wave=wave)):
                return self._collected(Ciphertexts, Encapsulations, member, wave)
            case Confirming(wave=wave) | Rounds(joining=Confirming(wave=wave)):
                return self._collected(Confirmed, Confirmations, member, wave)
        return None

    def _bundles(self, wave: int) -> Any:
        """The bundles of a wave, decided once; in wave 0 not always everybody is there."""
        if wave not in self.decided:
            there = [m for m in self.manifest.indices if self.said[Bundle, m, wave]]
            newcomers = tuple(m for m in (self.invited.get(wave, ()) if wave else there) if m in there)
            owner = self.decided[0].owner if wave and 0 in self.decided else min(there)
            if len(there) < 3 or not newcomers or owner not in there:
                return None
            chosen = tuple(self.said[Bundle, m, wave][-1] for m in there)
            self.decided[wave] = Bundles(wave, owner, newcomers, chosen)
        return self.decided[wave]

    def _collected(self, kind: Any, part: type, member: int, wave: int) -> Any:
        """What all have said to a member, if it is all there; else, rarely, what there is."""
        rows = [
            (sender, *row[1:])
            for sender in self.manifest.indices
            for said in self.said[part, sender, wave][-1:]
            for row in said.to
            if row[0] == member
        ]
        peers = partners(self.decided[wave], member) if wave in self.decided else ()
        expected = len(peers) if part is Confirmations else sum(peer < member for peer in peers)
        return kind(wave, tuple(rows)) if rows and len(rows) == expected else None

    @property
    def ready(self) -> bool:
        return any(node.client.ready for node in self.nodes.values())

    @precondition(lambda self: self.ready)
    @rule(wave=st.sampled_from([1, 1, 1, 2]), chance=chances)
    def invite(self, wave: int, chance: Any) -> None:
        """A further wave: for whom no wave was, or for whom it must not be."""
        known = {m for each in self.decided.values() for m in each.members}
        new = [m for m in self.manifest.indices if m not in known]
        if not new:
            self.give(chance.choice(sorted(self.nodes)), Invite(wave, (chance.choice(self.manifest.indices),)))
            return
        self.invited.setdefault(wave, tuple(new))
        for member in set(new) - self.nodes.keys():
            self.restart(member, 0)
        for member in self.nodes:
            self.give(member, Invite(wave, self.invited[wave]))

    @rule(member=members, chance=chances)
    def again(self, member: int, chance: Any) -> None:
        """Anything that anybody has got, as it was or twisted, and rounds before set-up is complete."""
        roster = tuple((m, node.client._nonce) for m, node in sorted(self.nodes.items()))
        early = [Step(1, 0, roster), Survivors(1, (1, 2, 3)), Blame(1), Sum(1, roster, (roster[0][0],), bytes(32))]
        message = chance.choice(self.pool + (early if not self.ready else []))
        message = twisted(chance, message, self.pool) if chance.random() < 0.5 else message
        if message is not None:
            self.give(member, message)

    @rule(member=members, chance=chances)
    def twist(self, member: int, chance: Any) -> None:
        """What an honest relay would send next, with one thing changed."""
        message = self._next(member)
        message = None if message is None else twisted(chance, message, self.pool)
        if message is not None:
            self.give(member, message)

    @invariant()
    def both_ends_of_a_pair_hold_the_same(self) -> None:
        """A member that is ready shares keys, and the group key, with each peer that is ready for it."""
        ready = {m: node.client._phase for m, node in getattr(self, "nodes", {}).items() if node.client.ready}
        for (u, one), (v, other) in itertools.combinations(ready.items(), 2):
            assert isinstance(one, Rounds)
            assert isinstance(other, Rounds)
            if v in one.ratchet.chains and u in other.ratchet.chains:
                last = max(one.ratchet.position, other.ratchet.position)
                ends = [each.ratchet.advance(last).chains[peer] for each, peer in [(one, v), (other, u)]]
                assert ends[0] == ends[1]
                assert one.group == other.group
                assert one.owner == other.owner


class TestSetUp(SetUp.TestCase):
    settings = few(40)


@pytest.mark.chaos
class TestManySetUp(SetUp.TestCase):
    settings = many(40)
