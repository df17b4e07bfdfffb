import contextlib
import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import encoding
from secagg.encoding import dec, digest, enc
from secagg.errors import MalformedMessage, MisuseError
from tests.secagg import primitives

plain = st.integers(0, 1 << 80) | st.binary(max_size=20) | st.text(max_size=20)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)
records = st.lists(values, max_size=5).map(tuple)


@given(records)
def test_decoding_inverts_encoding(record: Any) -> None:
    assert dec(enc(*record)) == record


@given(records)
def test_it_is_what_a_second_implementation_makes_of_the_specification(record: Any) -> None:
    assert enc(*record) == primitives.enc(*record)
    assert primitives.dec(enc(*record)) == record


@given(records, records)
def test_different_records_have_different_bytes(one: Any, other: Any) -> None:
    assert (enc(*one) == enc(*other)) == (one == other)


@given(st.binary(max_size=60))
def test_whatever_decodes_encodes_to_the_same_bytes(data: Any) -> None:
    try:
        record = dec(data)
    except MalformedMessage:
        return
    assert enc(*record) == data


@given(records, st.data())
def test_octets_changed_anywhere_are_refused_or_mean_something_else(record: Any, data: Any) -> None:
    encoded = enc(*record, 1)
    place, other = data.draw(st.integers(0, len(encoded) - 1)), data.draw(st.binary(max_size=3))
    changed = encoded[:place] + other + encoded[data.draw(st.integers(place, len(encoded))) :]
    try:
        read = dec(changed)
    except MalformedMessage:
        return
    assert enc(*read) == changed


@given(records, st.data())
def test_truncated_and_extended_bytes_are_refused_or_differ(record: Any, data: Any) -> None:
    encoded = enc(*record)
    cut = data.draw(st.integers(0, len(encoded)))
    with contextlib.suppress(MalformedMessage):
        assert dec(encoded[:cut]) != record or cut == len(encoded)
    with pytest.raises(MalformedMessage):
        dec(encoded + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"i" + (2).to_bytes(8, "big") + b"\0\1",  # not minimal
        b"i" + (1).to_bytes(8, "big") + b"\0",
        b"x" + bytes(8),  # unknown kind
        b"t" + (1).to_bytes(8, "big") + b"\xff",  # not UTF-8
        b"b" + (1 << 63).to_bytes(8, "big"),
        b"b" + bytes(3),
    ],
)
def test_non_canonical_bytes_are_refused(data: Any) -> None:
    with pytest.raises(MalformedMessage):
        dec(data)


def test_nesting_is_bounded() -> None:
    data = b""
    for _ in range(5000):
        data = b"l" + len(data).to_bytes(8, "big") + data
    with pytest.raises(MalformedMessage, match="nested"):
        dec(data)


@pytest.mark.parametrize("value", [True, -1, 1.5, None, [1]])
def test_only_canonical_types_encode(value: Any) -> None:
    with pytest.raises(MisuseError):
        enc(value)


def test_concatenation_is_not_confused() -> None:
    assert digest("a", b"bc") != digest("a", b"b", b"c") != digest("a", (b"b", b"c"))
    assert digest(b"a") != digest("a")
    assert digest(0) != digest(b"")


def test_doctests() -> None:
    assert doctest.testmod(encoding).failed == 0
