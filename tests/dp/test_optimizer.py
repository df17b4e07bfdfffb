"""The optimizer against Opacus, against its own promises, and against the traps."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

from dp.central import CentralSum, UnprotectedSum
from dp.errors import MisuseError, UploadsExhausted
from dp.optimizer import Adam, Momentum, PublicUpdate, SecureSumOptimizer, per_patient_gradients
from dp.queries import Float64, Query, SecureSum

from .conftest import MakeQuery
from .test_clipping import cohort, net

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
    *,
    model: torch.nn.Module = None,
    rule: Momentum | Adam = None,
    normaliser: float = 100.0,
    **changes: Any,
) -> tuple[torch.nn.Module, SecureSumOptimizer]:
    model = model or per_patient_gradients(net())
    fields = {"sensitivity": CLIP, "length": LENGTH} | changes
    optimizer = SecureSumOptimizer(
        PublicUpdate(model.parameters(), rule or Momentum(0.1)),
        clip=CLIP,
        normaliser=normaliser,
        secure_sum=secure_sum,
        query=lambda index: query(index=index, **fields),
    )
    return model, optimizer


def closure_for(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, calls: list[int] | None = None
) -> Callable[[], None]:
    def closure() -> None:
        if calls is not None:
            calls.append(1)
        ((model(x)[:, 0] - y) ** 2).sum().backward()

    return closure


def flat(model: torch.nn.Module) -> Float64:
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def test_one_step_is_clip_sum_divide_update(query: MakeQuery) -> None:
    x, y = cohort(50)
    door = Recorder()
    model, optimizer = build(query, door, rule=Momentum(0.5, decay=0.0), normaliser=40.0)
    before = flat(model)
    optimizer.step(closure_for(model, x, y))

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
    model, optimizer = build(query, UnprotectedSum(), rule=Momentum(0.01, decay=0.0), normaliser=1.0)
    for _ in range(20):
        oracle.zero_grad()
        closure_for(theirs, x, y)()
        oracle.step()
        optimizer.step(closure_for(model, x, y))

    assert flat(model) == pytest.approx(flat(theirs), rel=1e-4, abs=1e-5)


def test_a_replayed_step_never_looks_at_patients(query: MakeQuery) -> None:
    x, y = cohort(30)
    calls = []
    recorded = Recorder()
    first, optimizer = build(query, recorded)
    for _ in range(3):
        optimizer.step(closure_for(first, x, y))
    again, optimizer = build(query, Recorder(replay=dict(enumerate(recorded.sent))))
    for _ in range(3):
        optimizer.step(closure_for(again, x, y, calls))

    assert calls == []
    assert np.array_equal(flat(first), flat(again))


def test_an_aborted_round_asks_again_and_gets_the_same(query: MakeQuery) -> None:
    x, y = cohort(30)
    door = Recorder(attempts=3)
    model, optimizer = build(query, door)
    optimizer.step(closure_for(model, x, y))

    assert np.array_equal(door.sent[0], door.sent[2])


def test_nothing_of_a_patient_stays_on_the_parameters(query: MakeQuery) -> None:
    x, y = cohort(30)

    def door(q: Query, contribution: Callable[[], Float64]) -> Float64:
        contribution()
        for p in model.parameters():
            assert p.grad is None
            assert p.grad_sample is None
            assert p.summed_grad is None
        return np.zeros(LENGTH)

    model, optimizer = build(query, door)
    optimizer.step(closure_for(model, x, y))

    assert all(not p.grad.any() for p in model.parameters())


def test_the_end_of_the_uploads_leaves_the_last_step(query: MakeQuery) -> None:
    x, y = cohort(30)
    model, optimizer = build(query, Recorder(uploads=2))
    optimizer.step(closure_for(model, x, y))
    optimizer.step(closure_for(model, x, y))
    before = flat(model)
    with pytest.raises(UploadsExhausted):
        optimizer.step(closure_for(model, x, y))

    assert np.array_equal(flat(model), before)
    assert optimizer.steps_done == 2


def test_the_normaliser_does_not_know_the_number_of_patients(query: MakeQuery) -> None:
    """opacus#571, #819: N = 64 and N = 65 must not be told apart by the scale of a released step."""
    changes = []
    for n in (64, 65):
        x, y = (part[:n] for part in cohort(65))
        x[64:] = float("nan")  # the 65th contributes nothing
        model, optimizer = build(query, Recorder(), normaliser=64.0)
        optimizer.step(closure_for(model, x.clone(), y))
        changes.append(flat(model))

    assert np.array_equal(*changes)


