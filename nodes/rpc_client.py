"""The site's end of the stream: gRPC over mutual TLS."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeAlias, cast

import grpc

from nodes import interrupts, wire
from nodes.chunks import Assembler, outgoing
from nodes.errors import CertificateProblem, PeerProblem
from nodes.notes import Note
from nodes.proto import federation_pb2 as pb
from nodes.proto.federation_pb2_grpc import FederationStub
from nodes.session import Disconnected
from nodes.tls import Credentials
from secagg.errors import PeerError
from secagg.messages import FromServer, Hello, ToServer, Upload

# A dead peer or a cut cable is noticed within half a minute although nobody is speaking.
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_AHEAD = 2  # messages read ahead of the session; behind them flow control holds the coordinator back
_LOOK = 0.5  # seconds between two looks whether the connection is closed: Ctrl-C and SIGTERM stay responsive

_Incoming: TypeAlias = FromServer | Note | grpc.RpcError | PeerError | None


class GrpcConnection:
    """One stream. The request side is a queue that gRPC drains; the response side is read by a thread of its own."""

    def __init__(self, channel: grpc.Channel, max_words: int) -> None:
        self._channel = channel
        self._outgoing: queue.SimpleQueue[Hello | ToServer | Upload | Note | None] = queue.SimpleQueue()
        self._incoming: queue.Queue[_Incoming] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        stub = FederationStub(channel)  # type: ignore[no-untyped-call] # generated
        self._call = stub.Session(self._requests())
        threading.Thread(target=self._read, args=(max_words,), name="coordinator-stream", daemon=True).start()

    def send(self, message: Hello | ToServer | Upload | Note) -> None:
        """Queue a message for the coordinator; an upload goes in parts, made one by one as gRPC asks for them."""
        if self._closed.is_set():
            raise Disconnected("stream closed")
        self._outgoing.put(message)

    def receive(self) -> FromServer | Note:
        """Wait for the coordinator's next message.

        Raises:
            Disconnected: the stream broke or the coordinator ended it.
            CertificateProblem: one side's certificate was refused.
            PeerProblem: the coordinator named a protocol error, or sent a message longer than any may be.
            PeerError: the coordinator sent what no message of the protocol can hold.
            Interrupted: that was asked for.
        """
        while True:
            try:
                item = self._incoming.get(timeout=_LOOK)
            except queue.Empty:
                interrupts.require_none()
                continue
            break
        if item is None:
            raise Disconnected("the coordinator closed the stream")
        if isinstance(item, grpc.RpcError):
            raise _explained(item)
        if isinstance(item, PeerError):
            raise item
        return item

    def waiting(self) -> bool:
        """Whether a message lies ready."""
        return not self._incoming.empty()

    def close(self) -> None:
        """Give the stream up."""
        if not self._closed.is_set():
            self._closed.set()
            self._outgoing.put(None)
            self._call.cancel()
            self._channel.close()

    def _requests(self) -> Iterator[pb.ToCoordinator]:
        while (message := self._outgoing.get()) is not None:
            if isinstance(message, Hello | Note):
                yield wire.to_coordinator(message)
            else:
                yield from map(wire.to_coordinator, outgoing(message))

    def _read(self, max_words: int) -> None:
        assembler = Assembler(max_words)
        try:
            for message in self._call:
                translated = wire.from_coordinator(message)
                whole = translated if isinstance(translated, Note) else assembler.take(translated)
                if whole is not None:
                    self._hand_over(whole)
            self._hand_over(None)
        except (grpc.RpcError, PeerError) as error:
            self._hand_over(error)

    def _hand_over(self, item: _Incoming) -> None:
        while not self._closed.is_set():
            try:
                self._incoming.put(item, timeout=_LOOK)
            except queue.Full:
                continue
            return


class GrpcLink:
    """Opens streams to one coordinator.

    Args:
        address: host:port.
        tls: this site's certificate and key and the coordinator's CA.
        max_words: longest sum in 64-bit words that the study contains; a longer one is refused at its first piece.
    """

    def __init__(self, address: str, tls: Credentials, *, max_words: int) -> None:
        self._address = address
        self._max_words = max_words
        self._credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
        self._options = [
            *_KEEPALIVE,
            ("grpc.max_receive_message_length", wire.MESSAGE_LIMIT),
            ("grpc.max_send_message_length", wire.MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0),
        ]

    def connect(self) -> GrpcConnection:
        """Open a channel and a stream on it; a coordinator that is away shows as Disconnected on the first receive."""
        channel = grpc.secure_channel(self._address, self._credentials, self._options)
        return GrpcConnection(channel, self._max_words)


def _explained(error: grpc.RpcError) -> Exception:
    # What a call raises is an RpcError and a Call at once; the stubs do not know.
    call = cast("grpc.Call", error)
    code, details = call.code(), call.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and ("certificate" in details.lower() or "ssl" in details.lower()):
        return CertificateProblem(
            "the TLS handshake with the coordinator failed: one side's certificate is expired or signed by another "
            "authority; run `haemfed site check` and compare the coordinator's fingerprint by telephone"
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return CertificateProblem(f"the coordinator refused this site: {details}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return PeerProblem(
            "the coordinator speaks another version of the protocol; install the same haemfed everywhere"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return PeerProblem(f"a message on the stream is longer than {wire.MESSAGE_LIMIT >> 20} MiB, as no message is")
    if code in _PROTOCOL:
        return PeerProblem(f"the coordinator refused a message: {details}")
    return Disconnected(code.name.lower() if code is not None else "stream broken")


_PROTOCOL = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
