"""The site's end of the stream: gRPC over mutual TLS."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import cast

import grpc

from nodes import wire
from nodes.errors import CertificateProblem, PeerProblem
from nodes.proto import federation_pb2 as pb
from nodes.proto.federation_pb2_grpc import FederationStub
from nodes.session import Disconnected
from nodes.tls import Credentials
from secagg.messages import FromServer, Hello, ToServer

# A dead peer or a cut cable is noticed within half a minute although nobody is speaking.
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class GrpcConnection:
    """One stream. The request side is a queue that gRPC drains; the response side is read by gRPC's own thread."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._outgoing: queue.SimpleQueue[pb.ToCoordinator | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[pb.ToSite | grpc.RpcError | None] = queue.SimpleQueue()
        self._closed = False
        stub = FederationStub(channel)  # type: ignore[no-untyped-call] # generated
        self._call = stub.Session(iter(self._outgoing.get, None))
        self._reader = _Reader(self._call, self._incoming)
        self._reader.start()

    def send(self, message: Hello | ToServer) -> None:
        """Queue a message for the coordinator."""
        if self._closed:
            raise Disconnected("stream closed")
        self._outgoing.put(wire.to_coordinator(message))

    def receive(self) -> FromServer:
        """Wait for the coordinator's next message.

        Raises:
            Disconnected: the stream broke or the coordinator ended it.
            CertificateProblem: one side's certificate was refused.
            PeerProblem: the coordinator named a protocol error.
        """
        while True:
            try:
                # A short wait keeps Ctrl-C and SIGTERM responsive.
                item = self._incoming.get(timeout=0.5)
            except queue.Empty:
                continue
            break
        if item is None:
            raise Disconnected("the coordinator closed the stream")
        if isinstance(item, grpc.RpcError):
            raise _explained(item)
        if item.WhichOneof("body") == "problem":
            raise PeerProblem(f"the coordinator refused: {item.problem.sentence}")
        return wire.from_coordinator(item)

    def waiting(self) -> bool:
        """Whether a message lies ready."""
        return not self._incoming.empty()

    def close(self) -> None:
        """Give the stream up."""
        if not self._closed:
            self._closed = True
            self._outgoing.put(None)
            self._call.cancel()
            self._channel.close()


class _Reader:
    def __init__(
        self, call: Iterator[pb.ToSite], incoming: queue.SimpleQueue[pb.ToSite | grpc.RpcError | None]
    ) -> None:
        self._call, self._incoming = call, incoming
        self._thread = threading.Thread(target=self._read, name="coordinator-stream", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._incoming.put(message)
        except grpc.RpcError as error:
            self._incoming.put(error)
        else:
            self._incoming.put(None)


class GrpcLink:
    """Opens streams to one coordinator.

    Args:
        address: host:port.
        tls: this site's certificate and key and the coordinator's CA.
        max_message_bytes: refuse larger messages before they are parsed.
    """

    def __init__(self, address: str, tls: Credentials, *, max_message_bytes: int) -> None:
        self._address = address
        self._credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
        self._options = [
            *_KEEPALIVE,
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.enable_http_proxy", 0),
        ]

    def connect(self) -> GrpcConnection:
        """Open a channel and a stream on it; a coordinator that is away shows as Disconnected on the first receive."""
        return GrpcConnection(grpc.secure_channel(self._address, self._credentials, self._options))


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
    if code in _PROTOCOL:
        return PeerProblem(f"the coordinator refused a message: {details}")
    return Disconnected(code.name.lower() if code is not None else "stream broken")


_PROTOCOL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
