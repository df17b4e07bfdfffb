"""Witnesses, anchor and the order in which a site asks: no upload from a ledger that nobody has confirmed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dp.checks.way_out import NONCE, NOW, step, study


def receipts_of_an_earlier_process_are_worth_nothing() -> None:
    """A clone that listens to the answers its original got is not witnessed by them."""
    from tests.nodes.witnesses import consortium, party, start

    disks = consortium()
    net = start(disks)
    heard: list[tuple[int, bytes]] = []

    def listen(sender: int, to: int, octets: bytes) -> list[tuple[int, int, bytes]]:
        heard.extend([(sender, octets)] * (to == 0))
        return [(sender, to, octets)]

    net.carry = listen
    net.ask(0)
    assert net.parties[0].ready
    assert heard
    clone = party(0, disks[0])
    for sender, octets in heard:
        clone.receive(sender, octets)
    assert not clone.ready


def a_quorum_of_pinned_peers_witnesses_and_nobody_less() -> None:
    """The mark that lets a run upload is set once, by the quorum's last receipt; who is not pinned is nobody."""
    from nodes.rehearsal import EmptyBook, MemoryHeld
    from nodes.witnessing import witnessing
    from secagg.keys import Identity
    from tests.nodes.witnesses import Net, consortium, party

    disks = consortium(6)
    marked: list[int] = []
    asking = party(0, disks[0], 6, confirmed=lambda seen: marked.append(seen.sequence))
    others = {member: party(member, disks[member], 6) for member in range(1, 6)}
    for answering in range(1, 6):
        net = Net({0: asking, answering: others[answering]})
        net.ask(0)
        assert asking.ready == (answering >= 4)
        assert marked == [2] * (answering >= 4)

    of = study()
    pins = frozenset(of.identities()[:2])
    own = Identity(bytes([1]) * 32)
    one = witnessing(of, "site-1", own, pins, EmptyBook(), nonce=NONCE, held=MemoryHeld(), sums=list)
    assert one.missing() == ("site-2",)
    assert [member for member, _ in one.questions()] == [2]
    stranger = witnessing(
        of,
        "site-3",
        Identity(bytes([3]) * 32),
        frozenset(of.identities()),
        EmptyBook(),
        nonce=NONCE,
        held=MemoryHeld(),
        sums=list,
    )
    for member, octets in stranger.questions():
        assert member != 1 or not one.receive(3, octets)


def a_restored_site_is_told_so() -> None:
    """Peers hold what they have answered for, over a restart: an older ledger gets objections and no quorum."""
    from dp.errors import RollbackDetected
    from tests.nodes.witnesses import consortium, start

    disks = consortium()
    start(disks).ask()
    backup = disks[0].copy()
    disks[0].book.grow(3)
    net = start(disks)
    net.ask()
    assert net.parties[0].ready
    again = start({**disks, 0: backup})
    again.ask(0)
    again.ask(0)
    assert not again.parties[0].ready
    with pytest.raises(RollbackDetected):
        again.parties[0].require()


def a_liar_stops_nobody() -> None:
    """An objection counts only with this site's own signature under the statement that it lacks."""
    from nodes.witness_notes import OBJECTION, STATEMENT, Objection, digest
    from tests.nodes.witnesses import IDENTITIES, NAMES, consortium, start

    disks = consortium()
    net = start(disks)
    longer = disks[0].copy().book.grow(4).statement(NAMES[0]).encode()
    for liar in (1, 2, 3):
        nonce, me = net.parties[0]._nonce, IDENTITIES[0].public
        shown = IDENTITIES[liar].sign(OBJECTION, nonce, digest(longer), me)
        forged = Objection(nonce, longer, IDENTITIES[liar].sign(STATEMENT, longer), shown)
        net.parties[0].receive(liar, forged.encode())
    net.ask()
    assert not net.parties[0].objections
    assert net.parties[0].ready


