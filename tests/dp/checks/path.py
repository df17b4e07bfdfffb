"""Residuals of sums that came through the production path: client, server, session, door, lattice and noise.

What is known is taken off what came out; the rest must be the noise that was charged (`audits.mechanism`). A right path
is called wrong once in a thousand runs, so that a path is called wrong here only if two runs of it are.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

ROUNDS = 10
LENGTH = 500
"""5,000 residuals: one share of six missing is 8.7 % less noise, and 6 % is seen in 99 of 100 runs."""


def path(**changes: Any) -> Any:
    from nodes.rehearsal import Rehearsal

    return Rehearsal(**{"sites": 6, "length": LENGTH} | changes)


def contributions(of: Any, rounds: int = ROUNDS) -> Any:
    """Half of the rounds nothing, in the others fractions of a step and of a clip norm."""
    chance = np.random.default_rng(1)
    known = chance.uniform(-1, 1, (rounds, of.sites, of.length)) * of.clip / np.sqrt(of.length)
    known[::2] = 0.0
    return known


def conforms(of: Any, rounds: int = ROUNDS) -> None:
    from audits.mechanism import conformance, detectable_deficit

    known = contributions(of, rounds)
    missing_share = 1 - np.sqrt(1 - 1 / of.sites)
    assert detectable_deficit(rounds * of.length) < missing_share
    for _ in range(2):
        found = conformance(of.run(known), known)
        if found.conforms and found.multiplier.high >= of.multiplier:
            return
    raise AssertionError([test for test in found.tests if test.rejected] or found.multiplier)


def the_wide_lattice_adds_the_noise_it_charges() -> None:
    conforms(path())


def narrow_lanes_add_the_noise_they_charge() -> None:
    conforms(path(lane_bits=21, patient_cap=256))


def local_noise_is_each_sites_own() -> None:
    conforms(path(noise=_local()))


def mode_b_counts_on_the_survivors_it_needs() -> None:
    conforms(path(mode=_mode_b()))


def every_site_and_every_round_draws_its_own_noise() -> None:
    """What each site adds, before it is masked: right in size alone, no two alike, in one round or in two."""
    from dp import noise_shares
    from dp.discrete_gaussian import SHARE_VARIANCE

    shares: list[Any] = []
    lock, honest = threading.Lock(), noise_shares.draw

    def draw(stream: Any, length: int) -> Any:
        share = honest(stream, length)
        with lock:
            shares.append(share.astype(np.float64) / np.sqrt(SHARE_VARIANCE))
        return share

    of = path(sites=4, length=600)
    noise_shares.draw = draw
    try:
        of.run(contributions(of, 4))
    finally:
        noise_shares.draw = honest
    drawn = np.stack(shares)
    assert drawn.shape == (16, 600)
    likeness = drawn @ drawn.T / 600
    beside = likeness[~np.eye(16, dtype=bool)]
    assert np.abs(beside).max() < 5.5 / np.sqrt(600)  # of 120 pairs; one honest run in 200,000 has more
    assert np.abs(np.diag(likeness) - 1).max() < 5.5 * np.sqrt(2 / 600)


def _local() -> Any:
    from secagg.manifest import Noise

    return Noise.LOCAL


def _mode_b() -> Any:
    from secagg.manifest import Mode

    return Mode.B


CHECKS = (
    the_wide_lattice_adds_the_noise_it_charges,
    narrow_lanes_add_the_noise_they_charge,
    local_noise_is_each_sites_own,
    mode_b_counts_on_the_survivors_it_needs,
    every_site_and_every_round_draws_its_own_noise,
)
