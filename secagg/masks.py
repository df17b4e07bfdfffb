"""Keystream of AES-256 in counter mode, and masking with it.

A stream is cut into segments of 4 MiB. Segment j is AES-256-CTR with the initial counter block
``j`` (12 octets, big-endian) ‖ 00 00 00 02, so segments are independent (threads may share them out). A key
is used for one stream, ever; 2**32 segments of 2**18 blocks are far from any birthday bound.

Segment j is also what AES-256-GCM with nonce ``j`` lays over its plaintext: GCM numbers the blocks of the
plaintext from 2. Hence two backends that yield the same octets: `CTR`, and `GCM`, which is twice as fast where
OpenSSL has a path for the processor's wide AES instructions and slower elsewhere. `fastest` measures which. A
GCM context is never finalised: no authentication tag exists that could leak anything about the key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES256

from secagg.errors import ConfigError, MisuseError
from secagg.keys import uncopied
from secagg.lanes import Words, aligned

__all__ = ["CTR", "GCM", "SEGMENT", "Backend", "Keystream", "apply", "expand", "fastest", "pad", "self_test"]

SEGMENT: Final = 1 << 22

# In octets. Mask, zeros and the words they are added to stay together in a second-level cache of 512 KiB; below
# 64 KiB the calls cost more than the cache gives, from 192 KiB on the words fall out of it.
_BLOCK: Final = 1 << 17
_ZEROS: Final = memoryview(bytes(_BLOCK))


@dataclass(frozen=True)
class Backend:
    """One way to compute the stream; all backends yield the same octets.

    Args:
        name: for reports.
        start: (key of 32 octets, segment) → a context that encrypts with the stream from the segment's start.
    """

    name: str
    start: Callable[[bytes, int], CipherContext]


def _ctr(key: bytes, segment: int) -> CipherContext:
    return _counter_mode(key, segment.to_bytes(12, "big") + b"\0\0\0\2")


def _counter_mode(key: bytes, first: bytes) -> CipherContext:
    return Cipher(_aes(key), modes.CTR(first)).encryptor()


def _gcm(key: bytes, segment: int) -> CipherContext:
    return Cipher(_aes(key), modes.GCM(segment.to_bytes(12, "big"))).encryptor()


def _aes(key: bytes) -> AES256:
    if len(key) != 32:
        raise MisuseError("a mask key is 32 octets: a shorter AES key would be taken in silence")
    return AES256(key)


CTR: Final = Backend("AES-256-CTR", _ctr)
GCM: Final = Backend("AES-256-GCM", _gcm)


def self_test(backend: Backend) -> None:
    """Compare a backend with AES applied to the numbered blocks one by one.

    Runs at import for `CTR` and `GCM`: a library that computes another stream must stop a site before it masks,
    not make its rounds fail.

    Raises:
        ConfigError: the cryptography library of this machine does not compute the stream of the specification.
    """
    key = bytes(range(32))
    block = Cipher(_aes(key), modes.ECB()).encryptor()  # noqa: S305  # the definition of counter mode, not its use
    for segment in (0, 1, 1 << 32):
        head = segment.to_bytes(12, "big")
        # 20 KiB: every unrolled loop of the library runs, and 16 octets more enter none of them.
        expected = block.update(b"".join(head + (2 + i).to_bytes(4, "big") for i in range(1281)))
        stream = backend.start(key, segment)
        got = b"".join(stream.update(_ZEROS[:size]) for size in (1, 31, 4096, 16368))
        if got != expected:
            raise ConfigError(
                f"{backend.name} of this machine's cryptography library does not yield the mask stream: "
                "nothing may be masked with it. Install another version of the package cryptography"
            )


def fastest(now: Callable[[], float]) -> Backend:
    """Return the backend that is faster on this processor, measured for about a millisecond.

    Args:
        now: a clock in seconds, such as ``time.perf_counter``.
    """
    best = dict.fromkeys((CTR, GCM), float("inf"))
    octets = memoryview(bytearray(_BLOCK))
    for _ in range(5):
        for backend, least in best.items():
            began = now()
            backend.start(bytes(32), 0).update_into(_ZEROS, octets)
            best[backend] = min(least, now() - began)
    return min(best, key=best.__getitem__)


class Keystream:
    """Unpredictable octets from one key, in order; the source for noise (``dp.Keystream``) and tag keys.

    Args:
        key: 32 octets, used for nothing else.
        backend: how to compute them.
    """

    __slots__ = ("_backend", "_key", "_left", "_segment", "_stream")

    __reduce__ = uncopied

    def __init__(self, key: bytes, backend: Backend = CTR) -> None:
        self._key, self._backend, self._segment, self._left = key, backend, 0, SEGMENT
        self._stream = backend.start(key, 0)

    def __call__(self, n: int) -> bytes:
        """Return the next `n` octets; no octet is returned twice."""
        if n < 0:
            raise MisuseError(f"a keystream yields n >= 0 octets, not {n}")
        octets = bytearray(n)
        self.into(memoryview(octets))
        return bytes(octets)

    def into(self, octets: memoryview) -> None:
        """Overwrite memory with the next octets; the same stream as calling, without a copy.

        Args:
            octets: writable and contiguous, of items of one octet (``array.data.cast("B")``).
        """
        start, end = 0, len(octets)
        while start < end:
            if not self._left:
                self._segment, self._left = self._segment + 1, SEGMENT
                self._stream = self._backend.start(self._key, self._segment)
            size = min(end - start, self._left, _BLOCK)
            self._stream.update_into(_ZEROS[:size], octets[start : start + size])
            self._left -= size
            start += size


def expand(key: bytes, length: int) -> Words:
    """Return the first `length` little-endian words of a key's stream: uint64[length]."""
    return pad(length, add=(key,), subtract=())


