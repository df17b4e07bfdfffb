"""The two networks whose steps are timed, as anybody would write them in PyTorch.

DeepSurv 50-64-64-1 with eight baseline hazards (7,496 parameters) and a variational autoencoder of the size of SAVAE
(50 columns, hidden 50, latent 5, decoders of covariates and of Weibull time: 8,862 parameters; Apellániz et al., Sci
Rep 2024;14:24567). Losses are one per patient. Inputs are random numbers: nothing here learns anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "DeepSurv", "Network", "Savae", "deepsurv_loss", "savae_loss"]

_COLUMNS, _INTERVALS, _LATENT, _HIDDEN = 50, 8, 5, 50


class DeepSurv(nn.Module):
    """Risk network and baseline, every parameter in a Linear layer so that Opacus can hook it."""

    def __init__(self) -> None:
        super().__init__()
        self.risk = nn.Sequential(
            nn.Linear(_COLUMNS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1, bias=False)
        )
        self.baseline = nn.Linear(1, _INTERVALS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 50] → [B, 8] log-hazards."""
        return self.baseline(torch.ones_like(x[:, :1])) + self.risk(x).clamp(-8.0, 8.0)


class Savae(nn.Module):
    """Encoder, decoder of covariates and decoder of time."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(_COLUMNS, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 2 * _LATENT))
        self.covariates = nn.Sequential(nn.Linear(_LATENT, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 2 * _COLUMNS))
        self.time = nn.Sequential(nn.Linear(_LATENT, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 2))

    def forward(self, x: Tensor, draw: Tensor) -> tuple[Tensor, ...]:
        """[B, 50] and the noise of the latent [B, 5] → everything that the loss needs."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        mean, log_variance = 10.0 * torch.tanh(mean / 10.0), log_variance.clamp(-8.0, 8.0)
        z = mean + torch.exp(0.5 * log_variance) * draw
        centre, log_scale = self.covariates(z).chunk(2, dim=1)
        shape, scale = self.time(z).chunk(2, dim=1)
        return mean, log_variance, centre, log_scale.clamp(-4.0, 4.0), shape, scale


def deepsurv_loss(model: nn.Module, x: Tensor, at_risk: Tensor, deaths: Tensor) -> Tensor:
    """Piecewise-exponential −log-likelihood of each patient."""
    log_hazard = model(x)
    return (torch.exp(log_hazard) * at_risk - deaths * log_hazard).sum(dim=1)


def savae_loss(model: nn.Module, x: Tensor, draw: Tensor, log_time: Tensor, event: Tensor) -> Tensor:
    """Minus ELBO of each patient: Gaussian covariates, right-censored Weibull time."""
    mean, log_variance, centre, log_scale, shape, scale = model(x, draw)
    divergence = -0.5 * (1.0 + log_variance - mean * mean - torch.exp(log_variance)).sum(dim=1)
    covariates = (0.5 * ((x - centre) * torch.exp(-log_scale)) ** 2 + log_scale).sum(dim=1)
    alpha = 0.5 + torch.sigmoid(shape)
    accelerated = alpha * (log_time - scale.clamp(-6.0, 6.0))
    time = torch.exp(accelerated.clamp(max=8.0)) - event * (torch.log(alpha) + accelerated - log_time)
    return divergence + covariates + time.sum(dim=1)


@dataclass(frozen=True)
class Network:
    """A network with its loss and its inputs.

    Args:
        name: for the table.
        make: builds the float32 module.
        loss: (module, *tensors) → one loss per patient.
        inputs: (patients, generator) → float32 tensors.
    """

    name: str
    make: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]]


def _survival(patients: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    x = torch.randn(patients, _COLUMNS, generator=rng).clamp(-3, 3)
    last = torch.randint(0, _INTERVALS, (patients, 1), generator=rng)
    interval = torch.arange(_INTERVALS)[None, :]
    at_risk = (interval < last) * 0.5 + (interval == last) * torch.rand(patients, 1, generator=rng) * 0.5
    deaths = (interval == last) & (torch.rand(patients, 1, generator=rng) < 0.6)
    return x, at_risk, deaths.to(torch.float32)


def _tables(patients: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    x = torch.randn(patients, _COLUMNS, generator=rng).clamp(-3, 3)
    draw = torch.randn(patients, _LATENT, generator=rng)
    log_time = torch.randn(patients, 1, generator=rng)
    return x, draw, log_time, (torch.rand(patients, 1, generator=rng) < 0.6).to(torch.float32)


NETWORKS = (
    Network("DeepSurv", DeepSurv, deepsurv_loss, _survival),
    Network("VAE", Savae, savae_loss, _tables),
)
