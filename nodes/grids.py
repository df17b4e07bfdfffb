"""The integers of one round: a clipped sum becomes whole numbers with noise in them, and their sum a sum again.

`dp` knows the wide lattice and the exact noise, `secagg` the narrow lanes and the secret rounding; neither knows the
other, and they meet here. Which of them a round uses, and with which integers, is a function of the study and of the
roster's size alone: every site gets the same, and all of it is in the mask key.

=================  ===============================  ===========================================
noise              wide lattice (64 bits)           narrow lanes (10 to 32 bits)
=================  ===============================  ===========================================
distributed        σ_i fixed, L chosen, h as the    σ_i one of `SHARES` that fits the lane,
                   manifest says                    L chosen, h as the manifest says
local              as above with h = 1              as above with h = 1
none               no noise, the finest L           refused: its rounding has nothing to hide in
=================  ===============================  ===========================================

Updates of local steps (`models.algorithms`) are summed as without noise: a study with local noise has it inside every
local step, on the lattice of a single site, and no share in the sum could stand for it.

In narrow lanes σ_i is one number for a stage, chosen for the full roster, whose sum is the largest. A smaller roster
has less noise in lattice steps and a coarser lattice, never a smaller multiplier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from dp import noise_shares
from dp.discrete_gaussian import table
from dp.noise_shares import Lattice
from dp.queries import Float64, Int64, Query
from models.algorithms.protection import UPDATE, require_admitted
from secagg import quantize
from secagg.errors import LaneOverflow
from secagg.lanes import WIDE, Integers
from secagg.manifest import Manifest, Mode, Noise, Terms
from secagg.masks import Keystream
from secagg.quantize import LEAST_NOISE, LEAST_SHARE, Quantiser

__all__ = ["SHARES", "Grid", "grid", "inflation", "narrow_variance"]

SHARES = (64, 48, 32, 24, 16, 12, 8)
"""Standard deviations of one site's noise in narrow lanes, in steps: the largest that fits is taken, or the least that
is accounted for. Few, because a table is built for each; not larger, because it would buy nothing: at 64 steps rounding
costs 0.2 % at order 32, and the wide lattice draws from that table, too."""


class Grid(Protocol):
    """One round's way from a vector to integers and back."""

    def terms(self, query: Query) -> Terms:
        """What the mask key binds."""
        ...

    def encode(self, values: Float64, query: Query, keystream: Keystream) -> Integers:
        """Return what this site masks: its clipped sum on the lattice, with its noise.

        Args:
            values: float64[d], clipped, in the query's unit.
            query: what is summed.
            keystream: secret bytes of the round, for secret rounding and then for the noise, used for nothing else.
        """
        ...

    def decode(self, total: Int64, query: Query) -> Float64:
        """Return a checked sum in the query's unit; bit-identical on every IEEE-754 host."""
        ...

    def step(self, query: Query) -> float:
        """Return one lattice step in the query's unit."""
        ...


@dataclass(frozen=True)
class _Wide:
    """64 bits a coordinate: deterministic rounding, noise of 6.7·10⁷ steps or none."""

    lattice: Lattice

    def terms(self, query: Query) -> Terms:
        grid = self.lattice
        return Terms(
            query=query.digest(),
            length=query.length,
            share_variance=grid.share_variance,
            honest=grid.honest,
            steps=grid.steps,
            clamp=grid.clamp,
            total_bound=grid.total_bound,
        )

    def encode(self, values: Float64, query: Query, keystream: Keystream) -> Integers:
        exact = noise_shares.encode(values, query, self.lattice)
        return exact + noise_shares.draw(keystream, query.length) if self.lattice.share_variance else exact

    def decode(self, total: Int64, query: Query) -> Float64:
        return noise_shares.decode(total, query, self.lattice)

    def step(self, query: Query) -> float:
        return float(query.sensitivity) / self.lattice.steps


@dataclass(frozen=True)
class _Narrow:
    """10 to 32 bits a coordinate: secret stochastic rounding, then noise of a few dozen steps."""

    quantiser: Quantiser

    def terms(self, query: Query) -> Terms:
        plan = self.quantiser
        return Terms(
            query=query.digest(),
            length=query.length,
            share_variance=plan.share_std**2,
            honest=plan.honest,
            steps=plan.steps,
            clamp=-(-plan.clamp >> quantize.FRACTION),
            total_bound=plan.total_bound,
        )

    def encode(self, values: Float64, query: Query, keystream: Keystream) -> Integers:
        rounded = self.quantiser.encode(values, query.sensitivity, keystream)
        table(self.quantiser.share_std**2).add(rounded, keystream)  # the plan left room for it
        return rounded

    def decode(self, total: Int64, query: Query) -> Float64:
        return self.quantiser.decode(total, query.sensitivity)

    def step(self, query: Query) -> float:
        return self.quantiser.noise_std(query.sensitivity, 1) / self.quantiser.share_std


