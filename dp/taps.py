"""Layers that remember, per patient, what the gradient of their parameters is made of.

A `Tap` stands in for one layer of a model. It computes what the layer computes, with the parameters as constants, and
keeps its input a and its output z; after one backward pass δ = ∂L/∂z is known, and the gradient of patient i is

| layer                     | patient i's gradient                   | kept as                        |
|---------------------------|----------------------------------------|--------------------------------|
| `Linear` on [B, in]       | δ_i ⊗ (a_i, 1)                         | the two factors (`Outer`)      |
| `Linear` on [B, T, in]    | Σ_t δ_it ⊗ (a_it, 1)                   | one row of numbers (`Rows`)    |
| `LayerNorm`               | Σ_t (δ_it · x̂_it, δ_it)                | `Rows`                         |
| `Embedding` on [B]        | e(k_i) ⊗ δ_i                           | `Rows`                         |
| `Embedding` on [B, T]     | Σ_t e(k_it) ⊗ δ_it                     | `Rows`                         |
| `Conv1d`                  | Σ_t δ_it ⊗ (patch_it, 1)               | `Rows`                         |

For `Outer` no gradient of one patient is ever formed: memory is that of the activations.

Source: book-keeping, Bu, Wang, Zha & Karypis 2023 (arXiv 2210.00038), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dp.errors import MisuseError
from dp.rowwise import row_product

LANE = 16
"""Matrix products are as wide as a multiple of this: odd widths let a BLAS treat rows by their alignment in memory."""


@dataclass(frozen=True)
class Outer:
    """The gradients of a layer as factors.

    Args:
        a: [B, in].
        delta: [B, out].
        bias: whether the gradient of the bias, δ, belongs to it.
        fixed: a is a column of the patients themselves: the same in every step.
    """

    a: Tensor
    delta: Tensor
    bias: bool
    fixed: bool


@dataclass(frozen=True)
class Rows:
    """The gradients of a layer, one row per patient.

    Args:
        values: [B, numbers of the layer], parameters in order.
    """

    values: Tensor


@dataclass(frozen=True)
class Call:
    """One use of a layer in a forward pass."""

    inputs: Tensor
    outputs: Tensor


class Tap(nn.Module):
    """Stands in for a layer; see the module.

    Args:
        layer: the layer with the public parameters; it is read at every `refresh`, never changed.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that it is not registered as a submodule
        self.calls: list[Call] = []
        self._views: list[tuple[nn.Parameter, Tensor]] = []
        for name, parameter in layer.named_parameters(recurse=False):
            constant = torch.zeros(self._shape(name, parameter), dtype=torch.float32)
            self.register_buffer(f"public_{name}", constant)
            self._views.append((parameter, constant[tuple(slice(0, size) for size in parameter.shape)]))

    @property
    def layer(self) -> nn.Module:
        """The layer that holds the public parameters."""
        return self._layer[0]

    def public(self, name: str) -> Tensor | None:
        """The layer's parameter as a float32 constant."""
        return getattr(self, f"public_{name}", None)

    @property
    def constants(self) -> list[Tensor]:
        """The constants that stand for the parameters, in order."""
        return [constant for _, constant in self._views]

    def refresh(self) -> None:
        """Take over the layer's present parameters."""
        for parameter, constant in self._views:
            constant.copy_(parameter.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the layer and remember input and output."""
        outputs = self.compute(inputs)
        if not outputs.requires_grad:  # nothing before it has parameters: the graph begins here
            outputs = outputs.detach().requires_grad_()
        self.calls.append(Call(inputs.detach(), outputs))
        return outputs

    def compute(self, inputs: Tensor) -> Tensor:
        """What the layer computes."""
        raise NotImplementedError

    def gradients(self, call: Call, delta: Tensor, *, fixed: bool) -> Outer | Rows:
        """Return what the per-patient gradients of one call are made of."""
        raise NotImplementedError

    def _shape(self, name: str, parameter: Tensor) -> tuple[int, ...]:
        del name
        return tuple(parameter.shape)


class LinearTap(Tap):
    """`nn.Linear`."""

    folded = False
    """Whether to multiply by additions in a fixed order instead of BLAS; see `dp.rowwise`."""

    _last: tuple[Tensor, Tensor] | None = None

    def compute(self, inputs: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        weight, bias = self.public("weight"), self.public("bias")
        assert weight is not None  # noqa: S101 - every Linear has one
        if (missing := weight.shape[1] - inputs.shape[-1]) > 0:
            inputs = self._padded(inputs, missing)
        if self.folded:
            product = row_product(inputs, weight)
            return product if bias is None else product + bias
        return functional.linear(inputs, weight, bias)

    def gradients(self, call: Call, delta: Tensor, *, fixed: bool) -> Outer | Rows:
        """Return the factors, or their sums over positions."""
        inputs, bias = call.inputs, self.layer.bias is not None
        if inputs.ndim == 2:
            return Outer(inputs, delta, bias, fixed)
        return _positions(inputs.flatten(1, -2), delta.flatten(1, -2), bias=bias)

    def _padded(self, inputs: Tensor, missing: int) -> Tensor:
        """With zeros behind; the patients' own columns are padded once, as long as they are the same tensor."""
        if self._last is not None and self._last[0] is inputs:
            return self._last[1]
        padded = functional.pad(inputs, (0, missing))
        if not inputs.requires_grad:
            self._last = inputs, padded
        return padded

    def _shape(self, name: str, parameter: Tensor) -> tuple[int, ...]:
        if name == "weight":
            return parameter.shape[0], -(-parameter.shape[1] // LANE) * LANE
        return tuple(parameter.shape)


class LayerNormTap(Tap):
    """`nn.LayerNorm` with parameters."""

    def compute(self, inputs: Tensor) -> Tensor:
        """Return the layer's output."""
        layer = self.layer
        assert isinstance(layer, nn.LayerNorm)  # noqa: S101 - by construction
        shape = list(layer.normalized_shape)
        return functional.layer_norm(inputs, shape, self.public("weight"), self.public("bias"), layer.eps)

    def gradients(self, call: Call, delta: Tensor, *, fixed: bool) -> Rows:
        """Return Σ_t δ·x̂ and, with a bias, Σ_t δ."""
        del fixed
        layer = self.layer
        assert isinstance(layer, nn.LayerNorm)  # noqa: S101 - by construction
        shape = layer.normalized_shape
        normal = functional.layer_norm(call.inputs, list(shape), eps=layer.eps)
        positions = tuple(range(1, normal.ndim - len(shape)))
        parts = [normal * delta] if layer.bias is None else [normal * delta, delta]
        if positions:
            parts = [part.sum(positions) for part in parts]
        return Rows(torch.cat([part.flatten(1) for part in parts], dim=1))


class EmbeddingTap(Tap):
    """`nn.Embedding`; indices [B] or [B, T]."""

    def compute(self, inputs: Tensor) -> Tensor:
        """Return the rows of the table."""
        weight = self.public("weight")
        assert weight is not None  # noqa: S101 - every Embedding has one
        return functional.embedding(self._known(inputs), weight)

    def gradients(self, call: Call, delta: Tensor, *, fixed: bool) -> Rows:
        """Return the gradient of the whole table for every patient."""
        del fixed
        layer = self.layer
        assert isinstance(layer, nn.Embedding)  # noqa: S101 - by construction
        index = self._known(call.inputs.reshape(call.inputs.shape[0], -1))
        delta = delta.reshape(*index.shape, layer.embedding_dim)
        if layer.padding_idx is not None:
            delta = torch.where((index == layer.padding_idx)[..., None], 0.0, delta)
        table = delta.new_zeros(index.shape[0], layer.num_embeddings, layer.embedding_dim)
        # One position after the other: additions of one patient happen in the order of his positions.
        for position in range(index.shape[1]):
            table[torch.arange(index.shape[0]), index[:, position]] += delta[:, position]
        return Rows(table.flatten(1))

    def _known(self, index: Tensor) -> Tensor:
        """Codes outside the table become its ends: a stop that one record causes would be seen from outside."""
        layer = self.layer
        assert isinstance(layer, nn.Embedding)  # noqa: S101 - by construction
        return index.clamp(0, layer.num_embeddings - 1)


class Conv1dTap(Tap):
    """`nn.Conv1d` with zero padding and one group."""

    def compute(self, inputs: Tensor) -> Tensor:
        """Return the convolution, as a product of patches and weights."""
        layer, weight, bias = self.layer, self.public("weight"), self.public("bias")
        assert isinstance(layer, nn.Conv1d)  # noqa: S101 - by construction
        assert weight is not None  # noqa: S101 - every Conv1d has one
        return functional.conv1d(inputs, weight, bias, layer.stride, layer.padding, layer.dilation)

    def gradients(self, call: Call, delta: Tensor, *, fixed: bool) -> Rows:
        """Return Σ_t δ_t ⊗ (patch_t, 1)."""
        del fixed
        layer = self.layer
        assert isinstance(layer, nn.Conv1d)  # noqa: S101 - by construction
        patches = functional.unfold(
            call.inputs[:, :, None, :],
            (1, *layer.kernel_size),
            (1, *layer.dilation),
            (0, *layer.padding),
            (1, *layer.stride),
        )
        return _positions(patches.mT, delta.mT, bias=layer.bias is not None)


def _positions(a: Tensor, delta: Tensor, *, bias: bool) -> Rows:
    """[B, T, in], [B, T, out] → Σ_t δ_t ⊗ (a_t, 1), one product per patient."""
    weight = torch.bmm(delta.mT, a).flatten(1)
    return Rows(torch.cat([weight, delta.sum(1)], dim=1) if bias else weight)


def tap(layer: nn.Module) -> Tap | None:
    """Return the stand-in for a layer with parameters, or None if there is none.

    Only the exact classes: a subclass may compute something else.
    """
    if type(layer) is nn.Linear:
        return LinearTap(layer)
    if type(layer) is nn.LayerNorm:
        return LayerNormTap(layer)
    if type(layer) is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse:
        return EmbeddingTap(layer)
    if type(layer) is nn.Conv1d and layer.groups == 1 and layer.padding_mode == "zeros":
        # "same" and "valid" are words, whatever the annotation says.
        return Conv1dTap(layer) if not hasattr(layer.padding, "upper") else None
    return None


def tapped(model: nn.Module) -> tuple[nn.Module, dict[str, Tap]] | None:
    """Return a copy of the model with a tap in place of every layer with parameters, and the taps by name.

    Returns:
        None if a layer with parameters has no tap, or a parameter is used by two layers.
    """
    owners = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if len(owners) != len(list(model.parameters())):
        return None
    stand_ins: dict[int, Tap] = {}
    names: dict[str, Tap] = {}
    for name, layer in model.named_modules():
        if next(layer.parameters(recurse=False), None) is None:
            continue
        stand_in = tap(layer)
        if stand_in is None or not name:
            return None
        stand_ins[id(layer)] = names[name] = stand_in
    return _copy(model, stand_ins), names


def _copy(module: nn.Module, stand_ins: dict[int, Tap]) -> nn.Module:
    """A copy of the tree of modules, sharing everything but the modules themselves."""
    if id(module) in stand_ins:
        return stand_ins[id(module)]
    twin = module.__class__.__new__(module.__class__)
    twin.__dict__ = {**module.__dict__, "_modules": {}}
    for name, child in module._modules.items():  # noqa: SLF001 - the tree itself, without a deep copy
        twin.__dict__["_modules"][name] = None if child is None else _copy(child, stand_ins)
    return twin


def order(taps: dict[str, Tap], parameters: dict[str, nn.Parameter]) -> list[Tap]:
    """Return the taps in the order in which their parameters follow each other in the flat vector.

    Raises:
        MisuseError: the parameters of one layer do not follow each other.
    """
    found: list[Tap] = []
    for name in parameters:
        owner = taps[name.rpartition(".")[0]]
        if not found or found[-1] is not owner:
            found.append(owner)
    if len({id(each) for each in found}) != len(found):
        raise MisuseError("the parameters of one layer are not next to each other")
    return found
