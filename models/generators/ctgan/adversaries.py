"""Generator and critic in torch, the package ctgan's own modules; what they learn from generated rows.

Everything here is a function of public and released numbers: no patient comes near it. The critic's step on real
patients is `models.generators.ctgan.training`'s, through the door.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import Float64
from models.errors import ConfigError, MisuseError
from models.generators.ctgan.arithmetic import normals, project, rounded, uniforms
from models.generators.ctgan.coding import Coding
from models.generators.ctgan.form import Form, Layout
from models.generators.ctgan.settings import Settings

if TYPE_CHECKING:
    from ctgan.synthesizers.ctgan import Discriminator, Generator

__all__ = ["Adversaries", "critic_of", "generator_of", "require"]

_MISSING = "the learner ctgan needs a package that is not installed here: pip install 'haemfed[ctgan]'"


def require() -> tuple[type[Generator], type[Discriminator]]:
    """The package's two classes.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from ctgan.synthesizers.ctgan import Discriminator, Generator  # noqa: PLC0415 - BUSL-1.1: an extra of its own
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    return Generator, Discriminator


def generator_of(form: Form) -> nn.Module:
    """A generator of these sizes, float64."""
    made: nn.Module = require()[0](form.latent + form.conditions, form.generator, form.width)
    return _checked(made.double(), form.generator_layout)


def critic_of(form: Form) -> nn.Module:
    """A critic of these sizes, float64: pac = 1, and dropout of nothing, which would draw from a global stream."""
    made: nn.Module = require()[1](form.seen, form.critic, pac=1)
    for layer in made.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return _checked(made.double(), form.critic_layout)


def _checked(module: nn.Module, layout: Layout) -> nn.Module:
    if tuple((name, tuple(p.shape)) for name, p in module.named_parameters()) != layout:
        raise MisuseError("the package ctgan has other layers than ours was written for")
    return module


class Adversaries:
    """Both networks and their generated rows.

    Args:
        settings: of the study.
        coding: of the rows.
        form: sizes.
        seed: public bytes that every draw starts from.
    """

    def __init__(self, settings: Settings, coding: Coding, form: Form, seed: bytes) -> None:
        self.critic, self.generator = critic_of(form), generator_of(form)
        self._settings, self._coding, self._form, self._seed = settings, coding, form, seed
        self._owners = torch.from_numpy(coding.places.owners)
        self._members = functional.one_hot(self._owners).double()
        self._offsets = torch.from_numpy(coding.offsets)
        self._kept = torch.from_numpy(coding.places.kept)
        self._centre, self._spread = (torch.from_numpy(part) for part in coding.scale)
        self._scalars = torch.tensor([place for _, place in coding.places.scalars], dtype=torch.int64)

    def of_critic(self, label: str) -> list[Float64]:
        """Gradient of the critic's mean score of generated rows, each row clipped as a patient is; on the lattice."""
        with torch.no_grad():
            rows = self._generated(label)[0]
        outputs, inputs = self._scored(rows)
        found = [
            (delta, layer.detach())
            for delta, layer in zip(torch.autograd.grad(outputs[-1].sum(), outputs), inputs, strict=True)
        ]
        norms = torch.stack([(delta**2).sum(dim=1) * ((a**2).sum(dim=1) + 1.0) for delta, a in found]).sum(dim=0).sqrt()
        factor = (self._settings.clip / norms.clamp_min(1e-300)).clamp_max(1.0)[:, None] / len(rows)
        parts = [part for delta, a in found for part in ((factor * delta).T @ a, (factor * delta).sum(dim=0))]
        return [rounded(part.numpy()) for part in parts]

    def of_generator(self, label: str) -> list[Float64]:
        """Gradient of the generator's loss, −score + weight · cross-entropy of the condition; on the lattice."""
        rows, logits, target = self._generated(label)
        surprise = -(target * self._log_softmax(logits)).sum(dim=1)
        loss = (self._settings.condition_weight * surprise - self.critic(rows)[:, 0]).mean()
        gradients = torch.autograd.grad(loss, list(self.generator.parameters()))
        return [rounded(gradient.numpy()) for gradient in gradients]

    def project(self) -> None:
        """Shrink every layer of the critic to norm ≤ 1."""
        with torch.no_grad():
            for weight, bias in _pairs(list(self.critic.parameters())):
                for parameter, values in zip((weight, bias), project([weight.numpy(), bias.numpy()]), strict=True):
                    parameter.copy_(torch.from_numpy(values))

    def inputs(self, label: str, rows: int) -> tuple[Float64, Float64]:
        """Public inputs of the generator, float64[rows, latent + conditions], and their conditions in a row."""
        seed = self._seed + label.encode()
        condition, target = self._coding.conditions(uniforms(seed + b"/condition", (rows, 2)))
        z = normals(seed + b"/latent", (rows, self._form.latent))
        return np.concatenate([z, condition], axis=1), target

    def _generated(self, label: str) -> tuple[Tensor, Tensor, Tensor]:
        """Rows as the critic sees them, logits, and conditions in a row."""
        inputs, target = self.inputs(label, self._settings.rows)
        gumbel = -np.log(-np.log(uniforms(self._seed + label.encode() + b"/gumbel", (len(inputs), self._form.width))))
        answers = self.generator(torch.from_numpy(inputs)) + self._offsets
        noisy = (answers + torch.from_numpy(gumbel)) / self._settings.temperature
        soft = self._log_softmax(noisy).exp()
        # Forwards the very level that would be drawn, backwards the soft one: the critic meets no fractions of levels.
        hard = (noisy >= self._highest(noisy)).to(soft.dtype)
        levels = hard + (soft - soft.detach())
        rows = levels.index_copy(1, self._scalars, torch.tanh(answers[:, self._scalars]))
        return (rows[:, self._kept] - self._centre) / self._spread, answers, torch.from_numpy(target)

    def _log_softmax(self, logits: Tensor) -> Tensor:
        """Logarithm of the softmax within each one-hot."""
        moved = logits - self._highest(logits)
        return moved - torch.log(torch.exp(moved) @ self._members)[:, self._owners]

    def _highest(self, logits: Tensor) -> Tensor:
        """The highest logit of each place's one-hot; a constant."""
        fixed, owners = logits.detach(), self._owners.expand(len(logits), -1)
        start = torch.full((len(logits), self._members.shape[1]), -torch.inf, dtype=logits.dtype)
        return start.scatter_reduce(1, owners, fixed, "amax")[:, self._owners]

    def _scored(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and inputs of the critic's Linear layers."""
        outputs, inputs = [], []
        for layer in self.critic.seq:  # type: ignore[union-attr]
            if isinstance(layer, nn.Linear):
                inputs.append(rows)
            rows = layer(rows)
            if isinstance(layer, nn.Linear):
                outputs.append(rows)
        return outputs, inputs


def _pairs(parameters: list[nn.Parameter]) -> list[tuple[nn.Parameter, nn.Parameter]]:
    return list(pairwise(parameters))[::2]