def grid(manifest: Manifest, query: Query, roster_size: int) -> Grid:
    """Return the integers of a round.

    Args:
        manifest: gives lane width, noise and who is counted on.
        query: what is summed.
        roster_size: |R|.

    Raises:
        dp.errors.ConfigError, secagg.errors.ConfigError: the noise, the vector and the patients of so many sites do not
            fit; names the ways out. `LaneOverflow` is one of them.
        NotPerPatient: (a TypeError) the noise does not protect what sums of this kind hold.
    """
    require_admitted(query.kind, manifest.noise)
    if query.kind == UPDATE:
        return _Wide(replace(noise_shares.exact_lattice(query, roster_size), honest=manifest.honest(roster_size)))
    if manifest.lane_bits != WIDE:
        return _Narrow(_quantiser(manifest, query.length, query.patient_cap, query.multiplier, roster_size))
    match manifest.noise:
        case Noise.DISTRIBUTED:
            return _Wide(noise_shares.lattice(query, roster_size, honest=manifest.honest(roster_size)))
        case Noise.LOCAL:
            return _Wide(noise_shares.local_lattice(query, roster_size))
        case Noise.NONE:
            return _Wide(noise_shares.exact_lattice(query, roster_size))


def narrow_variance(manifest: Manifest, length: int, patient_cap: int, multiplier: float) -> int:
    """Return the smallest variance of honest noise, in steps², that a sum of this stage can have in narrow lanes.

    Raises:
        ConfigError, LaneOverflow: as `grid`.
    """
    least = manifest.minimum_roster
    plan = _quantiser(manifest, length, patient_cap, multiplier, least)
    return plan.honest * plan.share_std**2


def inflation(manifest: Manifest) -> float:
    """Return an upper bound on (noise in a sum) ÷ (noise that is counted on), both as standard deviations; 1 without.

    Distributed noise, mode A: largest at the smallest roster, where one share is. Mode B: a share has one size, and
    everybody's may be in the sum. Local noise: everybody's whole noise is. The rounding bits of narrow lanes are noise,
    too, and nobody counts on it.
    """
    if manifest.noise is Noise.NONE:
        return 1.0
    everybody = manifest.mode is Mode.B or manifest.noise is Noise.LOCAL
    shares = len(manifest.members) if everybody else manifest.minimum_roster
    rounding = 0.0 if manifest.lane_bits == WIDE else 0.25 / LEAST_SHARE**2  # variance at most ¼ beside σ_i²
    return math.sqrt(shares / manifest.honest(shares) * (1 + rounding))


def _quantiser(manifest: Manifest, length: int, patient_cap: int, multiplier: float, roster_size: int) -> Quantiser:
    n, bits, least = len(manifest.members), manifest.lane_bits, manifest.honest(manifest.minimum_roster)
    return quantize.plan(
        bits=bits,
        length=length,
        sites=roster_size,
        honest=manifest.honest(roster_size),
        patient_cap=patient_cap,
        multiplier=multiplier,
        share_std=_share_std(bits, length, n, manifest.honest(n), least, patient_cap, multiplier),
    )


@lru_cache(maxsize=1024)
def _share_std(
    bits: int, length: int, sites: int, honest: int, least_honest: int, patient_cap: int, multiplier: float
) -> int:
    """σ_i: the largest of `SHARES` with which the sum of all sites fits its lane, or the least that is allowed.

    Raises:
        LaneOverflow: not even the least noise that is accounted for fits.
    """
    # Below it the smallest roster's honest noise would be too little.
    low = max(LEAST_SHARE, math.isqrt((LEAST_NOISE**2 - 1) // least_honest) + 1)
    for share in (*(each for each in SHARES if each > low), low):
        try:
            quantize.plan(
                bits=bits,
                length=length,
                sites=sites,
                honest=honest,
                patient_cap=patient_cap,
                multiplier=multiplier,
                share_std=share,
            )
        except LaneOverflow:  # what a sum can reach grows with σ_i
            if share == low:
                raise
        else:
            return share
    raise AssertionError("the last share either fits or has raised")
