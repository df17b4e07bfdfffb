"""The product's own networks, trained by the product's own steps in one process.

`models.training.descend` runs once and stands for every hospital, as all of them hold the same model; the door adds
the clipped sums of all. A pooled training is one with a single hospital.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.dp.federation import PATIENT_CAP, Door, Open
from benchmarks.models.settings import constants_of
from dp.bookkeeping import ClippedGradients
from dp.queries import Account, Float64, Query
from models.data import SurvivalData
from models.learners import trainable
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.training import descend, initial_weights

__all__ = ["linear", "of_disease", "risk_of", "sized", "train"]


_BLOCK = 128  # rows of one pass: hospitals are small, and a block is filled up with zeros


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
    features, release = sites[0].features, door or Open()
    made = trainable(chosen, features)
    kernel = ClippedGradients(made.module, made.losses, clip=chosen.clip, block=_BLOCK)
    mine, *others = (made.columns(site.bounded(chosen.horizon)) for site in sites)
    tables = [kernel.table(other) for other in others]
    weights = initial_weights(chosen, features, b"benchmarks/models/%d" % seed)

    def asked(step: int) -> Query:
        length = len(weights) // 8
        return Query("gradient", step, length, chosen.clip, multiplier, Account.TRAINING, PATIENT_CAP)

    def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:
        return release(query, [contribution(), *(kernel.sum(table) for table in tables)])

    trained = descend(chosen, made.module, made.losses, weights, mine, secure_sum, asked, penalties=made.penalties)
    names = tuple(f"x{j}" for j in range(features))
    return SurvivalModel.as_trained(names, chosen.network, chosen.grid, trained.params)


def risk_of(model: SurvivalModel) -> Callable[[SurvivalData], Float64]:
    """The risk that a model gives, as an arm of the figures."""
    return lambda data: model.risk(data.x, data.observed)
