"""Between `secagg.messages` and protobuf: the only translation, checked on the way in.

Constructing a `secagg` message checks every field, so that nothing malformed gets past this file; what the coordinator
stores and what anybody hashes are `secagg.messages.encode` bytes, never these.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodes.proto import federation_pb2 as pb
from secagg.errors import PeerError
from secagg.messages import (
    Bundle,
    Bundles,
    Complete,
    Confirmations,
    Encapsulations,
    Finish,
    FromServer,
    Hello,
    Ready,
    Refused,
    Roster,
    Step,
    Sum,
    ToServer,
    Upload,
)


def to_coordinator(message: Hello | ToServer) -> pb.ToCoordinator:
    """Translate a site's message for the wire."""
    match message:
        case Hello():
            body = pb.Hello(
                run_id=message.run_id,
                member=message.member,
                nonce=message.nonce,
                last_round=message.last_round,
                sums=message.sums,
                transcript=message.transcript,
                signature=message.signature,
            )
            return pb.ToCoordinator(hello=body)
        case Bundle():
            return pb.ToCoordinator(bundle=_bundle(message))
        case Encapsulations():
            return pb.ToCoordinator(encapsulations=_encapsulations(message))
        case Confirmations():
            return pb.ToCoordinator(confirmations=_confirmations(message))
        case Ready():
            return pb.ToCoordinator(ready=pb.Ready(member=message.member))
        case Upload():
            return pb.ToCoordinator(upload=pb.Upload(member=message.member, round=message.round, words=message.words))
        case Complete():
            return pb.ToCoordinator(complete=pb.Complete(member=message.member, transcript=message.transcript))
        case Refused():
            return pb.ToCoordinator(refused=pb.Refused(member=message.member, code=message.code))


def from_site(wire: pb.ToCoordinator) -> Hello | ToServer:
    """Translate what a site sent.

    Raises:
        PeerError: an empty message or one that no `secagg` message can hold.
    """
    match wire.WhichOneof("body"):
        case "hello":
            hello = wire.hello
            return Hello(
                run_id=hello.run_id,
                member=hello.member,
                nonce=hello.nonce,
                last_round=hello.last_round,
                sums=hello.sums,
                transcript=hello.transcript,
                signature=hello.signature,
            )
        case "bundle":
            return _read_bundle(wire.bundle)
        case "encapsulations":
            return _read_encapsulations(wire.encapsulations)
        case "confirmations":
            return _read_confirmations(wire.confirmations)
        case "ready":
            return Ready(wire.ready.member)
        case "upload":
            return Upload(wire.upload.member, wire.upload.round, wire.upload.words)
        case "complete":
            return Complete(wire.complete.member, wire.complete.transcript)
        case "refused":
            return Refused(wire.refused.member, wire.refused.code)
        case _:
            raise PeerError("an empty message")


def to_site(message: FromServer) -> pb.ToSite:
    """Translate the coordinator's message for the wire."""
    match message:
        case Bundles():
            return pb.ToSite(bundles=pb.Bundles(bundles=[_bundle(bundle) for bundle in message.bundles]))
        case Encapsulations():
            return pb.ToSite(encapsulations=_encapsulations(message))
        case Confirmations():
            return pb.ToSite(confirmations=_confirmations(message))
        case Step():
            step = pb.Step(
                round=message.round,
                roster=_seats(message.roster),
                missed=[_sum(total) for total in message.missed],
            )
            return pb.ToSite(step=step)
        case Finish():
            return pb.ToSite(finish=pb.Finish(missed=[_sum(total) for total in message.missed], reason=message.reason))


def from_coordinator(wire: pb.ToSite) -> FromServer:
    """Translate what the coordinator sent.

    Raises:
        PeerError: an empty message or one that no `secagg` message can hold.
    """
    match wire.WhichOneof("body"):
        case "bundles":
            return Bundles(tuple(_read_bundle(bundle) for bundle in wire.bundles.bundles))
        case "encapsulations":
            return _read_encapsulations(wire.encapsulations)
        case "confirmations":
            return _read_confirmations(wire.confirmations)
        case "step":
            return Step(
                wire.step.round,
                _read_seats(wire.step.roster),
                tuple(_read_sum(total) for total in wire.step.missed),
            )
        case "finish":
            return Finish(tuple(_read_sum(total) for total in wire.finish.missed), wire.finish.reason)
        case _:
            raise PeerError("an empty message")


def _bundle(bundle: Bundle) -> pb.Bundle:
    return pb.Bundle(
        member=bundle.member,
        x25519=bundle.x25519,
        mlkem=bundle.mlkem,
        manifest_digest=bundle.manifest_digest,
        signature=bundle.signature,
    )


def _read_bundle(bundle: pb.Bundle) -> Bundle:
    return Bundle(
        member=bundle.member,
        x25519=bundle.x25519,
        mlkem=bundle.mlkem,
        manifest_digest=bundle.manifest_digest,
        signature=bundle.signature,
    )


def _encapsulations(message: Encapsulations) -> pb.Encapsulations:
    to = [pb.Encapsulations.To(peer=peer, ciphertext=ciphertext) for peer, ciphertext in message.to]
    return pb.Encapsulations(sender=message.sender, to=to)


def _read_encapsulations(message: pb.Encapsulations) -> Encapsulations:
    return Encapsulations(message.sender, tuple((to.peer, to.ciphertext) for to in message.to))


def _confirmations(message: Confirmations) -> pb.Confirmations:
    to = [pb.Confirmations.To(peer=peer, mac=mac, group_box=box) for peer, mac, box in message.to]
    return pb.Confirmations(sender=message.sender, to=to)


def _read_confirmations(message: pb.Confirmations) -> Confirmations:
    return Confirmations(message.sender, tuple((to.peer, to.mac, to.group_box) for to in message.to))


def _seats(roster: Roster) -> list[pb.Seat]:
    return [pb.Seat(member=member, nonce=nonce) for member, nonce in roster]


def _read_seats(seats: Iterable[pb.Seat]) -> Roster:
    return tuple((seat.member, seat.nonce) for seat in seats)


def _sum(total: Sum) -> pb.Sum:
    return pb.Sum(round=total.round, roster=_seats(total.roster), words=total.words)


def _read_sum(total: pb.Sum) -> Sum:
    return Sum(total.round, _read_seats(total.roster), total.words)
