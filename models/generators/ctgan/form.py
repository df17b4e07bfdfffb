"""Sizes, names and public start of generator and critic; the trained generator in numpy.

The parameters are those of the modules `Generator` and `Discriminator` of the package ctgan, in their order:

    generator: input (z, condition);  h ← (relu(norm(W h + b)), h) for every block;  answers = W h + b
    critic (pac = 1, no dropout):     h ← leaky_relu(W h + b, 0.2) for every layer;  score = w·h + b

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
from models.generators.ctgan.arithmetic import project, rounded

__all__ = ["EPSILON", "Form", "Layout", "named"]

EPSILON: Final = 1e-5  # of BatchNorm1d
_LAYERS_OF_BLOCK: Final = 3  # Linear, LeakyReLU, Dropout

Layout = tuple[tuple[str, tuple[int, ...]], ...]
Arrays = Mapping[str, Float64]


@dataclass(frozen=True)
class Form:
    """Sizes of both networks.

    Args:
        latent: length of z.
        generator: units of its residual blocks.
        critic: units of its hidden layers.
        width: numbers of a row.
        conditions: numbers of a condition.
        seen: numbers of a row that the critic sees.
    """

    latent: int
    generator: tuple[int, ...]
    critic: tuple[int, ...]
    width: int
    conditions: int
    seen: int

    @property
    def generator_layout(self) -> Layout:
        """Names and shapes of the generator's parameters."""
        out: list[tuple[str, tuple[int, ...]]] = []
        size = self.latent + self.conditions
        for k, units in enumerate(self.generator):
            out += [(f"seq.{k}.fc.weight", (units, size)), (f"seq.{k}.fc.bias", (units,))]
            out += [(f"seq.{k}.bn.weight", (units,)), (f"seq.{k}.bn.bias", (units,))]
            size += units
        last = f"seq.{len(self.generator)}"
        return (*out, (f"{last}.weight", (self.width, size)), (f"{last}.bias", (self.width,)))

    @property
    def critic_layout(self) -> Layout:
        """Names and shapes of the critic's parameters."""
        out: list[tuple[str, tuple[int, ...]]] = []
        size = self.seen
        for k, units in enumerate((*self.critic, 1)):
            name = f"seq.{_LAYERS_OF_BLOCK * k}"
            out += [(f"{name}.weight", (units, size)), (f"{name}.bias", (units,))]
            size = units
        return tuple(out)

    @property
    def critic_length(self) -> int:
        """Number of the critic's parameters: of a gradient that sites sum."""
        return length(self.critic_layout)

    @property
    def generator_length(self) -> int:
        """Number of the generator's parameters."""
        return length(self.generator_layout)

    def start(self, seed: bytes) -> Float64:
        """Initial parameters, the critic's before the generator's, from a public seed by portable arithmetic.

        Weights are uniform in ±1/√fan_in, of the generator's answers half of it: columns start nearly on their own, at
        their released frequencies. Biases are 0, the weights of the normalisation 1, the critic's layers projected.
        """
        values = {name: self._start(name, shape, seed) for name, shape in (*self.critic_layout, *self._prefixed)}
        layers = list(self.critic_layout)
        for (weight, _), (bias, _) in zip(layers[::2], layers[1::2], strict=True):
            values[weight], values[bias] = project([values[weight], values[bias]])
        return np.concatenate([value.ravel() for value in values.values()])

    @property
    def _prefixed(self) -> Layout:
        return tuple((f"generator.{name}", shape) for name, shape in self.generator_layout)

    def _start(self, name: str, shape: tuple[int, ...], seed: bytes) -> Float64:
        if len(shape) == 1:
            return np.full(shape, 1.0 if name.endswith("bn.weight") else 0.0)
        drawn = portable.symmetric(seed + name.encode(), math.prod(shape), shape[1]).reshape(shape)
        return np.asarray(0.5 * drawn if name.startswith(f"generator.seq.{len(self.generator)}.") else drawn)

    def answers(self, params: Float64, statistics: Sequence[Float64], inputs: Float64) -> Float64:
        """Answers of the trained generator, float64[n, width], before frequencies are added.

        Args:
            params: float64[generator_length].
            statistics: of each block, float64[2, units]: mean and variance that its normalisation takes off.
            inputs: float64[n, latent + conditions].
        """
        arrays = named(params, self.generator_layout)
        for k, (mean, variance) in enumerate(statistics):
            inputs = self._block(arrays, k, self._linear(arrays, f"seq.{k}.fc", inputs), mean, variance, inputs)
        return self._linear(arrays, f"seq.{len(self.generator)}", inputs)

    def settled(self, params: Float64, inputs: Float64) -> tuple[Float64, ...]:
        """Mean and variance of each block over public inputs, on the lattice: what its normalisation takes off.

        Args:
            params: float64[generator_length].
            inputs: float64[n, latent + conditions], public.
        """
        arrays, out = named(params, self.generator_layout), []
        for k in range(len(self.generator)):
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


def length(layout: Layout) -> int:
    """Number of parameters of a layout."""
    return sum(math.prod(shape) for _, shape in layout)


def named(params: Float64, layout: Layout) -> dict[str, Float64]:
    """A flat vector as named arrays.

    Raises:
        MisuseError: it has another length, or holds what is no number.
    """
    if params.shape != (length(layout),) or not np.isfinite(params).all():
        raise MisuseError(f"a network of this form has {length(layout)} finite parameters, got {params.shape}")
    out, start = {}, 0
    for name, shape in layout:
        stop = start + math.prod(shape)
        out[name] = params[start:stop].reshape(shape)
        start = stop
    return out
