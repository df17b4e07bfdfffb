"""What the server decides is executed in order, durable first, and the lock is held for work, never for waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import nodes.coordinator
from nodes.chunks import Assembler
from nodes.coordinator import Coordinator
from nodes.errors import StorageProblem, StudyStopped
from nodes.notes import NOTE, Note
from nodes.outbox import Outbox, SumAt
from secagg.actions import Arm, Send, SendSums, Stop, StoreRound, StoreSetup, StoreSum, SumRecord
from secagg.errors import PeerError
from secagg.manifest import Manifest, Member
from secagg.messages import Blame, Bundles, Finish, Hello, Invite, Part, Ready, Step, Survivors
from tests.nodes.messages import BUNDLE, NONCE, ROSTER
from tests.nodes.noting import Store, total

RUN = b"R" * 32
MANIFEST = Manifest(RUN, b"S" * 32, tuple(Member(i, f"s{i}", bytes([i]) * 32) for i in range(1, 5)), 1, 3, 4, 100)
STEP = Step(5, 0, ROSTER)
PART = Part(1, 5, 48, 0, bytes(24))
LAST = Part(1, 5, 48, 24, bytes(24))


def hello(member: int) -> Hello:
    return Hello(RUN, member, NONCE, 0, 0, b"t" * 32, b"s" * 64)


class Server:
    """Answers with the actions that a test has laid out for it."""

    def __init__(self, _manifest: Manifest, **arguments: Any) -> None:
        self.arguments = arguments
        self.next: list[Any] = []
        self.events: list[Any] = []

    def _answer(self, *event: Any) -> list[Any]:
        self.events.append(event)
        actions, self.next = self.next, []
        return actions

    def connect(self, greeting: Hello) -> list[Any]:
        return self._answer("connect", greeting.member)

    def receive(self, member: int, message: Any) -> list[Any]:
        if isinstance(message, Ready):
            raise PeerError("not now")
        return self._answer("receive", member, message)

    def disconnect(self, member: int) -> list[Any]:
        self.events.append(("disconnect", member))
        return []

    def deadline(self) -> list[Any]:
        return self._answer("deadline")


class World:
    def __init__(self, pace: float = 0.0, store: Store | None = None, deadline: float = 60.0) -> None:
        self.store = store or Store()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.coordinator = Coordinator(
            MANIFEST,
            self.store,
            max_words=100,
            deadline=deadline,
            patience=60.0,
            pace=pace,
            notice=lambda event, fields: self.told.append((event, fields)),
        )
        self.server: Any = self.coordinator._server

    def attach(self, member: int, *actions: Any) -> Outbox:
        self.server.next = list(actions)
        return self.coordinator.attach(hello(member))

    def deliver(self, member: int, outbox: Outbox, *actions: Any, message: Any = LAST) -> None:
        self.server.next = list(actions)
        self.coordinator.deliver(member, outbox, message)

    def events(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        return [each for each in self.told if each[0] in names]


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes.coordinator, "Server", Server)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.coordinator.close()


def queued(outbox: Outbox) -> list[Any]:
    items = []
    while not outbox.messages.empty():
        items.append(outbox.messages.get())
    return items


def until(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_round_is_stored_before_its_steps_leave_and_a_sum_before_it_is_sent(world: World) -> None:
    outbox = world.attach(1, StoreRound(5, (1, 2, 3), 0), Send(1, STEP), Send(2, STEP), Arm("round"))
    assert world.store.log == [("round", 5, (1, 2, 3), 0)]
    assert queued(outbox) == [STEP]

    world.store.full = True
    with pytest.raises(StorageProblem):
        world.deliver(1, outbox, StoreSum(total()), SendSums(1, 0, 1), Send(1, Step(6, 1, ROSTER)))
    assert queued(outbox) == [None]


def test_sums_are_referred_to_in_order_and_opened_when_sent(world: World) -> None:
    outbox = world.attach(1)
    for number in (5, 6, 7):
        world.deliver(1, outbox, StoreSum(total(number)))
    world.deliver(1, outbox, SendSums(1, 1, 3), Send(1, STEP))

    items = queued(outbox)
    assert items == [SumAt(1), SumAt(2), STEP]
    assembler = Assembler(100)
    opened = [[assembler.take(each) for each in world.coordinator.opened(item)] for item in items]
    assert opened == [[total(6)], [total(7)], [STEP]]
    assert world.store.log == [("sum", 0, (1, 3)), ("sum", 1, (1, 3)), ("sum", 2, (1, 3))]


def test_set_up_is_stored_with_its_kind_and_sender_and_given_back(world: World) -> None:
    bundles = Bundles(0, 2, (2,), (BUNDLE,))
    for message in (BUNDLE, bundles, Ready(3, 0), Invite(1, (4,))):
        world.attach(1, StoreSetup(message))
    assert [entry[1:] for entry in world.store.log] == [("Bundle", 2), ("Bundles", 0), ("Ready", 3), ("Invite", 0)]

    again = World(store=world.store)
    assert again.server.arguments["relayed"] == [BUNDLE, bundles, Ready(3, 0), Invite(1, (4,))]


def test_a_new_process_is_given_records_without_words(world: World) -> None:
    outbox = world.attach(1, StoreRound(5, (1, 2, 3), 0), StoreSum(total(5)), StoreRound(6, (1, 2), 1))
    world.deliver(1, outbox, StoreRound(6, (1,), 2))

    arguments = World(store=world.store).server.arguments
    assert arguments["sums"] == [SumRecord(5, ROSTER, (1, 3))]
    assert (arguments["last_round"], arguments["roster"], arguments["changes"]) == (6, (1,), 2)
    assert world.events("round") == [("round", {"round": 5, "roster": 3}), ("round", {"round": 6, "roster": 2})]


def test_the_pace_keeps_nobody_from_the_lock_and_changes_no_order() -> None:
    world = World(pace=0.6)
    outbox = world.attach(1, StoreRound(5, (1, 2, 3), 0), Send(1, STEP), Arm("round"))
    begun = time.monotonic()
    other = world.attach(2, Send(2, Blame(4)))
    world.deliver(2, other, StoreSetup(Invite(1, (4,))), Send(2, Invite(1, (4,))))
    world.coordinator.detach(2, other)

    assert time.monotonic() - begun < 0.3
    assert world.store.log == []
    assert queued(outbox) == queued(other) == []
    assert [event[0] for event in world.server.events] == ["connect", "connect", "receive", "disconnect"]
    until(lambda: len(world.store.log) == 2)
    until(lambda: not other.messages.empty())
    assert world.store.log == [("round", 5, (1, 2, 3), 0), ("setup", "Invite", 0)]
    assert queued(outbox) == [STEP]
    assert queued(other) == [Blame(4), Invite(1, (4,))]
    world.coordinator.close()


def test_every_round_has_its_pace_and_a_drop_within_one_has_none() -> None:
    world = World(pace=0.2)
    rounds = [StoreRound(5, (1, 2, 3), 0), StoreRound(5, (1, 2), 1), StoreRound(6, (1, 2), 1)]
    begun = time.monotonic()
    world.attach(1, *rounds)
    until(lambda: world.store.log)
    time.sleep(0.05)
    assert len(world.store.log) == 2
    assert time.monotonic() - begun >= 0.2
    until(lambda: len(world.store.log) == 3)
    assert time.monotonic() - begun >= 0.4
    world.coordinator.close()


def test_no_deadline_passes_while_a_round_is_put_off() -> None:
    world = World(pace=0.5, deadline=0.2)
    world.attach(1, Arm("round"))
    world.attach(1, StoreRound(6, (1, 2), 1), Arm("round"))
    time.sleep(0.4)
    assert ("deadline",) not in world.server.events
    until(lambda: ("deadline",) in world.server.events)
    world.coordinator.close()


def test_what_was_decided_for_a_broken_connection_does_not_reach_the_next_one() -> None:
    world = World(pace=0.3)
    first = world.attach(1, StoreRound(5, (1, 2, 3), 0), SendSums(1, 0, 2), Send(1, STEP))
    second = world.attach(1, Send(1, Blame(4)))

    until(lambda: not second.messages.empty())
    assert queued(second) == [Blame(4)]
    assert queued(first) == [None, SumAt(0), SumAt(1), STEP]
    world.coordinator.close()


def test_a_message_of_a_replaced_connection_is_dropped(world: World) -> None:
    old = world.attach(1)
    world.attach(1)
    world.deliver(1, old)
    world.coordinator.detach(1, old)

    assert [event[0] for event in world.server.events] == ["connect", "disconnect", "connect"]


def test_an_upload_is_told_of_when_it_is_whole(world: World) -> None:
    outbox = world.attach(1)
    world.deliver(1, outbox, message=PART)
    assert world.events("upload") == []
    world.deliver(1, outbox, message=LAST)
    assert world.events("upload") == [("upload", {"member": 1, "round": 5, "bytes": 48})]


def test_what_goes_to_many_is_told_of_once(world: World) -> None:
    first, second = world.attach(1), world.attach(2)
    both = [Send(member, message) for message in (Survivors(5, (1, 3)), Blame(5)) for member in (1, 2)]
    world.deliver(1, first, *both, StoreSetup(Invite(1, (3, 4))), Send(1, Invite(1, (3, 4))), StoreSum(total()))
    world.deliver(2, second, Send(2, Survivors(6, (1,))))

    assert world.events("survivors", "blame", "wave", "sum") == [
        ("survivors", {"round": 5, "survivors": 2}),
        ("blame", {"round": 5}),
        ("wave", {"wave": 1, "newcomers": 2}),
        ("sum", {"round": 5, "roster": 3, "survivors": 2}),
        ("survivors", {"round": 6, "survivors": 1}),
    ]


def test_every_told_field_may_be_logged(world: World) -> None:
    from nodes import logs

    test_an_upload_is_told_of_when_it_is_whole(world)
    test_what_goes_to_many_is_told_of_once(world)
    for event, fields in world.told:
        assert logs._EVENT.fullmatch(event)
        assert fields.keys() <= logs.FIELDS.keys()


def test_the_end_closes_a_stream_after_its_last_message(world: World) -> None:
    first, second = world.attach(1), world.attach(2)
    last = Finish(1, "complete")
    world.deliver(1, first, SendSums(1, 0, 1), Send(1, last), Send(2, last), Stop("complete", ok=True))

    assert queued(first) == [SumAt(0), last, None]
    assert queued(second) == [last, None]
    assert (world.coordinator.ended, world.coordinator.ok, world.coordinator.reason) == (True, True, "complete")
    late = world.attach(3, Send(3, last))
    assert queued(late) == [last, None]


def test_sites_whose_streams_end_because_the_coordinator_stops_have_not_dropped_out(world: World) -> None:
    outbox = world.attach(1)
    world.coordinator.close()
    assert queued(outbox) == [None]

    world.coordinator.detach(1, outbox)
    assert [event[0] for event in world.server.events] == ["connect"]
    with pytest.raises(StudyStopped, match="stopping"):
        world.deliver(1, outbox)
    with pytest.raises(StudyStopped, match="stopping"):
        world.attach(2)


def test_a_stopped_coordinator_does_not_go_on_when_its_pace_is_over() -> None:
    world = World(pace=0.2)
    world.attach(1, StoreRound(5, (1, 2, 3), 0))
    world.coordinator.close()
    time.sleep(0.4)
    world.coordinator._paused()  # and should the timer have fired just before it was cancelled

    assert world.store.log == []


def test_a_failed_disk_ends_everything(world: World) -> None:
    outbox = world.attach(1)
    world.store.full = True
    with pytest.raises(StorageProblem):
        world.deliver(1, outbox, StoreRound(5, (1,), 0), Send(1, STEP))

    assert isinstance(world.coordinator.failure, StorageProblem)
    assert queued(outbox) == [None]
    with pytest.raises(StudyStopped, match="disk failed"):
        world.attach(2)


def test_a_message_that_breaks_the_protocol_changes_nothing(world: World) -> None:
    outbox = world.attach(1)
    with pytest.raises(PeerError):
        world.deliver(1, outbox, message=Ready(1, 0))
    assert world.coordinator.failure is None


def opened(world: World, outbox: Outbox) -> list[Any]:
    return [each for item in queued(outbox) for each in world.coordinator.opened(item)]


def test_a_note_goes_to_its_addressee_alone_and_names_who_sent_it(world: World) -> None:
    outboxes = {member: world.attach(member) for member in (1, 2, 3)}
    events, stored = list(world.server.events), list(world.store.log)
    world.deliver(1, outboxes[1], message=Note(2, b"a question"))
    world.deliver(2, outboxes[2], message=Note(1, b"an answer"))

    assert opened(world, outboxes[2]) == [Note(1, b"a question")]
    assert opened(world, outboxes[1]) == [Note(2, b"an answer")]
    assert opened(world, outboxes[3]) == []
    # Nothing is decided by it, nothing is kept, and no log tells of it.
    assert (world.server.events, world.store.log) == (events, stored)
    assert {event for event, _ in world.told} == {"connected"}


def test_a_note_to_nobody_to_oneself_or_to_one_who_is_away_is_dropped(world: World) -> None:
    outbox = world.attach(1)
    for member in (1, 2, 200):
        world.deliver(1, outbox, message=Note(member, b"a question"))
    assert opened(world, outbox) == []

    gone = world.attach(2)
    world.coordinator.detach(2, gone)
    world.deliver(1, outbox, message=Note(2, b"a question"))
    back = world.attach(2)
    assert opened(world, back) == []  # nothing is kept for whoever comes back


def test_a_replaced_stream_relays_nothing(world: World) -> None:
    first, addressee = world.attach(1), world.attach(2)
    world.attach(1)
    world.deliver(1, first, message=Note(2, b"a question"))

    assert opened(world, addressee) == []


def test_a_flood_of_notes_is_bounded_and_hides_no_step_and_nobody_elses_note(world: World) -> None:
    flood, other, victim = (world.attach(member) for member in (1, 2, 3))
    for _ in range(100):
        world.deliver(1, flood, message=Note(3, bytes(NOTE // 2)))
    world.deliver(2, other, message=Note(3, b"a question"))
    world.deliver(2, other, Send(3, STEP))

    assert opened(world, victim) == [*[Note(1, bytes(NOTE // 2))] * 2, Note(2, b"a question"), STEP]


def test_a_note_finds_a_place_again_when_one_has_left(world: World) -> None:
    sender, addressee = world.attach(1), world.attach(2)
    for turn in range(10):
        world.deliver(1, sender, message=Note(2, bytes([turn]) * NOTE))
        assert opened(world, addressee) == [Note(1, bytes([turn]) * NOTE)]


def test_a_stopping_coordinator_relays_nothing(world: World) -> None:
    sender = world.attach(1)
    world.coordinator.close()
    with pytest.raises(StudyStopped):
        world.deliver(1, sender, message=Note(2, b"a question"))
