"""How each kind of survival network is trained: its torch module, what it reads of a patient, its loss per patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models import savae
from models.data import SurvivalData, exposures
from models.deepsurv import DeepSurv
from models.errors import MisuseError
from models.fusion import Fusion
from models.losses import Batch, PerPatientLoss, PiecewiseExponential, require_per_patient
from models.networks import FusedBlocks, Hazards, LatentWeibull
from models.presets import Preset

__all__ = ["Trainable", "trainable"]


@dataclass(frozen=True)
class Trainable:
    """What `models.training.descend` needs of a network.

    Args:
        module: float64, Linear layers only, parameters in the order of the network's layout.
        columns: bounded data → this site's patients as `losses` wants them; first axis = patient.
        losses: (module, columns …) → [n] nats, entry i a function of patient i and the module alone.
    """

    module: nn.Module
    columns: Callable[[SurvivalData], tuple[torch.Tensor, ...]]
    losses: Callable[..., torch.Tensor]


def trainable(preset: Preset, features: int, loss: PerPatientLoss | None = None) -> Trainable:
    """Build the torch side of a preset's network.

    Args:
        preset: public constants.
        features: p.
        loss: of a network of hazards; the piecewise-exponential likelihood by default. "savae" has its own.

    Raises:
        NotPerPatient: (a TypeError) the loss is not a sum over patients.
        MisuseError: the preset's columns or blocks are not those of so many features, or a loss for "savae".
    """
    per_patient = require_per_patient(loss if loss is not None else PiecewiseExponential())
    match preset.network:
        case Hazards(hidden):
            return _hazards(preset, DeepSurv(features, hidden, preset.intervals), per_patient)
        case FusedBlocks() as form:
            return _fusion(preset, Fusion(features, form, preset.intervals), form, per_patient)
        case LatentWeibull() as form if loss is None:
            return _savae(preset, savae.SAVAE(features, form), form)
        case LatentWeibull():
            raise MisuseError("a SAVAE is trained by its own bound, no other loss")
        case other:
            raise AssertionError(f"no learner for {other.learner}")


def _hazards(preset: Preset, module: nn.Module, loss: PerPatientLoss) -> Trainable:
    """A module that maps inputs to log-hazards, [n, K]."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        batch = Batch.of(data, preset.grid)
        return batch.inputs, batch.at_risk, batch.deaths

    return Trainable(module, columns, _of_hazards(loss))


def _fusion(preset: Preset, module: nn.Module, form: FusedBlocks, loss: PerPatientLoss) -> Trainable:
    """The same with the inputs of blocks."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        at_risk, deaths = exposures(data, preset.grid)
        return tuple(torch.from_numpy(part) for part in (form.inputs(data.x, data.observed), at_risk, deaths))

    return Trainable(module, columns, _of_hazards(loss))


def _savae(preset: Preset, module: savae.SAVAE, form: LatentWeibull) -> Trainable:
    """A module with a loss of its own."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        return savae.columns(data, form.latent)

    def losses(network: savae.SAVAE, *patients: torch.Tensor) -> torch.Tensor:
        return network.per_patient_loss(*patients, time_weight=preset.time_weight, kl_weight=preset.kl_weight)

    return Trainable(module, columns, losses)


def _of_hazards(loss: PerPatientLoss) -> Callable[..., torch.Tensor]:
    def losses(network: nn.Module, *patients: torch.Tensor) -> torch.Tensor:
        batch = Batch(*patients)
        return loss.per_patient(network(batch.inputs), batch)

    return losses
