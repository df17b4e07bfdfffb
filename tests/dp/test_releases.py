"""What each release adds up, patient by patient, and what its decode makes of a noisy sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import MisuseError
from dp.queries import Neighbours
from dp.releases import (
    BoundedSum,
    Count,
    Estimate,
    Histogram,
    Marginals,
    Mixture,
    MixtureStatistics,
    NoisyCounts,
    Quantiles,
    Records,
)
from tests.sweeps import examples

ONE, REPLACE = Neighbours.ADD_OR_REMOVE_ONE, Neighbours.REPLACE_ONE
NAN, INF = math.nan, math.inf


def column(*values: float) -> Records:
    return Records(np.array(values, dtype=np.float64)[:, None])


def table(*rows: tuple[float, ...], patient: list[int] | None = None) -> Records:
    return Records(np.array(rows, dtype=np.float64), None if patient is None else np.array(patient))


# ---------------------------------------------------------------- sums and counts


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (table((1.0, 0.0), (0.0, -1.0)), [1.0, -1.0]),
        (table((30.0, 40.0)), [1.2, 1.6]),
        (table((30.0, 40.0), (NAN, 0.0), (0.0, INF)), [1.2, 1.6]),
        (table((30.0, 0.0), (-30.0, 1.0), patient=[7, 7]), [0.0, 1.0]),
        (table((1.0, 0.0), (NAN, 0.0), (0.0, 1.0), patient=[7, 7, 3]), [0.0, 1.0]),
        (table((1.7e308, 0.0), (1.7e308, 0.0), patient=[1, 1]), [0.0, 0.0]),
        (Records(np.zeros((0, 2))), [0.0, 0.0]),
    ],
)
def test_a_patient_adds_one_clipped_vector(records: Records, expected: list[float]) -> None:
    assert BoundedSum("x", 2, 2.0).contribution(records) == pytest.approx(expected, abs=1e-5)


def test_a_bounded_sum_says_its_error() -> None:
    said = BoundedSum("x", 2, 2.0).decode(np.array([10.0, -1.0]), 3.0)

    assert [v.value for v in said.values] == [10.0, -1.0]
    assert said.values[0].low == pytest.approx(10 - 1.96 * 3, abs=1e-3)
    assert said.values[0].noise_error == said.values[0].error == 3.0


def test_counts_count_patients() -> None:
    count = Count("relapsed")

    assert count.contribution(column(1.0, 0.0, 2.0, NAN, INF)).tolist() == [2.0]
    assert count.contribution(table((1.0,), (1.0,), (0.0,), (1.0,), patient=[4, 4, 5, 5])).tolist() == [2.0]
    assert count.decode(np.array([-3.0]), 4.0) == Estimate(0.0, 4.0, 0.0, pytest.approx(4.84, abs=0.01), 4.0)


@pytest.mark.parametrize(
    ("value", "bin_"), [(-9.0, 0), (0.0, 1), (0.5, 1), (1.0, 2), (9.0, 2), (1e200, 2), (NAN, None), (-INF, None)]
)
def test_bins_are_closed_below(value: float, bin_: int | None) -> None:
    counts = Histogram("x", (0.0, 1.0)).contribution(column(value))

    assert counts.tolist() == [float(i == bin_) for i in range(3)]


def test_a_patient_with_many_rows_is_in_the_bin_of_the_first_that_is_a_number() -> None:
    rows = table((NAN,), (0.5,), (9.0,), (-1.0,), patient=[2, 2, 2, 1])

    assert Histogram("x", (0.0, 1.0)).contribution(rows).tolist() == [1.0, 1.0, 0.0]


def test_shares_say_when_the_total_is_drowned() -> None:
    clear, drowned = NoisyCounts((30.0, 70.0), 2.0), NoisyCounts((3.0, -1.0), 2.0)

    assert [s.value for s in clear.shares] == [0.3, 0.7]
    assert clear.shares[0].error == pytest.approx(2.0 * math.hypot(0.7, 0.3) / 100)
    assert not any(s.resolved for s in drowned.shares)
    assert str(drowned.shares[0]) == "not resolved"
    assert "±" in str(clear)


# ---------------------------------------------------------------- sensitivities


@pytest.mark.parametrize(
    ("release", "one", "replaced"),
    [
        (BoundedSum("x", 2, 2.0), 2.0, 4.0),
        (Count("x"), 1.0, 1.0),
        (Histogram("x", (0.0,)), 1.0, math.sqrt(2)),
        (Quantiles("x", (0.0, 1.0, 2.0), (0.5,)), 1.0, math.sqrt(2)),
        (Marginals.all_ways(tuple("abcdefghijklmnopq"), (2,) * 17, 2), math.sqrt(136), math.sqrt(272)),
    ],
)
def test_sensitivities(release: Any, one: float, replaced: float) -> None:
    assert release.sensitivity(ONE) == pytest.approx(one, rel=1e-15)
    assert release.sensitivity(REPLACE) == pytest.approx(replaced, rel=1e-15)


# ---------------------------------------------------------------- quantiles


def test_quantiles_without_noise_are_the_ones_of_the_grid() -> None:
    x = np.random.default_rng(0).gamma(2.0, 10.0, size=4000)
    grid = Quantiles("days", tuple(np.linspace(0, 100, 201)), (0.1, 0.5, 0.9))

    for level, said in zip(grid.levels, grid.decode(grid.contribution(column(*x)), 0.0).values, strict=True):
        assert said.value == pytest.approx(np.quantile(x, level), abs=0.5)
        assert said.low <= np.quantile(x, level) <= said.high
        assert said.high - said.low < 6


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_quantile_intervals_cover(level: float) -> None:
    """250 cohorts of 300 with noise: at least 93 % of the intervals hold the population's quantile."""
    rng = np.random.default_rng(5)
    grid = Quantiles("x", tuple(np.linspace(-4, 4, 33)), (level,))
    truth = {0.1: -1.2816, 0.5: 0.0, 0.8: 0.8416}[level]
    covered = 0
    for _ in range(250):
        counts = grid.contribution(Records(rng.normal(size=(300, 1))))
        said = grid.decode(counts + 3.0 * rng.normal(size=grid.length), 3.0).values[0]
        covered += said.low <= truth <= said.high

    assert covered >= 0.93 * 250


