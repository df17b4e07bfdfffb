"""The clipped sum of gradients: against Opacus, exact arithmetic, and models that tie patients together."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from dp import bookkeeping
from dp.bookkeeping import CLIP_TARGET, ClippedGradients
from dp.errors import MisuseError
from dp.persample import OpacusEngine, TapEngine
from dp.queries import Float64


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def relu_net() -> nn.Module:
    torch.manual_seed(0)
    # A saturating layer would give a record out of this world an ordinary gradient, clipped like any other.
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)).double()


def cohort(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, 5)) * 3), torch.from_numpy(rng.standard_normal(n) * 3)


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x)[:, 0] - y) ** 2


class Sequence(nn.Module):
    """Every layer that has a tap: tokens and a signal of several positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4, padding_idx=1)
        self.word = nn.Embedding(3, 4)
        self.conv = nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=1)
        self.positions = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 1, bias=False)
        self.double()

    def forward(self, tokens: Tensor, word: Tensor, signal: Tensor) -> Tensor:
        hidden = self.table(tokens).mean(1) + self.word(word)
        hidden = hidden + torch.tanh(self.positions(self.conv(signal).mT)).mean(1)
        return self.out(torch.tanh(self.norm(hidden)))[:, 0]


def sequence_data(n: int) -> tuple[Tensor, ...]:
    chance = torch.Generator().manual_seed(3)
    return (
        torch.randint(0, 6, (n, 5), generator=chance),
        torch.randint(0, 3, (n,), generator=chance),
        torch.randn(n, 2, 9, generator=chance, dtype=torch.float64),
        torch.randn(n, generator=chance, dtype=torch.float64),
    )


def sequence_loss(model: nn.Module, tokens: Tensor, word: Tensor, signal: Tensor, y: Tensor) -> Tensor:
    return (model(tokens, word, signal) - y) ** 2


def opacus(model: nn.Module, loss: Callable[..., Tensor], data: tuple[Tensor, ...], clip: float) -> Float64:
    """The clipped sum by Opacus' hooks, in float64."""
    wrapped = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    oracle = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss(wrapped, *data).sum().backward()
    oracle.clip_and_accumulate()
    return np.concatenate([p.summed_grad.detach().numpy().ravel() for p in oracle.params])


def one_by_one(model: nn.Module, loss: Callable[..., Tensor], data: tuple[Tensor, ...], clip: float) -> Float64:
    """The clipped sum by one backward pass per patient, in float64."""
    total = np.zeros(sum(p.numel() for p in model.parameters()))
    for i in range(len(data[0])):
        alone = loss(model, *(column[i : i + 1] for column in data)).sum()
        row = torch.cat([g.reshape(-1) for g in torch.autograd.grad(alone, list(model.parameters()))]).numpy()
        total += row * min(1.0, clip * CLIP_TARGET / np.linalg.norm(row))
    return total


@pytest.mark.parametrize("clip", [0.1, 1.0, 30.0, 1e4])
def test_equal_to_opacus_hooks(clip: float) -> None:
    data = cohort(200)
    found = ClippedGradients(net(), squared, clip=clip, block=64).sum(data)

    assert found == pytest.approx(opacus(net(), squared, data, clip * CLIP_TARGET), abs=1e-5 * max(1.0, clip))


@pytest.mark.parametrize("clip", [0.5, 20.0])
def test_every_layer_with_a_tap_equals_one_backward_pass_per_patient(clip: float) -> None:
    torch.manual_seed(2)
    model, data = Sequence(), sequence_data(70)
    gradients = ClippedGradients(model, sequence_loss, clip=clip, block=64)
    assert isinstance(gradients._engine, TapEngine)

    assert gradients.sum(data) == pytest.approx(one_by_one(model, sequence_loss, data, clip), abs=1e-5 * clip)


def test_a_layer_without_a_tap_goes_through_opacus() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 1)).double()
    chance = torch.Generator().manual_seed(3)
    data = torch.randn(70, 1, 3, 3, generator=chance).double(), torch.randn(70, generator=chance).double()
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    assert isinstance(gradients._engine, OpacusEngine)

    assert gradients.sum(data) == pytest.approx(opacus(model, squared, data, CLIP_TARGET), abs=1e-5)


def test_a_layer_that_is_used_twice_counts_as_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.layer = nn.Linear(5, 5)
            self.out = nn.Linear(5, 1)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))

    model, data = Twice(), cohort(70)
    found = ClippedGradients(model, squared, clip=0.3, block=64).sum(data)

    assert found == pytest.approx(one_by_one(model, squared, data, 0.3), abs=1e-5)


