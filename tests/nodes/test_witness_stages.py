"""A process on a restored disk that is led along another history: no stage is summed more often than it has uploads.

With n + c odd two rosters may share nobody but the site and the liars. So a coordinator may show a restored process a
history of its own, with peers that were absent before, and nobody's masks object. What objects is the receipt of a peer
that has uploaded beside the earlier process: it names the stage, and a round that would begin it again does not follow.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.windows import Placed, place
from tests.nodes.restored import STAGES, Process, World, begun, short_stage_again
from tests.nodes.test_witness_copies import Step, roster
from tests.nodes.witnesses import Net, consortium

ODD = [(4, 1), (6, 1), (5, 2), (5, 0)]  # n + c odd: halves of the honest peers that have nobody in common


def numbers_alone(one: Placed, other: Placed) -> bool:
    return one.round > other.round


def stages_alone(one: Placed, other: Placed) -> bool:
    return one.round > other.round and one.stage >= other.stage


@pytest.mark.parametrize("size", ODD)
def test_a_short_stage_is_not_opened_again_along_another_history(size: tuple[int, int]) -> None:
    world = World(*size)
    assert not set(world.honest[: world.least]) & set(world.honest[-world.least :])
    assert not short_stage_again(world)
    assert not world.overdrawn()


@pytest.mark.parametrize("weaker", [numbers_alone, stages_alone])
def test_it_is_if_receipts_name_the_round_alone_or_no_start(
    weaker: Callable[[Placed, Placed], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control of the test above."""
    monkeypatch.setattr(Placed, "follows", weaker)
    world = World(4, 1)
    assert short_stage_again(world)
    assert world.overdrawn() == ["breslow"]


def test_the_long_stage_is_not_gone_on_with_either() -> None:
    """Round 4 is in its window still, if no sum is known; but a later stage has been opened."""
    world = World(4, 1)
    copy = world.start(begun(world).disk, ())
    world.ask(copy)
    assert copy.place(4) == Placed(4, 0, 0)
    assert not world.round(4, copy, world.honest[-1])


def test_with_the_true_history_a_restored_process_goes_on() -> None:
    """Restored to before everything, it fetches the sums that there were; no history but this one does."""
    world = World(4, 1)
    first = begun(world)
    copy = world.start(first.disk, ())
    world.ask(copy)
    for each in (copy, world.peers[world.honest[-1]]):
        for number, content in (*first.history, (3, "withheld until now")):
            each.accept(number, content)
    assert world.summed(4, copy, world.honest[-1])
    assert world.opened[4, copy.history[:-1]] == Placed(4, 2, 3)


def test_a_peer_that_has_started_anew_names_the_stage_from_its_own_sums() -> None:
    world = World(4, 1)
    first = begun(world)
    seen = world.honest[0]
    world.peers[seen] = world.peers[seen].again()
    world.acquaint()
    copy = world.start(first.disk, ())
    world.ask(copy)
    assert copy.witness._receipts[seen] == Placed(3, 1, 2)
    assert not world.round(5, copy, world.honest[-1])


def attack(world: World, chance: random.Random, steps: int) -> None:
    """Lead a process along with half of the peers for a while, then another one, or one on its restored disk."""
    (process,) = world.processes
    halves = world.honest[: world.least], world.honest[-world.least :]
    half = halves[0]
    world.ask(process)
    for _ in range(steps):
        several = [process, *(world.peers[member] for member in half)]
        number = max(each.last_round for each in several) + chance.choice((1, 1, 1, 2))
        match chance.choice(("summed",) * 6 + ("round", "round", "forge", "switch", "restore", "restart", "ask")):
            case "summed":
                world.summed(number, process, *half)
            case "round":
                world.round(number, process, *half)
            case "forge":  # liars know the key of the tags
                content = f"forged {chance.random()}"
                for each in several:
                    each.accept(number, content)
            case "switch":
                process, half = chance.choice(world.processes), chance.choice(halves)
            case "restore" if len(world.processes) < 4:
                half = chance.choice(halves)
                shared = process.history[: chance.choice((0, len(world.peers[half[0]].history)))]
                process = world.start(process.disk, shared)
                world.ask(process)
            case "restart":
                member = chance.choice(half)
                world.peers[member] = world.peers[member].again()
                world.acquaint()
                world.ask(process, member)
            case "ask":
                world.ask(process)


def attacked(size: tuple[int, int], seed: int) -> list[str]:
    world = World(*size)
    attack(world, random.Random(seed), 40)
    numbers = [number for number, _ in world.opened]
    assert len(set(numbers)) == len(numbers)
    return world.overdrawn()


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([*ODD, (5, 1), (3, 1)]), st.integers(0, 2**32))
def test_whatever_is_restored_and_forged_no_stage_has_more_sums_than_uploads(size: tuple[int, int], seed: int) -> None:
    assert not attacked(size, seed)


@pytest.mark.slow
@pytest.mark.parametrize("size", [*ODD, (5, 1), (3, 1)])
def test_no_stage_has_more_sums_than_uploads_in_many_attacks(size: tuple[int, int]) -> None:
    assert not any(attacked(size, seed) for seed in range(60))


@pytest.mark.slow
@pytest.mark.parametrize("weaker", [numbers_alone, stages_alone])
def test_some_attack_succeeds_without_the_rule(
    weaker: Callable[[Placed, Placed], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control of the two tests above."""
    monkeypatch.setattr(Placed, "follows", weaker)
    assert any(attacked((4, 1), seed) for seed in range(60))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_an_honest_coordinator_never_has_a_site_held_back(seed: int) -> None:
    """Rounds that open or not, sites that are away or start anew: whoever has all sums and receipts uploads."""
    chance = random.Random(seed)
    disks, truth = consortium(4), list[tuple[int, str]]()
    sites = {member: Process(member, disks[member], 4, 1) for member in disks}
    for number in range(1, 9):
        for member in chance.sample(range(4), chance.randrange(3)):
            disks[member].book.grow(1)
            sites[member] = sites[member].again()
        here = {member: sites[member] for member in chance.sample(range(4), chance.choice((3, 4)))}
        Net({member: each.witness for member, each in sites.items()}).ask()
        for each in here.values():
            for total in truth[len(each.history) :]:
                each.accept(*total)
        step = Step(number, len(truth), roster(*(each.witness for each in here.values())))
        if place(STAGES, [each for each, _ in truth], number).stage == len(STAGES):
            return
        answers = [each.upload(step) for each in here.values() if each.member % 4 or chance.random() < 0.9]
        assert all(answers)
        if len(answers) == len(here) and chance.random() < 0.7:
            truth.append((number, f"sum {number}"))
