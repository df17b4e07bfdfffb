"""Patients as rows of a CTGAN, and the conditions; a function of the dictionary and the first release.

| column       | in a row                                                         | condition    |
|--------------|------------------------------------------------------------------|--------------|
| continuous   | normal score ÷ `NORMAL_BOUND` in [−1, 1]; observed, not observed | none         |
| binary       | one-hot: lower value, upper value, not observed                  | none         |
| ordinal      | one-hot: values, not observed                                    | none         |
| `OUTCOME`    | one-hot                                                          | its one-hot  |

The score of a continuous column is that of its fine bin (`Frequencies.bin_scores`).

A condition is a level of follow-up by its released frequency: everybody has one, and what a table is for is learned
as an answer to it. Source: Xu et al., NeurIPS 2019, section 4.3, but that a condition there names any column, and
levels by the logarithms of their frequencies: drawing patients so makes everything rare too frequent.

`sights` is what the critic looks at: one number per level but the first of each column, centred and scaled by released
frequencies, so that a rare gene weighs as much as a frequent one; and one for follow-up, its log-rank score (Peto &
Peto, J R Stat Soc A 1972): what Cox regression asks of it when nothing else is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from models.data import Float64, SurvivalData
from models.generators.ctgan.arithmetic import rounded
from models.generators.dictionary import Codes, Dictionary, Kind
from models.generators.oneway import NORMAL_BOUND, Frequencies

__all__ = ["Coding", "Places"]

_LEAST = 2.0**-30  # of a frequency under a logarithm


@dataclass(frozen=True)
class Places:
    """Where a column stands in a row and in a condition; known from the dictionary.

    Args:
        dictionary: of the table.
    """

    dictionary: Dictionary

    @cached_property
    def scalars(self) -> tuple[tuple[int, int], ...]:
        """(column, place in a row) of every continuous column."""
        starts = [group.start for group in self.groups]
        continuous = (j for j, c in enumerate(self.dictionary.columns) if c.kind is Kind.CONTINUOUS)
        return tuple((j, starts[j] - 1) for j in continuous)

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Place of each column's one-hot in a row, `OUTCOME` last."""
        out, start = [], 0
        for column in self.dictionary.columns:
            continuous = column.kind is Kind.CONTINUOUS
            start += continuous
            out.append(slice(start, start + (2 if continuous else column.levels)))
            start = out[-1].stop
        return (*out, slice(start, start + self.dictionary.outcome_levels))

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return int(self.groups[-1].stop)

    @property
    def conditions(self) -> int:
        """Numbers of a condition."""
        return self.dictionary.outcome_levels

    @cached_property
    def kept(self) -> Codes:
        """Places of a row that the critic looks at: all but the first of each one-hot, and but those of `OUTCOME`."""
        first = {group.start for group in self.groups}
        return np.array([k for k in range(self.groups[-1].start) if k not in first], dtype=np.int64)

    @cached_property
    def columns(self) -> Codes:
        """Column that each sight is of, int64[len(kept) + 1]; the last one is follow-up."""
        starts = np.array([0, *(group.stop for group in self.groups)])
        own = np.searchsorted(starts[:-1], self.kept, side="right") - 1
        return np.append(own, len(self.groups) - 1)

    @cached_property
    def pairs(self) -> tuple[Codes, Codes]:
        """First and second sight of every pair whose columns differ, in order."""
        first, second = np.triu_indices(len(self.columns), 1)
        differ = self.columns[first] != self.columns[second]
        return first[differ].astype(np.int64), second[differ].astype(np.int64)

    @cached_property
    def owners(self) -> Codes:
        """Number of the one-hot that each place of a row belongs to, int64[width]; scalars are alone, numbers after."""
        out = np.full(self.width, -1, dtype=np.int64)
        for k, group in enumerate(self.groups):
            out[group] = k
        out[out < 0] = len(self.groups) + np.arange(len(self.scalars))
        return out


