"""What a differentially private step costs: figures 4.1 to 4.4.

Candidates take turns on one core with one thread; the table gives the ratio of medians and, in the name, the 10th and
90th percentile of the ratios of turns that followed each other. A step is a forward and backward pass and an update by
Adam. Plain: float32, autograd, `torch.optim.Adam`. Ours: `dp.bookkeeping` and the public update that every host
computes alike, both float64 where sums are taken; the batch is the same in every step, as it is in a study, and is put
on its grid once (a row of its own shows a new batch every time). Numbers are rounded by compiled code, as in a study
of this size with the extra `fast`; a row of its own shows numpy. Opacus 1.6: its own wrapper, loss and `DPOptimizer`
around `torch.optim.Adam`, noise multiplier 0, so that no noise is timed on either side.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.dp.networks import NETWORKS, Network
from benchmarks.report import Row
from dp import noise_shares
from dp.arithmetic import Arithmetic, compiled
from dp.bookkeeping import CLIP_TARGET, ClippedGradients
from dp.optimizer import Adam, PublicUpdate
from dp.queries import Account, Float64, Query
from secagg.masks import Keystream

__all__ = ["SEED", "exact_sum", "opacus_sum", "our_sum", "rows"]

SEED: Final = 20260204
_CLIP: Final = 1.0
_RATE: Final = 1e-3
_BATCHES: Final = (256, 1024)
_SITES, _HONEST, _MULTIPLIER = 6, 5, 17.3  # a lattice as in a study of six hospitals


def rows(*, quick: bool = False) -> list[Row]:
    """Measure every figure of a step."""
    found: list[Row] = []
    for number, network in enumerate(NETWORKS):
        for size in _BATCHES:
            turns = (20 if quick else 200) * 256 // size + 10
            found += _timed(network, size, turns, number)
    return [*found, *_agreement()]


def _timed(network: Network, size: int, turns: int, place: int) -> Iterator[Row]:
    tensors = network.inputs(size, torch.Generator().manual_seed(SEED))
    torch.manual_seed(SEED)  # initial weights
    model = network.make()
    candidates: dict[str, Callable[[], object]] = {
        "plain": _plain(network, copy.deepcopy(model), tensors),
        "private": _private(network, model, tensors, how=compiled()),
        "numpy": _private(network, model, tensors),
        "fresh": _private(network, model, tensors, fresh=True, how=compiled()),
        "with noise": _private(network, model, tensors, noise=True, how=compiled()),
        "hooks": _hooks(network, copy.deepcopy(model), tensors),
        "ghost": _ghost(network, copy.deepcopy(model), tensors),
    }
    taken = timing.interleaved(candidates, turns)
    letter = "abcd"[2 * place + _BATCHES.index(size)]
    yield _ratio(f"4.1{letter}", f"DP step ÷ plain step, {network.name}, B = {size}", taken, "private", 1.25)
    if size == 256:
        bar = (1.5, 1.3)[place]
        yield _ratio(
            f"4.2{'ab'[place]}", f"DP step with exact noise ÷ plain, {network.name}, B = 256", taken, "with noise", bar
        )
    else:
        hooks, ghost = ((8.0, 2.0), (4.5, 1.7))[place]
        for which, bar, mark in (("hooks", hooks, "ac"[place]), ("ghost", ghost, "bd"[place])):
            name = f"speed of a step against Opacus {which}, {network.name}, B = 1024"
            yield _ratio(f"4.3{mark}", name, taken, which, bar, over="private", better="higher")
    fresh = timing.median(taken["fresh"]) / timing.median(taken["plain"])
    yield Row("4.1", f"DP step whose batch is new every time ÷ plain, {network.name}, B = {size}", fresh, "times")
    uncompiled = timing.median(taken["numpy"]) / timing.median(taken["plain"])
    yield Row("4.1", f"DP step without numba ÷ plain, {network.name}, B = {size}", uncompiled, "times")
    yield Row("4.1", f"plain step, {network.name}, B = {size}", 1e3 * timing.median(taken["plain"]), "CPU ms")


def _ratio(
    figure: str,
    name: str,
    taken: dict[str, list[float]],
    which: str,
    bar: float,
    over: str = "plain",
    better: Any = "lower",
) -> Row:
    low, high = np.percentile(np.array(taken[which]) / np.array(taken[over]), [10, 90])
    value = timing.median(taken[which]) / timing.median(taken[over])
    return Row(figure, f"{name} (turns {low:.2f} … {high:.2f})", value, "times", bar, better)


def _plain(network: Network, model: nn.Module, tensors: Sequence[Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)

    def step() -> None:
        optimizer.zero_grad()
        network.loss(model, *tensors).mean().backward()
        optimizer.step()

    return step


def _private(
    network: Network,
    template: nn.Module,
    tensors: Sequence[Tensor],
    *,
    noise: bool = False,
    fresh: bool = False,
    how: Arithmetic | None = None,
) -> Callable[[], None]:
    model = copy.deepcopy(template).double()
    kernel = ClippedGradients(model, network.loss, clip=_CLIP, block=len(tensors[0]), arithmetic=how)
    table = kernel.table(tensors)
    parameters = list(model.parameters())
    update = PublicUpdate(parameters, Adam(_RATE))
    length = sum(p.numel() for p in parameters)
    door = _Door(length) if noise else None

    def step() -> None:
        total = kernel.sum(tensors if fresh else table)
        if door is not None:
            total = door(total)
        total /= len(tensors[0])
        start = 0
        for p in parameters:
            p.grad = torch.from_numpy(total[start : start + p.numel()]).view(p.shape)
            start += p.numel()
        update.step()

    return step


class _Door:
    """What a site does to a clipped sum before masks, and to the sum of all sites after them."""

    def __init__(self, length: int) -> None:
        self._query = Query("gradient", 0, length, _CLIP, _MULTIPLIER, Account.TRAINING, 4096)
        self._lattice = noise_shares.lattice(self._query, _SITES, honest=_HONEST)
        self._stream = Keystream(hashlib.sha256(b"benchmarks/dp/steps").digest())

    def __call__(self, total: Float64) -> Float64:
        whole = noise_shares.encode(total, self._query, self._lattice)
        whole += noise_shares.draw(self._stream, self._query.length)
        return noise_shares.decode(whole, self._query, self._lattice)


def _hooks(network: Network, model: nn.Module, tensors: Sequence[Tensor]) -> Callable[[], None]:
    sampled = GradSampleModule(model)
    optimizer = DPOptimizer(
        torch.optim.Adam(sampled.parameters(), lr=_RATE),
        noise_multiplier=0.0,
        max_grad_norm=_CLIP,
        expected_batch_size=len(tensors[0]),
    )

    def step() -> None:
        optimizer.zero_grad()
        network.loss(sampled, *tensors).mean().backward()
        optimizer.step()

    return step


def _ghost(network: Network, model: nn.Module, tensors: Sequence[Tensor]) -> Callable[[], None]:
    sampled = GradSampleModuleFastGradientClipping(model, max_grad_norm=_CLIP, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.Adam(sampled.parameters(), lr=_RATE),
        noise_multiplier=0.0,
        max_grad_norm=_CLIP,
        expected_batch_size=len(tensors[0]),
    )
    criterion = DPLossFastGradientClipping(sampled, optimizer, _PerPatient())

    def step() -> None:
        optimizer.zero_grad()
        criterion(network.loss(sampled, *tensors), torch.empty(0)).backward()
        optimizer.step()

    return step


class _PerPatient:
    """A criterion as Opacus' ghost clipping wants it, for losses that are computed already."""

    reduction = "mean"

    def __call__(self, losses: Tensor, _: Tensor) -> Tensor:
        return losses if self.reduction == "none" else losses.mean()


