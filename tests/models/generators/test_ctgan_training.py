"""Learning through the door: all sites alike or not at all, nothing but the sums, whatever runs out."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from dp.central import CentralSum, UnprotectedSum
from dp.errors import UploadsExhausted
from dp.queries import Float64, Query, SecureSum
from models.data import SurvivalData, joined
from models.errors import ConfigError, MisuseError
from models.generators.ctgan import CTGAN, Settings, initial_weights, schedule, train
from models.generators.ctgan.adversaries import Adversaries
from models.generators.ctgan.form import Form
from secagg.masks import Keystream
from tests.models.generators.cohorts import DICTIONARY, cohort
from tests.models.generators.test_ctgan_parts import SMALL

MULTIPLIERS = {"histogram": 3.0, "gradient": 3.0}
WEIGHTS = initial_weights(SMALL, DICTIONARY, b"w")


def learned(data: SurvivalData, door: SecureSum, settings: Settings = SMALL, **more: object) -> CTGAN:
    return train(settings, DICTIONARY, MULTIPLIERS, 4096, WEIGHTS, data, door, **more)  # type: ignore[arg-type]


class _WaitingError(Exception):
    pass


@dataclass
class _Replay:
    """A site's door: sums that are known, then a stop at the first that is not."""

    known: list[Float64]
    asked: list[tuple[bytes, Float64]]

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        if self.known:
            return self.known.pop(0)
        self.asked.append((query.digest(), contribution()))
        raise _WaitingError


def federated(sites: list[SurvivalData]) -> list[CTGAN]:
    """Every site runs up to the next sum, the sums are added, all run on: nobody sees another's patients."""
    known: list[Float64] = []
    while True:
        asked: list[tuple[bytes, Float64]] = []
        done = []
        for data in sites:
            try:
                done.append(learned(data, _Replay(list(known), asked)))
            except _WaitingError:
                continue
        if not asked:
            return done
        assert len({digest for digest, _ in asked}) == 1
        known.append(np.sum([numbers for _, numbers in asked], axis=0))


def test_several_sites_learn_the_pooled_generator() -> None:
    data = cohort(600)
    parts = [data.rows(np.arange(a, b)) for a, b in ((0, 350), (350, 350), (350, 600))]
    found = federated(parts)
    pooled = learned(data, UnprotectedSum())
    assert {model.digest for model in found} == {pooled.digest}


# ---------------------------------------------------------------- what a sum says of one patient


class _Recorder:
    """A door that keeps queries and sums, and releases what it is told to: so many uploads."""

    def __init__(self, uploads: int = 1000, released: list[Float64] | None = None) -> None:
        self.left, self.released = uploads, released
        self.queries: list[Query] = []
        self.sums: list[Float64] = []

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        self.queries.append(query)
        if not self.left:
            raise UploadsExhausted(query.kind)
        self.left -= 1
        self.sums.append(contribution())
        return self.sums[-1] if self.released is None else self.released[len(self.sums) - 1]


def _odd(value: float) -> SurvivalData:
    return SurvivalData(np.full((1, 6), value), np.ones((1, 6), dtype=bool), np.array([value]), np.array([True]))


@pytest.mark.parametrize("odd", [_odd(1e30), _odd(np.nan), _odd(-1e200), _odd(3.0)], ids=["1e30", "nan", "-1e200", "3"])
def test_one_patient_moves_a_sum_by_the_clip_at_most(odd: SurvivalData) -> None:
    tight, data = replace(SMALL, clip=0.25), cohort(700)
    public = _Recorder()
    learned(data, public, tight)
    one, other = _Recorder(released=public.sums), _Recorder(released=public.sums)
    learned(data, one, tight)
    learned(joined([odd, data]), other, tight)
    moved = [float(np.linalg.norm(a - b)) for a, b in zip(one.sums, other.sums, strict=True)]
    assert all(move <= query.sensitivity for move, query in zip(moved, one.queries, strict=True))
    assert all(query.sensitivity == 0.25 for query in one.queries[1:])
    assert [a.digest() for a in one.queries] == [b.digest() for b in other.queries]


def test_the_generator_sees_no_patient() -> None:
    public = _Recorder()
    model = learned(cohort(500), public)
    elsewhere = learned(cohort(40, seed=9), _Recorder(released=public.sums))
    nobody = learned(cohort(5).rows(np.zeros(5, dtype=bool)), _Recorder(released=public.sums))
    assert model.digest == elsewhere.digest == nobody.digest


# ---------------------------------------------------------------- the same on every host, or an end