def test_the_sum_follows_the_parameters() -> None:
    model, data = net(), cohort(20)
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    table = gradients.table(data)
    gradients.sum(table)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(-0.7)

    assert gradients.sum(table) == pytest.approx(opacus(model, squared, data, CLIP_TARGET), abs=1e-5)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_sum_is_exactly_the_sum_of_its_patients(data: st.DataObject) -> None:
    """Exact additivity is all of the sensitivity: what is left is that one patient alone stays below C."""
    n = data.draw(st.integers(1, 150))
    scale = data.draw(st.sampled_from([1e-3, 1.0, 50.0, 1e6]))
    x, y = cohort(n, seed=data.draw(st.integers(0, 1000)))
    x = x * scale
    clip = data.draw(st.sampled_from([0.01, 1.0, 7.0, 1e5]))
    place = data.draw(st.integers(0, n - 1))
    rest = torch.arange(n) != place
    gradients = ClippedGradients(net(), squared, clip=clip, block=64)
    gradients._proven.add((gradients.table((x, y)).kind, torch.get_num_threads()))  # shown elsewhere

    def units(rows: Tensor) -> list[int]:
        high, low = gradients._units(gradients.table((x[rows], y[rows])))
        return [int(upper) * 2**22 + int(lower) for upper, lower in zip(high, low, strict=True)]

    alone = units(torch.tensor([place]))
    assert [a - b for a, b in zip(units(torch.arange(n)), units(rest), strict=True)] == alone
    assert sum(u * u for u in alone) <= 4**44


@pytest.mark.parametrize("outputs", [1, 3, pytest.param(200, marks=pytest.mark.slow)])
def test_rounding_never_lengthens_a_patient(outputs: int) -> None:
    """Widths at which rounding to nearest alone would pass C: δ far below its grid in every coordinate."""
    torch.manual_seed(0)
    model = nn.Linear(300, outputs).double()
    x = torch.full((64, 300), 0.9) * torch.linspace(0.5, 1e5, 64)[:, None]

    def loss(network: nn.Module, rows: Tensor) -> Tensor:
        return 1e3 * network(rows).sum(1)

    gradients = ClippedGradients(model, loss, clip=1.0, block=64)
    for row in x[::9]:
        assert np.linalg.norm(gradients.sum((row[None],))) <= 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e200])
@pytest.mark.parametrize("place", [0, 1])
def test_a_record_out_of_this_world_contributes_exactly_zero(value: float, place: int) -> None:
    data = cohort(80)
    gradients = ClippedGradients(relu_net(), squared, clip=1.0, block=64)
    clean = gradients.sum(data)
    bad = [torch.cat([column[:10], column[:1], column[10:]]) for column in data]
    bad[place][10] = value
    table = gradients.table(bad)

    assert np.array_equal(gradients.sum(table), clean)
    assert np.array_equal(gradients.sum(table), clean)  # nothing is left of it in the arrays


def test_a_broken_record_leaves_the_kept_inputs_as_they_are() -> None:
    """A site may have a record that breaks at one step's weights and not at the next."""
    model, (x, y) = relu_net(), cohort(20)
    x[3] = 1e22
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    table = gradients.table((x, y))
    first = gradients.sum(table)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e-22)

    assert np.array_equal(gradients.sum(table), gradients.sum((x, y)))
    assert not np.array_equal(gradients.sum(table), first)


def test_an_empty_hospital() -> None:
    assert ClippedGradients(net(), squared, clip=1.0, block=64).sum(cohort(0)).tolist() == [0.0] * 57


def test_chosen_rows() -> None:
    x, y = cohort(150)
    gradients = ClippedGradients(net(), squared, clip=1.0, block=64)
    rows = np.array([3, 149, 70])

    assert np.array_equal(gradients.sum(gradients.table((x, y), rows)), gradients.sum((x[rows], y[rows])))
    with pytest.raises(MisuseError, match="not in the table"):
        gradients.table((x, y), np.array([150]))


