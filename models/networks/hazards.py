"""Proportional hazards: a linear Cox model, or DeepSurv, which adds hidden layers beside the linear path.

f(x) = clip(w·z + v·tanh(… W z …), ±8), z = (x · observed, 1 − observed); factors = e^b, the baseline.

Source: Katzman et al., BMC Med Res Methodol 2018;18:24 (DeepSurv).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from models import portable
from models.data import Bool, Float64, inputs
from models.errors import MisuseError
from models.networks.base import Arrays, Layout, row_product

__all__ = ["RISK_BOUND", "Hazards"]

RISK_BOUND: Final = 8.0


@dataclass(frozen=True)
class Hazards:
    """A proportional-hazards network.

    Args:
        hidden: widths of the hidden layers, 1 … 4096; () leaves the linear path alone.
    """

    hidden: tuple[int, ...]

    @property
    def learner(self) -> str:
        """Its kind: "cox" without hidden layers, else "deepsurv"."""
        return "deepsurv" if self.hidden else "cox"

    def layout(self, features: int, intervals: int) -> Layout:
        """See `Network`.

        >>> Hazards((3,)).layout(2, 5)[:2]
        (('baseline.weight', (5, 1)), ('skip.weight', (1, 4)))
        """
        if features < 1 or intervals < 1 or any(width < 1 for width in self.hidden):
            raise MisuseError(f"no model with {features} features, hidden {self.hidden}, {intervals} intervals")
        parts: list[tuple[str, tuple[int, ...]]] = [
            ("baseline.weight", (intervals, 1)),
            ("skip.weight", (1, 2 * features)),
        ]
        widths = (2 * features, *self.hidden)
        for i, (a, b) in enumerate(pairwise(widths)):
            parts += [(f"hidden.{i}.weight", (b, a)), (f"hidden.{i}.bias", (b,))]
        if self.hidden:
            parts.append(("out.weight", (1, widths[-1])))
        return tuple(parts)

    def start(self, name: str, shape: tuple[int, ...], seed: bytes, log_hazard: float) -> Float64:
        """Baseline = the public guess; linear path and output layer 0: the untrained model ranks nobody."""
        count = int(np.prod(shape))
        if name == "baseline.weight":
            return np.full(count, log_hazard)
        if name.startswith("hidden.") and name.endswith(".weight"):
            return portable.symmetric(seed, count, fan_in=shape[1])
        return np.zeros(count)

    def factors(self, arrays: Arrays, intervals: int) -> Float64:
        """Baseline hazards per year, e^b."""
        return portable.exp(arrays["baseline.weight"].reshape(intervals))

    def log_relative(self, arrays: Arrays, x: Float64, observed: Bool, grid: tuple[float, ...]) -> Float64:  # noqa: ARG002 - as in Network
        """f, float64[n, 1] in ±`RISK_BOUND`."""
        z = inputs(x, observed)
        f = row_product(z, arrays["skip.weight"])
        if self.hidden:
            active = z
            for i in range(len(self.hidden)):
                active = np.tanh(row_product(active, arrays[f"hidden.{i}.weight"]) + arrays[f"hidden.{i}.bias"])
            f = f + row_product(active, arrays["out.weight"])
        risk: Float64 = np.clip(f, -RISK_BOUND, RISK_BOUND)
        return risk

    def to_json(self) -> dict[str, object]:
        """Widths of the hidden layers."""
        return {"hidden": list(self.hidden)}
