"""Clipped sums and the sampler: what one patient can do to a sum, in exact arithmetic."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

WIDTH = 3


def net(seed: int = 0, hidden: int = 4) -> nn.Module:
    # A layer that does not saturate: a wild record has a wild gradient.
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, 2)).double()


def per_patient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    out = model(x)
    return (out[:, 0] - y) ** 2 + 1e-3 * out[:, 1]


def cox(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A partial likelihood that pretends to have one term per patient."""
    risk, time = model(x)[:, 0], y
    at_risk = time[None, :] >= time[:, None]
    return torch.logsumexp(torch.where(at_risk, risk[None, :], -torch.inf), dim=1) - risk


def centred(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Standardised by the table's own mean."""
    return per_patient(model, x - x.mean(0), y)


def below_the_largest(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Scaled by the table's own extremes: the same for every order of the rows, to the last bit."""
    return per_patient(model, x - x.amax(0), y)


def by_place(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A weight by the place in the table: who is in front moves everybody."""
    return per_patient(model, x, y) * (torch.arange(len(x)) % 2 * 2 - 1)


def table(rows: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    data = torch.tensor(rows, dtype=torch.float64).reshape(-1, WIDTH + 1)
    return data[:, :WIDTH], data[:, WIDTH]


def units(kernel: Any, rows: Sequence[Sequence[float]]) -> list[int]:
    """The sum of rows of `table`; see `whole`."""
    return whole(kernel, table(rows))


def whole(kernel: Any, tensors: Sequence[Tensor]) -> list[int]:
    """The sum in whole units of C·2⁻⁴⁴: no rounding at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        high, low = kernel._units(kernel.table(tensors))
    return [int(h) * 2**22 + int(w) for h, w in zip(high, low, strict=True)]


def square(vector: Sequence[int]) -> int:
    return sum(each * each for each in vector)


def hostile(seed: int = 0) -> list[list[float]]:
    chance = random.Random(seed)
    ordinary = [[chance.gauss(0, 1) for _ in range(WIDTH + 1)] for _ in range(6)]
    # Large inputs make the output gradient a small whole number, where rounding to nearest lengthens most.
    large = [[chance.gauss(0, 1) * size for _ in range(WIDTH)] + [chance.gauss(0, 1)] for size in (3e3, 1e5, 4e6) * 6]
    return [*ordinary, *large, [0.0] * 4, [1e3, -1e3, 1e3, -1e3], [1e-30] * 4]


BROKEN = [
    [math.nan, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, math.nan],
    [math.inf, 1.0, 1.0, 1.0],
    [-math.inf, math.inf, 0.0, 0.0],
    [1e30, 1e30, -1e30, 1e30],
    [0.0, 0.0, 0.0, 1e300],
]


def kernel(loss: Callable[..., Tensor] = per_patient, clip: float = 1.0, block: int = 64) -> Any:
    from dp.bookkeeping import ClippedGradients

    return ClippedGradients(net(), loss, clip=clip, block=block)


def no_patient_is_longer_than_the_clip_norm() -> None:
    """Alone, whatever the record, in whole units: ‖g‖² ≤ C² exactly; some come near."""
    longest = 0
    for seed in range(6):
        one = kernel(clip=(0.25, 1.0, 30.0)[seed % 3])
        for record in hostile(seed):
            length = square(units(one, [record]))
            assert length <= 2**88, record
            longest = max(longest, length)
    assert longest > 2**88 * 0.999


def a_sum_is_in_the_unit_of_the_gradient() -> None:
    """What leaves is the clipped gradient itself: never longer than C, and as long if the gradient was longer."""
    for clip in (0.25, 1.0, 30.0):
        one = kernel(clip=clip)
        for number, record in enumerate(hostile(1)):
            found = one.sum(table([record]))
            assert np.linalg.norm(found) <= clip * (1 + 2.0**-48)
            if number < 6:  # an ordinary record: the grids are fine beside its numbers
                model, (x, y) = net(), table([record])
                slopes = torch.autograd.grad(per_patient(model, x, y).sum(), list(model.parameters()))
                alone = np.concatenate([slope.numpy().ravel() for slope in slopes])
                factor = min(1.0, clip / float(np.linalg.norm(alone)))
                assert np.abs(found - factor * alone).max() <= 1e-4 * clip


def patients_of_layers_that_form_rows_are_bounded_too() -> None:
    """Layers whose gradient is no outer product: each patient's row is formed, and clipped and added exactly."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)).double()
    from dp.bookkeeping import ClippedGradients

    one = ClippedGradients(model, per_patient, clip=1.0, block=64)
    records = [*hostile(2)[:20], *BROKEN]
    parts = [units(one, [record]) for record in records]
    assert all(square(part) <= 2**88 for part in parts)
    assert max(map(square, parts)) > 2**88 * 0.999
    assert units(one, records) == [sum(column) for column in zip(*parts, strict=True)]


def the_sum_is_the_sum_of_its_patients() -> None:
    """Exactly, for many patients who add up and for halves that cancel: nobody's part depends on the others."""
    one = kernel(block=512)
    chance = random.Random(1)
    same = [[40.0 + chance.random(), -30.0, 20.0, 900.0 + chance.random()] for _ in range(12)]
    alone = {i: units(one, [record]) for i, record in enumerate(same)}
    chosen = [i % 12 for i in range(600)]
    total = [sum(column) for column in zip(*(alone[i] for i in chosen), strict=True)]

    assert units(one, [same[i] for i in chosen]) == total

    mixed = [*hostile(3), *BROKEN, *same]
    parts = [units(one, [record]) for record in mixed]
    assert units(one, mixed) == [sum(column) for column in zip(*parts, strict=True)]

    # More than 64 blocks of 64: what overflows the low words is carried once.
    small = kernel(block=64)
    alone = {i: units(small, [record]) for i, record in enumerate(same)}
    chosen = [i % 12 for i in range(4200)]
    total = [sum(column) for column in zip(*(alone[i] for i in chosen), strict=True)]
    assert units(small, [same[i] for i in chosen]) == total


def a_block_of_the_longest_patients_adds_up_exactly() -> None:
    """One weight, full clip norms, all bits used: 512 of them reach 2⁵³, 4,096 go beyond, and nothing is rounded."""
    from dp.bookkeeping import ClippedGradients

    model = nn.Sequential(nn.Linear(1, 1)).double()
    loss = lambda net, x: net(x)[:, 0] * 1e3  # noqa: E731 -- a loss like the others
    x = torch.from_numpy(np.random.default_rng(4).uniform(1.9, 2.0, (4096, 1)))

    small, large = (ClippedGradients(model, loss, clip=1.0, block=block) for block in (64, 4096))
    few = [whole(small, [x[i : i + 64]]) for i in range(0, 4096, 64)]  # 2⁵⁰ at most
    assert sum(part % 2 for part, _ in few) > 10
    assert whole(large, [x]) == [sum(column) for column in zip(*few, strict=True)]


def a_record_out_of_this_world_contributes_exactly_zero() -> None:
    one, ordinary = kernel(), hostile()[:6]
    expected = units(one, ordinary)
    for record in BROKEN:
        assert units(one, [*ordinary, record]) == expected, record
    found = one.sum(table([*ordinary, *BROKEN]))
    assert np.isfinite(found).all()


def a_loss_is_refused_or_one_patient_moves_the_sum_by_at_most_the_clip_norm() -> None:
    """Whatever the kernel accepts is bounded: a partial likelihood is found out, a mixed-up row too."""
    from dp.errors import MisuseError

    chance = random.Random(2)
    rows = [[chance.gauss(0, 1) for _ in range(WIDTH)] + [float(i)] for i in range(40)]
    for loss in (per_patient, cox, centred, below_the_largest, by_place):
        try:
            one = kernel(loss)
            for new in ([30.0, -30.0, 30.0, 1e3], [-500.0, 500.0, 0.0, 1e3]):
                without = units(one, rows)
                for with_him in (units(one, [*rows, new]), units(one, [new, *rows])):
                    moved = square([a - b for a, b in zip(with_him, without, strict=True)])
                    assert moved <= 2**88, loss
        except MisuseError:
            assert loss is not per_patient


def a_model_never_sees_how_many_patients_there_are() -> None:
    """Rows of one pass: the same for 0, 1, 63, 64, 65 and 300 patients."""
    shapes = set()

    def spy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        shapes.add((tuple(x.shape), tuple(y.shape)))
        return per_patient(model, x, y)

    one = kernel(spy)
    for count in (0, 1, 63, 64, 65, 300):
        one.sum(table([[0.1, 0.2, 0.3, 0.4]] * count))

    assert len(shapes) == 1


def the_update_does_not_know_the_number_of_patients() -> None:
    """Two hospitals that get the same noisy sum have the same parameters, however many patients they have."""
    from dp.bookkeeping import ClippedGradients
    from dp.optimizer import Momentum, PublicUpdate, SecureSumOptimizer
    from dp.queries import Account, Float64, Query

    ends = []
    for count in (0, 1, 64, 65):
        model = net()
        length = sum(p.numel() for p in model.parameters())
        query = Query("gradient", 0, length, 1.0, 8.0, Account.TRAINING, 100)

        def door(query: Query, contribution: Callable[[], Float64]) -> Float64:
            contribution()
            return np.linspace(-1, 1, query.length)

        SecureSumOptimizer(
            PublicUpdate(model.parameters(), Momentum(0.5)),
            ClippedGradients(model, per_patient, clip=1.0, block=64),
            table([[0.1, 0.2, 0.3, 0.4]] * count),
            normaliser=50.0,
            secure_sum=door,
            query=lambda _, query=query: query,  # type: ignore[misc]
        ).step()
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]).tolist())

    assert ends[1:] == ends[:-1]


