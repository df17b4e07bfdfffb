"""A C-index made of two bounded sums.

Harrell's C is a ratio of pair counts, and one patient is in up to n pairs: the counts have sensitivity n,
which is secret. Dividing each hospital's counts by its own n_k − 1 bounds the change for every n_k:

    V_k = Σ_{i<j} (concordant_ij − discordant_ij) / 2 / (n_k − 1)      W_k = Σ_{i<j} comparable_ij / (n_k − 1)

(both 0 if n_k < 2). Then C = ½ + ΣV_k / ΣW_k is the within-hospital Harrell C, hospitals weighted by
patients.

Sensitivity. Let A, B be the sums over pairs of n patients, a, b the new patient's pairs. Then
ΔV = a/n − A/(n(n−1)), ΔW = b/n − B/(n(n−1)) with |a| ≤ b/2, |A| ≤ B/2, 0 ≤ b ≤ n, 0 ≤ B ≤ n(n−1)/2. With u =
b/n ∈ [0, 1] and w = B/(n(n−1)) ∈ [0, ½]: |ΔV| ≤ (u + w)/2 ≤ ¾ and ΔW = u − w ∈ [−½, 1]; ‖Δ‖² ≤ (u − w)² + (u
+ w)²/4 is convex in (u, w), so it is largest at a corner: (1, 0), where it is 5/4.
From n = 1 to 2: V = a, W = b, same bound.  ∎

Interval. The error V − θW at the true θ = C − ½ has variance s²(1 + θ²) from the noise (s known) plus the
sampling part. For a U-statistic with the symmetric kernel ψ_ij = (conc − disc)/2 − θ·comp, E ψ² = π(¼ − θ²)
with π = P(comparable), and Hoeffding's ζ₁ ≤ ζ₂/2 gives Var(V_k − θW_k) ≤ E[W_k] (¼ − θ²) for every n_k: no
model of the data. Under proportional hazards the true factor is much smaller; `SAMPLING_FACTOR` is an upper
envelope of simulations (tests/models/test_concordance.py) and is stated with the interval. The set {θ: (V −
θW)² ≤ q²·variance(θ)} is Fieller's and stays honest when W is small.

Source: Hoeffding, Ann Math Stat 1948;19:293; Fieller, JRSS B 1954;16:175.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.data import Float64, SurvivalData
from models.errors import MisuseError

SENSITIVITY: Final = math.sqrt(1.25)
SAMPLING_FACTOR: Final = 0.5
"""Sampling variance of V - θW in units of W(1/4 - θ²): 1 is proved, 1/2 envelopes proportional hazards."""

QUANTILE: Final = 1.959963984540054
"""97.5 % point of the standard normal distribution."""

_BLOCK: Final = 512  # rows of the pair matrix in memory at once


@dataclass(frozen=True)
class Concordance:
    """A released C-index with what is known about its error.

    Args:
        estimate: ½ + V/W, cut to [0, 1]; nan if W carries no information (then the interval is [0, 1]).
        low, high: 95 % interval, noise and sampling together.
        noise_error: standard error from the privacy noise alone.
        sampling_error: standard error from the finite hold-out (with `SAMPLING_FACTOR`).
        v, w: the released sums.
    """

    estimate: float
    low: float
    high: float
    noise_error: float
    sampling_error: float
    v: float
    w: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        if math.isnan(self.estimate):
            return "not resolved (too little comparable follow-up for this noise)"
        return f"{self.estimate:.3f} (95 % {self.low:.3f} to {self.high:.3f})"


def pair_sums(risk: Float64, data: SurvivalData) -> Float64:
    """V_k and W_k of one hospital, float64[2].

    A pair is comparable if the earlier time is a death, or if both times are equal and exactly one is a
    death (the dead one counts as earlier). Equal risks are half concordant. Pair counts are whole numbers
    below 2⁵³; one division rounds.

    Args:
        risk: float64[n], higher = earlier death; finite.
        data: n patients, durations finite.
    """
    n = len(data)
    if risk.shape != (n,):
        raise MisuseError(f"{n} patients but risks of shape {risk.shape}")
    if n < 2:
        return np.zeros(2)
    signed, comparable = 0, 0
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        time, other = data.duration[rows, None], data.duration[None, :]
        earlier = data.event[rows, None] & ((time < other) | ((time == other) & ~data.event[None, :]))
        order = np.sign(risk[rows, None] - risk[None, :])
        signed += int(np.sum(order * earlier))
        comparable += int(np.sum(earlier))
    return np.array([signed / (2 * (n - 1)), comparable / (n - 1)])


def decode(total: Float64, noise_sd: float) -> Concordance:
    """Turn the noisy sums into an estimate with an interval; post-processing of what was released.

    Args:
        total: float64[2], noisy (ΣV, ΣW).
        noise_sd: standard deviation of the noise on each of the two, ≥ 0.
    """
    v, w = float(total[0]), float(total[1])
    low, high = _fieller(v, w, noise_sd)
    if w <= QUANTILE * noise_sd or w <= 0:  # W itself is not clear of zero: no ratio
        return Concordance(math.nan, 0.0, 1.0, math.inf, math.inf, v, w)
    theta = min(max(v / w, -0.5), 0.5)
    noise = noise_sd * math.sqrt(1 + theta * theta) / w
    sampling = math.sqrt(SAMPLING_FACTOR * (0.25 - theta * theta) / w)
    estimate = 0.5 + theta
    return Concordance(estimate, min(low, estimate), max(high, estimate), noise, sampling, v, w)


def _fieller(v: float, w: float, noise_sd: float) -> tuple[float, float]:
    """Solve (v − θw)² ≤ q²(s²(1 + θ²) + κw(¼ − θ²)) for θ + ½, cut to [0, 1]."""
    q2, s2, spread = QUANTILE**2, noise_sd**2, SAMPLING_FACTOR * max(w, 0.0)
    a = w * w - q2 * s2 + q2 * spread
    b = -2 * v * w
    c = v * v - q2 * s2 - q2 * spread / 4
    disc = b * b - 4 * a * c
    if a <= 0 or w * w <= q2 * s2 or disc < 0:  # the set is unbounded or empty: nothing is excluded
        return 0.0, 1.0
    root = math.sqrt(disc)
    return max(0.0, 0.5 + (-b - root) / (2 * a)), min(1.0, 0.5 + (-b + root) / (2 * a))
