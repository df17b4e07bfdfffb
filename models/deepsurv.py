"""DeepSurv with a piecewise-exponential baseline, built of Linear layers only.

log h(t | x) = b_k(t) + f(x),  f = clip(w·z + v·tanh(… W z …), ±8),  z = (x · observed, 1 − observed).

Every parameter sits in an `nn.Linear` (also b, as Linear(1, K) applied to ones), so that `dp.bookkeeping` knows the
gradients of all of them by their factors. f has no intercept, b is the intercept. The linear
path is the reason why this model never loses to a linear Cox model.

Source: Katzman et al., BMC Med Res Methodol 2018;18:24 (DeepSurv); the likelihood is
`losses.PiecewiseExponential`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import MisuseError
from models.losses import Batch, PerPatientLoss, PiecewiseExponential
from models.networks import RISK_BOUND, Ensemble, Hazards


class DeepSurv(nn.Module):
    """The network; float64 throughout, parameters in the order of `Hazards.layout`.

    Args:
        features: p ≥ 1.
        hidden: widths of the hidden layers; () leaves the linear path alone (a linear proportional-hazards
            model).
        intervals: K ≥ 1.
    """

    def __init__(self, features: int, hidden: tuple[int, ...], intervals: int) -> None:
        super().__init__()
        self.features = features
        self.baseline = nn.Linear(1, intervals, bias=False, dtype=torch.float64)
        self.skip = nn.Linear(2 * features, 1, bias=False, dtype=torch.float64)
        widths = (2 * features, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], 1, bias=False, dtype=torch.float64) if hidden else None
        names = tuple((name, tuple(p.shape)) for name, p in self.named_parameters())
        if names != Hazards(hidden).layout(features, intervals):
            raise MisuseError(f"DeepSurv has parameters {names}, its public layout says otherwise")

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, 2p] inputs → [n, K] log-hazards per year."""
        ones = torch.ones((inputs.shape[0], 1), dtype=inputs.dtype)
        baseline: Tensor = self.baseline(ones)
        return baseline + self.risk(inputs)

    def risk(self, inputs: Tensor) -> Tensor:
        """[n, 2p] inputs → [n, 1] log-risk f, clipped to ±8 with gradient zero outside."""
        risk: Tensor = self.skip(inputs)
        if self.out is not None:
            active = inputs
            for layer in self.hidden:
                active = torch.tanh(layer(active))
            risk = risk + self.out(active)
        return torch.clamp(risk, -RISK_BOUND, RISK_BOUND)

    def per_patient_loss(self, batch: Batch, loss: PerPatientLoss | None = None) -> Tensor:
        """[n] losses in nats, one per patient, entry i a function of patient i alone."""
        return (loss or PiecewiseExponential()).per_patient(self(batch.inputs), batch)


class Members(nn.Module):
    """The networks of an ensemble beside each other; parameters in the order of `Ensemble.layout`.

    A patient's loss is the sum of his losses under each member, so every member is trained as if it were alone, but all
    share the one clip of his gradient.

    Args:
        features: p ≥ 1.
        form: its public form.
        intervals: K ≥ 1.
    """

    def __init__(self, features: int, form: Ensemble, intervals: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(DeepSurv(features, form.hidden, intervals) for _ in range(form.members))
        names = tuple((name, tuple(p.shape)) for name, p in self.named_parameters())
        if names != form.layout(features, intervals):
            raise MisuseError(f"the ensemble has parameters {names}, its public layout says otherwise")

    def per_patient_loss(self, batch: Batch, loss: PerPatientLoss | None = None) -> Tensor:
        """[n] losses in nats, one per patient, entry i a function of patient i alone."""
        members = [each for each in self.members if isinstance(each, DeepSurv)]
        return torch.stack([member.per_patient_loss(batch, loss) for member in members]).sum(dim=0)


def flat(model: nn.Module) -> bytes:
    """All parameters, float64 little-endian, in the order of `named_parameters`."""
    return b"".join(p.detach().numpy().astype("<f8").tobytes() for p in model.parameters())


def pour(model: nn.Module, weights: bytes) -> None:
    """Overwrite the parameters with `weights` (float64 little-endian).

    Raises:
        MisuseError: the number of bytes is not that of this model.
    """
    count = sum(p.numel() for p in model.parameters())
    if len(weights) != 8 * count:
        raise MisuseError(f"weights have {len(weights)} bytes, the model needs {8 * count}")
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), _pieces(model, weights), strict=True):
            parameter.copy_(torch.from_numpy(values))


def _pieces(model: nn.Module, weights: bytes) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    numbers = np.frombuffer(weights, dtype="<f8").astype(np.float64)
    start = 0
    for parameter in model.parameters():
        count = math.prod(parameter.shape)
        yield numbers[start : start + count].reshape(tuple(parameter.shape))
        start += count
