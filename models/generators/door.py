"""The secure sum as a generator's learner asks it: every query is about all that was released before it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from dp.errors import UploadsExhausted
from dp.queries import Query, SecureSum
from models.data import Float64

__all__ = ["Door", "OnStep"]

OnStep = Callable[[int, str], None]
"""Called after each sum with (sums done, hex digest of everything released so far)."""


class Door:
    """A secure sum that remembers what came through it.

    Args:
        settings: digest of the learner's public constants; the first query names it itself.
        secure_sum: the study's.
        noise_inflation: ≥ 1, upper bound on (noise in a sum) ÷ (noise that is counted on), standard deviations.
        on_step: told after each sum.
    """

    def __init__(self, settings: bytes, secure_sum: SecureSum, noise_inflation: float, on_step: OnStep | None) -> None:
        self._state, self._sum, self._done = settings, secure_sum, 0
        self._inflation, self._on_step = noise_inflation, on_step

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """The released sum.

        Raises:
            UploadsExhausted: of `dp`, the query's kind may not be uploaded any more.
        """
        found = self._sum(query.about(self._state) if self._done else query, contribution)
        self._state = hashlib.sha256(self._state + found.astype("<f8").tobytes()).digest()
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._state.hex())
        return found

    def tried(self, query: Query, contribution: Callable[[], Float64]) -> Float64 | None:
        """The released sum; None if its uploads are exhausted."""
        try:
            return self(query, contribution)
        except UploadsExhausted:
            return None

    def noise_sd(self, query: Query) -> float:
        """Upper bound on the standard deviation of the noise in each coordinate of a released sum."""
        return query.multiplier * query.sensitivity * self._inflation
