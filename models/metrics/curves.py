"""How far predicted survival is from what happened: Kaplan–Meier, log-rank, Brier, likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.data import Bool, Float64, SurvivalData
from models.errors import MisuseError
from models.likelihood import log_likelihoods
from models.predict import SurvivalModel


def negative_log_likelihood(model: SurvivalModel, data: SurvivalData) -> float:
    """Mean piecewise-exponential −log-likelihood in nats per patient, on the model's own grid and horizon."""
    return float(-np.mean(log_likelihoods(model, data)))


def product_limit(duration: Float64, event: Bool) -> tuple[Float64, Float64]:
    """Kaplan–Meier as steps: distinct event times in days, and survival from each on.

    Source: Kaplan & Meier, JASA 1958;53:457.
    """
    times, deaths = np.unique(duration[event], return_counts=True)
    at_risk = len(duration) - np.searchsorted(np.sort(duration), times, side="left")
    alive: Float64 = np.cumprod(1.0 - deaths / np.maximum(at_risk, 1), dtype=np.float64)
    return times, alive


def kaplan_meier(duration: Float64, event: Bool, time: float) -> float:
    """Kaplan–Meier survival at `time` (same unit as `duration`)."""
    return float(_stepped(product_limit(duration, event), np.array([time]), side="right")[0])


def _stepped(curve: tuple[Float64, Float64], times: Float64, side: str) -> Float64:
    """A step curve at `times` ("right") or just before them ("left"); 1 before the first step."""
    at = np.searchsorted(curve[0], times, side="right" if side == "right" else "left")
    values: Float64 = np.concatenate([[1.0], curve[1]])[at]
    return values


def _censoring(data: SurvivalData) -> tuple[Float64, Float64]:
    """Ĝ: Kaplan–Meier with censorings as events; whoever dies on a day is under observation on that day."""
    return product_limit(data.duration, ~data.event)


def censoring_before(data: SurvivalData, times: Float64, least: float) -> Float64:
    """Ĝ(t−), probability of not having been censored before t, at least `least`."""
    return np.maximum(_stepped(_censoring(data), times, side="left"), least)


def brier_score(
    alive: Float64, data: SurvivalData, times: Float64, *, training: SurvivalData | None = None, cap: float = 100.0
) -> Float64:
    """Brier score at each time with inverse-probability-of-censoring weights, float64[m].

    BS(t) = Σ_i w_i(t)(1{T_i > t} − S_i(t))² ÷ Σ_i w_i(t), w_i = 1/Ĝ(T_i−) if dead by t, 1/Ĝ(t) if alive after t, 0 if
    censored before. (Divided by the weights, as pycox does, not by n: 0 to 1 also in small samples.) A time after
    which nobody has a weight gives nan.

    Args:
        alive: float64[n, m], S_i(t).
        data: n patients.
        times: float64[m] days.
        training: whose follow-up gives Ĝ; the same patients by default.
        cap: largest 1/Ĝ.

    Raises:
        MisuseError: shapes that do not fit.

    Source: Graf, Schmoor, Sauerbrei & Schumacher, Stat Med 1999;18:2529.
    """
    if alive.shape != (len(data), len(times)):
        raise MisuseError(f"survival of {len(data)} patients at {len(times)} times, got shape {alive.shape}")
    censored = _censoring(training or data)
    own = 1.0 / np.maximum(_stepped(censored, data.duration, side="left"), 1.0 / cap)
    later = 1.0 / np.maximum(_stepped(censored, times, side="right"), 1.0 / cap)
    lives = data.duration[:, None] > times[None, :]
    dead = ~lives & data.event[:, None]
    weight = np.where(lives, later[None, :], np.where(dead, own[:, None], 0.0))
    total = weight.sum(axis=0)
    wrong = (weight * (lives - alive) ** 2).sum(axis=0)
    score: Float64 = np.divide(wrong, total, out=np.full(len(times), np.nan), where=total > 0)
    return score


def integrated_brier_score(
    alive: Float64, data: SurvivalData, times: Float64, *, training: SurvivalData | None = None, cap: float = 100.0
) -> float:
    """Mean of `brier_score` over the interval of `times` by the trapezoid rule; for its arguments see there.

    Raises:
        MisuseError: fewer than two times, times that do not increase, or shapes that do not fit.
    """
    if len(times) < 2 or not np.all(np.diff(times) > 0):
        raise MisuseError("an integrated Brier score needs increasing times, two at least")
    scores = brier_score(alive, data, times, training=training, cap=cap)
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


def log_rank(data: SurvivalData, group: NDArray[np.bool_]) -> float:
    """χ² (one degree of freedom) of the log-rank test of one group against the rest; nan where nobody is compared.

    Args:
        data: n patients.
        group: bool[n].

    Source: Mantel, Cancer Chemother Rep 1966;50:163; Peto & Peto, JRSS A 1972;135:185.
    """
    times = np.unique(data.duration[data.event])
    all_of, one_of = (
        len(duration) - np.searchsorted(np.sort(duration), times, side="left")
        for duration in (data.duration, data.duration[group])
    )
    deaths = np.searchsorted(times, data.duration[data.event])
    died = np.bincount(deaths, minlength=len(times))
    own = np.bincount(np.searchsorted(times, data.duration[data.event & group]), minlength=len(times))
    share = one_of / all_of
    spread = (
        died * share * (1 - share) * np.divide(all_of - died, all_of - 1, out=np.zeros(len(times)), where=all_of > 1)
    )
    variance = float(spread.sum())
    return float(np.sum(own - died * share)) ** 2 / variance if variance > 0 else float("nan")
