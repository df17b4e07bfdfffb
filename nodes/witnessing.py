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
a page of a long chain of links                        keeps it and asks for the next one
a receipt for this nonce and this statement            counts it
an objection: a statement of ours that ours extends    asks that peer again, now with the links between the two
an objection: a statement of ours that ours lacks      is never ready again; `require` raises
anything else                                          ignores it
=====================================================  =================================================================

Everything else: a member that is not pinned, another nonce (an answer to an earlier start of the process), another
statement, a signature that does not verify, octets that are no note. None of it is an error, because the coordinator
hands over whatever it likes. It can keep a site from uploading by dropping notes, as it can by dropping anything; it
cannot make one ready, nor stop one with a forged objection: that needs the peer's signature over this start's nonce and
this site's own over what is shown. A ledger belongs to an identity: a site that has another name on this study is asked
and answered as before.

Any two sets of `quorum` peers share an honest one: of two copies of a directory that have parted, only one is ready. A
copy that *goes on* from where the other one began (taken after the reservation) can be ready beside it. Yet for each
round number at most one sum opens that has this site in it. The nonce of a question is the session nonce under which
the asking process stands in a roster, and a site **uploads for a roster only if, for every other member of it, that
nonce is of the last question that it has answered with a receipt in this process**, and only with the receipts of a
quorum that the round *follows* (`nodes.windows.Placed`): a larger number, and no stage begun again. Take two processes
of one site, A and B, both ready, each for rosters of its own, B the one whose ledger is longer:

* A peer that has answered B answers A never again: A's statement is behind the one that it holds. Nor does it upload
  with A: B's is the last nonce that it has answered. These are at least q − c honest peers, so at most n − 1 − q honest
  ones are left to upload with A.
* A sum with A in it needs the uploads of m − 1 − c honest peers, m = n_min in mode A and t in mode B. The bounds of a
  manifest give n − 1 − q < m − 1 − c, for all n and c: after B is ready no sum with A can open, and for every one that
  has opened before, an honest peer has first uploaded and then answered B.
* That peer's receipt to B says so: it names that round or one that follows it, with the stage. B counts a receipt only
  for rounds that follow. So all sums, with A and with B, follow one another, and no stage has more than its uploads.

