"""What arrives is a valid message or a PeerError, whatever the bytes; and what leaves arrives as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from nodes import chunks, notes, wire
from nodes.proto import federation_pb2 as pb
from secagg import messages
from secagg.errors import PeerError
from tests.nodes.messages import DOWNSTREAM, LONGEST, UPSTREAM

Read = Callable[[Any], Any]
ENDS = [(pb.ToCoordinator, wire.from_site, wire.to_coordinator), (pb.ToSite, wire.from_coordinator, wire.to_site)]
SAMPLES = [
    *(wire.to_coordinator(message).SerializeToString() for message in UPSTREAM),
    *(wire.to_site(message).SerializeToString() for message in DOWNSTREAM),
]


@pytest.mark.parametrize("message", UPSTREAM, ids=lambda message: type(message).__name__)
def test_what_a_site_sends_arrives(message: notes.Sent) -> None:
    sent = wire.to_coordinator(message).SerializeToString()

    assert wire.from_site(pb.ToCoordinator.FromString(sent)) == message


@pytest.mark.parametrize("message", DOWNSTREAM, ids=lambda message: type(message).__name__)
def test_what_the_coordinator_sends_arrives(message: notes.Received) -> None:
    sent = wire.to_site(message).SerializeToString()

    assert wire.from_coordinator(pb.ToSite.FromString(sent)) == message


def test_every_message_has_a_place_and_every_field_its_name() -> None:
    for outer, table, samples in (
        (pb.ToCoordinator, wire.UPSTREAM, UPSTREAM),
        (pb.ToSite, wire.DOWNSTREAM, DOWNSTREAM),
    ):
        bodies = {field.name: field.message_type for field in outer.DESCRIPTOR.fields}
        assert bodies.keys() == table.keys()
        assert {type(sample) for sample in samples} == set(table.values())
        for name, kind in table.items():
            assert bodies[name].name == kind.__name__
            assert [field.name for field in bodies[name].fields] == [field.name for field in fields(kind)]
    travelling = {*wire.UPSTREAM.values(), *wire.DOWNSTREAM.values()}
    protocol = {getattr(messages, name) for name in messages.__all__ if isinstance(getattr(messages, name), type)}
    # A sum and an upload travel in pieces.
    assert protocol - travelling == {messages.Sum, messages.Upload}
    assert travelling - protocol == {chunks.SumPart, notes.Note}


@pytest.mark.parametrize("message", LONGEST, ids=lambda message: type(message).__name__)
def test_the_longest_message_of_the_largest_consortium_fits(message: Any) -> None:
    outer = wire.to_coordinator if type(message) in wire.UPSTREAM.values() else wire.to_site

    assert outer(message).ByteSize() <= wire.MESSAGE_LIMIT // 4


@pytest.mark.parametrize(("outer", "read", "_write"), ENDS)
def test_an_empty_message_is_the_peers_fault(outer: Any, read: Read, _write: Any) -> None:
    with pytest.raises(PeerError, match="empty"):
        read(outer())


def valid_or_refused(outer: Any, read: Read, write: Any, data: bytes) -> None:
    try:
        parsed = outer.FromString(data)
    except DecodeError:
        return  # gRPC ends such a stream itself
    try:
        message = read(parsed)
    except PeerError:
        return
    assert read(write(message)) == message


@given(data=st.binary(max_size=400))
@pytest.mark.parametrize(("outer", "read", "write"), ENDS)
def test_random_bytes(outer: Any, read: Read, write: Any, data: bytes) -> None:
    valid_or_refused(outer, read, write, data)


@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(st.tuples(st.floats(0, 1), st.sampled_from("xid"), st.binary(min_size=1, max_size=8)), max_size=6),
)
@pytest.mark.parametrize(("outer", "read", "write"), ENDS)
def test_mutated_messages(
    outer: Any, read: Read, write: Any, sample: bytes, edits: list[tuple[float, str, bytes]]
) -> None:
    """Octets exchanged, put in and taken out; also a body of one direction in the other."""
    data = bytearray(sample)
    for where, what, octets in edits:
        at = int(where * len(data))
        data[at : at + (0 if what == "i" else len(octets))] = b"" if what == "d" else octets
    valid_or_refused(outer, read, write, bytes(data))


NUMBERS = st.one_of(st.sampled_from([0, 1, 2, 3, 8, 24, 255, 256, 1 << 20]), st.integers(0, 2**32 - 1))
OCTETS = st.one_of(st.sampled_from([0, 8, 24, 32, 48, 64, 1088, 1184]).map(bytes), st.binary(max_size=40))


def bodies(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Any values that the protobuf types allow, near the sizes that are valid."""

    def values(field: Any) -> st.SearchStrategy[Any]:
        one: st.SearchStrategy[Any]
        if field.message_type is not None:
            one = bodies(field.message_type)
        elif field.type == field.TYPE_BYTES:
            one = OCTETS
        elif field.type == field.TYPE_STRING:
            one = st.text(max_size=20)
        else:
            one = NUMBERS
        return st.lists(one, max_size=4) if field.is_repeated else one

    return st.fixed_dictionaries({}, optional={field.name: values(field) for field in descriptor.fields})


@given(data=st.data())
@pytest.mark.parametrize(("outer", "read", "write"), ENDS)
def test_any_values_of_the_right_types(outer: Any, read: Read, write: Any, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(list(outer.DESCRIPTOR.fields)))
    body = data.draw(bodies(field.message_type))

    valid_or_refused(outer, read, write, outer(**{field.name: body}).SerializeToString())