@dataclass(frozen=True, eq=False)
class Coding:
    """The coding under released frequencies.

    Args:
        frequencies: the first release.
        evenness: added to the variance p(1 − p) of a level before its sight is divided by its root, > 0.
        missing_weight: of the sights that say "not observed", ≥ 0.
    """

    frequencies: Frequencies = field(repr=False)
    evenness: float = 0.02
    missing_weight: float = 1.0

    @cached_property
    def places(self) -> Places:
        """Where everything stands."""
        return Places(self.frequencies.dictionary)

    @cached_property
    def shares(self) -> Float64:
        """Released frequency of every place of a row, float64[width]; 0 at scalars."""
        places, dictionary = self.places, self.frequencies.dictionary
        out = np.zeros(places.width)
        for j, column in enumerate(dictionary.columns):
            missing = self.frequencies.tables[j][-1]
            split = np.array([1.0 - missing, missing])
            out[places.groups[j]] = split if column.kind is Kind.CONTINUOUS else self.frequencies.coarse(j)
        fine = self.frequencies.tables[-1]
        folded = [_summed(part) for part in np.split(fine[:-1], 2 * dictionary.intervals)]
        out[places.groups[-1]] = [*folded, fine[-1]]
        return out

    @cached_property
    def offsets(self) -> Float64:
        """Logarithms of the frequencies, on the lattice: what an untrained generator answers; 0 at scalars."""
        logs = rounded(np.log(np.maximum(self.shares, _LEAST)))
        for _, place in self.places.scalars:
            logs[place] = 0.0
        return logs

    @cached_property
    def scale(self) -> tuple[Float64, Float64]:
        """Centre and factor of each sight but follow-up's, float64[len(kept)] each."""
        places = self.places
        scalars = np.isin(places.kept, [place for _, place in places.scalars])
        missing = np.isin(places.kept, [group.stop - 1 for group in places.groups[:-1]])
        shares = self.shares[places.kept]
        spread = np.sqrt(shares * (1.0 - shares) + self.evenness)
        weight = np.where(missing, self.missing_weight, 1.0)
        return shares, np.where(scalars, NORMAL_BOUND, weight / spread)

    @cached_property
    def risk(self) -> Float64:
        """Log-rank score of each level of follow-up, float64[2K + 1], mean 0 and variance 1 over released frequencies.

        1 − H for the dead and −H for the living, H the cumulative hazard up to the middle of the interval.
        """
        k, share = self.frequencies.dictionary.intervals, self.shares[self.places.groups[-1]]
        died, left = share[:k], share[k : 2 * k]
        gone = np.add.accumulate(died + left)
        hazard = died / np.maximum(1.0 - np.append(0.0, gone[:-1]) - (died + left) / 2.0, _LEAST)
        cumulated = np.add.accumulate(hazard)
        middle = cumulated - hazard / 2.0
        found = np.concatenate([1.0 - middle, -middle, -cumulated[-1:]])
        found = found - _summed(share * found)
        return np.asarray(found / np.sqrt(max(_summed(share * found * found), _LEAST)))

    @cached_property
    def powers(self) -> Float64:
        """Mean square of each continuous column's scores where it is observed, on the lattice; float64[scalars]."""
        scores = [(self.frequencies.observed(j), self.frequencies.bin_scores(j)) for j, _ in self.places.scalars]
        return rounded(np.array([_summed(share * score * score) for share, score in scores]))

    def rows(self, data: SurvivalData) -> Float64:
        """Patients as rows, float64[n, width], row i a function of patient i and the release; bounded data."""
        places, columns = self.places, self.frequencies.dictionary.columns
        out = np.zeros((len(data), places.width))
        for j, place in places.scalars:
            fine = columns[j].fine_codes(data.x[:, j], data.observed[:, j])
            out[:, place] = np.append(self.frequencies.bin_scores(j), 0.0)[fine] / NORMAL_BOUND
            out[:, places.groups[j]] = (fine == columns[j].fine_bins)[:, None] == np.array([False, True])
        for j, column in enumerate(columns):
            if column.kind is not Kind.CONTINUOUS:
                code = column.codes(data.x[:, j], data.observed[:, j])
                out[:, places.groups[j]] = code[:, None] == np.arange(column.levels)
        outcome = self.frequencies.dictionary.outcome_codes(data)
        out[:, places.groups[-1]] = outcome[:, None] == np.arange(self.frequencies.dictionary.outcome_levels)
        return out

    def sights(self, rows: Float64) -> Float64:
        """What the critic looks at, float64[n, len(kept) + 1], row i a function of row i alone."""
        centre, factor = self.scale
        outcome = (rows[:, self.places.groups[-1]] * self.risk).sum(axis=1)  # one term is not zero: exact
        return np.column_stack([(rows[:, self.places.kept] - centre) * factor, outcome])

    def conditions(self, draws: Float64) -> Float64:
        """Levels of follow-up by released frequencies, one-hot, float64[n, conditions].

        Args:
            draws: float64[n] in [0, 1).
        """
        ladder = np.add.accumulate(self.shares[self.places.groups[-1]])
        level = np.minimum(np.searchsorted(ladder / ladder[-1], draws, side="right"), len(ladder) - 1)
        return np.eye(len(ladder))[level]


def _summed(values: Float64) -> float:
    """Sum one after the other: the same additions on every host."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total
