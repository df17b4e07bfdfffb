"""The optimizer against Opacus, against its own promises, and against the traps."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

from dp.bookkeeping import ClippedGradients
from dp.central import CentralSum, UnprotectedSum
from dp.errors import MisuseError, UploadsExhausted
from dp.optimizer import Adam, Momentum, PublicUpdate, SecureSumOptimizer
from dp.queries import Float64, Query, SecureSum
from dp.sampling import FULL_BATCH, Poisson

from .conftest import MakeQuery
from .test_bookkeeping import cohort, net, squared

CLIP = 2.0
LENGTH = 57


class Recorder:
    """A secure sum that remembers; optionally tries the contribution several times first."""

    def __init__(self, attempts: int = 1, uploads: int = 10**6, replay: dict[int, Float64] | None = None) -> None:
        self.attempts, self.uploads, self.replay = attempts, uploads, replay or {}
        self.queries, self.sent = [], []

    def __call__(self, query: MakeQuery, contribution: Callable[[], Float64]) -> Float64:
        self.queries.append(query)
        if query.index in self.replay:
            return self.replay[query.index]
        if len(self.sent) >= self.uploads:
            raise UploadsExhausted("over")
        for _ in range(self.attempts):
            self.sent.append(contribution())
        return self.sent[-1]


def build(
    query: MakeQuery,
    secure_sum: SecureSum,
    patients: tuple[torch.Tensor, torch.Tensor],
    *,
    rule: Momentum | Adam = None,
    normaliser: float = 100.0,
    sampler: Any = FULL_BATCH,
    calls: list[int] | None = None,
    **changes: Any,
) -> tuple[torch.nn.Module, SecureSumOptimizer]:
    model = net()
    fields = {"sensitivity": CLIP, "length": LENGTH} | changes

    def loss(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if calls is not None:
            calls.append(1)
        return squared(network, x, y)

    optimizer = SecureSumOptimizer(
        PublicUpdate(model.parameters(), rule or Momentum(0.1)),
        ClippedGradients(model, loss, clip=CLIP, block=64),
        patients,
        normaliser=normaliser,
        secure_sum=secure_sum,
        query=lambda index: query(index=index, **fields),
        sampler=sampler,
    )
    return model, optimizer


def flat(model: torch.nn.Module) -> Float64:
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def test_one_step_is_clip_sum_divide_update(query: MakeQuery) -> None:
    door = Recorder()
    model, optimizer = build(query, door, cohort(50), rule=Momentum(0.5, decay=0.0), normaliser=40.0)
    before = flat(model)
    optimizer.step()

    assert np.array_equal(flat(model), before - 0.5 * (door.sent[0] / 40.0))
    assert [q.index for q in door.queries] == [0]
    assert optimizer.steps_done == 1


def test_training_equals_opacus_without_noise(query: MakeQuery) -> None:
    x, y = cohort(80)
    theirs = GradSampleModule(net(), loss_reduction="sum")
    oracle = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=0.01),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    model, optimizer = build(query, UnprotectedSum(), (x, y), rule=Momentum(0.01, decay=0.0), normaliser=1.0)
    for _ in range(20):
        oracle.zero_grad()
        squared(theirs, x, y).sum().backward()
        oracle.step()
        optimizer.step()

    assert flat(model) == pytest.approx(flat(theirs), rel=1e-4, abs=1e-5)


def test_a_replayed_step_never_looks_at_patients(query: MakeQuery) -> None:
    calls = []
    recorded = Recorder()
    first, optimizer = build(query, recorded, cohort(30))
    for _ in range(3):
        optimizer.step()
    again, optimizer = build(query, Recorder(replay=dict(enumerate(recorded.sent))), cohort(30), calls=calls)
    for _ in range(3):
        optimizer.step()

    assert calls == []
    assert np.array_equal(flat(first), flat(again))


def test_an_aborted_round_asks_again_and_gets_the_same(query: MakeQuery) -> None:
    door = Recorder(attempts=3)
    _, optimizer = build(query, door, cohort(30))
    optimizer.step()

    assert np.array_equal(door.sent[0], door.sent[2])


def test_nothing_of_a_patient_stays_on_the_parameters(query: MakeQuery) -> None:
    def door(q: Query, contribution: Callable[[], Float64]) -> Float64:
        contribution()
        for p in model.parameters():
            assert p.grad is None
            assert p.summed_grad is None
        return np.zeros(LENGTH)

    model, optimizer = build(query, door, cohort(30))
    optimizer.step()

    assert all(not p.grad.any() for p in model.parameters())


def test_the_end_of_the_uploads_leaves_the_last_step(query: MakeQuery) -> None:
    model, optimizer = build(query, Recorder(uploads=2), cohort(30))
    optimizer.step()
    optimizer.step()
    before = flat(model)
    with pytest.raises(UploadsExhausted):
        optimizer.step()

    assert np.array_equal(flat(model), before)
    assert optimizer.steps_done == 2


def test_the_normaliser_does_not_know_the_number_of_patients(query: MakeQuery) -> None:
    """opacus#571, #819: N = 64 and N = 65 must not be told apart by the scale of a released step."""
    changes = []
    for n in (64, 65):
        x, y = (part[:n] for part in cohort(65))
        x[64:] = float("nan")  # the 65th contributes nothing
        model, optimizer = build(query, Recorder(), (x.clone(), y), normaliser=64.0)
        optimizer.step()
        changes.append(flat(model))

    assert np.array_equal(*changes)


