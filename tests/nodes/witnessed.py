"""`tests.federation` with ledgers: sites are witnessed before they upload, and notes travel on the same wires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dp.witness import quorum
from nodes.notes import Note
from nodes.rehearsal import MemoryHeld
from nodes.windows import Placed
from nodes.witnessing import Peer, Witnessing
from secagg import Manifest
from secagg.messages import Finish, Step, Sum, Upload
from tests import federation
from tests.federation import Study, identity
from tests.nodes.witnesses import Ledger

_PATIENCE = 5  # turns of asking, before a test gives a site up


@dataclass
class Disk(federation.Disk):
    """What survives a site's process: its ledger and what it holds of others, too."""

    book: Ledger = field(default_factory=Ledger)
    held: MemoryHeld = field(default_factory=MemoryHeld)

    def copy(self) -> Disk:
        held = MemoryHeld(dict(self.held.rows))
        return Disk(self.snapshot, list(self.uploads), dict(self.data), list(self.applied), self.book.copy(), held)


class Site(federation.Site):
    """The shell as `nodes.session` is: a step waits until the ledger is witnessed."""

    disk: Disk

    def __init__(self, of: Manifest, member: int, study: Study, disk: Disk, start: str, *, chunk: int) -> None:
        super().__init__(of, member, study, disk, start, chunk=chunk)
        disk.book.grow(1, salt=int(start))  # every process writes an entry of its own
        self.witness = Witnessing(
            member,
            disk.book.statement(f"site-{member}"),
            disk.book.links,
            identity(member),
            {each: Peer(f"site-{each}", identity(each).public) for each in of.indices if each != member},
            quorum=quorum(len(of.indices), of.collusion),
            nonce=self.client.hello().nonce,
            held=disk.held,
            place=lambda number: Placed(number, 0, 0),
            last_round=self.client.last_round,
        )
        self.held: Step | None = None
        self.asked = 0

    def questions(self) -> list[Any]:
        return [Note(to, octets) for to, octets in self.witness.questions()]

    def receive(self, message: Any) -> list[Any]:
        match message:
            case Note(sender, octets):
                answers = [Note(to, answer) for to, answer in self.witness.receive(sender, octets)]
                step = self.held
                if step is not None and self.witness.admits(step):
                    self.held = None
                    answers += super().receive(step)
                return answers
            case Step() if not self.witness.admits(message):
                self.held = message
                return self.questions()
            case Sum() | Finish() | Step():
                self.held = None  # its round is over
        return super().receive(message)

    def upload(self, step: Step) -> Upload:
        assert self.witness.admits(step)
        self.witness.uploaded(step)
        self.disk.book.grow(1)
        return super().upload(step)

    def greet(self) -> list[Any]:
        return [*super().greet(), *self.questions()]


class Federation(federation.Federation):
    """Sites that witness each other."""

    def __init__(self, of: Manifest, study: Study | None = None, **arguments: Any) -> None:
        super().__init__(of, study or Study(), **arguments)
        self.disks = {member: Disk() for member in of.indices}

    def start(self, *members: int) -> None:
        for member in members or self.manifest.indices:
            self.starts += 1
            study = self.studies.get(member, self.study)
            disk: Any = self.disks[member]
            self.sites[member] = Site(self.manifest, member, study, disk, str(self.starts), chunk=self.chunk)
            self.connect(member)

    def deliver(self, member: int, message: Any) -> None:
        if not isinstance(message, Note):
            super().deliver(member, message)
        elif message.member in self.down:
            self.down[message.member].append(Note(member, message.octets))

    def step(self) -> bool:
        if super().step():
            return True
        asked = [self._ask_again(each) for each in self.waiting()]  # all of them
        return any(asked)

    def waiting(self) -> Iterator[Site]:
        """Sites that hold a step back."""
        for site in list(self.sites.values()):
            if isinstance(site, Site) and site.held is not None and site.member in self.up:
                yield site

    def _ask_again(self, site: Site) -> bool:
        """A second has passed."""
        site.asked += 1
        if site.asked > _PATIENCE:
            return False
        self.up[site.member].extend(site.questions())
        return True
