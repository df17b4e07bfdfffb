"""Every field of every message, with what no honest party sends."""

import contextlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import messages
from secagg.encoding import enc
from secagg.errors import MalformedMessage
from secagg.messages import (
    Bundle,
    Bundles,
    Complete,
    Confirmations,
    Encapsulations,
    Finish,
    Hello,
    Ready,
    Refused,
    Step,
    Sum,
    Upload,
    decode,
    encode,
)

NONCE = b"n" * 32
ROSTER = ((1, NONCE), (2, NONCE), (3, NONCE))
WORDS = bytes(24)
SUM = Sum(4, ROSTER, WORDS)
BUNDLE = Bundle(2, b"x" * 32, b"k" * 1184, b"m" * 32, b"s" * 64)

VALID = [
    Hello(b"r" * 32, 1, NONCE, 7, 3, b"t" * 32, b"s" * 64),
    BUNDLE,
    Bundles((replace(BUNDLE, member=1), BUNDLE)),
    Encapsulations(1, ((2, b"c" * 1088), (3, b"d" * 1088))),
    Confirmations(1, ((2, b"m" * 32, b"g" * 48), (3, b"m" * 32, b""))),
    Ready(1),
    SUM,
    Step(9, ROSTER, (SUM, replace(SUM, round=5))),
    Upload(1, 9, WORDS),
    Complete(1, b"t" * 32),
    Refused(1, "forged-sum"),
    Finish((SUM,), "complete"),
]

BAD_MEMBER = [0, 256, -1, True, 1.0, "1", None]
BAD_NUMBER = [-1, 1 << 60, True, 1.0, None]
BAD_ROSTER = [
    (), [], None, ((1, NONCE), (1, NONCE)), ((2, NONCE), (1, NONCE)), ((1, b"short"),),
    ((0, NONCE),), ((1,),), (1, NONCE),
]  # fmt: skip
BAD_WORDS = [b"", bytes(16), bytes(25), bytearray(24), None]
BAD_SUMS = [[SUM], (1,), (SUM, SUM), (replace(SUM, round=5), SUM), None]

INVALID = {
    ("Hello", "run_id"): [b"", "r" * 32, None],
    ("Hello", "member"): BAD_MEMBER,
    ("Hello", "nonce"): [bytes(31), None],
    ("Hello", "last_round"): BAD_NUMBER,
    ("Hello", "sums"): BAD_NUMBER,
    ("Hello", "transcript"): [bytes(33), None],
    ("Hello", "signature"): [bytes(63), None],
    ("Bundle", "member"): BAD_MEMBER,
    ("Bundle", "x25519"): [bytes(31), None],
    ("Bundle", "mlkem"): [bytes(1183), None],
    ("Bundle", "manifest_digest"): [bytes(31), None],
    ("Bundle", "signature"): [bytes(65), None],
    ("Bundles", "bundles"): [(), None, (1,), (BUNDLE, BUNDLE), (BUNDLE, replace(BUNDLE, member=1))],
    ("Encapsulations", "sender"): [*BAD_MEMBER, 2],
    ("Encapsulations", "to"): [
        (), None, ((2, bytes(1087)),), ((1, bytes(1088)),), ((3, bytes(1088)), (2, bytes(1088))),
    ],
    ("Confirmations", "sender"): [*BAD_MEMBER, 2],
    ("Confirmations", "to"): [
        (), None, ((2, bytes(32)),), ((2, bytes(31), b""),), ((2, bytes(32), bytes(47)),), ((2, None, b""),),
        ((3, bytes(32), b""), (2, bytes(32), b"")), ((1, bytes(32), b""),), ((0, bytes(32), b""),),
    ],
    ("Ready", "member"): BAD_MEMBER,
    ("Sum", "round"): [*BAD_NUMBER, 0],
    ("Sum", "roster"): BAD_ROSTER,
    ("Sum", "words"): BAD_WORDS,
    ("Step", "round"): [*BAD_NUMBER, 0, 5],
    ("Step", "roster"): BAD_ROSTER,
    ("Step", "missed"): BAD_SUMS,
    ("Upload", "member"): BAD_MEMBER,
    ("Upload", "round"): [*BAD_NUMBER, 0],
    ("Upload", "words"): BAD_WORDS,
    ("Complete", "member"): BAD_MEMBER,
    ("Complete", "transcript"): [bytes(31), None],
    ("Refused", "member"): BAD_MEMBER,
    ("Refused", "code"): ["", "Forged", "a b", "x" * 65, "a\n", None, 5],
    ("Finish", "missed"): BAD_SUMS,
    ("Finish", "reason"): ["", "a\nb", "x" * 501, None],
}  # fmt: skip


def test_every_field_of_every_message_is_attacked_below() -> None:
    all_fields = {(type(each).__name__, field.name) for each in VALID for field in fields(each)}
    assert all_fields == set(INVALID)
    assert {type(each).__name__ for each in VALID} == set(messages._BY_NAME)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [(name, field, value) for (name, field), values in INVALID.items() for value in values],
)
def test_a_malformed_field_is_refused(name: str, field: Any, value: Any) -> None:
    valid = next(each for each in VALID if type(each).__name__ == name)
    with pytest.raises(MalformedMessage, match=name):
        replace(valid, **{field: value})


@pytest.mark.parametrize("message", VALID, ids=lambda each: type(each).__name__)
def test_decoding_inverts_encoding(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "record",
    [
        (),
        ("Nothing", 1),
        (b"Ready", 1),
        ("Ready",),
        ("Ready", 1, 2),
        ("Ready", "1"),
        ("Ready", ("Ready", 1)),
        ("Bundles", (("Ready", 1),)),
        ("Finish", (("Nothing", 1),), "complete"),
        ("Step", 9, (("Ready", 1),), ()),
    ],
)
def test_a_record_that_is_no_message_is_refused(record: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode(enc(*record))


@given(st.data())
def test_flipped_octets_never_pass_for_the_same_message(data: Any) -> None:
    message = data.draw(st.sampled_from(VALID))
    encoded = bytearray(encode(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedMessage):
        assert decode(bytes(encoded)) != message


def test_secrets_and_vectors_do_not_show() -> None:
    assert "words" not in repr(SUM)
    assert "x25519" not in repr(BUNDLE)
