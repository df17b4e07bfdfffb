"""Each site's share of the noise, and the integer lattice on which sums and noise meet.

One site adds N_i, a discrete Gaussian of the *fixed* variance σ_i² = `SHARE_VARIANCE`; what is
chosen for a query is the lattice, ``steps`` = L whole steps per C (the query's sensitivity). The noise
that counts is N(0, hσ_i²), h being the honest shares that no opened sum can lack. If a sum opens only
with everybody's upload, that is h = |R| − c for a roster R of which c sites may collude; if t survivors
suffice to open it, h = t − c. `local_lattice` counts on one's own share alone: every site adds all the noise
that its patients need. `exact_lattice` has no noise and protects nothing that a sum says.

Adding or removing one patient moves the sum of all sites, on the lattice, by at most

    L · (1 + 2(n + 1)(n + 1 + 2⌈√d⌉)·2⁻⁵³) + √d,        n = patient_cap

C·(1 + 2n·γ), γ = n·2⁻⁵³, bounds a float64 sum of n clipped vectors in any order;
6n·2⁻⁵³ are the three roundings between `dp.rows` or `dp.bookkeeping` and `encode`; the ⌈√d⌉ in the bracket keeps the
bound true when a site has more patients than its cap and is clamped (both sum integers; a float64 sum would err with
the real n); √d because two numbers that differ by t round to whole numbers that differ by at most
t + 1. `lattice` takes the largest L for which √h·σ_i is still z times this, so the realised multiplier is ≥ z
with every inflation inside.

All of this is exact rational arithmetic: every host gets the same integers.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Final

import numpy as np

from dp import discrete_gaussian
from dp.discrete_gaussian import SHARE_BOUND, SHARE_VARIANCE
from dp.errors import ConfigError, MisuseError
from dp.queries import Float64, Int64, Keystream, Query

TOTAL_LIMIT: Final = 2**47
"""A sum of all sites stays below: the linear tag of the sum needs it."""

_ROOT_BITS: Final = 64
_BLOCK: Final = 1 << 15  # coordinates that stay in the cache


@dataclass(frozen=True)
class Lattice:
    """The integers of one round; equal on every host.

    Args:
        steps: L, lattice steps per sensitivity.
        share_variance: σ_i², variance of each site's share, in steps²; 0 without noise.
        honest: h, the shares that the accounting counts; 0 without noise.
        clamp: largest magnitude of one coordinate of one site before noise, in steps.
        total_bound: largest magnitude of one coordinate of the sum of all sites, < 2⁴⁷.
    """

    steps: int
    share_variance: int
    honest: int
    clamp: int
    total_bound: int

    def multiplier(self, query: Query) -> float:
        """Return the realised multiplier, ≥ query.multiplier: honest noise ÷ accounted sensitivity."""
        root = isqrt(int(query.length) << 2 * _ROOT_BITS) + 1
        sensitivity = self.steps * _inflation(query) + Fraction(root, 1 << _ROOT_BITS)
        noise = Fraction(isqrt(self.share_variance * self.honest << 2 * _ROOT_BITS), 1 << _ROOT_BITS)
        return float(noise / sensitivity)

    def noise_std(self, query: Query, shares: int) -> float:
        """Return the standard deviation of the noise of `shares` sites, in the query's own unit.

        For intervals around a released sum `shares` is how many sites' uploads are in it: all their noise is.
        """
        return math.sqrt(self.share_variance * shares) * float(query.sensitivity) / self.steps


@lru_cache(maxsize=1024)
def lattice(query: Query, roster_size: int, *, honest: int) -> Lattice:
    """Return the lattice of a query for a roster of this size.

    Args:
        query: what is summed.
        roster_size: |R|, number of sites in the round; bounds the sum.
        honest: h, in 2…|R|: shares of sites that do not collude, which no opened sum can lack.

    Raises:
        ConfigError: fewer than two honest sites, or more than there are; noise too large for the length; or a sum
            that might leave ±2⁴⁷. The message names the ways out.
    """
    if not 2 <= honest <= roster_size:
        raise ConfigError(
            f"{query.kind}: {honest} honest sites of {roster_size}; at least 2 are needed, and no more than there are: "
            "add sites or lower the collusion bound"
        )
    return _with_noise(query, roster_size, honest)


@lru_cache(maxsize=1024)
def local_lattice(query: Query, roster_size: int) -> Lattice:
    """Return the lattice on which one share alone is the query's whole noise: h = 1.

    A sum of m sites then has √m times the noise that its patients need against the others.

    Args:
        query: what is summed.
        roster_size: |R| ≥ 1; bounds the sum.

    Raises:
        ConfigError: as `lattice`, but for the honest sites.
    """
    return _with_noise(query, roster_size, 1)


@lru_cache(maxsize=1024)
def exact_lattice(query: Query, roster_size: int) -> Lattice:
    """Return the finest lattice for a sum without noise. NOT differentially private.

    Args:
        query: what is summed; its multiplier is not used.
        roster_size: |R|, 1 … 255; bounds the sum. At 255 sites and the largest cap there are 2¹⁸ steps per patient.
    """
    patients = roster_size * int(query.patient_cap)
    steps = (TOTAL_LIMIT - 1) // patients
    return Lattice(steps, 0, 0, int(query.patient_cap) * steps, patients * steps)


def _with_noise(query: Query, roster_size: int, honest: int) -> Lattice:
    multiplier = Fraction(float(query.multiplier))
    noise = Fraction(isqrt(SHARE_VARIANCE * honest << 2 * _ROOT_BITS), 1 << _ROOT_BITS)  # rounded down
    root = Fraction(isqrt(int(query.length) << 2 * _ROOT_BITS) + 1, 1 << _ROOT_BITS)  # rounded up
    steps = (noise / multiplier - root) // _inflation(query)
    if steps < 1:
        raise ConfigError(
            f"{query.kind}: multiplier {query.multiplier:g} is too large for {query.length} coordinates: "
            "release fewer coordinates or declare fewer uploads"
        )
    clamp = int(query.patient_cap) * steps
    total = roster_size * (clamp + SHARE_BOUND)
    if total >= TOTAL_LIMIT:
        raise ConfigError(
            f"{query.kind}: a sum of {roster_size} sites with at most {query.patient_cap} patients each may "
            f"reach 2^{total.bit_length()}, the limit is 2^47: lower patient_cap, lower epsilon "
            "(more noise makes the lattice coarser) or use fewer sites"
        )
    return Lattice(steps, SHARE_VARIANCE, honest, clamp, total)


def encode(values: Float64, query: Query, lattice: Lattice) -> Int64:
    """Return a site's clipped sum in whole lattice steps, clamped to ±lattice.clamp.

    Args:
        values: float64[d], in the query's unit.
        query: gives d and the unit.
        lattice: of this round.

    Raises:
        MisuseError: another shape or type, or a value that is not finite: clipping must have
            turned such a patient into zero.
    """
    if values.dtype != np.float64 or values.shape != (query.length,):
        raise MisuseError(f"{query.kind}: expected float64[{query.length}], got {values.dtype}{list(values.shape)}")
    scale, clamp = lattice.steps / float(query.sensitivity), float(lattice.clamp)
    out = np.empty(query.length, dtype=np.int64)
    buffer = np.empty(min(query.length, _BLOCK))
    with np.errstate(over="ignore"):  # an overflow is clamped
        for start in range(0, query.length, _BLOCK):
            part = values[start : start + _BLOCK]
            scaled = np.multiply(part, scale, out=buffer[: len(part)])
            # Rounded sums of squares are at least their largest term: one pass proves that nothing reaches the clamp.
            # NaN compares false.
            if not scaled.dot(scaled) < clamp * clamp:
                if not np.isfinite(part).all():
                    raise MisuseError(f"{query.kind}: a sum that is not finite reached the lattice; clip it first")
                np.clip(scaled, -clamp, clamp, out=scaled)
            out[start : start + len(part)] = np.rint(scaled, out=scaled)
    return out


def decode(total: Int64, query: Query, lattice: Lattice) -> Float64:
    """Return the sum of all sites in the query's unit; inverse of `encode` but for the rounding.

    Two correctly rounded operations per coordinate: bit-identical on every IEEE-754 host.

    Raises:
        MisuseError: another shape or type, or a coordinate that no honest roster can produce.
    """
    if total.dtype != np.int64 or total.shape != (query.length,):
        raise MisuseError(f"{query.kind}: expected int64[{query.length}], got {total.dtype}{list(total.shape)}")
    if total.min() < -lattice.total_bound or total.max() > lattice.total_bound:
        raise MisuseError(f"{query.kind}: a coordinate of the sum is outside the proven bound; do not apply it")
    return total.astype(np.float64) * float(query.sensitivity) / lattice.steps


def draw(keystream: Keystream, length: int) -> Int64:
    """Return one site's exact noise share, int64[length], variance `SHARE_VARIANCE`.

    Args:
        keystream: secret bytes of the site, never used for anything else.
        length: d.
    """
    return discrete_gaussian.convolution(
        keystream,
        length,
        variance=discrete_gaussian.TABLE_VARIANCE,
        base=discrete_gaussian.BASE,
        levels=discrete_gaussian.LEVELS,
    )


def _inflation(query: Query) -> Fraction:
    """1 + 2(n+1)(n+1+2⌈√d⌉)·2⁻⁵³: what float64 sums and two roundings add to the sensitivity."""
    cap = int(query.patient_cap) + 1
    root = isqrt(int(query.length) - 1) + 1
    return 1 + Fraction(cap * (cap + 2 * root), 2**52)
