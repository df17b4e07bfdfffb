"""Training a federation in one process: every site's own clipped sum, every site's own noise, one shared model.

All sites of a real study hold the same model and apply the same released sum, so one copy stands for all of them; what
is separate here is what is separate there: each hospital's patients, its clipped sum, its rounding to the lattice and
its share of the noise. Masks are left out of most figures because they cancel exactly, which figure 4.6 shows.
`tests/test_dp_benchmarks.py` holds this loop to `models.training.fit`, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dp import noise_shares
from dp.bookkeeping import ClippedGradients
from dp.optimizer import Adam, Momentum, PublicUpdate
from dp.queries import Account, Float64, Int64, Query
from models.data import SurvivalData
from models.deepsurv import DeepSurv, flat, pour
from models.losses import Batch, PiecewiseExponential
from models.metrics import harrell_c
from models.predict import SurvivalModel
from models.presets import Preset
from secagg.masks import Keystream

__all__ = ["BLOCK", "Distributed", "Door", "Local", "Open", "descend", "fedavg", "score", "stream", "tensors"]

BLOCK: Final = 128  # rows of one pass: hospitals of a few dozen patients are common here
PATIENT_CAP: Final = 4096


class Door(Protocol):
    """What makes a sum of all sites out of the clipped sums of each."""

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """Return the released sum."""
        ...


@dataclass
class Distributed:
    """Every site adds its share σ²/h of the noise to its own rounded sum; whole numbers are added.

    Args:
        sites: n.
        honest: h, shares that the accounting counts.
        streams: secret bytes of each site. One site with `sites` streams is a curator who draws all shares.
    """

    sites: int
    honest: int
    streams: Sequence[Keystream]

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """Return the noisy sum."""
        grid = noise_shares.lattice(query, self.sites, honest=self.honest)
        return noise_shares.decode(self.total(query, grid, sums), query, grid)

    def total(self, query: Query, grid: noise_shares.Lattice, sums: Sequence[Float64]) -> Int64:
        """Return the sum in whole lattice steps, noise inside."""
        return _added(query, grid, sums, self.streams)


@dataclass
class Local:
    """Every site adds all the noise that its patients need on its own; the sums are added."""

    streams: Sequence[Keystream]

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """Return the noisy sum."""
        grid = noise_shares.local_lattice(query, len(self.streams))
        return noise_shares.decode(_added(query, grid, sums, self.streams), query, grid)


class Open:
    """No noise: what nobody may release."""

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:  # noqa: ARG002 - as Door
        """Return the exact sum."""
        return np.sum(sums, axis=0)


def stream(*about: object) -> Keystream:
    """Return repeatable noise: nothing here protects anybody."""
    return Keystream(hashlib.sha256("/".join(map(str, ("benchmarks/dp", *about))).encode()).digest())


def _added(query: Query, grid: noise_shares.Lattice, sums: Sequence[Float64], streams: Sequence[Keystream]) -> Int64:
    # A curator's one sum may be as large as that of all sites.
    wide = replace(grid, clamp=grid.clamp * len(streams)) if len(sums) < len(streams) else grid
    total = np.zeros(query.length, dtype=np.int64)
    for values in sums:
        total += noise_shares.encode(values, query, wide)
    for source in streams:
        total += noise_shares.draw(source, query.length)
    return total


def tensors(data: SurvivalData, preset: Preset) -> tuple[Tensor, ...]:
    """Return a site's patients as the loss takes them."""
    batch = Batch.of(data.bounded(preset.horizon), preset.grid)
    return tuple(part.to(torch.float32) for part in (batch.inputs, batch.at_risk, batch.deaths))