def test_quantiles_that_noise_drowns_are_not_resolved() -> None:
    grid = Quantiles("x", (0.0, 1.0, 2.0, 3.0), (0.5,))

    assert not grid.decode(np.array([1.0, -2.0, 1.0]), 4.0).values[0].resolved
    assert "not resolved" in str(grid.decode(np.zeros(3), 0.0))


@pytest.mark.parametrize(
    ("edges", "levels"),
    [
        ((0.0, 1.0), (0.5,)),
        ((0.0, 1.0, 1.0), (0.5,)),
        ((1.0, 1.0, 2.0), (0.5,)),
        ((0.0, 2.0, 1.0, 3.0), (0.5,)),
        ((0.0, 1.0, INF), (0.5,)),
        ((0.0, 1.0, 2.0), (0.0,)),
        ((0.0, 1.0, 2.0), ()),
    ],
)
def test_a_grid_or_level_outside_its_range_is_refused(edges: tuple[float, ...], levels: tuple[float, ...]) -> None:
    with pytest.raises(MisuseError):
        Quantiles("x", edges, levels)


# ---------------------------------------------------------------- marginals

THREE = Marginals.all_ways(("sex", "grade", "arm"), (2, 3, 2), 2)


def test_each_table_counts_a_patient_once() -> None:
    counts = THREE.contribution(table((1.0, 2.0, 0.0), (0.0, 0.0, 1.0)))

    said = THREE.decode(counts, 0.0)
    assert counts.sum() == 6.0
    assert said.tables[0].raw.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert said.tables[1].raw.tolist() == [[0, 1], [1, 0]]
    assert said.total.value == 2.0


@pytest.mark.parametrize("bad", [NAN, INF, -1.0, 3.0, 0.5, 1e30])
def test_a_code_outside_the_dictionary_is_missing_from_its_tables_alone(bad: float) -> None:
    counts = THREE.contribution(table((1.0, bad, 0.0)))

    assert counts.tolist() == [0.0] * 6 + [0, 0, 1, 0] + [0.0] * 6


