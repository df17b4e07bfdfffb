"""A site that is restored and led along other histories: real ledgers, keys and notes, and sums that are names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from nodes.document import Stage
from nodes.windows import Placed, place
from nodes.witnessing import Witnessing
from tests.nodes.test_witness_copies import Step, roster
from tests.nodes.witnesses import Disk, Net, consortium, party, receipt

LONG, SHORT, LAST = STAGES = (
    Stage("gradient", "training", 2, 4, 1, 1.0, 1.0),
    Stage("breslow", "training", 1, 1, 1, 1.0, 1.0),
    Stage("concordance", "holdout", 1, 2, 1, 1.0, 1.0),
)
History = tuple[tuple[int, str], ...]
"""Round and content of every sum: what a transcript binds."""


@dataclass
class Process:
    """One start of a site, and the sums that it has applied: by itself it does what any honest site does."""

    member: int
    disk: Disk
    sites: int
    collusion: int
    history: History = ()
    last_round: int = 0
    witness: Witnessing = field(init=False)

    def __post_init__(self) -> None:
        self.last_round = max([self.last_round, *self.rounds])
        self.witness = party(
            self.member, self.disk, self.sites, self.collusion, last_round=self.last_round, place=self.place
        )

    @property
    def rounds(self) -> list[int]:
        return [number for number, _ in self.history]

    def place(self, number: int) -> Placed:
        return place(STAGES, self.rounds, number)

    def again(self) -> Process:
        """The same disk, at the next start of its process."""
        return Process(self.member, self.disk, self.sites, self.collusion, self.history, self.last_round)

    def accept(self, number: int, content: str) -> None:
        if not self.rounds or number > self.rounds[-1]:
            self.history += ((number, content),)
            self.last_round = max(self.last_round, number)

    def admits(self, step: Any) -> bool:
        open_ = step.round > self.last_round and self.place(step.round).stage < len(STAGES)
        return open_ and self.witness.admits(step)

    def upload(self, step: Any) -> bool:
        if not self.admits(step):
            return False
        self.witness.uploaded(step)
        self.last_round = step.round
        return True


class World:
    """Site 0, restored and started at will, the honest peers, and a coordinator with c liars, who can forge any sum."""

    def __init__(self, sites: int, collusion: int) -> None:
        self.sites, self.collusion = sites, collusion
        self.disks = consortium(sites)
        self.liars = range(1, 1 + collusion)
        self.peers = {each: Process(each, self.disks[each], sites, collusion) for each in range(1, sites)}
        self.honest = [each for each in self.peers if each not in self.liars]
        self.least = (sites + collusion) // 2 + 1 - 1 - collusion  # honest peers in the smallest roster
        self.processes: list[Process] = []
        self.opened: dict[tuple[int, History], Placed] = {}
        Net({member: each.witness for member, each in self.peers.items()}).ask()
        self.start(self.disks[0], ())

    def start(self, disk: Disk, history: History, last_round: int = 0) -> Process:
        """Start the site on a copy of a disk; every process writes an entry of its own."""
        disk = disk.copy()
        disk.book.grow(1, salt=len(self.processes))
        self.processes.append(Process(0, disk, self.sites, self.collusion, history, last_round))
        self.acquaint()
        return self.processes[-1]

    def acquaint(self) -> None:
        """Let everybody know the peers, who are not copied: that is another rule."""
        for each in (*self.peers.values(), *self.processes):
            for member, peer in self.peers.items():
                if member != each.member:
                    each.witness._answered[member] = peer.witness._nonce
        for member in self.honest:
            peer = self.peers[member]
            for other in range(self.sites):
                if other != member and other not in peer.witness._receipts:
                    peer.witness.receive(other, receipt(peer.witness, member, other))

    def ask(self, process: Process, *members: int) -> None:
        for to in members or tuple(self.peers):
            if to in self.liars:
                process.witness.receive(to, receipt(process.witness, 0, to))
            else:
                Net({0: process.witness, to: self.peers[to].witness}).send(0, to, process.witness._question(to))

    def round(self, number: int, process: Process, *members: int) -> bool:
        """Ask the site, honest members and all liars for a round, and open it if all have one history."""
        everybody = [process, *(self.peers[member] for member in members)]
        of = roster(process.witness, *(self.peers[each].witness for each in {*members, *self.liars}))
        uploaded = [
            (each.history, each.place(number)) for each in everybody if each.upload(Step(number, len(each.history), of))
        ]
        if len(uploaded) < len(everybody) or len(set(uploaded)) > 1:
            return False
        self.opened[number, uploaded[0][0]] = uploaded[0][1]
        return True

    def summed(self, number: int, process: Process, *members: int) -> bool:
        """The same, and everybody in it gets the sum."""
        done = self.round(number, process, *members)
        for each in (process, *(self.peers[member] for member in members)):
            if done:
                each.accept(number, f"sum {number}")
        return done

    def overdrawn(self) -> list[str]:
        """Stages that were summed with the site in them more often than it reserved."""
        times = Counter(each.stage for each in self.opened.values())
        return [STAGES[stage].kind for stage, number in times.items() if number > STAGES[stage].uploads]


def begun(world: World) -> Process:
    """A first process that sums the long stage and the short one with half of the honest peers."""
    (first,) = world.processes
    half = world.honest[: world.least]
    world.ask(first)
    assert all(world.summed(number, first, *half) for number in (1, 2))
    assert world.round(3, first, *half)  # the short stage: opened, and nobody but the coordinator sees the sum
    assert world.opened[3, first.history] == Placed(3, 1, 2)
    return first


def short_stage_again(world: World) -> bool:
    """The gap that there was: round 4 ends the long stage in vain, round 5 is the short one's in this history."""
    copy = world.start(begun(world).disk, ())
    world.ask(copy)
    return world.round(5, copy, *world.honest[-world.least :])
