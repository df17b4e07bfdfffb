r"""Clipped sums of real numbers in narrow lanes: fixed point, a clamp, and secret stochastic rounding.

A site's coordinate v, in units of the sensitivity C, becomes x = v·`steps`·2⁻²⁴ least significant bits (LSB), x a
multiple of 2⁻²⁴ within ±`clamp`·2⁻²⁴, and is sent as ⌊x + u⌋ with u uniform on the multiples of 2⁻²⁴ in [0, 1): an
integer with mean x. u is secret and never leaves: rounding is part of the private mechanism, together with the
discrete Gaussian noise that the caller adds, of standard deviation `share_std` LSB and cut at 16 of them.

One patient moves the sum of all sites, before that rounding, by at most

    Δ = steps·2⁻²⁴·(1 + 2(n + 1)(n + 1 + 2⌈√d⌉)·2⁻⁵³) + √d·2⁻²⁴ LSB,        n = patient_cap

The bracket is what a float64 sum of n clipped vectors and two roundings add; √d·2⁻²⁴ because numbers that differ by t
are at most t + 2⁻²⁴ apart once they are multiples of 2⁻²⁴. `plan` takes the largest `steps` for which the noise of the
honest sites, √h·share_std, is at least multiplier·Δ. It is exact rational arithmetic: every host gets the same
integers.

Rounding is exact in float64. With |x| < 2²⁷, x + 1.5·2²⁸ lies in [2²⁸, 2²⁹), where float64 numbers are the multiples
of 2⁻²⁴: the addition rounds x to one of them. Neighbours there differ by one as 64-bit integers, so adding 24 random
bits to the integer adds u; the sum stays below 2²⁹ because |x| ≤ 2²⁷ − 1. Truncation is then the floor, of a positive
number.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import floor, isfinite, isqrt, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ConfigError, LaneOverflow, MisuseError
from secagg.lanes import WIDE, WIDTHS, Coordinates, Integers, aligned
from secagg.masks import Keystream

__all__ = ["CUT", "FRACTION", "LEAST_NOISE", "LEAST_SHARE", "MAX_PATIENT_CAP", "Quantiser", "plan"]

FRACTION: Final = 24
"""Fractional bits of x and of u."""

CUT: Final = 16
"""The caller's noise never exceeds so many standard deviations."""

MAX_PATIENT_CAP: Final = 2**21
"""Up to here the roundings of a float64 sum cost at most a thousandth of the sensitivity."""

LEAST_NOISE: Final = 16
"""Smallest standard deviation, in LSB, of the honest sites' noise together: the accounting is for this and more."""

LEAST_SHARE: Final = 3
"""Smallest standard deviation, in LSB, of one site's noise: sums of narrower discrete Gaussians are not Gaussian."""

_MAGIC: Final = 1.5 * 2**28
_LARGEST_CLAMP: Final = 2**27 - 1  # LSB
_RANDOM: Final = (1 << FRACTION) - 1
_BLOCK: Final = 1 << 17  # coordinates: two mebibytes; smaller blocks cost more in calls than a nearer cache gives
_ROOT_BITS: Final = 64


