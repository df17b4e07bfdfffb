"""Every field of every message, with what no honest party sends."""

import contextlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import messages
from secagg.encoding import dec, enc
from secagg.errors import MalformedMessage, MisuseError
from secagg.manifest import MAX_ROUNDS
from secagg.messages import Bundles, Part, Upload, decode, encode, parts
from secagg.setup_messages import MAX_WAVES
from tests.secagg.samples import ALL, BOXES, BUNDLE, NONCE, ROSTER, WORDS

BAD_MEMBER = [0, 256, -1, True, 1.0, "1", None]
BAD_NUMBER = [-1, MAX_ROUNDS + 1, 1 << 60, True, 1.0, None]
BAD_ROUND = [*BAD_NUMBER, 0]
BAD_WAVE = [-1, MAX_WAVES + 1, True, 0.0, None]
BAD_ROSTER = [
    (), [], None, ((1, NONCE), (1, NONCE)), ((2, NONCE), (1, NONCE)), ((1, b"short"),),
    ((0, NONCE),), ((1,),), (1, NONCE),
]  # fmt: skip
BAD_MEMBERS = [(), [1, 2], None, (1, 1), (2, 1), (0,), (256,), (True,), ("1",), ((1,),)]
BAD_WORDS = [b"", bytes(16), bytes(25), bytearray(24), None]
BAD_VECTOR_SIZE = [0, 16, 47, (1 << 36) + 8, True, None]


def bad_entries(*sizes: int, empty: bool = False) -> list[Any]:
    """What no tuple of (member, octets of these sizes) may be."""
    good = tuple(bytes(size) for size in sizes)
    wrong: list[Any] = [
        None, [(1, *good)], (1, *good), ((1,),), ((1, *good, b""),), ((0, *good),), ((256, *good),), ((True, *good),),
        (("1", *good),), ((2, *good), (1, *good)), ((1, *good), (1, *good)), ([1, *good],),
    ]  # fmt: skip
    wrong += [
        ((1, *good[:position], other, *good[position + 1 :]),)
        for position, size in enumerate(sizes)
        for other in (bytes(size - 1), bytes(size + 1), bytearray(size), "x" * size, None)
    ]
    return wrong if empty else [(), *wrong]


BAD_CONFIRMATIONS = [
    (), None, ((2, bytes(32)),), ((2, bytes(31), b""),), ((2, bytes(32), bytes(47)),), ((2, None, b""),),
    ((2, bytes(32), None),), ((3, bytes(32), b""), (2, bytes(32), b"")), ((0, bytes(32), b""),),
]  # fmt: skip

