"""A site drops out between any two messages of a run, in both modes: nobody crashes, every sum is exact."""

import pytest

from secagg import Stop
from secagg.manifest import Mode
from tests.federation import Federation, Study, manifest

pytestmark = pytest.mark.slow

OF = {mode: manifest(5, 1, mode=mode, minimum_roster=4) for mode in Mode}
STUDY = Study(steps=2)


def settle(federation: Federation) -> None:
    """Let everything happen that still can, deadlines included, and insist on a good or a named end."""
    for _ in range(50):
        federation.run()
        if federation.stopped:
            break
        assert federation.timer, "nothing moves and no timer runs"
        federation.deadline()
    assert isinstance(federation.stopped, Stop)
    assert federation.stopped.reason
    federation.check()
    for member, site in federation.sites.items():
        assert site.error is None, (member, site.error)
        assert site.reason == federation.stopped.reason


def length(mode: Mode) -> int:
    """How many messages an undisturbed run delivers."""
    federation = Federation(OF[mode], STUDY)
    federation.start()
    count = 0
    while federation.step():
        count += 1
    assert federation.stopped == Stop("complete", ok=True)
    return count


def broken(mode: Mode, index: int) -> tuple[Federation, int]:
    """A run in which one site is killed after `index` messages; over all indices each site in each stage."""
    federation = Federation(OF[mode], STUDY, seed=index // 5)
    federation.start()
    for _ in range(index):
        federation.step()
    victim = 1 + index % 5
    federation.kill(victim)
    return federation, victim


CASES = [pytest.param(mode, index, id=f"{mode}-{index}") for mode in Mode for index in range(length(mode) + 1)]


@pytest.mark.parametrize(("mode", "index"), CASES)
def test_drop_between_any_two_messages(mode: Mode, index: int) -> None:
    """It stays away. Four are enough for all sums; in mode B no round that has begun is lost by one who drops.

    Set-up needs everybody whose keys it has begun with: without one of them the run ends with a sentence.
    """
    federation, _ = broken(mode, index)
    begun = bool(federation.rounds)
    settle(federation)
    assert isinstance(federation.stopped, Stop)
    assert federation.stopped.ok or not begun
    assert len(federation.sums) == (STUDY.steps if federation.stopped.ok else 0)
    if mode is Mode.B:
        opened = [each.round for each in federation.sums]
        begun = {each.number for each in federation.rounds}
        assert opened == sorted(begun)[: len(opened)]
    for total in federation.sums:
        assert len(total.survivors) >= 4


@pytest.mark.parametrize(("mode", "index"), CASES[::3])
def test_drop_and_return_between_any_two_messages(mode: Mode, index: int) -> None:
    """It comes back at once, from its disk: nothing is masked twice, and it ends with the history of all."""
    federation, victim = broken(mode, index)
    federation.start(victim)
    settle(federation)
    assert federation.stopped == Stop("complete", ok=True)
    assert federation.sites[victim].client.sums == STUDY.steps
    rounds = [upload.round for upload in federation.disks[victim].uploads]
    assert len(rounds) == len(set(rounds))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "index"), CASES)
def test_two_drop_between_any_two_messages(mode: Mode, index: int) -> None:
    """Three are too few: whatever was summed is exact, and the run ends with a sentence."""
    federation, victim = broken(mode, index)
    for _ in range(index % 7):
        federation.step()
    if not federation.stopped:
        federation.kill(1 + victim % 5)
    settle(federation)


def test_the_harness_would_notice() -> None:
    """A site that hears nothing of the end has another end than the run."""
    federation = Federation(OF[Mode.A], STUDY, to_site=lambda member, message: [] if member == 1 else [message])
    federation.start()
    with pytest.raises(AssertionError):
        settle(federation)