def clipped_rows_hold_their_bound_exactly() -> None:
    """Random, cancelling, broken and borderline rows: in whole units one patient moves the sum by at most 2³²."""
    from dp.rows import clipped_units

    chance = np.random.default_rng(3)
    near = chance.standard_normal((30, 300))
    near *= 3.0 / np.linalg.norm(near, axis=1)[:, None] * (1 + chance.uniform(-1e-12, 1e-12, 30)[:, None])
    v = np.full((1, 300), 0.1)
    broken = np.full((5, 300), 0.5)
    broken[:, 7] = (math.nan, math.inf, -math.inf, 1e300, 1.7e308)
    others = np.concatenate([np.repeat(v, 1000, 0), np.repeat(-v, 1000, 0), chance.standard_normal((50, 300)) * 9])
    before = clipped_units([others], 3.0)
    for row in [*near, *broken, np.zeros(300), v[0] * 1e6]:
        alone = clipped_units([row[None]], 3.0)
        assert square(alone.tolist()) <= 2**64
        assert np.array_equal(clipped_units([np.concatenate([others, row[None]])], 3.0) - before, alone)
    for row in broken:
        assert not clipped_units([row[None]], 3.0).any()
    assert all(square(clipped_units([row[None]], 3.0).tolist()) > 2**64 * 0.999 for row in near)
    many = np.repeat(near[:10], 900, 0)  # more than are added up at once
    assert np.array_equal(clipped_units([many], 3.0), 900 * clipped_units([near[:10]], 3.0))