INVALID = {
    ("Hello", "run_id"): [b"", "r" * 32, None],
    ("Hello", "member"): BAD_MEMBER,
    ("Hello", "nonce"): [bytes(31), None],
    ("Hello", "last_round"): BAD_NUMBER,
    ("Hello", "sums"): BAD_NUMBER,
    ("Hello", "transcript"): [bytes(33), None],
    ("Hello", "signature"): [bytes(63), None],
    ("Bundle", "member"): BAD_MEMBER,
    ("Bundle", "wave"): BAD_WAVE,
    ("Bundle", "x25519"): [bytes(31), None],
    ("Bundle", "mlkem"): [bytes(1183), b"l" * 1184, bytes(1), None],
    ("Bundle", "mlkem_digest"): [bytes(31), bytes(32), None],
    ("Bundle", "manifest_digest"): [bytes(31), None],
    ("Bundle", "signature"): [bytes(65), None],
    ("Bundles", "wave"): [*BAD_WAVE, 1],
    ("Bundles", "owner"): [*BAD_MEMBER, 2, 3],
    ("Bundles", "newcomers"): [*BAD_MEMBERS, (1,), (2,), (1, 2, 3)],
    ("Bundles", "bundles"): [
        (), None, (1,), [BUNDLE], (BUNDLE, BUNDLE), (BUNDLE, replace(BUNDLE, member=1)), (BUNDLE,),
        (replace(BUNDLE, member=1, wave=1), BUNDLE), (replace(BUNDLE, member=1), BUNDLE, replace(BUNDLE, member=3)),
    ],
    ("Encapsulations", "sender"): [*BAD_MEMBER, 2, 3],
    ("Encapsulations", "wave"): BAD_WAVE,
    ("Encapsulations", "to"): [*bad_entries(1088), ((1, bytes(1088)),)],
    ("Ciphertexts", "wave"): BAD_WAVE,
    ("Ciphertexts", "of"): bad_entries(1088),
    ("Confirmations", "sender"): [*BAD_MEMBER, 2],
    ("Confirmations", "wave"): BAD_WAVE,
    ("Confirmations", "to"): [*BAD_CONFIRMATIONS, ((1, bytes(32), b""),)],
    ("Confirmed", "wave"): BAD_WAVE,
    ("Confirmed", "of"): BAD_CONFIRMATIONS,
    ("Invite", "wave"): [*BAD_WAVE, 0],
    ("Invite", "newcomers"): BAD_MEMBERS,
    ("Ready", "member"): BAD_MEMBER,
    ("Ready", "wave"): BAD_WAVE,
    ("Sum", "round"): BAD_ROUND,
    ("Sum", "roster"): [*BAD_ROSTER, ROSTER[:2]],
    ("Sum", "survivors"): [*BAD_MEMBERS, (1, 4), (4,)],
    ("Sum", "words"): BAD_WORDS,
    ("Step", "round"): BAD_ROUND,
    ("Step", "sums"): BAD_NUMBER,
    ("Step", "roster"): BAD_ROSTER,
    ("Upload", "member"): BAD_MEMBER,
    ("Upload", "round"): BAD_ROUND,
    ("Upload", "words"): BAD_WORDS,
    ("Upload", "boxes"): bad_entries(48, empty=True),
    ("Part", "member"): BAD_MEMBER,
    ("Part", "round"): BAD_ROUND,
    ("Part", "size"): [*BAD_VECTOR_SIZE, 40, 56],  # 56: then these words are not the last, and have no boxes
    ("Part", "offset"): [-8, 4, 32, 16, True, None],
    ("Part", "words"): [b"", bytes(23), bytes(32), bytearray(24), None],
    ("Part", "boxes"): bad_entries(48, empty=True),
    ("Survivors", "round"): BAD_ROUND,
    ("Survivors", "members"): BAD_MEMBERS,
    ("Consent", "sender"): [*BAD_MEMBER, 1, 3],
    ("Consent", "round"): BAD_ROUND,
    ("Consent", "to"): [*bad_entries(32), ((2, bytes(32)),)],
    ("Agreement", "round"): BAD_ROUND,
    ("Agreement", "macs"): bad_entries(32),
    ("Agreement", "boxes"): bad_entries(48),
    ("Shares", "member"): BAD_MEMBER,
    ("Shares", "round"): BAD_ROUND,
    ("Shares", "shares"): bad_entries(32),
    ("Shares", "keys"): bad_entries(64, empty=True),
    ("Blame", "round"): BAD_ROUND,
    ("CanaryKeys", "member"): BAD_MEMBER,
    ("CanaryKeys", "round"): BAD_ROUND,
    ("CanaryKeys", "keys"): bad_entries(32),
    ("Complete", "member"): BAD_MEMBER,
    ("Complete", "transcript"): [bytes(31), None],
    ("Refused", "member"): BAD_MEMBER,
    ("Refused", "code"): ["", "Forged", "a b", "x" * 65, "a\n", None, 5],
    ("Finish", "sums"): BAD_NUMBER,
    ("Finish", "reason"): ["", "a\nb", "x" * 501, None],
}  # fmt: skip


def test_every_field_of_every_message_is_attacked_below() -> None:
    all_fields = {(type(each).__name__, field.name) for each in ALL for field in fields(each)}
    assert all_fields == set(INVALID)
    assert {type(each).__name__ for each in ALL} == set(messages._BY_NAME)


@pytest.mark.parametrize(
    ("name", "field", "values"), [pytest.param(*of, values, id=".".join(of)) for of, values in INVALID.items()]
)
def test_a_malformed_field_is_refused(name: str, field: Any, values: list[Any]) -> None:
    valid: Any = next(each for each in ALL if type(each).__name__ == name)
    for value in values:
        with pytest.raises(MalformedMessage, match=name):
            pytest.fail(f"taken: {replace(valid, **{field: value})}")


