"""Losses that are sums over patients, and the one that is not.

Differential privacy by clipping needs L = Σ_i ℓ_i with ℓ_i a function of patient i and the model alone. The
piecewise-exponential full likelihood has that form. The Cox partial likelihood has not: a patient sits in
the risk set of everybody who dies before, so one record moves other patients' gradients (by up to 48 clip
norms in a batch of 1,024). It therefore has no per-patient method, and private training refuses it as a type
error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from models.data import SurvivalData, exposures, inputs
from models.errors import NotPerPatient


@dataclass(frozen=True, eq=False)
class Batch:
    """A site's patients as tensors.

    Args:
        inputs: float64[n, 2p].
        at_risk: float64[n, K], years under observation in each interval.
        deaths: float64[n, K], the interval of death as one-hot, zeros if censored.
    """

    inputs: Tensor
    at_risk: Tensor
    deaths: Tensor

    @classmethod
    def of(cls, data: SurvivalData, grid: tuple[float, ...]) -> Batch:
        """Split the follow-up of `data` over the public grid (days)."""
        at_risk, deaths = exposures(data, grid)
        return cls(
            torch.from_numpy(inputs(data.x, data.observed)),
            torch.from_numpy(at_risk),
            torch.from_numpy(deaths),
        )


@runtime_checkable
class PerPatientLoss(Protocol):
    """A loss with one term per patient.

    Guarantee owed by every implementation: entry i of the result depends on row i of the arguments only.
    """

    def per_patient(self, log_hazard: Tensor, batch: Batch) -> Tensor:
        """[n, K] log-hazards per year and the batch → [n] losses in nats."""
        ...


class PiecewiseExponential:
    """Full likelihood of a proportional-hazards model with piecewise-constant baseline hazard.

    ℓ_i = Σ_k exp(b_k + f_i) · exposure_ik − δ_i (b_k(i) + f_i), right-censored, in nats.

    Source: Friedman, Annals of Statistics 1982;10:101-113 (piecewise exponential models with covariates).
    """

    def per_patient(self, log_hazard: Tensor, batch: Batch) -> Tensor:
        """Minus log-likelihood of each patient."""
        expected = torch.exp(log_hazard) * batch.at_risk
        return (expected - batch.deaths * log_hazard).sum(dim=1)


class CoxPartialLikelihood:
    """Minus Cox log partial likelihood (Breslow ties), for tests and studies without privacy.

    It deliberately has no `per_patient`: each term depends on everybody still at risk.
    """

    def total(self, risk: Tensor, duration: Tensor, event: Tensor) -> Tensor:
        """[n] log-risks, durations, events → scalar in nats; 0 when nobody died."""
        at_risk = duration[None, :] >= duration[:, None]
        log_sum = torch.logsumexp(torch.where(at_risk, risk[None, :], -torch.inf), dim=1)
        return torch.where(event, log_sum - risk, torch.zeros_like(risk)).sum()


def require_per_patient(loss: object) -> PerPatientLoss:
    """Return the loss if it is a sum over patients.

    Raises:
        NotPerPatient: (a TypeError) it is not; private training with it would protect nobody.
    """
    if isinstance(loss, PerPatientLoss):
        return loss
    raise NotPerPatient(
        f"{type(loss).__name__} is no sum over patients, so clipping cannot bound one patient's influence; "
        "train with PiecewiseExponential, or declare a study without differential privacy"
    )
