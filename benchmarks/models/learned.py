"""The product's own networks, trained by the product's own steps in one process.

`models.training.descend` runs once and stands for every hospital, as all of them hold the same model; it has no
patients, and the door adds the clipped sums of all. A pooled training is one with a single hospital. FedAvg and FedProx
are `models.algorithms.averaging`, every hospital with local steps of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import torch

from benchmarks.dp.federation import PATIENT_CAP, Door, Open
from benchmarks.models.settings import constants_of
from dp import arithmetic
from dp.bookkeeping import ClippedGradients
from dp.central import UnprotectedSum
from dp.errors import UploadsExhausted
from dp.queries import Account, Float64, Query
from models.algorithms.averaging import Averaging, Site, average, update_query
from models.data import SurvivalData
from models.deepsurv import flat
from models.learners import Trainable, trainable
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.training import Trained, descend, initial_weights

__all__ = ["averaged", "linear", "of_disease", "risk_of", "sized", "stopped", "train"]

_BLOCKS: Final = (64, 128, 512)  # rows of one pass: hospitals are small, and a block is filled up with zeros
_SUMS: Final = 4000  # clipped sums of one process, about: whether compiling pays
_LOOK: Final = 5  # steps between two looks at patients who are held back
_PATIENCE: Final = 50  # steps that a training goes on beyond twice as many as its best took


def of_disease(name: str, cohort: str, patients: float) -> Preset:
    """Return a public preset with a cohort's time grid and hazard, sized for so many training patients."""
    return sized(preset(name), cohort, patients)


def sized(chosen: Preset, cohort: str, patients: float) -> Preset:
    """Return any preset with a cohort's time grid and hazard, sized for so many training patients."""
    known = constants_of(cohort)
    grid = tuple(365.25 * edge for edge in known.grid)
    return replace(
        chosen,
        grid=grid,
        initial_log_hazard=known.log_hazard,
        calibration_times=grid[-2:-1],
        normaliser=float(patients),
    )


def linear(chosen: Preset) -> Preset:
    """Return the same without hidden layer."""
    return replace(chosen, learner="cox", hidden=())


def train(
    chosen: Preset, sites: Sequence[SurvivalData], seed: int, door: Door | None = None, multiplier: float = 1.0
) -> SurvivalModel:
    """Train in lockstep.

    Args:
        chosen: sized for all patients.
        sites: each hospital's patients.
        seed: of the first weights.
        door: makes a released sum of the hospitals' clipped sums; their exact sum by default.
        multiplier: noise multiplier z of one step.
    """
    trained = _lockstep(_network(chosen, sites), chosen, sites, seed, door or Open(), multiplier)
    return _model(chosen, sites[0].features, trained.params)


def stopped(chosen: Preset, data: SurvivalData, held: SurvivalData, seed: int) -> SurvivalModel:
    """Train without privacy on one hospital's patients, and stop early.

    Args:
        chosen: sized for the patients of `data`; its steps, five or more, are the most that are taken.
        data: whom it is trained on.
        held: patients of the training data that are held back: the network of the step with their lowest loss is
            returned, of every fifth step.
        seed: of the first weights.
    """
    network = _network(chosen, [data])
    watch = _Watch(network.made, held.bounded(chosen.horizon))
    _lockstep(network, chosen, [data], seed, watch, on_step=watch.look)
    return _model(chosen, data.features, watch.best)


