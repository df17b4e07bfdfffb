"""Synthetic patients and secure sums that live in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from dp.errors import UploadsExhausted
from dp.queries import Float64, Query
from models.data import SurvivalData
from models.plan import Spec
from models.presets import Preset, preset
from models.training import initial_weights

T = TypeVar("T")
FEATURES = ("age", "sex", "wbc", "tpi")


def patients(n: int, seed: int = 0, missing: float = 0.1) -> SurvivalData:
    rng = np.random.default_rng(seed)
    x = np.clip(rng.normal(size=(n, 4)), -3, 3)
    death = rng.exponential(size=n) * 500 * np.exp(-0.8 * x[:, 0] - 0.3 * x[:, 2])
    lost = rng.exponential(size=n) * 2000
    return SurvivalData(x, rng.random((n, 4)) > missing, np.minimum(death, lost) + 1, death <= lost)


def small(steps: int = 5, hidden: tuple[int, ...] = (3,)) -> Preset:
    return replace(preset("aml-small"), steps=steps, uploads=2 * steps, hidden=hidden, normaliser=100.0)


def spec(preset_: Preset, **multipliers: float) -> Spec:
    every = {"gradient": 1.0, "breslow": 1.0, "concordance": 1.0, "calibration": 1.0}
    weights = initial_weights(preset_, len(FEATURES), b"seed")
    return Spec(preset_, FEATURES, weights, multipliers or every, patient_cap=1000, noise_inflation=1.1)


class Alone:
    """A secure sum over one site without noise; remembers what it was asked, fails where it is told to."""

    def __init__(self, *, exhausted: Callable[[Query], bool] = lambda _: False, noise: float = 0.0) -> None:
        self.asked: list[Query] = []
        self.sums: list[Float64] = []
        self._exhausted = exhausted
        self._noise = noise
        self._rng = np.random.default_rng(7)

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        if self._exhausted(query):
            raise UploadsExhausted(query.kind)
        vector = contribution()
        assert vector.dtype == np.float64
        assert vector.shape == (query.length,)
        assert np.all(np.isfinite(vector))
        self.asked.append(query)
        noise = self._noise * query.multiplier * query.sensitivity * self._rng.normal(size=query.length)
        self.sums.append(vector + noise)
        return self.sums[-1]


class Replay:
    """A site that was away: gets the stored sums, must never compute a contribution."""

    def __init__(self, sums: list[Float64]) -> None:
        self._sums = iter(sums)

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        return next(self._sums)


class Together:
    """n sites in threads: each call waits for all, adds the vectors and gives everyone the sum."""

    def __init__(self, n: int) -> None:
        self._vectors: list[Float64] = [np.zeros(0)] * n
        self._digests: list[bytes] = [b""] * n
        self._barrier = threading.Barrier(n)
        self.n = n

    def site(self, index: int) -> Callable[[Query, Callable[[], Float64]], Float64]:
        def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:
            self._vectors[index], self._digests[index] = contribution(), query.digest()
            self._barrier.wait()
            assert len(set(self._digests)) == 1, "sites asked different queries"
            total = np.sum(np.stack(self._vectors), axis=0)
            self._barrier.wait()
            return total

        return secure_sum

    def run(self, job: Callable[[int, Callable[[Query, Callable[[], Float64]], Float64]], T]) -> list[T]:
        def guarded(index: int) -> T:
            try:
                return job(index, self.site(index))
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.n) as pool:
            return list(pool.map(guarded, range(self.n)))
