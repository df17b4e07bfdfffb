"""One site's conversation with the coordinator: connect, set up keys, reconnect, and hand over sums and steps in order.

The rule that everything rests on: **persist, then send**. Whatever the protocol client returned is sent only after its
secret state is on the disk, so that a kill between any two statements can repeat identical bytes but never mask anew.

Sums, steps and the end wait here until the door deals with them. Everything else the coordinator sends (set-up, and
what follows an upload) is answered at once, while the door waits for the next head; so are the notes of other sites.

The second rule: **no upload before this site's ledger is witnessed.** A step is held back until enough peers have
answered for the ledger, and until this site knows every process on the step's roster as the last one that it has
answered for its site (`nodes.witnessing`); everything else goes on meanwhile. A coordinator passes over a site that
answers nothing by its deadline, so a site that cannot be witnessed costs the others no more than one that is away.
While a peer has not answered, it is asked once a second, whatever else is waited for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from dp.errors import NotWitnessed
from nodes.errors import CoordinatorUnreachable
from nodes.notes import Note
from secagg.client import Client
from secagg.messages import Bundles, Finish, FromServer, Hello, Step, Sum, ToServer, Upload

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to reach the coordinator
_POLL = 0.05  # seconds between two looks while nothing but the end is waited for
_LOOK = 0.005  # seconds between two looks while a step waits for receipts: for one way through the coordinator and back
_GLANCE = (
    0.001  # seconds between two looks while a message is waited for and a peer has not answered: set-up has many ways
)
_ASK_AGAIN = 1.0  # seconds
_MOST = 1000  # messages taken in one look, so that nobody's notes keep the door from what it waits for


class Disconnected(Exception):  # noqa: N818 -- a condition the session handles, not an error anybody sees
    """The stream is gone; what was sent may or may not have arrived."""


class Connection(Protocol):
    """One open stream to the coordinator."""

    def send(self, message: Hello | ToServer | Upload | Note) -> None:
        """Queue a message; an upload travels in parts. Raises Disconnected."""

    def receive(self) -> FromServer | Note:
        """Wait for the next message. Raises Disconnected."""

    def waiting(self) -> bool:
        """Whether `receive` would return at once."""

    def close(self) -> None:
        """Give the stream up."""


class Link(Protocol):
    """Whatever reaches the coordinator: gRPC over mTLS, or a queue in the same process."""

    def connect(self) -> Connection:
        """Open a stream. Raises Disconnected."""


class Witness(Protocol):
    """Who says whether this site may upload, and answers for others; `nodes.witnessing.Witnessing` is one."""

    def admits(self, step: Step) -> bool:
        """Whether this site may upload for a step."""

    def uploaded(self, step: Step) -> None:
        """Note that an upload for a step leaves now."""

    @property
    def pending(self) -> bool:
        """Whether anybody is to be asked."""

    def missing(self) -> tuple[str, ...]:
        """Names of the peers that have not."""

    def require(self) -> None:
        """Raise what speaks against this site's ledger."""

    def questions(self) -> list[tuple[int, bytes]]:
        """What to ask of whom."""

    def receive(self, member: int, octets: bytes) -> list[tuple[int, bytes]]:
        """Take a note; return what to answer, and to whom."""


