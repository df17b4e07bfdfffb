"""The generator in torch, the package ctgan's own module, and what it learns from generated rows.

The critic is that package's with no hidden layer, pac = 1, over products of sights of different columns (mean and
covariance feature matching: Mroueh, Sercu & Goel, McGan, ICML 2017):

    D(row) = Σ_p w_p a_p u_j(p) u_k(p),   a public, ‖w‖ ≤ 1

Two answers of the generator are independent once its input is given, so the expectation of a product over all rows
that could be drawn from it is the product of expectations: rows are taken as the shares of their levels, and neither
critic nor generator meets the noise of a draw.

Everything here is a function of public and released numbers: no patient comes near it. What real patients say is
`models.generators.ctgan.training`'s, through the door.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import Float64
from models.errors import ConfigError, MisuseError
from models.generators.ctgan.arithmetic import normals, rounded, uniforms
from models.generators.ctgan.coding import Coding
from models.generators.ctgan.form import Form
from models.generators.ctgan.settings import Settings, pair_weights
from models.generators.oneway import NORMAL_BOUND

if TYPE_CHECKING:
    from ctgan.synthesizers.ctgan import Generator

__all__ = ["Adversaries", "generator_of", "require"]

_MISSING = "the learner ctgan needs a package that is not installed here: pip install 'haemfed[ctgan]'"


def require() -> type[Generator]:
    """The package's class.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from ctgan.synthesizers.ctgan import Generator  # noqa: PLC0415 - BUSL-1.1: an extra of its own
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    made: type[Generator] = Generator
    return made


def generator_of(form: Form) -> nn.Module:
    """A generator of these sizes, float64."""
    made: nn.Module = require()(form.latent + form.conditions, form.units, form.width).double()
    if tuple((name, tuple(p.shape)) for name, p in made.named_parameters()) != form.layout:
        raise MisuseError("the package ctgan has other layers than ours was written for")
    return made


class Adversaries:
    """The generator, its generated rows, and what the critic says of them.

    Args:
        settings: of the study.
        coding: of the rows.
        form: sizes.
        seed: public bytes that every draw starts from.
    """

    def __init__(self, settings: Settings, coding: Coding, form: Form, seed: bytes) -> None:
        self.generator = generator_of(form)
        self._settings, self._coding, self._form, self._seed = settings, coding, form, seed
        places = coding.places
        self._owners = torch.from_numpy(places.owners)
        self._members = functional.one_hot(self._owners).double()
        self._offsets, self._shares = torch.from_numpy(coding.offsets), torch.from_numpy(coding.shares)
        self._spread = self._shares * (1.0 - self._shares) + settings.evenness
        self._kept, self._risk = torch.from_numpy(places.kept), torch.from_numpy(coding.risk)
        self._centre, self._factor = (torch.from_numpy(part) for part in coding.scale)
        self._scalars = torch.tensor([place for _, place in places.scalars], dtype=torch.int64)
        self._powers = torch.from_numpy(coding.powers)
        self._pairs = places.pairs
        self._weights = pair_weights(settings, places)

    def moments(self, label: str) -> Float64:
        """Mean of a_p u_j u_k over generated rows, float64[pairs]: minus the gradient of the critic; on the lattice."""
        with torch.no_grad():
            sights = self._sights(self._generated(label)[0])
            products = (sights.T @ sights / len(sights)).numpy()
        return rounded(products[self._pairs] * self._weights)

    def of_generator(self, label: str, critic: Float64) -> list[Float64]:
        """Gradient of the generator's loss for a critic w, float64[pairs]; on the lattice.

        The loss is −score + margin_weight · squared distance of margins from the released ones.
        """
        rows, shares = self._generated(label)
        form = np.zeros((len(self._coding.places.columns),) * 2)
        form[self._pairs] = critic * self._weights
        sights = self._sights(rows)
        score = ((sights @ torch.from_numpy(form)) * sights).sum(dim=1).mean()
        loss = self._settings.margin_weight * self._away(rows, shares) - score
        names, parameters = zip(*self.generator.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        # The normalisation takes a bias before it off again: its gradient is zero, what is computed rounding errors.
        return [
            np.zeros(gradient.shape) if name.endswith("fc.bias") else rounded(gradient.numpy())
            for name, gradient in zip(names, gradients, strict=True)
        ]

    def _away(self, rows: Tensor, shares: Tensor) -> Tensor:
        """Squared distance of margins from the released ones: shares of levels, mean and mean square of scores."""
        away = (shares.mean(dim=0) - self._shares) ** 2 / self._spread
        scores, observed = NORMAL_BOUND * rows[:, self._scalars], self._scalars + 1
        power = (scores**2 / shares[:, observed]).mean(dim=0) / self._shares[observed]
        away[self._scalars] = scores.mean(dim=0) ** 2 + (power - self._powers) ** 2
        return away[: -self._form.conditions].sum()

    def inputs(self, label: str, rows: int) -> Float64:
        """Public inputs of the generator, float64[rows, latent + conditions]."""
        seed = self._seed + label.encode()
        condition = self._coding.conditions(uniforms(seed + b"/condition", (rows,)))
        return np.concatenate([normals(seed + b"/latent", (rows, self._form.latent)), condition], axis=1)

    def _generated(self, label: str) -> tuple[Tensor, Tensor]:
        """Expected rows, and shares of their levels; follow-up is the condition."""
        inputs = torch.from_numpy(self.inputs(label, self._settings.rows))
        answers = self.generator(inputs) + self._offsets
        given = inputs[:, self._form.latent :]
        shares = torch.cat([self._shares_of(answers)[:, : -given.shape[1]], given], dim=1)
        scalars = torch.tanh(answers[:, self._scalars]) * shares[:, self._scalars + 1]  # a score if it is observed
        return shares.index_copy(1, self._scalars, scalars), shares

    def _sights(self, rows: Tensor) -> Tensor:
        outcome = rows[:, -len(self._risk) :] @ self._risk
        return torch.cat([(rows[:, self._kept] - self._centre) * self._factor, outcome[:, None]], dim=1)

    def _shares_of(self, logits: Tensor) -> Tensor:
        """Softmax within each one-hot."""
        fixed, owners = logits.detach(), self._owners.expand(len(logits), -1)
        start = torch.full((len(logits), self._members.shape[1]), -math.inf, dtype=logits.dtype)
        odds = torch.exp(logits - start.scatter_reduce(1, owners, fixed, "amax")[:, self._owners])
        return odds / (odds @ self._members)[:, self._owners]
