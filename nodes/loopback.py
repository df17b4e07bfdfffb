"""A coordinator in the same process: the production path without sockets, for the self-check and for tests."""

from __future__ import annotations

from nodes.chunks import Assembler, outgoing
from nodes.coordinator import Coordinator
from nodes.errors import NodeError
from nodes.notes import Note, Received
from nodes.outbox import Outbox
from nodes.session import Disconnected
from secagg.errors import SecaggError
from secagg.messages import FromServer, Hello, ToServer, Upload


class LoopbackConnection:
    """One stream to a coordinator in this process; see `nodes.session.Connection`."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._assembler = Assembler(coordinator.max_words)
        self._outbox: Outbox | None = None
        self._member = 0

    def send(self, message: Hello | ToServer | Upload | Note) -> None:
        """Hand a message over; the coordinator's answers wait in the outbox."""
        try:
            if isinstance(message, Hello):
                self._outbox, self._member = self._coordinator.attach(message), message.member
                return
            for each in (message,) if isinstance(message, Note) else outgoing(message):
                if self._outbox is not None:
                    self._coordinator.deliver(self._member, self._outbox, each)
        except (SecaggError, NodeError) as error:
            self.close()
            raise Disconnected(str(error)) from error

    def receive(self) -> FromServer | Note:
        """Wait for the coordinator's next message."""
        if self._outbox is None or (item := self._outbox.messages.get()) is None:
            raise Disconnected("the coordinator closed the stream")
        whole = [self._whole(each) for each in self._coordinator.opened(item)][-1]
        if whole is None:
            raise Disconnected("the coordinator broke off in the middle of a sum")
        return whole

    def _whole(self, message: Received) -> FromServer | Note | None:
        return message if isinstance(message, Note) else self._assembler.take(message)

    def waiting(self) -> bool:
        """Whether a message lies ready."""
        return self._outbox is not None and not self._outbox.messages.empty()

    def close(self) -> None:
        """Give the stream up."""
        if self._outbox is not None:
            outbox, self._outbox = self._outbox, None
            self._coordinator.detach(self._member, outbox)
            outbox.close()


class LoopbackLink:
    """Opens streams to a coordinator in this process."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def connect(self) -> LoopbackConnection:
        """Open a stream."""
        return LoopbackConnection(self._coordinator)