class Session:
    """Delivers what the coordinator sends as one ordered sequence of `Sum`, `Step` and `Finish`.

    Args:
        client: the protocol client; its state says which sums are missing after a reconnect.
        link: opens streams.
        witness: holds steps back.
        keep: writes the client's secret snapshot durably.
        patience: seconds without a connection before giving up.
        now: a monotonic clock in seconds.
        sleep: waits that many seconds.
        notice: called with an event name and its public fields.
    """

    def __init__(
        self,
        client: Client,
        link: Link,
        witness: Witness,
        *,
        keep: Callable[[bytes], None],
        patience: float,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        notice: Callable[[str, Mapping[str, str]], None] = lambda _event, _fields: None,
    ) -> None:
        self._notice = notice
        self._client = client
        self._link = link
        self._witness = witness
        self._keep = keep
        self._patience = patience
        self._now = now
        self._sleep = sleep
        self._connection: Connection | None = None
        self._queue: deque[Sum | Step | Finish] = deque()
        self._step: Step | None = None  # the last one that was handed over
        self._lost_at: float | None = None
        self._upload: Upload | None = None  # mode B: sent, and its round may still be open
        self._last_words: ToServer | None = None
        self._pause = _FIRST_PAUSE
        self._ask_at = -math.inf
        self._told: tuple[str, ...] = ()  # of whom it was said that they are waited for

    def head(self) -> Sum | Step | Finish:
        """Return the next thing to deal with, without removing it; waits and reconnects as needed.

        Raises:
            CoordinatorUnreachable: no connection within the patience.
            RollbackDetected: peers have seen more of this site's ledger than is in it.
            ForkedLedger: peers have seen another ledger of this site.
        """
        while True:
            try:
                self._drain()
                # The server follows a Step only when that round is over: a Step with anything behind it is dead, and
                # uploading for it would spend budget on a round that cannot open.
                while len(self._queue) > 1 and isinstance(self._queue[0], Step):
                    self._queue.popleft()
                match self._queue[0]:
                    case Step() as step if not self._witness.admits(step):
                        self._hold()
                    case Step() as step:
                        self._step = step
                        return step
                    case other:
                        return other
            except Disconnected as error:
                self._drop()
                self._pause_before_retry(error)

    def done(self) -> None:
        """Remove the head: it has been dealt with."""
        if self._queue:
            self._queue.popleft()

    def send(self, message: ToServer | Upload) -> None:
        """Persist the client's state and send; a stream that broke meanwhile is found out by the next `head`.

        Raises:
            NotWitnessed: an upload, and this site's ledger is not witnessed for its round. Nothing was sent.
        """
        if isinstance(message, Upload):
            step = self._step
            if step is None or step.round != message.round or not self._witness.admits(step):
                raise NotWitnessed(
                    f"this site's ledger is not witnessed: {', '.join(self._witness.missing())} have not answered for "
                    f"round {message.round}; start the site again while they run"
                )
            self._witness.uploaded(step)
        self._keep(self._client.snapshot())
        if isinstance(message, Upload) and message.boxes:
            # Share boxes: a round of mode B, which outlives a broken stream. The next one gets the same bytes again.
            self._upload = message
        if self._connection is None:
            return
        try:
            self._connection.send(message)
        except Disconnected:
            self._drop()

    def farewell(self, message: ToServer) -> None:
        """Say that this site has nothing left to sum; repeated after a reconnect and to every further step."""
        self._last_words = message
        self.send(message)

    def wait_for_end(self, seconds: float) -> str | None:
        """Stay until the coordinator ends the run, at most so long: nothing is missing here any more.

        Returns:
            The coordinator's reason, or None if it did not end the run in time.
        """
        until = self._now() + seconds
        while self._now() < until:
            try:
                self._poll()
            except Disconnected:
                self._drop()
                self._sleep(_FIRST_PAUSE)
            match self._queue[0] if self._queue else None:
                case Finish() as finish:
                    return finish.reason
                case Sum():
                    return "a sum after the last one of the study"
                case Step():
                    self.done()
                    if self._last_words is not None:
                        self.send(self._last_words)
                case None:
                    self._sleep(_POLL)
        return None

    def close(self) -> None:
        """Close the stream, if one is open."""
        self._drop()

    def _drain(self) -> None:
        """Wait for something to deal with, and take what else has arrived."""
        while not self._queue:
            connection = self._open()
            while self._witness.pending and not connection.waiting():
                self._ask_in_time(connection)
                self._sleep(_GLANCE)
            self._take(connection, self._receive())
        self._poll()

    def _poll(self) -> None:
        """Take what has arrived, without waiting; nothing behind a sum, so that at most one is held here."""
        if self._connection is None and self._queue:
            return
        connection = self._open()
        taken = 0
        while self._connection is connection and taken < _MOST and connection.waiting() and not self._holds_sum():
            taken += 1
            try:
                self._take(connection, self._receive())
            except Disconnected:
                # Sums and a Finish that have arrived are still good; a Step cannot be answered any more.
                self._queue = deque(each for each in self._queue if not isinstance(each, Step))
                if not self._queue:
                    raise
                self._hang_up()

    def _holds_sum(self) -> bool:
        return bool(self._queue) and not isinstance(self._queue[-1], Step)

    def _open(self) -> Connection:
        if self._connection is None:
            self._introduce(self._link.connect())
        if self._connection is None:
            raise Disconnected("the stream broke at once")
        return self._connection

    def _receive(self) -> FromServer | Note:
        message = self._open().receive()
        self._lost_at, self._pause = None, _FIRST_PAUSE
        return message

    def _take(self, connection: Connection, message: FromServer | Note) -> None:
        match message:
            case Sum() | Step() | Finish():
                self._queue.append(message)
                self._upload = None  # its round is over
            case Note(member, octets):
                for to, answer in self._witness.receive(member, octets):
                    connection.send(Note(to, answer))
                return
            case _:
                replies = self._client.receive(message)
                self._keep(self._client.snapshot())
                for reply in replies:
                    connection.send(reply)
        if isinstance(message, Bundles | Step):
            # Everybody who takes part is connected now: ask at once whoever was not there before.
            self._ask(connection)

    def _hold(self) -> None:
        """Wait a moment for receipts, with a step at hand."""
        self._witness.require()
        if self._now() >= self._ask_at and (missing := self._witness.missing()) != self._told:
            self._told = missing
            self._notice("waiting for witnesses", {"peer": ", ".join(missing)})
        self._ask_in_time(self._open())
        self._sleep(_LOOK)
        self._poll()

    def _ask_in_time(self, connection: Connection) -> None:
        if self._now() >= self._ask_at:
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        if self._witness.pending:
            self._ask_at = self._now() + _ASK_AGAIN
            for member, octets in self._witness.questions():
                connection.send(Note(member, octets))

    def _introduce(self, connection: Connection) -> None:
        # Known before anything can fail, so that whatever fails gives the stream up.
        self._connection = connection
        messages: list[Hello | ToServer | Upload] = [self._client.hello(), *self._client.begin()]
        messages += [each for each in (self._upload, self._last_words) if each is not None]
        self._keep(self._client.snapshot())
        for message in messages:
            connection.send(message)
        self._ask(connection)

    def _pause_before_retry(self, error: Disconnected) -> None:
        if self._lost_at is None:
            self._lost_at = self._now()
        if self._now() - self._lost_at >= self._patience:
            raise CoordinatorUnreachable(
                f"no connection to the coordinator for {self._patience:g} s ({error}); check that it runs and that "
                "`coordinator` in site.toml names its address; nothing is lost, start the site again"
            ) from error
        self._sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _drop(self) -> None:
        # Queued sums are not lost: the next Hello says how many this site has applied, the rest is sent again.
        self._queue.clear()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
