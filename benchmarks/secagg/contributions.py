"""What a site puts into a round: its vector on a lattice, with its exact share of the noise.

Both lattices carry the noise of a multiplier of 17.3 over all sites that do not collude, for at most 400 patients a
site. Vectors are float64, drawn once from a seed; the randomness of a round is derived as a site's daemon derives it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from math import ceil, sqrt
from typing import Final

import numpy as np

from benchmarks.secagg.parties import chance
from dp import discrete_gaussian, noise_shares
from dp.queries import Account, Float64, Query
from secagg.context import Context
from secagg.keys import hedged_key
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Terms
from secagg.masks import Backend, Keystream
from secagg.quantize import LEAST_NOISE, LEAST_SHARE, Quantiser, plan

__all__ = ["SEED", "Narrow", "Wide", "wide_terms"]

SEED: Final = 20260102
_PATIENTS: Final = 400
_MULTIPLIER: Final = 17.3
_CLIP: Final = 1.0
_SPREAD: Final = 0.02  # of one coordinate: 400 patients of norm 1 whose million coordinates point anywhere


def wide_terms(query: Query, grid: noise_shares.Lattice) -> Terms:
    """What a round on the wide lattice sums."""
    return Terms(
        query=query.digest(),
        length=query.length,
        share_variance=grid.share_variance,
        honest=grid.honest,
        steps=grid.steps,
        clamp=grid.clamp,
        total_bound=grid.total_bound,
    )


class Wide:
    """The wide lattice: 64 bits a coordinate, rounding far below the noise.

    Args:
        length: d.
        backend: cipher implementation.
    """

    def __init__(self, length: int, backend: Backend) -> None:
        self.length, self._backend = length, backend
        self._values = _values(length)
        self._query = Query("gradient", 0, length, _CLIP, _MULTIPLIER, Account.TRAINING, _PATIENTS)
        self._draw = chance("noise", "wide")

    def terms(self, of: Manifest, roster: int) -> Terms:
        """Return what every round sums."""
        return wide_terms(self._query, self._lattice(roster, of.honest(roster)))

    def coordinates(self, member: int, context: Context) -> Coordinates:
        """Round to the lattice and add the exact noise share."""
        del member
        grid = self._lattice(len(context.roster), context.terms.honest)
        stream = Keystream(_round_key(self._draw(32), context), self._backend)
        return noise_shares.encode(self._values, self._query, grid) + noise_shares.draw(stream, self.length)

    def _lattice(self, roster: int, honest: int) -> noise_shares.Lattice:
        return noise_shares.lattice(self._query, roster, honest=honest)


class Narrow:
    """Lanes of `bits` bits: secret stochastic rounding to steps about as large as the clip norm.

    Args:
        length: d.
        backend: cipher implementation.
        bits: lane width.
    """

    def __init__(self, length: int, backend: Backend, bits: int = 16) -> None:
        self.length, self._backend, self._bits = length, backend, bits
        self._values = _values(length)
        self._draw = chance("noise", bits)

    def terms(self, of: Manifest, roster: int) -> Terms:
        """Return what every round sums."""
        grid = _plan(self._bits, self.length, roster, of.honest(roster))
        return Terms(
            query=hashlib.sha256(repr(grid).encode()).digest(),
            length=self.length,
            share_variance=grid.share_std**2,
            honest=grid.honest,
            steps=grid.steps,
            clamp=grid.clamp,
            total_bound=grid.total_bound,
        )

    def coordinates(self, member: int, context: Context) -> Coordinates:
        """Round to the lattice and add the exact noise share."""
        del member
        grid = _plan(self._bits, self.length, len(context.roster), context.terms.honest)
        stream = Keystream(_round_key(self._draw(32), context), self._backend)
        rounded = grid.encode(self._values, _CLIP, stream)
        discrete_gaussian.table(grid.share_std**2).add(rounded, stream)
        return rounded


@cache
def _plan(bits: int, length: int, roster: int, honest: int) -> Quantiser:
    return plan(
        bits=bits,
        length=length,
        sites=roster,
        honest=honest,
        patient_cap=_PATIENTS,
        multiplier=_MULTIPLIER,
        share_std=max(LEAST_SHARE, ceil(LEAST_NOISE / sqrt(honest))),
    )


def _values(length: int) -> Float64:
    return np.random.default_rng(SEED).normal(0, _SPREAD, length)


def _round_key(fresh: bytes, context: Context) -> bytes:
    return hedged_key(fresh, hashlib.sha256(b"benchmark").digest(), context.digest)
