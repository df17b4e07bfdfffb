"""Bounded statistics of a table: what the opt-in statistics task sums over all hospitals.

Nothing here is released, and nothing is needed for training: the profile's centres and spreads are public constants.
A hospital that agrees to the task gives, through the noisy secure sum and charged to its budget, the sum over its
patients of one bounded row each. Bounds and names are functions of the profile alone; each row depends on one patient
alone. `models` wraps `rows` as a query.

A patient's row has, for every scalar variable v,

| column | value | for |
|---|---|---|
| `v:n` | 1 if there is a number | all |
| `v:z` | z in [-1, 1]: the clipped, transformed number from the middle of its range, in halves of it | no categories |
| `v:=<category>` | 1 for the patient's category | categories |
| `v:bin00` … `v:bin31` | 1 for the 32nd part of the clip range that holds the number | more than two values |
| `v:<state>` | 1 for the reason why there is no number | all |

so that a variable adds at most 3 to the square of a row's length: 1 for n, 1 for z, 1 for a bin. There are no squares
of z: the spread is taken from the histogram. Minimum and maximum are never released.
"""

__all__ = ["BINS", "BoundedRows", "Summary", "bound", "names", "rows", "summaries"]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.buffers import to_numpy
from harmonize.errors import MisuseError
from harmonize.events import State
from harmonize.layout import USABLE, one
from harmonize.profile import CodeVariable, CytogeneticVariable, Profile, Scalar, VariantVariable
from harmonize.table import Table

Float64 = NDArray[np.float64]

BINS: Final = 32
_REASONS: Final = tuple(state for state in State if not state.usable)
_NUMBERS: Final = frozenset({"abnormalities", "ipssr_class", "vaf"})


@dataclass(frozen=True, slots=True)
class BoundedRows:
    """One bounded row per patient, ready for a noisy sum.

    Attributes:
        matrix: float64[n, k]; every entry in [-1, 1], every row's Euclidean length at most `l2`. Read-only.
        l2: public bound of a row's Euclidean length: the sensitivity of the sum, one patient more or fewer.
        linf: public bound of an entry.
        names: of the k columns.
    """

    matrix: Float64 = field(repr=False)
    l2: float
    linf: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """One variable of a released sum. Noise makes counts negative or fractional now and then: nothing is rounded here.

    Attributes:
        n: patients with a number.
        mean: in canonical units; for a transformed variable, of the transformed and back; NaN if n < 1.
        spread: standard deviation of the transformed values, from the histogram; NaN if there is none.
        quantiles: 5 %, 25 %, 50 %, 75 %, 95 %, in canonical units, interpolated in the histogram; empty if none.
        counts: category -> patients.
        missing: state name -> patients.
    """

    n: float
    mean: float
    spread: float
    quantiles: tuple[float, ...]
    counts: Mapping[str, float]
    missing: Mapping[str, float]


QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def names(profile: Profile) -> tuple[str, ...]:
    """Names of the columns: a function of the profile alone."""
    return tuple(f"{variable.name}:{part}" for variable in profile.scalars for part in _parts(variable))


def bound(profile: Profile) -> float:
    """Largest Euclidean length of any row that `rows` can give: √(Σ_v n + z + bin), a function of the profile alone.

    >>> from harmonize import profile
    >>> round(bound(profile.load("aml_core")) ** 2)  # age, wbc, tpi: 3 each; sex: n and category
    11
    """
    return math.sqrt(sum(_weight(variable) for variable in profile.scalars))


def rows(table: Table) -> BoundedRows:
    """The bounded rows of a table's patients, in the table's order."""
    profile = table.profile
    blocks = [_block(table, variable) for variable in profile.scalars]
    matrix = np.concatenate(blocks, axis=1) if blocks else np.zeros((len(table), 0))
    matrix.setflags(write=False)
    return BoundedRows(matrix, bound(profile), 1.0, names(profile))