@dataclass(frozen=True)
class Quantiser:
    """The integers of one round in narrow lanes; made by `plan`, equal on every host.

    Args:
        bits: lane width.
        length: d, number of coordinates.
        sites: |R|, how many sites are summed.
        honest: h, the shares of noise that the accounting counts.
        patient_cap: public cap on patients per site.
        share_std: σ_i, standard deviation of one site's noise in LSB.
        steps: LSB per unit of sensitivity, times 2²⁴.
        clamp: largest |x| of one site before noise, in LSB, times 2²⁴.
        total_bound: largest magnitude of one coordinate of the sum, in LSB; < 2^(bits − 1).
    """

    bits: int
    length: int
    sites: int
    honest: int
    patient_cap: int
    share_std: int
    steps: int
    clamp: int
    total_bound: int

    @property
    def multiplier(self) -> float:
        """The realised multiplier, at least the planned one: honest noise ÷ Δ, up to float rounding."""
        return float(_noise(self.honest, self.share_std) / _sensitivity(self.steps, self.patient_cap, self.length))

    def noise_std(self, unit: float, shares: int) -> float:
        """Return the standard deviation of the noise of `shares` sites in the vector's own unit."""
        return sqrt(shares) * self.share_std / self._scale(unit)

    def encode(self, values: NDArray[np.float64], unit: float, keystream: Keystream) -> Integers:
        """Return a site's clipped sum in whole LSB, clamped and stochastically rounded.

        Unbiased for what is within the clamp, less than 1 LSB off, exact for whole numbers, monotone in each value.

        Args:
            values: float64[d], in the vector's own unit.
            unit: C > 0, the sensitivity in that unit.
            keystream: secret bytes, used for nothing else: 4 per coordinate, in order; the low 24 bits of each as a
                little-endian number are u·2²⁴.

        Returns:
            int16[d] up to lanes of 16 bits, int32[d] above; each within ±⌈clamp·2⁻²⁴⌉.

        Raises:
            MisuseError: another shape or type, or a value that is not finite: clipping must have turned such a patient
                into zero.
        """
        if values.dtype != np.float64 or values.shape != (self.length,):
            raise MisuseError(f"expected float64[{self.length}], got {values.dtype}{list(values.shape)}")
        scale, clamp = self._scale(unit), self.clamp * 2.0**-FRACTION
        out: Integers = np.empty(self.length, dtype=np.int16 if self.bits <= 16 else np.int32)
        size = min(self.length, _BLOCK)
        x = aligned(size).view(np.float64)
        u, whole = aligned(size).view("<u4")[:size], aligned(size).view(np.int32)[:size]
        with np.errstate(over="ignore"):  # what overflows is clamped
            for start in range(0, self.length, _BLOCK):
                part = values[start : start + _BLOCK]
                if len(part) < size:
                    x, u, whole = x[: len(part)], u[: len(part)], whole[: len(part)]
                np.multiply(part, scale, out=x)
                _clamp(part, x, clamp)
                np.add(x, _MAGIC, out=x)
                keystream.into(u.data.cast("B"))
                np.bitwise_and(u, _RANDOM, out=u)
                bits = x.view(np.int64)
                np.add(bits, u, out=bits)
                np.copyto(whole, x, casting="unsafe")
                out[start : start + len(part)] = whole
        if out.dtype == np.int32:
            np.subtract(out, int(_MAGIC), out=out)  # which is zero modulo 2**16
        return out

    def decode(self, total: Coordinates, unit: float) -> NDArray[np.float64]:
        """Return the sum of all sites in the vector's own unit.

        One correctly rounded quotient per coordinate: bit-identical on every IEEE-754 host.

        Args:
            total: int64[d], a sum that was checked.
            unit: C > 0.

        Raises:
            MisuseError: another shape or type, or a coordinate that no honest roster can produce.
        """
        if total.dtype != np.int64 or total.shape != (self.length,):
            raise MisuseError(f"expected int64[{self.length}], got {total.dtype}{list(total.shape)}")
        scale = self._scale(unit)
        values = total.astype(np.float64)  # exact up to the bound and monotone beyond
        if values.min() < -self.total_bound or values.max() > self.total_bound:
            raise MisuseError("a coordinate of the sum is outside the proven bound; do not apply it")
        return np.divide(values, scale, out=values)

    def _scale(self, unit: float) -> float:
        """LSB per 1 in the vector's own unit, one rounding off."""
        scale = self.steps * 2.0**-FRACTION / unit if unit > 0 else 0.0
        if not (isfinite(scale) and scale > 0):
            raise MisuseError(f"{unit!r} is no unit of a vector: it must be > 0 and far from the ends of float64")
        return scale