def pad(length: int, *, add: Sequence[bytes], subtract: Sequence[bytes], backend: Backend = CTR) -> Words:
    """Return what `apply` would add to a vector: Σ streams of `add` − Σ streams of `subtract`, uint64[length]."""
    words = aligned(length).view("<u8")
    if not add:
        words[:] = 0
    _lay(words, add[:1], add[1:], subtract, backend)
    return words.astype(np.uint64, copy=False)


def apply(words: Words, *, add: Sequence[bytes], subtract: Sequence[bytes], backend: Backend = CTR) -> None:
    """Add and subtract whole streams modulo 2**64, in place.

    Args:
        words: uint64[w].
        add: keys whose streams are added.
        subtract: keys whose streams are subtracted.
        backend: how to compute them.
    """
    _lay(words, (), add, subtract, backend)


def _lay(
    words: Words, first: Sequence[bytes], add: Sequence[bytes], subtract: Sequence[bytes], backend: Backend
) -> None:
    """Overwrite the words with the streams of `first`, then add and subtract, block by block."""
    mask = aligned(_BLOCK // 8).view("<u8")
    octets, plus, minus = mask.data.cast("B"), np.add, np.subtract
    for start in range(0, len(words), SEGMENT // 8):
        segment = words[start : start + SEGMENT // 8]
        set_, added, subtracted = (
            [backend.start(key, start // (SEGMENT // 8)).update_into for key in keys] for keys in (first, add, subtract)
        )
        for offset in range(0, len(segment), _BLOCK // 8):
            block = segment[offset : offset + _BLOCK // 8]
            zeros, part = _ZEROS[: 8 * len(block)], mask[: len(block)]
            for fill in set_:
                fill(zeros, block.data.cast("B"))
            for fill in added:
                fill(zeros, octets)
                plus(block, part, block)
            for fill in subtracted:
                fill(zeros, octets)
                minus(block, part, block)


self_test(CTR)
self_test(GCM)
