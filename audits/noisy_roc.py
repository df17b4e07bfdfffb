"""ROC statistics of two noisy histograms: what the door's noise and the number of patients allow to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audits.interval import Interval, normal
from dp.queries import Float64

__all__ = ["AttackEvidence", "RatePoint", "estimate", "follows"]

CONTRADICTION_ALPHA = 1e-3
"""Error of the lower bound that may accuse the trainer: one false accusation in a thousand audits."""

FPR_TARGETS = (0.10, 0.01)


@dataclass(frozen=True)
class RatePoint:
    """True-positive rate at a false-positive rate, bracketed by thresholds that surely lie on either side.

    Attributes:
        fpr: the rate asked for.
        tpr: interval for the TPR at that rate; its estimate is interpolated on the noisy ROC curve.
        resolvable: at least 10/fpr non-members; otherwise only the interval may be read.
        note: one sentence for the reader.
    """

    fpr: float
    tpr: Interval
    resolvable: bool
    note: str


@dataclass(frozen=True)
class AttackEvidence:
    """Releasable outcome of the attack: functions of two charged, noisy histograms and public constants.

    Attributes:
        attack: name of the score.
        members_counts: the noisy histogram of the training patients, from which everything here follows.
        nonmembers_counts: that of the hold-out patients.
        members: noisy number of training patients.
        nonmembers: noisy number of hold-out patients.
        members_noise_std: known std of the noise in one count of the members.
        nonmembers_noise_std: the same for the hold-out.
        auc: area under the ROC curve with sampling *and* noise in its interval.
        auc_low_strict: lower bound at `CONTRADICTION_ALPHA`, the only one that may accuse the trainer.
        rates: TPR at 10 % and 1 % false alarms.
        roc: noisy ROC curve, (FPR, TPR) pairs from (0, 0) to (1, 1), made monotone.
        resolution: upper bound this interval would have had, had the AUC been exactly 0.5.
    """

    attack: str
    members_counts: tuple[float, ...]
    nonmembers_counts: tuple[float, ...]
    members: float
    nonmembers: float
    members_noise_std: float
    nonmembers_noise_std: float
    auc: Interval
    auc_low_strict: float
    rates: tuple[RatePoint, ...]
    roc: tuple[tuple[float, float], ...]
    resolution: float


def _auc(members: Float64, nonmembers: Float64, noise: tuple[float, float]) -> tuple[float, float, float]:
    """AUC of two histograms, its std, and the std it would have at 0.5."""
    m, n = float(members.sum()), float(nonmembers.sum())
    bins = members.size
    # K[b, c]: a member in bin b against a non-member in bin c; ties count half.
    kernel = np.tril(np.ones((bins, bins)), -1) + 0.5 * np.eye(bins)
    won, lost = kernel @ nonmembers / n, members @ kernel / m
    area = float(members @ won / m)
    slopes = (won - area) / m, (lost - area) / n
    known = sum(std**2 * float(slope @ slope) for std, slope in zip(noise, slopes, strict=True))
    # Noise times noise: what the first-order expansion leaves out, exact for the bilinear part.
    known += (noise[0] * noise[1] / (m * n)) ** 2 * float(np.square(kernel - area).sum())
    # Sampling: DeLong's two components from the histogram, never below the value for equal distributions,
    # because noise can push the plug-in to zero.
    spread = float(members @ np.square(won - area)) / m**2 + float(nonmembers @ np.square(lost - area)) / n**2
    null = (m + n + 1.0) / (12.0 * m * n)
    sampling = max(spread, null)
    return area, math.sqrt(known + sampling), math.sqrt(known + null)


def _tail_rates(counts: Float64, noise: float, alpha: float) -> list[Interval]:
    """Share of a histogram at or above each edge, from the lowest threshold (everybody) to the highest."""
    total = float(counts.sum())
    bins = counts.size
    rates = []
    for edge in range(bins + 1):
        above = float(counts[edge:].sum())
        p = above / total
        smooth = min(1.0, max(0.0, (above + 2.0) / (total + 4.0)))
        inside = bins - edge
        known = noise**2 * (inside * (1.0 - p) ** 2 + edge * p**2) / total**2
        rates.append(normal(p, math.sqrt(known + smooth * (1.0 - smooth) / total), alpha, "noisy tail count"))
    # Both ends are known without looking: everybody lies above −∞ and nobody above +∞.
    rates[0] = Interval(1.0, 1.0, 1.0, alpha, "by definition")
    rates[-1] = Interval(0.0, 0.0, 0.0, alpha, "by definition")
    return rates


def _rate_at(fpr: float, members: Float64, nonmembers: Float64, noise: tuple[float, float], alpha: float) -> RatePoint:
    # Half of alpha finds the bracketing thresholds on the hold-out (fixed-sequence test along the edges, so
    # no further correction), the other half bounds the members' rate at the threshold found.
    false = _tail_rates(nonmembers, noise[1], alpha / 2.0)
    true = _tail_rates(members, noise[0], alpha / 2.0)
    permissive = 0
    while permissive + 1 < len(false) and false[permissive + 1].low >= fpr:
        permissive += 1
    strict = len(false) - 1
    while strict > 0 and false[strict - 1].high <= fpr:
        strict -= 1
    estimate = float(np.interp(fpr, *np.asarray(_roc(members, nonmembers)).T))
    low, high = true[strict].low, true[permissive].high
    needed = math.ceil(10.0 / fpr)
    count = float(nonmembers.sum())
    resolvable = count >= needed
    note = (
        f"read from noisy counts of about {count:.0f} non-members"
        if resolvable
        else f"not resolvable with about {count:.0f} non-members; at least {needed} are needed"
    )
    interval = Interval(min(low, estimate), estimate, max(high, estimate), alpha, "bracketing thresholds")
    return RatePoint(fpr, interval, resolvable, note)


def _roc(members: Float64, nonmembers: Float64) -> tuple[tuple[float, float], ...]:
    curves = []
    for counts in (nonmembers, members):
        tail = np.concatenate([[0.0], np.cumsum(counts[::-1])]) / max(float(counts.sum()), 1.0)
        curves.append(np.maximum.accumulate(np.clip(tail, 0.0, 1.0)))
    return tuple((float(x), float(y)) for x, y in zip(*curves, strict=True))


def estimate(
    attack: str,
    members: Sequence[float],
    nonmembers: Sequence[float],
    noise: tuple[float, float],
    alpha: float,
) -> AttackEvidence:
    """AUC and rates of two noisy histograms over the same bins.

    The variance of the AUC is the known noise of the door (first order in each histogram plus their product)
    plus sampling of patients (DeLong's components, not below the value for equal distributions). If noise
    leaves no positive total on either side, the interval is [0, 1]: nothing can be said.

    Args:
        attack: name of the score.
        members: B noisy counts.
        nonmembers: B noisy counts.
        noise: std of the noise in one count of each.
        alpha: error of each one-sided bound.
    """
    inside, outside = np.asarray(members, dtype=np.float64), np.asarray(nonmembers, dtype=np.float64)
    totals = float(inside.sum()), float(outside.sum())
    # A total within three standard deviations of zero cannot be divided by.
    solid = all(total > 3.0 * std * math.sqrt(inside.size) for total, std in zip(totals, noise, strict=True))
    if solid:
        area, std, null_std = _auc(inside, outside, noise)
        rates = tuple(_rate_at(fpr, inside, outside, noise, alpha) for fpr in FPR_TARGETS)
    else:
        area, std, null_std = 0.5, math.inf, math.inf
        unknown = Interval(0.0, 0.5, 1.0, alpha, "no information")
        note = "not resolvable: the noise is as large as the cohort"
        rates = tuple(RatePoint(fpr, unknown, resolvable=False, note=note) for fpr in FPR_TARGETS)
    method = "noisy histograms: known noise + DeLong"
    return AttackEvidence(
        attack=attack,
        members_counts=tuple(inside.tolist()),
        nonmembers_counts=tuple(outside.tolist()),
        members=totals[0],
        nonmembers=totals[1],
        members_noise_std=noise[0],
        nonmembers_noise_std=noise[1],
        auc=normal(area, std, alpha, method),
        auc_low_strict=normal(area, std, CONTRADICTION_ALPHA, method).low,
        rates=rates,
        roc=_roc(inside, outside),
        resolution=normal(0.5, null_std, alpha, method).high,
    )


def follows(evidence: AttackEvidence) -> bool:
    """Whether every number of the evidence follows from its own counts, noise and alpha (to 1e-9).

    Lets anybody who holds a certificate check the statistics without trusting the auditor's arithmetic.
    """
    counts = evidence.members_counts, evidence.nonmembers_counts
    noise = evidence.members_noise_std, evidence.nonmembers_noise_std
    sound = len(counts[0]) == len(counts[1]) > 1 and all(std > 0.0 for std in noise)
    if not sound or not 0.0 < evidence.auc.alpha < 0.5:
        return False
    again = estimate(evidence.attack, *counts, noise, evidence.auc.alpha)
    if [(r.fpr, r.resolvable, r.tpr.alpha) for r in again.rates] != [
        (r.fpr, r.resolvable, r.tpr.alpha) for r in evidence.rates
    ]:
        return False
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(_numbers(again), _numbers(evidence), strict=True))


def _numbers(evidence: AttackEvidence) -> list[float]:
    bounds = [evidence.auc, *(rate.tpr for rate in evidence.rates)]
    return [
        evidence.members,
        evidence.nonmembers,
        evidence.auc_low_strict,
        evidence.resolution,
        *(number for interval in bounds for number in (interval.low, interval.estimate, interval.high)),
    ]
