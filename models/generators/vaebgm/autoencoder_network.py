"""The network in torch, for training: minus the evidence lower bound, a sum over patients.

    ℓ_i = Σ_c w_c · (−log p(c_i | z_i)) + κ·KL(N(m_i, diag e^s) ‖ N(0, I)),  z_i = m_i + e^(s/2)·ε_i,  in nats

over the observed columns c of patient i, `OUTCOME`, and for every column whether it is observed. ε_i are standard
normal numbers that patient i brings along, so ℓ_i is a function of patient i and the parameters alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import MisuseError
from models.generators.vaebgm.coding import Answers
from models.generators.vaebgm.form import LOG_SCALE, LOG_VARIANCE, Form

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module):
    """float64, Linear layers only, parameters in the order of `Form.layout`.

    Args:
        form: its sizes.
        answers: places of the answers.
    """

    def __init__(self, form: Form, answers: Answers) -> None:
        super().__init__()
        self.form, self.answers = form, answers
        width, codes, units = form.width, form.latent, form.hidden
        self.mean = _linear(width, codes, bias=False)
        self.spread = _linear(1, codes, bias=False)
        if units:
            self.encoder, self.code = _linear(width, units), _linear(units, codes, bias=False)
            self.curve, self.bend = _linear(codes, units), _linear(units, width, bias=False)
        self.direct = _linear(codes, width)
        if form.numbers:
            self.scales = _linear(1, form.numbers, bias=False)
        if tuple((name, tuple(p.shape)) for name, p in self.named_parameters()) != form.layout:
            raise MisuseError("the autoencoder's parameters are not those of its public layout")

    def encode(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """[n, width] inputs → means and log-variances of codes, each [n, L]."""
        raw = self.mean(u)
        if self.form.hidden:
            raw = raw + self.code(torch.tanh(self.encoder(u)))
        bound = self.form.bound
        return bound * torch.tanh(raw / bound), torch.clamp(self.spread(_ones(u)), *LOG_VARIANCE)

    def decode(self, z: Tensor) -> Tensor:
        """[n, L] codes → [n, width] answers."""
        out: Tensor = self.direct(z)
        return out + self.bend(torch.tanh(self.curve(z))) if self.form.hidden else out

    def per_patient_loss(
        self, u: Tensor, targets: Sequence[Tensor], epsilon: Tensor, offsets: Tensor, kl_weight: float
    ) -> Tensor:
        """[n] losses in nats, entry i a function of row i of the arguments and the parameters alone.

        Args:
            u: [n, width] inputs.
            targets: of `Coding.targets`, weights of columns in "which count" and in the levels.
            epsilon: [n, L] standard normal.
            offsets: [bits + levels], public.
            kl_weight: κ ≥ 0.
        """
        scores, seen, bits, counted, levels = targets
        mean, log_variance = self.encode(u)
        answers = self.decode(mean + torch.exp(0.5 * log_variance) * epsilon)
        loss = kl_weight * 0.5 * (mean * mean + torch.exp(log_variance) - 1.0 - log_variance).sum(dim=1)
        numbers, last = self.form.numbers, self.form.numbers + self.answers.bits
        if numbers:
            log_scale = torch.clamp(self.scales(_ones(u)), *LOG_SCALE)
            standard = (scores - answers[:, :numbers]) * torch.exp(-log_scale)
            loss = loss + ((0.5 * standard * standard + log_scale) * seen).sum(dim=1)
        offset = offsets.to(answers.dtype)
        logits = answers[:, numbers:last] + offset[: self.answers.bits]
        loss = loss + ((functional.softplus(logits) - bits * logits) * counted).sum(dim=1)
        for group in self.answers.groups:
            place = slice(last + group.start, last + group.stop)
            choice = torch.log_softmax(answers[:, place] + offset[self.answers.bits :][group], dim=1)
            loss = loss - (choice * levels[:, group]).sum(dim=1)
        return loss


def _ones(u: Tensor) -> Tensor:
    return torch.ones((len(u), 1), dtype=u.dtype)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