def test_noise_comes_from_the_door_alone(query: MakeQuery) -> None:
    """Two runs under the same door stream agree whatever torch's global generator does."""
    results = []
    for seed in (1, 2):
        model, optimizer = build(query, CentralSum(random.Random(7).randbytes, 4, 1), cohort(30))
        torch.manual_seed(seed)
        optimizer.step()
        results.append(flat(model))

    assert np.array_equal(*results)


def test_sensitivity_of_a_whole_step(query: MakeQuery) -> None:
    x, y = cohort(40)
    doors = []
    for keep in (slice(None), slice(1, None)):
        door = Recorder()
        _, optimizer = build(query, door, (x[keep] * 50, y[keep]))
        optimizer.step()
        doors.append(door.sent[0])

    assert np.linalg.norm(doors[0] - doors[1]) <= CLIP


def test_an_empty_hospital_takes_part_with_zeros(query: MakeQuery) -> None:
    door = Recorder()
    _, optimizer = build(query, door, cohort(0))
    optimizer.step()

    assert not door.sent[0].any()


def test_parameters_of_another_model_are_refused(query: MakeQuery) -> None:
    gradients = ClippedGradients(net(), squared, clip=CLIP, block=64)
    with pytest.raises(MisuseError, match="not those whose gradients"):
        SecureSumOptimizer(
            PublicUpdate(net().parameters(), Momentum(0.1)),
            gradients,
            cohort(3),
            normaliser=1.0,
            secure_sum=Recorder(),
            query=query,
        )


def test_a_poisson_step_samples_anew_for_every_upload(query: MakeQuery) -> None:
    door = Recorder(attempts=4)
    sampler = Poisson(0.5, random.Random(5).randbytes)
    _, optimizer = build(query, door, cohort(200), sampler=sampler, sampling_probability=0.5)
    optimizer.step()

    assert len({sent.tobytes() for sent in door.sent}) == 4


def test_an_empty_sample_is_an_upload_of_zeros(query: MakeQuery) -> None:
    door = Recorder()
    _, optimizer = build(
        query, door, cohort(3), sampler=Poisson(2.0**-30, random.Random(5).randbytes), sampling_probability=2.0**-30
    )
    optimizer.step()

    assert not door.sent[0].any()
    assert optimizer.steps_done == 1


def test_a_sampler_that_is_not_charged_for_is_refused(query: MakeQuery) -> None:
    door = Recorder()
    _, optimizer = build(query, door, cohort(3), sampler=Poisson(0.5, random.Random(5).randbytes))
    with pytest.raises(MisuseError, match="sampling probability 1"):
        optimizer.step()
    assert door.sent == []


@pytest.mark.parametrize("changes", [{"length": 56}, {"sensitivity": 1.0}])
def test_a_query_that_does_not_fit_the_model_is_refused(query: MakeQuery, changes: dict[str, Any]) -> None:
    door = Recorder()
    _, optimizer = build(query, door, cohort(30), **changes)
    with pytest.raises(MisuseError, match="for a model of"):
        optimizer.step()
    assert door.sent == []


@pytest.mark.parametrize("total", [np.zeros(3), np.full(LENGTH, np.nan), np.zeros(LENGTH, dtype=np.float32)])
def test_a_door_that_returns_garbage_is_refused(query: MakeQuery, total: Float64) -> None:
    _, optimizer = build(query, lambda q, c: total, cohort(5))
    with pytest.raises(MisuseError, match="secure sum"):
        optimizer.step()


