"""The algorithm that a study has chosen beside the default: public constants, its sums, and how a site takes part.

A study's document holds it as JSON: `name`, one of `KIND_OF` but the default's, and the constants of that algorithm. It
takes the place of the gradient steps in `models.plan`; what comes before (imputation) and after (recalibration,
evaluation) is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dp.queries import Query, SecureSum
from models.algorithms import averaging, newton
from models.algorithms.averaging import Averaging
from models.algorithms.local import LocalNoise
from models.algorithms.newton import Newton
from models.algorithms.partial import OnGrid, PartialLikelihood, Stratified
from models.algorithms.protection import NEWTON, UPDATE
from models.constants import canonical
from models.data import SurvivalData
from models.errors import ConfigError
from models.networks import Hazards, parameter_count
from models.presets import Preset
from models.training import Trained
from secagg.manifest import Noise

__all__ = ["FORMS", "Algorithm", "Cox", "Own", "describe", "kind_of", "query_of", "read", "require_fits", "train"]

FORMS: Final = ("stratified", "grid")


@dataclass(frozen=True)
class Cox:
    """Cox's model by Newton's method.

    Args:
        form: "stratified": every site a stratum with its own baseline; "grid": risk sets on the preset's grid.
        newton: steps and ridge.

    Raises:
        ConfigError: another form.
    """

    form: str
    newton: Newton

    def __post_init__(self) -> None:
        """Check the form."""
        if self.form not in FORMS:
            raise ConfigError(f"form of newton: one of {', '.join(FORMS)}")

    def likelihood(self, preset: Preset, features: int) -> PartialLikelihood:
        """What is maximised."""
        return Stratified(features) if self.form == "stratified" else OnGrid(features, preset.grid)


Algorithm: TypeAlias = Averaging | Cox


@dataclass(frozen=True)
class Own:
    """What is one site's: its place among the study's sites, and the noise that it adds itself.

    Args:
        site: 0-based, in the study's order.
        noise: the study's.
        local_noise: handed out by the door; used exactly if the study's noise is local.
    """

    site: int
    noise: Noise
    local_noise: LocalNoise


def describe(algorithm: Algorithm) -> dict[str, object]:
    """JSON for the study.

    >>> describe(Cox("grid", Newton(8, 30.0)))
    {'name': 'newton', 'form': 'grid', 'steps': 8, 'ridge': 30.0}
    """
    match algorithm:
        case Averaging():
            return {"name": "fedprox" if algorithm.proximal > 0 else "fedavg", **algorithm.to_json()}
        case Cox():
            return {"name": "newton", "form": algorithm.form, **algorithm.newton.to_json()}


def read(body: Mapping[str, Any]) -> Algorithm:
    """Read what `describe` wrote.

    Raises:
        ConfigError: an unknown name, a field missing, unknown or out of its range, or a pull (proximal) that is not
            what the name says.
    """
    fields = {key: value for key, value in body.items() if key != "name"}
    match body.get("name"):
        case "fedavg" | "fedprox" as name:
            found = Averaging.from_json(fields)
            if (found.proximal > 0) is not (name == "fedprox"):
                raise ConfigError("fedprox has a proximal above 0, fedavg a proximal of 0")
            return found
        case "newton":
            form = str(fields.pop("form", ""))
            return Cox(form, Newton.from_json(fields))
        case other:
            raise ConfigError(f"no algorithm {other!r}: leave it out for lockstep, or name fedavg, fedprox or newton")


def kind_of(algorithm: Algorithm | None) -> str:
    """Kind of the training sums."""
    match algorithm:
        case Averaging():
            return UPDATE
        case Cox():
            return NEWTON
        case None:
            return "gradient"


def require_fits(algorithm: Algorithm, preset: Preset) -> None:
    """Refuse a preset that the algorithm does not train.

    Raises:
        ConfigError: Newton's method with hidden layers, or with another number of sums than the preset says.
    """
    if isinstance(algorithm, Cox):
        if preset.network != Hazards(()):
            raise ConfigError('newton fits the linear Cox model: it needs learner "cox", without hidden layers')
        if preset.steps != algorithm.newton.steps:
            raise ConfigError(f"newton takes {algorithm.newton.steps} steps, the preset {preset.steps}")


def query_of(
    algorithm: Algorithm, preset: Preset, features: int, multiplier: float, patient_cap: int, index: int
) -> Query:
    """The query of one training sum; the algorithm's constants are in its public bytes."""
    match algorithm:
        case Averaging():
            length = parameter_count(preset.network.layout(features, preset.intervals))
            return averaging.update_query(preset, algorithm, length, multiplier, patient_cap, index)
        case Cox():
            asked = algorithm.likelihood(preset, features).query(multiplier, patient_cap, index)
            return asked.about(hashlib.sha256(canonical(describe(algorithm))).digest())


def train(
    algorithm: Algorithm,
    preset: Preset,
    features: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None],
    own: Own,
) -> Trained:
    """Train through the secure sum; all sites end with the same bits.

    Args:
        algorithm: public constants.
        preset: model, and the constants of one local step.
        features: p.
        weights: initial weights from the study.
        data: this site's training patients.
        secure_sum: the door.
        query: number of the sum → its query.
        on_step: called after each sum with (sums done, digest of the model).
        own: this site's place and noise.

    Raises:
        NotPerPatient: (a TypeError) the study's noise does not protect this algorithm's sums.
    """
    match algorithm:
        case Averaging():
            noise = own.local_noise if own.noise is Noise.LOCAL else None
            return averaging.fit(
                preset, algorithm, own.site, features, weights, data, secure_sum, query, on_step,
                noise=own.noise, local_noise=noise,
            ).trained  # fmt: skip
        case Cox():
            fitted = newton.fit(
                algorithm.newton, algorithm.likelihood(preset, features), features, data, preset.horizon, secure_sum,
                query, on_step, noise=own.noise,
            )  # fmt: skip
            return fitted.trained(preset)
