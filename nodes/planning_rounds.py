"""Hospitals of a plan that train by FedAvg or FedProx: noise in every local step, changes added in one process.

The training is the study's own (`models.algorithms.averaging`), each hospital in a thread. An upload of E local steps
of multiplier z is charged as one Gaussian release of multiplier z/√E, and so it is against everybody: the sum of the
changes has no noise that anybody could take off. The sum is exact here; a study's is rounded to integers so fine that
no score moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from typing import cast

import numpy as np

from dp import noise_shares
from dp.queries import Float64, Query, SecureSum
from models.algorithms import averaging, chosen
from models.algorithms.averaging import Averaging
from models.algorithms.local import OwnNoise, step_query
from models.data import SurvivalData
from models.presets import Preset
from nodes import rounds
from nodes.errors import ConfigError
from nodes.protocol import Terms
from secagg.manifest import Noise
from secagg.masks import Keystream

__all__ = ["Averaged"]


@dataclass(frozen=True)
class Averaged:
    """Rounds as `haemfed study draft` writes them for hospitals of these sizes.

    Args:
        name: "fedavg" or "fedprox".
        preset: its steps are rounds, its update the local step.
        averaging: constants of the rounds; shares in proportion to the declared sizes.
    """

    name: str
    preset: Preset
    averaging: Averaging

    @classmethod
    def of(cls, asked: rounds.Asked, preset: Preset, sizes: Sequence[int]) -> Averaged:
        """Give every number that was left out its default.

        Raises:
            ConfigError: newton, which runs without noise only; (of `models`) a constant out of range.
            StudyInvalid: fedprox that pulls nobody.
        """
        if asked.name == "newton":
            raise ConfigError(
                "newton runs without noise only: it has no ε, so there is nothing to plan. A plan is for lockstep, "
                "fedavg and fedprox; an exact Cox model comes near what everybody in one place learns without privacy, "
                "in the plan of a preset of cox"
            )
        found = chosen.read(rounds.named(asked, [str(size) for size in sizes]))
        return cls(asked.name, rounds.prepared(preset, asked), cast("Averaging", found))

    @property
    def local_steps(self) -> int:
        """Of all rounds, at each hospital."""
        return self.preset.steps * self.averaging.local_steps

    def to_json(self) -> dict[str, object]:
        """All constants."""
        return {
            "name": self.name,
            "rounds": self.preset.steps,
            "local_rate": self.preset.learning_rate,
            **self.averaging.to_json(),
        }

    def train(
        self,
        features: int,
        weights: bytes,
        parts: Sequence[SurvivalData],
        multiplier: float,
        secret: Callable[[int], Keystream],
    ) -> bytes:
        """The averaged parameters.

        Args:
            features: p.
            weights: initial ones.
            parts: training patients of each hospital, bounded.
            multiplier: that one upload is charged with.
            secret: place of a hospital → bytes of its noise.

        Raises:
            ConfigError: (of `dp`) the noise of a local step has no lattice: too small an ε.
        """
        preset = self.preset.sized(sum(map(len, parts)))

        def query(index: int) -> Query:
            return chosen.query_of(self.averaging, preset, features, multiplier, Terms.patient_cap, index)

        noise_shares.local_lattice(step_query(query(0), preset.clip, self.averaging.local_steps, 0), 1)

        def site(place: int, secure_sum: SecureSum) -> bytes:
            noise = OwnNoise(secret(place))
            return averaging.fit(
                preset, self.averaging, place, features, weights, parts[place], secure_sum, query,
                noise=Noise.LOCAL, local_noise=noise,
            ).trained.params  # fmt: skip

        return _Together(len(parts)).run(site)


@dataclass
class _Together:
    """Sums over hospitals in threads."""

    sites: int
    _barrier: Barrier = field(init=False)
    _vectors: list[Float64] = field(init=False)

    def __post_init__(self) -> None:
        self._barrier = Barrier(self.sites)
        self._vectors = [np.zeros(0)] * self.sites

    def run(self, job: Callable[[int, SecureSum], bytes]) -> bytes:
        """What the first hospital ends with: all end with the same."""
        with ThreadPoolExecutor(self.sites) as pool:
            ended = [pool.submit(self._guarded, job, place) for place in range(self.sites)]
        failed = [error for each in ended if (error := each.exception()) is not None]
        for error in sorted(failed, key=lambda each: isinstance(each, BrokenBarrierError)):
            raise error
        return ended[0].result()

    def _guarded(self, job: Callable[[int, SecureSum], bytes], place: int) -> bytes:
        try:
            return job(place, self._sum(place))
        except BaseException:
            self._barrier.abort()  # nobody waits for one who has failed
            raise

    def _sum(self, place: int) -> SecureSum:
        def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:  # noqa: ARG001 - protocol
            self._vectors[place] = contribution()
            self._barrier.wait()
            total: Float64 = np.sum(np.stack(self._vectors), axis=0)
            self._barrier.wait()
            return total

        return secure_sum
