"""Persist, then send; answer at once what needs no door; hand over sums, steps and the end in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from nodes.errors import CoordinatorUnreachable
from nodes.session import Disconnected, Session
from secagg.errors import UnexpectedMessage
from secagg.messages import (
    Agreement,
    Blame,
    Bundles,
    CanaryKeys,
    Ciphertexts,
    Complete,
    Confirmed,
    Consent,
    Encapsulations,
    Finish,
    Hello,
    Invite,
    Ready,
    Shares,
    Step,
    Sum,
    Survivors,
    Upload,
)
from tests.nodes.messages import BOXES, BUNDLE, CONFIRMATIONS, MACS, NONCE, ROSTER

STEP = Step(5, 1, ROSTER)
TOTAL = Sum(4, ROSTER, (1, 2, 3), bytes(24))
UPLOAD_A = Upload(2, 5, bytes(24))
UPLOAD_B = Upload(2, 5, bytes(24), BOXES)
BREAK = object()

ANSWERED = [
    (Bundles(0, 2, (2,), (BUNDLE,)), Encapsulations(2, 0, ((3, b"c" * 1088),))),
    (Ciphertexts(0, ((1, b"c" * 1088),)), Ready(2, 0)),
    (Confirmed(0, CONFIRMATIONS), Ready(2, 0)),
    (Invite(1, (3,)), BUNDLE),
    (Survivors(5, (1, 2)), Consent(2, 5, MACS)),
    (Agreement(5, MACS, BOXES), Shares(2, 5, MACS, ())),
    (Blame(5), CanaryKeys(2, 5, MACS)),
]


class Client:
    """Answers from a table; its snapshot counts what it has taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.answers: dict[Any, list[Any]] = {message: [answer] for message, answer in ANSWERED}

    def snapshot(self) -> bytes:
        return b"state %d" % self.taken

    def hello(self) -> Hello:
        return Hello(b"r" * 32, 2, NONCE, 0, self.taken, b"t" * 32, b"s" * 64)

    def begin(self) -> list[Any]:
        return [Ready(2, 0)]

    def receive(self, message: Any) -> list[Any]:
        self.taken += 1
        return self.answers[message]


class Connection:
    def __init__(self, world: World, script: list[Any]) -> None:
        self.world, self.inbox, self.closed = world, deque(script), False

    def send(self, message: Any) -> None:
        # The rule: what is on the disk when a message leaves is what the client is now.
        assert self.world.disk == self.world.client.snapshot()
        self.world.sent.append(message)

    def receive(self) -> Any:
        if not self.inbox:
            raise Disconnected("nothing more in the script")
        if (message := self.inbox.popleft()) is BREAK:
            raise Disconnected("broken")
        return message

    def waiting(self) -> bool:
        return bool(self.inbox)

    def close(self) -> None:
        self.closed = True


