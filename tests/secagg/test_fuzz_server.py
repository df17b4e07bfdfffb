"""A server under whatever its members may send: anything, in anybody's name, in any order, while it dies and restarts.

Members are puppets whose vectors, seeds and keys follow from their number and the round, so the right sum is known
without them. Every action is checked against what was made durable before it.
"""

from collections import defaultdict, deque
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from secagg import Arm, Mode, Send, SendSums, Server, Stop, StoreRound, StoreSetup, StoreSum, SumRecord
from secagg.agreement import partners
from secagg.errors import MisuseError, PeerError
from secagg.messages import (
    Agreement,
    Blame,
    Bundle,
    Bundles,
    Ciphertexts,
    Complete,
    Confirmations,
    Confirmed,
    Consent,
    Encapsulations,
    Finish,
    Hello,
    Invite,
    Part,
    Refused,
    Step,
    Survivors,
)
from tests.federation import manifest
from tests.secagg.fuzzing import few, many, twisted
from tests.secagg.primitives import octets, words
from tests.secagg.puppets import Puppets, fixed, plain

members = st.integers(1, 4)
chances = st.randoms(use_true_random=False)
SETTING_UP = (Bundles, Ciphertexts, Confirmed, Invite)
"""What may be addressed to somebody who is not there; it is sent again at the next connection."""
often = st.sampled_from([True, True, True, False])