def summaries(total: Float64, profile: Profile) -> dict[str, Summary]:
    """Read a released sum.

    Args:
        total: float64[k], the sum over patients of `rows(...).matrix`, with or without noise.
        profile: the one the rows were made under.

    Raises:
        MisuseError: `total` has not one number per name.
    """
    if total.shape != (len(names(profile)),):
        raise MisuseError(f"the sum has shape {total.shape}, the profile has {len(names(profile))} names")
    found, start = {}, 0
    for variable in profile.scalars:
        parts = _parts(variable)
        found[variable.name] = _summary(
            variable, dict(zip(parts, total[start : start + len(parts)].tolist(), strict=True))
        )
        start += len(parts)
    return found


def _is_binary(variable: Scalar) -> bool:
    return isinstance(variable, CytogeneticVariable | VariantVariable) and variable.feature not in _NUMBERS


def _parts(variable: Scalar) -> tuple[str, ...]:
    reasons = tuple(_name(state) for state in _REASONS)
    if isinstance(variable, CodeVariable):
        return ("n", *(f"={category}" for category in variable.values), *reasons)
    bins = () if _is_binary(variable) else tuple(f"bin{place:02}" for place in range(BINS))
    return ("n", "z", *bins, *reasons)


def _weight(variable: Scalar) -> int:
    return 2 if isinstance(variable, CodeVariable) or _is_binary(variable) else 3


def _name(state: State) -> str:
    return state.name.lower().replace("_", "-")


def _transformed(values: Float64, variable: Scalar) -> Float64:
    low, high = (float(value) for value in variable.scale.clip)
    clipped = np.clip(values, low, high)
    return np.log1p(clipped) if variable.scale.transform == "log1p" else clipped


def _ends(variable: Scalar) -> tuple[float, float]:
    low, high = _transformed(np.array([float(value) for value in variable.scale.clip]), variable).tolist()
    return low, high


def _block(table: Table, variable: Scalar) -> Float64:
    """float64[n, parts] of one variable."""
    states = table.states(variable.name)
    known = np.isin(states, USABLE)
    values = to_numpy(one(table.arrow, variable.name)).astype(np.float64)
    columns = [known]
    if isinstance(variable, CodeVariable):
        columns += [known & (values == number) for number in variable.values.values()]
    else:
        low, high = _ends(variable)
        # From 0 at the lower end to 1 at the upper one.
        share = np.where(known, (_transformed(values, variable) - low) / (high - low), 0.5)
        columns.append(np.clip(2 * share - 1, -1.0, 1.0))
        if not _is_binary(variable):
            place = np.clip((share * BINS).astype(np.int64), 0, BINS - 1)
            columns += [known & (place == number) for number in range(BINS)]
    columns += [states == reason for reason in _REASONS]
    return np.stack([column.astype(np.float64) for column in columns], axis=1)


def _summary(variable: Scalar, part: Mapping[str, float]) -> Summary:
    n = part["n"]
    missing = {_name(state): part[_name(state)] for state in _REASONS}
    if isinstance(variable, CodeVariable):
        counts = {category: part[f"={category}"] for category in variable.values}
        return Summary(n, math.nan, math.nan, (), counts, missing)
    low, high = _ends(variable)
    half = (high - low) / 2
    mean = low + half * (1 + min(max(part["z"] / n, -1.0), 1.0)) if n >= 1 else math.nan
    # Noise can make a bin negative; a histogram has none.
    histogram = np.array([max(part[name], 0.0) for name in _bins(variable)])
    if not histogram.sum():
        return Summary(n, _canonical(mean, variable), math.nan, (), {}, missing)
    edges = np.linspace(low, high, BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    share = histogram / histogram.sum()
    spread = math.sqrt(float(np.sum(share * (middles - np.sum(share * middles)) ** 2)))
    reached = np.concatenate([[0.0], np.cumsum(share)])
    quantiles = tuple(_canonical(float(np.interp(level, reached, edges)), variable) for level in QUANTILES)
    return Summary(n, _canonical(mean, variable), spread, quantiles, {}, missing)


def _bins(variable: Scalar) -> Iterator[str]:
    return (name for name in _parts(variable) if name.startswith("bin"))


def _canonical(transformed: float, variable: Scalar) -> float:
    return math.expm1(transformed) if variable.scale.transform == "log1p" else transformed
