"""The coordinator: executes what the blind adder decides, durably and in order.

It holds no model and chooses no privacy parameter; in mode B it is given what opens one sum of survivors, in mode A no
key at all. It can drop, delay and lie; what that costs is written in `docs/reference/secagg-protocol.md`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, cast

from nodes.chunks import cut
from nodes.errors import NodeError, StudyStopped
from nodes.notes import Note, NoteFrom, Received
from nodes.outbox import Outbox, SumAt, Sums, SumStore
from nodes.store import CoordinatorRun, StoredSetup
from secagg.actions import Action, Arm, Send, SendSums, Stop, StoreRound, StoreSetup, StoreSum
from secagg.actions import StoredSetup as SetupMessage
from secagg.manifest import Manifest
from secagg.messages import (
    Blame,
    Bundles,
    Confirmations,
    Encapsulations,
    Finish,
    FromServer,
    Hello,
    Invite,
    Part,
    Sum,
    Survivors,
    ToServer,
    decode,
    encode,
)
from secagg.server import Server

_LATECOMER_POLL = 0.2  # seconds
_COORDINATOR = 0  # the "member" under which the relay's own messages are stored

Notice = Callable[[str, dict[str, str | int | float]], None]


class Store(SumStore, Protocol):
    """What must be durable before anything that depends on it is sent; `nodes.store.CoordinatorStore` is one."""

    def state(self, run_id: bytes, /) -> CoordinatorRun | None:
        """Return the run."""

    def set_last_round(self, run_id: bytes, number: int, roster: tuple[int, ...], changes: int, /) -> None:
        """Reserve a round number, or count a change of who is in the last one."""

    def add_setup(self, run_id: bytes, kind: str, member: int, payload: bytes, /) -> None:
        """Keep a set-up message."""

    def setup(self, run_id: bytes, /) -> list[StoredSetup]:
        """Return the set-up messages."""

    def finish(self, run_id: bytes, reason: str, /, *, ok: bool) -> None:
        """End the run."""


class Coordinator:
    """Runs one study.

    Memory: the adder's vector, the newest sum, and small records; outboxes refer to sums. An upload is taken part by
    part: `deliver` returns when the part is added, and the caller reads no other before.

    Args:
        manifest: the projection of the signed study.
        store: durable rounds, set-up messages and sums.
        max_words: largest vector in 64-bit words that the study contains.
        deadline: seconds until a site that has not answered is missing.
        patience: seconds to wait for a minimum roster.
        notice: called with an event name and its public fields.
        pace: shortest time between two rounds in seconds; spares sites that share a machine.
        wake: set when the study has ended.
    """

    def __init__(
        self,
        manifest: Manifest,
        store: Store,
        *,
        max_words: int,
        deadline: float,
        patience: float,
        notice: Notice,
        pace: float = 0.0,
        wake: threading.Event | None = None,
    ) -> None:
        self.max_words = max_words
        self._run = manifest.run_id
        self._store = store
        self._waits = {"round": deadline, "patience": patience}
        self._notice = notice
        self._pace = pace
        self._members = frozenset(manifest.indices)
        self._served: set[int] = set()
        self._sums = Sums(store, self._run)
        stored = store.state(self._run) or CoordinatorRun(self._run, 0, (), 0, 0, None, None)
        self._round = stored.last_round
        self._server = Server(
            manifest,
            sums=self._sums.records(),
            last_round=stored.last_round,
            relayed=[cast("SetupMessage", decode(row.payload)) for row in store.setup(self._run)],
            max_words=max_words,
            roster=stored.roster,
            changes=stored.changes,
            finished=stored.reason or "",
        )
        self._lock = threading.Lock()
        self._outboxes: dict[int, Outbox] = {}
        self._actions: deque[tuple[Action, Outbox | None]] = deque()  # decided and not yet executed
        self._timer: threading.Timer | None = None
        self._pause: threading.Timer | None = None
        self._closed = False
        self._told: tuple[str, int] = ("", 0)
        self._wake = wake or threading.Event()
        self.reason = stored.reason or ""
        self.ended = bool(self.reason)
        self.ok = bool(stored.ok)
        self.failure: Exception | None = None
        if self.ended:
            self._wake.set()

    def attach(self, hello: Hello) -> Outbox:
        """Admit a connection; an older one of the same member is over.

        Raises:
            SecaggError: the Hello is not one of this study's members.
            StudyStopped: this process has failed or is stopping, and says nothing more.
        """
        outbox = Outbox()
        with self._lock:
            self._require_open()
            old = self._outboxes.pop(hello.member, None)
            if old is not None:
                old.close()
                self._execute(self._server.disconnect(hello.member))
            actions = self._server.connect(hello)
            self._outboxes[hello.member] = outbox
            self._notice("connected", {"member": hello.member, "sums": hello.sums})
            self._execute(actions)
        return outbox

    def deliver(self, member: int, outbox: Outbox, message: ToServer | Note) -> None:
        """Take a message from a member's current connection; one from a replaced connection is dropped.

        A note goes on to its addressee as it is. If that one is away, or has not read the last ones yet, it is dropped:
        whoever needs an answer asks again.

        Raises:
            SecaggError: the member broke the protocol; the connection must be closed.
            NodeError: this process has failed or is stopping, and says nothing more.
        """
        with self._lock:
            if self._outboxes.get(member) is outbox:
                self._require_open()
                if isinstance(message, Note):
                    self._relay(member, message)
                    return
                actions = self._server.receive(member, message)
                if isinstance(message, Part) and message.last:
                    self._notice("upload", {"member": member, "round": message.round, "bytes": message.size})
                self._execute(actions)

    def detach(self, member: int, outbox: Outbox) -> None:
        """Note that a connection is gone."""
        with self._lock:
            if self._outboxes.get(member) is outbox and not self._closed:
                del self._outboxes[member]
                self._notice("disconnected", {"member": member})
                self._execute(self._server.disconnect(member))

    def opened(self, item: FromServer | SumAt | NoteFrom) -> Iterator[Received]:
        """Yield what an outbox's item stands for, as it travels: a sum in pieces, one at a time, read when asked for.

        Raises:
            StorageProblem: the sum cannot be read.
        """
        match item:
            case SumAt(position):
                yield from self._sums.parts(position)
            case Sum():
                yield from cut(item)
            case NoteFrom():
                yield item.mailbox.take(item.sender)
            case _:
                yield item

    def wait_for_latecomers(self, seconds: float, interrupted: Callable[[], bool]) -> None:
        """Stay up after the end until every member has had its Finish, at most so long."""
        until = time.monotonic() + seconds
        while not self._members <= self._served and time.monotonic() < until and not interrupted():
            time.sleep(_LATECOMER_POLL)

    def close(self) -> None:
        """Stop timers and end every stream; the state on disk lets the next process go on.

        Nothing is decided any more: sites whose streams end now have not dropped out of anything.
        """
        with self._lock:
            self._silence()

    def _relay(self, sender: int, note: Note) -> None:
        # In memory, uncounted and unread: a note belongs to its two ends, and no decision here depends on one.
        to = self._outboxes.get(note.member)
        if to is not None and note.member != sender:
            to.put_note(sender, note.octets)

    def _silence(self) -> None:
        self._closed = True
        self._disarm()
        if self._pause is not None:
            self._pause.cancel()
        for outbox in self._outboxes.values():
            outbox.close()

    def _require_open(self) -> None:
        if self.failure is not None:
            raise StudyStopped("the coordinator's disk failed; it must be started again")
        if self._closed:
            raise StudyStopped("the coordinator is stopping; nothing is lost")

    def _execute(self, actions: list[Action]) -> None:
        """Execute actions after all decided before. What is sent goes to the connection it was meant for."""
        for action in actions:
            to = self._outboxes.get(action.member) if isinstance(action, Send | SendSums) else None
            self._actions.append((action, to))
        if self._pause is None:
            self._go_on()

    def _go_on(self) -> None:
        try:
            # In order: what must be durable before a message leaves stands before it.
            while self._actions:
                action, to = self._actions[0]
                if isinstance(action, StoreRound) and action.number > self._round and self._begin_pause():
                    return
                self._actions.popleft()
                self._perform(action, to)
        except Exception as error:
            # The adder's memory is now ahead of the disk. The disk is the truth, so this process must not say another
            # word; the next one starts from what was stored.
            self.failure = error
            self._silence()
            self._wake.set()
            raise

    def _begin_pause(self) -> bool:
        """Put the next round off by the pace, without keeping anybody from the lock; False if that has been done."""
        if self._pause is not None or not self._pace:
            self._pause = None
            return False
        self._disarm()  # its round is over; the next one's Arm is among what waits
        self._pause = _started(self._pace, self._paused)
        return True

    def _paused(self) -> None:
        with self._lock, suppress(NodeError):  # kept in `failure`, which ends the process
            if not self._closed:
                self._go_on()

    def _perform(self, action: Action, to: Outbox | None) -> None:
        match action:
            case Send(message=message) if to is not None:
                self._tell(message)
                to.put(message)
                if isinstance(message, Finish):
                    self._served.add(action.member)
                    to.close()
            case SendSums(start=start, stop=stop) if to is not None:
                for position in range(start, stop):
                    to.put(SumAt(position))
            case Arm(deadline=which):
                self._disarm()
                self._timer = _started(self._waits[which], self._expired)
            case StoreSetup() | StoreRound() | StoreSum() | Stop():
                self._keep(action)

    def _keep(self, action: StoreSetup | StoreRound | StoreSum | Stop) -> None:
        match action:
            case StoreSetup(message=message):
                self._tell(message)
                self._store.add_setup(self._run, type(message).__name__, _sender(message), encode(message))
            case StoreRound(number=number, roster=roster, changes=changes):
                self._store.set_last_round(self._run, number, roster, changes)
                if number > self._round:
                    self._notice("round", {"round": number, "roster": len(roster)})
                self._round = number
            case StoreSum(sum=total):
                self._sums.add(total)
                counts = {"roster": len(total.roster), "survivors": len(total.survivors)}
                self._notice("sum", {"round": total.round, **counts})
            case Stop(reason=reason, ok=ok):
                self._disarm()
                self._store.finish(self._run, reason, ok=ok)
                self.reason, self.ok, self.ended = reason, ok, True
                self._notice("stopped", {"reason": reason, "ok": int(ok)})
                self._wake.set()

    def _tell(self, message: FromServer | SetupMessage) -> None:
        """Log what goes to many as one event."""
        match message:
            case Invite(wave, newcomers):
                event, number, fields = "wave", wave, {"newcomers": len(newcomers)}
            case Survivors(round_, members):
                event, number, fields = "survivors", round_, {"survivors": len(members)}
            case Blame(round_):
                event, number, fields = "blame", round_, {}
            case _:
                return
        if self._told != (event, number):
            self._told = (event, number)
            self._notice(event, {"wave" if event == "wave" else "round": number, **fields})

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        with self._lock:
            if threading.current_thread() is not self._timer:
                return  # re-armed while this one waited for the lock
            self._notice("deadline", {})
            with suppress(NodeError):  # kept in `failure`, which ends the process
                self._execute(self._server.deadline())


def _sender(message: SetupMessage) -> int:
    match message:
        case Bundles() | Invite():
            return _COORDINATOR
        case Encapsulations() | Confirmations():
            return message.sender
    return message.member


def _started(seconds: float, then: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()
    return timer
