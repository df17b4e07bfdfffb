"""Sites that come late, drop out and come back, in both modes, without sockets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nodes.loopback import LoopbackConnection, LoopbackLink
from secagg.errors import UnexpectedMessage
from secagg.manifest import Mode
from secagg.messages import FromServer, Step, Sum, Upload
from tests.nodes.parties import Party, Stopped, World, check

BOTH = pytest.mark.parametrize("mode", list(Mode))


def everybody(world: World, *members: int, **of_last: Any) -> list[Party]:
    link = LoopbackLink(world.coordinator)
    members = members or tuple(world.disks)
    return [Party(world, member, link, **(of_last if member == members[-1] else {})).start() for member in members]


@BOTH
def test_a_complete_run(mode: Mode) -> None:
    world = World(mode)
    parties = everybody(world)

    check(*(party.join() for party in parties))
    assert parties[0].rosters == [(1, 2, 3, 4)] * 4
    assert [progress.roster for progress in parties[0].told if progress.event == "sum"] == [
        ("site-1", "site-2", "site-3", "site-4")
    ] * 4
    world.coordinator.close()


@BOTH
def test_a_listed_site_that_missed_set_up_joins_in_the_middle(mode: Mode) -> None:
    """The others begin without it, take it in with fresh keys, and it ends with the same bits."""
    world = World(mode, sites=5, steps=24, patience=0.5)
    middle, may_go_on = threading.Event(), threading.Event()

    def wait(party: Party, step: int) -> None:
        if step == 2:
            middle.set()
            assert may_go_on.wait(20)

    early = everybody(world, 1, 2, 3, 4, before=wait)
    assert middle.wait(20)
    world.coordinator._waits["patience"] = 20.0
    late = Party(world, 5, LoopbackLink(world.coordinator)).start()
    while not any(event == "wave" for event, _ in world.told):
        threading.Event().wait(0.01)
    may_go_on.set()

    check(*(party.join() for party in (*early, late)))
    assert late.rosters[:3] == [(1, 2, 3, 4)] * 3
    assert late.rosters[-1] == (1, 2, 3, 4, 5)
    assert ("wave", {"wave": 1, "newcomers": 1}) in world.told
    world.coordinator.close()


@BOTH
def test_a_coordinator_that_starts_again_knows_set_up_waves_and_sums(mode: Mode) -> None:
    world = World(mode, steps=6)

    class Again:
        """Sites find the coordinator that serves now."""

        def connect(self) -> LoopbackConnection:
            return LoopbackConnection(world.coordinator)

    struck = threading.Event()

    def strike(party: Party, step: int) -> None:
        if step == 3 and not struck.is_set():
            struck.set()
            world.coordinator.close()
            world.serve()

    parties = [Party(world, member, Again(), *([strike] if member == 4 else [])).start() for member in range(1, 5)]
    check(*(party.join() for party in parties))
    assert struck.is_set()
    world.coordinator.close()


def test_mode_b_a_site_that_drops_out_of_a_round_does_not_cost_the_others_the_round() -> None:
    world = World(Mode.B, deadline=1.0)
    gone = threading.Event()

    def stop(party: Party, step: int) -> None:
        if step == 1:
            gone.set()
            raise Stopped

    parties = everybody(world, before=stop)
    assert isinstance(parties[-1].join().error, Stopped)
    again = Party(world, 4, LoopbackLink(world.coordinator)).start()

    check(*(party.join() for party in (*parties[:-1],)))
    again.join()
    assert again.disk.records.sums == parties[0].disk.records.sums
    assert parties[0].rosters[:2] == [(1, 2, 3, 4), (1, 2, 3)]
    # Not one round was lost, and the one after the last sum is where the sites say that they are complete.
    assert [total.round for total in parties[0].disk.records.sums] == [1, 2, 3, 4]
    assert ("survivors", {"round": 2, "survivors": 3}) in world.told
    told = [progress.roster for progress in parties[0].told if progress.event == "sum"]
    assert told[:2] == [("site-1", "site-2", "site-3", "site-4"), ("site-1", "site-2", "site-3")]
    world.coordinator.close()


def test_mode_a_the_same_costs_them_the_round() -> None:
    world = World(Mode.A, deadline=1.0)

    def stop(party: Party, step: int) -> None:
        if step == 1:
            raise Stopped

    parties = everybody(world, before=stop)
    parties[-1].join()

    check(*(party.join() for party in parties[:-1]))
    assert [total.round for total in parties[0].disk.records.sums] == [1, 3, 4, 5]
    world.coordinator.close()


def test_mode_b_a_stream_that_breaks_after_the_upload_gets_the_same_bytes_again() -> None:
    """And the round opens with that site: its process still holds the keys."""
    world = World(Mode.B, deadline=5.0)
    uploads: list[Upload] = []

    class Breaking(LoopbackConnection):
        def send(self, message: Any) -> None:
            if isinstance(message, Upload):
                uploads.append(message)
                if message.round == 2 and len(uploads) == 2:
                    self.close()
                    return
            super().send(message)

    class Link:
        def connect(self) -> Breaking:
            return Breaking(world.coordinator)

    parties = everybody(world, 1, 2, 3)
    parties.append(Party(world, 4, Link()).start())

    check(*(party.join() for party in parties))
    assert [upload.round for upload in uploads] == [1, 2, 2, 3, 4]
    assert uploads[1] == uploads[2]
    assert parties[0].rosters == [(1, 2, 3, 4)] * 4
    world.coordinator.close()


def test_an_upload_is_on_the_disk_with_its_boxes_before_it_leaves() -> None:
    world = World(Mode.B)
    seen: list[bool] = []

    class Looking(LoopbackConnection):
        def send(self, message: Any) -> None:
            if isinstance(message, Upload):
                stored = world.disks[4].records.stored_upload(message.round)
                seen.append(stored is not None and stored[1] == message and len(stored[1].boxes) == 3)
            super().send(message)

    class Link:
        def connect(self) -> Looking:
            return Looking(world.coordinator)

    parties = everybody(world, 1, 2, 3)
    parties.append(Party(world, 4, Link()).start())
    check(*(party.join() for party in parties))
    assert seen == [True] * 4
    world.coordinator.close()


def test_a_step_that_follows_sums_which_never_came_is_the_coordinators_fault() -> None:
    world = World(Mode.A)

    class Hiding(LoopbackConnection):
        def receive(self) -> FromServer:
            while isinstance(message := super().receive(), Sum):
                pass
            return message

    class Link:
        def connect(self) -> Hiding:
            return Hiding(world.coordinator)

    parties = everybody(world, 1, 2, 3)
    victim = Party(world, 4, Link()).start().join()

    assert isinstance(victim.error, UnexpectedMessage)
    assert "round 2 follows 1 sums, and the coordinator has sent 0" in str(victim.error)
    check(*(party.join() for party in parties))
    world.coordinator.close()


def test_a_round_asked_for_again_gets_the_stored_bytes() -> None:
    world = World(Mode.A)
    sent: list[Upload] = []

    class Repeating(LoopbackConnection):
        """Shows the step of round 2 twice, and nothing behind it until it is answered."""

        again: Step | None = None
        held = False

        def receive(self) -> FromServer:
            if self.again is not None:
                message, self.again, self.held = self.again, None, True
                return message
            return super().receive()

        def send(self, message: Any) -> None:
            if isinstance(message, Upload):
                sent.append(message)
                self.held = False
            super().send(message)

        def waiting(self) -> bool:
            return self.again is not None or (not self.held and super().waiting())

    class Link:
        def __init__(self) -> None:
            self.made: list[Repeating] = []

        def connect(self) -> Repeating:
            self.made.append(Repeating(world.coordinator))
            return self.made[-1]

    link = Link()
    steps: list[Step] = []
    parties = everybody(world, 1, 2, 3)
    victim = Party(world, 4, link)
    head = victim.session.head

    def watched() -> Any:
        message = head()
        if isinstance(message, Step) and message.round == 2 and not steps:
            steps.append(message)
            link.made[-1].again = message
        return message

    victim.session.head = watched  # type: ignore[method-assign]
    parties.append(victim.start())
    check(*(party.join() for party in parties))
    second = [upload for upload in sent if upload.round == 2]
    assert len(second) == 2
    assert second[0] == second[1]
    world.coordinator.close()
