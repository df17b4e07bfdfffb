"""ROC statistics of plain (noise-free, local or synthetic) scores, with honest intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from audits.errors import MisuseError
from audits.interval import Interval, clopper_pearson, normal
from dp.queries import Float64

__all__ = ["Operating", "delong", "operating_point"]


def delong(members: Float64, nonmembers: Float64, alpha: float) -> Interval:
    """Area under the ROC curve with DeLong's variance (DeLong, DeLong & Clarke-Pearson 1988), by midranks.

    Below the variance of equal distributions the interval is not allowed to fall: with perfect separation in
    a small sample DeLong's own estimate is zero.

    | case | result |
    |---|---|
    | either side empty | [0, 1] around 0.5 |
    | all scores equal | 0.5 |
    | NaN | MisuseError |

    Args:
        members: float64[m], higher = more like a member.
        nonmembers: float64[n].
        alpha: error of each bound.
    """
    m, n = members.size, nonmembers.size
    if np.isnan(members).any() or np.isnan(nonmembers).any():
        raise MisuseError("a score is not a number; drop unusable records first")
    method = "DeLong"
    if m == 0 or n == 0:
        return Interval(0.0, 0.5, 1.0, alpha, method)
    ranks = stats.rankdata(np.concatenate([members, nonmembers]))
    won = (ranks[:m] - stats.rankdata(members)) / n
    lost = 1.0 - (ranks[m:] - stats.rankdata(nonmembers)) / m
    area = float(won.mean())
    spread = (float(won.var(ddof=1)) / m if m > 1 else 0.25) + (float(lost.var(ddof=1)) / n if n > 1 else 0.25)
    null = (m + n + 1.0) / (12.0 * m * n)
    # At the edges (area near 1) the null variance would be far too wide; scale it like a proportion.
    floor = null * 4.0 * area * (1.0 - area)
    return normal(area, math.sqrt(max(spread, floor)), alpha, method)


@dataclass(frozen=True)
class Operating:
    """One point of a ROC curve at the rate that was *achieved*, not the one asked for.

    Attributes:
        asked: false-positive rate asked for.
        fpr: achieved false-positive rate, ≤ asked, Clopper-Pearson.
        tpr: true-positive rate at that threshold, Clopper-Pearson.
        resolvable: at least 10/asked non-members; otherwise `note` says that it is not.
        note: one sentence.
    """

    asked: float
    fpr: Interval
    tpr: Interval
    resolvable: bool
    note: str


def operating_point(members: Float64, nonmembers: Float64, asked: float, alpha: float) -> Operating:
    """Hit rate at the most permissive threshold whose false-positive rate does not pass `asked`.

    Args:
        members: float64[m].
        nonmembers: float64[n].
        asked: in (0, 1).
        alpha: error of each bound.
    """
    n = nonmembers.size
    allowed = math.floor(asked * n)
    # A record is called a member if it scores strictly above the threshold, so ties never exceed the rate.
    threshold = float(np.sort(nonmembers)[::-1][allowed]) if allowed < n else -math.inf
    false = int((nonmembers > threshold).sum())
    true = int((members > threshold).sum())
    needed = math.ceil(10.0 / asked)
    resolvable = n >= needed
    note = (
        f"{n} non-members" if resolvable else f"not resolvable with n = {n} non-members; at least {needed} are needed"
    )
    return Operating(
        asked,
        clopper_pearson(false, n, alpha),
        clopper_pearson(true, members.size, alpha),
        resolvable,
        note,
    )
