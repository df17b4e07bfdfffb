"""Patients as rows of a CTGAN, and the conditions; a function of the dictionary and the first release.

| column       | in a row                                                        | condition    |
|--------------|-----------------------------------------------------------------|--------------|
| continuous   | normal score ÷ `NORMAL_BOUND` in [−1, 1]; observed, not observed | none         |
| binary       | one-hot: lower value, upper value, not observed                 | its one-hot  |
| ordinal      | one-hot: values, not observed                                   | its one-hot  |
| `OUTCOME`    | one-hot                                                         | its one-hot  |

The score of a fine bin is the mean of a standard normal number between the quantiles that the bin's released
frequency covers: a value that half the patients share has one score in the middle of them.

The critic sees a row without the first level of each one-hot, centred and scaled by released frequencies: a rare gene
weighs as much as a frequent one, and a patient who has nothing rare costs little gradient norm.

A condition names a column at random and a level by its released frequency. Source: Xu et al., NeurIPS 2019, section
4.3, but for the frequencies, which are logarithms there: drawing patients so makes everything rare too frequent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtri

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

    @cached_property
    def conditioned(self) -> tuple[tuple[int, int], ...]:
        """(column, place of its one-hot in a condition) of every column that conditions name."""
        out, start = [], 0
        scalars = dict(self.scalars)
        for j, group in enumerate(self.groups):
            if j not in scalars:
                out.append((j, start))
                start += group.stop - group.start
        return tuple(out)

    @property
    def conditions(self) -> int:
        """Numbers of a condition."""
        last, start = self.conditioned[-1]
        return int(start + self.groups[last].stop - self.groups[last].start)

    @cached_property
    def kept(self) -> Codes:
        """Places of a row that the critic sees: all but the first of each one-hot."""
        first = {group.start for group in self.groups}
        return np.array([k for k in range(self.width) if k not in first], dtype=np.int64)

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
        evenness: added to the variance p(1 − p) of a level before the critic's inputs are divided by its root, > 0.
    """

    frequencies: Frequencies = field(repr=False)
    evenness: float = 0.02

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
        """Centre and spread of what the critic sees, float64[len(kept)] each."""
        shares = self.shares[self.places.kept]
        spread = np.sqrt(shares * (1.0 - shares) + self.evenness)
        scalars = np.isin(self.places.kept, [place for _, place in self.places.scalars])
        return shares, np.where(scalars, 1.0 / NORMAL_BOUND, spread)

    def rows(self, data: SurvivalData) -> Float64:
        """Patients as rows, float64[n, width], row i a function of patient i and the release; bounded data."""
        places, columns = self.places, self.frequencies.dictionary.columns
        out = np.zeros((len(data), places.width))
        for j, place in places.scalars:
            fine = columns[j].fine_codes(data.x[:, j], data.observed[:, j])
            out[:, place] = np.append(_scores(self.frequencies.tables[j][:-1]), 0.0)[fine] / NORMAL_BOUND
            out[:, places.groups[j]] = (fine == columns[j].fine_bins)[:, None] == np.array([False, True])
        for j, _ in places.conditioned[:-1]:
            code = columns[j].codes(data.x[:, j], data.observed[:, j])
            out[:, places.groups[j]] = code[:, None] == np.arange(columns[j].levels)
        outcome = self.frequencies.dictionary.outcome_codes(data)
        out[:, places.groups[-1]] = outcome[:, None] == np.arange(self.frequencies.dictionary.outcome_levels)
        return out

    def seen(self, rows: Float64) -> Float64:
        """Rows as the critic sees them, float64[n, len(kept)]."""
        centre, spread = self.scale
        return np.asarray((rows[:, self.places.kept] - centre) / spread)

    def conditions(self, draws: Float64, *, complete: bool = False) -> tuple[Float64, Float64]:
        """Conditions by released frequencies, and the part of a row that each one is about.

        Args:
            draws: float64[n, 2] in [0, 1): for the column and for the level.
            complete: never "not observed".

        Returns:
            conditions float64[n, conditions], one number of each 1; targets float64[n, width], the same level in a row.
        """
        places = self.places
        n, many = len(draws), len(places.conditioned)
        which = np.minimum((draws[:, 0] * many).astype(np.int64), many - 1)
        condition, target = np.zeros((n, places.conditions)), np.zeros((n, places.width))
        for k, (j, start) in enumerate(places.conditioned):
            here = np.flatnonzero(which == k)
            share = self.shares[places.groups[j]].copy()
            if complete and k < many - 1:
                share[-1] = 0.0
            if share.sum() <= 0:
                share[0] = 1.0
            ladder = np.cumsum(share)
            last = np.flatnonzero(share > 0)[-1]
            level = np.minimum(np.searchsorted(ladder / ladder[-1], draws[here, 1], side="right"), last)
            condition[here, start + level] = 1.0
            target[here, places.groups[j].start + level] = 1.0
        return condition, target


def _summed(values: Float64) -> float:
    """Sum one after the other: the same additions on every host."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total


def _scores(table: Float64) -> Float64:
    """E[Z | Z between the quantiles of a bin] = (φ(a) − φ(b)) / (Φ(b) − Φ(a)), float64[bins]."""
    share = np.maximum(table, _LEAST)
    share = share / share.sum()
    edges = ndtri(np.clip(np.concatenate([[0.0], np.cumsum(share)]), 0.0, 1.0))
    edges[0], edges[-1] = -np.inf, np.inf
    density = np.exp(-0.5 * edges**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(np.clip((density[:-1] - density[1:]) / share, -NORMAL_BOUND, NORMAL_BOUND))
