import runpy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import CipherContext, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import masks
from secagg.errors import ConfigError, MisuseError
from secagg.masks import CTR, GCM, SEGMENT, Backend, Keystream
from tests.secagg.vectors import cases
from tests.sweeps import examples

KEY = bytes(range(32))

backends = pytest.mark.parametrize("backend", [CTR, GCM], ids=["ctr", "gcm"])


@pytest.mark.parametrize("case", cases("aes-256-ctr.json"))  # NIST SP 800-38A, F.5.5
def test_counter_mode(case: dict[str, Any]) -> None:
    stream = masks._counter_mode(case["key"], case["counter"])
    assert stream.update(case["plaintext"]) == case["ciphertext"]


@backends
def test_a_segment_is_the_keystream_of_gcm_with_the_segment_as_nonce(backend: Backend) -> None:
    stream = Keystream(KEY, backend)
    for segment in range(2):
        gcm = AESGCM(KEY).encrypt(segment.to_bytes(12, "big"), bytes(SEGMENT), None)[:-16]
        assert stream(SEGMENT) == gcm


@backends
@settings(deadline=None, max_examples=examples(40))
@given(st.lists(st.integers(0, 100), max_size=20))
def test_the_stream_does_not_depend_on_how_it_is_read(backend: Backend, sizes: list[int]) -> None:
    stream = Keystream(KEY, backend)
    assert b"".join(map(stream, sizes)) == Keystream(KEY)(sum(sizes))


@settings(deadline=None, max_examples=examples(40))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=20))
def test_reading_into_memory_is_reading(reads: list[tuple[bool, int]]) -> None:
    stream, octets = Keystream(KEY), b""
    for into, size in reads:
        if into:
            target = np.full(size + 2, 7, dtype=np.uint8)
            stream.into(target.data[1 : size + 1])
            assert target[0] == target[-1] == 7
            octets += target[1:-1].tobytes()
        else:
            octets += stream(size)
    assert octets == Keystream(KEY)(len(octets))


