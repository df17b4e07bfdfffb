"""SAVAE as it predicts: a latent code of the patient, and the Weibull survival time that is decoded from it.

z = A·u + B·tanh(… W u …), u = (x · observed, 1 − observed): the mean of q(z | x), never a sample, so that a prediction
is a function of the patient and the released parameters.

    (log α, log λ) = w·z + c + V·tanh(U z),  S(t | x) = exp(−(t/λ)^α),  α in [1/5, 5],  λ in e^±8 years

On the public grid g_k = log((H(hi) − H(lo)) / width), H = (t/λ)^α, and the factors start at 1: survival is that of the
Weibull law at every edge, and recalibration corrects the intervals as it does for any other network.

The paper's code keeps α below 2, λ below twice the longest observed time (which releases it: one patient's) and the
standard deviation of scaled numbers below 0.1. Somebody who lives through the horizon with probability 0.9 at α = 0.8
has λ = 17 horizons, and a feature of unit spread has a standard deviation near 1: out of reach. Here ranges are public
and wide enough that only what numerical safety asks for is cut.

The first code starts as the linear path of a proportional-hazards model: its row of A and B is 0, its weight in log λ
is −1, so the untrained model ranks nobody, its first step is a step of linear Weibull regression, and wide codes cost
that path nothing. The features are decoded from the other codes.

Source: Apellániz, Parras & Zazo, Sci Rep 2024;14:24567 (SAVAE).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from models import portable
from models.data import DAYS_PER_YEAR, Bool, Float64, inputs
from models.errors import MisuseError
from models.networks.base import Arrays, Layout, row_product
from models.networks.hazards import RISK_BOUND

__all__ = ["LOG_SHAPE_BOUND", "START_LOG_VARIANCE", "LatentWeibull", "log_cumulative_hazards"]

LOG_SHAPE_BOUND: Final = 1.6094379124341003  # log 5
START_LOG_VARIANCE: Final = -4.0  # of q(z | x): were it 0, first gradients would be made of noise


@dataclass(frozen=True)
class LatentWeibull:
    """The public form of a SAVAE.

    Args:
        hidden: widths of the encoder's hidden layers, at least one, 1 … 4096; the decoder of the features has them in
            reverse, that of the time has one layer of the last width.
        latent: L ≥ 1, length of the code; its first number is the time's alone.
        binary: columns whose values are 0 or 1 (Bernoulli), increasing; all others are numbers (Gaussian).
    """

    hidden: tuple[int, ...]
    latent: int
    binary: tuple[int, ...]

    @property
    def learner(self) -> str:
        """Its kind."""
        return "savae"

    def layout(self, features: int, intervals: int) -> Layout:
        """See `Network`.

        >>> LatentWeibull((3,), 2, (1,)).layout(2, 5)[-3:]
        (('values.weight', (2, 3)), ('values.bias', (2,)), ('scales.weight', (1, 1)))
        """
        if features < 1 or intervals < 1 or self.latent < 1 or not self.hidden or min(self.hidden) < 1:
            raise MisuseError(
                f"no SAVAE with {features} features, hidden {self.hidden}, latent {self.latent}, {intervals} intervals"
            )
        known = all(a < b for a, b in pairwise((-1, *self.binary)))
        if not known or (self.binary and self.binary[-1] >= features):
            raise MisuseError(f"two-valued columns must increase between 0 and {features - 1}")
        codes, last = self.latent, self.hidden[-1]
        parts: list[tuple[str, tuple[int, ...]]] = [("mean.weight", (codes, 2 * features))]
        parts += _dense("encoder", (2 * features, *self.hidden))
        parts += [("code.weight", (codes, last)), ("spread.weight", (codes, last)), ("spread.bias", (codes,))]
        parts += [("time.weight", (2, codes)), ("time.bias", (2,))]
        parts += [("curve.weight", (last, codes)), ("curve.bias", (last,)), ("bend.weight", (2, last))]
        parts += _dense("decoder", (codes, *reversed(self.hidden)))
        parts += [("values.weight", (features, self.hidden[0])), ("values.bias", (features,))]
        numbers = features - len(self.binary)
        return (*parts, ("scales.weight", (numbers, 1))) if numbers else tuple(parts)

    def start(self, name: str, shape: tuple[int, ...], seed: bytes, log_hazard: float) -> Float64:
        """An exponential law of the public hazard for everybody; see the module for the first code."""
        values = np.zeros(shape)
        match name:
            case "time.bias":
                values[1] = -log_hazard
            case "time.weight":
                values[1, 0] = -1.0
            case "spread.bias":
                values[:] = START_LOG_VARIANCE
            case "mean.weight" | "code.weight":
                values[1:] = portable.symmetric(seed, values.size, fan_in=shape[1]).reshape(shape)[1:]
            case "curve.weight":
                values = portable.symmetric(seed, values.size, fan_in=shape[1])
            case _ if name.startswith(("encoder.", "decoder.")) and name.endswith(".weight"):
                values = portable.symmetric(seed, values.size, fan_in=shape[1])
            case _:
                pass
        return values.reshape(-1)

    def factors(self, arrays: Arrays, intervals: int) -> Float64:  # noqa: ARG002 - as in Network
        """1: the Weibull law is in g."""
        return np.ones(intervals)

    def log_relative(self, arrays: Arrays, x: Float64, observed: Bool, grid: tuple[float, ...]) -> Float64:
        """Log of the deaths per year that the Weibull law puts on each interval, float64[n, K]."""
        log_shape, log_scale = self.weibull(arrays, x, observed)
        edges = np.asarray(grid) / DAYS_PER_YEAR
        later = log_cumulative_hazards(log_shape, log_scale, edges[1:])
        hazards = later - np.log(np.diff(edges))
        # H(hi) − H(lo) = H(hi) (1 − (lo/hi)^α), without the cancellation of a difference
        ratio = np.exp(log_shape)[:, None] * np.log(edges[1:-1] / edges[2:])
        hazards[:, 1:] += np.log(-np.expm1(ratio))
        return hazards

    def weibull(self, arrays: Arrays, x: Float64, observed: Bool) -> tuple[Float64, Float64]:
        """Log α and log λ (λ in years), each float64[n]."""
        u = inputs(x, observed)
        active = u
        for i in range(len(self.hidden)):
            active = np.tanh(row_product(active, arrays[f"encoder.{i}.weight"]) + arrays[f"encoder.{i}.bias"])
        z = row_product(u, arrays["mean.weight"]) + row_product(active, arrays["code.weight"])
        curve = np.tanh(row_product(z, arrays["curve.weight"]) + arrays["curve.bias"])
        law = row_product(z, arrays["time.weight"]) + arrays["time.bias"] + row_product(curve, arrays["bend.weight"])
        log_shape: Float64 = np.clip(law[:, 0], -LOG_SHAPE_BOUND, LOG_SHAPE_BOUND)
        log_scale: Float64 = np.clip(law[:, 1], -RISK_BOUND, RISK_BOUND)
        return log_shape, log_scale

    def to_json(self) -> dict[str, object]:
        """Widths, length of the code, two-valued columns."""
        return {"hidden": list(self.hidden), "latent": self.latent, "binary": list(self.binary)}


def log_cumulative_hazards(log_shape: Float64, log_scale: Float64, years: Float64) -> Float64:
    """Log H(t) = α (log t − log λ), float64[n, m].

    Args:
        log_shape: float64[n].
        log_scale: float64[n], λ in years.
        years: float64[m] > 0.

    >>> log_cumulative_hazards(np.zeros(1), np.zeros(1), np.array([1.0])).tolist()
    [[0.0]]
    """
    return np.asarray(np.exp(log_shape)[:, None] * (np.log(years)[None, :] - log_scale[:, None]))


def _dense(name: str, widths: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    parts: list[tuple[str, tuple[int, ...]]] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        parts += [(f"{name}.{i}.weight", (b, a)), (f"{name}.{i}.bias", (b,))]
    return parts
