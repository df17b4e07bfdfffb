"""Survival analysis with a variational autoencoder, trained by a bound that is a sum over patients.

    ℓ_i = −w·log p(t_i, δ_i | z_i) − Σ_j observed_ij · log p(x_ij | z_i) + κ·KL(q(z | x_i) ‖ N(0, I)),  in nats

q(z | x) = N(mean, diag e^logvar) from the features alone, never from the time. Numbers are Gaussian with one standard
deviation per feature, two-valued columns Bernoulli, the time Weibull, right-censored; what is not observed has no
likelihood. Dozens of features outweigh one time: w > 1 gives the time its part of a patient's clip norm. With κ = w = 1
this is minus the evidence lower bound, up to constants.

The features are decoded from all codes but the first. A code that serves both is drawn to what describes the patients
best; where few of them die, that gradient outweighs the time's, and the first code is where the linear path of the time
starts (`models.networks.savae`). Its column of the decoder is fed 0: it has no gradient, so the layout has no other
form for it.

Shapes. A patient's log α has a normal prior around that of the code 0, part of −log p(t_i, δ_i | z_i): few deaths tell
the scale of a patient's time, far more would have to tell his shape, and shapes that differ by chance make survival
curves cross.

The noise. z_i = mean + e^(logvar/2)·ε_i with ε_i the standard normal numbers that SHAKE-128 gives for patient i's own
features. A draw by position, or from one stream, would give all later patients another ε when one is taken away, and
clipping would bound nothing; this ε, like everything else in ℓ_i, is a function of patient i. It stays the same in
every step (common random numbers): the average over patients does what repeated draws would do. There is no dropout:
under noise it only costs signal.

Source: Apellániz, Parras & Zazo, Sci Rep 2024;14:24567 (SAVAE); Kingma & Welling, ICLR 2014 (the bound).
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import DAYS_PER_YEAR, Float64, SurvivalData, inputs
from models.errors import MisuseError
from models.networks import LatentWeibull
from models.networks.hazards import RISK_BOUND
from models.networks.savae import LOG_SHAPE_BOUND

__all__ = ["SAVAE", "columns", "noise"]

_LABEL: Final = b"haemfed/latent-noise/v1"
_LOG_VARIANCE: Final = (-12.0, 2.0)
_LOG_SCALE: Final = (-3.0, 3.0)  # log standard deviation of a scaled number
_LOG_YEARS: Final = 8.0  # ±; half a day is e^−6.6 years, a century e^4.6
_SHAPE_PRECISION: Final = 10.0  # 1/variance of a patient's log shape around everybody's
_STEEP: Final = 10.0  # beyond H = e^10 the loss is a tangent: its gradient stays a number that clipping can use


class SAVAE(nn.Module):
    """The network; float64, Linear layers only, parameters in the order of `LatentWeibull.layout`.

    Args:
        features: p ≥ 1.
        form: its public form.
    """

    def __init__(self, features: int, form: LatentWeibull) -> None:
        super().__init__()
        self.features = features
        codes, last = form.latent, form.hidden[-1]
        numbers = [j for j in range(features) if j not in form.binary]
        self.numbers, self.binary = numbers, list(form.binary)
        self.mean = _linear(2 * features, codes, bias=False)
        self.encoder = nn.ModuleList(_linear(a, b) for a, b in pairwise((2 * features, *form.hidden)))
        self.code = _linear(last, codes, bias=False)
        self.spread = _linear(last, codes)
        self.time = _linear(codes, 2)
        self.curve = _linear(codes, last)
        self.bend = _linear(last, 2, bias=False)
        self.decoder = nn.ModuleList(_linear(a, b) for a, b in pairwise((codes, *reversed(form.hidden))))
        self.values = _linear(form.hidden[0], features)
        self.scales = _linear(1, len(numbers), bias=False) if numbers else None
        names = tuple((name, tuple(p.shape)) for name, p in self.named_parameters())
        if names != form.layout(features, 1):
            raise MisuseError(f"SAVAE has parameters {names}, its public layout says otherwise")

    def encode(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 2p] inputs → mean and log-variance of q(z | x), each [n, L]."""
        active = u
        for layer in self.encoder:
            active = torch.tanh(layer(active))
        mean = self.mean(u) + self.code(active)
        return mean, torch.clamp(self.spread(active), *_LOG_VARIANCE)

    def weibull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """[n, L] codes → log α and log λ (λ in years), each [n], gradient zero outside their ranges."""
        law = self._law(z)
        log_shape = torch.clamp(law[:, 0], -LOG_SHAPE_BOUND, LOG_SHAPE_BOUND)
        return log_shape, torch.clamp(law[:, 1], -RISK_BOUND, RISK_BOUND)

    def _law(self, z: Tensor) -> Tensor:
        return torch.as_tensor(self.time(z) + self.bend(torch.tanh(self.curve(z))))

    def time_loss(self, z: Tensor, log_years: Tensor, died: Tensor) -> Tensor:
        """Minus Weibull log-likelihood of time and event given the code, [n]."""
        log_shape, log_scale = self.weibull(z)
        log_time = torch.clamp(log_years, -_LOG_YEARS, _LOG_YEARS)
        log_cumulative = torch.exp(log_shape) * (log_time - log_scale)
        log_hazard = log_shape + log_cumulative - log_time
        return _exp(log_cumulative) - died * log_hazard

    def shape_loss(self, z: Tensor) -> Tensor:
        """Minus log-density of the log shape around that of the code 0, [n], up to a constant."""
        own = self._law(z)[:, 0] - self._law(torch.zeros_like(z))[:, 0]
        return 0.5 * _SHAPE_PRECISION * own * own

    def feature_loss(self, z: Tensor, u: Tensor) -> Tensor:
        """Minus log-likelihood of what was observed given the codes but the first, [n]."""
        active = torch.cat([torch.zeros_like(z[:, :1]), z[:, 1:]], dim=1)
        for layer in self.decoder:
            active = torch.tanh(layer(active))
        values = self.values(active)
        x, observed = u[:, : self.features], 1.0 - u[:, self.features :]
        losses = []
        if self.scales is not None:
            log_scale = torch.clamp(self.scales(torch.ones((len(u), 1), dtype=u.dtype)), *_LOG_SCALE)
            standard = (x[:, self.numbers] - values[:, self.numbers]) * torch.exp(-log_scale)
            losses.append(0.5 * standard * standard + log_scale)
        if self.binary:
            logits = values[:, self.binary]
            losses.append(functional.softplus(logits) - x[:, self.binary] * logits)
        return (torch.cat(losses, dim=1) * observed[:, [*self.numbers, *self.binary]]).sum(dim=1)

    def per_patient_loss(
        self, u: Tensor, log_years: Tensor, died: Tensor, epsilon: Tensor, *, time_weight: float, kl_weight: float
    ) -> Tensor:
        """[n] losses in nats, entry i a function of row i of the arguments alone; see the module.

        Args:
            u: [n, 2p] inputs.
            log_years: [n], log of the time in years.
            died: [n], 1 = death.
            epsilon: [n, L], of `noise`.
            time_weight: w > 0.
            kl_weight: κ ≥ 0.
        """
        mean, log_variance = self.encode(u)
        z = mean + torch.exp(0.5 * log_variance) * epsilon
        divergence = 0.5 * (mean * mean + torch.exp(log_variance) - 1.0 - log_variance).sum(dim=1)
        time = self.time_loss(z, log_years, died) + self.shape_loss(z)
        return time_weight * time + self.feature_loss(z, u) + kl_weight * divergence


