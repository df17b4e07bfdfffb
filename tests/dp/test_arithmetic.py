"""The compiled passes write what numpy writes, and what numpy writes is what `dp.grids` says."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.dp.networks import NETWORKS, Network
from dp import arithmetic
from dp.arithmetic import Arithmetic, Numpy, chosen, compiled
from dp.bookkeeping import ClippedGradients
from dp.queries import Float64

WAYS = [Numpy(), compiled()]
NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)
ROWS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=NUMBERS)


def outputs(values: np.ndarray) -> Float64:
    padded = -(-values.shape[1] // 8) * 8 if values.shape[1] > 1 else 1
    return np.zeros((len(values), padded))


def agree(one: Float64, other: Float64) -> None:
    """Sums in another order: they may differ in the last bits, and in nothing if they are infinite or no numbers."""
    assert np.array_equal(np.isfinite(one), np.isfinite(other))
    assert np.array_equal(np.isnan(one), np.isnan(other))
    assert np.allclose(one, other, rtol=1e-14, atol=0, equal_nan=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(values=ROWS, seed=st.integers(0, 99))
def test_the_compiled_passes_write_the_same_bits(values: np.ndarray, seed: int) -> None:
    factor = np.random.default_rng(seed).random(len(values)) * 2.0**24
    written = []
    sums = []
    for way in WAYS:
        inputs, scaled = outputs(values), outputs(values)
        found = [way.inputs(values, inputs), way.measure(values, scaled), way.scale(values, factor, scaled)]
        written.append((inputs, scaled))
        sums.append(found)
    for one, other in zip(*written, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    for one, other in zip(*sums, strict=True):
        agree(one, other)


@pytest.mark.parametrize("way", WAYS, ids=["numpy", "compiled"])
@given(values=hnp.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32)))
def test_inputs_are_rounded_to_the_nearest_step(way: Arithmetic, values: np.ndarray) -> None:
    out = outputs(values)
    squares = way.inputs(values, out)
    for row in range(3):
        exact = [round(Fraction(float(value)) * 2**20) for value in values[row]]  # half to even, as rint
        assert out[row, :5].tolist() == exact
        assert squares[row] == pytest.approx(float(sum(number * number for number in exact)))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_a_sum_is_the_same_whoever_computes_it(network: Network) -> None:
    tensors = network.inputs(300, torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    model = network.make().double()
    sums = [
        ClippedGradients(copy.deepcopy(model), network.loss, clip=1.0, block=128, arithmetic=way).sum(tensors)
        for way in WAYS
    ]
    # A clip factor may differ in its last bit: at most one step of the grid for each patient.
    assert np.abs(sums[0] - sums[1]).max() < 300 * 2.0**-23


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_patients_are_apart_and_bounded_in_compiled_code(network: Network) -> None:
    tensors = [3 * tensor for tensor in network.inputs(70, torch.Generator().manual_seed(6))]
    torch.manual_seed(6)
    kernel = ClippedGradients(network.make().double(), network.loss, clip=0.5, block=64, arithmetic=compiled())
    whole = kernel.sum(tensors)
    for patient in range(0, 70, 9):
        without = kernel.sum([torch.cat([tensor[:patient], tensor[patient + 1 :]]) for tensor in tensors])
        assert np.linalg.norm(whole - without) <= 0.5
    alone = sum(kernel.sum([tensor[patient : patient + 1] for tensor in tensors]) for patient in range(70))
    assert np.allclose(whole, alone, rtol=0, atol=1e-12)


def test_a_record_out_of_this_world_contributes_zero_in_compiled_code() -> None:
    network = NETWORKS[0]
    kernel = ClippedGradients(network.make().double(), network.loss, clip=1.0, block=64, arithmetic=compiled())
    tensors = [tensor.clone() for tensor in network.inputs(10, torch.Generator().manual_seed(7))]
    for strange in (float("nan"), float("inf"), float("-inf")):
        tensors[0][4] = strange
        kept = torch.arange(10) != 4
        assert np.array_equal(kernel.sum(tensors), kernel.sum([tensor[kept] for tensor in tensors]))


def test_compiling_has_to_be_worth_it() -> None:
    assert isinstance(chosen(60 * 400), Numpy)
    assert chosen(60 * 100_000) is compiled()


def test_without_numba_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic.util, "find_spec", lambda _: None)
    assert isinstance(chosen(1 << 40), Numpy)
