"""Persist, then send; answer at once what needs no door; hand over sums, steps and the end in order.

And no step before the site's ledger is witnessed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from dp.errors import NotWitnessed, RollbackDetected
from nodes.errors import CoordinatorUnreachable
from nodes.notes import Note
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


class Witness:
    """Ready after so many receipts; answers every question."""

    def __init__(self, world: World, needed: int) -> None:
        self.world, self.needed = world, needed
        self.asked: list[float] = []
        self.refusal: Exception | None = None
        self.strangers: set[int] = set()  # rounds whose rosters have a process that was not answered
        self.uploads: list[Step] = []

    def admits(self, step: Step) -> bool:
        return self.needed <= 0 and step.round not in self.strangers

    def uploaded(self, step: Step) -> None:
        assert not any(isinstance(each, Upload) and each.round == step.round for each in self.world.sent)
        self.uploads.append(step)

    @property
    def pending(self) -> bool:
        return self.needed > 0

    def missing(self) -> tuple[str, ...]:
        return ("site-1", "site-3")

    def require(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def questions(self) -> list[tuple[int, bytes]]:
        self.asked.append(self.world.time)
        return [(1, b"question"), (3, b"question")]

    def receive(self, member: int, octets: bytes) -> list[tuple[int, bytes]]:
        self.needed -= octets == b"receipt"
        return [(member, b"receipt")] if octets == b"question" else []


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
        # A number in the script: what follows it arrives at that time.
        while self.inbox and isinstance(self.inbox[0], float) and self.world.time >= self.inbox[0]:
            self.inbox.popleft()
        return bool(self.inbox) and not isinstance(self.inbox[0], float)

    def close(self) -> None:
        self.closed = True


class World:
    """A session over scripted connections, one script each."""

    def __init__(self, *scripts: list[Any], needed: int = 0) -> None:
        self.client = Client()
        self.told: list[Any] = []
        self.witness = Witness(self, needed)
        self.disk: bytes | None = None
        self.sent: list[Any] = []
        self.time = 0.0
        self.scripts = deque(scripts)
        self.connections: list[Connection] = []
        self.session = Session(
            self.client,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self.witness,
            keep=self.keep,
            patience=30.0,
            now=lambda: self.time,
            sleep=self.sleep,
            notice=lambda event, fields: self.told.append((event, fields)),
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


ASKED = [Note(1, b"question"), Note(3, b"question")]


def test_a_step_is_held_until_the_ledger_is_witnessed_and_everything_else_goes_on() -> None:
    invite, answer = ANSWERED[3]
    world = World(
        [STEP, Note(3, b"question"), invite, 0.5, Note(1, b"receipt"), 0.9, Note(3, b"receipt")],
        needed=2,
    )

    assert world.session.head() == STEP
    assert 0.9 <= world.time < 1.0
    # Asked when the stream began, and again when the step showed that the others are there.
    assert world.sent[1:] == [Ready(2, 0), *ASKED, *ASKED, Note(3, b"receipt"), answer]


def test_a_sum_and_the_end_are_not_held() -> None:
    world = World([TOTAL, Finish(1, "enough")], needed=1)

    assert world.session.head() == TOTAL
    world.session.done()
    assert world.session.head() == Finish(1, "enough")


def test_it_asks_once_a_second_until_it_is_witnessed() -> None:
    world = World([STEP, 3.5, Note(1, b"receipt")], needed=1)
    world.session.head()

    gaps = [
        round(after - before, 2) for before, after in zip(world.witness.asked, world.witness.asked[1:], strict=False)
    ]
    assert gaps[0] == 0.0
    assert set(gaps[1:]) <= {1.0, 1.01}
    assert len(gaps) == 4
    # The operator learns once who is waited for.
    assert world.told == [("waiting for witnesses", {"peer": "site-1, site-3"})]
    before = len(world.witness.asked)
    world.connections[0].inbox.append(Step(6, 1, ROSTER))
    world.session.done()
    assert world.session.head() == Step(6, 1, ROSTER)
    assert len(world.witness.asked) == before


def test_a_step_that_the_coordinator_has_passed_over_meanwhile_is_never_handed_over() -> None:
    later = Step(6, 1, ROSTER)
    world = World([STEP, 2.0, later, 3.0, Note(1, b"receipt")], needed=1)

    assert world.session.head() == later
    world.session.done()
    assert not world.session._queue


def test_a_run_that_ends_while_a_step_is_held_ends() -> None:
    world = World([STEP, 2.0, Finish(1, "nobody came")], needed=1)

    assert world.session.head() == Finish(1, "nobody came")


def test_it_asks_anew_on_every_stream() -> None:
    world = World([STEP, BREAK], [Step(6, 1, ROSTER), 1.0, Note(1, b"receipt")], needed=1)

    assert world.session.head() == Step(6, 1, ROSTER)
    hellos = [position for position, each in enumerate(world.sent) if isinstance(each, Hello)]
    assert world.sent[hellos[1] : hellos[1] + 4] == [world.client.hello(), Ready(2, 0), *ASKED]


def test_what_speaks_against_the_ledger_stops_a_step_and_nothing_before_it() -> None:
    world = World([Invite(1, (3,)), TOTAL, STEP], needed=1)
    world.witness.refusal = RollbackDetected("entry 9")

    assert world.session.head() == TOTAL
    world.session.done()
    with pytest.raises(RollbackDetected):
        world.session.head()
    assert not any(isinstance(each, Upload) for each in world.sent)


def test_notes_are_answered_while_nothing_but_the_end_is_waited_for() -> None:
    world = World([Note(3, b"question"), 1.0, Finish(1, "complete")])

    assert world.session.wait_for_end(5.0) == "complete"
    assert world.sent[-1] == Note(3, b"receipt")


def test_a_flood_of_notes_does_not_keep_the_door_from_its_step() -> None:
    class Flooded(Connection):
        def receive(self) -> Any:
            return self.inbox.popleft() if self.inbox else Note(3, b"noise")

        def waiting(self) -> bool:
            return True

    world = World()
    world.connect = lambda: Flooded(world, [STEP])  # type: ignore[method-assign]
    assert world.session.head() == STEP


@pytest.mark.parametrize("upload", [UPLOAD_A, UPLOAD_B])
def test_no_upload_leaves_before_the_ledger_is_witnessed(upload: Upload) -> None:
    world = World([TOTAL], needed=1)
    world.session.head()
    with pytest.raises(NotWitnessed, match="site-1, site-3 have not answered"):
        world.session.send(upload)
    assert not any(isinstance(each, Upload) for each in world.sent)
    world.session.send(Complete(2, b"t" * 32))  # no upload


def test_a_step_with_a_process_that_was_not_answered_is_held_until_it_is() -> None:
    world = World([STEP, 2.0, Note(1, b"question"), 3.0, Note(1, b"question")])
    world.witness.strangers = {5}
    answer = world.witness.receive

    def receive(member: int, octets: bytes) -> list[tuple[int, bytes]]:
        if world.time >= 3.0:
            world.witness.strangers.clear()
        return answer(member, octets)

    world.witness.receive = receive  # type: ignore[method-assign]
    assert world.session.head() == STEP
    assert world.time >= 3.0
    world.session.send(UPLOAD_A)
    assert world.witness.uploads == [STEP]


def test_what_a_step_was_handed_over_for_is_looked_at_again_before_the_upload_leaves() -> None:
    world = World([STEP])
    world.session.head()
    world.session.done()
    with pytest.raises(NotWitnessed):
        world.session.send(Upload(2, 6, bytes(24)))  # another round than the one that was handed over
    world.witness.strangers = {5}
    with pytest.raises(NotWitnessed):
        world.session.send(UPLOAD_A)
    assert not any(isinstance(each, Upload) for each in world.sent)


def test_peers_are_asked_once_a_second_while_a_sum_is_waited_for() -> None:
    """A peer that has started anew needs our question before it uploads with us."""
    world = World([3.5, TOTAL], needed=1)
    assert world.session.head() == TOTAL
    assert [round(each) for each in world.witness.asked] == [0, 1, 2, 3]
