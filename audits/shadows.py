"""Shadow models: the study's kind of model, trained without privacy, many at a time.

S networks of one shape are trained together as batched matrix products (weights [S, a, b], one 0/1 row of
training weights per network), because sending one small network to one worker costs more than training it. A
caller with several workers passes an `Executor` and gets one block of shadows per task; each shadow draws
from its own seed, so the way they are cut into blocks changes results in the last bits only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from audits.errors import MisuseError
from audits.signals import Signals
from dp.queries import Float64
from models.data import Bool, SurvivalData, exposures, inputs
from models.networks import RISK_BOUND
from models.presets import Preset

__all__ = ["Block", "Ensemble", "Executor", "Member", "Recipe", "serial", "train_block", "train_shadows"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs a top-level function over blocks, in order: joblib, Dask or a plain loop, by the caller."""

    def map(self, fn: Callable[[Task], Result], blocks: Iterable[Task]) -> Iterable[Result]:
        """Return fn(block) for each block, in the order of the blocks."""
        ...


class _Serial:
    def map(self, fn: Callable[[Task], Result], blocks: Iterable[Task]) -> Iterable[Result]:
        return [fn(block) for block in blocks]


serial: Executor = _Serial()
"""Executor that uses the calling thread alone."""


@dataclass(frozen=True)
class Recipe:
    """How a shadow is trained: full-batch Adam on the piecewise-exponential likelihood, without privacy.

    Attributes:
        hidden: widths of the hidden layers beside the linear path.
        grid: K + 1 edges in days.
        initial_log_hazard: b at the start, log of events per year.
        steps: Adam steps.
        learning_rate: of Adam (β = 0.9, 0.999).
        weight_decay: decoupled, per step and learning rate.
        linear_penalty: λ of the linear path, on the sum over a shadow's records.
        hidden_penalty: κ of all other weights but the baseline, likewise.
    """

    hidden: tuple[int, ...]
    grid: tuple[float, ...]
    initial_log_hazard: float
    steps: int = 150
    learning_rate: float = 0.02
    weight_decay: float = 0.0
    linear_penalty: float = 0.0
    hidden_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0.0 or len(self.grid) < 2:
            raise MisuseError("a shadow recipe needs steps, a learning rate and a grid")

    @classmethod
    def of(cls, preset: Preset, *, steps: int = 150, learning_rate: float = 0.02) -> Recipe:
        """Take shape and penalties of a study's preset; privacy and optimiser differ, and a shadow is one network.

        Of an ensemble a shadow is one member: its scores vary more than those of the members' mean.
        """
        return cls(
            preset.hidden,
            preset.grid,
            preset.initial_log_hazard,
            steps,
            learning_rate,
            linear_penalty=preset.linear_penalty,
            hidden_penalty=preset.hidden_penalty,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """Shadows to be trained together.

    Attributes:
        recipe: one recipe for all of them.
        inputs: float64[n, 2p].
        at_risk: float64[n, K] years.
        deaths: float64[n, K] one-hot.
        masks: bool[S, n], which records each shadow is trained on.
        seeds: one seed per shadow.
    """

    recipe: Recipe
    inputs: Float64
    at_risk: Float64
    deaths: Float64
    masks: Bool
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """S trained networks of one shape, as arrays; reading them needs numpy only.

    Attributes:
        recipe: how they were trained.
        baseline: float64[S, K] log-hazards per year.
        skip: float64[S, 2p].
        weights: per hidden layer float64[S, a, b].
        biases: per hidden layer float64[S, b].
        out: float64[S, b]; zeros of width 1 if there is no hidden layer.
    """

    recipe: Recipe
    baseline: Float64
    skip: Float64
    weights: tuple[Float64, ...]
    biases: tuple[Float64, ...]
    out: Float64

    def __len__(self) -> int:
        return int(self.baseline.shape[0])

    def log_risk(self, z: Float64) -> Float64:
        """float64[S, n] from inputs float64[n, 2p]."""
        risk = self.skip @ z.T
        if self.weights:
            active = np.broadcast_to(z, (len(self), *z.shape))
            for weight, bias in zip(self.weights, self.biases, strict=True):
                active = np.tanh(active @ weight + bias[:, None, :])
            risk = risk + (active @ self.out[:, :, None])[:, :, 0]
        return np.asarray(np.clip(risk, -RISK_BOUND, RISK_BOUND), dtype=np.float64)

    def signals(self, data: SurvivalData) -> Signals:
        """Signals float64[S, n] on usable records bounded by the horizon."""
        at_risk, deaths = exposures(data, self.recipe.grid)
        return Signals.of(self.log_risk(inputs(data.x, data.observed)), np.exp(self.baseline), at_risk, deaths)

    @classmethod
    def joined(cls, parts: Sequence[Ensemble]) -> Ensemble:
        """Put blocks back together."""
        first = parts[0]
        return cls(
            first.recipe,
            np.concatenate([part.baseline for part in parts]),
            np.concatenate([part.skip for part in parts]),
            tuple(np.concatenate([part.weights[i] for part in parts]) for i in range(len(first.weights))),
            tuple(np.concatenate([part.biases[i] for part in parts]) for i in range(len(first.biases))),
            np.concatenate([part.out for part in parts]),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Member:
    """One network of an ensemble in the shape of a released model (`audits.signals.HazardModel`)."""

    ensemble: Ensemble
    index: int

    @property
    def grid(self) -> tuple[float, ...]:
        """Edges in days."""
        return self.ensemble.recipe.grid

    @property
    def hazard(self) -> Float64:
        """Baseline hazards per year."""
        return np.asarray(np.exp(self.ensemble.baseline[self.index]), dtype=np.float64)

    def risk(self, x: Float64, observed: Bool) -> Float64:
        """Log-risk float64[n]."""
        return np.asarray(self.ensemble.log_risk(inputs(x, observed))[self.index], dtype=np.float64)

    def hazards(self, x: Float64, observed: Bool) -> Float64:
        """Events per year of each patient in each interval, float64[n, K]."""
        return np.asarray(np.exp(self.risk(x, observed))[:, None] * self.hazard[None, :])


def _initial(block: Block) -> list[Tensor]:
    """Baseline, skip, (weight, bias) per layer, out; each shadow from its own generator."""
    width, intervals = block.inputs.shape[1], len(block.recipe.grid) - 1
    generators = [np.random.Generator(np.random.PCG64(seed)) for seed in block.seeds]

    def drawn(*shape: int, scale: float) -> Tensor:
        return torch.from_numpy(np.stack([rng.normal(0.0, scale, shape) for rng in generators]))

    shadows = len(block.seeds)
    parameters = [
        torch.full((shadows, intervals), block.recipe.initial_log_hazard, dtype=torch.float64),
        drawn(width, scale=0.01),
    ]
    widths = (width, *block.recipe.hidden)
    for a, b in pairwise(widths):
        parameters += [drawn(a, b, scale=a**-0.5), torch.zeros((shadows, b), dtype=torch.float64)]
    if block.recipe.hidden:
        parameters.append(drawn(widths[-1], scale=0.1 * widths[-1] ** -0.5))
    return [parameter.requires_grad_() for parameter in parameters]


def _loss(parameters: list[Tensor], z: Tensor, at_risk: Tensor, deaths: Tensor, share: Tensor) -> Tensor:
    """Sum over shadows of the mean loss over their records; ℓ = e^f Σ_k e^{b_k}·exposure_k − δ(b_k + f)."""
    baseline, skip, *layers = parameters
    risk = skip @ z.T
    if layers:
        active = z.expand(skip.shape[0], *z.shape)
        for weight, bias in zip(layers[0:-1:2], layers[1:-1:2], strict=True):
            active = torch.tanh(torch.baddbmm(bias[:, None, :], active, weight))
        risk = risk + torch.bmm(active, layers[-1][:, :, None])[:, :, 0]
    risk = torch.clamp(risk, -RISK_BOUND, RISK_BOUND)
    losses = torch.exp(risk) * (torch.exp(baseline) @ at_risk.T) - baseline @ deaths.T - deaths.sum(dim=1) * risk
    return (share * losses).sum()


def _penalty(recipe: Recipe, parameters: list[Tensor], inverse: Tensor) -> Tensor:
    """Sum over shadows of ½(λ‖skip‖² + κ‖layers‖²) ÷ records; `inverse` is 1 ÷ records."""
    _, skip, *layers = parameters
    squares = recipe.linear_penalty * skip.square().sum(dim=1)
    for layer in layers:
        squares = squares + recipe.hidden_penalty * layer.square().flatten(1).sum(dim=1)
    return 0.5 * (inverse * squares).sum()


def train_block(block: Block) -> Ensemble:
    """Train the shadows of one block together, float64, on one thread.

    One thread, because matrices this small lose more to waiting than they win, because a caller has other
    workers, and because the bits of a sum then do not depend on the number of processors.

    Raises:
        MisuseError: masks and seeds do not fit, or a shadow has no record.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(block)
    finally:
        torch.set_num_threads(threads)


def _train(block: Block) -> Ensemble:
    if block.masks.shape != (len(block.seeds), block.inputs.shape[0]):
        raise MisuseError(
            f"masks {block.masks.shape} for {len(block.seeds)} shadows of {block.inputs.shape[0]} records"
        )
    sizes = block.masks.sum(axis=1)
    if sizes.size == 0 or sizes.min() < 1:
        raise MisuseError("every shadow needs at least one record")
    share, inverse = torch.from_numpy(block.masks / sizes[:, None]), torch.from_numpy(1.0 / sizes)
    fixed = [torch.from_numpy(np.ascontiguousarray(array)) for array in (block.inputs, block.at_risk, block.deaths)]
    parameters = _initial(block)
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    rate, decay = block.recipe.learning_rate, 1.0 - block.recipe.learning_rate * block.recipe.weight_decay
    for step in range(1, block.recipe.steps + 1):
        loss = _loss(parameters, fixed[0], fixed[1], fixed[2], share) + _penalty(block.recipe, parameters, inverse)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
                m.mul_(0.9).add_(gradient, alpha=0.1)
                v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                scale = (v / (1.0 - 0.999**step)).sqrt_().add_(1e-8)
                parameter.mul_(decay).addcdiv_(m, scale, value=-rate / (1.0 - 0.9**step))
    arrays = [parameter.detach().numpy().copy() for parameter in parameters]
    baseline, skip, *layers = arrays
    out = layers[-1] if layers else np.zeros((len(block.seeds), 1))
    return Ensemble(block.recipe, baseline, skip, tuple(layers[0:-1:2]), tuple(layers[1:-1:2]), out)


def train_shadows(
    recipe: Recipe,
    data: SurvivalData,
    masks: Bool,
    *,
    seed: int,
    executor: Executor = serial,
    block_size: int = 32,
) -> Ensemble:
    """Train one shadow per row of `masks`.

    Args:
        recipe: how.
        data: usable records bounded by the horizon of the recipe's grid.
        masks: bool[S, n], which records each shadow is trained on.
        seed: of the initial weights; shadow s uses a stream of its own.
        executor: where the blocks run.
        block_size: shadows per block.
    """
    seeds = np.random.SeedSequence(seed).generate_state(masks.shape[0], np.uint64)
    at_risk, deaths = exposures(data, recipe.grid)
    z = inputs(data.x, data.observed)
    blocks = [
        Block(
            recipe,
            z,
            at_risk,
            deaths,
            masks[start : start + block_size],
            tuple(int(value) for value in seeds[start : start + block_size]),
        )
        for start in range(0, masks.shape[0], block_size)
    ]
    return Ensemble.joined(list(executor.map(train_block, blocks)))
