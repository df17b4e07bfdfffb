"""The real transport: gRPC over mutual TLS, in both modes, with what a stream may bring that no message is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from nodes import rpc_server, wire
from nodes.chunks import PIECE, SumPart
from nodes.errors import CertificateProblem, PeerProblem
from nodes.outbox import Outbox
from nodes.proto import federation_pb2 as pb
from nodes.proto.federation_pb2_grpc import FederationStub
from nodes.rpc_client import GrpcConnection, GrpcLink
from nodes.rpc_server import serve
from nodes.session import Disconnected
from nodes.store import CoordinatorStore
from secagg.client import Client
from secagg.errors import MalformedMessage, PeerError, UnexpectedMessage
from secagg.manifest import Mode
from secagg.messages import Blame, Finish, Hello, Step, Upload
from tests.nodes.messages import ROSTER
from tests.nodes.parties import Certificates, Party, Stopped, World, check, provision
from tests.sweeps import thinned

BOTH = pytest.mark.parametrize("mode", thinned(Mode))
NAMES = {index: f"site-{index}" for index in range(1, 6)}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return provision(tmp_path_factory.mktemp("consortium"), 5)


class Net:
    """A world whose coordinator listens on loopback, and the links of its sites."""

    def __init__(self, certificates: Certificates, tmp_path: Path, mode: Mode, sites: int = 4, **of_world: Any) -> None:
        self.certificates = certificates
        self.world = World(mode, identities=certificates.identities[:sites], **of_world)
        self.world.store = CoordinatorStore(f"sqlite:///{tmp_path / 'coordinator.sqlite3'}")
        self.world.serve()
        self.server, self.port = serve(
            self.world.coordinator, NAMES, address="127.0.0.1:0", tls=certificates.coordinator
        )

    def link(self, member: int, max_words: int | None = None) -> GrpcLink:
        most = self.world.study.max_words if max_words is None else max_words
        return GrpcLink(f"127.0.0.1:{self.port}", self.certificates.sites[member], max_words=most)

    def party(self, member: int, **arguments: Any) -> Party:
        return Party(self.world, member, self.link(member), **arguments).start()

    def close(self) -> None:
        self.world.coordinator.close()
        self.server.stop(1.0).wait()
        self.world.store.close()


@pytest.fixture
def nets(certificates: Certificates, tmp_path: Path) -> Iterator[Any]:
    made: list[Net] = []

    def make(mode: Mode, **of_world: Any) -> Net:
        made.append(Net(certificates, tmp_path, mode, **of_world))
        return made[-1]

    yield make
    for net in made:
        net.close()


@BOTH
def test_a_complete_run(nets: Any, mode: Mode) -> None:
    net = nets(mode)
    parties = [net.party(member) for member in range(1, 5)]

    check(*(party.join() for party in parties))
    assert parties[0].rosters == [(1, 2, 3, 4)] * 4


@pytest.mark.slow
@BOTH
def test_a_listed_site_joins_in_the_middle(nets: Any, mode: Mode) -> None:
    net = nets(mode, sites=5, steps=40, patience=1.0)
    middle, may_go_on = threading.Event(), threading.Event()

    def wait(_party: Party, step: int) -> None:
        if step == 2:
            middle.set()
            assert may_go_on.wait(20)

    early = [net.party(member, **({"before": wait} if member == 4 else {})) for member in (1, 2, 3, 4)]
    assert middle.wait(20)
    net.world.coordinator._waits["patience"] = 20.0
    late = net.party(5)
    while not any(event == "wave" for event, _ in net.world.told):
        time.sleep(0.01)
    may_go_on.set()

    check(*(party.join() for party in (*early, late)))
    assert late.rosters[:3] == [(1, 2, 3, 4)] * 3
    assert late.rosters[-1] == (1, 2, 3, 4, 5)


@pytest.mark.slow
def test_mode_b_a_round_that_a_site_drops_out_of_is_not_lost(nets: Any) -> None:
    net = nets(Mode.B, deadline=1.5, steps=5)

    def stop(_party: Party, step: int) -> None:
        if step == 1:
            raise Stopped

    parties = [net.party(member, **({"before": stop} if member == 4 else {})) for member in range(1, 5)]
    assert isinstance(parties[-1].join().error, Stopped)
    back = net.party(4)

    check(*(party.join() for party in parties[:-1]))
    back.join()
    assert parties[0].rosters[:2] == [(1, 2, 3, 4), (1, 2, 3)]
    assert [total.round for total in parties[0].disk.records.sums] == [1, 2, 3, 4, 5]
    assert back.disk.records.sums == parties[0].disk.records.sums
    entries = net.world.store.history(net.world.study.run_id)
    assert [entry.survivors for entry in entries] == parties[0].rosters


@BOTH
def test_a_site_whose_stream_breaks_comes_back(nets: Any, mode: Mode) -> None:
    net = nets(mode, deadline=3.0)
    broken: list[GrpcConnection] = []

    def cut(party: Party, step: int) -> None:
        if step == 2 and not broken:
            broken.append(party.session._connection)  # type: ignore[arg-type]
            broken[0]._channel.close()

    parties = [net.party(member, **({"before": cut} if member == 4 else {})) for member in range(1, 5)]
    check(*(party.join() for party in parties))
    assert broken


@pytest.mark.slow
def test_long_vectors_travel_in_pieces(nets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads and sums of several pieces; who has lost its own records gets old ones from the coordinator's store."""
    monkeypatch.setattr("tests.nodes.parties.LENGTH", 5 * PIECE // 16)
    sizes: dict[str, list[int]] = {"up": [], "down": []}

    def note(way: str, function: Any) -> Any:
        def noting(message: Any) -> Any:
            made = function(message)
            sizes[way].append(made.ByteSize())
            return made

        return noting

    monkeypatch.setattr(wire, "to_site", note("down", wire.to_site))
    monkeypatch.setattr(wire, "to_coordinator", note("up", wire.to_coordinator))
    net = nets(Mode.A, steps=3)
    parties = [net.party(member) for member in range(1, 5)]
    check(*(party.join() for party in parties))

    for way in sizes.values():
        assert PIECE < max(way) < PIECE + 2000
        assert sum(size > PIECE for size in way) >= 2 * 3 * 4
    connection = net.link(2).connect()
    connection.send(hello_of(net, 2))
    assert [connection.receive() for _ in range(3)] == parties[0].disk.records.sums
    assert connection.receive() == Finish(3, "complete")
    connection.close()


def hello_of(net: Net, member: int) -> Hello:
    client = Client(
        net.world.study.manifest(),
        member,
        net.world.identities[member - 1],
        entropy=os.urandom,
        nonce=os.urandom(32),
        pins=frozenset(net.world.study.identities()),
    )
    return client.hello()


def ended(connection: GrpcConnection) -> Exception:
    """How a stream ends."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            connection.receive()
        except Exception as error:  # noqa: BLE001 -- that is what is asked for
            connection.close()
            return error
    raise AssertionError("the stream does not end")


def test_a_certificate_speaks_for_its_own_site_only(nets: Any) -> None:
    net = nets(Mode.A)
    connection = net.link(2).connect()
    connection.send(hello_of(net, 1))

    error = ended(connection)
    assert isinstance(error, CertificateProblem)
    assert "site-2" in str(error)


def test_the_first_message_is_a_hello(nets: Any) -> None:
    net = nets(Mode.A)
    connection = net.link(2).connect()
    connection.send(Upload(2, 1, bytes(24)))

    error = ended(connection)
    assert isinstance(error, PeerProblem)
    assert "the first message must be a Hello" in str(error)


def test_a_second_hello_and_a_part_out_of_order_end_the_stream_and_nothing_else(nets: Any) -> None:
    net = nets(Mode.A)
    for second in (hello_of(net, 1), Upload(1, 99, bytes(24))):
        connection = net.link(1).connect()
        connection.send(hello_of(net, 1))
        connection.send(second)
        assert isinstance(ended(connection), PeerProblem)

    parties = [net.party(member) for member in range(1, 5)]
    check(*(party.join() for party in parties))


def raw_call(net: Net, member: int, messages: list[pb.ToCoordinator]) -> Any:
    tls = net.certificates.sites[member]
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
    channel = grpc.secure_channel(f"127.0.0.1:{net.port}", credentials)
    return FederationStub(channel).Session(iter(messages))  # type: ignore[no-untyped-call]


def test_a_message_longer_than_the_limit_is_refused_before_it_is_parsed(
    nets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nets(Mode.A)
    parsed: list[int] = []
    from_site = wire.from_site
    monkeypatch.setattr(wire, "from_site", lambda message: (parsed.append(message.ByteSize()), from_site(message))[1])
    long = pb.ToCoordinator(part=pb.Part(member=1, round=1, size=1 << 24, words=bytes(wire.MESSAGE_LIMIT)))
    call = raw_call(net, 1, [wire.to_coordinator(hello_of(net, 1)), long])

    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert max(parsed) < 1000


class Forging:
    """Instead of a coordinator: sends what it is given and then waits."""

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.detached = threading.Event()

    def attach(self, _hello: Hello) -> Outbox:
        outbox = Outbox()
        for item in self.items:
            outbox.put(item)
        return outbox

    def opened(self, item: Any) -> Iterator[Any]:
        yield item

    def deliver(self, *_: Any) -> None:
        pass

    def detach(self, *_: Any) -> None:
        self.detached.set()


@pytest.fixture
def forged(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    servers = []

    def make(*items: Any, limit: int = wire.MESSAGE_LIMIT) -> GrpcConnection:
        with monkeypatch.context() as patched:
            patched.setattr(wire, "MESSAGE_LIMIT", limit)
            server, port = serve(
                Forging(*items),  # type: ignore[arg-type]
                NAMES,
                address="127.0.0.1:0",
                tls=certificates.coordinator,
            )
        servers.append(server)
        connection = GrpcLink(f"127.0.0.1:{port}", certificates.sites[1], max_words=100).connect()
        connection.send(Hello(b"r" * 32, 1, b"n" * 32, 0, 0, b"t" * 32, b"s" * 64))
        return connection

    yield make
    for server in servers:
        server.stop(0).wait()


FIRST = SumPart(4, 800, 0, bytes(400), ROSTER, (1, 3))
SECOND = SumPart(4, 800, 400, bytes(400))


def test_a_sum_is_put_together(forged: Any) -> None:
    connection = forged(FIRST, SECOND, Blame(9))

    total = connection.receive()
    assert (total.round, total.roster, total.survivors, len(total.words)) == (4, ROSTER, (1, 3), 800)
    assert connection.receive() == Blame(9)
    connection.close()


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ((replace(FIRST, size=808),), MalformedMessage),  # longer than the study's longest
        ((FIRST, FIRST), UnexpectedMessage),
        ((SECOND,), UnexpectedMessage),
        ((FIRST, Step(5, 1, ROSTER)), UnexpectedMessage),
    ],
)
def test_a_forged_stream_is_the_coordinators_fault(forged: Any, items: tuple[Any, ...], error: type[PeerError]) -> None:
    assert type(ended(forged(*items))) is error


def test_an_invalid_message_is_the_coordinators_fault(forged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server.wire, "to_site", lambda _message: pb.ToSite(step=pb.Step(round=0)))

    assert type(ended(forged(Blame(9)))) is MalformedMessage


def test_a_site_refuses_a_message_longer_than_the_limit(forged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    part = pb.SumPart(round=4, size=1 << 24, words=bytes(4 << 20))
    monkeypatch.setattr(rpc_server.wire, "to_site", lambda _message: pb.ToSite(sum_part=part))

    error = ended(forged(Blame(9), limit=1 << 30))  # this coordinator would send it
    assert isinstance(error, PeerProblem)
    assert "longer than 4 MiB" in str(error)


def test_a_session_that_does_not_read_holds_the_stream_back(forged: Any) -> None:
    connection = forged(*[each for _ in range(50) for each in (FIRST, SECOND)])
    time.sleep(0.5)

    assert connection._incoming.qsize() <= 2
    for _ in range(50):
        assert connection.receive().round == 4
    connection.close()


def test_a_coordinator_of_another_version(certificates: Certificates) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    tls = certificates.coordinator
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(tls.key, tls.certificate)], tls.authority, require_client_auth=True),
    )
    server.start()
    error = ended(GrpcLink(f"127.0.0.1:{port}", certificates.sites[1], max_words=100).connect())
    server.stop(0)

    assert isinstance(error, PeerProblem)
    assert "another version" in str(error)


def test_nobody_listens(certificates: Certificates) -> None:
    assert isinstance(ended(GrpcLink("127.0.0.1:1", certificates.sites[1], max_words=100).connect()), Disconnected)


def test_silent_streams_of_one_certificate_do_not_lock_the_others_out(
    nets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_server, "_HELLO_SECONDS", 30.0)
    net = nets(Mode.A)
    silent = [net.link(1).connect() for _ in range(12)]
    until = time.monotonic() + 20
    while sum(each.waiting() for each in silent) < 12 - rpc_server._PER_SITE and time.monotonic() < until:
        time.sleep(0.05)
    refused = [each for each in silent if each.waiting()]
    assert len(refused) == 12 - rpc_server._PER_SITE
    assert all(isinstance(ended(each), Disconnected) for each in refused)
    other = net.link(2).connect()
    other.send(hello_of(net, 2))
    other.send(hello_of(net, 2))
    assert "second Hello" in str(ended(other))
    for each in silent:
        each.close()


def test_a_stream_that_never_says_hello_is_ended(nets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "_HELLO_SECONDS", 0.2)
    assert isinstance(ended(nets(Mode.A).link(1).connect()), Disconnected)
