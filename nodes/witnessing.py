"""Peers that remember where this site's ledger was: what a restored disk or a copied directory cannot know.

A ledger proves its own history and nothing beyond its own last line. A backup that is restored, a cloned machine and a
second copy of the directory all begin with a perfectly valid chain that lacks what was spent since. So a site shows its
peers, at every start of its process, a signed statement of its ledger, and uploads nothing before enough of them have
answered that the statement extends the last one they hold (`dp.witness.extends`).

=====================================================  =================================================================
what comes                                             what this party does
=====================================================  =================================================================
a peer's question: the first, or it extends the held   **stores it, then** answers with a receipt
a peer's question: the held statement again            answers with a receipt
a peer's question: behind the held, beside it, a gap   answers with an objection: the held statement, which it signed
a receipt for this nonce and this statement            counts it
an objection: a statement of ours that ours extends    asks that peer again, now with the links between the two
an objection: a statement of ours that ours lacks      is never ready again; `require` raises
anything else                                          ignores it
=====================================================  =================================================================

Everything else: a member that is not pinned, another nonce (an answer to an earlier start of the process), another
statement, a signature that does not verify, octets that are no note. None of it is an error, because the coordinator
hands over whatever it likes. It can keep a site from uploading by dropping notes, as it can by dropping anything; it
cannot make one ready, nor stop one with a forged objection: that needs this site's own signature.

Any two sets of `quorum` peers share an honest one: two copies of a site's directory cannot both be witnessed, each by
its own half of the consortium.

Sans-IO: notes go in and come out; the held statements are in the store that is handed in.
Source: docs/reference/witness-protocol.md, which specifies every octet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dp.chain import Link
from dp.errors import DPError, ForkedLedger, RollbackDetected
from dp.witness import Statement, extends, quorum
from nodes.store import WitnessedRow
from nodes.study import Study
from nodes.witness_notes import RECEIPT, STATEMENT, Objection, Question, Receipt, digest, read
from secagg.errors import BadSignature
from secagg.keys import verify

__all__ = ["Held", "Objected", "Peer", "Witnessing", "witnessing"]


class Signer(Protocol):
    """This site's identity; `secagg.keys.Identity` is one."""

    @property
    def public(self) -> bytes:
        """The public key."""

    def sign(self, purpose: str, *values: bytes) -> bytes:
        """Sign values for one purpose."""


class Held(Protocol):
    """Where other sites' statements are durable; `nodes.store.SiteStore` is one."""

    def witnessed(self, identity: bytes, /) -> WitnessedRow | None:
        """Return what is held of a site."""

    def witness(self, row: WitnessedRow, /) -> None:
        """Hold a statement; on the disk when this returns."""


class Book(Protocol):
    """A site's ledger as its peers see it; `nodes.accounts.Accounts` is one."""

    def statement(self, site: str, /) -> Statement:
        """Return what the site says about its ledger."""

    def links(self, after: int, /) -> Sequence[Link]:
        """Return what follows an entry."""


@dataclass(frozen=True)
class Peer:
    """Another site of the study, pinned here.

    Args:
        name: in the study.
        identity: Ed25519 public key, 32 octets.
    """

    name: str
    identity: bytes


@dataclass(frozen=True)
class Objected:
    """A statement that this site has signed and that its present ledger lacks.

    Args:
        statement: what peers hold.
        signature: by this site's identity.
        peers: their names.
        problem: how the two ledgers differ.
    """

    statement: Statement
    signature: bytes = field(repr=False)
    peers: tuple[str, ...]
    problem: type[RollbackDetected | ForkedLedger]


