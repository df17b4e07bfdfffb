"""Whole federations in memory: whatever happens, decoded sums equal plain integer sums."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secagg import Stop
from tests.federation import Federation, Study, complete, manifest


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(3, 8),
    c=st.integers(1, 2),
    length=st.integers(1, 40),
    bits=st.sampled_from([21, 32, 64]),
    seed=st.integers(0, 1 << 32),
)
def test_sums_are_bit_exact(n: int, c: int, length: int, bits: int, seed: int) -> None:
    c = min(c, n - 2)
    bound = (1 << (min(bits, 47) - 1)) - 1
    study = Study(steps=2, length=length, bound=bound, scale=bound // n)
    federation = Federation(manifest(n, c, lane_bits=bits), study, seed=seed)
    federation.start()
    complete(federation)


events = st.lists(
    st.tuples(st.sampled_from(["kill", "disconnect", "restart", "deadline"]), st.integers(1, 6), st.integers(0, 40)),
    max_size=6,
)


@settings(deadline=None, max_examples=18, suppress_health_check=[HealthCheck.too_slow])
@given(events=events, seed=st.integers(0, 1 << 32))
def test_whatever_fails_every_sum_is_exact_and_every_history_one(events: Any, seed: int) -> None:
    """Sites are killed, streams break, the coordinator restarts, deadlines pass: at any moment."""
    federation = Federation(manifest(6), Study(steps=4), seed=seed)
    federation.start()
    for kind, member, patience in events:
        for _ in range(patience):
            federation.step()
        if federation.stopped:
            break
        match kind:
            case "kill" if member in federation.up:
                federation.kill(member)
                federation.start(member)
            case "disconnect" if member in federation.up:
                federation.disconnect(member)
                federation.connect(member)
            case "restart":
                federation.restart_server()
            case "deadline" if federation.timer == "round":
                federation.deadline()
    federation.run()
    while federation.timer and not federation.stopped:
        federation.deadline()
        federation.run()
    federation.check()
    assert federation.stopped
    assert not any(site.error for site in federation.sites.values())
    if federation.stopped == Stop("complete", ok=True):
        assert len(federation.sums) == 4
        assert {site.client.sums for site in federation.sites.values()} == {4}
    else:
        # The only way not to end well: sites away at a time when the study allows no other roster.
        assert federation.server._changes >= federation.manifest.roster_changes - 1, federation.stopped


@pytest.mark.parametrize("n", [3, 10, 16])
def test_a_large_vector(n: int) -> None:
    federation = Federation(manifest(n), Study(steps=1, length=5000))
    federation.start()
    complete(federation)