def nothing_is_charged_before_the_ledger_is_witnessed() -> None:
    """A statement from before this process's own entry does not do, and another process earns its own receipts."""
    from dp.errors import NotWitnessed
    from nodes.accounts import Accounts
    from nodes.store import SiteStore
    from tests.nodes.studies import make
    from tests.nodes.test_accounts import send

    with tempfile.TemporaryDirectory() as place, SiteStore(Path(place) / "site.sqlite3") as store:
        accounts = Accounts(store, lambda: NOW)
        accounts.grant("training", 2.0, 1e-5)
        accounts.grant("holdout", 2.0, 1e-5)
        old = accounts.statement("alder")
        run, _ = make()
        accounts.approve(run)
        accounts.open(run)
        entries = accounts.entries
        with pytest.raises(NotWitnessed):
            send(accounts, run)
        with pytest.raises(NotWitnessed):
            accounts.mark_witnessed(run.run_id, old)
        with pytest.raises(NotWitnessed):
            send(accounts, run)
        assert accounts.entries == entries
        accounts.mark_witnessed(run.run_id, accounts.statement("alder"))
        send(accounts, run)
        assert accounts.entries == entries + 1
        # Another process on the same ledger earns its own receipts.
        again = Accounts(store, lambda: NOW)
        again.open(run)
        with pytest.raises(NotWitnessed):
            send(again, run)


class NotReady:
    """A witness whose peers have not answered."""

    def admits(self, _step: Any) -> bool:
        return False

    def uploaded(self, _step: Any) -> None:
        """Whatever."""

    def missing(self) -> tuple[str, ...]:
        return ("birch",)


def a_session_sends_no_upload_before_the_ledger_is_witnessed() -> None:
    from dp.errors import NotWitnessed
    from nodes.loopback import LoopbackLink
    from nodes.session import Session
    from secagg.messages import Upload

    kept: list[bytes] = []
    client: Any = SimpleNamespace(snapshot=lambda: b"")
    session = Session(
        client,
        LoopbackLink(None),  # type: ignore[arg-type]
        NotReady(),
        keep=kept.append,
        patience=1.0,
        now=lambda: 0.0,
        sleep=lambda _: None,  # type: ignore[arg-type]
    )
    session._step = step(1)
    with pytest.raises(NotWitnessed):
        session.send(Upload(1, 1, bytes(32)))
    assert not kept


def a_restored_directory_is_noticed_without_any_peer() -> None:
    """The anchor lies beside the data directory: an older database, another branch of it, and a lost anchor stop."""
    from dp.errors import LedgerCorrupt
    from nodes.accounts import Accounts
    from nodes.anchor import Anchor
    from nodes.store import SiteStore

    with tempfile.TemporaryDirectory() as place:
        database, anchor = Path(place) / "site.sqlite3", Anchor(Path(place) / "anchor", "alder")

        def grants(*epsilons: float) -> None:
            with SiteStore(database) as store:
                accounts = Accounts(store, lambda: NOW, anchor)
                for epsilon in epsilons:
                    accounts.grant("training", epsilon, 1e-5)

        grants(2.0)
        old, said = database.read_bytes(), anchor.path.read_bytes()
        grants(2.1, 2.2)
        newest = anchor.path.read_bytes()
        database.write_bytes(old)
        with pytest.raises(LedgerCorrupt):
            grants()
        anchor.path.write_bytes(said)
        grants(2.3, 2.4)  # another branch, as long as the first
        anchor.path.write_bytes(newest)
        with pytest.raises(LedgerCorrupt):
            grants()
        anchor.path.unlink()
        with pytest.raises(LedgerCorrupt):
            grants()


def a_restored_process_opens_no_stage_again() -> None:
    """Led along another history by peers that were absent before: who was there before has named the stage."""
    from tests.nodes.restored import World, begun, short_stage_again

    for size in ((4, 1), (5, 2)):
        world = World(*size)
        assert not short_stage_again(world)
        assert not world.overdrawn()
    # The same after a new start of whoever was there.
    world = World(4, 1)
    first = begun(world)
    world.peers[world.honest[0]] = world.peers[world.honest[0]].again()
    world.acquaint()
    copy = world.start(first.disk, ())
    world.ask(copy)
    assert copy.witness.ready
    assert not world.round(5, copy, world.honest[-1])


CHECKS = (
    receipts_of_an_earlier_process_are_worth_nothing,
    a_quorum_of_pinned_peers_witnesses_and_nobody_less,
    a_restored_site_is_told_so,
    a_liar_stops_nobody,
    nothing_is_charged_before_the_ledger_is_witnessed,
    a_session_sends_no_upload_before_the_ledger_is_witnessed,
    a_restored_directory_is_noticed_without_any_peer,
    a_restored_process_opens_no_stage_again,
)
