r"""The clipped sum of per-patient gradients of a torch model: fast, and exact to the last bit.

    float32 forward and backward pass ─▶ per patient: factors of the gradient, norm, clip factor ─▶ grids ─▶ exact sum

One backward pass gives every layer's input a_i and output gradient δ_i; the norm of δ_i ⊗ a_i is ‖δ_i‖‖a_i‖, so that
no gradient of one patient is formed (`dp.taps`). `dp.grids` clips and rounds: patient i contributes d_i ⊗ (a_i, 1),
whole numbers in units of C·2⁻⁴⁴.

Guarantee. For tables that differ by one patient, in exact arithmetic, ‖Σ − Σ'‖₂ ≤ C, whatever the other patients are
and however many. Proof:

1. *Norm.* A patient's d_i are used if Σ_l ‖d_il‖²‖(a_il, 1)‖² ≤ 4⁴⁴(1 − 2⁻²⁶), computed from the very numbers that
   are summed; float64 errors of the norm are below 2⁻²⁸ for widths up to 2²⁴. Otherwise δ_i·s_i is rounded towards
   zero, which only shrinks: at most C(1 − 2⁻²³)(1 + 2⁻²⁷).
2. *Sum.* Products of 512 patients are added as float64. Every partial sum, in any order, fused or not, is a whole
   number of magnitude ≤ Σ_i |d_ij||a_ik| ≤ Σ_i ‖d_i‖‖a_i‖ < 512·2⁴⁴ = 2⁵³: exact. Blocks are added as 64-bit
   integers, with a carry, so that no number of patients overflows.
3. *Row.* d_i and a_i are functions of patient i alone: computed in blocks of a fixed number of rows, whatever the
   number of patients, by element-wise operations and matrix products. The flow of control of a matrix product
   depends on shapes and alignment, never on values, so row r of the result is a fixed arithmetic circuit of row r of
   the input and the constants. `_rows_apart` establishes, before the first patient, that the circuits of all rows
   are the same one: on invented rows the results agree bit for bit under permutations, and no row moves when all the
   others are replaced. Two different orders of addition would have to round alike in every one of thousands of
   trials. Many losses that tie patients together fail the same test; that a loss is a sum stays a premise.

| patient                                 | contribution                         |
|-----------------------------------------|--------------------------------------|
| gradient norm ≤ C(1 − 2⁻²³)             | the gradient                         |
| larger                                  | scaled to C(1 − 2⁻²³)                |
| NaN, ±inf, or a norm above 2⁶⁴·C        | exactly zero: no record, a fault     |

Sources: docs/explanation/exact-clipping.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dp.arithmetic import Arithmetic, Numpy
from dp.errors import MisuseError
from dp.grids import CLIP_TARGET, EXACT_ROWS, UNIT_BITS, Fixed, Grids
from dp.invented import Kind, numbers, rows
from dp.persample import Loss, engine, require_own_gradients
from dp.queries import MAX_LENGTH, Float64, Int64

__all__ = ["BLOCK", "CLIP_TARGET", "ClippedGradients", "Loss"]

BLOCK: Final = 512
"""Rows of one forward and backward pass. Public: it does not depend on the number of patients."""

_SPLIT: Final = 22
_CARRY_PIECES: Final = 64
_TRIALS: Final = 6


class Table:
    """Patients as one kernel wants them: float32, in padded blocks; made once for many steps.

    Args:
        kernel: whose blocks these are.
        tensors: what the loss gets after the model; first axis = patient, n ≥ 0. Floating point becomes float32.
        chosen: rows that take part, each at most once; all by default.

    Raises:
        MisuseError: tensors that disagree on the number of patients, or a row that is not there.
    """

    def __init__(
        self, kernel: ClippedGradients, tensors: Sequence[Tensor], chosen: NDArray[np.int64] | None = None
    ) -> None:
        self.kernel, block = kernel, kernel.block
        self.patients = _patients(tensors)
        rows = np.arange(self.patients) if chosen is None else np.unique(chosen)
        if len(rows) and not (rows[0] >= 0 and rows[-1] < self.patients):
            raise MisuseError("a chosen row is not in the table")
        self.kind = tuple((t.float().dtype if t.is_floating_point() else t.dtype, tuple(t.shape[1:])) for t in tensors)
        self.blocks = [
            _Block([_padded(tensor, rows[start : start + block], block) for tensor in tensors], len(rows) - start)
            for start in range(0, len(rows), block)
        ]


@dataclass(frozen=True)
class _Block:
    """Some patients, and what of them is the same in every step: first layers' inputs on their grid."""

    tensors: list[Tensor]
    patients: int
    fixed: Fixed = field(default_factory=dict)


