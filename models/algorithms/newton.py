"""Cox's model by Newton's method through the secure sum: one sum a step, a fixed number of steps.

Every site holds the same β. It contributes ℓ, U and I at β (`models.algorithms.partial`); from their sum every site
computes the same next β:

    s = (I + λ1)⁻¹ (U − λβ),   β ← β + s if ℓ − λ/2·‖β‖² has not fallen, else s ← s/2 from where it was best

The ridge λ is a public constant: it keeps the matrix definite where a column is constant or nobody has it, and its
coefficient at 0. Halving uses the released ℓ, so a step too far costs a sum and never the fit.

What leaves is exact but for the integers of the sum: with n patients allowed at each of m sites they are 2⁻⁴⁷·m·n of a
death's largest share. Only for studies that have declared to have no noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

import numpy as np

from dp.errors import UploadsExhausted
from dp.queries import Query, SecureSum
from models import recalibration
from models.algorithms.partial import PartialLikelihood, Pieces
from models.algorithms.protection import WORDS, require_exact
from models.constants import canonical
from models.data import Float64, SurvivalData
from models.errors import ConfigError, MisuseError
from models.gaussian import inverse
from models.networks import Hazards
from models.predict import SurvivalModel
from models.presets import Preset
from models.training import Trained, model_digest
from secagg.manifest import Noise

__all__ = ["CoxFit", "Newton", "fit", "survival_model"]

LEAST_RIDGE: Final = 2.0**-10
"""Far above the rounding of a sum, far below one death's information."""


@dataclass(frozen=True)
class Newton:
    """Public constants of the fit.

    Args:
        steps: sums, 1 … 100. From β = 0 six to eight are enough on cohorts of haematology; the rest costs nothing but
            messages.
        ridge: λ ≥ 2⁻¹⁰, on the sum over deaths, per unit of the profile's scales. Of 10, 30, 100, 200 and 300 the
            default is the best on BeatAML and second on METABRIC (5-fold C .722 and .589; .721 and .590 with 10).

    Raises:
        ConfigError: a value outside its range.
    """

    steps: int = 10
    ridge: float = 30.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if type(self.steps) is not int or not 1 <= self.steps <= 100:
            raise ConfigError("Newton's method takes 1 … 100 steps")
        if not LEAST_RIDGE <= self.ridge < math.inf:
            raise ConfigError("the ridge must be finite and at least 2^-10: without it a constant column has no fit")

    def to_json(self) -> dict[str, object]:
        """All fields, for the study."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Newton:
        """Read them.

        Raises:
            ConfigError: a field is missing, unknown or of another type.
        """
        match dict(body):
            case {"steps": int(steps), "ridge": int() | float() as ridge} if len(body) == 2:
                return cls(steps, float(ridge))
        raise ConfigError("Newton's method has the fields steps and ridge")

    def digest(self) -> str:
        """Hex SHA-256 of all fields."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()


@dataclass(frozen=True, eq=False)
class CoxFit:
    """A fit, the same bits at every site.

    Args:
        beta: float64[2p], of values and missing indicators.
        value: log partial likelihood at β, nats; nan if no sum was completed.
        decrement: Newton decrement U·s at β in nats: about twice what further steps would gain.
        steps_done: completed sums.
        noise: whose, in words.
    """

    beta: Float64 = field(repr=False)
    value: float
    decrement: float
    steps_done: int
    noise: str = WORDS[Noise.NONE]

    def trained(self, preset: Preset) -> Trained:
        """The parameters of a linear network, with the public guess of the baseline.

        Raises:
            MisuseError: the preset's network has hidden layers.
        """
        if preset.network != Hazards(()):
            raise MisuseError("a Cox model is a network without hidden layers")
        baseline = np.full(preset.intervals, preset.initial_log_hazard)
        params = np.concatenate([baseline, self.beta]).astype("<f8").tobytes()
        return Trained(params, self.steps_done)


