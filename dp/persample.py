"""Two ways to per-patient gradients of one float32 copy of a model: by factors, and by Opacus' `GradSampleModule`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from dp.errors import MisuseError
from dp.queries import Float64
from dp.taps import LinearTap, Outer, Rows, Tap, order, tapped

Loss = Callable[..., Tensor]
"""(model, *tensors) → [n] losses, entry i a function of row i of the tensors and of the model alone."""

Numbers = Callable[[int, str], Float64]
"""(count, label) → numbers in [0, 1)."""


class Engine(Protocol):
    """Per-patient gradients at the present parameters, as terms whose numbers follow each other in the flat vector."""

    def gradients(self, loss: Loss, tensors: Sequence[Tensor]) -> list[Outer | Rows]:
        """Run one forward and one backward pass over a block of rows."""
        ...

    def refresh(self) -> None:
        """Take over the present parameters."""
        ...

    def invent(self, numbers: Numbers) -> None:
        """Put invented parameters in their place, until the next `refresh`."""
        ...

    def fold(self) -> bool:
        """Give up BLAS for products whose rows cannot know each other; False if there is no such way."""
        ...


def engine(model: nn.Module) -> Engine:
    """Return the fast engine if every layer has a tap, the general one otherwise.

    Raises:
        MisuseError: the model is unsound under per-patient clipping.
    """
    require_sound(model)
    found = tapped(model)
    return OpacusEngine(model) if found is None else TapEngine(model, *found)


def require_sound(model: nn.Module) -> None:
    """Refuse a model whose per-patient gradients clipping cannot protect.

    Raises:
        MisuseError: a layer that mixes patients (BatchNorm), buffers (constants computed from data would leave
            unprotected), parameters that are frozen or not float64, or none at all.
    """
    problems = ModuleValidator.validate(model, strict=False)
    if problems:
        raise MisuseError(f"the model cannot be trained per patient: {problems[0]}")
    if next(model.buffers(), None) is not None:
        raise MisuseError("the model has buffers: constants from data would leave the hospital unprotected")
    parameters = list(model.parameters())
    if not parameters or not all(p.requires_grad for p in parameters):
        raise MisuseError("the model has no parameters, or frozen ones: what is not trained belongs to the input")
    if any(p.dtype != torch.float64 or p.device.type != "cpu" for p in parameters):
        raise MisuseError("the model is not float64 on the CPU: call model.double()")


class TapEngine:
    """Book-keeping; see `dp.taps`."""

    def __init__(self, model: nn.Module, twin: nn.Module, taps: dict[str, Tap]) -> None:
        self._twin = twin
        self._taps = order(taps, dict(model.named_parameters()))

    def refresh(self) -> None:
        """Take over the present parameters."""
        for each in self._taps:
            each.refresh()

    def invent(self, numbers: Numbers) -> None:
        """Put invented parameters in their place."""
        for place, each in enumerate(self._taps):
            _invent(each.constants, numbers, f"layer {place}")

    def fold(self) -> bool:
        """Multiply by folding from now on."""
        linear = [each for each in self._taps if isinstance(each, LinearTap)]
        folded = all(each.folded for each in linear)
        for each in linear:
            each.folded = True
        return not folded

    def gradients(self, loss: Loss, tensors: Sequence[Tensor]) -> list[Outer | Rows]:
        """Run one forward and one backward pass over a block of rows."""
        for each in self._taps:
            each.calls.clear()
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        with torch.enable_grad():
            losses = _losses(loss, self._twin, tensors)
            outputs = [call.outputs for each in self._taps for call in each.calls]
            if not losses.requires_grad:
                raise MisuseError("the loss does not depend on the parameters")
            deltas = iter(torch.autograd.grad(losses.sum(), outputs, allow_unused=True))
        found = [
            _joined(
                each,
                [
                    each.gradients(
                        call,
                        torch.zeros_like(call.outputs) if (delta := next(deltas)) is None else delta,
                        # The very columns of the patients, nothing computed from them: the same in every step.
                        fixed=call.inputs.untyped_storage().data_ptr() in given,
                    )
                    for call in each.calls
                ],
            )
            for each in self._taps
        ]
        for each in self._taps:
            each.calls.clear()
        return found


class OpacusEngine:
    """Every patient's gradient, formed by Opacus."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # "mean" would multiply each patient's gradient by the number of patients.
        self._twin = GradSampleModule(copy.deepcopy(model).float(), loss_reduction="sum", strict=True)

    def refresh(self) -> None:
        """Take over the present parameters."""
        with torch.no_grad():
            for ours, public in zip(self._twin.parameters(), self._model.parameters(), strict=True):
                ours.copy_(public)

    def invent(self, numbers: Numbers) -> None:
        """Put invented parameters in their place."""
        with torch.no_grad():
            _invent(list(self._twin.parameters()), numbers, "model")

    def fold(self) -> bool:
        """Not available."""
        return False

    def gradients(self, loss: Loss, tensors: Sequence[Tensor]) -> list[Outer | Rows]:
        """Run one forward and one backward pass over a block of rows."""
        try:
            # Opacus hooks backward passes of modules, and torch warns if no input of a module wants a gradient.
            wanting = [t.clone().requires_grad_() if t.is_floating_point() else t for t in tensors]
            with torch.enable_grad():
                _losses(loss, self._twin, wanting).sum().backward()  # type: ignore[no-untyped-call] # torch
            rows = []
            for name, parameter in self._twin.named_parameters():
                sample = getattr(parameter, "grad_sample", None)
                if not isinstance(sample, Tensor):
                    raise MisuseError(f"parameter {name} has no gradient per patient: use every layer once in the loss")
                rows.append(sample.flatten(1))
            return [Rows(torch.cat(rows, dim=1))]
        finally:
            for parameter in self._twin.parameters():
                parameter.grad = None
                parameter.grad_sample = None


