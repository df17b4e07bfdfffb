from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import tag
from secagg.masks import Keystream
from secagg.tag import COLUMNS, P, RoundTag

GROUP = b"G" * 32
LIMIT = (1 << 47) - 1


def keys_of(group: bytes, context: bytes, length: int) -> tuple[list[int], list[int]]:
    """Column and row keys once more, in plain integers."""
    stream = Keystream(tag.derive(group, tag.Label.TAG, context))
    columns = [int.from_bytes(stream(8), "little") % (1 << 52) for _ in range(COLUMNS)]
    rows = [int.from_bytes(stream(16), "big") % P for _ in range(-(-length // COLUMNS))]
    return columns, rows


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 2500), st.integers(0, 1 << 32), st.booleans())
def test_the_tag_is_the_formula_of_the_specification(length: int, seed: int, extreme: bool) -> None:
    chance = np.random.default_rng(seed)
    values = chance.choice([-LIMIT, LIMIT], length) if extreme else chance.integers(-LIMIT, LIMIT, length)
    columns, rows = keys_of(GROUP, b"ctx", length)
    product = sum(rows[j // COLUMNS] * columns[j % COLUMNS] * int(v) for j, v in enumerate(values))
    pad = int.from_bytes(tag.derive(GROUP, tag.Label.TAG_PAD, b"ctx", 3), "big")
    assert RoundTag(GROUP, b"ctx", length).share(values, 3) == (product + pad) % P


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 1 << 32))
def test_shares_add_up_to_the_tag_of_the_sum(sites: Any, length: int, seed: int) -> None:
    uploads = np.random.default_rng(seed).integers(-(1 << 44), 1 << 44, (sites, length))
    keys = RoundTag(GROUP, b"ctx", length)
    word = sum(keys.share(vector, member) for member, vector in enumerate(uploads, 1))
    assert word < 1 << 64
    assert keys.reduce(word) == keys.expected(uploads.sum(axis=0), range(1, sites + 1))


def test_keys_and_pads_are_fresh_per_context_and_member() -> None:
    values = np.ones(5, dtype=np.int64)
    shares = {
        RoundTag(group, context, 5).share(values, member)
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


@pytest.mark.parametrize("change", [1, -1, 1 << 46, P])
def test_no_change_of_one_coordinate_passes(change: Any) -> None:
    values = np.zeros(3, dtype=np.int64)
    keys = RoundTag(GROUP, b"ctx", 3)
    changed = values.copy()
    changed[1] += change
    honest = keys.expected(values, [1, 2])
    # A change by p itself passes the tag and nothing else: it is the range check that stops it.
    assert (keys.expected(changed, [1, 2]) == honest) == (change == P)