@pytest.mark.parametrize("message", ALL, ids=lambda each: type(each).__name__)
def test_decoding_inverts_encoding(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "record",
    [
        (),
        ("Nothing", 1),
        (b"Ready", 1, 0),
        ("Ready",),
        ("Ready", 1),
        ("Ready", 1, 0, 2),
        ("Ready", "1", 0),
        ("Ready", ("Ready", 1, 0), 0),
        ("Bundles", 0, 1, (1,), (("Ready", 1, 0),)),
        ("Finish", (("Nothing", 1),), "complete"),
        ("Step", 9, 0, (("Ready", 1, 0),)),
        ("Step", 9, ("Step", 9, 0, ROSTER), ROSTER),
        ("SetupMessage", 1, 0),
    ],
)
def test_a_record_that_is_no_message_is_refused(record: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode(enc(*record))


def decodes_or_is_refused(data: bytes) -> None:
    """One message has one encoding, whoever made the octets."""
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert encode(message) == data


def edges(values: Any) -> list[tuple[int, ...]]:
    """The way to every value inside a record."""
    found = [()]
    for position, value in enumerate(values):
        if isinstance(value, tuple):
            found += [(position, *way) for way in edges(value)]
        else:
            found.append((position,))
    return found


def put(values: Any, way: tuple[int, ...], value: Any) -> Any:
    if not way:
        return value if isinstance(value, tuple) else (value,)
    position, *rest = way
    inner = put(values[position], tuple(rest), value) if rest else value
    return (*values[:position], inner, *values[position + 1 :])


plain = st.integers(0, 1 << 70) | st.binary(max_size=40) | st.text(max_size=8) | st.sampled_from([bytes(32), bytes(48)])
odd = st.recursive(plain, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6)


@given(st.binary(max_size=200))
def test_random_octets(data: bytes) -> None:
    decodes_or_is_refused(data)


@given(st.sampled_from(sorted(messages._BY_NAME)), st.lists(odd, max_size=7).map(tuple))
def test_random_fields(name: str, values: tuple[Any, ...]) -> None:
    decodes_or_is_refused(enc(name, *values))


@given(st.data())
def test_one_value_replaced(data: Any) -> None:
    record = dec(encode(data.draw(st.sampled_from(ALL))))
    other = dec(encode(data.draw(st.sampled_from(ALL))))
    value = data.draw(odd | st.sampled_from([other, *other]))
    decodes_or_is_refused(enc(*put(record, data.draw(st.sampled_from(edges(record))), value)))


@given(st.data())
def test_cut_and_joined_octets(data: Any) -> None:
    one, other = (encode(data.draw(st.sampled_from(ALL))) for _ in range(2))
    cut, again = data.draw(st.integers(0, len(one))), data.draw(st.integers(0, len(other)))
    decodes_or_is_refused(one[:cut] + other[again:])
    if cut < len(one):
        with pytest.raises(MalformedMessage):
            decode(one[:cut])
    with pytest.raises(MalformedMessage):
        decode(one + other)


@given(st.data())
def test_flipped_octets_never_pass_for_the_same_message(data: Any) -> None:
    message = data.draw(st.sampled_from(ALL))
    encoded = bytearray(encode(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    decodes_or_is_refused(bytes(encoded))
    with contextlib.suppress(MalformedMessage):
        assert decode(bytes(encoded)) != message


@given(st.integers(3, 60), st.integers(1, 70), st.booleans())
def test_an_upload_travels_in_parts(words: int, most: int, boxed: Any) -> None:
    upload = Upload(2, 9, bytes(i % 251 for i in range(8 * words)), BOXES if boxed else ())
    pieces = list(parts(upload, 8 * most))
    assert [piece.offset for piece in pieces] == list(range(0, 8 * words, 8 * most))
    assert all(len(piece.words) <= 8 * most for piece in pieces)
    assert {(piece.member, piece.round, piece.size) for piece in pieces} == {(2, 9, 8 * words)}
    assert b"".join(piece.words for piece in pieces) == upload.words
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.boxes for piece in pieces] == [()] * (len(pieces) - 1) + [upload.boxes]


@pytest.mark.parametrize("most", [0, 4, -8, 12])
def test_parts_are_cut_between_words(most: int) -> None:
    with pytest.raises(MisuseError):
        next(parts(Upload(2, 9, WORDS), most))


def test_a_box_before_the_last_part_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="last piece"):
        Part(2, 9, 48, 0, WORDS, BOXES)


def test_a_bundle_without_its_long_key_is_the_same_under_hash_and_signature() -> None:
    bare = BUNDLE.bare()
    assert bare.mlkem == b""
    assert bare == bare.bare() == replace(BUNDLE, mlkem=b"")
    assert decode(encode(bare)) == bare
    both = Bundles(0, 1, (1, 2), (replace(BUNDLE, member=1), BUNDLE))
    assert both.bare() == Bundles(0, 1, (1, 2), (replace(bare, member=1), bare))


SHOWN = {"run_id", "nonce", "transcript", "manifest_digest", "roster"}
"""Octets that a repr may show: digests, nonces and the manifest's own."""


@pytest.mark.parametrize("message", ALL, ids=lambda each: type(each).__name__)
def test_vectors_keys_macs_and_boxes_do_not_show(message: Any) -> None:
    shown = {each.name for each in fields(message) if each.repr}
    for each in fields(message):
        value = getattr(message, each.name)
        octets = isinstance(value, bytes) or (isinstance(value, tuple) and "bytes" in str(each.type))
        if octets and each.name not in SHOWN:
            assert each.name not in shown, each.name
