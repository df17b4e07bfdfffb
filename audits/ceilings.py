"""The most that any attack can achieve against a claim: from μ where there is one, else from (ε, δ) alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audits import gaussian
from audits.errors import MisuseError

__all__ = ["Ceiling"]


@dataclass(frozen=True)
class Ceiling:
    """Bounds on attacks that tell members from others.

    A Gaussian mechanism has the trade-off curve of two shifted normals. Of other mechanisms (ε, δ) is all that is used:
    hits ≤ e^ε · false alarms + δ, and the same with misses and correct rejections exchanged (Kairouz, Oh & Viswanath
    2015). The second bound is the weaker one.

    >>> round(Ceiling(0.5, 1.99, 1e-5).tpr(0.01), 3), round(Ceiling(None, 1.99, 1e-5).tpr(0.01), 3)
    (0.034, 0.073)

    Args:
        mu: μ of Gaussian differential privacy, None if the claim has none.
        epsilon: ε ≥ 0.
        delta: δ in [0, 1).

    Raises:
        MisuseError: a value outside its range.
    """

    mu: float | None
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0.0 and 0.0 <= self.delta < 1.0):
            raise MisuseError(f"no ceiling for epsilon {self.epsilon!r} and delta {self.delta!r}")

    @property
    def _knee(self) -> float:
        """False-alarm rate at which the two bounds cross: there hits = 1 − false alarms."""
        return (1.0 - self.delta) / (1.0 + _exp(self.epsilon))

    def tpr(self, fpr: float) -> float:
        """Largest true-positive rate at a false-positive rate."""
        if self.mu is not None:
            return gaussian.tpr_ceiling(self.mu, fpr)
        if fpr >= 1.0:
            return 1.0
        rising = self.delta + _exp(self.epsilon) * max(fpr, 0.0)
        falling = 1.0 - (1.0 - self.delta - fpr) * math.exp(-self.epsilon)
        return min(1.0, rising if fpr <= self._knee else falling)

    def auc(self) -> float:
        """Largest area under the ROC curve: the area under `tpr`."""
        if self.mu is not None:
            return gaussian.auc_ceiling(self.mu)
        knee, delta = self._knee, self.delta
        # A line from (0, δ) to (knee, 1 − knee), one from there to (1 − δ, 1), and a flat end.
        first = knee * (delta + 1.0 - knee) / 2.0
        second = (1.0 - delta - knee) * (2.0 - knee) / 2.0
        return first + second + delta

    def accuracy(self) -> float:
        """Best accuracy at guessing a fair coin-flip membership."""
        if self.mu is not None:
            return gaussian.accuracy(self.mu)
        return 1.0 - self._knee


def _exp(epsilon: float) -> float:
    return math.exp(epsilon) if epsilon < 700.0 else math.inf