@contextmanager
def _elsewhere(monkeypatch: pytest.MonkeyPatch, error: float) -> Iterator[None]:
    """Another host: every matrix product of generated rows is a little off, in torch and in numpy."""
    original, linear, rng = Adversaries._generated, Form._linear, np.random.default_rng(0)

    def off(self: Adversaries, label: str) -> tuple[torch.Tensor, ...]:
        return tuple(t * (1 + error * torch.from_numpy(rng.normal(size=tuple(t.shape)))) for t in original(self, label))

    def product(*arguments: Any) -> Float64:
        found = linear(*arguments)
        return found * (1 + error * rng.normal(size=found.shape))

    with monkeypatch.context() as patched:
        patched.setattr(Adversaries, "_generated", off)
        patched.setattr(Form, "_linear", staticmethod(product))
        yield


def test_last_bits_of_another_host_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = _Recorder(), _Recorder()
    model = learned(cohort(300), here)
    with _elsewhere(monkeypatch, 1e-15):
        other = learned(cohort(300), there)
    assert model.digest == other.digest
    assert [a.digest() for a in here.queries] == [b.digest() for b in there.queries]


def test_beyond_the_tolerance_the_next_sum_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = _Recorder(), _Recorder()
    learned(cohort(300), here)
    with _elsewhere(monkeypatch, 1e-4):
        learned(cohort(300), there)
    same = [a.digest() == b.digest() for a, b in zip(here.queries, there.queries, strict=True)]
    assert same == [True, True] + [False] * (len(same) - 2)  # frequencies, and the first gradient of public weights


def _still(monkeypatch: pytest.MonkeyPatch, generator: float = 0.0, critic: float = 0.0) -> None:
    """Networks that learn nothing of any sum, but take steps of these sizes."""

    def of_generator(self: Adversaries, *_: object) -> list[Float64]:
        return [np.full(tuple(part.shape), generator) for part in self.generator.parameters()]

    monkeypatch.setattr(Adversaries, "of_generator", of_generator)
    monkeypatch.setattr("models.generators.ctgan.training.project", lambda parts: [np.full_like(parts[0], critic)])


