"""From a generator's scaled numbers back to a canonical table of patients who never were.

| in the table            | from the draw                                                                           |
|-------------------------|-----------------------------------------------------------------------------------------|
| number                  | the inverse of the profile's public scale, inside its clip range, rounded as a real one  |
| 0 of a finding or gene  | state tested-negative                                                                   |
| not observed            | laboratory value, finding, gene: not-tested; age and categories: not-recorded           |
| column not asked for    | not-recorded                                                                            |
| age                     | completed years, top code as ever                                                       |
| follow-up               | whole days; further outcomes and feature vectors are not known: a generator has none     |
| pid                     | synthetic-<8 hex>-<number>: real ones are base32 without a hyphen                        |

Where a table came from stands in the file itself, beside the layout's metadata: `provenance_of`.
"""

__all__ = ["broken", "numbers_of", "provenance_of", "pseudonyms", "table_of"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harmonize.buffers import from_numpy
from harmonize.errors import MisuseError, TableError
from harmonize.events import State
from harmonize.implications import contradicted, settled
from harmonize.profile import (
    CodeVariable,
    CytogeneticVariable,
    DerivedVariable,
    LabVariable,
    Profile,
    Scalar,
    Scale,
    VariantVariable,
)
from harmonize.table import Table

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_KEY: Final = b"haemfed-synthetic"
_FRACTION_DECIMALS: Final = 3


def numbers_of(profile: Profile, names: Sequence[str], x: Float64, observed: Bool) -> dict[str, Float64]:
    """What the table will hold: canonical units, rounded and settled; NaN where not observed.

    Args:
        profile: whose variables they are.
        names: of the columns of x, each a variable of the profile with one number per patient.
        x: float64[n, p], scaled.
        observed: bool[n, p].

    Returns:
        variable -> float64[n].

    Raises:
        MisuseError: shapes or names that do not fit, or a number that is not finite.
    """
    known = {variable.name: variable for variable in profile.scalars}
    if x.shape != observed.shape or x.ndim != 2 or x.shape[1] != len(names) or len(set(names)) != len(names):
        raise MisuseError(f"{len(names)} names for x{list(x.shape)} and observed{list(observed.shape)}")
    if unknown := [name for name in names if name not in known]:
        raise MisuseError(f"profile {profile.profile} has no variable {', '.join(unknown)}")
    if not np.all(np.isfinite(x[observed])):
        raise MisuseError("a drawn number is not finite")
    drawn = {
        name: np.where(observed[:, j], _canonical(known[name], np.where(observed[:, j], x[:, j], 0.0)), np.nan)
        for j, name in enumerate(names)
    }
    return {name: _rounded(known[name], values) for name, values in settled(profile, drawn).items()}


def broken(profile: Profile, names: Sequence[str], x: Float64, observed: Bool) -> Bool:
    """Which drawn patients cannot be, bool[n]: see `harmonize.implications`. Arguments as of `numbers_of`."""
    return contradicted(profile, numbers_of(profile, names, x, observed))


def pseudonyms(model: str, seed: int, patients: int) -> list[str]:
    """Names of synthetic patients, in order: of one model and seed the same ones, of no real patient.

    >>> pseudonyms("00", 1, 2)
    ['synthetic-2cf56cd1-0000001', 'synthetic-2cf56cd1-0000002']
    """
    which = hashlib.sha256(f"haemfed/synthetic-pid/v1|{model}|{seed}".encode()).hexdigest()[:8]
    return [f"synthetic-{which}-{number:07d}" for number in range(1, patients + 1)]


def table_of(
    profile: Profile,
    names: Sequence[str],
    x: Float64,
    observed: Bool,
    duration: Float64,
    event: Bool,
    *,
    pids: Sequence[str],
    provenance: Mapping[str, object],
    kept: Sequence[str] | None = None,
) -> Table:
    """Make the table.

    Args:
        profile: of the table.
        names: of the columns of x.
        x: float64[n, p], scaled.
        observed: bool[n, p].
        duration: float64[n], days.
        event: bool[n], true = died at `duration`.
        pids: n different ones.
        provenance: JSON values about where it came from; `provenance_of` returns them.
        kept: variables to write; the others are not recorded. None: all.

    Raises:
        MisuseError: arguments that do not fit each other, or provenance that is not JSON.
    """
    rows = len(x)
    if not rows == len(observed) == len(duration) == len(event) == len(set(pids)):
        raise MisuseError(f"{rows} rows, {len(duration)} durations, {len(set(pids))} pseudonyms")
    numbers = numbers_of(profile, names, x, observed)
    wanted = set(numbers if kept is None else kept)
    low, high = profile.outcome.hard
    columns: dict[str, Any] = {
        "pid": pids,
        "time": from_numpy(np.clip(np.rint(duration), low, high).astype(np.int32)),
        "event": from_numpy(np.asarray(event, dtype=np.bool_)),
    }
    for variable in profile.scalars:
        values = numbers[variable.name] if variable.name in wanted & set(numbers) else None
        columns |= _column(variable, values, rows)
    for feature in profile.features:
        columns |= {feature.name: [None] * rows, f"{feature.name}__m": _states(State.NOT_RECORDED, rows)}
    for outcome in profile.outcomes:
        columns |= {f"{outcome.name}_time": [None] * rows, f"{outcome.name}_event": [None] * rows}
    return _marked(Table.from_columns(columns, profile), provenance)


def provenance_of(table: Table) -> dict[str, Any] | None:
    """Where a synthetic table came from; None of any other table.

    Raises:
        TableError: it says that it is synthetic, and nothing that can be read about it.
    """
    text = (table.arrow.schema.metadata or {}).get(_KEY)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TableError("the table's note on its origin is damaged; draw it again")
    return found


def _marked(table: Table, provenance: Mapping[str, object]) -> Table:
    try:
        text = json.dumps(dict(provenance), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MisuseError("provenance holds JSON values only, and no nan or infinity") from error
    metadata = {**(table.arrow.schema.metadata or {}), _KEY: text.encode()}
    return Table(table.arrow.replace_schema_metadata(metadata), table.profile)


def _column(variable: Scalar, values: Float64 | None, rows: int) -> dict[str, Any]:
    kind = np.int8 if isinstance(variable, CodeVariable) else np.float64
    if values is None:
        absent = np.ones(rows, dtype=np.bool_)
        values, states = np.zeros(rows), _states(State.NOT_RECORDED, rows)
    else:
        absent, tested = np.isnan(values), isinstance(variable, CytogeneticVariable | VariantVariable)
        gap = State.NOT_TESTED if tested or isinstance(variable, LabVariable) else State.NOT_RECORDED
        zero = State.TESTED_NEGATIVE if tested else State.VALUE
        known = np.where(values == 0, np.uint8(zero), np.uint8(State.VALUE))
        states = from_numpy(np.where(absent, np.uint8(gap), known))
    return {
        variable.name: from_numpy(np.where(absent, 0.0, values).astype(kind), absent),
        f"{variable.name}__m": states,
    }


def _states(state: State, rows: int) -> Any:
    return from_numpy(np.full(rows, state, dtype=np.uint8))


def _canonical(variable: Scalar, x: Float64) -> Float64:
    return _rounded(variable, _unscaled(x, variable.scale))


def _unscaled(x: Float64, scale: Scale) -> Float64:
    """The inverse of `harmonize.matrix.scaled`, inside the clip range."""
    low, high = float(scale.clip[0]), float(scale.clip[1])
    transformed = x * float(scale.spread) + float(scale.centre)
    if scale.transform == "log1p":
        transformed = np.expm1(np.clip(transformed, np.log1p(low), np.log1p(high)))
    return np.asarray(np.clip(transformed, low, high))


def _rounded(variable: Scalar, values: Float64) -> Float64:
    """As a real value of the variable would stand in a table; NaN stays."""
    match variable:
        case CodeVariable():
            codes = np.array(sorted(variable.values.values()), dtype=np.float64)
            nearest = np.searchsorted((codes[1:] + codes[:-1]) / 2, np.nan_to_num(values), side="right")
            return np.where(np.isnan(values), np.nan, codes[nearest])
        case DerivedVariable():
            whole = np.minimum(np.rint(values), float(variable.top_code))
        case LabVariable():
            whole = np.round(values, variable.decimals)
        case VariantVariable() if variable.feature == "vaf":
            whole = np.round(values, _FRACTION_DECIMALS)
        case _:
            whole = np.rint(values)
    return np.clip(whole, float(variable.hard[0]), float(variable.hard[1]))