def _invent(parameters: Sequence[Tensor], numbers: Numbers, label: str) -> None:
    """Fill with numbers of the size of usual weights, none of them zero: a zero would hide what it is multiplied by."""
    for place, parameter in enumerate(parameters):
        drawn = torch.from_numpy(numbers(parameter.numel(), f"{label}, parameter {place}")) * 2 - 1
        parameter.copy_(
            drawn.reshape(parameter.shape) * max(1, parameter.shape[-1] if parameter.ndim > 1 else 4) ** -0.5
        )


def require_own_gradients(model: nn.Module, loss: Loss, tensors: Sequence[Tensor], terms: list[Outer | Rows]) -> None:
    """Refuse a loss that reaches parameters on ways that the layers do not see.

    A weight used outside its layer, or a loss that differentiates inside itself (a gradient penalty), would be trained
    with a gradient that is bounded and not its own.

    Args:
        model: as `terms` were made at: its parameters, float64.
        loss: of one block.
        tensors: rows without a patient.
        terms: from an engine.

    Raises:
        MisuseError: the layers' gradients do not add up to the model's.
    """
    whole = copy.deepcopy(model).float()
    with torch.enable_grad():
        total = _losses(loss, whole, tensors).sum()
        slopes = torch.autograd.grad(total, list(whole.parameters()), allow_unused=True)
    pairs = zip(whole.parameters(), slopes, strict=True)
    plain = torch.cat([(torch.zeros_like(p) if slope is None else slope).reshape(-1) for p, slope in pairs])
    ours = torch.cat([_row(term).sum(0) for term in terms])
    scale = sum((_row(term).double().norm(dim=1).sum() for term in terms), torch.zeros((), dtype=torch.float64))
    if torch.isfinite(plain).all() and not (plain - ours).norm() <= 1e-3 * scale:
        raise MisuseError(
            "the gradients of the layers do not add up to that of the loss: a weight is used outside its layer, or the "
            "loss differentiates inside itself"
        )


def _losses(loss: Loss, model: nn.Module, tensors: Sequence[Tensor]) -> Tensor:
    losses = loss(model, *tensors)
    rows = tensors[0].shape[0]
    if losses.shape != (rows,):
        raise MisuseError(f"the loss returned {list(losses.shape)} for {rows} rows: expected one number per patient")
    return losses


def _joined(layer: Tap, calls: list[Outer | Rows]) -> Outer | Rows:
    """One term for a layer that was called several times, zeros for one that was not."""
    match calls:
        case []:
            raise MisuseError(f"layer {type(layer.layer).__name__} is not used by the loss")
        case [one]:
            return one
    return Rows(torch.stack([_row(each) for each in calls]).sum(0))


def _row(term: Outer | Rows) -> Tensor:
    if isinstance(term, Rows):
        return term.values
    weight = (term.delta[:, :, None] * term.a[:, None, :]).flatten(1)
    return torch.cat([weight, term.delta], dim=1) if term.bias else weight
