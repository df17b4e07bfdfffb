"""The unit of every time in a results file: one fixed piece of work, about one CPU second on an ordinary server core.

    python -m benchmarks.calibrate

Machines differ and are shared, so a time alone says little. Each benchmark runs this loop before and after itself and
gives times in *s-equivalent*: CPU seconds of the measurement ÷ CPU seconds of the loop. The drift between the two runs
is printed beside the results; where it is large, somebody else was using the machine.

The work is the same everywhere, which :func:`work` proves by the digest it returns: AES-256-CTR (what masking does),
products of float64 matrices with small whole entries (exact, so no library's order of additions shows), a sort of
64-bit numbers, and JSON. About a quarter of the time each.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

FULL = 25
"""Turns of the loop in one calibration."""

_STREAM = 288 << 18  # octets of keystream a turn
_SIDE = 384
_NUMBERS = 136_000
_ROWS = 1350


def work(turns: int = FULL) -> bytes:
    """Do `turns` turns of the fixed loop and return the SHA-256 digest of what they computed.

    >>> work(1) == work(1)
    True
    """
    digest = hashlib.sha256()
    for turn in range(turns):
        digest.update(_cipher(turn))
        digest.update(_matrices(turn))
        digest.update(_sort(turn))
        digest.update(_text(turn))
    return digest.digest()


@dataclass(frozen=True)
class Calibration:
    """The loop before and after one benchmark, in CPU seconds."""

    before: float
    after: float

    @property
    def unit(self) -> float:
        """One s-equivalent in CPU seconds of this machine at this time."""
        return (self.before + self.after) / 2

    @property
    def drift(self) -> float:
        """How much slower the machine was afterwards; 0.05 is 5 %."""
        return self.after / self.before - 1


def seconds() -> float:
    """Run the loop once at full size and return the CPU seconds it took."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _cipher(turn: int) -> bytes:
    stream = Cipher(AES256(bytes(31) + bytes([turn])), CTR(bytes(16))).encryptor()
    block = bytearray(1 << 18)
    zeros = bytes(len(block))
    for _ in range(_STREAM // len(block)):
        stream.update_into(zeros, block)
    return bytes(block[-32:])


def _matrices(turn: int) -> bytes:
    entries = _numbers(_SIDE * _SIDE, turn) % np.uint64(1 << 10)
    square = entries.astype(np.float64).reshape(_SIDE, _SIDE)
    # Sums of 384 products below 2**20 stay below 2**53, the second product too: exact in every order.
    product = (square @ square) % 1024.0
    return (product @ square).astype(np.int64).tobytes()[-32:]


def _sort(turn: int) -> bytes:
    return np.sort(_numbers(_NUMBERS, turn), kind="stable")[:: _NUMBERS // 4].tobytes()


def _text(turn: int) -> bytes:
    rows = [{"round": turn, "site": row, "values": [row * turn, row / 4, str(row)]} for row in range(_ROWS)]
    return json.dumps(json.loads(json.dumps(rows)), separators=(",", ":"))[-32:].encode()


def _numbers(count: int, turn: int) -> np.ndarray:
    """Return 64-bit numbers from a linear congruence: the same under every version of every library."""
    with np.errstate(over="ignore"):
        mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(turn)
        mixed ^= mixed >> np.uint64(29)
        return mixed * np.uint64(0xBF58476D1CE4E5B9)


if __name__ == "__main__":
    print(f"{seconds():.3f} CPU s; digest {work(1).hex()[:16]}")
