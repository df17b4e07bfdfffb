"""Portable numbers: logarithms, small systems, nearest counts, and the least committed table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.generators.bayesnet.arithmetic import log, margin, nearest_counts, solve, total
from models.generators.bayesnet.entropy import table_of
from models.generators.bayesnet.search import bic, mutual_information


@given(st.lists(st.floats(1e-300, 1e300), min_size=1))
def test_logarithms(values: list[float]) -> None:
    assert np.allclose(log(np.array(values)), np.log(values), rtol=1e-14, atol=1e-15)


def test_sums_and_margins() -> None:
    table = np.random.default_rng(0).random((3, 4, 5))
    assert total(table) == pytest.approx(table.sum())
    assert np.allclose(margin(table, (0, 2)), table.sum(axis=1))
    assert np.allclose(margin(table, (1,)), table.sum(axis=(0, 2)))


def test_small_systems() -> None:
    rng = np.random.default_rng(1)
    half = rng.normal(size=(4, 4))
    matrix, right = half @ half.T + np.eye(4), rng.normal(size=4)
    assert np.allclose(solve(matrix.tolist(), right.tolist()), np.linalg.solve(matrix, right))
    assert solve([], []) == []


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=12), st.floats(1.0, 5000.0))
def test_nearest_counts_are_counts_and_no_others_are_nearer(noisy: list[float], patients: float) -> None:
    given_counts = np.array(noisy)
    found = nearest_counts(given_counts, patients)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(patients)
    # Optimality (Karush-Kuhn-Tucker): one shift for all that are above zero, no smaller one for the others.
    shift = (given_counts - found)[found > 0]
    assert np.ptp(shift) < 1e-6
    assert (given_counts[found == 0] <= shift.max() + 1e-6).all()


def test_the_least_committed_table_has_what_was_asked() -> None:
    margins = [np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])]
    scores = [np.array([-0.5, 0.0, 0.5]), np.array([-0.1, 0.9]), np.array([-1.0, -0.3, 0.3, 1.0])]
    wanted = {(0, 1): 0.04, (0, 2): -0.1, (1, 2): 0.02}
    table = table_of(margins, scores, wanted)
    for axis, share in enumerate(margins):
        assert np.allclose(margin(table, (axis,)), share, atol=1e-4)
    for (i, j), covariance in wanted.items():
        pair = margin(table, (i, j))
        product = scores[i] @ pair @ scores[j] - (margins[i] @ scores[i]) * (margins[j] @ scores[j])
        assert product == pytest.approx(covariance, abs=5e-4)


def test_two_by_two_is_the_table_itself() -> None:
    table = np.array([[0.5, 0.1], [0.15, 0.25]])
    scores = [np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    found = table_of([table.sum(1), table.sum(0)], scores, {(0, 1): 0.25 - 0.4 * 0.35})
    assert np.allclose(found, table, atol=1e-4)


def test_a_covariance_that_no_table_has_leaves_the_margins() -> None:
    margins = [np.array([0.99, 0.01]), np.array([0.9, 0.1])]
    found = table_of(margins, [np.array([0.0, 1.0])] * 2, {(0, 1): 5.0})
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), margins[0], atol=1e-3)
    assert found[1, 1] > 0.009
    odds = found[1, 1] * found[0, 0] / (found[0, 1] * found[1, 0])
    assert np.log(odds) == pytest.approx(8.0, abs=0.01)


def test_no_pair_no_term() -> None:
    margins = [np.array([0.4, 0.6]), np.array([0.7, 0.3])]
    assert np.allclose(table_of(margins, [np.array([-1.0, 1.0])] * 2, {}), np.outer(*margins))


def test_information_and_its_criterion() -> None:
    counts = np.array([[30.0, 10.0, 0.0], [5.0, 55.0, 0.0]])
    share = counts / 100
    outer = np.outer(share.sum(1), share.sum(0))
    assert mutual_information(counts) == pytest.approx(
        (share * np.log(np.where(share > 0, share / np.maximum(outer, 1e-9), 1))).sum()
    )
    fit = (counts * np.log(np.where(counts > 0, counts / counts.sum(0).clip(1), 1))).sum()
    # Two rows, two columns that anybody has: one free number for each of two.
    assert bic(counts, 0, 1.0) == pytest.approx(fit - 0.5 * 2 * np.log(100))
    assert mutual_information(np.zeros((2, 2))) == 0.0
