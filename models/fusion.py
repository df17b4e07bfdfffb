"""Late fusion of modalities, built of Linear layers only; what it computes: `models.networks.fusion`.

Every encoder is used once per patient and pass, and a block that is absent multiplies its code by 0: the patient's
gradient for that encoder is exactly 0, whatever its columns hold. The likelihood is `losses.PiecewiseExponential`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.errors import MisuseError
from models.networks import RISK_BOUND, FusedBlocks

__all__ = ["Fusion"]


class Fusion(nn.Module):
    """The network; float64 throughout, parameters in the order of `FusedBlocks.layout`.

    Args:
        features: p ≥ 1.
        form: its public form.
        intervals: K ≥ 1.
    """

    def __init__(self, features: int, form: FusedBlocks, intervals: int) -> None:
        super().__init__()
        self.lengths = form.seen(features)
        blocks, codes = len(self.lengths), form.latent
        widths = (codes * blocks, *form.hidden)
        self.baseline = _linear(1, intervals, bias=False)
        self.skip = _linear(sum(self.lengths) + blocks, 1, bias=False)
        self.encoders = nn.ModuleList(_linear(length, codes) for length in self.lengths)
        self.head = nn.ModuleList(_linear(a, b) for a, b in pairwise(widths))
        self.out = _linear(widths[-1], 1, bias=False)
        names = tuple((name, tuple(p.shape)) for name, p in self.named_parameters())
        if names != form.layout(features, intervals):
            raise MisuseError(f"Fusion has parameters {names}, its public layout says otherwise")

    def forward(self, u: Tensor) -> Tensor:
        """[n, Σ length + B] inputs of `FusedBlocks.inputs` → [n, K] log-hazards per year."""
        baseline: Tensor = self.baseline(torch.ones((u.shape[0], 1), dtype=u.dtype))
        return baseline + self.risk(u)

    def risk(self, u: Tensor) -> Tensor:
        """Inputs → [n, 1] log-risk f, clipped to ±8 with gradient zero outside."""
        *blocks, absent = torch.split(u, [*self.lengths, len(self.lengths)], dim=1)
        present = 1.0 - absent
        codes = [
            torch.tanh(encoder(block)) * present[:, j : j + 1]
            for j, (encoder, block) in enumerate(zip(self.encoders, blocks, strict=True))
        ]
        active = torch.cat(codes, dim=1)
        for layer in self.head:
            active = torch.tanh(layer(active))
        return torch.clamp(self.skip(u) + self.out(active), -RISK_BOUND, RISK_BOUND)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