@pytest.mark.parametrize("network", ["generator", "critic"])
def test_a_sum_is_asked_about_the_weights_of_both_networks(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _Recorder(), _Recorder()
    _still(monkeypatch)
    learned(cohort(300), one)
    _still(monkeypatch, **{network: 1e-3})
    learned(cohort(300), other)
    same = [a.digest() == b.digest() for a, b in zip(one.queries, other.queries, strict=True)]
    assert same == [True, True] + [False] * (len(same) - 2)


def test_numbers_of_threads_do_not_matter() -> None:
    wide = replace(SMALL, units=64, rows=512)
    weights, before, found = initial_weights(wide, DICTIONARY, b"w"), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            door = _Recorder()
            model = train(wide, DICTIONARY, MULTIPLIERS, 4096, weights, cohort(300), door)
            found.append((model.digest, [query.digest() for query in door.queries]))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_critic_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[float] = []
    original = Adversaries.of_generator

    def spy(self: Adversaries, label: str, critic: Float64) -> list[Float64]:
        sizes.append(float(np.linalg.norm(critic)))
        return original(self, label, critic)

    monkeypatch.setattr(Adversaries, "of_generator", spy)
    learned(cohort(300), UnprotectedSum(), replace(SMALL, memory=0.0))
    assert len(sizes) == SMALL.steps * SMALL.turns
    assert 0.5 < max(sizes) <= 1 + 1e-12


def test_a_sum_counts_as_much_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic's gradient on patients does not depend on its weights: sums that differ by noise are averaged."""
    public = _Recorder()
    learned(cohort(300), public)
    assert np.array_equal(public.sums[1], public.sums[2])
    seen: list[Float64] = []

    def kept(parts: list[Float64]) -> list[Float64]:
        seen.extend(parts)
        return parts

    monkeypatch.setattr("models.generators.ctgan.training.project", kept)
    monkeypatch.setattr(Adversaries, "moments", lambda self, label: np.zeros(len(public.sums[1])))
    noisy = [public.sums[0], *(total * k for k, total in enumerate(public.sums[1:], 1))]
    learned(cohort(300), _Recorder(released=noisy), replace(SMALL, memory=0.0))
    patients = seen[0] @ public.sums[1] / (seen[0] @ seen[0])
    wanted = [k for k in (1.0, 1.5, 2.0) for _ in range(SMALL.turns)]
    assert np.allclose([s @ public.sums[1] * patients / (public.sums[1] @ public.sums[1]) for s in seen], wanted)


# ---------------------------------------------------------------- whatever runs out


def test_the_schedule_is_what_is_asked() -> None:
    told: list[tuple[int, str]] = []
    door = _Recorder()
    learned(cohort(300), door, on_step=lambda done, digest: told.append((done, digest)))
    planned = schedule(SMALL, DICTIONARY, MULTIPLIERS, 4096)
    for query, plan in zip(door.queries, planned, strict=True):
        for name in ("kind", "index", "length", "sensitivity", "multiplier", "account", "patient_cap"):
            assert getattr(query, name) == getattr(plan, name), name
    assert [query.kind for query in planned] == ["histogram"] + ["gradient"] * SMALL.steps
    assert len({(query.length, query.sensitivity) for query in planned[1:]}) == 1
    assert set(SMALL.shares) == {query.kind for query in planned}
    assert [done for done, _ in told] == list(range(1, len(planned) + 1))
    assert len({digest for _, digest in told}) == len(planned)


def test_each_sum_is_asked_about_all_before(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _Recorder(), _Recorder()
    learned(cohort(300), one)
    learned(cohort(300, seed=1), other)
    same = [a.digest() == b.digest() for a, b in zip(one.queries, other.queries, strict=True)]
    assert same == [True] + [False] * (len(same) - 1)
    _still(monkeypatch)
    learned(cohort(300), public := _Recorder())
    edited = [public.sums[0], public.sums[1] * 2, *public.sums[2:]]
    found = []
    for sums in (public.sums, edited):
        learned(cohort(300), door := _Recorder(released=sums))
        found.append([query.digest() for query in door.queries])
    # Also when the weights tell nothing of it: a sum that is not the last one.
    assert [a == b for a, b in zip(*found, strict=True)] == [True, True, False, False]
    changed = _Recorder()
    learned(cohort(300), changed, replace(SMALL, generator_rate=0.1))
    assert changed.queries[1].digest() != one.queries[1].digest()  # other settings, other masks


@pytest.mark.parametrize("uploads", [0, 1, 2, 3, 4])
def test_uploads_exhausted(uploads: int) -> None:
    door = _Recorder(uploads)
    model = learned(cohort(900), door)
    assert len(door.queries) == uploads + (uploads < 1 + SMALL.steps)
    data = model.draw(2000, np.random.default_rng(0))
    assert len(data) == 2000
    if uploads:
        real = cohort(900)
        assert abs(data.event.mean() - real.event.mean()) < 0.06
        for j in (3, 4, 5):
            drawn, wanted = (z.x[z.observed[:, j], j].mean() for z in (data, real))
            assert abs(drawn - wanted) < 0.06


@pytest.mark.parametrize("multiplier", [50.0, 1e6])
def test_noise_alone_gives_a_generator_all_the_same(multiplier: float) -> None:
    door = CentralSum(Keystream(hashlib.sha256(b"noise").digest()), roster_size=6, collusion=1, shares=6)
    z = dict.fromkeys(MULTIPLIERS, multiplier)
    model = train(SMALL, DICTIONARY, z, 4096, WEIGHTS, cohort(30), door, 1.1)
    assert len(model.draw(200, np.random.default_rng(0))) == 200


def test_nobody_at_all() -> None:
    model = learned(cohort(10).rows(np.zeros(10, dtype=bool)), UnprotectedSum())
    assert len(model.draw(50, np.random.default_rng(0))) == 50


# ---------------------------------------------------------------- bad input


def test_what_does_not_fit_is_refused_before_anything_is_asked() -> None:
    door = _Recorder()
    with pytest.raises(MisuseError, match="bytes"):
        train(SMALL, DICTIONARY, MULTIPLIERS, 4096, WEIGHTS[8:], cohort(5), door)
    with pytest.raises(ConfigError, match="histogram"):
        train(SMALL, DICTIONARY, {"gradient": 1.0}, 4096, WEIGHTS, cohort(5), door)
    other = SurvivalData(np.zeros((1, 2)), np.zeros((1, 2)) == 0, np.ones(1), np.ones(1) == 1)
    with pytest.raises(MisuseError, match="6 columns"):
        learned(other, door)
    assert not door.queries


def test_without_the_package_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)
    door = _Recorder()
    with pytest.raises(ConfigError, match="haemfed"):
        learned(cohort(5), door)
    assert not door.queries


@pytest.mark.parametrize("kept", [("mut_a",), ("age", "blast"), ("stage",)], ids="-".join)
def test_tables_with_columns_of_one_kind(kept: tuple[str, ...]) -> None:
    data, names = cohort(200), list(DICTIONARY.names)
    places = [names.index(name) for name in kept]
    some, part = DICTIONARY.subset(kept), SurvivalData(data.x[:, places], data.observed[:, places], *_follow_up(data))
    weights = initial_weights(SMALL, some, b"w")
    model = train(SMALL, some, MULTIPLIERS, 4096, weights, part, UnprotectedSum())
    assert model.draw(100, np.random.default_rng(0)).features == len(kept)


def _follow_up(data: SurvivalData) -> tuple[Float64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    return data.duration, data.event
