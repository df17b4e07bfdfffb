"""Sites that only witness each other's ledgers: real ledgers, keys and notes, and a coordinator that a test plays."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dp import ledger
from dp.chain import Entry, Link
from dp.entries import Grant
from dp.events import Account
from dp.witness import Statement, links, quorum, recovery, statement
from nodes.rehearsal import MemoryHeld
from nodes.windows import Placed
from nodes.witness_notes import OBJECTION, QUESTION, RECEIPT, STATEMENT, Objection, Question, Receipt, digest
from nodes.witnessing import Peer, Witnessing
from secagg.keys import Identity

AT = "2026-11-25T12:00:00.000000+00:00"
IDENTITIES = [Identity(bytes([index]) * 32) for index in range(12)]
NAMES = [f"site-{index}" for index in range(12)]


@dataclass
class Ledger:
    """A ledger in memory: `nodes.witnessing.Book`."""

    entries: list[Entry] = field(default_factory=list)

    def grow(self, number: int = 1, salt: int = 0) -> Ledger:
        """Append so many entries; another salt gives other ones."""
        for _ in range(number):
            epsilon = 1.0 + len(self.entries) + salt / 1024
            self._append("grant", Grant(Account.TRAINING, epsilon, 1e-5).body())
        return self

    def recover(self, statements: Sequence[Statement]) -> Ledger:
        item = recovery(statements)
        self._append(item.KIND, item.body())
        return self

    def copy(self, length: int | None = None) -> Ledger:
        """What a backup holds of it."""
        return Ledger(self.entries[:length])

    def statement(self, site: str) -> Statement:
        return statement(_state(self.entries), site)

    def links(self, after: int) -> tuple[Link, ...]:
        return links(self.entries, after)

    def _append(self, kind: str, body: object) -> None:
        self.entries.append(ledger.append(_state(self.entries), kind, body, AT))  # type: ignore[arg-type]


_STATES: dict[str, ledger.State] = {}  # by hash of the last entry, which tells the whole chain


def _state(entries: list[Entry]) -> ledger.State:
    if not entries:
        return ledger.State()
    key = entries[-1].hash
    if key not in _STATES:
        _STATES[key] = _state(entries[:-1]).after(entries[-1])
    return _STATES[key]


@dataclass
class Disk:
    """What survives a site's process."""

    book: Ledger = field(default_factory=Ledger)
    held: MemoryHeld = field(default_factory=MemoryHeld)

    def copy(self, length: int | None = None) -> Disk:
        """An old backup, or a clone."""
        return Disk(self.book.copy(length), MemoryHeld(dict(self.held.rows)))


def party(
    member: int,
    disk: Disk,
    sites: int = 4,
    collusion: int = 1,
    peers: Sequence[int] | None = None,
    confirmed: Callable[[Statement], None] = lambda _: None,
    last_round: int = 0,
    place: Callable[[int], Placed] = lambda number: Placed(number, 0, 0),
) -> Witnessing:
    """Start a process of a site; member indices count from 0 here."""
    others = [each for each in range(sites) if each != member] if peers is None else peers
    return Witnessing(
        member,
        disk.book.statement(NAMES[member]),
        disk.book.links,
        IDENTITIES[member],
        {each: Peer(NAMES[each], IDENTITIES[each].public) for each in others},
        quorum=quorum(sites, collusion),
        nonce=os.urandom(32),
        held=disk.held,
        place=place,
        last_round=last_round,
        confirmed=confirmed,
    )


@dataclass
class Net:
    """An honest coordinator between parties; `to` may change, drop or multiply what it carries."""

    parties: dict[int, Witnessing]
    carry: Callable[[int, int, bytes], list[tuple[int, int, bytes]]] = lambda sender, to, octets: [(sender, to, octets)]

    def ask(self, *members: int) -> None:
        """Let members ask, and carry everything that follows."""
        for member in members or tuple(self.parties):
            for to, octets in self.parties[member].questions():
                self.send(member, to, octets)

    def send(self, sender: int, to: int, octets: bytes) -> None:
        for said, arrives, note in self.carry(sender, to, octets):
            if arrives in self.parties:
                for back, answer in self.parties[arrives].receive(said, note):
                    self.send(arrives, back, answer)


def start(disks: dict[int, Disk], *members: int) -> Net:
    """Start these sites, all by default."""
    return Net({member: party(member, disks[member], len(disks)) for member in members or tuple(disks)})


def consortium(sites: int = 4, entries: int = 3) -> dict[int, Disk]:
    """Sites with a few entries each."""
    return {member: Disk(Ledger().grow(entries, salt=member)) for member in range(sites)}


def head(disk: Disk, member: int) -> Statement:
    return disk.book.statement(NAMES[member])


def held(by: Disk, of: int) -> Statement:
    return Statement.decode(by.held.rows[IDENTITIES[of].public].statement)


def objection(to: Witnessing, statement: Statement, signer: int, nonce: bytes | None = None, by: int = 1) -> bytes:
    """What the peer `by` shows site 0: a statement, signed by whomever."""
    octets, nonce = statement.encode(), to._nonce if nonce is None else nonce
    shown = IDENTITIES[by].sign(OBJECTION, nonce, digest(octets), IDENTITIES[0].public)
    return Objection(nonce, octets, IDENTITIES[signer].sign(STATEMENT, octets), shown).encode()


def question(signer: int, statement: bytes, nonce: bytes = bytes(32), links: tuple[Link, ...] = ()) -> bytes:
    """A question about any statement, rightly signed."""
    key = IDENTITIES[signer]
    asked = key.sign(QUESTION, nonce, digest(statement))
    return Question(nonce, statement, key.sign(STATEMENT, statement), asked, links=links).encode()


def receipt(
    to: Witnessing, asker: int, signer: int, round_: int = 0, stage: int = 0, start: int = 0, **changes: bytes
) -> bytes:
    nonce, named = changes.get("nonce", to._nonce), changes.get("named", digest(to._octets))
    whose, by = changes.get("whose", IDENTITIES[asker].public), changes.get("by", bytes([signer]) * 32)
    signature = IDENTITIES[signer].sign(RECEIPT, nonce, named, whose, round_, stage, start, by)
    return Receipt(nonce, named, Placed(round_, stage, start), by, signature).encode()