@backends
def test_reading_across_a_segment_edge(backend: Backend) -> None:
    whole = Keystream(KEY)(SEGMENT + 40)
    stream = Keystream(KEY, backend)
    assert stream(SEGMENT - 8) + stream(48) == whole
    assert whole[-40:] != whole[:40]
    memory = np.empty(SEGMENT // 8 + 5, dtype=np.uint64)
    Keystream(KEY, backend).into(memory.data.cast("B"))
    assert memory.tobytes() == whole


@backends
@settings(deadline=None, max_examples=examples(25))
@given(st.integers(0, 300), st.integers(0, 3), st.integers(0, 3), st.integers(0, 1 << 32))
def test_apply_adds_and_subtracts_whole_streams(
    backend: Backend, length: int, plus: int, minus: int, seed: int
) -> None:
    start = np.random.default_rng(seed).integers(0, 1 << 64, length, dtype=np.uint64)
    keys = [bytes([i]) * 32 for i in range(plus + minus)]
    words = start.copy()
    masks.apply(words, add=keys[:plus], subtract=keys[plus:], backend=backend)
    expected = [int(word) for word in start]
    for position, key in enumerate(keys):
        for j, mask in enumerate(np.frombuffer(Keystream(key)(8 * length), dtype="<u8")):
            expected[j] += int(mask) if position < plus else -int(mask)
    assert [int(word) for word in words] == [value % 2**64 for value in expected]
    pad = masks.pad(length, add=keys[:plus], subtract=keys[plus:], backend=backend)
    assert pad.dtype == np.uint64
    assert np.array_equal(start + pad, words)


@backends
def test_apply_across_blocks_and_segments(backend: Backend) -> None:
    length = SEGMENT // 8 + 40_000
    words = np.zeros(length, dtype=np.uint64)
    masks.apply(words, add=[KEY], subtract=[], backend=backend)
    assert words.tobytes() == Keystream(KEY)(8 * length)
    assert np.array_equal(masks.pad(length, add=[KEY], subtract=[], backend=backend), words)
    masks.apply(words, add=[], subtract=[KEY], backend=backend)
    assert not words.any()
    assert not masks.pad(length, add=[bytes(32), KEY], subtract=[KEY, bytes(32)], backend=backend).any()


def test_a_stream_is_little_endian_words() -> None:
    assert masks.expand(KEY, 3).tolist() == [
        int.from_bytes(Keystream(KEY)(24)[i : i + 8], "little") for i in range(0, 24, 8)
    ]


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
@backends
def test_256_bits_of_key_reach_the_cipher(backend: Backend, size: int) -> None:
    with pytest.raises(MisuseError, match="32 octets"):
        Keystream(bytes(size), backend)
    keys = [bytes(32 - 1 - i // 8) + bytes([1 << i % 8]) + bytes(i // 8) for i in range(256)]
    assert len({Keystream(key, backend)(16) for key in keys}) == 256


def test_a_negative_read_is_refused() -> None:
    with pytest.raises(MisuseError):
        Keystream(KEY)(-1)


# ---- backends


class Flawed:
    """A context that errs in the octets from `start` on."""

    def __init__(self, inner: CipherContext, start: int) -> None:
        self.inner, self.start, self.position = inner, start, 0

    def update(self, data: bytes) -> bytes:
        octets = bytearray(self.inner.update(data))
        for i in range(max(0, self.start - self.position), len(octets)):
            octets[i] ^= 1
        self.position += len(octets)
        return bytes(octets)


FLAWS: dict[str, Callable[[bytes, int], Any]] = {
    "starts at block 1": lambda key, segment: masks._counter_mode(key, segment.to_bytes(12, "big") + b"\0\0\0\1"),
    "ignores the segment": lambda key, segment: CTR.start(key, 0),
    "cuts the segment to 32 bits": lambda key, segment: CTR.start(key, segment % 2**32),
    "counts the segment little-endian": lambda key, segment: masks._counter_mode(
        key, segment.to_bytes(12, "little") + b"\0\0\0\2"
    ),
    "errs after 20 KiB": lambda key, segment: Flawed(CTR.start(key, segment), 20 * 1024),
    "errs at once": lambda key, segment: Flawed(CTR.start(key, segment), 0),
    "half a key": lambda key, segment: CTR.start(key[:16] * 2, segment),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_self_test_finds_another_stream(flaw: str) -> None:
    with pytest.raises(ConfigError, match="a flaw of this machine's cryptography library does not yield"):
        masks.self_test(Backend("a flaw", FLAWS[flaw]))


@pytest.mark.parametrize("mode", ["CTR", "GCM"])
def test_both_backends_are_tested_at_import(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    assert masks.__file__ is not None
    runpy.run_path(masks.__file__)
    real = getattr(modes, mode)
    monkeypatch.setattr(modes, mode, lambda nonce: real(nonce[:-1] + bytes([nonce[-1] ^ 1])))
    with pytest.raises(Exception, match=f"AES-256-{mode} of this machine's cryptography library"):
        runpy.run_path(masks.__file__)


@pytest.mark.parametrize(("ctr", "gcm", "faster"), [(2.0, 1.0, GCM), (1.0, 2.0, CTR), (1.0, 1.0, CTR)])
def test_the_faster_backend_is_found_by_the_clock_it_is_given(ctr: float, gcm: float, faster: Backend) -> None:
    time, calls = 0.0, 0

    def now() -> float:
        """Only the second and third lap of each backend are undisturbed; the least is what counts."""
        nonlocal time, calls
        lap, of_gcm, ends = calls // 4, calls // 2 % 2, calls % 2
        if ends:
            time += (gcm if of_gcm else ctr) if lap in {1, 2} else 9.0
        calls += 1
        return time

    assert masks.fastest(now) is faster
    assert calls >= 16
