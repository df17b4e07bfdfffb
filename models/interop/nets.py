"""The torch side of a survival model, complete: from (x, observed) to log-hazards, as `SurvivalModel` predicts them."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models.completion import Completion
from models.data import DAYS_PER_YEAR
from models.deepsurv import DeepSurv, Members, pour
from models.errors import ConfigError
from models.fusion import Fusion
from models.networks import Ensemble, FusedBlocks, Hazards, LatentWeibull
from models.predict import SurvivalModel
from models.savae import SAVAE

__all__ = ["IntervalHazards"]


class IntervalHazards(nn.Module):
    """Expected deaths of each interval, as what softplus makes of the output, float64.

    The output φ has softplus(φ_k) = hazard_k(x) · years_k, which is what `pycox.models.PCHazard` takes.

    Args:
        model: any survival model; weights, recalibrated factors and imputation are copied.

    Raises:
        ConfigError: a network that no module is known of.
    """

    def __init__(self, model: SurvivalModel) -> None:
        super().__init__()
        years = np.diff(np.asarray(model.grid)) / DAYS_PER_YEAR
        with np.errstate(divide="ignore"):  # an interval in which nobody dies: −∞, and softplus makes it 0
            self.register_buffer("log_baseline", torch.from_numpy(np.log(model.hazard * years)))
        self.filling = None if model.imputation is None else _Filling(model.imputation, len(model.features))
        self.relative = _relative(model)
        self.phi = _Phi()

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """[n, p] values scaled by the profile and [n, p] bool → [n, K]."""
        x = torch.where(observed, x, torch.zeros_like(x))
        if self.filling is not None:
            x, observed = self.filling(x, observed)
        return cast("Tensor", self.phi(self.log_baseline + self.relative(x, observed)))


class _Phi(nn.Module):
    """The inverse of softplus; the last module, because pycox asks that for its `out_features`, and has none."""

    def forward(self, log_expected: Tensor) -> Tensor:
        expected = torch.exp(log_expected)
        return expected + torch.log(-torch.expm1(-expected))  # log(e^c − 1); −∞ of 0 is what softplus makes 0 of


class _Filling(nn.Module):
    """`Completion.complete`: m = μ_m + Σ_mo Σ_oo⁻¹ (x_o − μ_o)."""

    mean: Tensor
    covariance: Tensor
    low: Tensor
    high: Tensor
    places: Tensor
    source: Tensor
    filled: Tensor

    def __init__(self, filling: Completion, features: int) -> None:
        super().__init__()
        normal = filling.normal
        low, high = normal.bounds
        places = torch.tensor([c.column for c in normal.covariates])
        source = torch.arange(features)
        source[places] = features + torch.arange(len(places))
        for name, value in (
            ("mean", torch.tensor(normal.mean)), ("covariance", torch.tensor(normal.covariance)),
            ("low", torch.tensor(low)), ("high", torch.tensor(high)), ("places", places), ("source", source),
            ("filled", torch.tensor([c.name not in filling.kept for c in normal.covariates])),
        ):  # fmt: skip
            self.register_buffer(name, value)

    def forward(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        own, seen = x[:, self.places], observed[:, self.places]
        inside = torch.minimum(torch.maximum(own, self.low), self.high)
        there = seen.to(x.dtype)
        # Σ_oo beside an identity for what is missing: one shape for all patterns, and 0 where nothing is known
        known = there[:, :, None] * self.covariance * there[:, None, :] + torch.diag_embed(1.0 - there)
        weights = torch.linalg.solve(known, (there * (inside - self.mean))[:, :, None])[:, :, 0]
        mean = self.mean + weights @ self.covariance
        wanted = ~seen & self.filled
        own = torch.where(wanted, torch.minimum(torch.maximum(mean, self.low), self.high), own)
        return (
            torch.cat([x, own], dim=1)[:, self.source],
            torch.cat([observed, seen | wanted], dim=1)[:, self.source],
        )


class _Risk(nn.Module):
    """Proportional hazards: the mean of the clipped risks of one network or more."""

    def __init__(self, members: list[DeepSurv]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        u = torch.cat([x, 1.0 - observed.to(x.dtype)], dim=1)
        return torch.stack([cast("DeepSurv", member).risk(u) for member in self.members]).mean(dim=0)


class _Blocks(nn.Module):
    """Fusion with the inputs of `FusedBlocks.inputs`."""

    def __init__(self, fusion: Fusion, form: FusedBlocks, features: int) -> None:
        super().__init__()
        self.fusion, self.widths, self.vectors = fusion, form.widths(features), form.vectors

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        seen = observed.to(x.dtype)
        blocks, absent, first = [], [], 0
        for j, width in enumerate(self.widths):
            values, there = x[:, first : first + width], seen[:, first : first + width]
            vector = j in self.vectors
            present = (there.amin(dim=1, keepdim=True)) if vector else there.amax(dim=1, keepdim=True)
            whole = values / width**0.5 if vector else torch.cat([values, 1.0 - there], dim=1)
            blocks.append(whole * present)
            absent.append(1.0 - present)
            first += width
        return self.fusion.risk(torch.cat([*blocks, *absent], dim=1))


class _Weibull(nn.Module):
    """Log of the deaths per year of each interval, as `LatentWeibull.log_relative`."""

    log_later: Tensor
    log_width: Tensor
    log_ratio: Tensor

    def __init__(self, network: SAVAE, grid: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        edges = torch.tensor(grid, dtype=torch.float64) / DAYS_PER_YEAR
        self.register_buffer("log_later", torch.log(edges[1:]))
        self.register_buffer("log_width", torch.log(torch.diff(edges)))
        self.register_buffer("log_ratio", torch.log(edges[1:-1] / edges[2:]))

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        mean, _ = self.network.encode(torch.cat([x, 1.0 - observed.to(x.dtype)], dim=1))
        log_shape, log_scale = self.network.weibull(mean)
        shape = torch.exp(log_shape)[:, None]
        share = torch.log(-torch.expm1(shape * self.log_ratio))
        share = torch.cat([torch.zeros_like(shape), share], dim=1)
        return shape * (self.log_later - log_scale[:, None]) + share - self.log_width


def _relative(model: SurvivalModel) -> nn.Module:
    features = len(model.features)
    match model.network:
        case Hazards(hidden):
            deepsurv = DeepSurv(features, hidden, model.intervals)
            pour(deepsurv, model.params)
            return _Risk([deepsurv])
        case Ensemble() as form:
            several = Members(features, form, model.intervals)
            pour(several, model.params)
            return _Risk([cast("DeepSurv", member) for member in several.members])
        case FusedBlocks() as form:
            fusion = Fusion(features, form, model.intervals)
            pour(fusion, model.params)
            return _Blocks(fusion, form, features)
        case LatentWeibull() as form:
            savae = SAVAE(features, form)
            pour(savae, model.params)
            return _Weibull(savae, model.grid)
        case other:
            raise ConfigError(f"no torch module is known of a network {other.learner!r}; use the model file itself")
