"""Where a round stands: as the door walks, and such that rounds which follow one another fit into what is reserved."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dp.errors import UploadsExhausted
from nodes.document import Stage
from nodes.door import Door
from nodes.windows import Placed, place

counts = st.tuples(st.integers(1, 4), st.integers(0, 3)).map(lambda pair: (pair[0], sum(pair)))
studies = st.lists(counts, min_size=1, max_size=4).map(
    lambda found: [Stage(f"stage-{i}", "training", *each, 1, 1.0, 1.0) for i, each in enumerate(found)]
)
numbers = st.lists(st.integers(1, 24), max_size=8, unique=True).map(sorted)


def walked(stages: list[Stage], sums: list[int], number: int) -> Placed:
    """What the production door finds, when a model asks for all sums of all stages, one after the other."""
    study: Any = SimpleNamespace(manifest=lambda: None, sites=())
    nobody: Any = None
    door = Door(study, nobody, nobody, nobody, noise_secret=b"")
    heads = [*sums, number]
    for position, stage in enumerate(stages):
        door._enter(stage)
        for _ in range(stage.steps):
            try:
                door._check_window(stage, heads[0])
            except UploadsExhausted:
                break
            if len(heads) == 1:
                return Placed(number, position, door._start)
            door._last_sum = heads.pop(0)
    return Placed(number, len(stages), max(door._start, door._last_sum))


@given(studies, numbers, st.integers(1, 30))
def test_a_round_stands_where_the_door_uploads_for_it(stages: list[Stage], sums: list[int], number: int) -> None:
    sums = [each for each in sums if each < number and place(stages, [], each).stage < len(stages)]
    placed, door = place(stages, sums, number), walked(stages, sums, number)
    assert placed.stage == door.stage
    assert placed.stage == len(stages) or placed == door


@given(studies, numbers, numbers)
def test_whoever_goes_on_from_its_own_sums_follows_itself(
    stages: list[Stage], sums: list[int], rounds: list[int]
) -> None:
    """Rounds that are lost, skipped, or opened before an earlier one's sum is known: nothing goes back."""
    assume(len(rounds) > 1)
    known = 0
    visited = []
    for index, number in enumerate(rounds):
        # Of the sums up to here some more may have arrived: here every second one, with its round.
        known = max(known, sum(each < number for each in sums) - index % 2)
        visited.append(place(stages, sums[:known], number))
    assert all(later.follows(earlier) for earlier, later in pairwise(visited))
    assert visited[-1].follows(visited[0])


@given(studies, st.lists(st.tuples(numbers, st.integers(1, 24)), max_size=12))
def test_rounds_that_follow_one_another_fit_into_their_stages(
    stages: list[Stage], found: list[tuple[list[int], int]]
) -> None:
    """Whatever histories they come from: that is all a restored process has to obey."""
    row: list[Placed] = []
    for sums, number in sorted(found, key=lambda each: each[1]):
        here = place(stages, [each for each in sums if each < number], number)
        if not row or here.follows(row[-1]):
            row.append(here)
    for stage, times in Counter(each.stage for each in row).items():
        assert stage == len(stages) or times <= stages[stage].uploads


@pytest.mark.parametrize(
    ("later", "follows"),
    [
        (Placed(5, 1, 3), False),  # the same number
        (Placed(6, 0, 0), False),  # an earlier stage
        (Placed(6, 1, 3), True),
        (Placed(6, 1, 2), True),  # its window ends earlier
        (Placed(6, 1, 4), False),  # the same stage, begun again
        (Placed(6, 2, 5), True),
    ],
)
def test_what_follows(later: Placed, *, follows: bool) -> None:
    assert later.follows(Placed(5, 1, 3)) is follows
