"""How often each level occurs, column by column: the first release of every generator.

One vector with the fine bins of all columns and of follow-up (one-way `dp.releases.Marginals`), one ledger event.
What follows is post-processing: frequencies, where in its bin a number lies, and the map of a continuous column onto a
standard normal one (rank-normal scores), so that skewed blood counts need no private minimum, maximum or quantile.

Source of the scores: van der Waerden; see Conover, Practical Nonparametric Statistics, 3rd ed. 1999, ch. 5.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri

from dp.queries import Query
from dp.releases import Marginals, Records
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.dictionary import ATOM, OUTCOME, Codes, Column, Dictionary

__all__ = ["KIND", "Frequencies", "OneWay"]

KIND: Final = "histogram"
PSEUDO_COUNT: Final = 0.5  # patients in every fine bin before any is counted
NORMAL_BOUND: Final = 4.0  # scores are cut there: one patient in thirty thousand


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Released frequencies of the fine levels.

    Args:
        dictionary: of the table.
        tables: one per column, float64[fine_bins + 1] (the last: not observed), each adding up to 1; then follow-up on
            `dictionary.fine`'s grid, float64[2·MOMENTS·K + 1].
        patients: released number of patients, at least 1.

    Raises:
        MisuseError: tables of other lengths, or numbers that are no frequencies.
    """

    dictionary: Dictionary
    tables: tuple[Float64, ...] = field(repr=False)
    patients: float

    def __post_init__(self) -> None:
        """Check and freeze private copies."""
        wanted = [*(c.fine_bins + 1 for c in self.dictionary.columns), self.dictionary.fine.outcome_levels]
        if [table.shape for table in self.tables] != [(n,) for n in wanted]:
            raise MisuseError("frequencies have one number per fine level")
        frozen = []
        for table in self.tables:
            array = np.array(table, dtype=np.float64)
            if not np.all(np.isfinite(array)) or array.min() <= 0 or abs(array.sum() - 1) > 1e-6:
                raise MisuseError("frequencies are numbers above 0 that add up to 1")
            array.flags.writeable = False
            frozen.append(array)
        object.__setattr__(self, "tables", tuple(frozen))
        if not 1 <= self.patients < math.inf:
            raise MisuseError("frequencies are of at least one patient")

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of dictionary and numbers."""
        numbers = b"".join(table.astype("<f8").tobytes() for table in self.tables)
        return hashlib.sha256(self.dictionary.digest.encode() + numbers).hexdigest()

    def observed(self, column: int) -> Float64:
        """Frequencies of a column's fine bins among patients with a value, float64[fine_bins]."""
        table = self.tables[column][:-1]
        return np.asarray(table / table.sum())

    def coarse(self, column: int) -> Float64:
        """Frequencies of a column's levels, "not observed" last, float64[levels]."""
        which = self.dictionary.columns[column]
        found = np.bincount(which.coarse_of_fine, weights=self.tables[column][:-1], minlength=which.bins)
        return np.append(found, self.tables[column][-1])

    def numbers(self, column: int, codes: Codes, rng: np.random.Generator) -> Float64:
        """A number in each coarse bin: a fine bin by its frequency, uniform inside it; a value of a column of values.

        Args:
            column: which.
            codes: int64[n] in 0 … bins − 1.
            rng: draws.
        """
        which = self.dictionary.columns[column]
        if which.values:
            return np.asarray(which.values)[codes]
        share, coarse = self.observed(column), which.coarse_of_fine
        edges, draws = np.asarray(which.fine_edges), rng.random((2, len(codes)))
        out = np.empty(len(codes))
        for code in range(which.bins):
            here, bins = codes == code, np.flatnonzero(coarse == code)
            within = np.cumsum(share[bins]) / share[bins].sum()
            fine = bins[np.minimum(np.searchsorted(within, draws[0, here], side="right"), len(bins) - 1)]
            out[here] = edges[fine] + draws[1, here] * (edges[fine + 1] - edges[fine])
        return _settled(which, out)

    def follow_up(
        self, codes: Codes, rng: np.random.Generator
    ) -> tuple[Float64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Days and death of each level of `OUTCOME`: a fine interval by its frequency, uniform inside it."""
        k, fine = self.dictionary.intervals, self.dictionary.fine
        edges, many = np.asarray(fine.grid), fine.intervals
        days, draws = np.full(len(codes), edges[-1]), rng.random((2, len(codes)))
        for code in range(2 * k):
            here = codes == code
            died, interval = code < k, code % k
            bins = interval * (many // k) + np.arange(many // k)
            share = self.tables[-1][bins if died else many + bins]
            within = np.cumsum(share) / share.sum()
            chosen = bins[np.minimum(np.searchsorted(within, draws[0, here], side="right"), len(bins) - 1)]
            days[here] = edges[chosen] + draws[1, here] * (edges[chosen + 1] - edges[chosen])
        return days, codes < k

    def scores(self, column: int, x: Float64) -> Float64:
        """Rank-normal scores of a continuous column, float64[n] inside ±`NORMAL_BOUND`."""
        edges, cumulated = self._distribution(column)
        return np.asarray(np.clip(ndtri(np.interp(x, edges, cumulated)), -NORMAL_BOUND, NORMAL_BOUND))

    def unscored(self, column: int, scores: Float64) -> Float64:
        """The numbers whose rank-normal scores these are, inside the column's bounds."""
        edges, cumulated = self._distribution(column)
        return _settled(self.dictionary.columns[column], np.asarray(np.interp(ndtr(scores), cumulated, edges)))

    def bin_scores(self, column: int) -> Float64:
        """Score of each fine bin of a continuous column, float64[fine_bins] inside ±`NORMAL_BOUND`.

        It is the mean of a standard normal number Z between the quantiles a < b that the bin's frequency covers,
        E[Z | a < Z < b] = (φ(a) − φ(b)) / (Φ(b) − Φ(a)): a value that half the patients share has one score in the
        middle of them.
        """
        _, cumulated = self._distribution(column)
        edges = ndtri(cumulated)
        edges[0], edges[-1] = -np.inf, np.inf
        density = np.exp(-0.5 * edges**2) / np.sqrt(2.0 * np.pi)
        scores = (density[:-1] - density[1:]) / self.observed(column)
        return np.asarray(np.clip(scores, -NORMAL_BOUND, NORMAL_BOUND))

    def _distribution(self, column: int) -> tuple[Float64, Float64]:
        which = self.dictionary.columns[column]
        if which.values:
            raise MisuseError(f"column {which.name!r} is a list of values: it has no scores")
        share = self.observed(column)
        return np.asarray(which.fine_edges), np.concatenate([[0.0], np.minimum(np.cumsum(share), 1.0)])


def _settled(column: Column, numbers: Float64) -> Float64:
    """Numbers in a bin that stands for one number are that number, which many patients have to the last bit."""
    if column.fine_edges[1] - column.low > 2 * ATOM:
        return numbers
    return np.where(numbers < column.fine_edges[1], column.low, numbers)


@dataclass(frozen=True)
class OneWay:
    """The release itself: how many patients are in each fine level, all columns in one vector.

    Args:
        dictionary: of the table.
    """

    dictionary: Dictionary

    @property
    def release(self) -> Marginals:
        """Tables, bound and proof."""
        names = (*self.dictionary.names, OUTCOME)
        levels = (*(c.fine_bins + 1 for c in self.dictionary.columns), self.dictionary.fine.outcome_levels)
        return Marginals(names, levels, tuple((j,) for j in range(len(names))), kind=KIND)

    def query(self, multiplier: float, patient_cap: int) -> Query:
        """Return the query, about the dictionary."""
        return self.release.query(multiplier, patient_cap).about(self.dictionary.digest.encode())

    def contribution(self, data: SurvivalData) -> Float64:
        """Return the site's counts, float64[length], whole numbers; bounded data."""
        columns = [c.fine_codes(data.x[:, j], data.observed[:, j]) for j, c in enumerate(self.dictionary.columns)]
        rows = np.stack([*columns, self.dictionary.fine.outcome_codes(data)], axis=1).astype(np.float64)
        return self.release.contribution(Records(rows))

    def decode(self, total: Float64, noise_sd: float) -> Frequencies:
        """Return frequencies: counts below zero are zero, `PSEUDO_COUNT` in every level; all noise gives even ones."""
        found = self.release.decode(total, noise_sd)
        counts = [table.counts + PSEUDO_COUNT for table in found.tables]
        tables = tuple(table / math.fsum(table.tolist()) for table in counts)
        size = found.total.value if found.total.resolved else 1.0
        return Frequencies(self.dictionary, tables, max(size, 1.0))
