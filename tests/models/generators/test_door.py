"""How a generator's learner asks for sums."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from dp.errors import UploadsExhausted
from dp.queries import Account, Float64, Query
from models.generators.door import Door

QUERY = Query("sum", 0, 3, 2.0, 5.0, Account.TRAINING, 100)


class Sums:
    """A secure sum of one site that has so many uploads."""

    def __init__(self, uploads: int) -> None:
        self.asked: list[Query] = []
        self._uploads = uploads

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        if len(self.asked) == self._uploads:
            raise UploadsExhausted(query.kind)
        self.asked.append(query)
        return contribution()


def test_every_sum_is_asked_about_all_before_it() -> None:
    sums, told = Sums(3), []
    door = Door(b"settings", sums, 1.0, lambda done, digest: told.append((done, digest)))
    state, states = b"settings", []
    for number in range(3):
        found = door(QUERY, lambda number=number: np.full(3, float(number)))  # type: ignore[misc]
        state = hashlib.sha256(state + found.astype("<f8").tobytes()).digest()
        states.append(state)

    assert sums.asked == [QUERY, QUERY.about(states[0]), QUERY.about(states[1])]
    assert told == [(number + 1, each.hex()) for number, each in enumerate(states)]


def test_what_is_exhausted_says_nothing_and_changes_nothing() -> None:
    sums, told = Sums(1), []
    door = Door(b"settings", sums, 1.0, lambda done, _: told.append(done))

    assert door.tried(QUERY, lambda: np.ones(3)) is not None
    assert door.tried(QUERY, lambda: np.ones(3)) is None
    with pytest.raises(UploadsExhausted):
        door(QUERY, lambda: np.ones(3))
    assert told == [1]


def test_noise_is_taken_for_what_it_may_be_at_most() -> None:
    assert Door(b"", Sums(0), 1.5, None).noise_sd(QUERY) == 1.5 * 5.0 * 2.0
