"""A Linear layer whose rows do not know each other, to the last bit.

The sensitivity proof needs patient i's gradient to be a function of patient i. BLAS breaks that in the last
bits: its kernels treat the last rows of a matrix differently, so taking one patient away moves others by
1e-16, and a clipped sum of rounded rows by more than the clip. Here every output is a product followed by
additions in a fixed folding order, element-wise over the patients: the same bits whoever else is in the
table. The memory, n × out × in numbers, is what per-patient gradients need anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample import register_grad_sampler
from opacus.grad_sample.linear import compute_linear_grad_sample
from torch import Tensor, nn


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
    """x [n, in], W [out, in] → x Wᵀ [n, out] with folded sums in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return fold(x[:, None, :] * weight[None])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grad_outputs
        x, weight = ctx.saved_tensors
        to_x = fold(grad[:, None, :] * weight.T[None]) if ctx.needs_input_grad[0] else None
        # The summed gradient of the weights is for training without privacy; Opacus takes its own.
        to_weight = grad.T @ x if ctx.needs_input_grad[1] else None
        return to_x, to_weight


class RowLinear(nn.Linear):
    """`nn.Linear` for matrices.

    Row i of the output and of the input's gradient depends on row i alone.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """[n, in] → [n, out]."""
        product: Tensor = _RowProduct.apply(input, self.weight)  # type: ignore[no-untyped-call]  # torch has no types here
        return product if self.bias is None else product + self.bias


# Opacus looks samplers up by exact type; the per-patient gradient of a linear map is the same outer product.
register_grad_sampler(RowLinear)(compute_linear_grad_sample)
