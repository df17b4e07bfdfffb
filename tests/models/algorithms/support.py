"""Sites of one process, with the integers of a real sum without noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import numpy as np

from dp import noise_shares
from dp.queries import Float64, Query, SecureSum
from models.data import SurvivalData
from models.presets import Preset, preset
from tests.models.support import patients

T = TypeVar("T")
SILENT = 2.0**-99  # what a study without noise writes for a multiplier
CAP = 1000


class Whole:
    """n sites in threads; their vectors are rounded to the lattice of a sum without noise and added."""

    def __init__(self, n: int) -> None:
        self.n, self.asked = n, [[] for _ in range(n)]  # type: list[list[Query]]
        self._vectors: list[Float64] = [np.zeros(0)] * n
        self.largest = 0.0  # of all coordinates of all contributions, in shares of the cap
        self._barrier = Barrier(n)

    def site(self, index: int) -> SecureSum:
        def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:
            vector = contribution()
            assert np.all(np.isfinite(vector))
            self.largest = max(self.largest, float(np.max(np.abs(vector))) / (query.patient_cap * query.sensitivity))
            lattice = noise_shares.exact_lattice(query, self.n)
            self._vectors[index] = noise_shares.encode(vector, query, lattice)  # type: ignore[assignment]
            self.asked[index].append(query)
            self._barrier.wait()
            assert len({asked[-1].digest() for asked in self.asked}) == 1, "sites asked different queries"
            total = np.sum(np.stack(self._vectors), axis=0)
            self._barrier.wait()
            return noise_shares.decode(total, query, lattice)

        return secure_sum

    def run(self, job: Callable[[int, SecureSum], T]) -> list[T]:
        def guarded(index: int) -> T:
            try:
                return job(index, self.site(index))
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.n) as pool:
            return list(pool.map(guarded, range(self.n)))


def cut(data: SurvivalData, sizes: Sequence[int]) -> list[SurvivalData]:
    """The patients dealt to sites in order."""
    ends = np.cumsum([0, *sizes])
    return [data.rows(np.arange(a, b)) for a, b in pairwise(ends)]


def days(n: int, seed: int = 0) -> SurvivalData:
    """Patients with whole days, many of them tied."""
    made = patients(n, seed)
    return SurvivalData(made.x, made.observed, np.ceil(made.duration / 40) * 40, made.event)


def linear(**changes: object) -> Preset:
    return replace(preset("aml-small"), learner="cox", hidden=(), normaliser=100.0, **changes)  # type: ignore[arg-type]