def test_many_blocks_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The carry, at a size where 64 bits would not need it."""
    monkeypatch.setattr(bookkeeping, "_CARRY_PIECES", 1)
    x, y = cohort(1)
    gradients = ClippedGradients(net(), squared, clip=1e-3, block=64)
    one = gradients.sum((x, y))

    assert gradients.sum((x.expand(640, 5), y.expand(640))) == pytest.approx(640 * one, rel=1e-15)


def test_a_large_block_carries_inside_itself() -> None:
    """One patient 2¹⁹ + 2¹⁶ times: beyond 64 bits of units."""
    n, block = 2**19 + 2**16, 2**16
    model = nn.Linear(1, 1, bias=False).double()

    def up(network: nn.Module, x: Tensor) -> Tensor:
        return network(x)[:, 0]

    gradients = ClippedGradients(model, up, clip=1.0, block=block)
    gradients._proven.add((((torch.float32, (1,)),), torch.get_num_threads()))

    assert gradients.sum((torch.ones(n, 1),)) == pytest.approx([n], rel=1e-5)


def test_a_table_belongs_to_one_kernel() -> None:
    """What it keeps of a first layer's inputs holds for that layer alone."""
    data = cohort(10)
    one, other = (ClippedGradients(net(), squared, clip=1.0, block=64) for _ in range(2))
    with pytest.raises(MisuseError, match="another model"):
        other.sum(one.table(data))


def test_only_the_patients_own_columns_are_kept_from_step_to_step() -> None:
    """An input that has no history may still come from parameters."""

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 1)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.second(hidden.detach()) + hidden.sum(1, keepdim=True)

    model, data = Detached(), cohort(30)
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    table = gradients.table(data)
    gradients.sum(table)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3.0)

    assert np.array_equal(gradients.sum(table), gradients.sum(data))


def test_a_code_outside_the_dictionary_does_not_stop_anything() -> None:
    torch.manual_seed(2)
    tokens, *others = sequence_data(40)
    wild = tokens.clone()
    wild[3, 0], wild[5, 1] = 10**6, -1
    near = tokens.clone()
    near[3, 0], near[5, 1] = 5, 0
    gradients = ClippedGradients(Sequence(), sequence_loss, clip=1.0, block=64)

    assert np.array_equal(gradients.sum((wild, *others)), gradients.sum((near, *others)))


# --- losses and layers that tie patients together ----------------------------------------------------


def cox(model: nn.Module, x: Tensor, time: Tensor, event: Tensor) -> Tensor:
    risk = model(x)[:, 0]
    at_risk = time[None, :] >= time[:, None]
    log_sum = torch.logsumexp(torch.where(at_risk, risk[None, :], -torch.inf), dim=1)
    return torch.where(event, log_sum - risk, torch.zeros_like(risk))


def test_a_cox_partial_likelihood_that_pretends_is_found_out() -> None:
    """One term per row, each of which depends on everybody still at risk: Opacus trains it without a word."""
    x, time = cohort(100)
    with pytest.raises(MisuseError, match="not a sum over patients"):
        ClippedGradients(net(), cox, clip=1.0, block=64).sum((x, time.abs(), time > 0))


def centred(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return squared(model, x - x.mean(0), y)


def noisy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return squared(model, x + torch.randn_like(x), y)


def pairs(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x)[:, 0] - torch.roll(y, 1, 0)) ** 2


def ranked(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x)[:, 0] * torch.argsort(torch.argsort(y))


