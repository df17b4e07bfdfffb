"""Who takes part in a benchmark: identities, a manifest, and terms of a round, all from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from secagg.client import Client
from secagg.keys import Identity
from secagg.lanes import Coordinates
from secagg.manifest import MAX_ROUNDS, Manifest, Member, Mode, Terms

__all__ = ["chance", "client", "identity", "manifest", "simple_terms", "vector"]

_SEED: Final = "benchmarks/secagg"


def chance(*about: object) -> Callable[[int], bytes]:
    """Return a repeatable stand-in for the operating system's generator: benchmarks hold no secret."""
    drawn = iter(range(1 << 62))
    name = "/".join(map(str, (_SEED, *about)))

    def draw(size: int) -> bytes:
        return hashlib.shake_256(f"{name}/{next(drawn)}".encode()).digest(size)

    return draw


def identity(member: int) -> Identity:
    """Return a member's signing key."""
    return Identity.generate(chance("identity", member))


def manifest(n: int, *, bits: int = 64, mode: Mode = Mode.A, run: int = 0, collusion: int | None = None) -> Manifest:
    """Return the frame of a run of `n` sites.

    Args:
        n: members, ≥ 3.
        bits: lane width.
        mode: how rounds open.
        run: number of the run; each has keys of its own.
        collusion: c; a fifth of the sites by default, at least 1.
    """
    members = tuple(Member(i, f"site-{i:03d}", identity(i).public) for i in range(1, n + 1))
    c = max(1, n // 5) if collusion is None else collusion
    smallest = max((n + c) // 2 + 1, c + 2, 2 * n // 3 + 1 if mode is Mode.B else 0)
    name = hashlib.sha256(f"{_SEED}/run {run} of {n} in {bits} bits, mode {mode}".encode()).digest()
    return Manifest(
        run_id=name,
        study_digest=hashlib.sha256(name).digest(),
        members=members,
        collusion=c,
        minimum_roster=smallest,
        roster_changes=MAX_ROUNDS,
        max_rounds=MAX_ROUNDS,
        mode=mode,
        lane_bits=bits,
    )


def client(of: Manifest, member: int, start: int = 0, **options: Any) -> Client:
    """Return a member's client as a process makes it at its `start`-th start; `options` go to the client."""
    draw = chance("client", of.run_id.hex(), member, start)
    pins = frozenset(each.identity for each in of.members)
    return Client(of, member, identity(member), entropy=draw, nonce=draw(32), pins=pins, **options)


def simple_terms(of: Manifest, length: int, roster: int, step: int, bound: int) -> Terms:
    """Return terms of a round whose vectors are drawn by :func:`vector`: sums within ±`bound`."""
    query = hashlib.sha256(f"{_SEED}/step {step} of {length}".encode()).digest()
    return Terms(query, length, 1, of.honest(roster), 1, bound // roster, bound)


def vector(length: int, largest: int, *seed: int) -> Coordinates:
    """Return int64[length] within ±`largest`."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, length, dtype=np.int64)
