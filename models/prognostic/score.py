"""A published score: its table as data, its source, and what comes out for each patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import MisuseError
from models.prognostic.inputs import Bool, Ends, Float64, Input, Patients

__all__ = ["NOT_GIVEN", "Categories", "Cut", "Result", "Row", "Scenario", "Score", "Steps", "between"]

Int8 = NDArray[np.int8]

NOT_GIVEN = -1
"""Category of a patient whose category cannot be given."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A number between two rows of a table.

    Attributes:
        at: the number.
        above: whether the number itself belongs to the upper row ("≥ 10") or to the lower one ("≤ 2").
    """

    at: float
    above: bool = True

    def passed(self, values: Float64) -> Bool:
        """bool[n]: which values belong above."""
        return values >= self.at if self.above else values > self.at


def _row_of(cuts: Sequence[Cut], values: Float64) -> NDArray[np.intp]:
    return np.asarray(np.sum([cut.passed(values) for cut in cuts], axis=0), dtype=np.intp)


def _interval(cuts: Sequence[Cut], row: int) -> str:
    lower = f"{'≥' if cuts[row - 1].above else '>'} {cuts[row - 1].at:g}" if row else ""
    upper = f"{'<' if cuts[row].above else '≤'} {cuts[row].at:g}" if row < len(cuts) else ""
    return ", ".join(filter(None, (lower, upper)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a score's table, for people."""

    variable: str
    value: str
    points: str


@dataclass(frozen=True, slots=True)
class Steps:
    """Points by intervals of one input: one variable of a published table.

    Attributes:
        input: whose value.
        cuts: k increasing numbers.
        points: k + 1 numbers, from the lowest interval to the highest.
        names: what the intervals are called, where they are classes.
    """

    input: Input
    cuts: tuple[Cut, ...]
    points: tuple[float, ...]
    names: tuple[str, ...] = ()

    def of(self, values: Float64) -> Float64:
        """float64[n]: the points of each value."""
        return np.asarray(self.points, dtype=np.float64)[_row_of(self.cuts, values)]

    def rows(self) -> tuple[Row, ...]:
        """The table's lines, in the order of the intervals."""
        title = f"{self.input.title} [{self.input.unit}]" if self.input.unit else self.input.title
        names = self.names or tuple(_interval(self.cuts, row) for row in range(len(self.points)))
        return tuple(Row(title, name, f"{points:g}") for name, points in zip(names, self.points, strict=True))


@dataclass(frozen=True, slots=True)
class Categories:
    """Risk groups by intervals of the points.

    Attributes:
        labels: k + 1 names, from the lowest risk to the highest.
        cuts: k increasing numbers.
    """

    labels: tuple[str, ...]
    cuts: tuple[Cut, ...]

    def of(self, points: Float64) -> Int8:
        """int8[n]: the category of the points, `NOT_GIVEN` for NaN."""
        return np.where(np.isnan(points), NOT_GIVEN, _row_of(self.cuts, points)).astype(np.int8)

    def rows(self) -> tuple[Row, ...]:
        """The table's lines."""
        return tuple(Row("category", label, _interval(self.cuts, i)) for i, label in enumerate(self.labels))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Points and category under one assumption about what is not known.

    Attributes:
        points: float64[n].
        category: int8[n].
    """

    points: Float64 = field(repr=False)
    category: Int8 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """One score of n patients.

    Attributes:
        labels: names of the categories, from the lowest risk to the highest.
        points: float64[n]; NaN where they cannot be given.
        category: int8[n], index into `labels`; `NOT_GIVEN` where it cannot be given. May be known where the points
            are not: whatever the gap hides, the group is the same.
        best, worst: with every gap filled in the patient's favour, and to his disadvantage.
        mean: with every gap filled by the average patient; only of scores whose publication defines it.
        inputs: names of the inputs, length k.
        missing: bool[n, k], inputs that are not known.
        excluded: bool[n], patients for whom the score is not meant; they have neither points nor category.
    """

    labels: tuple[str, ...]
    points: Float64 = field(repr=False)
    category: Int8 = field(repr=False)
    best: Scenario
    worst: Scenario
    mean: Scenario | None
    inputs: tuple[str, ...]
    missing: Bool = field(repr=False)
    excluded: Bool = field(repr=False)

    def label(self, category: Int8) -> list[str]:
        """Names of categories; "" for `NOT_GIVEN`."""
        return ["" if each == NOT_GIVEN else self.labels[each] for each in category]


@dataclass(frozen=True)
class Score:
    """A published prognostic score.

    Attributes:
        name: as the command line names it.
        title: in full.
        version: year of the publication whose table this is.
        citation, doi: where the table stands.
        diseases: what it is meant for, in words.
        diagnoses: SNOMED CT codes of the same: a profile must have one of them as its index diagnosis.
        inputs: what it reads.
        categories: risk groups.
        table: the points, line by line.
        notes: how this implementation reads what the table leaves open.
        rule: from patients to a `Result`; use `of`.
    """

    name: str
    title: str
    version: str
    citation: str
    doi: str
    diseases: str
    diagnoses: tuple[str, ...]
    inputs: tuple[Input, ...]
    categories: Categories
    table: tuple[Row, ...]
    rule: Callable[[Score, Patients], Result] = field(repr=False)
    notes: tuple[str, ...] = ()

    def of(self, patients: Patients) -> Result:
        """Compute the score of every patient.

        Raises:
            MisuseError: an input that the score cannot do without is not among the values.
        """
        for each in self.inputs:
            patients.value(each)
        return self.rule(self, patients)


def between(score: Score, patients: Patients, points: Ends, excluded: Bool | None = None) -> Result:
    """The result of a rule that was applied to both ends: points and category are given where the ends agree.

    Raises:
        MisuseError: the best end lies above the worst one: the rule is not monotone.
    """
    out = np.zeros(len(patients), dtype=np.bool_) if excluded is None else excluded
    # Two ends that differ by rounding only are one number.
    if np.any(points.best > points.worst + 1e-9):
        raise MisuseError(f"{score.name}: the best case has more points than the worst; the rule is not monotone")
    ends = [np.where(out, np.nan, each) for each in points]
    best, worst = (Scenario(each, score.categories.of(each)) for each in ends)
    given = np.where(np.abs(best.points - worst.points) <= 1e-9, best.points, np.nan)
    return Result(
        labels=score.categories.labels,
        points=given,
        category=np.where(best.category == worst.category, best.category, NOT_GIVEN).astype(np.int8),
        best=best,
        worst=worst,
        mean=None,
        inputs=tuple(each.name for each in score.inputs),
        missing=patients.missing(score.inputs),
        excluded=out,
    )
