"""Cox's partial likelihood, exact, as sums that hospitals can add: its value, its slope, its curvature.

With g_i the inputs of patient i (`models.data.inputs`), f_i = clip(β·g_i, ±8) as the model predicts, w_i = e^{f_i} and
R(t) those with durations ≥ t:

    ℓ(β) = Σ_deaths (f_i − log S0(t_i)),   S0 = Σ_R w,   S1 = Σ_R w g,   S2 = Σ_R w g gᵀ
    U(β) = Σ_deaths (g_i − S1/S0)          I(β) = Σ_deaths (S2/S0 − S1 S1ᵀ/S0²)

Ties are Breslow's: every death of a day sees the whole risk set of that day. Efron's need the deaths of a day apart
from the others at risk; on a public grid, where whole intervals are ties, Breslow's are also the form whose limit is
the piecewise-exponential likelihood of the other learners. Where |β·g_i| > 8 the slope of f_i is 0, as in the networks.

`Stratified` adds the local likelihoods of all sites: Cox's model stratified by site, with every site's own baseline and
no grid. It is the exact pooled stratified fit. `OnGrid` adds the risk sets themselves, interval by interval of a public
grid (exact days of death are data): the pooled unstratified fit after durations have been replaced by their interval's
number. Those censored in an interval are at risk for its deaths.

Neither is for studies with noise. A local partial likelihood is no sum over patients: one record is in the risk set of
everybody who dies before. Risk sets on a grid are, but a patient's vector is only bounded by e⁸·(1 + 100·p)·√K: the
noise that covers it drowns everything, and the piecewise-exponential likelihood says the same with sensitivity C.

Sources: Cox, JRSS B 1972;34:187; Breslow, ibid. 216; Lu et al., JAMIA 2015;22:1212 (WebDISCO).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

import numpy as np

from dp.queries import ACCOUNT_OF, Neighbours, Query, public_bytes
from models.algorithms.protection import NEWTON
from models.data import Float64, SurvivalData, inputs
from models.errors import MisuseError, NotPerPatient
from models.generators.bayesnet.arithmetic import log
from models.networks import RISK_BOUND

__all__ = ["OnGrid", "PartialLikelihood", "Pieces", "Stratified", "unpacked"]

_VALUE: Final = 32.0  # nats of one death at most: 2·8 + log 2²¹ < 30.6
_SLOPE: Final = 32.0  # |g − S1/S0| ≤ 2·10
_CURVATURE: Final = 128.0  # a covariance of two variables in ±10 is at most 100 in magnitude
_INPUT: Final = 16.0  # |g| ≤ 10
_WEIGHT: Final = 4096.0  # e⁸ < 2981


@dataclass(frozen=True, eq=False)
class Pieces:
    """ℓ, U and I at one β.

    Args:
        value: nats.
        slope: float64[2p].
        curvature: float64[2p, 2p], symmetric.
    """

    value: float
    slope: Float64 = field(repr=False)
    curvature: Float64 = field(repr=False)


class PartialLikelihood(Protocol):
    """One way to sum it; p features, D = 2p inputs."""

    @property
    def length(self) -> int:
        """Numbers in one sum."""
        ...

    def sensitivity(self, neighbours: Neighbours) -> NoReturn:
        """There is none.

        Raises:
            NotPerPatient: always.
        """
        ...

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """The query of one step of a study without noise; its sensitivity is the unit of the integers, 1.

        Args:
            multiplier: what such a study writes; nothing is drawn with it.
            patient_cap: a site's sums are exact up to so many patients.
            index: of the step.
        """
        ...

    def contribution(self, beta: Float64, data: SurvivalData) -> Float64:
        """This site's sums at β, float64[length], in units such that one patient's share is at most 1.

        Args:
            beta: float64[2p], public.
            data: bounded; may be empty or without deaths.
        """
        ...

    def pieces(self, total: Float64) -> Pieces:
        """The sums of all sites as ℓ, U and I, the same bits on every host."""
        ...


@dataclass(frozen=True)
class Stratified:
    """Every site is a stratum; see the module.

    Args:
        features: p ≥ 1.
    """

    features: int

    @property
    def length(self) -> int:
        """1 + D + D(D + 1)/2."""
        d = 2 * self.features
        return 1 + d + d * (d + 1) // 2

    def sensitivity(self, neighbours: Neighbours) -> NoReturn:
        """There is none: with n at risk one record moves the slopes of up to n deaths."""
        raise _refused(neighbours, "the partial likelihood")

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """See `PartialLikelihood`."""
        return _query(self.length, "StratifiedCox", {"features": self.features}, multiplier, patient_cap, index)

    def contribution(self, beta: Float64, data: SurvivalData) -> Float64:
        """See `PartialLikelihood`: each part is divided by what one death can be at most."""
        found = local(beta, data)
        parts = (
            np.array([found.value]) / _VALUE,
            found.slope / _SLOPE,
            found.curvature[np.triu_indices(2 * self.features)] / _CURVATURE,
        )
        return np.concatenate(parts)

    def pieces(self, total: Float64) -> Pieces:
        """See `PartialLikelihood`."""
        d = 2 * self.features
        _check(total, self.length)
        curvature = unpacked(total[1 + d :] * _CURVATURE, d)
        return Pieces(float(total[0]) * _VALUE, total[1 : 1 + d] * _SLOPE, curvature)


@dataclass(frozen=True)
class OnGrid:
    """One stratum, risk sets by public interval; see the module.

    Args:
        features: p ≥ 1.
        grid: K+1 increasing edges in days, the first 0, the last the horizon; public, never days of deaths.
    """

    features: int
    grid: tuple[float, ...]

    @property
    def length(self) -> int:
        """K(2 + D + D(D + 1)/2) + 1 + D: deaths and risk sets per interval, then Σ f and Σ g over deaths."""
        d = 2 * self.features
        return self._intervals * (2 + d + d * (d + 1) // 2) + 1 + d

    @property
    def _intervals(self) -> int:
        return len(self.grid) - 1

    def sensitivity(self, neighbours: Neighbours) -> NoReturn:
        """None that leaves anything of the sums: see the module."""
        raise _refused(neighbours, "the partial likelihood on a grid")

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """See `PartialLikelihood`."""
        constants = {"features": self.features, "grid": self.grid}
        return _query(self.length, "CoxOnGrid", constants, multiplier, patient_cap, index)

    def contribution(self, beta: Float64, data: SurvivalData) -> Float64:
        """See `PartialLikelihood`."""
        g, f = _slopes(beta, data)
        interval = np.clip(np.searchsorted(self.grid, data.duration, side="left") - 1, 0, self._intervals - 1)
        died, weight = data.event, np.exp(f)
        deaths = np.bincount(interval[died], minlength=self._intervals).astype(np.float64)
        upper = np.triu_indices(g.shape[1])
        sums = []
        for k in range(self._intervals):
            rows = interval == k
            weighted = g[rows] * weight[rows, None]
            second = (weighted.T @ g[rows])[upper] / (_WEIGHT * _CURVATURE)
            first = weighted.sum(axis=0) / (_WEIGHT * _INPUT)
            sums.append(np.concatenate([[weight[rows].sum() / _WEIGHT], first, second]))
        at_risk = np.cumsum(np.stack(sums)[::-1], axis=0)[::-1]  # everybody of this interval or a later one
        own = np.concatenate([[f[died].sum() / RISK_BOUND], g[died].sum(axis=0) / _INPUT])
        return np.concatenate([deaths, at_risk.ravel(), own])

    def pieces(self, total: Float64) -> Pieces:
        """See `PartialLikelihood`: intervals one after the other, nothing but + − × ÷."""
        _check(total, self.length)
        d, k = 2 * self.features, self._intervals
        deaths, at_risk, own = total[:k], total[k : -(1 + d)].reshape(k, -1), total[-(1 + d) :]
        value, slope = float(own[0]) * RISK_BOUND, own[1:] * _INPUT
        curvature = np.zeros((d, d))
        for died, sums in zip(deaths, at_risk, strict=True):
            weight = float(sums[0]) * _WEIGHT
            if died < 0.5 or weight <= 0.0:  # rounded to no death at all
                continue
            mean = sums[1 : 1 + d] * (_WEIGHT * _INPUT) / weight
            second = unpacked(sums[1 + d :] * (_WEIGHT * _CURVATURE), d) / weight
            value -= float(died) * float(log(np.array([weight]))[0])
            slope = slope - died * mean
            curvature = curvature + died * (second - mean[:, None] * mean[None, :])
        return Pieces(value, slope, curvature)


def local(beta: Float64, data: SurvivalData) -> Pieces:
    """ℓ, U and I of one stratum.

    Σ over deaths of S2/S0 is Σ_i w_i A_i g_i g_iᵀ, A_i = Σ of 1/S0 over the deaths that patient i was at risk for.

    Args:
        beta: float64[2p].
        data: bounded.
    """
    order = np.argsort(-data.duration, kind="stable")
    g, f = _slopes(beta, data)
    g, f, died, down = g[order], f[order], data.event[order], -data.duration[order]
    weight = np.exp(f)
    whole = np.searchsorted(down, down, side="right") - 1  # the last patient at risk with this one
    s0 = np.cumsum(weight)[whole]
    mean = (np.cumsum(weight[:, None] * g, axis=0)[whole] / s0[:, None])[died]
    seen = np.cumsum((died / s0)[::-1])[::-1][np.searchsorted(down, down, side="left")]
    curvature = (g * (weight * seen)[:, None]).T @ g - mean.T @ mean
    value = float(np.sum((f - np.log(s0))[died]))
    return Pieces(value, np.sum(g[died] - mean, axis=0), (curvature + curvature.T) / 2.0)


def unpacked(triangle: Float64, size: int) -> Float64:
    """Symmetric matrix from its upper triangle, rows one after the other."""
    matrix = np.zeros((size, size))
    upper = np.triu_indices(size)
    matrix[upper] = triangle
    matrix[upper[::-1]] = triangle
    return matrix


def _slopes(beta: Float64, data: SurvivalData) -> tuple[Float64, Float64]:
    """g, zero where f is at its bound, and f."""
    z = inputs(data.x, data.observed)
    if beta.shape != z.shape[1:]:
        raise MisuseError(f"{z.shape[1]} inputs need as many coefficients, got {beta.shape}")
    linear = z @ beta
    inside = np.abs(linear) <= RISK_BOUND
    return np.where(inside[:, None], z, 0.0), np.clip(linear, -RISK_BOUND, RISK_BOUND)


def _query(
    length: int, name: str, constants: dict[str, object], multiplier: float, patient_cap: int, index: int
) -> Query:
    public = public_bytes(name, constants)
    return Query(NEWTON, index, length, 1.0, multiplier, ACCOUNT_OF[NEWTON], patient_cap, public)


def _check(total: Float64, length: int) -> None:
    if total.shape != (length,):
        raise MisuseError(f"expected {length} sums, got {total.shape}")


def _refused(neighbours: Neighbours, what: str) -> NotPerPatient:
    return NotPerPatient(
        f"{what} has no sensitivity for {neighbours} neighbours; use the piecewise-exponential likelihood, or declare "
        "a study without differential privacy"
    )
