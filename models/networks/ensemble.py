"""Several networks of one shape beside each other; their log-hazards are averaged.

    log h(t | x) = mean_e b_e,k(t) + mean_e f_e(x)

Each member is a whole `Hazards` of its own, and members differ in their first weights alone. The mean of clipped risks
stays within ±`RISK_BOUND`, and the factors are e^(mean of b), so an ensemble is a proportional-hazards model like any
other: recalibrated, evaluated and audited as one.

Source: Hansen & Salamon, IEEE Trans Pattern Anal Mach Intell 1990;12:993 (ensembles by other starts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models import portable
from models.data import Bool, Float64
from models.errors import MisuseError
from models.networks.base import Arrays, Layout
from models.networks.hazards import Hazards

__all__ = ["MOST_MEMBERS", "Ensemble"]

MOST_MEMBERS = 16


@dataclass(frozen=True)
class Ensemble:
    """The public form of an ensemble.

    Args:
        hidden: widths of each member's hidden layers, at least one: without any all members are the same.
        members: E, 2 … `MOST_MEMBERS`.
    """

    hidden: tuple[int, ...]
    members: int

    @property
    def learner(self) -> str:
        """Its kind."""
        return "deepsurv"

    @property
    def member(self) -> Hazards:
        """The form of each member."""
        return Hazards(self.hidden)

    def layout(self, features: int, intervals: int) -> Layout:
        """See `Network`.

        >>> Ensemble((3,), 2).layout(2, 5)[4:6]
        (('members.0.out.weight', (1, 3)), ('members.1.baseline.weight', (5, 1)))
        """
        if not self.hidden or not 2 <= self.members <= MOST_MEMBERS:
            raise MisuseError(f"no ensemble of {self.members} members with hidden {self.hidden}")
        one = self.member.layout(features, intervals)
        return tuple((f"members.{e}.{name}", shape) for e in range(self.members) for name, shape in one)

    def start(self, name: str, shape: tuple[int, ...], seed: bytes, log_hazard: float) -> Float64:
        """As a member's; the seed is that of the whole name, so that hidden layers differ."""
        return self.member.start(name.split(".", 2)[2], shape, seed, log_hazard)

    def factors(self, arrays: Arrays, intervals: int) -> Float64:
        """Baseline hazards per year, e^(mean of b)."""
        baselines = [self._of(arrays, e)["baseline.weight"].reshape(intervals) for e in range(self.members)]
        return portable.exp(_mean(baselines))

    def log_relative(self, arrays: Arrays, x: Float64, observed: Bool, grid: tuple[float, ...]) -> Float64:
        """Mean of f, float64[n, 1] in ±`RISK_BOUND`."""
        return _mean([self.member.log_relative(self._of(arrays, e), x, observed, grid) for e in range(self.members)])

    def to_json(self) -> dict[str, object]:
        """Widths of the hidden layers, and how many members."""
        return {"hidden": list(self.hidden), "members": self.members}

    def _of(self, arrays: Arrays, member: int) -> Arrays:
        head = f"members.{member}."
        return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}


def _mean(parts: list[Float64]) -> Float64:
    """Added one after the other: the same bits on every host."""
    total = np.zeros_like(parts[0])
    for part in parts:
        total = total + part
    return np.asarray(total / float(len(parts)))