Sans-IO: notes go in and come out; the held statements are in the store that is handed in.
Source: docs/reference/witness-protocol.md, which specifies every octet.
"""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from operator import attrgetter

from dp.chain import Link
from dp.errors import DPError, ForkedLedger, RollbackDetected
from dp.witness import Statement, extends, quorum
from nodes.store import WitnessedRow
from nodes.study import Study
from nodes.windows import Placed, place
from nodes.witness_notes import (
    OBJECTION,
    QUESTION,
    RECEIPT,
    STATEMENT,
    More,
    Objection,
    Question,
    Receipt,
    digest,
    pages,
    read,
)
from nodes.witness_pages import Collected
from nodes.witness_roles import Book, Held, Objected, Peer, Signer
from secagg.encoding import Value
from secagg.errors import BadSignature
from secagg.keys import verify
from secagg.messages import Step

__all__ = ["Book", "Held", "Objected", "Peer", "Witnessing", "witnessing"]

_ROUND = attrgetter("round")


class Witnessing:
    """One start of one site's process: is our ledger the one that our peers know, and what do we know of theirs?

    Args:
        member: this site's index.
        statement: of this site's ledger, made after the study's reservation is in it.
        links: returns what follows an entry of this site's ledger, oldest first.
        identity: signs for this site.
        peers: the other members of the study by index, pinned ones only.
        quorum: receipts that are needed; `dp.witness.quorum`.
        nonce: the session nonce of this process's `secagg.client.Client`; in memory only.
        place: returns where a round stands in the study, after the sums that this site keeps by now.
        last_round: largest round number that this site had opened before this start of its process.
        held: what this site holds of its peers' ledgers.
        confirmed: called with the statement when the quorum is there, before this party is ready.
    """

    def __init__(
        self,
        member: int,
        statement: Statement,
        links: Callable[[int], Sequence[Link]],
        identity: Signer,
        peers: Mapping[int, Peer],
        *,
        quorum: int,
        nonce: bytes,
        held: Held,
        place: Callable[[int], Placed],
        last_round: int = 0,
        confirmed: Callable[[Statement], None] = lambda _: None,
    ) -> None:
        self._member = member
        self._confirmed = confirmed
        self._statement = statement
        self._octets = statement.encode()
        self._signature = identity.sign(STATEMENT, self._octets)
        self._asked = identity.sign(QUESTION, nonce, digest(self._octets))
        self._links = links
        self._identity = identity
        self._peers = dict(peers)
        self._quorum = quorum
        self._nonce = nonce
        self._held = held
        self._receipts: dict[int, Placed] = {}  # member → round that has to be followed for its receipt to count
        self._by: dict[int, bytes] = {}  # member → nonce of its process that gave us the last receipt
        self._answered: dict[int, bytes] = {}  # member → nonce of its last question that this process has answered
        self._place = place
        self._before = place(last_round)  # behind every round of before: this site has kept no fewer sums since
        self._uploads: defaultdict[int, dict[bytes, Placed]] = defaultdict(dict)  # member → nonce → last round with it
        self._collected = Collected()
        self._pages: dict[int, tuple[tuple[Link, ...], ...]] = {}  # what a member lacks of our links
        self._hurried: set[tuple[int, int]] = set()  # (member, page) that went out of turn since the last `questions`
        self._objected: dict[str, Objected] = {}  # by hash of the head that we lack
        self._objectors: set[int] = set()
        self._turns = 0  # calls of `questions` since the first objection

    @property
    def ready(self) -> bool:
        """Whether this site's ledger is witnessed."""
        return len(self._receipts) >= self._quorum and not self._objected

    @property
    def pending(self) -> bool:
        """Whether anybody is to be asked: this site is not ready, or a peer that has come by has not answered it."""
        return not self.ready or any(map(self._lacks, self._answered))

    def admits(self, step: Step) -> bool:
        """Whether this site may upload for a step: the receipts count for its round, and every nonce is answered."""
        here = self._place(step.round)
        counted = sum(here.follows(last) for last in self._receipts.values())
        known = all(
            hmac.compare_digest(self._nonce if member == self._member else self._answered.get(member, b""), nonce)
            for member, nonce in step.roster
        )
        return known and counted >= self._quorum and not self._objected

    def uploaded(self, step: Step) -> None:
        """Note that an upload for this step leaves now: receipts to other processes of its members must say so."""
        here = self._place(step.round)
        for member, nonce in step.roster:
            self._uploads[member][nonce] = here  # rounds only grow

    @property
    def objections(self) -> tuple[Objected, ...]:
        """What speaks against this site's ledger, the longest ledger last."""
        return tuple(sorted(self._objected.values(), key=lambda each: each.statement.sequence))

    def missing(self) -> tuple[str, ...]:
        """Return the names of the peers that have not answered for our ledger."""
        return tuple(peer.name for member, peer in self._peers.items() if member not in self._receipts)

    def renewed(self) -> tuple[str, ...]:
        """Return the names of peers of which another identity's ledger is held here: their key is a new one.

        A new key begins a new ledger. A person has pinned it, so it is answered; but nobody shall overlook it.
        """
        return tuple(
            peer.name
            for peer in self._peers.values()
            if any(
                (held := _decoded(row.statement)) is not None and held.site == peer.name
                for row in self._held.witnessed_of_others(peer.identity)
            )
        )

    def require(self) -> None:
        """Raise what speaks against this site's ledger, as soon as everybody has had time to speak.

        The others may hold a longer one, and recovering needs the longest: so this waits for all peers, or for the
        second `questions` after the first objection.

        Raises:
            RollbackDetected: peers hold a statement about an entry that this ledger has not reached.
            ForkedLedger: peers hold a statement about another entry in the place of one of this ledger.
        """
        heard = set(self._receipts) | self._objectors
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
        return [(member, self._question(member)) for member in self._peers if self._lacks(member)]

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
                answers = self._witness(member, peer, question, octets)
                if member in self._receipts and self._lacks(member):
                    answers += self._at_once(member)  # it has started anew and has to know us
                return [(member, answer) for answer in answers]
            case Receipt() as receipt if receipt.nonce == self._nonce and receipt.digest == digest(self._octets):
                # Our own key in it: a receipt is for one asker and no other.
                values = (receipt.nonce, receipt.digest, self._identity.public, *astuple(receipt.last), receipt.by)
                if _signed(peer.identity, receipt.signature, peer.name, RECEIPT, *values):
                    self._count(member, receipt)
            case More() as more if more.nonce == self._nonce and more.digest == digest(self._octets):
                if self._lacks(member):
                    return [(member, note) for note in self._at_once(member, more.page)]
            case Objection() as objection if objection.nonce == self._nonce:
                return [(member, note) for note in self._weigh(member, peer, objection)]
        return []

    def _lacks(self, member: int) -> bool:
        """Whether a member's present process, as far as it is known here, has given us no receipt."""
        return member not in self._receipts or self._answered.get(member, self._by[member]) != self._by[member]

    def _count(self, member: int, receipt: Receipt) -> None:
        if member not in self._receipts and len(self._receipts) + 1 == self._quorum and not self._objected:
            self._confirmed(self._statement)
        # Whoever has answered us does not upload with another process of ours any more: its first answer stays true.
        self._receipts[member] = min(receipt.last, self._receipts.get(member, receipt.last), key=_ROUND)
        self._by[member] = receipt.by

    def _question(self, member: int, page: int = 0) -> bytes:
        cut = self._pages.get(member, ((),))
        links = cut[page]
        return Question(self._nonce, self._octets, self._signature, self._asked, page, len(cut), links).encode()

    def _at_once(self, member: int, page: int = 0) -> list[bytes]:
        """Ask out of turn, but once until the next turn: nobody gets us to talk without end."""
        if (member, page) in self._hurried or page >= len(self._pages.get(member, ((),))):
            return []
        self._hurried.add((member, page))
        return [self._question(member, page)]

    def _witness(self, member: int, peer: Peer, question: Question, octets: bytes) -> list[bytes]:
        """Hold a peer's statement if it extends the one that is held; answer for what is on the disk, nothing else."""
        named = digest(question.statement)
        if not (
            _signed(peer.identity, question.signature, peer.name, STATEMENT, question.statement)
            and _signed(peer.identity, question.asked, peer.name, QUESTION, question.nonce, named)
        ):
            return []
        stated = _decoded(question.statement)
        if stated is None or stated.site != peer.name:
            return []
        row = self._held.witnessed(peer.identity)
        if row is not None and row.statement != question.statement:
            links = self._collected.add(member, question, octets, row.statement)
            if isinstance(links, int):
                return [More(question.nonce, named, links).encode()]
            try:
                # The chain is the identity's, whatever it was called when we saw it last.
                extends(replace(Statement.decode(row.statement), site=stated.site), stated, links)
            except (DPError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                # Whatever is in a recovery's body is the peer's, nonsense included.
                shown = self._identity.sign(OBJECTION, question.nonce, digest(row.statement), peer.identity)
                return [Objection(question.nonce, row.statement, row.signature, shown).encode()]
        if row is None or row.sequence < stated.sequence:
            self._held.witness(WitnessedRow(peer.identity, stated.sequence, question.statement, question.signature))
        self._answered[member] = question.nonce
        others = (upload for nonce, upload in self._uploads[member].items() if nonce != question.nonce)
        last = max((self._before, *others), key=_ROUND)
        values = (question.nonce, named, peer.identity, *astuple(last), self._nonce)
        signature = self._identity.sign(RECEIPT, *values)
        return [Receipt(question.nonce, named, last, self._nonce, signature).encode()]

    def _weigh(self, member: int, peer: Peer, objection: Objection) -> list[bytes]:
        """Compare our own ledger with a statement that we have signed ourselves; the peer's opinion does not count."""
        mine, site = self._identity.public, self._statement.site
        values = (objection.nonce, digest(objection.statement), mine)
        if not (
            _signed(peer.identity, objection.shown, peer.name, OBJECTION, *values)
            and _signed(mine, objection.signature, site, STATEMENT, objection.statement)
        ):
            return []
        held = _decoded(objection.statement)
        if held is None:
            return []
        links = [link for link in self._links(held.sequence) if link.sequence <= self._statement.sequence]
        try:
            extends(replace(held, site=site), self._statement, links)
        except (RollbackDetected, ForkedLedger) as error:
            self._objectors.add(member)
            before = self._objected.get(held.hash)
            names = {peer.name, *(before.peers if before is not None else ())}
            self._objected[held.hash] = Objected(held, objection.signature, tuple(sorted(names)), type(error))
            return []
        # It only lacks what lies between. (The ledger grows while the study runs; the statement is about one entry.)
        self._pages[member] = pages(links)
        return self._at_once(member)


def witnessing(
    study: Study,
    site: str,
    identity: Signer,
    pins: frozenset[bytes],
    book: Book,
    *,
    nonce: bytes,
    held: Held,
    sums: Callable[[], Sequence[int]],
    last_round: int = 0,
    confirmed: Callable[[Statement], None] = lambda _: None,
) -> Witnessing:
    """Begin to witness in a study: every other listed site that is pinned here is a peer.

    Args:
        study: names the sites, and how many may collude.
        site: name of this one.
        identity: signs for it.
        pins: identities that this site has pinned itself.
        book: its ledger, with the study's reservation in it.
        nonce: the session nonce of this process's `secagg.client.Client`; in memory only.
        held: what it holds of its peers' ledgers.
        sums: returns the round numbers of the sums that this site keeps by now.
        last_round: largest round number that this site had opened before this start of its process.
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
    return Witnessing(
        study.site(site).index,
        book.statement(site),
        book.links,
        identity,
        peers,
        quorum=needed,
        nonce=nonce,
        held=held,
        place=lambda number: place(study.stages, sums(), number),
        last_round=last_round,
        confirmed=confirmed,
    )


def _signed(identity: bytes, signature: bytes, who: str, purpose: str, *values: Value) -> bool:
    try:
        verify(identity, signature, who, purpose, *values)
    except BadSignature:
        return False
    return True


def _decoded(octets: bytes) -> Statement | None:
    try:
        return Statement.decode(octets)
    except DPError:
        return None
