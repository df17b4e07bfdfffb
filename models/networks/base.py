"""What a survival network is without torch: names and shapes of its parameters, where they start, what they predict.

Every network ends in hazards that are constant in each interval of the study's public grid:

    hazard_k(x) = factor_k · e^{g_k(x)}

g comes from the parameters, the K factors start as the network says and are what recalibration corrects. So prediction,
recalibration, evaluation and audit are the same for all of them, and a network only says what g is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from models.data import Bool, Float64

__all__ = ["Arrays", "Layout", "Network", "parameter_count", "row_product"]

Layout = tuple[tuple[str, tuple[int, ...]], ...]
Arrays = Mapping[str, Float64]


class Network(Protocol):
    """The public form of a survival network; frozen, numpy only."""

    @property
    def learner(self) -> str:
        """Its kind, as studies and model files name it."""
        ...

    def layout(self, features: int, intervals: int) -> Layout:
        """Names and shapes of all parameters, in the order of the flat vector (the order of the released sums).

        Raises:
            MisuseError: no network with so many features and intervals.
        """
        ...

    def start(self, name: str, shape: tuple[int, ...], seed: bytes, log_hazard: float) -> Float64:
        """Initial values of one parameter, float64 of its size, from public numbers by portable arithmetic.

        Args:
            name: of the parameter.
            shape: its shape.
            seed: public bytes of this parameter.
            log_hazard: public guess of the log of deaths per patient-year.
        """
        ...

    def factors(self, arrays: Arrays, intervals: int) -> Float64:
        """The factors that training left, float64[K] ≥ 0, by portable arithmetic."""
        ...

    def log_relative(self, arrays: Arrays, x: Float64, observed: Bool, grid: tuple[float, ...]) -> Float64:
        """g, float64[n, K], or float64[n, 1] where it is the same in every interval (proportional hazards).

        Row i is a function of patient i and the parameters alone, to the last bit.
        """
        ...

    def to_json(self) -> dict[str, object]:
        """What a model file says of it beside `learner`."""
        ...


def parameter_count(shape: Layout) -> int:
    """Length d of the flat vector."""
    return sum(math.prod(s) for _, s in shape)


def row_product(x: Float64, weight: Float64) -> Float64:
    """X Wᵀ in the folding order of `dp.rowwise`: no row's bits depend on another row."""
    out = np.empty((x.shape[0], weight.shape[0]))
    for j, row in enumerate(weight):
        terms = x * row
        width = terms.shape[1]
        while width > 1:
            half = width // 2
            terms[:, :half] += terms[:, width - half : width]
            width -= half
        out[:, j] = terms[:, 0]
    return out
