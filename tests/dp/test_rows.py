"""One patient moves the clipped sum by at most C. Attacked, not sampled.

Neighbours are chosen by an adversary: rows at the edge of the range, duplicates, halves that cancel,
a removed patient who contributes zero, numbers that are none. The change is computed in whole
numbers, so no rounding hides a violation.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import MisuseError
from dp.queries import Float64, Int64
from dp.rows import CLIP_TARGET, UNITS, _norms, clipped_rows, clipped_units, from_units
from tests.sweeps import examples

BROKEN = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e200, -1e200, 1.7e308]


def units(rows: Float64, bound: float = 1.0) -> Int64:
    return clipped_units([np.ascontiguousarray(rows)], bound)


def norm2(change: dict[str, Any]) -> int:
    return sum(int(value) ** 2 for value in change)


def sensitivity_holds(rows: Float64, bound: float, removed: int = 0) -> bool:
    with_patient = units(rows, bound)
    without = units(np.delete(rows, removed, axis=0), bound)
    return norm2(with_patient - without) <= int(UNITS) ** 2


entry = st.one_of(
    st.floats(-1e3, 1e3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([*BROKEN, 1e15, 5e-324, 0.0, -0.0, 1.0, CLIP_TARGET]),
)


@settings(max_examples=examples(120), deadline=None)
@given(
    data=st.data(),
    d=st.integers(1, 9),
    n=st.integers(1, 12),
    bound=st.sampled_from([1e-9, 0.1, 1.0, 3.0, 1e6]),
)
def test_add_or_remove_one_changes_the_sum_by_at_most_the_bound(
    data: st.DataObject, d: int, n: int, bound: float
) -> None:
    pool = data.draw(st.lists(st.lists(entry, min_size=d, max_size=d), min_size=1, max_size=4))
    rows = np.array([pool[data.draw(st.integers(0, len(pool) - 1))] for _ in range(n)])  # duplicates are likely

    assert sensitivity_holds(rows, bound, data.draw(st.integers(0, n - 1)))


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 400), d=st.integers(1, 64), scale=st.integers(-8, 30))
def test_random_hospitals(seed: int, n: int, d: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, size=(n, 1)) * 10.0**scale

    assert sensitivity_holds(rows, 1.0, int(rng.integers(n)))


def test_float32_cancelling_halves() -> None:
    """n/2 rows +v and n/2 rows −v: a float32 sum moves by far more than one patient, ours does not."""
    rng = np.random.default_rng(1)
    n, d = 4096, 500
    v = rng.standard_normal(d)
    v /= np.linalg.norm(v)
    rows = np.concatenate([np.tile(v, (n // 2, 1)), np.tile(-v, (n // 2, 1))])
    extra = rng.standard_normal(d)
    extra *= 100 / np.linalg.norm(extra)
    rows = np.insert(rows, n // 2, extra, axis=0)

    naive = rows.astype(np.float32) / np.maximum(np.linalg.norm(rows, axis=1), 1)[:, None].astype(np.float32)
    change32 = np.add.accumulate(naive)[-1] - np.add.accumulate(np.delete(naive, n // 2, axis=0))[-1]
    error32 = np.linalg.norm(change32.astype(np.float64) - extra / 100)
    assert error32 > 1e-5  # what a float32 kernel adds to the sensitivity; it grows with n

    assert sensitivity_holds(rows, 1.0, n // 2)
    assert not units(np.delete(rows, n // 2, axis=0)).any()  # the halves cancel to exactly zero


def test_removed_zero_patient() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((16_385, 20))
    rows[777] = 0.0

    assert np.array_equal(units(rows), units(np.delete(rows, 777, axis=0)))


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_record_that_is_no_number_contributes_exactly_zero(value: Any, place: int) -> None:
    rows = np.random.default_rng(3).standard_normal((50, 7))
    broken = rows[20].copy()
    broken[place] = value

    assert np.array_equal(units(np.insert(rows, 20, broken, axis=0)), units(rows))


def test_large_rows_are_clipped_and_impossible_ones_dropped() -> None:
    assert units(np.array([[1e19, 0.0]])).tolist() == [round(CLIP_TARGET * UNITS), 0]
    assert units(np.array([[2e19, 0.0]])).tolist() == [0, 0]  # above 2^64 bounds
    assert units(np.array([[1e154, 1e154]])).tolist() == [0, 0]  # the norm overflows


@pytest.mark.parametrize("bound", [2.0**-99, 1e-9, 1.0, 7.3, 2.0**99])
def test_edges_of_the_bound(bound: float) -> None:
    rows = np.array([[bound, 0.0], [0.0, bound * 1e-3], [bound * CLIP_TARGET, 0.0]])

    assert units(rows[:1], bound)[0] == UNITS * CLIP_TARGET
    assert units(rows[1:2], bound)[1] == pytest.approx(UNITS * 1e-3, abs=1)
    assert units(rows[2:], bound)[0] == pytest.approx(UNITS * CLIP_TARGET, abs=1)


@pytest.mark.parametrize("d", [1, 2, 3, 17, 1000, 4099])
def test_the_norm_is_right_to_40_bits(d: int) -> None:
    row = np.random.default_rng(d).standard_normal((1, d)) * 3
    exact = sum(Fraction(float(x)) ** 2 for x in row[0])

    assert abs(Fraction(float(_norms(row.copy())[0])) ** 2 / exact - 1) < Fraction(1, 2**40)


@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 100), d=st.integers(1, 50))
def test_one_row_has_the_same_bits_in_any_company(seed: int, n: int, d: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((n, d)) * 5
    alone = sum(units(rows[i : i + 1]) for i in range(n))

    assert np.array_equal(units(rows), alone)
    assert np.array_equal(units(rows[::-1]), alone)


def test_blocks_of_columns_and_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(4).standard_normal((300, 11)) * 4
    whole = units(rows)
    monkeypatch.setattr("dp.rows._BLOCK_VALUES", 64)

    assert np.array_equal(clipped_units([rows[:, :4], rows[:, 4:]], 1.0), whole)


def test_the_plain_definition() -> None:
    rows = np.random.default_rng(5).standard_normal((200, 13)) * 2
    norms = np.linalg.norm(rows, axis=1)
    expected = (rows * np.minimum(1, 3.0 / norms)[:, None]).sum(axis=0)

    assert clipped_rows(rows, 3.0) == pytest.approx(expected, rel=2e-6, abs=1e-6)


def test_rounding_is_to_the_nearest_unit() -> None:
    rows = np.array([[0.6, -0.6, 0.4]]) / UNITS

    assert units(rows).tolist() == [1, -1, 0]


def test_rows_are_not_changed() -> None:
    rows = np.full((3, 2), 9.0)
    clipped_rows(rows, 1.0)

    assert (rows == 9.0).all()


def test_an_empty_hospital_gives_zeros() -> None:
    assert clipped_rows(np.zeros((0, 5)), 1.0).tolist() == [0.0] * 5


def test_units_become_floats_with_one_rounding() -> None:
    assert from_units(np.array([2**40 + 1, -3]), 2.0).tolist() == [(2**40 + 1) / 2**31, -3 / 2**31]


@pytest.mark.parametrize(
    ("rows", "bound"),
    [
        (np.zeros((2, 2), dtype=np.float32), 1.0),
        (np.zeros(2), 1.0),
        (np.zeros((2, 0)), 1.0),
        (np.zeros((2, 2)), 0.0),
        (np.zeros((2, 2)), np.nan),
        (np.zeros((2, 2)), np.inf),
    ],
)
def test_misuse_is_refused(rows: Float64, bound: float) -> None:
    with pytest.raises(MisuseError):
        clipped_rows(rows, bound)


def test_blocks_must_agree() -> None:
    with pytest.raises(MisuseError, match="disagree"):
        clipped_units([np.zeros((2, 1)), np.zeros((3, 1))], 1.0)
    with pytest.raises(MisuseError, match="at least one"):
        clipped_units([], 1.0)