def test_opacus_ways_around_the_door_are_closed(query: MakeQuery) -> None:
    _, optimizer = build(query, Recorder(), cohort(5))
    for call in (lambda: optimizer.step(lambda: 1.0), optimizer.pre_step, optimizer.signal_skip_step):
        with pytest.raises(MisuseError):
            call()


def test_a_kept_contribution_is_dead(query: MakeQuery) -> None:
    kept = []

    def door(q: Query, contribution: Callable[[], Float64]) -> Float64:
        kept.append(contribution)
        return contribution()

    _, optimizer = build(query, door, cohort(10))
    optimizer.step()
    with pytest.raises(MisuseError, match="beyond its step"):
        kept[0]()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_constants_are_checked(query: MakeQuery, value: float) -> None:
    with pytest.raises(MisuseError, match="normaliser"):
        build(query, Recorder(), cohort(3), normaliser=value)


# --- the public update -----------------------------------------------------------------------------


def parameters(seed: int = 0) -> list[torch.nn.Parameter]:
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.from_numpy(rng.standard_normal(shape))) for shape in ((3, 4), (4,))]


@pytest.mark.parametrize(
    ("rule", "oracle"),
    [
        (Momentum(0.05), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (Momentum(0.05, decay=0.0), lambda p: torch.optim.SGD(p, lr=0.05)),
        (Adam(0.03), lambda p: torch.optim.Adam(p, lr=0.03)),
        (Adam(0.03, 0.8, 0.95, 1e-6), lambda p: torch.optim.Adam(p, lr=0.03, betas=(0.8, 0.95), eps=1e-6)),
    ],
)
def test_public_update_is_the_textbook_rule(rule: Momentum | Adam, oracle: Any) -> None:
    ours, theirs = parameters(), parameters()
    update, reference = PublicUpdate(ours, rule), oracle(theirs)
    rng = np.random.default_rng(9)
    for _ in range(50):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.from_numpy(rng.standard_normal(a.shape))
            b.grad = a.grad.clone()
        update.step()
        reference.step()

    for a, b in zip(ours, theirs, strict=True):
        assert a.detach().numpy() == pytest.approx(b.detach().numpy(), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("rule", [Momentum(0.05), Adam(0.03)])
def test_public_update_is_one_ieee_operation_at_a_time(rule: Momentum | Adam) -> None:
    """Against the same rule in Python floats: equal to the last bit, so on every IEEE-754 host."""
    ours = [torch.nn.Parameter(torch.from_numpy(np.random.default_rng(1).standard_normal(101)))]
    theta = ours[0].detach().tolist()
    m, s = [0.0] * 101, [0.0] * 101
    power1 = power2 = 1.0
    rng = np.random.default_rng(2)
    update = PublicUpdate(ours, rule)
    for _ in range(7):
        gradient = rng.standard_normal(101)
        ours[0].grad = torch.from_numpy(gradient)
        update.step()
        if isinstance(rule, Momentum):
            for i, g in enumerate(gradient.tolist()):
                m[i] = m[i] * rule.decay + g
                theta[i] -= rule.learning_rate * m[i]
        else:
            power1, power2 = power1 * rule.beta1, power2 * rule.beta2
            for i, g in enumerate(gradient.tolist()):
                m[i] = rule.beta1 * m[i] + (1.0 - rule.beta1) * g
                s[i] = rule.beta2 * s[i] + (1.0 - rule.beta2) * (g * g)
                root = (s[i] / (1.0 - power2)) ** 0.5
                theta[i] -= rule.learning_rate * ((m[i] / (1.0 - power1)) / (root + rule.epsilon))

    assert ours[0].detach().tolist() == theta


def test_public_update_refuses_what_it_cannot_promise() -> None:
    with pytest.raises(MisuseError, match="float64"):
        PublicUpdate([torch.nn.Parameter(torch.zeros(2))], Momentum(0.1))
    with pytest.raises(MisuseError, match="groups"):
        PublicUpdate([{"params": parameters()}, {"params": parameters(1)}], Momentum(0.1))
    update = PublicUpdate(parameters(), Momentum(0.1))
    with pytest.raises(MisuseError, match="no released gradient"):
        update.step()
    with pytest.raises(MisuseError, match="closure"):
        update.step(lambda: 0.0)
