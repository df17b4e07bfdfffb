"""The layout of the canonical table: the schema that a profile fixes, and the check of a table read back."""

__all__ = ["FORMAT", "USABLE", "check", "one", "schema"]

import itertools
import json
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.buffers import to_numpy, validity, vector, vectors_to_numpy
from harmonize.errors import ProfileMismatch, TableError
from harmonize.events import State
from harmonize.profile import CodeVariable, CytogeneticVariable, FeatureVariable, FirstEvent, Profile, Scalar
from harmonize.variables import VariantVariable

FORMAT: Final = "haemfed/table/2"
USABLE: Final = np.array([state.value for state in State if state.usable], dtype=np.uint8)
_AGAIN: Final = "harmonise the source again"


def schema(profile: Profile) -> pa.Schema:
    """The Arrow schema that a profile fixes, metadata included."""
    fields = [pa.field("pid", pa.string(), nullable=False)]
    for variable in profile.scalars:
        kind = pa.int8() if isinstance(variable, CodeVariable) else pa.float64()
        fields += [pa.field(variable.name, kind), pa.field(f"{variable.name}__m", pa.uint8(), nullable=False)]
    for feature in profile.features:
        fields.append(pa.field(feature.name, vector(feature.length)))
        fields.append(pa.field(f"{feature.name}__m", pa.uint8(), nullable=False))
    fields.append(pa.field("time", pa.int32(), nullable=False))
    fields.append(pa.field("event", pa.bool_(), nullable=False))
    for outcome in profile.outcomes:
        fields.append(pa.field(f"{outcome.name}_time", pa.int32()))
        fields.append(pa.field(f"{outcome.name}_event", pa.bool_()))
    metadata = {
        "format": FORMAT,
        "profile": profile.profile,
        "version": profile.version,
        "digest": profile.digest,
    }
    return pa.schema(fields, metadata={"haemfed": json.dumps(metadata, sort_keys=True)})


def check(arrow: pa.Table, profile: Profile) -> None:
    """A table that passed through a file may have been made by anything: believe nothing."""
    _check_schema(arrow, profile)
    pids = arrow.column("pid").to_pylist()
    if any(first >= second for first, second in itertools.pairwise(pids)):
        raise TableError(f"column pid: not sorted, or a patient twice; {_AGAIN}")
    low, high = profile.outcome.hard
    time = to_numpy(one(arrow, "time"))
    if time.size and (time.min() < low or time.max() > high):
        raise TableError(f"column time: outside the profile's range; {_AGAIN}")
    for variable in profile.scalars:
        _check_variable(arrow, variable)
    for feature in profile.features:
        _check_vectors(arrow, feature)
    for outcome in profile.outcomes:
        _check_outcome(arrow, outcome)


def _check_schema(arrow: pa.Table, profile: Profile) -> None:
    try:
        metadata = json.loads((arrow.schema.metadata or {})[b"haemfed"])
        made_under = str(metadata["digest"]), str(metadata["format"])
    except (KeyError, TypeError, ValueError):
        raise TableError("the file is not a harmonised table; run the harmonisation first") from None
    if made_under[1] != FORMAT:
        raise TableError(f"the table's layout is not {FORMAT}; harmonise the source again with this version")
    if made_under[0] != profile.digest:
        raise ProfileMismatch(
            f"the table was made under profile {made_under[0][:12]}…, the study uses {profile.profile} "
            f"{profile.version} {profile.digest[:12]}…; harmonise the source again under that profile"
        )
    if not arrow.schema.equals(schema(profile)):
        raise TableError(f"the table's columns are not those of its profile; {_AGAIN}")
    for field_ in arrow.schema:
        if not field_.nullable and arrow.column(field_.name).null_count:
            raise TableError(f"column {field_.name}: has empty cells; {_AGAIN}")


def _check_variable(arrow: pa.Table, variable: Scalar) -> None:
    column = one(arrow, variable.name)
    states = _states(arrow, variable.name)
    usable = np.isin(states, USABLE)
    values = to_numpy(column)
    negative = states == State.TESTED_NEGATIVE
    agree = np.array_equal(usable, validity(column))
    if isinstance(variable, CytogeneticVariable | VariantVariable):
        # Absent is not negative: zero stands only with evidence, and evidence of absence only with zero.
        agree = agree and np.array_equal(negative, usable & (values == 0)) and not np.any(_is_limit(states))
    else:
        agree = agree and not np.any(negative)
    if not agree:
        raise TableError(f"column {variable.name}: values and states disagree; {_AGAIN}")
    values = values[usable]
    if isinstance(variable, CodeVariable):
        inside = np.isin(values, list(variable.values.values()))
    else:
        # Written so that NaN is outside.
        inside = (values >= float(variable.hard[0])) & (values <= float(variable.hard[1]))
    if not np.all(inside):
        raise TableError(f"column {variable.name}: outside the profile's range; {_AGAIN}")


def _check_vectors(arrow: pa.Table, variable: FeatureVariable) -> None:
    column = one(arrow, variable.name)
    states = _states(arrow, variable.name)
    present = validity(column)
    if not np.array_equal(states == State.VALUE, present) or np.any(np.isin(states[~present], USABLE)):
        raise TableError(f"column {variable.name}: values and states disagree; {_AGAIN}")
    if column.flatten().null_count:
        raise TableError(f"column {variable.name}: a vector has gaps; {_AGAIN}")
    low, high = (np.float32(bound) for bound in variable.clip)
    numbers = vectors_to_numpy(column)[present]
    if not np.all((numbers >= low) & (numbers <= high)):
        raise TableError(f"column {variable.name}: outside the profile's range; {_AGAIN}")


def _check_outcome(arrow: pa.Table, outcome: FirstEvent) -> None:
    times, events = (one(arrow, f"{outcome.name}_{part}") for part in ("time", "event"))
    known = validity(times)
    if not np.array_equal(known, validity(events)):
        raise TableError(f"column {outcome.name}_time: times and events disagree; {_AGAIN}")
    time, event = to_numpy(times)[known], to_numpy(events)[known]
    follow_up = to_numpy(one(arrow, "time"))[known]
    low, high = outcome.hard
    happened = time[event]
    if np.any((happened < low) | (happened > high)) or np.any(time[~event] != follow_up[~event]):
        raise TableError(f"column {outcome.name}_time: outside the profile's range; {_AGAIN}")


def one(arrow: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    column = arrow.column(name).combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _states(arrow: pa.Table, name: str) -> NDArray[np.uint8]:
    states = to_numpy(one(arrow, f"{name}__m"))
    if np.any(states > max(State)):
        raise TableError(f"column {name}: values and states disagree; {_AGAIN}")
    return states


def _is_limit(states: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.isin(states, (State.BELOW_LIMIT, State.ABOVE_LIMIT))
