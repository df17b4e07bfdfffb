"""Between messages and protobuf: the only translation, checked on the way in.

Each protobuf body has the fields of its message under the same names. Constructing a message (of `secagg`, a `SumPart`
or a `Note`) checks every field, so that nothing malformed gets past this file; what the coordinator stores and what
anybody hashes are `secagg.messages.encode` bytes, never these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, cast

from nodes.chunks import CHUNK, SumPart
from nodes.notes import Note, Received, Sent
from nodes.proto import federation_pb2 as pb
from secagg.errors import PeerError
from secagg.messages import (
    Agreement,
    Blame,
    Bundle,
    Bundles,
    CanaryKeys,
    Ciphertexts,
    Complete,
    Confirmations,
    Confirmed,
    Consent,
    Encapsulations,
    Finish,
    Hello,
    Invite,
    Part,
    Ready,
    Refused,
    Shares,
    Step,
    Survivors,
)

__all__ = [
    "CHUNK",
    "DOWNSTREAM",
    "MESSAGE_LIMIT",
    "UPSTREAM",
    "from_coordinator",
    "from_site",
    "to_coordinator",
    "to_site",
]

MESSAGE_LIMIT: Final = 4 * CHUNK
"""Octets of the longest message in either direction; gRPC refuses a longer one before it is parsed."""

UPSTREAM: Final[Mapping[str, type[Sent]]] = {
    "hello": Hello,
    "bundle": Bundle,
    "encapsulations": Encapsulations,
    "confirmations": Confirmations,
    "ready": Ready,
    "part": Part,
    "consent": Consent,
    "shares": Shares,
    "canary_keys": CanaryKeys,
    "complete": Complete,
    "refused": Refused,
    "note": Note,
}
"""Every body of `ToCoordinator` and the message it carries."""

DOWNSTREAM: Final[Mapping[str, type[Received]]] = {
    "bundles": Bundles,
    "ciphertexts": Ciphertexts,
    "confirmed": Confirmed,
    "invite": Invite,
    "sum_part": SumPart,
    "step": Step,
    "survivors": Survivors,
    "agreement": Agreement,
    "blame": Blame,
    "finish": Finish,
    "note": Note,
}
"""Every body of `ToSite` and the message it carries."""

_BODIES: Final = {kind: name for table in (UPSTREAM, DOWNSTREAM) for name, kind in table.items()}


def to_coordinator(message: Sent) -> pb.ToCoordinator:
    """Translate a site's message for the wire."""
    return cast("pb.ToCoordinator", _wrapped(pb.ToCoordinator, message))


def from_site(wire: pb.ToCoordinator) -> Sent:
    """Translate what a site sent.

    Raises:
        PeerError: an empty message or one that no message of the protocol can hold.
    """
    return cast("Sent", _read(wire, UPSTREAM))


def to_site(message: Received) -> pb.ToSite:
    """Translate the coordinator's message for the wire."""
    return cast("pb.ToSite", _wrapped(pb.ToSite, message))


def from_coordinator(wire: pb.ToSite) -> Received:
    """Translate what the coordinator sent.

    Raises:
        PeerError: an empty message or one that no message of the protocol can hold.
    """
    return cast("Received", _read(wire, DOWNSTREAM))


def _wrapped(outer: Any, message: Sent | Received) -> Any:
    return outer(**{_BODIES[type(message)]: _body(message)})


def _body(message: Any) -> Any:
    values = {each.name: _value(getattr(message, each.name)) for each in fields(message)}
    return getattr(pb, type(message).__name__)(**values)


def _value(value: Any) -> Any:
    return [_item(each) for each in value] if isinstance(value, tuple) else value


def _item(item: Any) -> Any:
    match item:
        case int():
            return item
        case (int(member), bytes(octets)):
            return pb.Entry(member=member, octets=octets)
        case (int(peer), bytes(mac), bytes(box)):
            return pb.Confirmation(peer=peer, mac=mac, group_box=box)
    return _body(item)


def _read(wire: Any, table: Mapping[str, type[Any]]) -> Any:
    name = wire.WhichOneof("body")
    if name is None:
        raise PeerError("an empty message, or one of another version")
    return _message(table[name], getattr(wire, name))


def _message(kind: type[Any], body: Any) -> Any:
    return kind(**{each.name: _read_value(getattr(body, each.name)) for each in fields(kind)})


def _read_value(value: Any) -> Any:
    return value if isinstance(value, int | bytes | str) else tuple(map(_read_item, value))


def _read_item(item: Any) -> Any:
    match item:
        case pb.Entry():
            return item.member, item.octets
        case pb.Confirmation():
            return item.peer, item.mac, item.group_box
        case pb.Bundle():
            return _message(Bundle, item)
    return item