def a_patient_is_sampled_by_his_own_coin_and_never_too_often() -> None:
    """64 secret bits below ⌊q·2⁶⁴⌋: at the very edge, and whoever else is in the table."""
    from dp.sampling import Poisson

    for q in (0.1, 1 / 3, 0.7, 2.0**-39, 1 - 2.0**-53):
        edge = int(Fraction(q) * 2**64)
        coins = [0, edge - 1, edge, min(edge + 100, 2**64 - 1), 2**64 - 1, edge // 2]
        taken = [0, 1, 5]
        for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0], [1]):
            words = np.array([coins[i] for i in order], dtype="<u8").tobytes()
            drawn = Poisson(q, lambda n, words=words: words[:n]).draw(len(order))  # type: ignore[misc]
            assert [order[i] for i in drawn] == [i for i in order if i in taken], q


def an_upload_that_is_done_again_draws_again() -> None:
    """Two uploads with one sample would be one sample with half the noise."""
    from dp.bookkeeping import ClippedGradients
    from dp.optimizer import Momentum, PublicUpdate, SecureSumOptimizer
    from dp.queries import Account, Float64, Query
    from dp.sampling import Poisson

    model, sent = net(), []
    length = sum(p.numel() for p in model.parameters())
    query = Query("gradient", 0, length, 1.0, 8.0, Account.TRAINING, 100, sampling_probability=0.5)

    def door(_: Query, contribution: Callable[[], Float64]) -> Float64:
        sent.extend(contribution().tobytes() for _ in range(3))
        return np.zeros(length)

    chance = random.Random(5)
    rows = [[chance.gauss(0, 1) for _ in range(WIDTH + 1)] for _ in range(60)]
    SecureSumOptimizer(
        PublicUpdate(model.parameters(), Momentum(0.5)),
        ClippedGradients(model, per_patient, clip=1.0, block=64),
        table(rows),
        normaliser=50.0,
        secure_sum=door,
        query=lambda _: query,
        sampler=Poisson(0.5, random.Random(6).randbytes),
    ).step()

    assert len(set(sent)) == 3


def training_refuses_a_sampler_that_is_not_charged_for() -> None:
    """The probability in the query, which the ledger charges, is the one that is drawn with."""
    from dp.bookkeeping import ClippedGradients
    from dp.errors import MisuseError
    from dp.optimizer import Momentum, PublicUpdate, SecureSumOptimizer
    from dp.queries import Account, Query
    from dp.sampling import Poisson

    model = copy.deepcopy(net())
    length = sum(p.numel() for p in model.parameters())
    query = Query("gradient", 0, length, 1.0, 8.0, Account.TRAINING, 100, sampling_probability=0.1)
    optimizer = SecureSumOptimizer(
        PublicUpdate(model.parameters(), Momentum(0.5)),
        ClippedGradients(model, per_patient, clip=1.0, block=64),
        table([[0.1, 0.2, 0.3, 0.4]] * 4),
        normaliser=50.0,
        secure_sum=lambda query, contribution: contribution(),
        query=lambda _: query,
        sampler=Poisson(0.5, random.Random(6).randbytes),
    )

    with pytest.raises(MisuseError):
        optimizer.step()


CHECKS = (
    no_patient_is_longer_than_the_clip_norm,
    a_sum_is_in_the_unit_of_the_gradient,
    patients_of_layers_that_form_rows_are_bounded_too,
    the_sum_is_the_sum_of_its_patients,
    a_block_of_the_longest_patients_adds_up_exactly,
    a_record_out_of_this_world_contributes_exactly_zero,
    a_loss_is_refused_or_one_patient_moves_the_sum_by_at_most_the_clip_norm,
    a_model_never_sees_how_many_patients_there_are,
    the_update_does_not_know_the_number_of_patients,
    clipped_rows_hold_their_bound_exactly,
    a_patient_is_sampled_by_his_own_coin_and_never_too_often,
    an_upload_that_is_done_again_draws_again,
    training_refuses_a_sampler_that_is_not_charged_for,
)