def averaged(chosen: Preset, averaging: Averaging, sites: Sequence[SurvivalData], seed: int) -> SurvivalModel:
    """Train by rounds of FedAvg or FedProx, without noise.

    Args:
        chosen: sized for all patients; its steps are rounds, its update the local rule.
        averaging: rounds, with a share for each of the sites.
        sites: each hospital's patients.
        seed: of the first weights.
    """
    network = _network(chosen, sites)
    hospitals = [
        Site(chosen, averaging, share, network.made, network.kernel, data)
        for share, data in zip(averaging.shares, sites, strict=True)
    ]
    weights = _start(chosen, sites[0].features, seed)

    def contribution(query: Query, start: Float64) -> Float64:
        total: Float64 = np.sum([each.contribution(query, start) for each in hospitals], axis=0)
        return total

    def asked(number: int) -> Query:
        return update_query(chosen, averaging, len(weights) // 8, 1.0, PATIENT_CAP, number)

    trained = average(chosen, averaging, weights, contribution, UnprotectedSum(), asked)
    return _model(chosen, sites[0].features, trained.params)


def risk_of(model: SurvivalModel) -> Callable[[SurvivalData], Float64]:
    """The risk that a model gives, as an arm of the figures."""
    return lambda data: model.risk(data.x, data.observed)


@dataclass(frozen=True)
class _Network:
    """One network for many trainings: weights are poured in, and rows are proven apart once."""

    made: Trainable
    kernel: ClippedGradients


def _network(chosen: Preset, sites: Sequence[SurvivalData]) -> _Network:
    """The preset's, with passes of about a hospital's size."""
    mean = sum(map(len, sites)) / len(sites)
    block = next((rows for rows in _BLOCKS if mean <= rows), _BLOCKS[-1])
    return _built(chosen.sized(1.0), sites[0].features, block)  # the size of a study changes no network


@lru_cache(maxsize=8)
def _built(chosen: Preset, features: int, block: int) -> _Network:
    made = trainable(chosen, features)
    length = sum(p.numel() for p in made.module.parameters())
    rounding = arithmetic.chosen(_SUMS * length)
    return _Network(
        made, ClippedGradients(made.module, made.losses, clip=chosen.clip, block=block, arithmetic=rounding)
    )


def _lockstep(
    network: _Network,
    chosen: Preset,
    sites: Sequence[SurvivalData],
    seed: int,
    door: Door,
    multiplier: float = 1.0,
    on_step: Callable[[int, str], None] | None = None,
) -> Trained:
    made, kernel = network.made, network.kernel
    tables = [kernel.table(made.columns(site.bounded(chosen.horizon))) for site in sites]
    nobody = made.columns(sites[0].rows(np.zeros(0, dtype=np.int64)))
    weights = _start(chosen, sites[0].features, seed)

    def asked(step: int) -> Query:
        length = len(weights) // 8
        return Query("gradient", step, length, chosen.clip, multiplier, Account.TRAINING, PATIENT_CAP)

    def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:  # noqa: ARG001 - protocol
        return door(query, [kernel.sum(table) for table in tables])

    return descend(
        chosen, made.module, made.losses, weights, nobody, secure_sum, asked, on_step, penalties=made.penalties
    )


class _Watch:
    """Ends a training when the loss of patients who are held back has not fallen for long, as a door does: no sum."""

    def __init__(self, made: Trainable, held: SurvivalData) -> None:
        self._made, self._held = made, made.columns(held)
        self._lowest, self._at, self._over = np.inf, 0, False
        self.best = b""

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """Add up, or end the training."""
        if self._over:
            raise UploadsExhausted(query.kind)
        return Open()(query, sums)

    def look(self, done: int, _: str) -> None:
        """Keep the network if it is the best so far."""
        if done % _LOOK:
            return
        with torch.no_grad():
            loss = float(self._made.losses(self._made.module, *self._held).sum())
        if not self.best or loss < self._lowest:
            self.best, self._lowest, self._at = flat(self._made.module), loss, done
        self._over = done > 2 * self._at + _PATIENCE


def _start(chosen: Preset, features: int, seed: int) -> bytes:
    return initial_weights(chosen, features, b"benchmarks/models/%d" % seed)


def _model(chosen: Preset, features: int, params: bytes) -> SurvivalModel:
    return SurvivalModel.as_trained(tuple(f"x{j}" for j in range(features)), chosen.network, chosen.grid, params)
