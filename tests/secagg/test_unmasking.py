"""From masked uploads of the survivors to their sum: masks laid on by hand and taken off by the server."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import MisuseError, masks
from secagg.keys import Label, derive
from secagg.shamir import split
from secagg.unmasking import open_sum
from tests.federation import entropy

ROSTER = (1, 2, 4, 7, 9, 200)
T = 4


class Round:
    """Uploads of a whole roster, masked here from the specification, word by word."""

    def __init__(self, length: int, seed: str = "round") -> None:
        draw = entropy(seed)
        chance = np.random.default_rng(len(seed) + length)
        self.plain = {u: chance.integers(0, 1 << 64, length, dtype=np.uint64) for u in ROSTER}
        for vector in self.plain.values():
            vector[-1] = 1
        self.pairs = {(u, v): draw(64) for u in ROSTER for v in ROSTER if u < v}
        seeds = {u: draw(32) for u in ROSTER}
        self.shares = {u: split(seeds[u], T, ROSTER, draw) for u in ROSTER}
        self.masked = {u: self._mask(u, seeds[u]) for u in ROSTER}

    def _mask(self, u: int, seed: bytes) -> Any:
        words = self.plain[u] + masks.expand(derive(seed, Label.SELF_MASK), len(self.plain[u]))
        for (low, high), keys in self.pairs.items():
            if u in (low, high):
                data, canary = masks.expand(keys[:32], len(words) - 1), masks.expand(keys[32:], 1)
                stream = np.append(data, canary)
                words += stream if u == low else -stream
        return words

    def added(self, survivors: Any) -> Any:
        return sum((self.masked[u] for u in survivors), np.zeros(len(self.plain[1]), dtype=np.uint64))

    def expected(self, survivors: Any) -> Any:
        return sum((self.plain[u] for u in survivors), np.zeros(len(self.plain[1]), dtype=np.uint64))

    def held(self, holders: Any, survivors: Any) -> dict[int, dict[int, bytes]]:
        return {holder: {u: self.shares[u][holder] for u in survivors} for holder in holders}

    def keys(self, survivors: Any) -> dict[int, dict[int, bytes]]:
        dropped = set(ROSTER) - set(survivors)
        return {u: {d: self.pairs[min(u, d), max(u, d)] for d in dropped} for u in survivors}


def test_nothing_but_the_keys_opens_it() -> None:
    made = Round(9)
    assert not np.array_equal(made.added(ROSTER), made.expected(ROSTER))


@pytest.mark.parametrize("backend", [masks.CTR, masks.GCM])
@given(
    survivors=st.sets(st.sampled_from(ROSTER), min_size=T), length=st.integers(3, 40), holders=st.permutations(ROSTER)
)
def test_every_set_of_survivors_opens_exactly(backend: Any, survivors: set[int], length: int, holders: Any) -> None:
    made, alive = Round(length), tuple(sorted(survivors))
    holding = [each for each in holders if each in survivors][: T + length % 2] if survivors == set(ROSTER) else alive
    words = made.added(alive)
    open_sum(words, ROSTER, alive, T, made.held(holding, alive), made.keys(alive), backend)
    assert np.array_equal(words, made.expected(alive))
    assert words[-1] == len(alive)


def test_t_of_the_shares_are_enough_and_further_ones_are_not_read() -> None:
    made = Round(5)
    shares = made.held(ROSTER, ROSTER)
    shares[200] = dict.fromkeys(ROSTER, bytes(32))
    words = made.added(ROSTER)
    open_sum(words, ROSTER, ROSTER, T, shares, {})
    assert np.array_equal(words, made.expected(ROSTER))


@pytest.mark.parametrize("alive", [ROSTER, (1, 2, 7, 9, 200)])
def test_one_wrong_share_leaves_noise(alive: tuple[int, ...]) -> None:
    made = Round(400)
    shares = made.held(alive, alive)
    shares[2][7] = bytes(32)
    words = made.added(alive)
    open_sum(words, ROSTER, alive, T, shares, made.keys(alive))
    assert words[-1] != len(alive)
    assert np.count_nonzero(words == made.expected(alive)) < 3


@pytest.mark.parametrize(("position", "spoiled"), [(0, slice(None, -1)), (63, slice(-1, None))])
def test_one_wrong_key_spoils_what_it_masks(position: int, spoiled: slice) -> None:
    made, alive = Round(400), (1, 2, 7, 9, 200)
    keys = made.keys(alive)
    keys[7][4] = keys[7][4][:position] + bytes([keys[7][4][position] ^ 1]) + keys[7][4][position + 1 :]
    words = made.added(alive)
    open_sum(words, ROSTER, alive, T, made.held(alive, alive), keys)
    right = words == made.expected(alive)
    assert not right[spoiled].any()
    assert np.count_nonzero(right) == 400 - len(range(*spoiled.indices(400)))


def test_what_is_missing_is_said_before_anything_changes() -> None:
    made, alive = Round(5), (1, 2, 4, 7, 9)
    shares, keys = made.held(alive, alive), made.keys(alive)
    words = made.added(alive)
    before = words.copy()
    lacking = {holder: {u: share for u, share in held.items() if u != 9} for holder, held in shares.items()}
    for given_shares, given_keys in (
        (made.held(alive[:3], alive), keys),
        (lacking, keys),
        (shares, {}),
        (shares, {**keys, 4: {}}),
        (shares, {u: each for u, each in keys.items() if u != 4}),
    ):
        with pytest.raises(MisuseError, match="needed"):
            open_sum(words, ROSTER, alive, T, given_shares, given_keys)
        assert np.array_equal(words, before)
