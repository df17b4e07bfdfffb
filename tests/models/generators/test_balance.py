"""Drawing together: every patient is the model's, the table has less chance in it than independent ones."""

import numpy as np
import pytest

from models.generators.balance import TOGETHER, drawn, exchanged, normals, spread, standard
from models.generators.dictionary import Codes


def probabilities(n: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    found = rng.dirichlet([4.0, 0.5, 0.2], n)
    found[: n // 4] = [0.7, 0.3, 0.0]
    return found


def test_each_level_as_often_as_its_probabilities_say() -> None:
    n, rng = 900, np.random.default_rng(1)
    p = np.tile([0.61, 0.27, 0.12], (n, 1))
    for _ in range(20):
        counts = np.bincount(spread(p, rng.permutation(n), rng), minlength=3)
        assert np.abs(counts - n * p[0]).max() <= 3


def test_every_patient_has_its_own_probabilities() -> None:
    p, rng = probabilities(40), np.random.default_rng(2)
    features = np.random.default_rng(3).choice([-1.0, 1.0], size=(40, 2))
    seen, after = np.zeros(p.shape), np.zeros(p.shape)
    for _ in range(4000):
        drawn = spread(p, rng.permutation(40), rng)
        seen[np.arange(40), drawn] += 1 / 4000
    for _ in range(1500):
        drawn = exchanged(spread(p, rng.permutation(40), rng), p, features, rng)
        after[np.arange(40), drawn] += 1 / 1500
    assert np.abs(seen - p).max() < 0.04
    assert np.abs(after - p).max() < 0.08  # pulled a little, by the balance of forty patients
    assert np.abs(after - p).mean() < 0.02
    assert (seen[p == 0] == 0).all()
    assert (after[p == 0] == 0).all()


def _imbalance(levels: Codes, p: object, features: object) -> float:
    table = (np.eye(3)[levels] - p).T @ features / len(levels)  # type: ignore[operator]
    return float(np.mean(table**2))


def test_exchanges_take_most_of_the_imbalance_and_no_count() -> None:
    n, rng = 600, np.random.default_rng(4)
    p, features = probabilities(n), rng.normal(size=(n, 12))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    before, after = [], []
    for _ in range(10):
        first = spread(p, rng.permutation(n), rng)
        second = exchanged(first, p, features, rng)
        before.append(_imbalance(first, p, features))
        after.append(_imbalance(second, p, features))
        assert np.array_equal(np.bincount(first, minlength=3), np.bincount(second, minlength=3))
    assert np.mean(after) < 0.2 * np.mean(before)


def test_nothing_to_balance() -> None:
    rng, p = np.random.default_rng(5), np.tile([0.0, 1.0], (7, 1))
    drawn = spread(p, np.arange(7), rng)
    assert drawn.tolist() == [1] * 7
    assert exchanged(drawn, p, np.zeros((7, 2)), rng) is drawn
    assert exchanged(drawn, p, np.zeros((7, 0)), rng) is drawn
    assert standard(np.full(7, 0.1)).shape == (7, 0)
    assert standard(np.array([0.0, 2.0]))[:, 0].tolist() == pytest.approx([-1.0, 1.0])


def test_small_tables_are_drawn_together_and_large_ones_patient_by_patient() -> None:
    chances = [np.tile([0.7, 0.3], (500, 1)), np.tile([0.9, 0.1], (500, 1))]
    nothing = np.zeros((500, 0))

    def off(whole: int) -> tuple[float, float]:
        tables = [drawn(chances, nothing, whole, np.random.default_rng(seed)) for seed in range(30)]
        share = [abs(first.mean() - 0.3) for first, _ in tables]
        pair = [abs(float(np.mean((first - 0.3) * (second - 0.1)))) for first, second in tables]
        return float(np.max(share)), float(np.mean(pair))

    together, apart = off(500), off(TOGETHER + 1)
    assert together[0] <= 1 / 500 < apart[0]
    assert together[1] < 0.6 * apart[1]


def test_errors_of_a_column_go_with_neither_what_was_drawn_nor_what_is_to_come() -> None:
    n, seed = 400, np.random.default_rng(7)
    risk = 1.0 / (1.0 + np.exp(-seed.normal(-1.0, 1.5, (2, n))))
    chances = [np.column_stack([1.0 - p, p]) for p in risk]
    nothing, later = np.zeros((n, 0)), risk[1] - risk[1].mean()

    def off(whole: int) -> float:
        firsts = [drawn(chances, nothing, whole, np.random.default_rng(s))[0] - risk[0] for s in range(20)]
        return float(np.mean([(first @ later) ** 2 for first in firsts]))

    assert off(n) < 0.2 * off(TOGETHER + 1)


def test_normal_vectors_of_a_small_table_have_their_moments_in_it() -> None:
    found = normals(300, 5, 300, np.random.default_rng(6))
    assert np.allclose(found.mean(axis=0), 0.0, atol=1e-12)
    assert np.allclose(found.T @ found / 300, np.eye(5), atol=1e-12)
    large = normals(300, 5, TOGETHER + 1, np.random.default_rng(6))
    assert np.abs(large.mean(axis=0)).max() > 0.02
    few = normals(4, 5, 4, np.random.default_rng(6))
    assert few.shape == (4, 5)
    assert np.isfinite(few).all()
    assert normals(0, 5, 9, np.random.default_rng(6)).shape == (0, 5)


def test_each_normal_vector_is_normal_on_its_own() -> None:
    values = np.array([normals(12, 2, 12, np.random.default_rng(seed))[0] for seed in range(4000)])
    assert np.allclose(values.mean(axis=0), 0.0, atol=0.06)
    assert np.allclose(np.cov(values.T), np.eye(2), atol=0.08)
    assert np.allclose((values**4).mean(axis=0), 3.0 * 11 / 13, atol=0.3)  # of n vectors with these moments