@dataclass(frozen=True, eq=False)
class _Best:
    beta: Float64
    pieces: Pieces
    value: float
    decrement: float


def fit(
    newton: Newton,
    likelihood: PartialLikelihood,
    features: int,
    data: SurvivalData,
    horizon: float,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None] | None = None,
    *,
    noise: Noise,
) -> CoxFit:
    """Maximise the penalised partial likelihood of all sites' patients.

    Args:
        newton: public constants.
        likelihood: `Stratified` or `OnGrid`.
        features: p.
        data: this site's training patients (bounded here; may be empty or without deaths).
        horizon: days, public; later deaths do not count.
        secure_sum: the door of a study without noise.
        query: step → query; each is asked about the present β.
        on_step: called after each sum with (sums done, digest of the best β).
        noise: the study's.

    Raises:
        NotPerPatient: (a TypeError) the study has noise.
        MisuseError: data or query do not fit the likelihood.
    """
    require_exact(noise, "Cox's partial likelihood")
    _check(query(0), likelihood, data, features)
    kept = data.bounded(horizon)
    trial, step = np.zeros(2 * features), np.zeros(2 * features)
    best: _Best | None = None
    done = 0
    while done < newton.steps:
        try:
            total = secure_sum(query(done).about(_bytes(trial)), partial(likelihood.contribution, trial, kept))
        except UploadsExhausted:
            break
        done += 1
        found = likelihood.pieces(total)
        value = found.value - newton.ridge / 2.0 * _dot(trial, trial)
        if best is None or value >= best.value:
            step, decrement = _step(newton.ridge, trial, found)
            best = _Best(trial, found, value, decrement)
        else:
            step = step / 2.0
        trial = best.beta + step
        if on_step is not None:
            on_step(done, model_digest(_bytes(best.beta)))
    if best is None:
        return CoxFit(trial, math.nan, math.nan, 0)
    return CoxFit(best.beta, best.pieces.value, best.decrement, done)


def survival_model(
    fitted: CoxFit,
    features: tuple[str, ...],
    preset: Preset,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[recalibration.Breslow], Query],
) -> SurvivalModel:
    """The fit as a model: linear path β, baseline by one more sum of deaths and expected deaths on the preset's grid.

    The sum is that of recalibration. With `breslow_pseudo_events` 0 and a `breslow_bound` that no patient's expected
    deaths reach it is Breslow's estimator per interval; one baseline serves all sites, also after a stratified fit.

    Args:
        fitted: from `fit`.
        features: names, p.
        preset: learner "cox".
        data: this site's training patients.
        secure_sum: the door.
        query: release → its query. If its uploads run out the baseline stays the public guess.
    """
    start = SurvivalModel.as_trained(features, preset.network, preset.grid, fitted.trained(preset).params)
    release = recalibration.Breslow(start, preset)
    try:
        total = secure_sum(query(release), lambda: release.contribution(data))
    except UploadsExhausted:
        return start
    return recalibration.apply(start, preset, total)


def _step(ridge: float, beta: Float64, found: Pieces) -> tuple[Float64, float]:
    """Newton's step and its decrement; columns one after the other, no BLAS."""
    slope = found.slope - ridge * beta
    inverted = inverse(found.curvature + ridge * np.eye(len(beta)))
    step = np.zeros(len(beta))
    for column, factor in zip(inverted.T, slope, strict=True):
        step = step + column * factor
    return step, _dot(slope, step)


def _dot(a: Float64, b: Float64) -> float:
    return math.fsum((a * b).tolist())


def _bytes(beta: Float64) -> bytes:
    return beta.astype("<f8").tobytes()


def _check(query: Query, likelihood: PartialLikelihood, data: SurvivalData, features: int) -> None:
    if data.features != features:
        raise MisuseError(f"the study has {features} features, the data {data.features}")
    if query.length != likelihood.length or query.sensitivity != 1.0:
        raise MisuseError(f"the query must have length {likelihood.length} and unit 1, got {query.length}")