class ClippedGradients:
    """Per-patient clipping for one model and one loss; see the module for the guarantee.

    Args:
        model: float64 parameters, no buffers. Layers other than those of `dp.taps` go through Opacus'
            `GradSampleModule`, which forms every patient's gradient.
        loss: one loss per patient.
        clip: C > 0, L2 bound of one patient's gradient.
        block: rows of one pass, a multiple of 64. A public constant.
        arithmetic: from `dp.arithmetic`, chosen by public constants; numpy's by default.

    Raises:
        MisuseError: the model is unsound under per-patient clipping.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        clip: float,
        block: int = BLOCK,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        if not (np.isfinite(clip) and 2.0**-100 < clip < 2.0**100):
            raise MisuseError("the clip norm must lie between 2^-100 and 2^100")
        if block < 64 or block % 64:
            raise MisuseError(f"a block of {block} rows: it is a positive multiple of 64")
        self.clip, self.block = float(clip), block
        self.parameters = tuple(model.parameters())
        self.length = sum(p.numel() for p in self.parameters)
        if not 1 <= self.length <= MAX_LENGTH:
            raise MisuseError(f"a model of {self.length} parameters is not in 1 … {MAX_LENGTH}")
        self._model, self._loss = model, loss
        self._engine = engine(model)
        self._arithmetic = arithmetic or Numpy()
        self._grids: Grids | None = None
        self._proven: set[tuple[Kind, int]] = set()

    def table(self, tensors: Sequence[Tensor], chosen: NDArray[np.int64] | None = None) -> Table:
        """Prepare patients for many calls of `sum`."""
        return Table(self, tensors, chosen)

    def sum(self, patients: Table | Sequence[Tensor]) -> Float64:
        """Return the clipped sum over the patients, float64[d], parameters in order, in the gradient's unit.

        Args:
            patients: from `table`, or the tensors themselves.

        Raises:
            MisuseError: see `Table`; a loss that is not one number per patient, or that ties patients together.
        """
        table = patients if isinstance(patients, Table) else self.table(patients)
        if table.kernel is not self:
            raise MisuseError("the table was made for another model or loss: what it keeps of first layers is not ours")
        high, low = self._units(table)
        return np.asarray(high * 2.0**_SPLIT + low, dtype=np.float64) * (self.clip * 2.0**-UNIT_BITS)

    def _units(self, table: Table) -> tuple[Int64, Int64]:
        """The sum in whole units of C·2⁻⁴⁴, as high·2²² + low."""
        self._engine.refresh()
        self._require_rows_apart(table.kind)
        high, low = np.zeros(self.length, np.int64), np.zeros(self.length, np.int64)
        pieces = 0
        for block in table.blocks:
            grids = self._rounded(block)
            last = min(block.patients, self.block)
            for first in range(0, last, EXACT_ROWS):
                low += grids.sum(first, min(first + EXACT_ROWS, last)).astype(np.int64)
                pieces += 1
                if pieces % _CARRY_PIECES == 0:  # of 2⁵³ at most each: long before 64 bits are full
                    high += low >> _SPLIT
                    low &= (1 << _SPLIT) - 1
        return high, low

    def _rounded(self, block: _Block) -> Grids:
        """One block of patients on its grids."""
        terms = self._engine.gradients(self._loss, block.tensors)
        if self._grids is None:
            self._grids = Grids(self.block, terms, self._arithmetic)
        self._grids.take(terms, block.fixed, self.clip)
        return self._grids

    def _require_rows_apart(self, kind: Kind) -> None:
        """Establish that a row's numbers depend on that row alone; step 3 of the proof."""
        shown = kind, torch.get_num_threads()
        if shown in self._proven:
            return
        while not self._rows_apart(kind):
            if not self._engine.fold():
                raise MisuseError(
                    "a patient's gradient changes with the other patients in the table, or with his place in it: the "
                    "loss is not a sum over patients, or a layer draws at random or mixes rows"
                )
        tame = [t if t.dtype == torch.bool else t.clamp(0, 1) for t in rows(kind, self.block, "tame", 0)]
        require_own_gradients(self._model, self._loss, tame, self._engine.gradients(self._loss, tame))
        self._proven.add(shown)

    def _rows_apart(self, kind: Kind) -> bool:
        try:
            for trial in range(_TRIALS):
                # Zeros in a parameter, as at the start of a training, would hide what is multiplied by them.
                self._engine.refresh() if trial == 0 else self._engine.invent(numbers)
                if not self._trial(kind, trial):
                    return False
        finally:
            self._engine.refresh()
        return True

    def _trial(self, kind: Kind, trial: int) -> bool:
        count = self.block
        table = rows(kind, count, f"rows {trial}", trial)
        order = numbers(count, f"order {trial}").argsort() if trial else np.roll(np.arange(count), 1)
        kept = numbers(count, f"kept {trial}") < 0.5
        mixed = [
            torch.where(torch.from_numpy(kept).reshape(-1, *(1,) * (old.ndim - 1)), old, new)
            for old, new in zip(table, rows(kind, count, f"others {trial}", trial), strict=True)
        ]
        if trial % 2:
            for tensor in mixed:
                if tensor.is_floating_point():
                    tensor[~torch.from_numpy(kept)] *= (float("nan"), 1e30, float("inf"))[trial // 2]
        expected = self._arrays(table)
        moved = self._arrays([tensor[torch.from_numpy(order)] for tensor in table])
        stayed = self._arrays(mixed)
        return all(
            np.array_equal(old[order], new) and np.array_equal(old[kept], other[kept])
            for old, new, other in zip(expected, moved, stayed, strict=True)
        )

    def _arrays(self, tensors: list[Tensor]) -> list[Float64]:
        return self._rounded(_Block(tensors, self.block)).rows()


def _patients(tensors: Sequence[Tensor]) -> int:
    if not tensors or any(tensor.ndim < 1 for tensor in tensors):
        raise MisuseError("the loss needs at least one tensor whose first axis is the patient")
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) != 1:
        raise MisuseError(f"the tensors disagree on the number of patients ({len(counts)} different numbers)")
    return counts.pop()


def _padded(tensor: Tensor, rows: NDArray[np.int64], block: int) -> Tensor:
    """The rows, and zeros up to a block; floating point as float32."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    out = torch.zeros((block, *tensor.shape[1:]), dtype=dtype)
    out[: len(rows)] = tensor[torch.from_numpy(rows)]
    return out
