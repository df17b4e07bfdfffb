"""Canonical bytes of whatever is hashed, signed, MACed or stored.

One value has one encoding and one encoding has one value, so that two parties can never mean different things
by the same digest. Protobuf bytes are not canonical and are never hashed.

Format of one value: a kind octet, the payload's length as 8 octets big-endian, the payload.

=====  ==================  =====================================================
kind   Python type         payload
=====  ==================  =====================================================
``i``  ``int`` ≥ 0         minimal big-endian, zero is empty
``b``  ``bytes``           the octets
``t``  ``str``             UTF-8
``l``  ``tuple``           the elements' encodings, one after the other
=====  ==================  =====================================================
"""

import hashlib
import struct
from typing import Final, TypeAlias

from secagg.errors import MalformedMessage, MisuseError

__all__ = ["Value", "dec", "digest", "enc"]

Value: TypeAlias = "int | bytes | str | tuple[Value, ...]"

_header: Final = struct.Struct(">cQ").pack
_HEADER: Final = 9
_DEEPEST: Final = 8  # nesting of our own records is 4; a decoder must not recurse as deep as a stranger likes


def enc(*values: Value) -> bytes:
    r"""Encode a sequence of values; injective.

    >>> enc("a", 1)
    b't\x00\x00\x00\x00\x00\x00\x00\x01ai\x00\x00\x00\x00\x00\x00\x00\x01\x01'

    Args:
        values: non-negative integers, bytes, text, or tuples of these.

    Raises:
        MisuseError: another type (``bool`` too) or a negative integer.
    """
    parts: list[bytes] = []
    for value in values:
        # Set-up encodes tens of thousands of values: the two commonest kinds come first and call nothing.
        if type(value) is bytes:
            kind, payload = b"b", value
        elif type(value) is tuple:
            kind, payload = b"l", enc(*value)
        else:
            kind, payload = _payload(value)
        parts += (_header(kind, len(payload)), payload)
    return b"".join(parts)


def dec(data: bytes) -> tuple[Value, ...]:
    """Invert :func:`enc`; accepts nothing that :func:`enc` cannot have produced.

    Raises:
        MalformedMessage: truncated, trailing, unknown kind, not minimal, not UTF-8, or nested too deep.
    """
    return _sequence(bytes(data), depth=0)


def digest(*values: Value) -> bytes:
    """SHA-256 (32 octets) of ``enc(*values)``; the first value is a label of :class:`secagg.keys.Label`."""
    return hashlib.sha256(enc(*values)).digest()


def _payload(value: Value) -> tuple[bytes, bytes]:
    # `type() is`, not isinstance: True is an int to Python, and a numpy integer would encode by luck.
    if type(value) is int and value >= 0:
        return b"i", value.to_bytes((value.bit_length() + 7) // 8, "big")
    if isinstance(value, bytes):
        return b"b", value
    if isinstance(value, str):
        return b"t", value.encode()
    if isinstance(value, tuple):
        return b"l", enc(*value)
    raise MisuseError(
        f"cannot encode {type(value).__name__}: only int >= 0, bytes, str and tuple have a canonical form"
    )


def _sequence(data: bytes, depth: int) -> tuple[Value, ...]:
    if depth > _DEEPEST:
        raise MalformedMessage(f"encoding nested deeper than {_DEEPEST}")
    values: list[Value] = []
    position = 0
    while position < len(data):
        start = position + _HEADER
        end = start + int.from_bytes(data[position + 1 : start], "big")
        if start > len(data) or end > len(data):
            raise MalformedMessage("encoding is truncated")
        values.append(_value(data[position : position + 1], data[start:end], depth))
        position = end
    return tuple(values)


def _value(kind: bytes, payload: bytes, depth: int) -> Value:
    match kind:
        case b"i":
            if payload[:1] == b"\0":
                raise MalformedMessage("encoded integer is not minimal")
            return int.from_bytes(payload, "big")
        case b"b":
            return payload
        case b"t":
            try:
                return payload.decode()
            except UnicodeDecodeError as error:
                raise MalformedMessage("encoded text is not UTF-8") from error
        case b"l":
            return _sequence(payload, depth + 1)
    raise MalformedMessage(f"unknown kind octet {kind!r} in an encoding")