def descend(
    preset: Preset,
    weights: bytes,
    sites: Sequence[tuple[Tensor, ...]],
    door: Door,
    multiplier: float,
    *,
    block: int = BLOCK,
    last: bool = False,
) -> bytes:
    """Run the study's training and return its parameters.

    Args:
        preset: sized for all patients.
        weights: where it starts.
        sites: each hospital's patients.
        door: makes one released sum of their sums.
        multiplier: noise multiplier of one step.
        block: rows of one pass.
        last: the last iterate instead of the average.
    """
    model, kernel = _kernel(sites[0][0].shape[1] // 2, preset.hidden, preset.intervals, preset.clip, block)
    pour(model, weights)
    tables = [kernel.table(site) for site in sites]
    update = PublicUpdate(model.parameters(), _rule(preset))
    average = _numbers(weights)
    for step in range(preset.steps):
        query = Query("gradient", step, len(average), preset.clip, multiplier, Account.TRAINING, PATIENT_CAP)
        released = door(query, [kernel.sum(table) for table in tables]) / preset.normaliser
        start = 0
        for p in model.parameters():
            p.grad = torch.from_numpy(released[start : start + p.numel()].reshape(tuple(p.shape)))
            start += p.numel()
        update.step()
        rho = (preset.averaging + 1.0) / (step + 1 + preset.averaging)
        average = (1.0 - rho) * average + rho * _numbers(flat(model))
    return flat(model) if last else average.astype("<f8").tobytes()


def fedavg(
    preset: Preset,
    weights: bytes,
    sites: Sequence[tuple[Tensor, ...]],
    streams: Sequence[Keystream],
    multiplier: float,
    rounds: int,
) -> bytes:
    """FedAvg of local DP gradient descent: each site takes steps ÷ rounds noisy steps on its own, models are averaged.

    Every local step carries the site's whole noise; the weights of the average are the sizes, here exact and free.

    Args:
        preset: of the whole study; its step size and averaging are used at each site.
        weights: where it starts.
        sites: each hospital's patients.
        streams: each hospital's noise.
        multiplier: of one local step.
        rounds: divides the steps.
    """
    sizes = np.array([len(site[0]) for site in sites], dtype=float)
    steps = preset.steps // rounds
    average = model = _numbers(weights)
    for number in range(rounds):
        parts = []
        for site, size, source in zip(sites, sizes, streams, strict=True):
            own = replace(preset.sized(max(size, 1.0)), steps=steps, uploads=2 * steps)
            start = model.astype("<f8").tobytes()
            parts.append(_numbers(descend(own, start, [site], Local([source]), multiplier, last=True)))
        model = np.average(parts, axis=0, weights=sizes)
        rho = (preset.averaging + 1.0) / (number + 1 + preset.averaging)
        average = (1.0 - rho) * average + rho * model
    return average.astype("<f8").tobytes()


def score(preset: Preset, features: tuple[str, ...], params: bytes, test: SurvivalData) -> float:
    """Return Harrell's C on patients nobody trained on."""
    model = SurvivalModel.as_trained(features, preset.network, preset.grid, params)
    bounded = test.bounded(preset.horizon)
    return harrell_c(model.risk(bounded.x, bounded.observed), bounded)


@lru_cache(maxsize=8)
def _kernel(
    features: int, hidden: tuple[int, ...], intervals: int, clip: float, block: int
) -> tuple[DeepSurv, ClippedGradients]:
    """One model and its kernel for all trainings of a shape: weights are poured in, and rows are proven apart once."""
    model = DeepSurv(features, hidden, intervals)
    return model, ClippedGradients(model, _loss, clip=clip, block=block)


def _loss(model: nn.Module, inputs: Tensor, at_risk: Tensor, deaths: Tensor) -> Tensor:
    return PiecewiseExponential().per_patient(model(inputs), Batch(inputs, at_risk, deaths))


def _rule(preset: Preset) -> Adam | Momentum:
    if preset.update == "adam":
        return Adam(preset.learning_rate)
    return Momentum(preset.learning_rate, preset.momentum)


def _numbers(params: bytes) -> Float64:
    return np.frombuffer(params, dtype="<f8").astype(np.float64)