def spread(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Ties patients together as soon as the model says something: not at weights of zero."""
    risk = torch.nan_to_num(model(x)[:, 0])
    return squared(model, x, y) + 0.02 * (risk[:, None] - risk[None, :]).square().sum(1)


def ties(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Weighs a patient by how many others died on the same day."""
    return squared(model, x, y) * (y[:, None] == y[None, :]).sum(1)


def late(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Weighs by how many live longer than one unit of time."""
    return squared(model, x, y) * ((y > 1) & (y < 1e6)).sum()


@pytest.mark.parametrize("loss", [centred, noisy, pairs, ranked, spread, ties, late], ids=lambda loss: loss.__name__)
def test_whatever_ties_patients_together_is_found_out(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(MisuseError, match="not a sum over patients"):
        ClippedGradients(net(), loss, clip=1.0, block=64).sum(cohort(10))


def censored(model: nn.Module, x: Tensor, y: Tensor, event: Tensor) -> Tensor:
    return squared(model, x, y) * (~event).sum()


def strata(model: nn.Module, x: Tensor, y: Tensor, stratum: Tensor) -> Tensor:
    return squared(model, x, y) * (stratum == 7).sum()


@pytest.mark.parametrize(
    ("loss", "column"),
    [(censored, torch.ones(10, dtype=torch.bool)), (strata, torch.zeros(10, dtype=torch.int64))],
    ids=["truth values", "codes"],
)
def test_ties_by_a_column_that_is_no_number_are_found_out(loss: Callable[..., Tensor], column: Tensor) -> None:
    with pytest.raises(MisuseError, match="not a sum over patients"):
        ClippedGradients(net(), loss, clip=1.0, block=64).sum((*cohort(10), column))


def test_a_tie_shows_although_the_first_weights_are_zero() -> None:
    model = net()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    with pytest.raises(MisuseError, match="not a sum over patients"):
        ClippedGradients(model, spread, clip=1.0, block=64).sum(cohort(10))
    assert not any(p.any() for p in model.parameters())


def test_dropout_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    with pytest.raises(MisuseError, match="draws at random"):
        ClippedGradients(model, squared, clip=1.0, block=64).sum(cohort(10))


@pytest.mark.parametrize("zero", [False, True], ids=["drawn weights", "output layer of zeros"])
def test_a_matrix_library_whose_rows_differ_is_replaced(monkeypatch: pytest.MonkeyPatch, zero: bool) -> None:
    real, model = torch.nn.functional.linear, net()
    with torch.no_grad():
        if zero:
            model[2].weight.zero_()

    def uneven(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        out = real(x, weight, bias)
        return torch.cat([out[:-3], out[-3:] * (1 + 2.0**-22)])

    monkeypatch.setattr(torch.nn.functional, "linear", uneven)
    data = cohort(100)
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    found = gradients.sum(data)
    monkeypatch.undo()

    assert all(each.folded for each in gradients._engine._taps)
    assert found == pytest.approx(opacus(model, squared, data, CLIP_TARGET), abs=1e-5)


class _UnevenBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        out = grads[0] @ weight
        return torch.cat([out[:-3], out[-3:] * (1 + 2.0**-22)]), grads[0].T @ x


def test_a_backward_product_whose_rows_differ_shows_at_weights_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.zero_()

    def uneven(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        out = _UnevenBackward.apply(x, weight)
        return out if bias is None else out + bias

    monkeypatch.setattr(torch.nn.functional, "linear", uneven)
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    gradients.sum(cohort(10))

    assert all(each.folded for each in gradients._engine._taps)


@pytest.mark.parametrize("width", [1, 3, 33, 50, 65])
def test_rows_stay_apart_at_odd_widths(width: int) -> None:
    """Matrix libraries treat rows of odd widths by their alignment; padding must prevent that."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, 7), nn.Tanh(), nn.Linear(7, 1)).double()
    x, y = torch.randn(64, width), torch.randn(64)
    gradients = ClippedGradients(model, squared, clip=1.0, block=64)
    gradients.sum((x, y))

    assert not any(each.folded for each in gradients._engine._taps)


# --- refusals ------------------------------------------------------------------------------------------


def mean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return squared(model, x, y).mean()


def test_a_loss_that_is_not_one_number_per_patient_is_refused() -> None:
    with pytest.raises(MisuseError, match="one number per patient"):
        ClippedGradients(net(), mean, clip=1.0, block=64).sum(cohort(10))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(5), nn.Linear(5, 5).float()], ids=["batchnorm", "float32"])
def test_unsound_models_are_refused(layer: nn.Module) -> None:
    with pytest.raises(MisuseError):
        ClippedGradients(nn.Sequential(layer), squared, clip=1.0)


def test_a_standardising_buffer_is_refused() -> None:
    model = net()
    model.register_buffer("mean_of_the_patients", torch.zeros(5, dtype=torch.float64))
    with pytest.raises(MisuseError, match="buffers"):
        ClippedGradients(model, squared, clip=1.0)


def test_a_frozen_parameter_is_refused() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    with pytest.raises(MisuseError, match="frozen"):
        ClippedGradients(model, squared, clip=1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_the_clip_norm_is_checked(value: float) -> None:
    with pytest.raises(MisuseError, match="clip"):
        ClippedGradients(net(), squared, clip=value)


@pytest.mark.parametrize("block", [0, 63, 100, -64])
def test_the_block_is_checked(block: int) -> None:
    with pytest.raises(MisuseError, match="multiple of 64"):
        ClippedGradients(net(), squared, clip=1.0, block=block)


def test_tensors_of_different_lengths_are_refused() -> None:
    x, y = cohort(10)
    with pytest.raises(MisuseError, match="number of patients"):
        ClippedGradients(net(), squared, clip=1.0).sum((x, y[1:]))


def test_an_unused_layer_is_refused() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = net(), nn.Linear(2, 2).double()

        def forward(self, x: Tensor) -> Any:
            return self.used(x)

    with pytest.raises(MisuseError, match="not used"):
        ClippedGradients(Spare(), squared, clip=1.0, block=64).sum(cohort(10))