class Servers(RuleBasedStateMachine):
    """A server, its store, and four puppets."""

    mode: ClassVar = Mode.A
    steps: ClassVar = 4

    @initialize()
    def start(self) -> None:
        self.manifest = manifest(4, 1, mode=self.mode, roster_changes=6, max_rounds=40)
        self.setup: list[Any] = []
        self.rounds: list[StoreRound] = []
        self.sums: list[Any] = []
        self.finished = ""
        self.rosters: dict[int, tuple[int, ...]] = {}
        self.puppets = Puppets(self.manifest, self.rosters)
        self.survivors: dict[int, tuple[int, ...]] = {}
        self.consented: set[tuple[int, int]] = set()
        self.twisted: set[int] = set()  # rounds for which a member has said something of its own
        self.nonces = {member: fixed("nonce", member) for member in self.manifest.indices}
        self.said: list[Any] = []
        self.last: dict[int, int] = dict.fromkeys(self.manifest.indices, 0)
        self.boot()

    def boot(self) -> None:
        """Start a server from what is stored; every connection is gone."""
        last = self.rounds[-1] if self.rounds else StoreRound(0, (), 0)
        self.server = Server(
            self.manifest, sums=[SumRecord.of(each) for each in self.sums], last_round=last.number,
            relayed=self.setup, max_words=16, roster=last.roster, changes=last.changes, finished=self.finished,
        )  # fmt: skip
        assert self.server.sums == len(self.sums)
        self.timer = ""
        self.got: dict[int, int] = {}  # connected member → how many sums it has
        self.inbox: dict[int, deque[Any]] = defaultdict(deque)

    # ---- what the server asks for

    def do(self, call: Any, *args: Any, dies: int = 99) -> bool:
        """Call the server and carry out what it asks for, perhaps not all of it. Whether it took the message."""
        sums = self.server.sums
        try:
            actions = call(*args)
        except MisuseError:
            assert args[0] not in self.got
            return False
        except PeerError:
            assert self.server.sums == sums
            return False
        for action in actions[:dies]:
            self.carry_out(action)
        if dies < len(actions):
            self.boot()
        return True

    def carry_out(self, action: Any) -> None:
        match action:
            case StoreSetup(message):
                self.stored_setup(message)
            case StoreRound():
                self.stored_round(action)
            case StoreSum(total):
                self.stored_sum(total)
            case SendSums(member, first, stop):
                assert first == self.got[member] < stop <= len(self.sums), "a sum that is not stored, or again"
                self.got[member] = stop
            case Send(member, message):
                assert member in self.got or isinstance(message, SETTING_UP), "a message to nobody"
                if member in self.got:
                    self.sent(member, message)
                    self.inbox[member].append(message)
            case Stop(reason, ok):
                assert not self.finished
                assert ok == (reason == "complete")
                self.finished, self.timer = reason[:500], ""
            case Arm(deadline):
                self.timer = deadline
            case _:
                raise AssertionError(action)

    def stored_setup(self, message: Any) -> None:
        about = [(type(each), getattr(each, "member", getattr(each, "sender", 0)), each.wave) for each in self.setup]
        assert (type(message), getattr(message, "member", getattr(message, "sender", 0)), message.wave) not in about
        self.setup.append(message)

    def stored_round(self, action: StoreRound) -> None:
        last = self.rounds[-1] if self.rounds else StoreRound(0, (), 0)
        if action.number == last.number:
            assert self.mode is Mode.B
            assert set(action.roster) < set(last.roster)
        else:
            assert action.number > last.number
            self.rosters[action.number] = action.roster
        assert last.changes <= action.changes <= self.manifest.roster_changes
        assert action.changes - last.changes == bool(last.roster and last.roster != action.roster)
        self.rounds.append(action)

    def stored_sum(self, total: Any) -> None:
        number, roster = total.round, tuple(member for member, _ in total.roster)
        assert number == self.rounds[-1].number
        assert not self.sums or number > self.sums[-1].round, "a round summed twice"
        assert roster == self.rosters[number]
        assert total.survivors == (roster if self.mode is Mode.A else self.survivors[number])
        assert words(total.words)[-1] == len(total.survivors), "a sum that does not open"
        right = [sum(column) for column in zip(*(plain(each, number) for each in total.survivors), strict=True)]
        assert number in self.twisted or total.words == octets(right), "a member added twice, or not at all"
        self.sums.append(total)

    def sent(self, member: int, message: Any) -> None:
        """Nothing is said before what it rests on is durable."""
        match message:
            case Invite():
                assert message in self.setup
            case Bundles():
                known = next(each for each in self.setup if isinstance(each, Bundles) and each.wave == message.wave)
                assert message.bare() == known.bare()
                needed = {peer for peer in partners(message, member) if peer > member}
                assert {each.member for each in message.bundles if each.mlkem} == needed
            case Ciphertexts() | Confirmed():
                kind = Encapsulations if isinstance(message, Ciphertexts) else Confirmations
                stored = {each.sender: each for each in self.setup if type(each) is kind and each.wave == message.wave}
                for sender, *row in message.of:
                    assert (member, *row) in stored[sender].to
            case Step(number, sums, roster):
                assert self.rosters[number] == tuple(each for each, _ in roster)
                assert dict(roster)[member] == self.nonces[member]
                assert sums == len(self.sums) == self.got[member]
            case Survivors(number, who):
                assert self.survivors.setdefault(number, who) == who, "two sets of survivors"
                assert who == self.rosters[number] or self.rounds[-1].roster == who
                assert len(who) >= self.manifest.threshold
                assert member in who
            case Agreement(number, macs, _):
                assert (member, number) in self.consented
                assert {(each, number) for each, _ in macs} <= self.consented
            case Blame(number):
                assert self.mode is Mode.A
                assert self.rosters[number]
            case Finish(sums, reason):
                assert sums == len(self.sums)
                assert reason

    def replies(self, member: int, message: Any) -> list[Any]:
        match message:
            case Step() if len(self.sums) == self.steps:
                return [Complete(member, fixed("transcript"))]
            case Step():
                self.last[member] = message.round
        return self.puppets.replies(member, message, self.setup)

    def hello(self, member: int, last: int, sums: int) -> Hello:
        return self.puppets.hello(member, self.nonces[member], last, sums)

    def say(self, member: int, message: Any, *, dies: int = 99) -> bool:
        self.said.append(message)
        if isinstance(message, Consent) and message.sender == member:
            self.consented.add((member, message.round))
        return self.do(self.server.receive, member, message, dies=dies)

    # ---- what happens

    @rule(member=members, restarted=st.sampled_from([False, False, True]), dies=st.sampled_from([99, 99, 1, 2]))
    def connect(self, member: int, restarted: Any, dies: int) -> None:
        """A member comes, comes back, or comes back as a new process."""
        if restarted:
            self.nonces[member] = fixed(self.nonces[member])
        sums = self.got.get(member, 0)
        self.inbox[member].clear()
        before = self.got.get(member)
        self.got[member] = sums
        if not self.do(self.server.connect, self.hello(member, self.last[member], sums), dies=dies):
            raise AssertionError(before)
        if member in self.got and not self.finished:
            self.say(member, self.puppets.bundle(member, 0))

    @rule(chance=chances, without=st.sampled_from([0, 0, 1, 2, 3, 4]))
    def everybody_comes(self, chance: Any, without: int) -> None:
        for member in chance.sample(self.manifest.indices, 4):
            if member not in self.got and member != without:
                self.connect(member, False, 99)

    @rule(member=members, chance=chances)
    def lie_at_the_door(self, member: int, chance: Any) -> None:
        """A hello that is twisted, or ahead of the server."""
        if chance.random() < 0.5:
            good = self.hello(member, self.last[member], 0)
            hello = twisted(chance, good, [])
            hello = None if hello == good else hello
        else:
            ahead = (self.rounds[-1].number if self.rounds else 0) + 1
            hello = self.hello(member, *chance.choice([(ahead, 0), (0, len(self.sums) + 1)]))
        if hello is not None:
            assert not self.do(self.server.connect, hello)

    @precondition(lambda self: self.got)
    @rule(member=members, broken=st.sampled_from([False, False, True]))
    def disconnect(self, member: int, broken: Any) -> None:
        if broken and self.got.pop(member, None) is not None:
            self.inbox[member].clear()
            self.do(self.server.disconnect, member)

    @precondition(lambda self: self.got)
    @rule(member=members, dies=st.sampled_from([99, 99, 0, 1, 2, 3]))
    def answer(self, member: int, dies: int) -> None:
        """A member answers what it was sent first."""
        if self.inbox[member]:
            for reply in self.replies(member, self.inbox[member].popleft()):
                if member in self.got:
                    self.say(member, reply, dies=dies)

    @precondition(lambda self: any(self.inbox.values()))
    @rule(member=members, chance=chances)
    def answer_twisted(self, member: int, chance: Any) -> None:
        """A member answers what it was sent first, with one thing changed somewhere."""
        if self.inbox[member]:
            replies = self.replies(member, self.inbox[member].popleft())
            place = chance.randrange(len(replies)) if replies else 0
            for number, reply in enumerate(replies):
                message = twisted(chance, reply, self.said) if number == place else reply
                if message is not None and member in self.got:
                    self.twisted |= {getattr(message, "round", 0)} if message != reply else set()
                    self.say(member, message)

    @precondition(lambda self: any(self.inbox.values()))
    @rule(hops=st.integers(3, 12), silent=st.sets(members, max_size=1))
    def answer_all(self, hops: int, silent: set[int]) -> None:
        """Things go on to the next round, perhaps without one member."""
        before = self.rounds[-1:]
        for _ in range(hops):
            if self.rounds[-1:] != before:
                return
            for member in sorted(self.got.keys() - silent):
                self.answer(member, 99)

    @precondition(lambda self: any(self.inbox.values()))
    @rule(rounds=st.integers(1, 3))
    def go_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self.answer_all(9, set())

    @precondition(lambda self: len(self.got) < 3)
    @rule(without=st.sampled_from([0, 1, 2, 3, 4]))
    def begin(self, without: int) -> None:
        """A run begins, or goes on after the server's death."""
        for member in self.manifest.indices:
            if member not in self.got and member != without:
                self.connect(member, False, 99)
        if without and self.timer and not self.rounds:
            self.deadline(99, True)
        self.answer_all(9, set())

    @precondition(lambda self: self.timer == "round")
    @rule(silent=members, returns=often)
    def a_round_without(self, silent: int, returns: Any) -> None:
        """One does not answer before the deadline, or only after it."""
        self.answer_all(9, {silent})
        if self.timer == "round":
            self.deadline(99, True)
            self.answer_all(1 if returns else 9, set() if returns else {silent})

    @precondition(lambda self: any(self.inbox.values()))
    @rule(member=members, other=members)
    def impersonate(self, member: int, other: int) -> None:
        """What another member would answer, in its name and on this member's connection."""
        if member != other and member in self.got and self.inbox[other]:
            last = self.last[other]
            for reply in self.replies(other, self.inbox[other][0]):
                taken = self.do(self.server.receive, member, reply)
                assert not taken or self.finished
            self.last[other] = last

    @precondition(lambda self: self.timer == "round")
    @rule(member=members, order=st.sampled_from([(0, 0, 1), (1, 0, 1), (0, 1, 0, 1), (0, 1, 1)]))
    def parts_again(self, member: int, order: tuple[int, ...]) -> None:
        """The parts of an upload, some of them twice or too early."""
        if self.inbox[member] and isinstance(self.inbox[member][0], Step):
            pieces = self.replies(member, self.inbox[member].popleft())
            for place in order:
                if member in self.got and isinstance(pieces[0], Part):
                    self.say(member, pieces[place])

    @precondition(lambda self: self.timer == "round")
    @rule(member=members)
    def spoil(self, member: int) -> None:
        """An upload whose canary does not fit."""
        if self.inbox[member] and isinstance(self.inbox[member][0], Step):
            for part in self.replies(member, self.inbox[member].popleft()):
                if isinstance(part, Part) and member in self.got:
                    self.twisted.add(part.round)
                    self.say(member, replace(part, words=part.words[:-1] + bytes([part.words[-1] ^ 1])))

    @precondition(lambda self: self.got)
    @rule(member=members, chance=chances)
    def say_anything(self, member: int, chance: Any) -> None:
        """A message twisted, replayed, or in another's name."""
        answers = [reply for message in self.inbox[member] for reply in self.replies(member, message)]
        refusal = [Refused(member, "odd")] if self.sums else []
        message = chance.choice([*refusal, *self.said[-30:], *answers, *answers])
        if chance.random() < 0.7:
            message = twisted(chance, message, self.said)
        if message is None or isinstance(message, Hello):
            return
        honest = message in self.said or message in answers
        if isinstance(message, Bundle) and message.member == member:
            honest = True  # a signature decides
        if not honest:
            self.twisted.add(getattr(message, "round", 0))
        self.say(member, message)

    @precondition(lambda self: self.timer)
    @rule(dies=st.sampled_from([99, 99, 0, 1, 2, 3]), impatient=st.sampled_from([False] * 9 + [True]))
    def deadline(self, dies: int, impatient: Any) -> None:
        """The timer fires; mostly not while we wait for members to come."""
        if self.timer == "round" or impatient or (not self.rounds and len(self.got) == 3):
            self.timer = ""
            self.do(self.server.deadline, dies=dies)

    @precondition(lambda self: self.finished)
    @rule(again=often)
    def another_run(self, again: Any) -> None:
        if again:
            self.start()

    @rule(dies=st.sampled_from([False, False, False, True]))
    def die(self, dies: Any) -> None:
        if dies:
            self.boot()


class ServersInModeB(Servers):
    mode: ClassVar = Mode.B


class TestServers(Servers.TestCase):
    settings = few(40)


@pytest.mark.chaos
class TestManyServers(Servers.TestCase):
    settings = many(40)


class TestServersInModeB(ServersInModeB.TestCase):
    settings = few(40)


@pytest.mark.chaos
class TestManyServersInModeB(ServersInModeB.TestCase):
    settings = many(40)
