"""Clients in rounds under whatever a coordinator may send: something else to everybody, in any order, with old disks.

Each step checks what must hold whatever is sent.
"""

import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secagg import Manifest, Mode
from secagg.errors import SessionOver
from secagg.messages import (
    Agreement,
    Blame,
    CanaryKeys,
    Consent,
    Invite,
    Shares,
    Step,
    Sum,
    Survivors,
    Upload,
)
from secagg.snapshot import Rounds
from tests.federation import Federation, manifest, recording
from tests.secagg.fuzzing import STUDY, Node, few, many, twisted, watching
from tests.secagg.primitives import octets, tag

chances = st.randoms(use_true_random=False)
members = st.integers(1, 4)
often = st.sampled_from([True, True, True, False])


@cache
def set_up(mode: Mode) -> tuple[Manifest, dict[int, bytes], list[Any]]:
    """Four members that have set up: the manifest, their disks, and every message of set-up that one of them got."""
    pool: list[Any] = []
    federation = Federation(
        manifest(4, 1, mode=mode, roster_changes=6), STUDY, to_site=lambda _, message: pool.append(message) or [message]
    )
    federation.start()
    federation.run(lambda: bool(federation.rounds))
    disks = {member: site.client.snapshot() for member, site in federation.sites.items()}
    return federation.manifest, disks, [each for each in pool if not isinstance(each, Step)]


@dataclass
class Asked:
    """What happened under one context.

    Args:
        step: as it was asked.
        group: the group key.
    """

    step: Step
    group: bytes
    uploads: dict[int, Upload] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    consents: dict[int, Consent] = field(default_factory=dict)
    shown: dict[int, tuple[int, ...]] = field(default_factory=dict)  # member → survivors it has consented to
    answers: dict[int, Shares] = field(default_factory=dict)

    def total(self, survivors: tuple[int, ...]) -> list[int]:
        return [sum(column) for column in zip(*(self.values[each] for each in survivors), strict=True)]

    def sum(self, context: bytes, survivors: tuple[int, ...]) -> Sum:
        """The sum that honest members of this context have uploaded, by the definition of the tag."""
        total = self.total(survivors)
        words = octets([*total, tag(self.group, context, total, survivors), len(survivors)])
        return Sum(self.step.round, self.step.roster, survivors, words)


