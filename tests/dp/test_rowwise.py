"""The product whose rows do not know each other."""

import numpy as np
import pytest
import torch

from dp.rowwise import fold, row_product


@pytest.mark.parametrize(("inner", "outer"), [(1, 6), (8, 1), (7, 5)])
@pytest.mark.parametrize("shape", [(9,), (4, 3)])
def test_it_is_the_matrix_product_in_both_directions(shape: tuple[int, ...], inner: int, outer: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(*shape, inner, dtype=torch.float64, requires_grad=True)
    weight, seed = torch.randn(outer, inner, dtype=torch.float64), torch.randn(*shape, outer, dtype=torch.float64)
    ours, theirs = row_product(x, weight), x @ weight.T

    assert torch.allclose(ours, theirs, atol=1e-14)
    mine, yours = (torch.autograd.grad((out * seed).sum(), x)[0] for out in (ours, theirs))
    assert torch.allclose(mine, yours, atol=1e-14)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 65])
def test_folding_adds_every_number_once(width: int) -> None:
    assert fold(torch.arange(1.0, width + 1)).item() == width * (width + 1) / 2


def test_rows_have_the_same_bits_whoever_else_is_there() -> None:
    x, weight = torch.randn(101, 33), torch.randn(7, 33)
    whole = row_product(x, weight).numpy()

    for rest in (slice(1, None), slice(0, 100), slice(7, 50)):
        assert np.array_equal(row_product(x[rest], weight).numpy(), whole[rest])
