"""Steps that a hospital takes alone, each a Gaussian mechanism on its own patients: local noise.

Mechanism. From public weights w a site takes E full-batch steps. In each its patients' gradients are clipped to C and
summed, exact discrete Gaussian noise of standard deviation z·C is added (`LocalNoise`), and only this noisy sum moves
the site's weights. It uploads what the E steps did to w, cut to a public norm.

Theorem. For one added or removed patient of the site one upload costs as one Gaussian of multiplier z/√E: μ² = E/z².
Proof. Step e releases clipped sum + noise, of sensitivity C (`dp.bookkeeping`) and multiplier ≥ z (`dp.noise_shares`:
the lattice takes every rounding into the sensitivity): (1/z)-GDP. Its weights are a function of w, of public constants
and of the noisy sums of the steps before, so the E steps are an adaptive composition, μ² = E·(1/z)² (Dong, Roth & Su
2022, corollary 3.3). The upload (optimiser, proximal term, cut to the norm, times a public share, rounding to integers)
is a function of w, public constants and those noisy sums: post-processing. Other sites' uploads are not counted on. ∎

Three conditions are the caller's. Every upload draws fresh noise, a repeated round included: the keystream of one
upload is used for no other. Nothing of a step but the upload leaves. The sum over sites adds no noise of its own and
needs none, so its integers are those of a sum without noise.

>>> step_multiplier(10.0, 4), upload_multiplier(20.0, 4)
(20.0, 10.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np

from dp import noise_shares
from dp.queries import Float64, Keystream, Query
from models.errors import MisuseError

__all__ = ["LocalNoise", "OwnNoise", "step_multiplier", "step_query", "upload_multiplier"]


class LocalNoise(Protocol):
    """Adds the whole noise of one local step; the door hands it out, one for each upload."""

    def __call__(self, query: Query, clipped: Float64) -> Float64:
        """Return the noisy sum of one local step.

        Args:
            query: length d, sensitivity C and multiplier z of the step, and the cap on patients. It is never sent.
            clipped: float64[d], this site's clipped sum, in the query's unit.

        Returns:
            float64[d]: the sum, rounded to the lattice of a single site, plus an exact discrete Gaussian whose
            standard deviation is at least z times the accounted sensitivity.
        """
        ...


@dataclass(frozen=True)
class OwnNoise:
    """`LocalNoise` from secret bytes, on the lattice on which one share is all the noise.

    Args:
        keystream: secret bytes of one upload of this site, used for nothing else.
    """

    keystream: Keystream = field(repr=False)

    def __call__(self, query: Query, clipped: Float64) -> Float64:
        """See `LocalNoise`."""
        lattice = noise_shares.local_lattice(query, 1)
        steps = noise_shares.encode(clipped, query, lattice)
        return noise_shares.decode(steps + noise_shares.draw(self.keystream, query.length), query, lattice)


def step_multiplier(upload: float, local_steps: int) -> float:
    """Smallest z for which E local steps cost no more than one Gaussian of this multiplier: z² ≥ E·upload², exactly.

    Args:
        upload: multiplier that an upload is charged with, > 0.
        local_steps: E ≥ 1.
    """
    target = Fraction(_positive(upload)) ** 2 * local_steps
    z = math.nextafter(float(upload) * math.sqrt(local_steps), 0.0)
    while Fraction(z) ** 2 < target:
        z = math.nextafter(z, math.inf)
    return z


def step_query(upload: Query, clip: float, local_steps: int, index: int) -> Query:
    """The query of one local step, which is never sent: unit C, and a multiplier of which E are one upload.

    Args:
        upload: what is asked; its multiplier is what the upload is charged with.
        clip: C.
        local_steps: E.
        index: of the step; its noise does not depend on it.
    """
    z = step_multiplier(upload.multiplier, local_steps)
    return Query(upload.kind, index, upload.length, clip, z, upload.account, upload.patient_cap, upload.public)


def upload_multiplier(step: float, local_steps: int) -> float:
    """Largest multiplier that an upload of E local steps of multiplier z may be charged with: E·m² ≤ z², exactly.

    Args:
        step: z > 0.
        local_steps: E ≥ 1.
    """
    target = Fraction(_positive(step)) ** 2 / local_steps
    m = math.nextafter(float(step) / math.sqrt(local_steps), math.inf)
    while Fraction(m) ** 2 > target:
        m = math.nextafter(m, 0.0)
    return m


def cut(vector: Float64, bound: float) -> Float64:
    """The vector, shortened to L2 norm `bound` if it is longer; zeros if it is not finite."""
    largest = float(np.max(np.abs(vector), initial=0.0))
    if not math.isfinite(largest):
        return np.zeros_like(vector)
    if largest == 0.0:
        return vector
    length = largest * math.sqrt(math.fsum(((vector / largest) ** 2).tolist()))  # no square overflows
    return vector if length <= bound else vector * (bound / length) * (1.0 - 2.0**-50)


def _positive(multiplier: float) -> float:
    if not 0 < multiplier < math.inf:
        raise MisuseError("a noise multiplier is finite and positive")
    return float(multiplier)
