"""The layout of the canonical table: the schema that a profile fixes, and the check of a table read back."""

__all__ = ["FORMAT", "USABLE", "check", "filled", "schema"]

import itertools
import json
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.errors import ProfileMismatch, TableError
from harmonize.events import State
from harmonize.profile import CodeVariable, Profile, Variable

FORMAT: Final = "haemfed/table/1"
USABLE: Final = np.array([state.value for state in State if state.usable], dtype=np.uint8)


def schema(profile: Profile) -> pa.Schema:
    """The Arrow schema that a profile fixes, metadata included."""
    fields = [pa.field("pid", pa.string(), nullable=False)]
    for variable in profile.variables:
        fields.append(pa.field(variable.name, _column_type(variable)))
        fields.append(pa.field(f"{variable.name}__m", pa.uint8(), nullable=False))
    fields.append(pa.field("time", pa.int32(), nullable=False))
    fields.append(pa.field("event", pa.bool_(), nullable=False))
    metadata = {
        "format": FORMAT,
        "profile": profile.profile,
        "version": profile.version,
        "digest": profile.digest,
    }
    return pa.schema(fields, metadata={"haemfed": json.dumps(metadata, sort_keys=True)})


def _column_type(variable: Variable) -> pa.DataType:
    return pa.int8() if isinstance(variable, CodeVariable) else pa.float64()


def filled(column: pa.Array) -> NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]:
    """Values with null as zero."""
    if pa.types.is_boolean(column.type):
        return np.array(column.to_pylist(), dtype=np.bool_)
    filled: NDArray[np.float64] = column.fill_null(0).to_numpy(zero_copy_only=False)
    return filled


def check(arrow: pa.Table, profile: Profile) -> None:
    """A table that passed through a file may have been made by anything: believe nothing."""
    try:
        metadata = json.loads((arrow.schema.metadata or {})[b"haemfed"])
        made_under = metadata["digest"], metadata["format"]
    except (KeyError, TypeError, ValueError):
        raise TableError("the file is not a harmonised table; run the harmonisation first") from None
    if made_under[1] != FORMAT:
        raise TableError(f"the table's layout is not {FORMAT}; harmonise the source again with this version")
    if made_under[0] != profile.digest:
        raise ProfileMismatch(
            f"the table was made under profile {str(made_under[0])[:12]}…, the study uses {profile.profile} "
            f"{profile.version} {profile.digest[:12]}…; harmonise the source again under that profile"
        )
    if not arrow.schema.equals(schema(profile)):
        raise TableError("the table's columns are not those of its profile; harmonise the source again")
    for field_ in arrow.schema:
        if not field_.nullable and arrow.column(field_.name).null_count:
            raise TableError(f"column {field_.name}: has empty cells; harmonise the source again")
    pids = arrow.column("pid").to_pylist()
    if any(first >= second for first, second in itertools.pairwise(pids)):
        raise TableError("column pid: not sorted, or a patient twice; harmonise the source again")
    low, high = profile.outcome.hard
    time = arrow.column("time").to_numpy()
    if time.size and (time.min() < low or time.max() > high):
        raise TableError("column time: outside the profile's range; harmonise the source again")
    for variable in profile.variables:
        _check_variable(arrow, variable)


def _check_variable(arrow: pa.Table, variable: Variable) -> None:
    column = arrow.column(variable.name).combine_chunks()
    states = arrow.column(f"{variable.name}__m").to_numpy()
    usable = np.isin(states, USABLE)
    if np.any(states > max(State)) or np.any(usable != np.asarray(column.is_valid())):
        raise TableError(f"column {variable.name}: values and states disagree; harmonise the source again")
    values = filled(column)[usable]
    if isinstance(variable, CodeVariable):
        inside = np.isin(values, list(variable.values.values()))
    else:
        # Written so that NaN is outside.
        inside = (values >= float(variable.hard[0])) & (values <= float(variable.hard[1]))
    if not np.all(inside):
        raise TableError(f"column {variable.name}: outside the profile's range; harmonise the source again")
