"""The network without torch: names and shapes of its parameters, where they start, its encoder and its decoder.

    code of a patient   m(u) = B·tanh((A u + C tanh(W u + b)) / B),  z | u ~ N(m(u), diag e^s)
    answers for a code  D z + d + E tanh(V z + v)

u are the inputs of `coding`, |m| ≤ B in every coordinate (public), and the log-variances s of codes are parameters, the
same for all patients: as in probabilistic principal components, and they are released with the model, so that drawing
needs no further sum. C, W, b, E, V, v are there if there are hidden units.

Source: Kingma & Welling, ICLR 2014; Tipping & Bishop, JRSS B 1999;61:611.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from models import portable
from models.data import Float64
from models.errors import MisuseError
from models.networks.base import Arrays, Layout, row_product

__all__ = ["LOG_SCALE", "LOG_VARIANCE", "Form"]

LOG_VARIANCE: Final = (-6.0, 1.0)  # of a code
LOG_SCALE: Final = (-2.5, 1.0)  # log standard deviation of a score around its answer; scores have 1 in all
START_GAIN: Final = 2.0  # of the public order of outcomes, in the first code and back
START_LOG_VARIANCE: Final = -2.0  # of a code: were it 0, first gradients would be made of noise
_MOST: Final = 4096


@dataclass(frozen=True)
class Form:
    """Public sizes.

    Args:
        width: inputs, and answers as many, ≥ 1.
        numbers: how many of the answers are scores, they come first; 0 … width.
        latent: L, length of the code, 1 … 64.
        hidden: units of the hidden layer of encoder and decoder each, 0 … 4096.
        bound: B > 0.

    Raises:
        MisuseError: a size outside its range.
    """

    width: int
    numbers: int
    latent: int
    hidden: int
    bound: float

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = self.width >= 1 and 0 <= self.numbers <= self.width and 1 <= self.latent <= 64
        if not sizes or not 0 <= self.hidden <= _MOST or not 0 < self.bound < math.inf:
            raise MisuseError(f"no autoencoder of the form {self}")

    @property
    def layout(self) -> Layout:
        """Names and shapes of all parameters, in the order of the flat vector.

        >>> Form(3, 1, 2, 0, 3.0).layout[-2:]
        (('direct.bias', (3,)), ('scales.weight', (1, 1)))
        """
        width, codes, units = self.width, self.latent, self.hidden
        parts: list[tuple[str, tuple[int, ...]]] = [("mean.weight", (codes, width)), ("spread.weight", (codes, 1))]
        if units:
            parts += [("encoder.weight", (units, width)), ("encoder.bias", (units,)), ("code.weight", (codes, units))]
            parts += [("curve.weight", (units, codes)), ("curve.bias", (units,)), ("bend.weight", (width, units))]
        parts += [("direct.weight", (width, codes)), ("direct.bias", (width,))]
        return (*parts, ("scales.weight", (self.numbers, 1))) if self.numbers else tuple(parts)

    @property
    def length(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for _, shape in self.layout)

    def start(self, seed: bytes, risk: Float64) -> Float64:
        """Initial values from a public seed by portable arithmetic, float64[length].

        The first code starts as the patient's follow-up, in a public order of its levels, and follow-up is drawn from
        it: so from the first step on every other column can learn what it has to do with survival. Other codes start
        as random sums of the inputs, other answers at zero, which draws a column on its own.

        Args:
            seed: any public bytes.
            risk: float64[levels of follow-up], `Answers.risk`; they are the last inputs and answers.
        """
        parts = []
        for name, shape in self.layout:
            values = np.zeros(shape)
            if name in ("mean.weight", "encoder.weight", "curve.weight"):
                # Few inputs of a patient are far from zero: as if a quarter were there.
                fan_in = max(shape[1] // 4, 1) if name != "curve.weight" else shape[1]
                values = portable.symmetric(seed + name.encode(), values.size, fan_in).reshape(shape)
            if name == "mean.weight":
                values[0] = 0.0
                values[0, -len(risk) :] = START_GAIN * risk
            elif name == "direct.weight":
                values[-len(risk) :, 0] = START_GAIN * risk
            elif name == "spread.weight":
                values[:] = START_LOG_VARIANCE
            parts.append(values.ravel())
        return np.concatenate(parts)

    def arrays(self, params: Float64) -> dict[str, Float64]:
        """The flat vector as named arrays.

        Raises:
            MisuseError: it has another length, or holds what is no number.
        """
        if params.shape != (self.length,) or not np.isfinite(params).all():
            raise MisuseError(f"an autoencoder of this form has {self.length} finite parameters, got {params.shape}")
        out, start = {}, 0
        for name, shape in self.layout:
            stop = start + math.prod(shape)
            out[name] = params[start:stop].reshape(shape)
            start = stop
        return out

    def encode(self, arrays: Arrays, inputs: Float64) -> Float64:
        """Means of codes, float64[n, L] inside ±B, row i a function of row i alone to the last bit."""
        raw = row_product(inputs, arrays["mean.weight"])
        if self.hidden:
            active = np.tanh(row_product(inputs, arrays["encoder.weight"]) + arrays["encoder.bias"])
            raw = raw + row_product(active, arrays["code.weight"])
        return np.asarray(self.bound * np.tanh(raw / self.bound))

    def decode(self, arrays: Arrays, codes: Float64) -> Float64:
        """Answers for codes, float64[n, width]."""
        out = codes @ arrays["direct.weight"].T + arrays["direct.bias"]
        if self.hidden:
            out = out + np.tanh(codes @ arrays["curve.weight"].T + arrays["curve.bias"]) @ arrays["bend.weight"].T
        return np.asarray(out)

    def spreads(self, arrays: Arrays) -> Float64:
        """Standard deviations of codes around their means, float64[L]."""
        return np.exp(0.5 * np.clip(arrays["spread.weight"][:, 0], *LOG_VARIANCE))

    def scales(self, arrays: Arrays) -> Float64:
        """Standard deviations of scores around their answers, float64[numbers]."""
        if not self.numbers:
            return np.zeros(0)
        return np.exp(np.clip(arrays["scales.weight"][:, 0], *LOG_SCALE))
