"""The public dictionary: which columns a generator makes, their levels and their bins; nothing in it is learned.

A function of the profile (or of what a benchmark writes down) and of the study's time grid alone, so that a category or
a range can never show that one patient has it.

| kind       | values of one patient                | levels                                   |
|------------|--------------------------------------|------------------------------------------|
| binary     | one of two                           | these two                                |
| ordinal    | one of a short list of numbers       | the numbers                              |
| continuous | a number between public bounds       | coarse bins; each of them is cut finer   |

A continuous column whose lowest number is one that many patients have (no blasts, no mutated share) has a bin for it
alone, `ATOM` wide. Every column has one more level, the last: not observed. Follow-up is a column of its own,
`OUTCOME`: died in interval k of the grid (K levels), was last seen alive in it (K levels), or lived past the horizon (1
level).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.matrix import scaled
from harmonize.profile import CodeVariable, CytogeneticVariable, Profile, Scalar, VariantVariable
from models.data import INPUT_BOUND, SHORTEST_DURATION, Bool, Float64, SurvivalData
from models.errors import ConfigError, MisuseError

__all__ = ["ATOM", "OUTCOME", "Codes", "Column", "Dictionary", "Kind", "continuous", "of_profile"]

Codes = NDArray[np.int64]

OUTCOME: Final = "outcome"
FINER: Final = 4  # fine bins of one coarse bin of a column
MOMENTS: Final = 3  # fine intervals of one interval of follow-up: what is released of it changes monthly, not faster
LONGEST_LIST: Final = 12  # numbers of an ordinal column
ATOM: Final = 1e-6
"""Width of a bin that stands for one number, the lowest; the profile rounds it away."""
_COARSE: Final = (-1.5, -0.75, 0.0, 0.75, 1.5)  # spreads from the centre: about equal shares of a bell curve
_TAIL: Final = 1.5  # spreads: how far the outermost coarse bins are cut finely


class Kind(StrEnum):
    """What a column holds."""

    BINARY = "binary"
    ORDINAL = "ordinal"
    CONTINUOUS = "continuous"


@dataclass(frozen=True)
class Column:
    """One variable, in the profile's scaled units.

    Args:
        name: of the variable.
        kind: see `Kind`.
        values: of a binary or ordinal column its numbers, increasing; empty for a continuous one.
        low, high: public bounds of a continuous column, inside ±`INPUT_BOUND`.
        edges: inner edges of its coarse bins, increasing, between the bounds; may be empty.

    Raises:
        ConfigError: numbers that do not increase, or that leave the bounds; names the column.
    """

    name: str
    kind: Kind
    values: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the public numbers."""
        if self.kind is Kind.CONTINUOUS:
            numbers: tuple[float, ...] = (self.low, *self.edges, self.high)
            wrong = bool(self.values)
        else:
            numbers = self.values
            wrong = bool(self.edges) or not 2 <= len(numbers) <= LONGEST_LIST
            wrong |= self.kind is Kind.BINARY and len(numbers) != 2
        if wrong or not all(a < b for a, b in pairwise(numbers)) or max(map(abs, numbers)) > INPUT_BOUND:
            raise ConfigError(f"column {self.name!r}: not a {self.kind} column with increasing numbers inside bounds")

    @property
    def bins(self) -> int:
        """Number of levels that are observed: values, or coarse bins."""
        return len(self.values) or len(self.edges) + 1

    @property
    def levels(self) -> int:
        """Number of levels, "not observed" (the last) among them."""
        return self.bins + 1

    @cached_property
    def fine_edges(self) -> tuple[float, ...]:
        """All edges of the fine bins of a continuous column, bounds included: `FINER` bins in each coarse one.

        An outermost coarse bin is cut up to `_TAIL` beyond its inner edge; its last fine bin is the rest.
        """
        out: list[float] = [self.low]
        whole = (self.low, *self.edges, self.high)
        for k, (a, b) in enumerate(pairwise(whole)):
            first = k == 0 and b - a > _TAIL
            last = k == len(whole) - 2 and b - a > _TAIL and not first
            start, stop = (b - _TAIL if first else a), (a + _TAIL if last else b)
            pieces = 1 if b - a <= 2 * ATOM else FINER - (first or last)
            if first:
                out.append(start)
            out += [start + (stop - start) * j / pieces for j in range(1, pieces)]
            out.append(stop)
            if last:
                out.append(b)
        return tuple(out)

    @property
    def fine_bins(self) -> int:
        """Number of fine bins; of a column of values, its values."""
        return len(self.values) or len(self.fine_edges) - 1

    def codes(self, x: Float64, observed: Bool) -> Codes:
        """Level of each patient, int64[n] in 0 … bins; a number between two listed values counts as the nearer one."""
        inner = self._middles if self.values else self.edges
        return _coded(x, observed, inner, self.bins)

    def fine_codes(self, x: Float64, observed: Bool) -> Codes:
        """Fine bin of each patient, int64[n] in 0 … fine_bins (not observed)."""
        inner = self._middles if self.values else self.fine_edges[1:-1]
        return _coded(x, observed, inner, self.fine_bins)

    @property
    def coarse_of_fine(self) -> Codes:
        """The coarse bin that each fine bin lies in, int64[fine_bins]."""
        if self.values:
            return np.arange(self.bins, dtype=np.int64)
        starts = np.asarray(self.fine_edges[:-1])
        return np.searchsorted(np.asarray(self.edges), starts, side="right").astype(np.int64)

    @property
    def _middles(self) -> tuple[float, ...]:
        return tuple((a + b) / 2 for a, b in pairwise(self.values))