def test_noise_comes_from_the_door_alone(query: MakeQuery) -> None:
    """Two runs under the same door stream agree whatever torch's global generator does."""
    x, y = cohort(30)
    results = []
    for seed in (1, 2):
        model, optimizer = build(query, CentralSum(random.Random(7).randbytes, 4, 1))
        torch.manual_seed(seed)
        optimizer.step(closure_for(model, x, y))
        results.append(flat(model))

    assert np.array_equal(*results)


def test_sensitivity_of_a_whole_step(query: MakeQuery) -> None:
    x, y = cohort(40)
    doors = []
    for keep in (slice(None), slice(1, None)):
        door = Recorder()
        model, optimizer = build(query, door)
        optimizer.step(closure_for(model, x[keep] * 50, y[keep]))
        doors.append(door.sent[0])

    assert np.linalg.norm(doors[0] - doors[1]) <= CLIP


def test_an_empty_hospital_takes_part_with_zeros(query: MakeQuery) -> None:
    x, y = cohort(0)
    door = Recorder()
    model, optimizer = build(query, door)
    optimizer.step(closure_for(model, x, y))

    assert not door.sent[0].any()


def test_two_backward_passes_are_refused(query: MakeQuery) -> None:
    x, y = cohort(30)
    model, optimizer = build(query, Recorder())

    def twice() -> None:
        closure_for(model, x, y)()
        closure_for(model, x, y)()

    with pytest.raises(MisuseError, match="more than once"):
        optimizer.step(twice)


def test_a_model_that_is_not_wrapped_is_refused(query: MakeQuery) -> None:
    x, y = cohort(30)
    model, optimizer = build(query, Recorder(), model=net())
    with pytest.raises(MisuseError, match="per_patient_gradients"):
        optimizer.step(closure_for(model, x, y))


@pytest.mark.parametrize("changes", [{"length": 56}, {"sensitivity": 1.0}])
def test_a_query_that_does_not_fit_the_model_is_refused(query: MakeQuery, changes: dict[str, Any]) -> None:
    x, y = cohort(30)
    door = Recorder()
    model, optimizer = build(query, door, **changes)
    with pytest.raises(MisuseError, match="for a model of"):
        optimizer.step(closure_for(model, x, y))
    assert door.sent == []


@pytest.mark.parametrize("total", [np.zeros(3), np.full(LENGTH, np.nan), np.zeros(LENGTH, dtype=np.float32)])
def test_a_door_that_returns_garbage_is_refused(query: MakeQuery, total: Float64) -> None:
    _, optimizer = build(query, lambda q, c: total)
    with pytest.raises(MisuseError, match="secure sum"):
        optimizer.step(lambda: None)


def test_opacus_ways_around_the_door_are_closed(query: MakeQuery) -> None:
    _, optimizer = build(query, Recorder())
    for call in (optimizer.step, optimizer.pre_step, optimizer.signal_skip_step):
        with pytest.raises(MisuseError):
            call()


def test_a_kept_contribution_is_dead(query: MakeQuery) -> None:
    x, y = cohort(10)
    kept = []

    def door(q: Query, contribution: Callable[[], Float64]) -> Float64:
        kept.append(contribution)
        return contribution()

    model, optimizer = build(query, door)
    optimizer.step(closure_for(model, x, y))
    with pytest.raises(MisuseError, match="beyond its step"):
        kept[0]()


@pytest.mark.parametrize("name", ["clip", "normaliser"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_constants_are_checked(query: MakeQuery, name: str, value: Any) -> None:
    model = per_patient_gradients(net())
    fields = {"clip": 1.0, "normaliser": 1.0} | {name: value}
    with pytest.raises(MisuseError, match=name):
        SecureSumOptimizer(
            PublicUpdate(model.parameters(), Momentum(0.1)), secure_sum=Recorder(), query=query, **fields
        )


@pytest.mark.parametrize(
    "layer", [torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 5).float()], ids=["batchnorm", "float32"]
)
def test_unsound_models_are_refused(layer: torch.nn.Module) -> None:
    if isinstance(layer, torch.nn.BatchNorm1d):
        layer = layer.double()
    with pytest.raises(MisuseError):
        per_patient_gradients(torch.nn.Sequential(layer))


def test_a_standardising_buffer_is_refused() -> None:
    model = net()
    model.register_buffer("mean_of_the_patients", torch.zeros(5, dtype=torch.float64))
    with pytest.raises(MisuseError, match="buffers"):
        per_patient_gradients(model)


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
