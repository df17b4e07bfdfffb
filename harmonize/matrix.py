"""What models take from a table: numbers bounded by public constants, and what is known about each of them."""

__all__ = ["VECTOR_BOUND", "Matrix", "matrix", "scaled", "vector_scale"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.buffers import to_numpy, validity, vectors_to_numpy
from harmonize.errors import MisuseError
from harmonize.events import State
from harmonize.layout import USABLE, one
from harmonize.modalities import coordinates
from harmonize.profile import FeatureVariable, Profile, Scale

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

VECTOR_BOUND: Final = 10.0
"""What a vector's numbers reach as columns of a model, either way."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Bounded by public constants, patients in the order of the table. All arrays are read-only.

    Attributes:
        x: float64[n, p], scaled by the profile's public centre and spread; 0 where not observed.
        observed: bool[n, p], whether x holds a patient's value.
        duration: float64[n], days from index diagnosis, inside the profile's hard range.
        event: bool[n], true = died at `duration`, false = last seen alive then.
        pid: pseudonyms, length n.
        names: variable names, length p: `profile.inputs` in order.
        lower, upper: float64[p], bounds that every x obeys: functions of the profile alone.
        states: uint8[n, p], the `State` of every value: why `observed` is false, and whether x is a limit.
        features: name -> (float64[n, length] inside the variable's `clip`, bool[n] observed); 0 where not
            observed.
        vectors: name -> the same as columns of a model: scaled by `vector_scale`, so inside ±`VECTOR_BOUND`.
        outcomes: name -> (float64[n] days, bool[n] event) of every further outcome; days are NaN where not known.
    """

    x: Float64 = field(repr=False)
    observed: Bool = field(repr=False)
    duration: Float64 = field(repr=False)
    event: Bool = field(repr=False)
    pid: list[str] = field(repr=False)
    names: list[str]
    lower: Float64
    upper: Float64
    states: NDArray[np.uint8] = field(repr=False)
    features: Mapping[str, tuple[Float64, Bool]] = field(repr=False)
    vectors: Mapping[str, tuple[Float64, Bool]] = field(repr=False)
    outcomes: Mapping[str, tuple[Float64, Bool]] = field(repr=False)

    def lacking(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of `names` that are no column: neither an input nor a vector's coordinate (`slide[0]`)."""
        known = self._places()
        return tuple(name for name in names if name not in known)

    def columns(self, names: Sequence[str]) -> tuple[Float64, Bool]:
        """Columns by their names, in the order asked for.

        Args:
            names: inputs, or coordinates of vectors (`slide[0]`, see `harmonize.modalities`).

        Returns:
            (float64[n, q], bool[n, q]): bounded by public constants, 0 where not observed; of a vector all
            coordinates of a patient are observed, or none.

        Raises:
            MisuseError: a name is none; `lacking` says which.
        """
        if lacking := self.lacking(names):
            raise MisuseError(f"the profile gives models no column {', '.join(lacking)}")
        known = self._places()
        x = np.zeros((len(self.pid), len(names)))
        observed = np.zeros(x.shape, dtype=np.bool_)
        for column, name in enumerate(names):
            vector, place = known[name]
            if vector is None:
                x[:, column], observed[:, column] = self.x[:, place], self.observed[:, place]
            else:
                numbers, present = self.vectors[vector]
                x[:, column], observed[:, column] = numbers[:, place], present
        return x, observed

    def _places(self) -> dict[str, tuple[str | None, int]]:
        """Column -> (its vector or None, where in it)."""
        found: dict[str, tuple[str | None, int]] = {name: (None, place) for place, name in enumerate(self.names)}
        for name, (numbers, _) in self.vectors.items():
            found |= {each: (name, place) for place, each in enumerate(coordinates(name, numbers.shape[1]))}
        return found


def scaled(values: Float64, scale: Scale) -> Float64:
    """Model inputs: (t(clip(v)) − centre) / spread."""
    clipped = np.clip(values, float(scale.clip[0]), float(scale.clip[1]))
    transformed = np.log1p(clipped) if scale.transform == "log1p" else clipped
    return np.asarray((transformed - float(scale.centre)) / float(scale.spread), dtype=np.float64)


def vector_scale(variable: FeatureVariable) -> tuple[float, float]:
    """Public centre and spread of a vector's numbers: x = (v − centre) / spread is inside ±`VECTOR_BOUND`.

    Bounds within ±`VECTOR_BOUND` leave the numbers as the encoder gave them; wider ones, or ones around another centre,
    move their middle to 0 and shrink them.

    | clip        | centre | spread |
    |-------------|--------|--------|
    | [-10, 10]   | 0      | 1      |
    | [-1, 1]     | 0      | 1      |
    | [0, 1]      | 0      | 1      |
    | [-50, 50]   | 0      | 5      |
    | [0, 255]    | 127.5  | 12.75  |
    """
    low, high = (float(bound) for bound in variable.clip)
    if low >= -VECTOR_BOUND and high <= VECTOR_BOUND:
        return 0.0, 1.0
    return low / 2 + high / 2, max(1.0, (high / 2 - low / 2) / VECTOR_BOUND)


def matrix(arrow: pa.Table, profile: Profile) -> Matrix:
    """Scale, clip and fill a checked table by the profile's public constants."""
    variables, rows = profile.inputs, arrow.num_rows
    x = np.zeros((rows, len(variables)))
    states = np.zeros((rows, len(variables)), dtype=np.uint8)
    bounds = np.zeros((2, len(variables)))
    for column, variable in enumerate(variables):
        states[:, column] = to_numpy(one(arrow, f"{variable.name}__m"))
        values = to_numpy(one(arrow, variable.name)).astype(np.float64)
        x[:, column] = scaled(values, variable.scale)
        low, high = scaled(np.array([float(bound) for bound in variable.scale.clip]), variable.scale)
        # Not observed is 0, so 0 belongs to the bounds even where the centre lies outside the clip range.
        bounds[:, column] = min(low, 0.0), max(high, 0.0)
    observed = np.isin(states, USABLE)
    x[~observed] = 0.0
    duration = to_numpy(one(arrow, "time")).astype(np.float64)
    event = to_numpy(one(arrow, "event"))
    for array in (x, observed, states, bounds, duration, event):
        array.setflags(write=False)
    features = _features(arrow, profile)
    return Matrix(
        x=x,
        observed=observed,
        duration=duration,
        event=event,
        pid=arrow.column("pid").to_pylist(),
        names=[variable.name for variable in variables],
        lower=bounds[0],
        upper=bounds[1],
        states=states,
        features=features,
        vectors=_vectors(features, profile),
        outcomes=_outcomes(arrow, profile),
    )


def _features(arrow: pa.Table, profile: Profile) -> Mapping[str, tuple[Float64, Bool]]:
    found: dict[str, tuple[Float64, Bool]] = {}
    for variable in profile.features:
        observed = to_numpy(one(arrow, f"{variable.name}__m")) == State.VALUE
        numbers = vectors_to_numpy(one(arrow, variable.name)).astype(np.float64)
        # Once more, in double precision: the nearest single to a bound may lie beyond it.
        numbers = np.clip(numbers, float(variable.clip[0]), float(variable.clip[1]))
        numbers[~observed] = 0.0
        for array in (numbers, observed):
            array.setflags(write=False)
        found[variable.name] = numbers, observed
    return MappingProxyType(found)


def _vectors(features: Mapping[str, tuple[Float64, Bool]], profile: Profile) -> Mapping[str, tuple[Float64, Bool]]:
    """Those that models see, scaled."""
    found: dict[str, tuple[Float64, Bool]] = {}
    for variable in profile.features:
        if variable.tier == "C":
            continue
        numbers, observed = features[variable.name]
        centre, spread = vector_scale(variable)
        # Clipped once more: the division may round a bound to beyond it.
        x = np.where(observed[:, None], np.clip((numbers - centre) / spread, -VECTOR_BOUND, VECTOR_BOUND), 0.0)
        x.setflags(write=False)
        found[variable.name] = x, observed
    return MappingProxyType(found)


def _outcomes(arrow: pa.Table, profile: Profile) -> Mapping[str, tuple[Float64, Bool]]:
    found: dict[str, tuple[Float64, Bool]] = {}
    for outcome in profile.outcomes:
        times, events = (one(arrow, f"{outcome.name}_{part}") for part in ("time", "event"))
        duration = np.where(validity(times), to_numpy(times), np.nan)
        event = to_numpy(events)
        for array in (duration, event):
            array.setflags(write=False)
        found[outcome.name] = duration, event
    return MappingProxyType(found)