def _agreement() -> Iterator[Row]:
    for place, network in enumerate(NETWORKS):
        tensors = network.inputs(1024, torch.Generator().manual_seed(SEED + 1))
        torch.manual_seed(SEED + 1)
        model = network.make()
        ours, theirs = our_sum(network, model, tensors), opacus_sum(network, model, tensors)
        letter, where = "ab"[place], f"{network.name}, B = 1024"
        name = f"clipped sum against Opacus hooks, largest difference, {where}"
        yield Row(f"4.4{letter}", name, _apart(ours, theirs), "C", 1e-5, "lower")
        # Where it comes from: Opacus adds 1e-6 to every norm and works in float32, we clip to a little less than C.
        wide = opacus_sum(network, copy.deepcopy(model).double(), [tensor.double() for tensor in tensors])
        yield Row(f"4.4{letter}", f"Opacus in float32 against itself in float64, {where}", _apart(theirs, wide), "C")
        exact = exact_sum(network, model, tensors, 1.0)
        yield Row(f"4.4{letter}", f"Opacus in float64 against clipping at C exactly, {where}", _apart(wide, exact), "C")
        target = exact_sum(network, model, tensors, CLIP_TARGET)
        what = f"ours against clipping at C(1 less {1 - CLIP_TARGET:.1e}) exactly, {where}"
        yield Row(f"4.4{letter}", what, _apart(ours, target), "C")


def _apart(one: Float64, other: Float64) -> float:
    return float(np.max(np.abs(one - other)))


def exact_sum(network: Network, model: nn.Module, tensors: Sequence[Tensor], clip: float) -> Float64:
    """Return the sum of float64 per-patient gradients, each formed and clipped to `clip`."""
    sampled = GradSampleModule(copy.deepcopy(model).double(), loss_reduction="sum")
    network.loss(sampled, *(tensor.double() for tensor in tensors)).sum().backward()
    rows = np.concatenate([p.grad_sample.flatten(1).numpy() for p in sampled.parameters()], axis=1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray((rows * np.minimum(1.0, clip / norms)).sum(axis=0))


def our_sum(network: Network, model: nn.Module, tensors: Sequence[Tensor], clip: float = _CLIP) -> Float64:
    """Return the kernel's clipped sum, in units of the clip norm."""
    exact = copy.deepcopy(model).double()
    return ClippedGradients(exact, network.loss, clip=clip).sum(tensors) / clip


def opacus_sum(network: Network, model: nn.Module, tensors: Sequence[Tensor], clip: float = _CLIP) -> Float64:
    """Return the clipped sum of Opacus' hooks in float32, in units of the clip norm."""
    sampled = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    network.loss(sampled, *tensors).sum().backward()
    optimizer = DPOptimizer(
        torch.optim.SGD(sampled.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    optimizer.clip_and_accumulate()
    parts = [p.summed_grad.detach().double().flatten().numpy() for p in optimizer.params]
    return np.concatenate(parts) / clip