def columns(data: SurvivalData, latent: int) -> tuple[Tensor, ...]:
    """Bounded data → what `SAVAE.per_patient_loss` takes: inputs, log of the time, event, noise."""
    u = inputs(data.x, data.observed)
    parts = (u, np.log(data.duration / DAYS_PER_YEAR), data.event.astype(np.float64), noise(u, latent))
    return tuple(torch.from_numpy(part) for part in parts)


def noise(u: Float64, latent: int) -> Float64:
    """Standard normal numbers of each patient, float64[n, L], row i a function of row i alone.

    Args:
        u: float64[n, 2p] inputs.
        latent: L.
    """
    pairs = (latent + 1) // 2
    uniform = np.empty((len(u), 2, pairs))
    for row, patient in zip(uniform, u + 0.0, strict=True):  # + 0.0: −0 and 0 are one number
        octets = hashlib.shake_128(_LABEL + patient.astype("<f8").tobytes()).digest(16 * pairs)
        words = np.frombuffer(octets, dtype="<u8").reshape(2, pairs) >> np.uint64(11)
        row[:] = (words.astype(np.float64) + 0.5) / float(2**53)
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:, 0])), 2.0 * np.pi * uniform[:, 1]
    return np.asarray(np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :latent])


def _exp(values: Tensor) -> Tensor:
    """e^v, and its tangent beyond `_STEEP`."""
    tangent = math.exp(_STEEP) * (1.0 - _STEEP + values)
    # A choice, not a sum of both: their slopes would cancel to three digits in float32.
    return torch.where(values > _STEEP, tangent, torch.exp(torch.clamp(values, max=_STEEP)))


def _linear(inputs_: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs_, outputs, bias=bias, dtype=torch.float64)