def plan(
    *, bits: int, length: int, sites: int, honest: int, patient_cap: int, multiplier: float, share_std: int
) -> Quantiser:
    """Return the finest quantiser whose noise still is `multiplier` times what one patient can move.

    >>> fit = plan(bits=16, length=10**6, sites=10, honest=8, patient_cap=400, multiplier=17.3, share_std=6)
    >>> round(fit.steps / 2**24, 4), fit.total_bound
    (0.9809, 4890)

    Args:
        bits: lane width, one of `WIDTHS` below 64.
        length: d ≥ 1, number of coordinates.
        sites: |R| ≥ 1, how many sites are summed.
        honest: h, 1 … |R|, how many of them cannot be missing from the noise of an opened sum.
        patient_cap: 1 … 2²¹, public cap on patients per site; a larger cohort is clamped.
        multiplier: z > 0, honest noise ÷ sensitivity.
        share_std: σ_i ≥ 3, integer standard deviation of one site's discrete Gaussian noise, in LSB.

    Raises:
        LaneOverflow: the largest possible sum does not fit the lane; the message names the ways out.
        ConfigError: the honest noise is below 16 LSB, or the multiplier is so large that C vanishes.
        MisuseError: an argument outside its range.
    """
    if bits not in WIDTHS or bits == WIDE:
        raise MisuseError(f"no narrow lanes of {bits} bits: one of {', '.join(map(str, WIDTHS[:-1]))}")
    if length < 1 or not 1 <= patient_cap <= MAX_PATIENT_CAP or not 1 <= honest <= sites:
        raise MisuseError(f"no plan for {length} coordinates, {honest} honest of {sites} sites and cap {patient_cap}")
    if share_std < LEAST_SHARE or not (isfinite(multiplier) and multiplier > 0):
        raise MisuseError(f"no plan for noise shares of {share_std} LSB (at least {LEAST_SHARE}) and z = {multiplier}")
    if honest * share_std**2 < LEAST_NOISE**2:
        raise ConfigError(
            f"{honest} honest sites with noise of {share_std} LSB each make {sqrt(honest) * share_std:.1f} LSB; "
            f"narrow lanes need {LEAST_NOISE}: use a finer lattice (a larger share_std)"
        )
    before_inflation = _noise(honest, share_std) / Fraction(float(multiplier)) * 2**FRACTION - _root(length)
    steps = before_inflation // _inflation(patient_cap, length)
    if steps < 1:
        raise ConfigError(
            f"multiplier {multiplier:g} is too large for {length} coordinates in narrow lanes: "
            "release fewer coordinates, declare fewer uploads or use a finer lattice (a larger share_std)"
        )
    clamp = patient_cap * steps
    noise_bound = CUT * share_std
    total_bound = sites * (-(-clamp // 2**FRACTION) + noise_bound)
    room = min((1 << (bits - 1)) - 1, sites * (_LARGEST_CLAMP + noise_bound))
    if total_bound > room:
        fits = max(0, ((room // sites - noise_bound) << FRACTION) // floor(before_inflation))
        raise LaneOverflow(
            f"{sites} sites with at most {patient_cap} patients each, at {steps / 2**FRACTION:.4g} LSB per patient and "
            f"noise of {share_std} LSB per site, may sum to {total_bound}; lanes of {bits} bits hold {room}. "
            f"Use wider lanes; or a smaller patient cap (here {fits}); or more noise (lower epsilon) or fewer sites"
        )
    return Quantiser(bits, length, sites, honest, patient_cap, share_std, steps, clamp, total_bound)


def _clamp(values: NDArray[np.float64], x: NDArray[np.float64], clamp: float) -> None:
    """Clamp x in place to ±clamp; x are the scaled values, which must be finite."""
    # Σ x² < clamp² proves that no |x| reaches the clamp, in one pass: rounded sums of squares never decrease and are
    # at least their largest term. An honest cohort within its cap always passes. NaN compares false.
    if x.dot(x) < clamp * clamp:
        return
    if not np.isfinite(values).all():
        raise MisuseError("a sum that is not finite reached the quantiser; clip it first")
    np.clip(x, -clamp, clamp, out=x)


def _noise(honest: int, share_std: int) -> Fraction:
    """√h·σ_i, rounded down."""
    return Fraction(isqrt(honest * share_std**2 << 2 * _ROOT_BITS), 1 << _ROOT_BITS)


def _root(length: int) -> Fraction:
    """√d, rounded up."""
    return Fraction(isqrt(length << 2 * _ROOT_BITS) + 1, 1 << _ROOT_BITS)


def _inflation(patient_cap: int, length: int) -> Fraction:
    """What float64 sums and two roundings add to the sensitivity, as a factor."""
    cap, root = patient_cap + 1, isqrt(length - 1) + 1
    return 1 + Fraction(cap * (cap + 2 * root), 2**52)


def _sensitivity(steps: int, patient_cap: int, length: int) -> Fraction:
    """Δ in LSB."""
    return (steps * _inflation(patient_cap, length) + _root(length)) / 2**FRACTION