@settings(max_examples=examples(20), deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.sampled_from([0.0, 1.0, 10.0]), ways=st.sampled_from([1, 2, 3]))
def test_decoded_tables_are_non_negative_and_agree(seed: int, noise: float, ways: int) -> None:
    rng = np.random.default_rng(seed)
    levels = (2, 3, 2, 4)
    release = Marginals.all_ways(("a", "b", "c", "d"), levels, ways)
    codes = np.stack([rng.integers(0, level, size=60) for level in levels], axis=1).astype(np.float64)
    said = release.decode(release.contribution(Records(codes)) + noise * rng.normal(size=release.length), noise)

    for one in said.tables:
        assert one.counts.min() >= 0
        assert one.counts.sum() == pytest.approx(said.tables[0].counts.sum(), abs=1e-4)
        for other in said.tables:
            shared = set(one.attributes) & set(other.attributes)
            views = [
                t.counts.sum(axis=tuple(i for i, a in enumerate(t.attributes) if a not in shared)) for t in (one, other)
            ]
            assert views[0] == pytest.approx(views[1], abs=1e-4)


def test_consistency_brings_tables_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    levels = (3, 3, 3, 3, 3)
    release = Marginals.all_ways(tuple("abcde"), levels, 2)
    codes = (rng.random((400, 5)) ** 3 * 3).astype(np.int64).astype(np.float64)
    truth = release.contribution(Records(codes))
    before, after = [], []
    for _ in range(10):
        said = release.decode(truth + 8.0 * rng.normal(size=truth.size), 8.0)
        after.append(np.concatenate([t.counts.ravel() for t in said.tables]) - truth)
        before.append(np.concatenate([t.raw.ravel() for t in said.tables]) - truth)

    assert np.mean(np.square(after)) < 0.75 * np.mean(np.square(before))
    assert said.total.error < 8.0 * 3 / math.sqrt(10) * 1.01


def test_a_cell_below_the_noise_is_not_resolved() -> None:
    counts = THREE.contribution(Records(np.tile([1.0, 2.0, 0.0], (50, 1))))
    said = THREE.decode(counts, 5.0)

    assert said.tables[0].resolved.tolist() == [[False, False, False], [False, False, True]]
    assert "13 of 16 cells not resolved" in str(said)