class Witnessing:
    """One start of one site's process: is our ledger the one that our peers know, and what do we know of theirs?

    Args:
        statement: of this site's ledger, made after the study's reservation is in it.
        links: returns what follows an entry of this site's ledger, oldest first.
        identity: signs for this site.
        peers: the other members of the study by index, pinned ones only.
        quorum: receipts that are needed; `dp.witness.quorum`.
        nonce: 32 fresh octets, in memory only.
        held: what this site holds of its peers' ledgers.
        confirmed: called with the statement when the quorum is there, before this party is ready.
    """

    def __init__(
        self,
        statement: Statement,
        links: Callable[[int], Sequence[Link]],
        identity: Signer,
        peers: Mapping[int, Peer],
        *,
        quorum: int,
        nonce: bytes,
        held: Held,
        confirmed: Callable[[Statement], None] = lambda _: None,
    ) -> None:
        self._confirmed = confirmed
        self._statement = statement
        self._octets = statement.encode()
        self._signature = identity.sign(STATEMENT, self._octets)
        self._links = links
        self._identity = identity
        self._peers = dict(peers)
        self._quorum = quorum
        self._nonce = nonce
        self._held = held
        self._receipts: set[int] = set()
        self._after: dict[int, int] = {}  # member → entry after which it lacks our links
        self._hurried: set[int] = set()  # peers that have been asked twice since the last `questions`
        self._objected: dict[str, Objected] = {}  # by hash of the head that we lack
        self._objectors: set[int] = set()
        self._turns = 0  # calls of `questions` since the first objection

    @property
    def ready(self) -> bool:
        """Whether this site may upload."""
        return len(self._receipts) >= self._quorum and not self._objected

    @property
    def objections(self) -> tuple[Objected, ...]:
        """What speaks against this site's ledger, the longest ledger last."""
        return tuple(sorted(self._objected.values(), key=lambda each: each.statement.sequence))

    def missing(self) -> tuple[str, ...]:
        """Return the names of the peers that have not answered for our ledger."""
        return tuple(peer.name for member, peer in self._peers.items() if member not in self._receipts)

    def require(self) -> None:
        """Raise what speaks against this site's ledger, as soon as everybody has had time to speak.

        The others may hold a longer one, and recovering needs the longest: so this waits for all peers, or for the
        second `questions` after the first objection.

        Raises:
            RollbackDetected: peers hold a statement about an entry that this ledger has not reached.
            ForkedLedger: peers hold a statement about another entry in the place of one of this ledger.
        """
        heard = self._receipts | self._objectors
        if not self._objected or (self._turns < 2 and not heard >= set(self._peers)):
            return
        raise self.refusal()

    def refusal(self) -> RollbackDetected | ForkedLedger:
        """Return the error that says what is wrong with this site's ledger; there is an objection."""
        worst = self.objections[-1]
        peers = ", ".join(sorted({name for each in self.objections for name in each.peers}))
        return worst.problem(
            f"this site's ledger ends with entry {self._statement.sequence} and is not the one that {peers} have seen "
            f"up to entry {worst.statement.sequence}: the data directory was restored from an old copy, or another "
            "copy of it is in use. Nothing was uploaded. Stop every other copy, then run: haemfed budget recover"
        )

    def questions(self) -> list[tuple[int, bytes]]:
        """Return what to ask, and to ask again: (member, note) for every peer that has not answered."""
        self._hurried.clear()
        self._turns += bool(self._objected)
        return [(member, self._question(member)) for member in self._peers if member not in self._receipts]

    def receive(self, member: int, octets: bytes) -> list[tuple[int, bytes]]:
        """Take a note and return what to answer.

        Args:
            member: from whom, as the coordinator says.
            octets: the note.

        Raises:
            StorageProblem: a statement cannot be stored; it is not answered for.
        """
        peer = self._peers.get(member)
        if peer is None:
            return []
        match read(octets):
            case Question() as question:
                return [(member, answer) for answer in self._witness(peer, question)]
            case Receipt() as receipt if receipt.nonce == self._nonce and receipt.digest == digest(self._octets):
                # Our own key in it: a receipt is for one asker and no other.
                values = (receipt.nonce, receipt.digest, self._identity.public)
                if _signed(peer.identity, receipt.signature, peer.name, RECEIPT, *values):
                    self._count(member)
            case Objection() as objection if objection.nonce == self._nonce:
                return self._weigh(member, peer, objection)
        return []

    def _count(self, member: int) -> None:
        if member not in self._receipts and len(self._receipts) + 1 == self._quorum and not self._objected:
            self._confirmed(self._statement)
        self._receipts.add(member)

    def _question(self, member: int) -> bytes:
        after = self._after.get(member, self._statement.sequence)
        # The ledger grows while the study runs; the statement is about one entry of it.
        links = [link for link in self._links(after) if link.sequence <= self._statement.sequence]
        return Question(self._nonce, self._octets, self._signature, tuple(links)).encode()

    def _witness(self, peer: Peer, question: Question) -> list[bytes]:
        """Hold a peer's statement if it extends the one that is held; answer for what is on the disk, nothing else."""
        if not _signed(peer.identity, question.signature, peer.name, STATEMENT, question.statement):
            return []
        stated = _decoded(question.statement, peer.name)
        if stated is None:
            return []
        row = self._held.witnessed(peer.identity)
        if row is not None and row.statement != question.statement:
            try:
                extends(Statement.decode(row.statement), stated, question.links)
            except (DPError, ValueError):  # whatever is in a recovery's body is the peer's
                return [Objection(question.nonce, row.statement, row.signature).encode()]
        if row is None or row.sequence < stated.sequence:
            self._held.witness(WitnessedRow(peer.identity, stated.sequence, question.statement, question.signature))
        named = digest(question.statement)
        signature = self._identity.sign(RECEIPT, question.nonce, named, peer.identity)
        return [Receipt(question.nonce, named, signature).encode()]

    def _weigh(self, member: int, peer: Peer, objection: Objection) -> list[tuple[int, bytes]]:
        """Compare our own ledger with a statement that we have signed ourselves; the peer's opinion does not count."""
        site = self._statement.site
        if not _signed(self._identity.public, objection.signature, site, STATEMENT, objection.statement):
            return []
        held = _decoded(objection.statement, site)
        if held is None:
            return []
        links = [link for link in self._links(held.sequence) if link.sequence <= self._statement.sequence]
        try:
            extends(held, self._statement, links)
        except (RollbackDetected, ForkedLedger) as error:
            self._objectors.add(member)
            before = self._objected.get(held.hash)
            names = {peer.name, *(before.peers if before is not None else ())}
            self._objected[held.hash] = Objected(held, objection.signature, tuple(sorted(names)), type(error))
            return []
        # It only lacks what lies between. At once, but once until the next turn: nobody gets us to talk without end.
        self._after[member] = held.sequence
        if member in self._hurried:
            return []
        self._hurried.add(member)
        return [(member, self._question(member))]


