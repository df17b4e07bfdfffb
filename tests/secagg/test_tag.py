import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import tag
from secagg.errors import MisuseError
from secagg.masks import CTR, GCM, Backend, Keystream
from secagg.tag import COLUMNS, P, RoundTag
from tests.sweeps import examples

GROUP = b"G" * 32
LIMIT = (1 << 47) - 1


def keys_of(group: bytes, context: bytes, length: int) -> tuple[list[int], list[int]]:
    """Column and row keys once more, in plain integers."""
    stream = Keystream(tag.derive(group, tag.Label.TAG, context))
    columns = [int.from_bytes(stream(8), "little") % (1 << 52) for _ in range(COLUMNS)]
    rows = [int.from_bytes(stream(16), "big") % P for _ in range(-(-length // COLUMNS))]
    return columns, rows


def formula(values: np.ndarray, columns: list[int], rows: list[int]) -> int:
    return sum(rows[j // COLUMNS] * columns[j % COLUMNS] * v for j, v in enumerate(values.tolist())) % P


def pad_of(member: int) -> int:
    return int.from_bytes(tag.derive(GROUP, tag.Label.TAG_PAD, b"ctx", member), "big") % P


@settings(deadline=None, max_examples=examples(60))
@given(
    length=st.integers(1, 2500),
    bits=st.sampled_from([0, 1, 9, 13, 16, 17, 18, 24, 25, 26, 34, 35, 36, 46, 47]),
    slack=st.integers(0, 1),
    seed=st.integers(0, 1 << 32),
    extreme=st.booleans(),
)
def test_the_tag_is_the_formula_of_the_specification(
    *, length: int, bits: int, slack: int, seed: int, extreme: bool
) -> None:
    bound = max(0, (1 << bits) - 1 - slack)
    chance = np.random.default_rng(seed)
    values = chance.choice([-bound, bound], length) if extreme else chance.integers(-bound, bound + 1, length)
    expected = (formula(values, *keys_of(GROUP, b"ctx", length)) + pad_of(3)) % P
    for dtype in (np.int16, np.int32, np.int64):
        if bound <= np.iinfo(dtype).max:
            assert RoundTag(GROUP, b"ctx", length, bound=bound).share(values.astype(dtype), 3) == expected


@pytest.mark.parametrize("bits", range(1, 48))
def test_no_sum_is_rounded_in_the_worst_case(bits: int) -> None:
    """Every limb of every key at its largest, every coordinate at an end of its range, an odd number in a row."""
    length, bound = 3 * COLUMNS, (1 << bits) - 1
    keys = RoundTag(GROUP, b"ctx", length, bound=bound)
    for column in keys._columns:
        column[:] = (1 << keys._key_limb) - 1
    keys._rows[:] = (1 << 16) - 1
    values = np.full(length, bound)
    values[COLUMNS : 2 * COLUMNS] *= -1
    values[2 * COLUMNS :: 2] *= -1
    values[5::COLUMNS] = 0
    column_key = sum(((1 << keys._key_limb) - 1) << (keys._key_limb * i) for i in range(len(keys._columns)))
    assert column_key >= (1 << 52) - 1
    # With two limbs of v the high one is odd here, too.
    inner = np.sign(values) * (bound - (1 << keys._units[-1] >> 1))
    for part in (values, np.abs(values), -np.abs(values), inner, np.abs(inner)):
        product = sum(part.tolist()) * column_key * ((1 << 128) - 1)
        assert keys.share(part, 3) == (product + pad_of(3)) % P


def test_no_sum_over_rows_is_rounded_in_the_worst_case() -> None:
    """32,768 rows, each with the largest sums and the largest key."""
    rows = 1 << 15
    keys = RoundTag(GROUP, b"ctx", rows * COLUMNS, bound=LIMIT)
    keys._rows[:] = (1 << 16) - 1
    units = [18 * i + high for high in keys._units for i in range(3)]
    bits = 0x15555555555555
    sums = np.array([bits, -bits, (1 << 53) - 1, bits, -bits, 1 - (1 << 53)], dtype=np.float64)
    lines = np.repeat(sums[:, None] * 2.0 ** np.array([[0]] * 3 + [[26]] * 3), rows, axis=1)
    lines[:, -1] = 0  # an odd number of odd terms
    product = (rows - 1) * ((1 << 128) - 1) * sum(int(value) << unit for value, unit in zip(sums, units, strict=True))
    assert keys._combine(lines, units) == product


@pytest.mark.parametrize("length", [1, 1024, 1025, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 70_000])
@pytest.mark.parametrize("bound", [(1 << 15) - 1, LIMIT])
def test_every_row_counts_whatever_the_blocks(length: int, bound: int) -> None:
    values = np.random.default_rng(length).integers(-bound, bound, length)
    expected = (formula(values, *keys_of(GROUP, b"ctx", length)) + pad_of(1)) % P
    assert RoundTag(GROUP, b"ctx", length, bound=bound).share(values, 1) == expected


@pytest.mark.parametrize("backend", [CTR, GCM], ids=["ctr", "gcm"])
def test_the_backend_does_not_matter(backend: Backend) -> None:
    values = np.arange(-1500, 1500)
    keys = RoundTag(GROUP, b"ctx", 3000, bound=1500, backend=backend)
    assert keys.share(values, 2) == RoundTag(GROUP, b"ctx", 3000, bound=LIMIT).share(values, 2)


@settings(deadline=None, max_examples=examples(40))
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 1 << 32))
def test_shares_add_up_to_the_tag_of_the_sum(sites: Any, length: int, seed: int) -> None:
    uploads = np.random.default_rng(seed).integers(-(1 << 44), 1 << 44, (sites, length))
    keys = RoundTag(GROUP, b"ctx", length, bound=sites << 44)
    word = sum(keys.share(vector, member) for member, vector in enumerate(uploads, 1))
    assert word < 1 << 64
    assert keys.reduce(word) == keys.expected(uploads.sum(axis=0), range(1, sites + 1))


def test_keys_and_pads_are_fresh_per_context_and_member() -> None:
    values = np.ones(5, dtype=np.int64)
    shares = {
        RoundTag(group, context, 5, bound=1).share(values, member)
        for group in (GROUP, b"H" * 32)
        for context in (b"1", b"2")
        for member in (1, 2)
    }
    assert len(shares) == 8


def test_255_tags_do_not_wrap_a_word() -> None:
    assert 255 * (P - 1) < 1 << 64


def test_p_is_prime_and_larger_than_a_difference_of_two_sums() -> None:
    assert P == 2**56 - 5
    assert P > 2 * 2**47
    assert all(pow(base, P - 1, P) == 1 for base in (2, 3, 5, 7, 11, 13))


@pytest.mark.parametrize("change", [1, -1, 1 << 16, 1 << 46])
@pytest.mark.parametrize("place", [0, 1, 1023, 1024, 1999])
def test_no_change_of_one_coordinate_passes(change: Any, place: int) -> None:
    values = np.zeros(2000, dtype=np.int64)
    keys = RoundTag(GROUP, b"ctx", 2000, bound=LIMIT)
    changed = values.copy()
    changed[place] += change
    assert keys.expected(changed, [1, 2]) != keys.expected(values, [1, 2])


def test_what_cannot_be_tagged_is_refused() -> None:
    for bound in (LIMIT + 1, P, -1):
        with pytest.raises(MisuseError, match="the limit is 2\\^47"):
            RoundTag(GROUP, b"ctx", 3, bound=bound)
    with pytest.raises(MisuseError, match="at most 2\\^30"):
        RoundTag(GROUP, b"ctx", (1 << 30) + 1, bound=1)
    keys = RoundTag(GROUP, b"ctx", 3, bound=1)
    for other in (2, 4):
        with pytest.raises(MisuseError, match="a tag over 3 coordinates"):
            keys.share(np.zeros(other, dtype=np.int64), 1)


def test_doctests() -> None:
    assert doctest.testmod(tag).failed == 0
