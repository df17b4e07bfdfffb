"""What models take from a table: numbers bounded by public constants, and what is known about each of them."""

__all__ = ["Matrix", "matrix", "scaled"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.buffers import to_numpy, validity, vectors_to_numpy
from harmonize.events import State
from harmonize.layout import USABLE, one
from harmonize.profile import Profile, Scale

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


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
    outcomes: Mapping[str, tuple[Float64, Bool]] = field(repr=False)


def scaled(values: Float64, scale: Scale) -> Float64:
    """Model inputs: (t(clip(v)) − centre) / spread."""
    clipped = np.clip(values, float(scale.clip[0]), float(scale.clip[1]))
    transformed = np.log1p(clipped) if scale.transform == "log1p" else clipped
    return np.asarray((transformed - float(scale.centre)) / float(scale.spread), dtype=np.float64)


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
        features=_features(arrow, profile),
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