def witnessing(
    study: Study,
    site: str,
    identity: Signer,
    pins: frozenset[bytes],
    book: Book,
    *,
    nonce: bytes,
    held: Held,
    confirmed: Callable[[Statement], None] = lambda _: None,
) -> Witnessing:
    """Begin to witness in a study: every other listed site that is pinned here is a peer.

    Args:
        study: names the sites, and how many may collude.
        site: name of this one.
        identity: signs for it.
        pins: identities that this site has pinned itself.
        book: its ledger, with the study's reservation in it.
        nonce: 32 fresh octets, in memory only.
        held: what it holds of its peers' ledgers.
        confirmed: see `Witnessing`.

    Raises:
        MisuseError: so many sites may collude that no number of peers is enough.
    """
    peers = {
        each.index: Peer(each.name, key)
        for each, key in zip(study.sites, study.identities(), strict=True)
        if each.name != site and key in pins
    }
    needed = quorum(len(study.sites), study.privacy.collusion)
    statement = book.statement(site)
    return Witnessing(
        statement, book.links, identity, peers, quorum=needed, nonce=nonce, held=held, confirmed=confirmed
    )


def _signed(identity: bytes, signature: bytes, who: str, purpose: str, *values: bytes) -> bool:
    try:
        verify(identity, signature, who, purpose, *values)
    except BadSignature:
        return False
    return True


def _decoded(octets: bytes, site: str) -> Statement | None:
    try:
        statement = Statement.decode(octets)
    except DPError:
        return None
    return statement if statement.site == site else None
