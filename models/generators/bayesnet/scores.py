"""One release that says most about dependence at a small budget: centred counts, and products of pairs of scores.

A pair table of L × M levels costs L·M noisy numbers; the part of it that matters most is one number, how the two
columns rise and fall together. So each column gets one bounded score per level, and what is summed over patients is the
product of every two scores. For two-valued columns that is the whole table. Beside it stand the counts of all levels,
centred at the frequencies that were released before: a patient's vector is then short where he is like most, and a
bound on its norm costs little.

Scores come from released frequencies: half the difference of patients below and above (ridit, Bross 1958), and for
follow-up the log-rank score of Peto & Peto (J R Stat Soc A 1972). "Not observed" has score 0, the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, query_of
from dp.rows import clipped_rows
from models.data import Float64
from models.errors import MisuseError
from models.generators.bayesnet.arithmetic import margin, nearest_counts
from models.generators.bayesnet.arithmetic import total as added
from models.generators.dictionary import MOMENTS, Codes, Dictionary, Kind
from models.generators.oneway import PSEUDO_COUNT, Frequencies

__all__ = ["Coding", "Products", "Summary", "coarse"]

_SPREAD: Final = 0.289  # of a ridit of many levels: 1/√12
_BEYOND: Final = 0.6  # follow-up scores are cut there
_LEAST: Final = 1e-9
_LEAST_LEFT: Final = 0.4  # of a column's squared scores, as far as noise is believed
_CUBE_ROOTS: Final = (1.26, 1.44, 1.59, 1.71, 1.82, 1.91, 2.0, 2.08, 2.15, 2.22, 2.29, 2.35)  # of 2 … 13


def coarse(frequencies: Frequencies) -> tuple[Float64, ...]:
    """Frequencies of the coarse levels of all columns, `OUTCOME` last; float64[levels] each."""
    out = [frequencies.coarse(j) for j in range(len(frequencies.dictionary.columns))]
    fine = frequencies.tables[-1]
    return (*out, np.append(margin(fine[:-1].reshape(-1, MOMENTS), (0,)), fine[-1]))


@dataclass(frozen=True, eq=False)
class Coding:
    """What stands for a level in the sums: functions of released frequencies and public constants.

    Args:
        frequencies: released.
        noise_sd: standard deviation of the noise in each of their fine counts, ≥ 0.
        binary_weight: of a two-valued column's score.
        outcome_share: of the mean squared norm of all scores that is follow-up's, in (0, 1): its products with the
            columns say who dies early, and a heavy score lifts them out of the noise.
    """

    frequencies: Frequencies
    noise_sd: float
    binary_weight: float
    outcome_share: float

    @cached_property
    def margins(self) -> tuple[Float64, ...]:
        """Released frequencies of the levels."""
        return coarse(self.frequencies)

    @cached_property
    def weights(self) -> Float64:
        """Of each column's counts, float64[p + 1]: cube root of its number of levels, and a usual patient has norm 1.

        The cube root makes the sum over tables of (cells × noise) least.
        """
        found = [_CUBE_ROOTS[min(max(len(m) - 1, 2), 13) - 2] for m in self.margins]
        usual = sum(w * w * (1.0 - added(m * m)) for w, m in zip(found, self.margins, strict=True))
        return np.asarray(np.asarray(found) / np.sqrt(max(usual, _LEAST)))

    @cached_property
    def scores(self) -> tuple[Float64, ...]:
        """Of the levels of each column, float64[levels]: mean 0, and the mean squared norm of all is 1."""
        columns = self.frequencies.dictionary.columns
        found = [
            np.append(_ridits(m[:-1]) * (self.binary_weight if c.kind is Kind.BINARY else 1.0), 0.0)
            for c, m in zip(columns, self.margins[:-1], strict=True)
        ]
        found.append(_log_rank(self.margins[-1], self.frequencies.dictionary.intervals))
        squares = [max(added(m * s * s), _LEAST) for m, s in zip(self.margins, found, strict=True)]
        rest = added(np.asarray(squares[:-1])) / (1.0 - self.outcome_share)
        sizes = [rest] * len(columns) + [squares[-1] / self.outcome_share]
        return tuple(s / np.sqrt(size) for s, size in zip(found, sizes, strict=True))


def _ridits(share: Float64) -> Float64:
    share = share / max(added(share), _LEAST)
    return np.asarray(np.add.accumulate(share) - share / 2.0 - 0.5)


def _log_rank(share: Float64, intervals: int) -> Float64:
    """1 − H of the dead, −H of the living, H the hazard up to the middle of the interval; centred, scaled, cut."""
    died, left = share[:intervals], share[intervals : 2 * intervals]
    gone = np.add.accumulate(died + left)
    at_risk = 1.0 - np.append(0.0, gone[:-1]) - left / 2.0
    hazard = died / np.maximum(at_risk, _LEAST)
    cumulated = np.add.accumulate(hazard)
    middle = cumulated - hazard / 2.0
    found = np.concatenate([1.0 - middle, -middle, -cumulated[-1:]])
    found = found - added(share * found)
    spread = np.sqrt(max(added(share * found * found), _LEAST))
    found = np.clip(found / spread * _SPREAD, -_BEYOND, _BEYOND)
    return np.asarray(found - added(share * found))


@dataclass(frozen=True, eq=False)
class Summary:
    """What the release says.

    Args:
        margins: frequencies of the levels of all columns, both releases together.
        scores: of the levels.
        covariance: float64[p + 1, p + 1], of the scores; diagonal 0.
        noise_sd: standard deviation of the noise in each covariance, float64[p + 1, p + 1]; diagonal 0.
    """

    margins: tuple[Float64, ...] = field(repr=False)
    scores: tuple[Float64, ...] = field(repr=False)
    covariance: Float64 = field(repr=False)
    noise_sd: Float64 = field(repr=False)


@dataclass(frozen=True, eq=False)
class Products:
    """The vector (√λ · r, √(1−λ) · m) of one patient: r his centred levels, m his scores' squares and products.

    | patient                        | contribution                                      |
    |--------------------------------|---------------------------------------------------|
    | ‖r‖ > 1                        | r scaled to norm 1                                |
    | scores of norm > 1             | all scaled to norm 1, then multiplied             |

    Args:
        dictionary: of the table.
        balance: λ in (0, 1), public.
        coding: levels to numbers; None before the frequencies were released.
        kind: "sum".
    """

    dictionary: Dictionary
    balance: float
    coding: Coding | None
    kind: str = "sum"

    @classmethod
    def blank(cls, dictionary: Dictionary, balance: float) -> Products:
        """The release before its coding is known: length and bound are these."""
        return cls(dictionary, balance, None)

    @property
    def length(self) -> int:
        """All levels, all pairs of columns, each with itself among them."""
        columns = len(self.dictionary.levels)
        return sum(self.dictionary.levels) + columns * (columns + 1) // 2

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and 2 for replace-one.

        Proof: with scores v, ‖v‖ ≤ 1, m = (v_i², √2·v_i v_j)_{i<j} has ‖m‖² = Σ v_i⁴ + 2·Σ_{i<j} v_i² v_j² = ‖v‖⁴ ≤ 1,
        and ‖r‖ ≤ 1, so ‖(√λ r, √(1−λ) m)‖² ≤ λ + (1−λ) = 1. Both are functions of one patient's levels, of released
        frequencies and of public constants. `dp.rows` sums the rows at bound 1, whatever was rounded before: one
        patient more or fewer moves the sum by ≤ 1, one exchanged for another by ≤ 2, for r may be turned round. ∎
        """
        return 1.0 if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2.0

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; its public bytes name dictionary and coding."""
        known = self.coding
        coding = () if known is None else (known.frequencies.digest, known.binary_weight, known.outcome_share)
        constants = {"dictionary": self.dictionary.digest, "balance": self.balance, "coding": coding}
        return query_of(self, constants, multiplier, patient_cap, index)

    def contribution(self, codes: Codes) -> Float64:
        """Return the site's sum, float64[length], exact; codes int64[n, p + 1].

        Raises:
            MisuseError: the release has no coding yet.
        """
        coding = self._known
        levels = self.dictionary.levels
        centred = [(np.eye(n)[codes[:, j]] - coding.margins[j]) * coding.weights[j] for j, n in enumerate(levels)]
        scores = np.stack([s[codes[:, j]] for j, s in enumerate(coding.scores)], axis=1)
        v, (first, second) = _bounded(scores), _columns(len(levels))
        products = np.concatenate([v * v, v[:, first] * v[:, second] * np.sqrt(2.0)], axis=1)
        products *= np.sqrt(1.0 - self.balance)
        rows = np.concatenate([_bounded(np.concatenate(centred, axis=1)) * np.sqrt(self.balance), products], axis=1)
        return clipped_rows(np.ascontiguousarray(rows), 1.0)

    def decode(self, total: Float64, noise_sd: float) -> Summary:
        """Return margins and covariances of the scores.

        A level's count is the mean of both releases' counts weighted by inverse variance, then all are the nearest
        ones that are not negative and add up.

        Args:
            total: float64[length], released.
            noise_sd: of the noise in it, ≥ 0.

        Raises:
            MisuseError: the release has no coding yet, or another length.
        """
        if total.shape != (self.length,):
            raise MisuseError(f"{self.kind}: expected {self.length} sums, got {list(total.shape)}")
        coding, patients, start = self._known, self._known.frequencies.patients, 0
        margins = []
        for j, (before, weight) in enumerate(zip(coding.margins, coding.weights, strict=True)):
            moved = total[start : start + len(before)] / (weight * np.sqrt(self.balance))
            start += len(before)
            deviation = noise_sd / (weight * np.sqrt(self.balance))
            own = deviation * deviation + _LEAST
            early = coding.noise_sd * coding.noise_sd * self._pieces(j) + _LEAST
            counts = nearest_counts(before * patients + moved * (early / (early + own)), patients) + PSEUDO_COUNT
            margins.append(counts / added(counts))
        means = np.array([added(m * s) for m, s in zip(margins, coding.scores, strict=True)])
        scale = np.sqrt(1.0 - self.balance) * patients
        squares, products = total[start : start + len(margins)] / scale, total[start + len(margins) :] / scale
        expected = np.array([added(m * s * s) for m, s in zip(margins, coding.scores, strict=True)])
        # Scaling to norm 1 takes from the products what it takes from the squares, whose size the margins tell.
        left = np.sqrt(np.clip(squares / np.maximum(expected, _LEAST), _LEAST_LEFT, 1.0))
        first, second = _columns(len(margins))
        covariance, noise = np.zeros((2, len(margins), len(margins)))
        kept = left[first] * left[second]
        covariance[first, second] = products / (np.sqrt(2.0) * kept) - means[first] * means[second]
        noise[first, second] = noise_sd / (scale * np.sqrt(2.0) * kept)
        return Summary(tuple(margins), coding.scores, covariance + covariance.T, noise + noise.T)

    def _pieces(self, column: int) -> Float64:
        """How many fine counts add up to each level's."""
        if column == len(self.dictionary.columns):
            return np.append(np.full(2 * self.dictionary.intervals, float(MOMENTS)), 1.0)
        which = self.dictionary.columns[column]
        return np.append(np.bincount(which.coarse_of_fine, minlength=which.bins).astype(np.float64), 1.0)

    @property
    def _known(self) -> Coding:
        if self.coding is None:
            raise MisuseError(f"{self.kind}: scores follow from released frequencies; there are none yet")
        return self.coding


def _bounded(rows: Float64) -> Float64:
    norms = np.sqrt(np.sum(rows * rows, axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(norms, 1.0))


def _columns(columns: int) -> tuple[Sequence[int], Sequence[int]]:
    chosen = list(combinations(range(columns), 2))
    return [a for a, _ in chosen], [b for _, b in chosen]
