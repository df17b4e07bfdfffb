"""A released model with a head of one's own: refitted at one hospital, never leaving it.

The last layer of a proportional-hazards network is linear: log h_k(x) = log h_k + θ·φ(x), φ the inputs of the linear
path and the last hidden layer's outputs, which stay as released. A hospital moves θ and one common factor e^a of the
hazards towards its own training patients:

    minimise  Σ_i [Σ_k h_k e^{a + f_i} exposure_ik − δ_i (a + f_i)] + λ/2·(‖θ − θ_released‖²/E + a²)

where f is the mean of θ_e·φ_e over the E members of an ensemble, each clipped to ±8; of one network E = 1. ‖·‖² over E
is what it costs to move all members by the same, however many they are. Newton's method starts from the released model
with steps that never go up, so that on the training likelihood it is never worse than the released model. λ and the
number of steps are public constants.

Nothing of it is a release: no sum is asked for, no budget is charged. So it must not leave. `LocalModel` predicts, and
refuses its parameters and its digest to everybody: no model file can be written from it and no query be asked about it.

Source: Collins et al., ICML 2021 (shared representation, local heads); Friedman, Annals of Statistics 1982;10:101.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, NoReturn

import numpy as np

from models.data import Bool, Float64, SurvivalData, exposures, inputs
from models.errors import ConfigError, MisuseError
from models.metrics import harrell_c
from models.networks import RISK_BOUND, Ensemble, FusedBlocks, Hazards, Network
from models.networks.base import Arrays, row_product
from models.predict import SurvivalModel

__all__ = ["Head", "LocalModel", "LocalReport", "personalise", "report"]

_LARGEST_FACTOR: Final = math.log(16.0)  # as recalibration allows
_HEAD: Final = ("skip.weight", "out.weight")  # of each member


@dataclass(frozen=True)
class Head:
    """Public constants of the refit.

    Args:
        ridge: λ > 0 towards the released weights, on the sum over patients. Set before any run.
        steps: of Newton's method, 1 … 100.

    Raises:
        ConfigError: a value outside its range.
    """

    ridge: float = 100.0
    steps: int = 15

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.ridge < math.inf or type(self.steps) is not int or not 1 <= self.steps <= 100:
            raise ConfigError("a head needs a positive ridge and 1 … 100 steps")

    def to_json(self) -> dict[str, object]:
        """All fields, for the study."""
        return asdict(self)


class LocalModel:
    """A model of one hospital; predicts, and is refused wherever something leaves.

    Args:
        model: with the refitted head.
    """

    def __init__(self, model: SurvivalModel) -> None:
        self._model = model

    def __repr__(self) -> str:
        """Say what it is, no numbers."""
        return f"LocalModel({self._model.network.learner}, {len(self._model.features)} features; never leaves its site)"

    @property
    def features(self) -> tuple[str, ...]:
        """Names, in the column order of x."""
        return self._model.features

    @property
    def grid(self) -> tuple[float, ...]:
        """Edges in days."""
        return self._model.grid

    def hazards(self, x: Float64, observed: Bool) -> Float64:
        """See `SurvivalModel.hazards`."""
        return self._model.hazards(x, observed)

    def risk(self, x: Float64, observed: Bool) -> Float64:
        """See `SurvivalModel.risk`."""
        return self._model.risk(x, observed)

    def survival(self, x: Float64, observed: Bool, times: Float64) -> Float64:
        """See `SurvivalModel.survival`."""
        return self._model.survival(x, observed, times)

    @property
    def params(self) -> NoReturn:
        """Refused.

        Raises:
            MisuseError: always: no file can be written.
        """
        raise _refused()

    @property
    def digest(self) -> NoReturn:
        """Refused.

        Raises:
            MisuseError: always: no query can be asked about it.
        """
        raise _refused()

    def __reduce__(self) -> NoReturn:
        """Refused: a copy in another process is a copy elsewhere."""
        raise _refused()


@dataclass(frozen=True, eq=False)
class LocalReport:
    """Harrell's C on the hospital's own hold-out patients, for that hospital's eyes only.

    Args:
        before: of the released model; nan if no pair is comparable.
        after: of the personalised one.
    """

    before: float
    after: float

    def __str__(self) -> str:
        """One line."""
        if math.isnan(self.before):
            return "local hold-out: no comparable pair"
        return f"local hold-out (stays here): C {self.before:.3f} released, {self.after:.3f} personalised"


def personalise(released: SurvivalModel, data: SurvivalData, head: Head) -> LocalModel:
    """Refit the head.

    Args:
        released: learner "cox", "deepsurv" (an ensemble, too) or "fusion".
        data: this hospital's training patients; none leaves the released model as it is.
        head: public constants.

    Raises:
        MisuseError: another network, or data of other columns.
    """
    if not isinstance(released.network, Hazards | Ensemble | FusedBlocks):
        raise MisuseError(
            f"learner {released.network.learner!r} has no linear head; personalise a cox, deepsurv or fusion model"
        )
    kept = data.bounded(released.grid[-1])
    if released.imputation is not None:
        raise MisuseError("a model that completes records is not personalised")
    if kept.features != len(released.features):
        raise MisuseError(f"the model has {len(released.features)} features, the data {kept.features}")
    arrays = _arrays(released)
    members = _members(released.network)
    start = np.concatenate([[0.0], *(arrays[name].ravel() for name in _head(arrays, members))])
    at_risk, deaths = exposures(kept, released.grid)
    problem = _Problem(
        _last_inputs(released, arrays, kept),
        at_risk @ released.hazard,
        deaths.sum(axis=1),
        start,
        np.append(head.ridge, np.full(len(start) - 1, head.ridge / len(members))),
        len(members),
    )
    theta = start
    for _ in range(head.steps):
        theta = problem.next(theta)
    return LocalModel(_with_head(released, arrays, theta))


def report(released: SurvivalModel, personal: LocalModel, holdout: SurvivalData) -> LocalReport:
    """Compare the two on this hospital's hold-out patients."""
    kept = holdout.bounded(released.grid[-1])
    before, after = (harrell_c(model.risk(kept.x, kept.observed), kept) for model in (released, personal))
    return LocalReport(before, after)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The objective in θ = (a, heads of all members).

    Args:
        phi: inputs of the heads, float64[n, D]; each member has as many.
        expected: deaths expected at f = 0, float64[n].
        deaths: float64[n].
        start: of θ.
        ridge: towards the start, of each coordinate.
        members: E.
    """

    phi: Float64
    expected: Float64
    deaths: Float64
    start: Float64
    ridge: Float64
    members: int

    def value(self, theta: Float64) -> float:
        f = self._risk(theta)[0]
        loss = float(np.sum(self.expected * np.exp(f) - self.deaths * f))
        return loss + float(self.ridge @ (theta - self.start) ** 2) / 2

    def next(self, theta: Float64) -> Float64:
        """One Newton step, halved until the objective does not rise."""
        f, slopes = self._risk(theta)
        expected = self.expected * np.exp(f)
        slope = slopes.T @ (expected - self.deaths) + self.ridge * (theta - self.start)
        curvature = (slopes * expected[:, None]).T @ slopes + np.diag(self.ridge)
        step = np.linalg.solve(curvature, slope)
        here = self.value(theta)
        for halving in range(30):
            new = theta - step / 2.0**halving
            if abs(new[0]) <= _LARGEST_FACTOR and self.value(new) <= here:
                return np.asarray(new)
        return theta

    def _risk(self, theta: Float64) -> tuple[Float64, Float64]:
        """The sum a + f, and its slopes float64[n, 1 + D]: 0 for a member whose risk is at its bound."""
        parts = np.split(self.phi, self.members, axis=1)
        linear = np.stack(
            [part @ own for part, own in zip(parts, np.split(theta[1:], self.members), strict=True)], axis=1
        )
        inside = np.repeat(np.abs(linear) <= RISK_BOUND, parts[0].shape[1], axis=1)
        slopes = np.where(inside, self.phi, 0.0) / self.members
        f = theta[0] + np.clip(linear, -RISK_BOUND, RISK_BOUND).mean(axis=1)
        return f, np.concatenate([np.ones((len(f), 1)), slopes], axis=1)


def _arrays(model: SurvivalModel) -> Arrays:
    numbers = np.frombuffer(model.params, dtype="<f8").astype(np.float64)
    arrays: dict[str, Float64] = {}
    first = 0
    for name, shape in model.network.layout(len(model.features), model.intervals):
        arrays[name] = numbers[first : first + math.prod(shape)].reshape(shape)
        first += math.prod(shape)
    return arrays


def _members(network: Network) -> tuple[str, ...]:
    """What the names of each member's arrays begin with; "" of a network that is one."""
    return tuple(f"members.{e}." for e in range(network.members)) if isinstance(network, Ensemble) else ("",)


