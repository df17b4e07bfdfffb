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
From n = 1 to 2: V = a, W = b, same bound.
Replacing one: both tables divide by the same n − 1, so ΔV = (a − a')/(n−1) and ΔW = (b − b')/(n−1). With u = b/(n−1)
and u' = b'/(n−1) in [0, 1]: |ΔV| ≤ (u + u')/2 and ‖Δ‖² ≤ (u − u')² + (u + u')²/4, convex, corners 5/4 and 1: √(5/4)
again, not twice that. If one of the two records is unusable the change is an addition or a removal.  ∎
Only |a| ≤ b/2 was used: a pair's term is in [−½, ½] and zero unless comparable. So the bounds hold for every
order of two patients that is a function of the two and the released model: Harrell's (one risk each) and
Antolini's (survival of both at the earlier death).

Interval. The error V − θW at the true θ = C − ½ has variance s²(1 + θ²) from the noise (s known) plus the
sampling part. For a U-statistic with the symmetric kernel ψ_ij = (conc − disc)/2 − θ·comp, E ψ² = π(¼ − θ²)
with π = P(comparable), and Hoeffding's ζ₁ ≤ ζ₂/2 gives Var(V_k − θW_k) ≤ E[W_k] (¼ − θ²) for every n_k: no
model of the data. Under proportional hazards the true factor is much smaller; `SAMPLING_FACTOR` is an upper
envelope of simulations (tests/models/test_concordance.py) and is stated with the interval. The set {θ: (V −
θW)² ≤ q²·variance(θ)} is Fieller's and stays honest when W is small.

Source: Hoeffding, Ann Math Stat 1948;19:293; Fieller, JRSS B 1954;16:175; Antolini, Boracchi & Biganzoli, Stat
Med 2005;24:3927.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from dp.queries import Neighbours, Query, norm, query_of
from dp.releases import QUANTILE
from models.data import Bool, Float64, SurvivalData
from models.errors import MisuseError
from models.predict import SurvivalModel

SENSITIVITY: Final = norm(1.25)
SAMPLING_FACTOR: Final = 0.5
"""Sampling variance of V - θW in units of W(1/4 - θ²): 1 is proved, 1/2 envelopes proportional hazards. Where hazards
are far from proportional a "95 %" interval may cover 91 %."""

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
    """V_k and W_k of one hospital, float64[2], for Harrell's order.

    Args:
        risk: float64[n], higher = earlier death; finite.
        data: n patients, durations finite.
    """
    return _divided(*pair_counts(risk, data), len(data))


def pair_counts(risk: Float64, data: SurvivalData) -> tuple[int, int]:
    """Whole numbers of (concordant − discordant) and of comparable pairs.

    A pair is comparable if the earlier time is a death, or if both times are equal and exactly one is a
    death (the dead one counts as earlier). Equal risks are half concordant.

    Args:
        risk: float64[n].
        data: n patients.
    """
    n = len(data)
    if risk.shape != (n,):
        raise MisuseError(f"{n} patients but risks of shape {risk.shape}")
    signed, comparable = 0, 0
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        earlier = _earlier(data, rows)
        signed += int(np.sum(np.sign(risk[rows, None] - risk[None, :]) * earlier))
        comparable += int(np.sum(earlier))
    return signed, comparable


class SurvivalFunction(Protocol):
    """What Antolini's order needs of a released model."""

    @property
    def digest(self) -> str:
        """Of the model."""
        ...

    def survival(self, x: Float64, observed: Bool, times: Float64) -> Float64:
        """P(alive at t | x), float64[n, m]; row i a function of patient i, column j of time j."""
        ...


def antolini_counts(model: SurvivalFunction, data: SurvivalData) -> tuple[int, int]:
    """As `pair_counts`; the pair (i, j) with i dying first is concordant if S(T_i | x_i) < S(T_i | x_j).

    One time at a call: in a matrix product over many times the last bit of one may depend on the others, and
    a tie that turns for somebody else's sake would count against him.

    Args:
        model: released.
        data: bounded.
    """
    signed, comparable = 0, 0
    for time in np.unique(data.duration[data.event]):
        alive = model.survival(data.x, data.observed, np.array([time]))[:, 0]
        died = np.flatnonzero(data.event & (data.duration == time))
        earlier = _earlier(data, died)
        signed += int(np.sum(np.sign(alive[None, :] - alive[died, None]) * earlier))
        comparable += int(np.sum(earlier))
    return signed, comparable


def _earlier(data: SurvivalData, rows: slice | np.ndarray[tuple[int], np.dtype[np.intp]]) -> Bool:
    """Which pairs (row, other) are comparable with the row's patient dying first."""
    time, other = data.duration[rows, None], data.duration[None, :]
    earlier: Bool = data.event[rows, None] & ((time < other) | ((time == other) & ~data.event[None, :]))
    return earlier


def _divided(signed: int, comparable: int, n: int) -> Float64:
    """V and W: pair counts are whole numbers below 2⁵³; one division rounds."""
    return np.array([signed / (2 * (n - 1)), comparable / (n - 1)]) if n >= 2 else np.zeros(2)


@dataclass(frozen=True, eq=False)
class PairConcordance:
    """The two sums V, W of a released model on one hospital's hold-out patients.

    Args:
        model: released; its digest is in the query's.
        horizon: days, public; follow-up beyond it is not used.
        order: "harrell" (by the risk of a `SurvivalModel`) or "antolini" (by survival at the earlier death).
        kind: "concordance".
    """

    model: SurvivalModel | SurvivalFunction = field(repr=False)
    horizon: float
    order: str = "harrell"
    kind: str = "concordance"

    def __post_init__(self) -> None:
        """Check that the model can give the order."""
        if self.order not in {"harrell", "antolini"} or (
            self.order == "harrell" and not isinstance(self.model, SurvivalModel)
        ):
            raise MisuseError("concordance is by order 'harrell' of a model with risks, or 'antolini'")

    @property
    def length(self) -> int:
        """2."""
        return 2

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√1.25 for both relations; the proof stands at the top of this module.

        In short: one more patient moves V by at most ¾ and W by −½ to 1, never both to their ends, and
        one exchanged by no more than that, because the divisor stays.
        """
        return {Neighbours.ADD_OR_REMOVE_ONE: SENSITIVITY, Neighbours.REPLACE_ONE: SENSITIVITY}[neighbours]

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query, about the released model."""
        query = query_of(self, {"horizon": self.horizon, "order": self.order}, multiplier, patient_cap, index)
        return query.about(self.model.digest.encode())

    def counts(self, data: SurvivalData) -> tuple[int, int, int]:
        """Whole numbers (concordant − discordant, comparable, patients): V and W before the division."""
        kept = data.bounded(self.horizon)
        if self.order == "harrell" and isinstance(self.model, SurvivalModel):
            return (*pair_counts(self.model.risk(kept.x, kept.observed), kept), len(kept))
        return (*antolini_counts(self.model, kept), len(kept))

    def contribution(self, data: SurvivalData) -> Float64:
        """Return V_k and W_k of this hospital, float64[2]."""
        return _divided(*self.counts(data))

    def decode(self, total: Float64, noise_sd: float) -> Concordance:
        """Return the C-index with Fieller's interval, or "not resolved"."""
        return decode(total, noise_sd)


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
