"""Patients as numbers that the network takes and answers for; a function of the dictionary and the first release.

| column         | input                                              | answer                              |
|----------------|----------------------------------------------------|-------------------------------------|
| continuous     | normal score of its fine bin                       | a number: Gaussian of the score     |
| binary         | 1 at the upper value, less its released frequency  | a bit: Bernoulli                    |
| ordinal        | one-hot over the values, less their frequencies    | a list of levels: categorical       |
| `OUTCOME`      | one-hot over the levels, less their frequencies    | a list of levels: categorical       |
| not observed   | 1 (and 0 in the inputs above)                      | a bit: Bernoulli                    |

The score of a continuous column is that of its fine bin (`Frequencies.bin_scores`).

Offsets are the released frequencies as logits: a network whose answers are all zero draws every column on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from models.data import Float64, SurvivalData
from models.generators.dictionary import Dictionary, Kind
from models.generators.oneway import Frequencies

__all__ = ["Answers", "Coding"]


@dataclass(frozen=True)
class Answers:
    """Where the answers for each column stand, first numbers, then bits, then levels; known from the dictionary.

    Args:
        dictionary: of the table.
    """

    dictionary: Dictionary

    def _of(self, kind: Kind) -> tuple[int, ...]:
        return tuple(j for j, c in enumerate(self.dictionary.columns) if c.kind is kind)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Continuous columns, in order."""
        return self._of(Kind.CONTINUOUS)

    @cached_property
    def binary(self) -> tuple[int, ...]:
        """Binary columns, in order: the first bits; then one bit "not observed" of every column."""
        return self._of(Kind.BINARY)

    @cached_property
    def listed(self) -> tuple[int, ...]:
        """Ordinal columns, in order; `OUTCOME` follows them."""
        return self._of(Kind.ORDINAL)

    @property
    def bits(self) -> int:
        """Number of bits."""
        return len(self.binary) + len(self.dictionary.columns)

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Levels of each ordinal column and of `OUTCOME`, as places among the levels."""
        out, start = [], 0
        for width in (*(self.dictionary.columns[j].bins for j in self.listed), self.dictionary.outcome_levels):
            out.append(slice(start, start + width))
            start += width
        return tuple(out)

    @property
    def levels(self) -> int:
        """Number of levels of all groups."""
        return int(self.groups[-1].stop)

    @cached_property
    def risk(self) -> Float64:
        """A public order of `OUTCOME`'s levels, float64[2K + 1] in ±1: early death, late death, seen alive long."""
        k = self.dictionary.intervals
        passed = (np.arange(k) + 0.5) / k
        return np.concatenate([1.0 - passed, -passed / 2.0, [-1.0]])

    @property
    def width(self) -> int:
        """Number of answers; the inputs are as many."""
        return len(self.numbers) + self.bits + self.levels


@dataclass(frozen=True, eq=False)
class Coding:
    """The coding under released frequencies.

    Args:
        frequencies: the first release.
    """

    frequencies: Frequencies = field(repr=False)

    @cached_property
    def answers(self) -> Answers:
        """Places of the answers."""
        return Answers(self.frequencies.dictionary)

    @cached_property
    def bit_shares(self) -> Float64:
        """Released frequency of each bit, float64[bits], inside (0, 1)."""
        upper = [self.frequencies.observed(j)[1] for j in self.answers.binary]
        return np.array([*upper, *(table[-1] for table in self.frequencies.tables[:-1])])

    @cached_property
    def level_shares(self) -> Float64:
        """Released frequency of each level among patients with a value, float64[levels], adding up to 1 in a group."""
        listed = [self.frequencies.observed(j) for j in self.answers.listed]
        dictionary = self.frequencies.dictionary
        fine = self.frequencies.tables[-1]
        outcome = np.append(fine[:-1].reshape(2 * dictionary.intervals, -1).sum(axis=1), fine[-1])
        return np.concatenate([*listed, outcome / outcome.sum()])

    @cached_property
    def offsets(self) -> Float64:
        """Logits of bits and levels before the network says anything, float64[bits + levels]."""
        return np.concatenate([np.log(self.bit_shares / (1.0 - self.bit_shares)), np.log(self.level_shares)])

    @cached_property
    def _scores(self) -> Mapping[int, Float64]:
        """Score of each fine bin of a continuous column; the last, not observed, is 0."""
        return {j: np.append(self.frequencies.bin_scores(j), 0.0) for j in self.answers.numbers}

    def targets(self, data: SurvivalData) -> tuple[Float64, Float64, Float64, Float64, Float64]:
        """What the answers should have been, row i a function of patient i and the release alone; bounded data.

        Returns:
            scores and which are observed, each float64[n, numbers]; bits and which count, each float64[n, bits];
            one-hot levels, float64[n, levels], zero where not observed.
        """
        places, columns = self.answers, self.frequencies.dictionary.columns
        n = len(data)
        scores, seen = np.zeros((n, len(places.numbers))), np.zeros((n, len(places.numbers)))
        for k, j in enumerate(places.numbers):
            scores[:, k] = self._scores[j][columns[j].fine_codes(data.x[:, j], data.observed[:, j])]
            seen[:, k] = data.observed[:, j]
        bits, counted = np.zeros((n, places.bits)), np.ones((n, places.bits))
        for k, j in enumerate(places.binary):
            bits[:, k] = columns[j].codes(data.x[:, j], data.observed[:, j]) == 1
            counted[:, k] = data.observed[:, j]
        bits[:, len(places.binary) :] = ~data.observed
        levels = np.zeros((n, places.levels))
        codes = [columns[j].codes(data.x[:, j], data.observed[:, j]) for j in places.listed]
        for group, code in zip(places.groups, [*codes, self.frequencies.dictionary.outcome_codes(data)], strict=True):
            levels[:, group] = code[:, None] == np.arange(group.stop - group.start)
        return scores, seen, bits, counted, levels

    def inputs(self, targets: Sequence[Float64]) -> Float64:
        """The network's inputs out of `targets`, float64[n, width]."""
        scores, _, bits, counted, levels = targets
        binary = len(self.answers.binary)
        centred = bits.copy()
        centred[:, :binary] = (bits[:, :binary] - self.bit_shares[:binary]) * counted[:, :binary]
        parts = [scores, centred]
        for group in self.answers.groups:
            known = levels[:, group].max(axis=1, keepdims=True)
            parts.append((levels[:, group] - self.level_shares[group]) * known)
        return np.concatenate(parts, axis=1)
