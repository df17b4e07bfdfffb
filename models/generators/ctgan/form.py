"""Sizes, names and public start of the generator; the trained generator in numpy.

The parameters are those of the module `Generator` of the package ctgan, in its order:

    input (z, condition);  h ← (relu(norm(W h + b)), h) for every block;  answers = W h + b

Source: Xu, Skoularidou, Cuesta-Infante & Veeramachaneni, Modeling Tabular data using Conditional GAN, NeurIPS 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models import portable
from models.data import Float64
from models.errors import MisuseError
from models.generators.ctgan.arithmetic import rounded

__all__ = ["CERTAIN", "EPSILON", "Form", "Layout", "named"]

EPSILON: Final = 1e-5  # of BatchNorm1d
CERTAIN: Final = 100.0  # logit of a level that is given

Layout = tuple[tuple[str, tuple[int, ...]], ...]
Arrays = Mapping[str, Float64]


@dataclass(frozen=True)
class Form:
    """Sizes of the generator.

    Args:
        latent: length of z.
        units: of its residual blocks.
        width: numbers of a row.
        conditions: numbers of a condition; it is about the last ones of a row.
    """

    latent: int
    units: tuple[int, ...]
    width: int
    conditions: int

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters."""
        out: list[tuple[str, tuple[int, ...]]] = []
        size = self.latent + self.conditions
        for k, units in enumerate(self.units):
            out += [(f"seq.{k}.fc.weight", (units, size)), (f"seq.{k}.fc.bias", (units,))]
            out += [(f"seq.{k}.bn.weight", (units,)), (f"seq.{k}.bn.bias", (units,))]
            size += units
        last = f"seq.{len(self.units)}"
        return (*out, (f"{last}.weight", (self.width, size)), (f"{last}.bias", (self.width,)))

    @property
    def length(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for _, shape in self.layout)

    def start(self, seed: bytes) -> Float64:
        """Initial parameters from a public seed by portable arithmetic, float64[length].

        Weights are uniform in ±1/√fan_in, of the answers half of it: columns start nearly on their own, at their
        released frequencies. Biases are 0, the weights of the normalisation 1.
        """
        return np.concatenate([self._start(name, shape, seed).ravel() for name, shape in self.layout])

    def _start(self, name: str, shape: tuple[int, ...], seed: bytes) -> Float64:
        if len(shape) == 1:
            return np.full(shape, 1.0 if name.endswith("bn.weight") else 0.0)
        drawn = portable.symmetric(seed + name.encode(), math.prod(shape), shape[1]).reshape(shape)
        return np.asarray(0.5 * drawn if name.startswith(f"seq.{len(self.units)}.") else drawn)

    def answers(self, params: Float64, statistics: Sequence[Float64], inputs: Float64) -> Float64:
        """Answers of the trained generator, float64[n, width], before frequencies are added.

        What a condition gives is certain: the network's own answers about it are not used.

        Args:
            params: float64[length].
            statistics: of each block, float64[2, units]: mean and variance that its normalisation takes off.
            inputs: float64[n, latent + conditions].
        """
        arrays = named(params, self.layout)
        for k, (mean, variance) in enumerate(statistics):
            inputs = self._block(arrays, k, self._linear(arrays, f"seq.{k}.fc", inputs), mean, variance, inputs)
        answers = self._linear(arrays, f"seq.{len(self.units)}", inputs)
        # A block hands on what it was given, after its own units.
        answers[:, -self.conditions :] = CERTAIN * inputs[:, -self.conditions :]
        return answers

    def settled(self, params: Float64, inputs: Float64) -> tuple[Float64, ...]:
        """Mean and variance of each block over public inputs, on the lattice: what its normalisation takes off.

        Args:
            params: float64[length].
            inputs: float64[n, latent + conditions], public.
        """
        arrays, out = named(params, self.layout), []
        for k in range(len(self.units)):
            raw = self._linear(arrays, f"seq.{k}.fc", inputs)
            mean, variance = rounded(raw.mean(axis=0)), rounded(raw.var(axis=0))
            out.append(np.stack([mean, variance]))
            inputs = self._block(arrays, k, raw, mean, variance, inputs)
        return tuple(out)

    @staticmethod
    def _linear(arrays: Arrays, name: str, inputs: Float64) -> Float64:
        return np.asarray(inputs @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"])

    @staticmethod
    def _block(arrays: Arrays, k: int, raw: Float64, mean: Float64, variance: Float64, inputs: Float64) -> Float64:
        normal = (raw - mean) / np.sqrt(variance + EPSILON)
        active = np.maximum(normal * arrays[f"seq.{k}.bn.weight"] + arrays[f"seq.{k}.bn.bias"], 0.0)
        return np.concatenate([active, inputs], axis=1)


def named(params: Float64, layout: Layout) -> dict[str, Float64]:
    """A flat vector as named arrays.

    Raises:
        MisuseError: it has another length, or holds what is no number.
    """
    length = sum(math.prod(shape) for _, shape in layout)
    if params.shape != (length,) or not np.isfinite(params).all():
        raise MisuseError(f"a network of this form has {length} finite parameters, got {params.shape}")
    out, start = {}, 0
    for name, shape in layout:
        stop = start + math.prod(shape)
        out[name] = params[start:stop].reshape(shape)
        start = stop
    return out