class Clients(RuleBasedStateMachine):
    """Four members that are set up, and a coordinator that says to each what it likes and restores old disks."""

    mode: ClassVar = Mode.A

    @initialize()
    def start(self) -> None:
        self.manifest, disks, setting_up = set_up(self.mode)
        self.watch, self.record = watching(), recording()
        self.secrets, self.uses = self.watch.__enter__(), self.record.__enter__()  # until teardown
        self.starts = itertools.count()
        self.pool = list(setting_up)
        self.asked: dict[bytes, Asked] = {}
        self.nodes = {m: Node(self.manifest, m, f"{self.mode} {next(self.starts)}", disk) for m, disk in disks.items()}

    def teardown(self) -> None:
        self.record.__exit__(None, None, None)
        self.watch.__exit__(None, None, None)

    def give(self, member: int, message: Any) -> None:
        node = self.nodes[member]
        self.pool.append(message)
        before = node.client.sums
        for answer in node.give(self.secrets, message):
            match answer:
                case Upload():
                    self.uploaded(node, message, answer)
                case Consent():
                    self.consented(node, message, answer)
                case Shares():
                    about = self.asked[node.context]
                    assert about.answers.setdefault(member, answer) is answer, "a round answered twice"
                    assert [v for v, _ in answer.shares] == list(about.shown[member])
                case CanaryKeys():
                    assert self.mode is Mode.A
                    assert answer.round == self.asked[node.context].step.round
                case np.ndarray():
                    self.summed(node, message, answer)
        assert node.client.sums - before == (
            isinstance(message, Sum) and node.error is None and node.client.sums > before
        )

    def uploaded(self, node: Node, step: Step, upload: Upload) -> None:
        phase = node.client._phase
        assert isinstance(phase, Rounds)
        about = self.asked.setdefault(node.context, Asked(step, phase.group))
        assert node.member not in about.uploads, "two uploads under one context"
        about.uploads[node.member], about.values[node.member] = upload, node.values

    def consented(self, node: Node, survivors: Survivors, consent: Consent) -> None:
        about = self.asked[node.context]
        assert survivors.round == about.step.round == consent.round
        assert about.consents.setdefault(node.member, consent) == consent, "two consents"
        assert about.shown.setdefault(node.member, survivors.members) == survivors.members

    def summed(self, node: Node, total: Sum, values: Any) -> None:
        about = self.asked.get(node.accepted)
        assert about is not None, "the sum of a round that was not"
        assert list(values) == about.total(total.survivors)
        assert about.shown.get(node.member, total.survivors) == total.survivors or node.context != node.accepted

    # ---- what the coordinator does

    @rule(chance=chances, roster=st.sampled_from([(1, 2, 3, 4)] * 3 + [(1, 2, 3), (2, 3, 4)]), all_=often)
    def ask(self, chance: Any, roster: tuple[int, ...], all_: Any) -> None:
        """A new round, for all of a roster or for some."""
        number = 1 + max(node.client.last_round for node in self.nodes.values()) + (chance.random() < 0.2)
        nonces = tuple((m, self.nodes[m].client._nonce) for m in roster)
        for member in roster:
            if all_ or chance.random() < 0.7:
                self.give(member, Step(number, self.nodes[member].client.sums, nonces))

    @rule(chance=chances, of=st.sampled_from([(1, 2, 3, 4), (1, 2, 3)]), honest=often)
    def go_on(self, chance: Any, of: tuple[int, ...], honest: Any) -> None:
        """A round that nearly gets through."""
        self.ask(chance, of, True)
        if self.asked and self.mode is Mode.B:
            self.survivors(chance, True)
            self.agreement(chance, honest)
        if self.asked:
            self.total(chance, set(), honest)

    def latest(self, chance: Any) -> Any:
        """A context, mostly the last one."""
        contexts = list(self.asked.items())
        return contexts[-1] if chance.random() < 0.8 else chance.choice(contexts)

    @precondition(lambda self: self.asked and self.mode is Mode.B)
    @rule(chance=chances, honest=often)
    def survivors(self, chance: Any, honest: Any) -> None:
        """Who survives: for all the same, or for each what the coordinator likes."""
        _, about = self.latest(chance)
        there = sorted(about.uploads)
        for member in there:
            chosen = (
                there if honest or len(there) < 2 else sorted(chance.sample(there, chance.randrange(1, len(there))))
            )
            if honest or chance.random() < 0.6:
                self.give(member, Survivors(about.step.round, tuple(chosen)))

    @precondition(lambda self: any(each.consents for each in self.asked.values()))
    @rule(chance=chances)
    def others_survive(self, chance: Any) -> None:
        """A second set of survivors for somebody who has consented to one."""
        _, about = self.latest(chance)
        for member in sorted(about.consents):
            out = chance.choice(about.shown[member])
            left = tuple(m for m in about.shown[member] if m != out)
            if left and chance.random() < 0.5:
                self.give(member, Survivors(about.step.round, left))

    @precondition(lambda self: any(each.consents for each in self.asked.values()))
    @rule(chance=chances, honest=often)
    def agreement(self, chance: Any, honest: Any) -> None:
        """Consents and boxes of a round, perhaps of the wrong one."""
        _, about = self.latest(chance)
        for member in sorted(about.consents):
            macs = {m: dict(each.to).get(member) for m, each in about.consents.items() if m != member}
            boxes = {m: dict(about.uploads[m].boxes)[member] for m in about.shown[member] if m != member}
            given = tuple((m, mac) for m, mac in sorted(macs.items()) if mac)
            message = Agreement(about.step.round, given, tuple(sorted(boxes.items()))) if given else None
            if message and not honest:
                message = twisted(chance, message, self.pool)
            if message:
                self.give(member, message)

    @precondition(lambda self: self.mode is Mode.B)
    @rule(chance=chances, dropped=members, honest=often)
    def split(self, chance: Any, dropped: int, honest: Any) -> None:
        """Everybody uploads; some are shown that one has dropped out, and all are asked to answer, twice."""
        self.ask(chance, (1, 2, 3, 4), True)
        if not self.asked:
            return
        about = self.asked[list(self.asked)[-1]]
        there = tuple(sorted(about.uploads))
        for member in there:
            shown = tuple(m for m in there if m != dropped or m == member or chance.random() < 0.5)
            self.give(member, Survivors(about.step.round, shown))
        if about.consents:
            self.agreement(chance, True)
            self.agreement(chance, honest)

    @precondition(lambda self: self.asked)
    @rule(chance=chances, to=st.sets(members), honest=often)
    def total(self, chance: Any, to: set[int], honest: Any) -> None:
        """The sum of a round, true or twisted."""
        context, about = self.latest(chance)
        there = tuple(sorted(about.uploads))
        needed = len(about.step.roster) if self.mode is Mode.A else self.manifest.threshold
        if len(there) < needed:
            return
        if self.mode is Mode.B and len(there) > needed and chance.random() < 0.3:
            there = tuple(sorted(chance.sample(there, needed)))
        for member in sorted(to or self.nodes):
            total = about.sum(context, there)
            message = total if honest else twisted(chance, total, self.pool)
            if message is not None:
                self.give(member, message)

    @precondition(lambda self: self.asked)
    @rule(member=members, chance=chances)
    def blame(self, member: int, chance: Any) -> None:
        self.give(member, Blame(self.latest(chance)[1].step.round))

    @rule(member=members, chance=chances, wave=st.integers(1, 2))
    def again(self, member: int, chance: Any, wave: int) -> None:
        """Anything that anybody has got, as it was or twisted, of set-up too."""
        made_up = [Invite(wave, (chance.choice(self.manifest.indices),)), Survivors(wave, (1, 2, 3))]
        message = chance.choice([*self.pool, *made_up])
        message = twisted(chance, message, self.pool) if chance.random() < 0.5 else message
        if message is not None:
            self.give(member, message)

    @rule(member=members, back=st.sampled_from([1, 1, 2, 5, 9]))
    def restart(self, member: int, back: int) -> None:
        """A process dies; the next one finds the last disk or an older one."""
        self.revive(member, back)

    @precondition(lambda self: self.asked)
    @rule(chance=chances, back=st.integers(2, 4))
    def restore_and_ask_again(self, chance: Any, back: int) -> None:
        """An old disk, and the very Step that it was asked after it."""
        _, about = self.latest(chance)
        member = chance.choice(sorted(about.uploads))
        self.revive(member, back)
        self.give(member, about.step)

    @rule(back=st.integers(1, 3))
    def restart_the_stopped(self, back: int) -> None:
        for member, node in self.nodes.items():
            if node.error:
                self.revive(member, 1 + back)

    def revive(self, member: int, back: int) -> None:
        old = self.nodes[member]
        try:
            node = Node(self.manifest, member, f"{self.mode} {next(self.starts)}", old.disk[-back:][0])
        except SessionOver:
            return
        node.disk = old.disk + node.disk
        self.nodes[member] = node

    # ---- what must hold

    @invariant()
    def no_stream_masks_two_vectors(self) -> None:
        if hasattr(self, "uses"):
            self.uses.check()

    @invariant()
    def of_no_member_both_kinds_of_masks_are_shown(self) -> None:
        """Self mask and pair masks of one upload, together, would show the vector."""
        for about in getattr(self, "asked", {}).values():
            survived = {v for each in about.answers.values() for v, _ in each.shares}
            dropped = {v for each in about.answers.values() for v, _ in each.keys}
            assert not survived & dropped


class ClientsInModeB(Clients):
    mode: ClassVar = Mode.B


class TestClients(Clients.TestCase):
    settings = few(18)


@pytest.mark.chaos
class TestManyClients(Clients.TestCase):
    settings = many(18)


class TestClientsInModeB(ClientsInModeB.TestCase):
    settings = few(18)


@pytest.mark.chaos
class TestManyClientsInModeB(ClientsInModeB.TestCase):
    settings = many(18)
