"""The specification's building blocks once more: slow, plain, from docs/reference/secagg-protocol.md and the standards.

Nothing here comes from ``secagg``. X25519, ML-KEM-768, Ed25519 and the AES block are the library's; encoding, key
derivation, counter mode, packing, tag and secret sharing are written out, in Python integers.
"""

import hashlib
import hmac
from collections.abc import Iterable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

P, COLUMNS, SEGMENT = 2**56 - 5, 1024, 4 << 20
used: set[str] = set()
"""Every text that was encoded: a verification leaves its labels here."""

# ---- encoding


def enc(*values: Any) -> bytes:
    out = []
    for value in values:
        if isinstance(value, int):
            kind, body = b"i", value.to_bytes((value.bit_length() + 7) // 8, "big")
        elif isinstance(value, str):
            kind, body = b"t", value.encode()
            used.add(value)
        else:
            kind, body = (b"b", value) if isinstance(value, bytes) else (b"l", enc(*value))
        out += [kind, len(body).to_bytes(8, "big"), body]
    return b"".join(out)


def dec(data: bytes) -> tuple[Any, ...]:
    values: list[Any] = []
    while data:
        kind, size = data[:1], int.from_bytes(data[1:9], "big")
        body, data = data[9 : 9 + size], data[9 + size :]
        if len(body) != size or kind not in (b"i", b"b", b"t", b"l"):
            raise ValueError("octets that are no encoding")
        if kind == b"i":
            values.append(int.from_bytes(body, "big"))
        elif kind == b"t":
            values.append(body.decode())
        else:
            values.append(body if kind == b"b" else dec(body))
    return tuple(values)


# ---- hashes and key derivation


def H(*values: Any) -> bytes:  # noqa: N802  # as the specification writes it
    return hashlib.sha256(enc(*values)).digest()


def PRF(key: bytes, *values: Any) -> bytes:  # noqa: N802
    return hmac.new(key, enc(*values), hashlib.sha256).digest()


def hkdf(salt: bytes, secret: bytes, *info: Any) -> bytes:
    root = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(root, enc(*info) + b"\1", hashlib.sha256).digest()


# ---- public keys


def sign(seed: bytes, purpose: str, *values: Any) -> bytes:
    return _signature(seed, enc(f"haemfed/{purpose}/v1", *values))


@cache
def _signature(seed: bytes, record: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(record)


def ed25519(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


@cache
def x25519(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


@cache
def exchange(private: bytes, other: bytes) -> bytes:
    """X25519 of two private keys."""
    peer = X25519PublicKey.from_public_bytes(x25519(other))
    return X25519PrivateKey.from_private_bytes(private).exchange(peer)


@cache
def mlkem(seed: bytes) -> bytes:
    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


@cache
def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)


# ---- streams and boxes


def counter_mode(key: bytes, first: bytes, text: bytes) -> bytes:
    """AES-256 in counter mode, one block after the other."""
    cipher, counter, out = Cipher(AES256(key), ECB()).encryptor(), int.from_bytes(first, "big"), []  # noqa: S305
    for start in range(0, len(text), 16):
        pad = cipher.update((counter + start // 16).to_bytes(16, "big"))
        out.append(bytes(a ^ b for a, b in zip(text[start : start + 16], pad, strict=False)))
    return b"".join(out)


@cache
def stream(key: bytes, octets: int) -> bytes:
    if octets > SEGMENT:
        raise ValueError("this reads the first segment only")
    return counter_mode(key, bytes(15) + b"\2", bytes(octets))


def seal(key: bytes, text: bytes, *about: Any) -> bytes:
    return AESGCM(key).encrypt(bytes(12), text, enc(*about))


def unseal(key: bytes, box: bytes, *about: Any) -> bytes:
    return AESGCM(key).decrypt(bytes(12), box, enc(*about))


# ---- words


def words(octets: bytes) -> list[int]:
    return [int.from_bytes(octets[i : i + 8], "little") for i in range(0, len(octets), 8)]


def octets(vector: Iterable[int]) -> bytes:
    return b"".join((value % 2**64).to_bytes(8, "little") for value in vector)


def pack(values: list[int], bits: int) -> list[int]:
    count = -(-len(values) // (64 // bits))
    return [sum(v << bits * p for p, v in enumerate(values[j::count])) % 2**64 for j in range(count)]


def tag(group: bytes, context: bytes, values: list[int], members: Iterable[int]) -> int:
    """Tag of one member's vector, or what a sum of these members' must carry."""
    rows = -(-len(values) // COLUMNS)
    keys = stream(PRF(group, "haemfed/tag/v1", context), 8 * COLUMNS + 16 * rows)
    columns = [each % 2**52 for each in words(keys[: 8 * min(COLUMNS, len(values))])]
    row_keys = [int.from_bytes(keys[8 * COLUMNS + 16 * b :][:16], "big") % P for b in range(rows)]
    product = sum(row_keys[j // COLUMNS] * columns[j % COLUMNS] * value for j, value in enumerate(values))
    pads = sum(int.from_bytes(PRF(group, "haemfed/tag-pad/v1", context, i), "big") for i in members)
    return (product + pads) % P


# ---- Shamir's sharing over GF(2^8), with the polynomial of AES


@cache
def times(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = (a << 1) ^ (0x11B if a & 0x80 else 0), b >> 1
    return product


@cache
def inverse(a: int) -> int:
    return next(b for b in range(1, 256) if times(a, b) == 1)


def at(x: int, shares: dict[int, bytes]) -> bytes:
    """The value at x of the polynomials of least degree through the shares, octet by octet."""
    value = bytes(32)
    for i, share in shares.items():
        weight = 1
        for j in shares.keys() - {i}:
            weight = times(weight, times(x ^ j, inverse(i ^ j)))
        value = bytes(v ^ times(weight, octet) for v, octet in zip(value, share, strict=True))
    return value