@pytest.mark.parametrize("sets", [(), ((),), ((1, 0),), ((0, 0),), ((0, 3),), ((0,), (0,))])
def test_tables_of_nothing_are_refused(sets: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(MisuseError):
        Marginals(("a", "b", "c"), (2, 2, 2), sets)


# ---------------------------------------------------------------- mixture


def mixture(k: int = 2, d: int = 3) -> Mixture:
    means = np.random.default_rng(k).normal(size=(k, d))
    return Mixture(np.full(k, 1 / k), means, np.stack([np.eye(d)] * k))


def cloud(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [0.0, 0.0, 0.3]])
    left, right = rng.normal(size=(n // 3, 3)) @ spread.T + [2, 1, 0], rng.normal(size=(n - n // 3, 3)) - [2, 1, 0]
    return np.concatenate([left, right])


def test_responsibilities_are_those_of_the_textbook() -> None:
    released = MixtureStatistics(mixture(), 6.0).decode(
        MixtureStatistics(mixture(), 6.0).contribution(Records(cloud(300))), 0.0
    )
    x = cloud(50, seed=3)
    density = np.empty((50, 2))
    for k, (mean, covariance) in enumerate(zip(released.mixture.means, released.mixture.covariances, strict=True)):
        square = np.einsum("ni,ij,nj->n", x - mean, np.linalg.inv(covariance), x - mean)
        density[:, k] = released.mixture.weights[k] * np.exp(-square / 2) / np.sqrt(np.linalg.det(covariance))
    assert released.mixture.responsibilities(x) == pytest.approx(density / density.sum(axis=1, keepdims=True), abs=1e-9)


def test_without_noise_a_step_is_expectation_maximisation() -> None:
    x, start = cloud(600), mixture()
    r = start.responsibilities(x)
    release = MixtureStatistics(start, 8.0)

    said = release.decode(release.contribution(Records(x)), 0.0)

    for k in range(2):
        mean = r[:, k] @ x / r[:, k].sum()
        covariance = (r[:, k, None] * (x - mean)).T @ (x - mean) / r[:, k].sum()
        assert said.sizes[k].value == pytest.approx(r[:, k].sum(), rel=1e-5)
        assert said.mixture.means[k] == pytest.approx(mean, abs=1e-4)
        assert said.mixture.covariances[k] == pytest.approx(covariance, abs=1e-3)


def test_ten_noisy_steps_find_the_two_clouds() -> None:
    rng = np.random.default_rng(2)
    current = Mixture(np.full(2, 0.5), np.array([[-1.0, 0, 0], [1.0, 0, 0]]), np.stack([np.eye(3)] * 2))
    for step in range(10):
        release = MixtureStatistics(current, 6.0)
        assert release.query(5.0, 2000, step).kind == "mixture"
        said = release.decode(release.contribution(Records(cloud(1500))) + 6.0 * rng.normal(size=release.length), 6.0)
        current = said.mixture

    order = np.argsort(current.means[:, 0])
    assert current.means[order] == pytest.approx(np.array([[-2, -1, 0], [2, 1, 0]]), abs=0.25)
    assert current.weights[order] == pytest.approx([2 / 3, 1 / 3], abs=0.05)
    assert max(said.mean_errors) < 0.2


def test_another_released_mixture_is_another_query() -> None:
    one, other = mixture(), mixture()
    moved = Mixture(other.weights, np.nextafter(other.means, 9.0), other.factors)

    assert MixtureStatistics(one, 6.0).query(1.0, 10).digest() == MixtureStatistics(other, 6.0).query(1.0, 10).digest()
    assert MixtureStatistics(one, 6.0).query(1.0, 10).digest() != MixtureStatistics(moved, 6.0).query(1.0, 10).digest()


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.sampled_from([0.1, 5.0, 300.0]), n=st.integers(0, 60))
def test_whatever_noise_does_the_next_mixture_is_one(seed: int, noise: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    release = MixtureStatistics(mixture(3, 2), 2.0)
    x = rng.normal(size=(n, 2)) * 5
    said = release.decode(release.contribution(Records(x)) + noise * rng.normal(size=release.length), noise)

    assert np.linalg.eigvalsh(said.mixture.covariances).min() > 0
    assert np.abs(said.mixture.means).max() <= max(2.0, np.abs(mixture(3, 2).means).max())
    for k, size in enumerate(said.sizes):
        if not size.resolved:
            assert np.array_equal(said.mixture.means[k], mixture(3, 2).means[k])


def test_a_component_that_noise_drowns_stays_and_says_so() -> None:
    release = MixtureStatistics(mixture(), 6.0)
    said = release.decode(np.zeros(release.length), 9.0)

    assert not any(size.resolved for size in said.sizes)
    assert "not resolved" in str(said)
    assert np.array_equal(said.mixture.means, mixture().means)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture(np.ones(2), np.zeros((2, 3)), np.zeros((2, 3, 3))),
        lambda: Mixture(np.ones(2), np.zeros((2, 3)), np.stack([np.eye(2)] * 2)),
        lambda: Mixture(np.array([1.0, NAN]), np.zeros((2, 3)), np.stack([np.eye(3)] * 2)),
        lambda: MixtureStatistics(mixture(), 0.0),
        lambda: MixtureStatistics(mixture(), 1.0, floor=0.0),
    ],
)
def test_what_is_no_mixture_is_refused(make: Any) -> None:
    with pytest.raises(MisuseError):
        make()


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    "release",
    [BoundedSum("x", 3, 2.0), Count("x"), Histogram("x", (0.0,)), THREE, MixtureStatistics(mixture(1, 1), 1.0)],
)
def test_a_sum_of_another_length_or_type_is_misuse(release: Any) -> None:
    for wrong in (
        np.zeros(release.length + 1),
        np.zeros(release.length, dtype=np.float32),
        np.full(release.length, NAN),
    ):
        with pytest.raises(MisuseError):
            release.decode(wrong, 1.0)
    with pytest.raises(MisuseError):
        release.decode(np.zeros(release.length), -1.0)
    with pytest.raises(MisuseError, match="columns"):
        release.contribution(Records(np.zeros((2, 9))))


def test_records_must_fit_their_patients() -> None:
    with pytest.raises(MisuseError):
        Records(np.zeros(3))
    with pytest.raises(MisuseError):
        Records(np.zeros((3, 1)), np.zeros(2, dtype=np.int64))
    with pytest.raises(MisuseError):
        Histogram("x", (1.0, 1.0))
    with pytest.raises(MisuseError):
        Histogram("x", ())
