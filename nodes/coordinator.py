"""The coordinator: executes what the blind adder decides, durably and in order.

It holds no model, no key that opens anything and no privacy parameter. It can drop, delay and lie; what that costs is
written in `docs/reference/secagg-protocol.md`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from nodes.errors import NodeError, StudyStopped
from nodes.store import CoordinatorRun, StoredSetup, StoredSum
from secagg.manifest import Manifest
from secagg.messages import (
    Confirmations,
    Encapsulations,
    Finish,
    FromServer,
    Hello,
    SetupMessage,
    Sum,
    ToServer,
    Upload,
    decode,
    encode,
)
from secagg.server import Action, Arm, Send, Server, Stop, StoreRound, StoreSetup, StoreSum

_LATECOMER_POLL = 0.2  # seconds

Notice = Callable[[str, dict[str, str | int | float]], None]


class Store(Protocol):
    """What must be durable before anything that depends on it is sent; `nodes.store.CoordinatorStore` is one."""

    def state(self, run_id: bytes, /) -> CoordinatorRun | None:
        """Return the run."""

    def last_round(self, run_id: bytes, /) -> int:
        """Return the last reserved round number."""

    def set_last_round(self, run_id: bytes, number: int, roster: tuple[int, ...], changes: int, /) -> None:
        """Reserve a round number."""

    def add_setup(self, run_id: bytes, kind: str, member: int, payload: bytes, /) -> None:
        """Keep a set-up message."""

    def setup(self, run_id: bytes, /) -> list[StoredSetup]:
        """Return the set-up messages."""

    def add_sum(
        self, run_id: bytes, position: int, number: int, roster: list[tuple[int, bytes]], words: bytes, /
    ) -> None:
        """Keep a sum."""

    def sums(self, run_id: bytes, /) -> list[StoredSum]:
        """Return the sums."""

    def finish(self, run_id: bytes, reason: str, /, *, ok: bool) -> None:
        """End the run."""


class Outbox:
    """What is on its way to one connected site; `None` closes the stream."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[FromServer | None] = queue.SimpleQueue()

    def put(self, message: FromServer) -> None:
        """Queue a message."""
        self.messages.put(message)

    def close(self) -> None:
        """End the stream after what is queued."""
        self.messages.put(None)


