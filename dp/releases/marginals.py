"""Contingency tables: several marginals in one vector, one calibration for all of them.

What is released is noisy and unbiased: counts below zero, two tables that disagree on the variable they
share. `Marginals.decode` repairs both as post-processing, which spends nothing: it projects onto the
tables that agree on every overlap (least squares, exact: overlaps in order of size, each agreed value the
average weighted by inverse variance, the difference spread evenly) and onto non-negative ones, in turn. All by
correctly rounded operations in a fixed order: every site repairs the released sums to the same bits.

Source: Barak et al., PODS 2007 (consistency as post-processing); Qardaji, Yang & Li, SIGMOD 2014
(PriView: overlaps in topological order).
"""

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64, Neighbours, Query, query_of
from dp.releases.estimate import QUANTILE, Estimate, checked
from dp.releases.histogram import cell_counts, cell_sensitivity
from dp.releases.records import Records

_TURNS: Final = 2000
_AGREED: Final = 1e-9  # of the total: where projecting in turn stops, long before the last turn as a rule


@dataclass(frozen=True, eq=False)
class Marginal:
    """One released table.

    Args:
        attributes: positions of its variables, increasing.
        counts: float64[levels…], non-negative, all tables with one total and equal on their overlaps.
        raw: as released.
        error: standard error of each raw count; a repaired one is nowhere farther from the truth in the mean
            over the tables, for the true tables lie in the sets that it is projected on.
    """

    attributes: tuple[int, ...]
    counts: Float64 = field(repr=False)
    raw: Float64 = field(repr=False)
    error: float

    @property
    def resolved(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """Which cells are clear of the noise (95 %): the others are "not resolved", not zero."""
        clear: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = self.raw > QUANTILE * self.error
        return clear


@dataclass(frozen=True, eq=False)
class NoisyMarginals:
    """All released tables.

    Args:
        tables: one per set of attributes, in the order of the release.
        total: number of patients.
    """

    tables: tuple[Marginal, ...]
    total: Estimate

    def __str__(self) -> str:
        clear = sum(int(table.resolved.sum()) for table in self.tables)
        cells = sum(table.raw.size for table in self.tables)
        return f"{len(self.tables)} tables of {self.total} patients; {cells - clear} of {cells} cells not resolved"


@dataclass(frozen=True)
class Marginals:
    """Counts over the cells of m marginal tables of categorical variables.

    | patient                                  | contribution                                |
    |------------------------------------------|---------------------------------------------|
    | codes 0 … levels − 1                     | 1 in one cell of each table                 |
    | another number, NaN, ±inf in a variable  | zero in the tables with this variable       |
    | several records                          | his first one                               |

    Args:
        names: of the variables; public.
        levels: number of levels of each, from the public dictionary; "missing" is a level like another.
        sets: the tables: increasing positions of variables, each table once.
        kind: "marginals".

    Raises:
        MisuseError: a table of no or unknown variables, a variable without levels, or tables too large.
    """

    names: tuple[str, ...]
    levels: tuple[int, ...]
    sets: tuple[tuple[int, ...], ...]
    kind: str = "marginals"

    def __post_init__(self) -> None:
        if len(self.names) != len(self.levels) or any(level < 1 for level in self.levels):
            raise MisuseError(f"{self.kind}: each variable has a name and at least one level")
        if not self.sets or len(set(self.sets)) != len(self.sets):
            raise MisuseError(f"{self.kind}: at least one table, each once")
        for table in self.sets:
            if not table or list(table) != sorted(set(table)) or not 0 <= table[0] <= table[-1] < len(self.names):
                raise MisuseError(f"{self.kind}: a table names variables by increasing positions")

    @classmethod
    def all_ways(cls, names: tuple[str, ...], levels: tuple[int, ...], ways: int) -> "Marginals":
        """All marginals of so many variables: C(p, k) tables in one release."""
        return cls(names, levels, tuple(combinations(range(len(names)), ways)))

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(self.levels[a] for a in table) for table in self.sets)

    @property
    def length(self) -> int:
        """Cells of all tables together."""
        return sum(math.prod(shape) for shape in self._shapes)

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√m for m tables, and √(2m) for replace-one.

        Proof: a patient adds 1 to at most one cell of each table, and which one is a function of his record and
        the public dictionary: `cell_sensitivity` with m blocks. One Gaussian release of the whole vector
        at this sensitivity costs as much as m releases of single tables at 1 with √m times the noise: it is
        one event instead of m. ∎
        """
        return cell_sensitivity(neighbours, len(self.sets))

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; see `dp.queries.Release`."""
        constants = {"names": self.names, "levels": self.levels, "sets": self.sets}
        return query_of(self, constants, multiplier, patient_cap, index)

    def contribution(self, data: Records) -> Float64:
        """Return the site's counts, float64[length], whole numbers, tables one after the other in C order."""
        rows = data.of_width(self.kind, len(self.levels)).firsts(np.ones(len(data.values), dtype=np.bool_))
        with np.errstate(invalid="ignore"):
            valid = (rows >= 0) & (rows < np.asarray(self.levels)) & (rows == np.floor(rows))
        codes = np.where(valid, rows, 0.0).astype(np.int64)
        counts = []
        for table, shape in zip(self.sets, self._shapes, strict=True):
            columns = list(table)
            cell = np.ravel_multi_index(tuple(codes[:, columns].T), shape)
            counts.append(cell_counts(np.where(valid[:, columns].all(axis=1), cell, -1), math.prod(shape)))
        return np.concatenate(counts)

    def decode(self, total: Float64, noise_sd: float) -> NoisyMarginals:
        """Return tables that are non-negative and agree, beside what was released.

        The total is the average of the tables' totals weighted by inverse variance, with its standard error.
        A total that is not clear of the noise is "not resolved"; the tables then say nothing either.
        """
        checked(self.kind, total, self.length, noise_sd)
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])
        raw = [part.reshape(shape) for part, shape in zip(np.split(total, ends[:-1]), self._shapes, strict=True)]
        repaired = self._repaired(raw)
        weights = [1.0 / table.size for table in raw]
        whole = math.fsum(weights)
        size = math.fsum(_total(table) * weight for table, weight in zip(raw, weights, strict=True)) / whole
        error = noise_sd / math.sqrt(whole)
        known = size > QUANTILE * error
        return NoisyMarginals(
            tuple(Marginal(s, r, t, noise_sd) for s, r, t in zip(self.sets, repaired, raw, strict=True)),
            Estimate.of(size, error, lowest=0.0) if known else Estimate.unresolved(0.0),
        )

    def _repaired(self, raw: list[Float64]) -> list[Float64]:
        """Project in turn: agreeing tables, non-negative tables (Dykstra's correction for the second)."""
        overlaps = self._overlaps()
        tables = [table.copy() for table in raw]
        kept = [np.zeros_like(table) for table in raw]
        for _ in range(_TURNS):
            self._agree(tables, overlaps)
            shifted = [table + debt for table, debt in zip(tables, kept, strict=True)]
            clipped = [np.maximum(table, 0.0) for table in shifted]
            kept = [before - after for before, after in zip(shifted, clipped, strict=True)]
            moved = max(float(np.abs(a - b).max()) for a, b in zip(clipped, tables, strict=True))
            tables = clipped
            if moved <= _AGREED * max(1.0, _total(tables[0])):
                break
        return tables

    def _overlaps(self) -> list[tuple[int, ...]]:
        """All sets that tables share, closed under intersection, smaller ones first; () is the total."""
        shared = {tuple(sorted(set(a) & set(b))) for a, b in combinations(self.sets, 2)} | {()}
        while True:
            more = {tuple(sorted(set(a) & set(b))) for a, b in combinations(shared, 2)} - shared
            if not more:
                return sorted(shared, key=lambda s: (len(s), s))
            shared |= more

    def _agree(self, tables: list[Float64], overlaps: list[tuple[int, ...]]) -> None:
        for overlap in overlaps:
            members = [i for i, table in enumerate(self.sets) if set(overlap) <= set(table)]
            if len(members) < 2:
                continue
            views, spread = [], []
            for i in members:
                others = tuple(axis for axis, a in enumerate(self.sets[i]) if a not in overlap)
                views.append(_summed(tables[i], others))
                spread.append(math.prod(tables[i].shape[axis] for axis in others))
            agreed = np.zeros(views[0].size)
            for view, cells in zip(views, spread, strict=True):
                agreed = agreed + view.ravel() / cells
            agreed = agreed / math.fsum(1.0 / cells for cells in spread)
            for i, view, cells in zip(members, views, spread, strict=True):
                tables[i] += (agreed.reshape(view.shape) - view) / cells


def _total(table: Float64) -> float:
    """The sum of a table, correctly rounded."""
    return math.fsum(table.ravel().tolist())


def _summed(table: Float64, axes: tuple[int, ...]) -> Float64:
    """The sum over some axes, which stay with length 1; one addition after the other in order of the cells."""
    for axis in axes:
        slices = iter(np.moveaxis(table, axis, 0))
        total = next(slices)
        for each in slices:
            total = total + each
        table = np.expand_dims(total, axis)
    return table