class World:
    """A session over scripted connections, one script each."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.client = Client()
        self.disk: bytes | None = None
        self.sent: list[Any] = []
        self.time = 0.0
        self.scripts = deque(scripts)
        self.connections: list[Connection] = []
        self.session = Session(
            self.client,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            keep=self.keep,
            patience=30.0,
            now=lambda: self.time,
            sleep=self.sleep,
        )

    def keep(self, snapshot: bytes) -> None:
        self.disk = snapshot

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def connect(self) -> Connection:
        if not self.scripts:
            raise Disconnected("nobody listens")
        self.connections.append(Connection(self, self.scripts.popleft()))
        return self.connections[-1]


@pytest.mark.parametrize(("message", "answer"), ANSWERED, ids=lambda each: type(each).__name__)
def test_what_needs_no_door_is_kept_and_answered_while_the_door_waits(message: Any, answer: Any) -> None:
    world = World([message, STEP])

    assert world.session.head() == STEP
    assert isinstance(world.sent[0], Hello)
    assert world.sent[1:] == [Ready(2, 0), answer]
    assert world.disk == b"state 1"


def test_a_hello_is_sent_when_the_state_is_on_the_disk() -> None:
    world = World([STEP])
    world.session.head()

    assert isinstance(world.sent[0], Hello)
    assert world.sent[1:] == [Ready(2, 0)]


def test_an_upload_leaves_after_the_state() -> None:
    world = World([STEP])
    world.session.head()
    world.client.taken = 7  # the round is open: its keys are gone from the snapshot
    world.session.send(UPLOAD_A)

    assert world.disk == b"state 7"
    assert world.sent[-1] == UPLOAD_A


def test_heads_come_in_order() -> None:
    world = World([TOTAL, STEP, Blame(5), TOTAL, Finish(2, "complete")])
    seen = []
    for _ in range(3):
        seen.append(world.session.head())
        world.session.done()

    # The Step was dead when it was looked at: its sum lay behind it.
    assert seen == [TOTAL, TOTAL, Finish(2, "complete")]
    assert world.sent[-1] == CanaryKeys(2, 5, MACS)


def test_only_the_last_of_several_steps_is_alive() -> None:
    later = Step(6, 1, ROSTER)
    world = World([STEP, Invite(1, (3,)), later])

    assert world.session.head() == later


def test_sums_wait_on_the_stream_and_not_in_memory() -> None:
    world = World([TOTAL] * 5)

    for left in (4, 3):
        assert world.session.head() == TOTAL
        assert len(world.session._queue) == 1
        assert len(world.connections[0].inbox) == left
        world.session.done()


def test_a_sum_is_dealt_with_before_what_follows_it() -> None:
    world = World([TOTAL, Invite(1, (3,)), STEP])

    assert world.session.head() == TOTAL
    assert world.client.taken == 0
    world.session.done()
    assert world.session.head() == STEP
    assert world.client.taken == 1


@pytest.mark.parametrize(
    ("upload", "expected"), [(UPLOAD_B, [UPLOAD_B]), (UPLOAD_A, [])], ids=["mode B", "mode A: the round is lost"]
)
def test_after_a_broken_stream_the_same_upload_is_sent_again_if_its_round_may_be_open(
    upload: Upload, expected: list[Upload]
) -> None:
    world = World([STEP], [Survivors(5, (1, 2)), TOTAL])
    assert world.session.head() == STEP
    world.session.done()
    world.session.send(upload)
    del world.sent[:]

    assert world.session.head() == TOTAL

    assert isinstance(world.sent[0], Hello)
    assert world.sent[1:] == [Ready(2, 0), *expected, Consent(2, 5, MACS)]


@pytest.mark.parametrize("over", [TOTAL, Step(6, 1, ROSTER), Finish(1, "enough")])
def test_an_upload_is_not_sent_again_once_its_round_is_over(over: Any) -> None:
    world = World([STEP], [over], [TOTAL])
    for after in (lambda: world.session.send(UPLOAD_B), lambda: None):
        world.session.head()
        world.session.done()
        after()
    del world.sent[:]

    assert world.session.head() == TOTAL
    assert [type(each) for each in world.sent] == [Hello, Ready]


def test_what_arrived_before_the_stream_broke_is_good_but_for_a_step() -> None:
    world = World([STEP, BREAK], [Finish(1, "enough")])

    assert world.session.head() == Finish(1, "enough")
    assert world.connections[0].closed


def test_last_words_are_repeated_to_every_step_and_on_every_stream() -> None:
    words = Complete(2, b"t" * 32)
    world = World([BREAK], [STEP])
    world.session.farewell(words)

    assert world.session.wait_for_end(5.0) is None
    # Once on each stream, once to the step.
    assert [each for each in world.sent if each == words] == [words] * 3
    world.connections[-1].inbox.append(Finish(1, "complete"))
    assert world.session.wait_for_end(5.0) == "complete"


def test_patience_ends() -> None:
    world = World()

    with pytest.raises(CoordinatorUnreachable, match="no connection to the coordinator for 30 s"):
        world.session.head()
    assert 30.0 <= world.time < 40.0


@pytest.mark.parametrize("call", [lambda session: session.head(), lambda session: session.wait_for_end(1.0)])
def test_a_broken_protocol_is_not_retried(call: Callable[[Session], Any]) -> None:
    world = World([Blame(5)], [STEP])

    def broken(_message: Any) -> list[Any]:
        raise UnexpectedMessage("not now")

    world.client.receive = broken  # type: ignore[method-assign]
    with pytest.raises(UnexpectedMessage):
        call(world.session)
    assert len(world.connections) == 1
