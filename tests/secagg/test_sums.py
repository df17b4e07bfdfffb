"""Whole federations in memory: whatever happens, decoded sums equal plain integer sums."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secagg import Mode, Stop
from secagg.collecting import Consenting, Revealing
from secagg.messages import Bundle
from tests.federation import Federation, Study, complete, held, manifest, recording
from tests.sweeps import examples, thinned


@settings(deadline=None, max_examples=examples(16), suppress_health_check=[HealthCheck.too_slow])
@given(
    mode=st.sampled_from(Mode),
    n=st.integers(3, 8),
    c=st.integers(1, 2),
    length=st.integers(1, 40),
    bits=st.sampled_from([21, 32, 64]),
    seed=st.integers(0, 1 << 32),
)
def test_sums_are_bit_exact(mode: Mode, n: int, c: int, length: int, bits: int, seed: int) -> None:
    c = min(c, n - 2)
    bound = (1 << (min(bits, 47) - 1)) - 1
    study = Study(steps=2, length=length, bound=bound, scale=bound // n)
    federation = Federation(manifest(n, c, lane_bits=bits, mode=mode), study, seed=seed)
    federation.start()
    complete(federation)


STUDY = Study(steps=4)
KINDS = ["kill", "kill", "start", "disconnect", "restart", "deadline", "deadline", "late", "twice"]

scripts = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 6), st.integers(0, 40)), max_size=12)


class Script:
    """A federation on wires that a script disturbs.

    Args:
        mode: of the run.
        absent: members that are not there when the run begins.
        seed: order in which the wires deliver.
    """

    def __init__(self, mode: Mode, absent: set[int], seed: int) -> None:
        self.made = Federation(manifest(6, mode=mode), STUDY, seed=seed, to_server=self.arrive, strict=False)
        self.hold: set[int] = set()  # of these members the next message comes late
        self.repeat: set[int] = set()  # of these it comes twice
        self.held: list[tuple[int, Any]] = []
        self.made.start(*(member for member in self.made.manifest.indices if member not in absent))

    def arrive(self, member: int, message: Any) -> list[Any]:
        # Set-up does without: a stream that loses a message breaks, and then all of it comes again.
        if member in self.hold and not isinstance(message, Bundle) and self.made.rounds:
            self.hold.discard(member)
            self.held.append((member, message))
            return []
        if member in self.repeat:
            self.repeat.discard(member)
            return [message, message]
        return [message]

    def play(self, kind: str, member: int, pause: int) -> None:  # noqa: C901  # one case per event
        made = self.made
        for _ in range(pause):
            made.step()
            assert len(made.server._here.sessions) <= 6
        match kind:
            case _ if made.stopped:
                pass
            case "kill" if member in made.up:
                made.kill(member)
            case "start" if member not in made.sites:
                made.start(member)
            case "disconnect" if member in made.up:
                made.disconnect(member)
                made.connect(member)
            case "restart":
                made.restart_server()
            case "deadline" if made.timer == "round" or made.server._waves.enough({}):
                made.deadline()
            case "late" if self.held:
                late, message = self.held.pop()
                if late in made.up:
                    made.deliver(late, message)
            case "late":
                self.hold.add(member)
            case "twice":
                self.repeat.add(member)

    def end(self) -> None:
        """Bring everybody back, and let every timer fire that is left."""
        made = self.made
        self.hold.clear()
        while self.held and not made.stopped:
            self.play("late", 0, 0)
        for member in made.manifest.indices:
            if member not in made.sites:
                made.start(member)
        made.run()
        while made.timer and not made.stopped:
            made.deadline()
            made.run()


@pytest.mark.parametrize("mode", Mode)
@settings(deadline=None, max_examples=examples(15), suppress_health_check=[HealthCheck.too_slow])
@given(script=scripts, absent=st.sets(st.integers(1, 6), max_size=1), seed=st.integers(0, 1 << 32))
def test_whatever_fails_every_sum_is_exact_and_every_history_one(
    mode: Mode, script: Any, absent: set[int], seed: int
) -> None:
    """Sites die and return, streams break, messages come twice or late, the coordinator restarts, deadlines pass."""
    with recording() as uses:
        played = Script(mode, absent, seed)
        for event in script:
            played.play(*event)
        assert held(played.made.server) < 150_000
        played.end()
    made = played.made
    uses.check()
    made.check()
    assert made.stopped
    assert not any(site.error for site in made.sites.values())
    asked = [each.number for each in made.rounds]
    assert asked == sorted(asked)
    assert made.server._here.changes <= made.manifest.roster_changes
    assert max(site.client._progress.changes for site in made.sites.values()) <= made.server._here.changes
    if made.stopped == Stop("complete", ok=True):
        assert len(made.sums) == STUDY.steps
        # A member whose set-up was not complete in time has no sum: it could not check any.
        assert {made.sites[member].client.sums for member in made.server._waves.ready} == {STUDY.steps}
    else:
        # The only way not to end well: sites away at a time when the study allows no other roster.
        assert made.server._here.changes >= made.manifest.roster_changes - 1, made.stopped
        assert "in vain" in made.stopped.reason or "in time" in made.stopped.reason


def test_the_scripts_get_as_far_as_every_stage_of_mode_b() -> None:
    """What the scripts above disturb is not only uploads."""
    disturbed = set()
    for seed in range(60):
        chance = random.Random(seed)
        played = Script(Mode.B, set(), seed)
        for _ in range(8):
            phase = type(played.made.server._phase)
            played.play(chance.choice(KINDS), chance.randint(1, 6), chance.randint(0, 40))
            disturbed.add(phase)
        if {Consenting, Revealing} <= disturbed:
            return
    raise AssertionError(disturbed)


@pytest.mark.parametrize("n", thinned([3, 10, 16]))
@pytest.mark.parametrize("mode", Mode)
def test_a_large_vector(mode: Mode, n: int) -> None:
    federation = Federation(manifest(n, mode=mode), Study(steps=1, length=5000), chunk=1 << 14)
    federation.start()
    complete(federation)
