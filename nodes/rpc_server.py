"""The coordinator's end of the streams: gRPC over mutual TLS, one thread per connected site."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from typing import NoReturn

import grpc

from nodes import wire
from nodes.chunks import CHUNK
from nodes.coordinator import Coordinator
from nodes.errors import NodeError, PortInUse
from nodes.memory import return_large_blocks
from nodes.outbox import Outbox
from nodes.proto import federation_pb2 as pb
from nodes.proto.federation_pb2_grpc import FederationServicer, add_FederationServicer_to_server
from nodes.tls import Credentials
from secagg.errors import SecaggError, UnexpectedMessage
from secagg.messages import Hello

_SPARE_THREADS = 4
_PER_SITE = 3  # streams: one that serves, and broken ones that nobody has noticed yet
_HELLO_SECONDS = 10.0
_WINDOW = CHUNK // 16  # octets that a site may send before they are asked for; a piece that is asked for may all come


class _Streams:
    """Counts open streams by certificate, so that no certificate can take the threads of the others."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def opened(self, names: frozenset[str]) -> Iterator[bool]:
        """Count a stream while it lasts; yield whether its certificate has few enough."""
        with self._lock:
            self._open.update(names)
            few = all(self._open[name] <= _PER_SITE for name in names)
        try:
            yield few
        finally:
            with self._lock:
                self._open.subtract(names)


class Servicer(FederationServicer):
    """Joins each stream to the coordinator.

    Args:
        coordinator: the running study.
        names: member index → site name; a certificate speaks only for its own name.
    """

    def __init__(self, coordinator: Coordinator, names: Mapping[int, str]) -> None:
        self._coordinator = coordinator
        self._names = names
        self._streams = _Streams()

    def Session(  # noqa: N802 -- named by the protocol definition
        self, requests: Iterator[pb.ToCoordinator], context: grpc.ServicerContext
    ) -> Iterator[pb.ToSite]:
        """Serve one site until either side ends the stream."""
        # The stubs say int; gRPC hands out bytes.
        presented = frozenset(bytes(name).decode() for name in context.auth_context().get("x509_common_name", ()))
        if not presented & set(self._names.values()):
            self._turn_away(presented, "a site of this study", context)
        with self._streams.opened(presented) as few:
            if not few:
                context.abort(grpc.StatusCode.UNAVAILABLE, f"{_PER_SITE} streams of this site are open already")
            yield from self._serve(presented, requests, context)

    def _serve(
        self, presented: frozenset[str], requests: Iterator[pb.ToCoordinator], context: grpc.ServicerContext
    ) -> Iterator[pb.ToSite]:
        hello = self._greet(presented, requests, context)
        try:
            outbox = self._coordinator.attach(hello)
        except SecaggError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except NodeError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        reader = threading.Thread(target=self._read, args=(hello.member, outbox, requests, context), daemon=True)
        reader.start()
        context.add_callback(outbox.close)
        try:
            while (item := outbox.messages.get()) is not None:
                # gRPC asks for the next message when the last one is on its way: one piece of a sum per stream.
                for message in self._coordinator.opened(item):
                    yield wire.to_site(message)
        except NodeError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        self._coordinator.detach(hello.member, outbox)

    def _greet(
        self, presented: frozenset[str], requests: Iterator[pb.ToCoordinator], context: grpc.ServicerContext
    ) -> Hello:
        # Whoever is silent would hold a thread that another site needs.
        patience = threading.Timer(_HELLO_SECONDS, context.cancel)
        patience.daemon = True
        patience.start()
        try:
            hello = wire.from_site(next(requests))
        except (StopIteration, grpc.RpcError, SecaggError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello")
        finally:
            patience.cancel()
        if not isinstance(hello, Hello):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello")
        expected = self._names.get(hello.member)
        if expected is None or expected not in presented:
            self._turn_away(presented, f"member {hello.member}", context)
        return hello

    @staticmethod
    def _turn_away(presented: frozenset[str], wanted: str, context: grpc.ServicerContext) -> NoReturn:
        whose = ", ".join(sorted(presented)) or "nobody"
        context.abort(grpc.StatusCode.PERMISSION_DENIED, f"the certificate is for {whose}, not for {wanted}")

    def _read(
        self, member: int, outbox: Outbox, requests: Iterator[pb.ToCoordinator], context: grpc.ServicerContext
    ) -> None:
        try:
            # A request is read when the one before it is dealt with: flow control holds a fast site back.
            for message in map(wire.from_site, requests):
                if isinstance(message, Hello):
                    raise UnexpectedMessage(f"member {member} sent a second Hello on one connection")
                self._coordinator.deliver(member, outbox, message)
                del message  # a part is not kept while this waits for the next one
        except grpc.RpcError:
            pass  # the stream broke: the same as its end
        except SecaggError as error:
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            context.set_details(str(error))
        except NodeError:
            pass  # the coordinator keeps its own failure and ends
        finally:
            # Detach at once: the others' round must not wait for this stream's writer to notice.
            with suppress(NodeError):
                self._coordinator.detach(member, outbox)
            outbox.close()


def serve(
    coordinator: Coordinator,
    names: Mapping[int, str],
    *,
    address: str,
    tls: Credentials,
) -> tuple[grpc.Server, int]:
    """Start serving.

    Returns:
        The running server and the port it listens on (useful when `address` asks for port 0).

    Raises:
        PortInUse: the address cannot be bound.
    """
    return_large_blocks()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=len(names) * _PER_SITE + _SPARE_THREADS, thread_name_prefix="site"),
        options=[
            ("grpc.so_reuseport", 0),
            # Flow control with a fixed window: an estimated one lets every stream run megabytes ahead of the adder.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", _WINDOW),
            ("grpc.max_receive_message_length", wire.MESSAGE_LIMIT),
            ("grpc.max_send_message_length", wire.MESSAGE_LIMIT),
            ("grpc.keepalive_time_ms", 15_000),
            ("grpc.keepalive_timeout_ms", 15_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    add_FederationServicer_to_server(Servicer(coordinator, names), server)  # type: ignore[no-untyped-call] # generated
    credentials = grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], root_certificates=tls.authority, require_client_auth=True
    )
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PortInUse(
            f"cannot listen on {address}: the port is in use or not allowed; stop the other program or set `listen` in "
            "coordinator.toml"
        ) from error
    server.start()
    return server, port
