"""How each kind of survival network is trained: its torch module, what it reads of a patient, its loss per patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models import savae
from models.data import SurvivalData, exposures
from models.deepsurv import DeepSurv, Members
from models.errors import MisuseError
from models.fusion import Fusion
from models.losses import Batch, PerPatientLoss, PiecewiseExponential, require_per_patient
from models.networks import Ensemble, FusedBlocks, Hazards, LatentWeibull
from models.presets import Preset

__all__ = ["Trainable", "trainable"]


@dataclass(frozen=True)
class Trainable:
    """What `models.training.descend` needs of a network.

    Args:
        module: float64, Linear layers only, parameters in the order of the network's layout.
        columns: bounded data → this site's patients as `losses` wants them; first axis = patient.
        losses: (module, columns …) → [n] nats, entry i a function of patient i and the module alone.
        penalties: ridge weight of each parameter, in the order of the layout; see `models.presets.Preset`.
    """

    module: nn.Module
    columns: Callable[[SurvivalData], tuple[torch.Tensor, ...]]
    losses: Callable[..., torch.Tensor]
    penalties: tuple[float, ...]


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
        case Ensemble() as form:
            return _hazards(preset, Members(features, form, preset.intervals), per_patient)
        case FusedBlocks() as form:
            return _fusion(preset, Fusion(features, form, preset.intervals), form, per_patient)
        case LatentWeibull() as form if loss is None:
            return _savae(preset, savae.SAVAE(features, form), form)
        case LatentWeibull():
            raise MisuseError("a SAVAE is trained by its own bound, no other loss")
        case other:
            raise AssertionError(f"no learner for {other.learner}")


def _hazards(preset: Preset, module: DeepSurv | Members, loss: PerPatientLoss) -> Trainable:
    """Log-hazards, or several of them, from the inputs of `losses.Batch`."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        batch = Batch.of(data, preset.grid)
        return batch.inputs, batch.at_risk, batch.deaths

    def losses(network: DeepSurv | Members, *patients: torch.Tensor) -> torch.Tensor:
        return network.per_patient_loss(Batch(*patients), loss)

    return Trainable(module, columns, losses, _penalties(preset, module))


def _fusion(preset: Preset, module: nn.Module, form: FusedBlocks, loss: PerPatientLoss) -> Trainable:
    """The same with the inputs of blocks."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        at_risk, deaths = exposures(data, preset.grid)
        return tuple(torch.from_numpy(part) for part in (form.inputs(data.x, data.observed), at_risk, deaths))

    def losses(network: nn.Module, *patients: torch.Tensor) -> torch.Tensor:
        batch = Batch(*patients)
        return loss.per_patient(network(batch.inputs), batch)

    return Trainable(module, columns, losses, _penalties(preset, module))


def _savae(preset: Preset, module: savae.SAVAE, form: LatentWeibull) -> Trainable:
    """A module with a loss of its own."""

    def columns(data: SurvivalData) -> tuple[torch.Tensor, ...]:
        return savae.columns(data, form.latent)

    def losses(network: savae.SAVAE, *patients: torch.Tensor) -> torch.Tensor:
        return network.per_patient_loss(*patients, time_weight=preset.time_weight, kl_weight=preset.kl_weight)

    return Trainable(module, columns, losses, _penalties(preset, module))


def _penalties(preset: Preset, module: nn.Module) -> tuple[float, ...]:
    """λ of the linear path, κ of all other weights; baseline and biases are free."""

    def weight(name: str) -> float:
        if name.endswith("skip.weight"):
            return preset.linear_penalty
        return preset.hidden_penalty if name.endswith(".weight") and not name.endswith("baseline.weight") else 0.0

    return tuple(weight(name) for name, _ in module.named_parameters())