def _coded(x: Float64, observed: Bool, inner: tuple[float, ...], missing: int) -> Codes:
    seen = observed & np.isfinite(x)
    code = np.searchsorted(np.asarray(inner, dtype=np.float64), np.where(seen, x, 0.0), side="right")
    return np.where(seen, code.astype(np.int64), missing)


@dataclass(frozen=True)
class Dictionary:
    """All columns of a synthetic table and the grid of its follow-up.

    Args:
        columns: in the order of the study's features.
        grid: K+1 edges in days, the first 0, the last the horizon: follow-up is generated up to there.

    Raises:
        ConfigError: no column, a name twice, or a grid that does not start at 0 and increase.
    """

    columns: tuple[Column, ...]
    grid: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check names and grid."""
        names = [column.name for column in self.columns]
        if not names or len(set(names)) != len(names) or OUTCOME in names:
            raise ConfigError(f"a dictionary needs columns, each named once and none {OUTCOME!r}")
        if len(self.grid) < 2 or self.grid[0] != 0 or not all(a < b < math.inf for a, b in pairwise(self.grid)):
            raise ConfigError("a dictionary needs a grid of days that starts at 0 and increases")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order; `OUTCOME` is not among them."""
        return tuple(column.name for column in self.columns)

    @property
    def intervals(self) -> int:
        """K."""
        return len(self.grid) - 1

    @property
    def outcome_levels(self) -> int:
        """2K + 1: died in interval k, last seen alive in interval k, alive at the horizon."""
        return 2 * self.intervals + 1

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of levels of every column, `OUTCOME` last."""
        return (*(column.levels for column in self.columns), self.outcome_levels)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of every number in it, floats as exact hexadecimal strings."""
        body = [
            [c.name, str(c.kind), [v.hex() for v in (*c.values, c.low, c.high)], [e.hex() for e in c.edges]]
            for c in self.columns
        ]
        text = json.dumps(["haemfed/dictionary/v1", body, [float(g).hex() for g in self.grid]], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def codes(self, data: SurvivalData) -> Codes:
        """Level of every patient in every column, int64[n, p + 1], `OUTCOME` last; bounded data.

        Raises:
            MisuseError: the data have another number of features.
        """
        self._check(data)
        parts = [c.codes(data.x[:, j], data.observed[:, j]) for j, c in enumerate(self.columns)]
        return np.stack([*parts, self.outcome_codes(data)], axis=1)

    def outcome_codes(self, data: SurvivalData) -> Codes:
        """Level of every patient's follow-up, int64[n]."""
        k, edges = self.intervals, np.asarray(self.grid[1:])
        time = np.maximum(data.duration, SHORTEST_DURATION)
        interval = np.minimum(np.searchsorted(edges, time, side="left"), k - 1)
        past = (time > edges[-1]) | ((time == edges[-1]) & ~data.event)
        return np.where(past, 2 * k, np.where(data.event, interval, k + interval)).astype(np.int64)

    @cached_property
    def fine(self) -> Dictionary:
        """The same columns over a grid with `MOMENTS` intervals in each of this one's."""
        grid: list[float] = [0.0]
        for a, b in pairwise(self.grid):
            grid += [a + (b - a) * j / MOMENTS for j in range(1, MOMENTS)] + [b]
        return Dictionary(self.columns, tuple(grid))

    def subset(self, names: Sequence[str]) -> Dictionary:
        """The dictionary of some of the columns, in the order asked for.

        Raises:
            ConfigError: a name that is not in it.
        """
        known = {column.name: column for column in self.columns}
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"the generator has no column {', '.join(unknown)}; it has {', '.join(known)}")
        return Dictionary(tuple(known[name] for name in names), self.grid)

    def _check(self, data: SurvivalData) -> None:
        if data.features != len(self.columns):
            raise MisuseError(f"the dictionary has {len(self.columns)} columns, the data {data.features} features")


def of_profile(profile: Profile, grid: tuple[float, ...]) -> Dictionary:
    """The dictionary that follows from a profile: its inputs (tiers A and B), in order.

    Args:
        profile: of the study.
        grid: of its preset, days.
    """
    return Dictionary(tuple(_column(variable) for variable in profile.inputs), grid)


def _column(variable: Scalar) -> Column:
    listed = _listed(variable)
    if listed:
        values = tuple(sorted({float(v) for v in scaled(np.array(listed), variable.scale)}))
        return Column(variable.name, Kind.BINARY if len(values) == 2 else Kind.ORDINAL, values)
    low, high = (float(v) for v in scaled(np.array([float(v) for v in variable.scale.clip]), variable.scale))
    return continuous(variable.name, low, high, atom=float(variable.scale.clip[0]) == 0.0)


def continuous(name: str, low: float, high: float, *, atom: bool) -> Column:
    """A continuous column with coarse bins of about equal shares.

    Args:
        name: of the variable.
        low: public lower bound, scaled; cut to ±`INPUT_BOUND`.
        high: the upper one.
        atom: whether the lowest number is one that many patients have: then it is a bin of its own.
    """
    low, high = max(low, -INPUT_BOUND), min(high, INPUT_BOUND)
    edges = tuple(edge for edge in _COARSE if low + 2 * ATOM < edge < high)
    return Column(name, Kind.CONTINUOUS, low=low, high=high, edges=(low + ATOM, *edges) if atom else edges)


def _listed(variable: Scalar) -> list[float]:
    """The numbers that a variable takes, if the profile lists them or bounds them to a few whole ones."""
    if isinstance(variable, CodeVariable):
        return sorted({float(v) for v in variable.values.values()})
    whole = isinstance(variable, CytogeneticVariable) or (
        isinstance(variable, VariantVariable) and variable.feature != "vaf"
    )
    first, last = (float(bound) for bound in variable.scale.clip)
    if whole and last - first < LONGEST_LIST:
        return [float(v) for v in range(int(first), int(last) + 1)]
    return []