def _head(arrays: Arrays, members: Sequence[str]) -> list[str]:
    """Names of the heads' arrays, one member after the other."""
    return [name for member in members for each in _HEAD if (name := member + each) in arrays]


def _last_inputs(model: SurvivalModel, arrays: Arrays, data: SurvivalData) -> Float64:
    """φ: what the linear path and the output layer are multiplied with, float64[n, D], members beside each other."""
    network = model.network
    if isinstance(network, Hazards | Ensemble):
        form = network.member if isinstance(network, Ensemble) else network
        z = inputs(data.x, data.observed)
        return np.concatenate([_last_of(form, arrays, member, z) for member in _members(network)], axis=1)
    if not isinstance(network, FusedBlocks):
        raise MisuseError(f"a {network.learner} model has no last layer that could be made personal")
    u = network.inputs(data.x, data.observed)
    lengths = network.seen(data.features)
    codes, first = [], 0
    for j, length in enumerate(lengths):
        code = row_product(u[:, first : first + length], arrays[f"encoders.{j}.weight"])
        codes.append(np.tanh(code + arrays[f"encoders.{j}.bias"]) * (1.0 - u[:, sum(lengths) + j, None]))
        first += length
    active = np.concatenate(codes, axis=1)
    for i in range(len(network.hidden)):
        active = np.tanh(row_product(active, arrays[f"head.{i}.weight"]) + arrays[f"head.{i}.bias"])
    return np.concatenate([u, active], axis=1)


def _last_of(form: Hazards, arrays: Arrays, member: str, z: Float64) -> Float64:
    active = z
    for i in range(len(form.hidden)):
        weight, bias = arrays[f"{member}hidden.{i}.weight"], arrays[f"{member}hidden.{i}.bias"]
        active = np.tanh(row_product(active, weight) + bias)
    return np.concatenate([z, active], axis=1) if form.hidden else z


def _with_head(model: SurvivalModel, arrays: Arrays, theta: Float64) -> SurvivalModel:
    changed, first = dict(arrays), 1
    for name in _head(arrays, _members(model.network)):
        size = changed[name].size
        changed[name] = theta[first : first + size].reshape(changed[name].shape)
        first += size
    params = np.concatenate([array.ravel() for array in changed.values()])
    return replace(model, params=params.astype("<f8").tobytes(), hazard=model.hazard * math.exp(theta[0]))


def _refused() -> MisuseError:
    return MisuseError(
        "a personalised model was fitted to one hospital's patients without protection: it never leaves that hospital, "
        "no file is written from it and no sum is asked about it"
    )
