"""Keystream of AES-256 in counter mode, and masking with it.

A stream is cut into segments of 4 MiB. Segment j is AES-256-CTR with the initial counter block
``j`` (12 octets, big-endian) ‖ 00 00 00 02, so segments are independent (threads may share them out), and
each is also the keystream of AES-256-GCM with nonce ``j``, which is twice as fast on some processors. A key
is used for one stream, ever; 2**32 segments of 2**18 blocks are far from any birthday bound.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg.errors import MisuseError
from secagg.lanes import Words

__all__ = ["SEGMENT", "Keystream", "apply", "expand"]

SEGMENT: Final = 1 << 22
_BLOCK: Final = 1 << 18  # octets; stays in the second-level cache while every peer's mask is added to it
_ZEROS: Final = bytes(_BLOCK)


class Keystream:
    """Unpredictable octets from one key, in order; the source for noise (``dp.Keystream``) and tag keys.

    Args:
        key: 32 octets, used for nothing else.
    """

    __slots__ = ("_key", "_left", "_segment", "_stream")

    def __init__(self, key: bytes) -> None:
        self._key, self._segment, self._left = key, 0, SEGMENT
        self._stream = _encryptor(key, 0)

    def __call__(self, n: int) -> bytes:
        """Return the next `n` octets; no octet is returned twice."""
        if n < 0:
            raise MisuseError(f"a keystream yields n >= 0 octets, not {n}")
        parts = []
        while n > 0:
            if not self._left:
                self._segment, self._left = self._segment + 1, SEGMENT
                self._stream = _encryptor(self._key, self._segment)
            size = min(n, self._left)
            parts.append(self._stream.update(bytes(size)))
            self._left -= size
            n -= size
        return b"".join(parts)


def expand(key: bytes, length: int) -> Words:
    """Return the first `length` little-endian words of a key's stream: uint64[length]."""
    return np.frombuffer(Keystream(key)(8 * length), dtype="<u8").astype(np.uint64)


def apply(words: Words, *, add: Sequence[bytes], subtract: Sequence[bytes]) -> None:
    """Add and subtract whole streams modulo 2**64, in place.

    Args:
        words: uint64[w].
        add: keys whose streams are added.
        subtract: keys whose streams are subtracted.
    """
    mask = np.empty(_BLOCK // 8, dtype="<u8")
    octets = mask.data.cast("B")
    for start in range(0, len(words), SEGMENT // 8):
        segment = words[start : start + SEGMENT // 8]
        streams = [_encryptor(key, start // (SEGMENT // 8)) for key in (*add, *subtract)]
        for offset in range(0, len(segment), _BLOCK // 8):
            block = segment[offset : offset + _BLOCK // 8]
            size = 8 * len(block)
            for position, stream in enumerate(streams):
                stream.update_into(_ZEROS[:size], octets)
                operation = np.add if position < len(add) else np.subtract
                operation(block, mask[: len(block)], out=block)


def _encryptor(key: bytes, segment: int) -> CipherContext:
    return _counter_mode(key, segment.to_bytes(12, "big") + b"\0\0\0\2")


def _counter_mode(key: bytes, first: bytes) -> CipherContext:
    if len(key) != 32:
        raise MisuseError("a mask key is 32 octets: a shorter AES key would be taken in silence")
    return Cipher(AES256(key), CTR(first)).encryptor()
