"""A matrix product whose rows do not know each other, whatever BLAS the machine has.

The sensitivity proof needs patient i's gradient to be a function of patient i, to the last bit. A BLAS may break that:
it may treat the last rows of a matrix, or rows at another alignment, by other instructions, so that taking one patient
away moves others by 1e-16 and the clipped, rounded sum by more than the clip norm. Here every output is a product
followed by additions in a fixed folding order, element-wise over the patients: the same bits whoever else is there.
Memory n × out × in: the fallback of `dp.bookkeeping`, for machines whose BLAS does not pass its test.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def fold(terms: Tensor) -> Tensor:
    """Sum over the last axis by adding halves: [..., m] → [...]; m ≥ 1."""
    width = terms.shape[-1]
    while width > 1:
        half = width // 2
        upper = terms[..., width - half : width]
        terms = torch.cat([terms[..., :half] + upper, terms[..., half : width - half]], dim=-1)
        width -= half
    return terms[..., 0]


class _RowProduct(torch.autograd.Function):
    """x [n, in], W [out, in] → x Wᵀ [n, out] with folded sums in both directions; W is a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return fold(x[..., None, :] * weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None]:
        (grad,) = grad_outputs
        (weight,) = ctx.saved_tensors
        return (fold(grad[..., None, :] * weight.mT) if ctx.needs_input_grad[0] else None), None


def row_product(x: Tensor, weight: Tensor) -> Tensor:
    """[..., in], [out, in] → [..., out]; row i of the output and of the input's gradient depends on row i alone."""
    product: Tensor = _RowProduct.apply(x, weight)  # type: ignore[no-untyped-call]  # torch has no types here
    return product
