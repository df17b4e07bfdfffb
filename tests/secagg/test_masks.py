from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import masks
from secagg.errors import MisuseError
from secagg.masks import SEGMENT, Keystream
from tests.secagg.vectors import cases

KEY = bytes(range(32))


@pytest.mark.parametrize("case", cases("aes-256-ctr.json"))  # NIST SP 800-38A, F.5.5
def test_counter_mode(case: dict[str, Any]) -> None:
    stream = masks._counter_mode(case["key"], case["counter"])
    assert stream.update(case["plaintext"]) == case["ciphertext"]


def test_a_segment_is_the_keystream_of_gcm_with_the_segment_as_nonce() -> None:
    stream = Keystream(KEY)
    for segment in range(2):
        gcm = AESGCM(KEY).encrypt(segment.to_bytes(12, "big"), bytes(SEGMENT), None)[:-16]
        assert stream(SEGMENT) == gcm


@given(st.lists(st.integers(0, 100), max_size=20))
def test_the_stream_does_not_depend_on_how_it_is_read(sizes: list[int]) -> None:
    stream = Keystream(KEY)
    assert b"".join(map(stream, sizes)) == Keystream(KEY)(sum(sizes))


def test_reading_across_a_segment_edge() -> None:
    whole = Keystream(KEY)(SEGMENT + 40)
    stream = Keystream(KEY)
    assert stream(SEGMENT - 8) + stream(48) == whole
    assert whole[-40:] != whole[:40]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 300), st.integers(0, 3), st.integers(0, 3), st.integers(0, 1 << 32))
def test_apply_adds_and_subtracts_whole_streams(length: int, plus: int, minus: int, seed: int) -> None:
    start = np.random.default_rng(seed).integers(0, 1 << 64, length, dtype=np.uint64)
    keys = [bytes([i]) * 32 for i in range(plus + minus)]
    words = start.copy()
    masks.apply(words, add=keys[:plus], subtract=keys[plus:])
    expected = [int(word) for word in start]
    for position, key in enumerate(keys):
        for j, mask in enumerate(masks.expand(key, length)):
            expected[j] += int(mask) if position < plus else -int(mask)
    assert [int(word) for word in words] == [value % 2**64 for value in expected]


def test_apply_across_blocks_and_segments() -> None:
    length = SEGMENT // 8 + 40_000
    words = np.zeros(length, dtype=np.uint64)
    masks.apply(words, add=[KEY], subtract=[])
    assert np.array_equal(words, masks.expand(KEY, length))
    masks.apply(words, add=[], subtract=[KEY])
    assert not words.any()


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_256_bits_of_key_reach_the_cipher(size: int) -> None:
    with pytest.raises(MisuseError, match="32 octets"):
        Keystream(bytes(size))
    flipped = {Keystream(bytes(32 - 1 - i // 8) + bytes([1 << i % 8]) + bytes(i // 8))(16) for i in range(256)}
    assert len(flipped) == 256


def test_a_negative_read_is_refused() -> None:
    with pytest.raises(MisuseError):
        Keystream(KEY)(-1)
