"""Ridge Cox regression by Newton's method: the honest baseline of every table.

Breslow's ties, penalty λ/2·‖β‖² on the sum over deaths, optionally stratified (each stratum has its own risk sets: the
sum of the local partial likelihoods, which is what hospitals can add up exactly). λ is chosen inside the data that are
given, by the cross-validated partial likelihood of Verweij & van Houwelingen; nothing outside is looked at.

Source: Cox, JRSS B 1972;34:187; Verweij & van Houwelingen, Stat Med 1993;12:2305 and 1994;13:2427.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data import Float64, SurvivalData, inputs

__all__ = ["PENALTIES", "RidgeCox", "choose", "fit", "parted", "partial_likelihood"]

Ints = NDArray[np.int64]

PENALTIES: Final = (3.0, 10.0, 30.0, 100.0, 300.0)
"""Tried by default, per unit of the inputs' public scales."""
_STEPS: Final = 30
_ENOUGH: Final = 1e-6  # of a Newton decrement, in nats


@dataclass(frozen=True, eq=False)
class RidgeCox:
    """A fitted model.

    Args:
        beta: float64[2p], of `models.data.inputs`.
        penalty: λ.
    """

    beta: Float64 = field(repr=False)
    penalty: float

    def risk(self, data: SurvivalData) -> Float64:
        """Return the log-risk of each patient, higher = earlier death."""
        risk: Float64 = inputs(data.x, data.observed) @ self.beta
        return risk


@dataclass(frozen=True, eq=False)
class _Stratum:
    """Patients of one stratum by falling duration."""

    z: Float64
    last: Ints  # [n] position of the last patient who has at least this one's duration
    first: Ints  # [n] position of the first patient with exactly this one's duration
    deaths: Float64  # [n] 0/1

    def score(self, beta: Float64) -> tuple[float, Float64, Float64]:
        """Log partial likelihood, its gradient and its negative Hessian.

        Σ over deaths of S2/S0 is Σ_i w_i A_i z_i z_iᵀ, A_i = Σ of 1/S0 over the deaths that patient i lived to see.
        """
        eta = self.z @ beta
        weight = np.exp(eta - eta.max())
        s0 = np.cumsum(weight)[self.last]
        mean = np.cumsum(weight[:, None] * self.z, axis=0)[self.last] / s0[:, None]
        died = self.deaths > 0
        loglik = float(np.sum((eta - eta.max() - np.log(s0))[died]))
        gradient = np.sum(self.z[died] - mean[died], axis=0)
        seen = np.cumsum((self.deaths / s0)[::-1])[::-1][self.first]
        information = (self.z * (weight * seen)[:, None]).T @ self.z - mean[died].T @ mean[died]
        return loglik, gradient, information

    def loglik(self, beta: Float64) -> float:
        eta = self.z @ beta
        top = float(eta.max()) if len(eta) else 0.0
        s0 = np.cumsum(np.exp(eta - top))[self.last]
        return float(np.sum((eta - top - np.log(s0))[self.deaths > 0]))


def _strata(z: Float64, data: SurvivalData, strata: Ints | None) -> list[_Stratum]:
    groups = np.zeros(len(data), dtype=np.int64) if strata is None else strata
    found = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        order = rows[np.argsort(-data.duration[rows], kind="stable")]
        down = -data.duration[order]
        last = np.searchsorted(down, down, side="right") - 1
        first = np.searchsorted(down, down, side="left")
        found.append(_Stratum(z[order], last, first, data.event[order].astype(np.float64)))
    return found


def partial_likelihood(beta: Float64, data: SurvivalData, strata: Ints | None = None) -> float:
    """Return the log partial likelihood in nats."""
    return sum(part.loglik(beta) for part in _strata(inputs(data.x, data.observed), data, strata))


def fit(data: SurvivalData, penalty: float, *, strata: Ints | None = None, start: Float64 | None = None) -> RidgeCox:
    """Maximise the penalised partial likelihood.

    Args:
        data: patients; no death leaves β = 0.
        penalty: λ > 0.
        strata: int64[n], or None for one.
        start: β to begin with.
    """
    z = inputs(data.x, data.observed)
    parts = _strata(z, data, strata)
    beta = np.zeros(z.shape[1]) if start is None else start.copy()
    value = -np.inf
    for _ in range(_STEPS):
        pieces = [part.score(beta) for part in parts]
        gradient = np.sum([piece[1] for piece in pieces], axis=0) - penalty * beta
        information = np.sum([piece[2] for piece in pieces], axis=0)
        information[np.diag_indices_from(information)] += penalty
        step = np.linalg.solve(information, gradient)
        if gradient @ step < _ENOUGH:
            break
        value = sum(piece[0] for piece in pieces) - penalty / 2 * float(beta @ beta)
        beta = _accepted(parts, penalty, beta, step, value)
    return RidgeCox(beta, penalty)


def _accepted(parts: Sequence[_Stratum], penalty: float, beta: Float64, step: Float64, value: float) -> Float64:
    """Halve the step until the objective does not fall."""
    for _ in range(20):
        new = beta + step
        if sum(part.loglik(new) for part in parts) - penalty / 2 * float(new @ new) >= value:
            return new
        step = step / 2
    return beta


def choose(
    data: SurvivalData,
    rng: np.random.Generator,
    *,
    penalties: Sequence[float] = PENALTIES,
    strata: Ints | None = None,
    folds: int = 5,
) -> RidgeCox:
    """Fit with the penalty that the cross-validated partial likelihood prefers."""
    scores = np.zeros(len(penalties))
    falling = sorted(penalties, reverse=True)
    for rest, _ in parted(len(data), folds, rng):
        train, own = data.rows(rest), None if strata is None else strata[rest]
        beta: Float64 | None = None
        for k, penalty in enumerate(falling):
            beta = fit(train, penalty, strata=own, start=beta).beta
            scores[k] += partial_likelihood(beta, data, strata) - partial_likelihood(beta, train, own)
    return fit(data, falling[int(np.argmax(scores))], strata=strata)


def parted(patients: int, folds: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Yield (rest, fold) as sorted positions, `folds` times."""
    order = rng.permutation(patients)
    for fold in range(folds):
        held = np.zeros(patients, dtype=bool)
        held[order[fold::folds]] = True
        yield np.flatnonzero(~held), np.flatnonzero(held)