class Coordinator:
    """Runs one study.

    Args:
        manifest: the projection of the signed study.
        store: durable rounds, set-up messages and sums.
        max_words: largest vector in 64-bit words that the study contains.
        deadline: seconds until a site that has not uploaded is missing.
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
        self._run = manifest.run_id
        self._store = store
        self._waits = {"round": deadline, "patience": patience}
        self._notice = notice
        self._pace = pace
        self._members = frozenset(manifest.indices)
        self._served: set[int] = set()
        stored = store.state(self._run)
        self._server = Server(
            manifest,
            sums=[Sum(row.round, tuple(row.roster), row.words) for row in store.sums(self._run)],
            last_round=store.last_round(self._run),
            relayed=[cast("SetupMessage", decode(row.payload)) for row in store.setup(self._run)],
            max_words=max_words,
            roster=stored.roster if stored is not None else (),
            changes=stored.changes if stored is not None else 0,
            finished=(stored.reason or "") if stored is not None else "",
        )
        self._lock = threading.Lock()
        self._outboxes: dict[int, Outbox] = {}
        self._timer: threading.Timer | None = None
        self._wake = wake or threading.Event()
        self.reason = (stored.reason or "") if stored is not None else ""
        self.ended = bool(self.reason)
        self.ok = bool(stored.ok) if stored is not None else False
        self.failure: Exception | None = None
        if self.ended:
            self._wake.set()

    def attach(self, hello: Hello) -> Outbox:
        """Admit a connection; an older one of the same member is over.

        Raises:
            SecaggError: the Hello is not one of this study's members.
            StudyStopped: this process has failed and says nothing more.
        """
        outbox = Outbox()
        with self._lock:
            self._require_sound()
            old = self._outboxes.pop(hello.member, None)
            if old is not None:
                old.close()
                self._execute(self._server.disconnect(hello.member))
            actions = self._server.connect(hello)
            self._outboxes[hello.member] = outbox
            self._notice("connected", {"member": hello.member, "sums": hello.sums})
            self._execute(actions)
            if self.ended:
                outbox.close()
        return outbox

    def deliver(self, member: int, outbox: Outbox, message: ToServer) -> None:
        """Take a message from a member's current connection; one from a replaced connection is dropped.

        Raises:
            SecaggError: the member broke the protocol; the connection must be closed.
        """
        with self._lock:
            if self._outboxes.get(member) is outbox:
                self._require_sound()
                if isinstance(message, Upload):
                    self._notice("upload", {"member": member, "round": message.round})
                self._execute(self._server.receive(member, message))

    def detach(self, member: int, outbox: Outbox) -> None:
        """Note that a connection is gone."""
        with self._lock:
            if self._outboxes.get(member) is outbox and self.failure is None:
                del self._outboxes[member]
                self._notice("disconnected", {"member": member})
                self._execute(self._server.disconnect(member))

    def wait_for_latecomers(self, seconds: float, interrupted: Callable[[], bool]) -> None:
        """Stay up after the end until every member has had its Finish, at most so long."""
        until = time.monotonic() + seconds
        while not self._members <= self._served and time.monotonic() < until and not interrupted():
            time.sleep(_LATECOMER_POLL)

    def close(self) -> None:
        """Stop timers and end every stream; the state on disk lets the next process go on."""
        with self._lock:
            self._disarm()
            for outbox in self._outboxes.values():
                outbox.close()

    def _require_sound(self) -> None:
        if self.failure is not None:
            raise StudyStopped("the coordinator's disk failed; it must be started again")

    def _execute(self, actions: list[Action]) -> None:
        try:
            self._perform(actions)
        except Exception as error:
            # The adder's memory is now ahead of the disk. The disk is the truth, so this process must not say another
            # word; the next one starts from what was stored.
            self.failure = error
            self._disarm()
            for outbox in self._outboxes.values():
                outbox.close()
            self._wake.set()
            raise

    def _perform(self, actions: list[Action]) -> None:
        # In order: what must be durable before a message leaves stands before it in the list.
        for action in actions:
            match action:
                case Send(member=member, message=message):
                    if (outbox := self._outboxes.get(member)) is not None:
                        outbox.put(message)
                        if isinstance(message, Finish):
                            self._served.add(member)
                case StoreSetup(message=message):
                    sender = message.sender if isinstance(message, Encapsulations | Confirmations) else message.member
                    self._store.add_setup(self._run, type(message).__name__, sender, encode(message))
                case StoreRound(number=number, roster=roster, changes=changes):
                    time.sleep(self._pace)
                    self._store.set_last_round(self._run, number, roster, changes)
                    self._notice("round", {"round": number, "roster": len(roster)})
                case StoreSum(sum=total):
                    self._store.add_sum(self._run, self._server.sums - 1, total.round, list(total.roster), total.words)
                    self._notice("sum", {"round": total.round, "roster": len(total.roster)})
                case Arm(deadline=which):
                    self._arm(which)
                case Stop(reason=reason, ok=ok):
                    self._stop(reason, ok=ok)

    def _arm(self, which: str) -> None:
        self._disarm()
        self._timer = threading.Timer(self._waits[which], self._expired)
        self._timer.daemon = True
        self._timer.start()

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

    def _stop(self, reason: str, *, ok: bool) -> None:
        self._disarm()
        self._store.finish(self._run, reason, ok=ok)
        self.reason, self.ok, self.ended = reason, ok, True
        self._notice("stopped", {"reason": reason, "ok": int(ok)})
        for outbox in self._outboxes.values():
            outbox.close()
        self._wake.set()
