"""Rows 3.1 and 3.2 and the stream rates behind them: masking against the bare cipher, on one core.

Throughput is counted in uint32 coordinates: both sides mask d coordinates towards k peers. The bare cipher produces
four octets of AES-256-CTR for each of them and adds nothing: what a mask of 32-bit coordinates cannot do without. Ours
masks words of 64 bits in which two (b = 32) or four (b = 16) coordinates lie, and adds every stream to the vector.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from benchmarks.report import Row
from benchmarks.timing import interleaved, median
from secagg import lanes, masks

__all__ = ["LENGTH", "PEERS", "rows"]

LENGTH: Final = 10**6
PEERS: Final = 50
SEED: Final = b"benchmarks/secagg/kernels"

_BLOCKS: Final = (1 << 16, 1 << 17, 1 << 18, 1 << 19)


def rows(flags: Sequence[str], repeats: int = 15) -> list[Row]:
    """Measure masking for d = 1e6, k = 50.

    Args:
        flags: of the processor; they decide which bar counts.
        repeats: of each candidate.
    """
    keys = [hashlib.sha256(SEED + bytes([peer])).digest() for peer in range(PEERS)]
    backend = masks.fastest(time.perf_counter)
    block = _best_block(keys)
    wide, packed = (np.zeros(lanes.word_count(LENGTH, bits), dtype=np.uint64) for bits in (32, 16))
    taken = interleaved(
        {
            "cipher": lambda: _cipher(keys, 4 * LENGTH, block),
            "b = 32": lambda: _mask(wide, keys, backend),
            "b = 16": lambda: _mask(packed, keys, backend),
            "CTR": lambda: _mask(wide, keys, masks.CTR),
            "GCM": lambda: _mask(wide, keys, masks.GCM),
        },
        repeats,
    )
    least = {name: median(values) for name, values in taken.items()}
    ratio = {name: least["cipher"] / value for name, value in least.items()}
    octets = 4 * LENGTH * PEERS
    what = "masking ÷ bare AES-256-CTR, d = 1e6, k = 50, uint32-equivalent"
    found = [
        Row("3.1", f"{what}, by {backend.name}", ratio["b = 32"], "times", _bar(flags), aim=1.4),
        Row("3.1", "the same with the CTR backend", ratio["CTR"], "times"),
        Row("3.1", "the same with the GCM backend", ratio["GCM"], "times"),
        Row("3.1", f"bare AES-256-CTR, blocks of {block >> 10} KiB", octets / least["cipher"] / 1e9, "GB/s"),
        Row("3.2", f"{what}, b = 16", ratio["b = 16"], "times", 2.4, aim=2.7),
    ]
    if "vaes" in flags and "avx512f" not in flags:
        note = "the same: bar without VAES (OpenSSL's VAES path needs AVX-512, absent here)"
        found.insert(1, Row("3.1", note, ratio["b = 32"], "times", 0.8))
    return found


def _bar(flags: Sequence[str]) -> float:
    return 1.2 if "vaes" in flags else 0.8


def _best_block(keys: Sequence[bytes]) -> int:
    """Return the block size at which the bare cipher is fastest here: it is compared at its best."""
    candidates: dict[str, Callable[[], object]] = {}
    for block in _BLOCKS:
        candidates[str(block)] = partial(_cipher, keys[:10], 4 * LENGTH, block)
    taken = interleaved(candidates, 5)
    return min(_BLOCKS, key=lambda block: median(taken[str(block)]))


def _cipher(keys: Sequence[bytes], octets: int, block: int) -> None:
    zeros = memoryview(bytes(block))
    out = memoryview(bytearray(block))
    for key in keys:
        stream = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        for start in range(0, octets, block):
            stream.update_into(zeros[: octets - start], out)


def _mask(words: lanes.Words, keys: Sequence[bytes], backend: masks.Backend) -> None:
    half = len(keys) // 2
    masks.apply(words, add=keys[:half], subtract=keys[half:], backend=backend)
