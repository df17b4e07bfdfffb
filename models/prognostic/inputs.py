"""What a score reads: variables of a profile, and what is known of them for each patient.

A value that is not known is not zero: a gene that was not tested may be mutated. Each input is therefore carried as
its two ends, the value that is best and the value that is worst for the patient, given what is known:

| what is known           | ends                                        |
|-------------------------|---------------------------------------------|
| a value                 | that value, twice                           |
| tested, negative        | 0, twice                                    |
| "< 5", a lower limit    | the lowest possible value, just below 5     |
| "> 5", an upper limit   | just above 5, the highest possible value    |
| nothing                 | the lowest and the highest possible value   |

Every published rule here is monotone in each of its inputs, so that the rule at the two ends bounds the score, and
where both ends agree the score is known in spite of the gap (stage III by beta-2-microglobulin needs no albumin).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import MisuseError

__all__ = ["FINDING", "Ends", "Input", "Patients", "Worse", "at_ends", "finding"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FINDING: Final = "0 or 1"
"""Unit of a finding: 0 = tested and absent, 1 = present."""


class Worse(Enum):
    """Which direction of a value raises the risk."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Input:
    """One variable that a score reads.

    Attributes:
        name: the profile's name of it.
        unit: the canonical unit in UCUM, `FINDING`, or "" for a class, a count or years.
        title: as the score's table names it.
        lowest, highest: possible values; what an unknown value may be.
        worse: the direction that raises the risk.
        required: False for what only stands in for another input, or completes it: a profile may lack it.
        codes: for a coded variable, the number of each category: another profile's numbers mean something else.
    """

    name: str
    unit: str
    title: str
    lowest: float
    highest: float
    worse: Worse = Worse.HIGHER
    required: bool = True
    codes: Mapping[str, int] | None = None


def finding(name: str, title: str, worse: Worse = Worse.HIGHER, *, required: bool = True) -> Input:
    """An input that is present or absent: a mutation, a cytogenetic abnormality."""
    return Input(name, FINDING, title, 0.0, 1.0, worse, required)


class Ends(NamedTuple):
    """float64[n] at the best and at the worst end of what is known."""

    best: Float64
    worst: Float64


def at_ends(rule: Callable[..., Float64], *inputs: Ends) -> Ends:
    """Apply a monotone rule of arrays to the best ends and to the worst ends."""
    return Ends(rule(*(each.best for each in inputs)), rule(*(each.worst for each in inputs)))


@dataclass(frozen=True)
class Patients:
    """Values by variable name, in canonical units.

    Args:
        values: float64[n] by name; NaN where not known. Names that no score asks for are ignored.
        below: bool[n] by name, where the value is an upper bound ("< 5"); absent names mean nowhere.
        above: bool[n] by name, where the value is a lower bound ("> 5").

    Raises:
        MisuseError: the arrays are not one-dimensional and of one length, or an infinity is among the values.
    """

    values: Mapping[str, Float64] = field(repr=False)
    below: Mapping[str, Bool] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    above: Mapping[str, Bool] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def __post_init__(self) -> None:
        """Check the shapes."""
        shapes = {np.shape(each) for part in (self.values, self.below, self.above) for each in part.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise MisuseError(f"patients need arrays of one length, got shapes {sorted(shapes)}")
        for name, array in self.values.items():
            if np.any(np.isinf(array)):
                raise MisuseError(f"{name}: infinite; a value that is not known is NaN")

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def value(self, wanted: Input) -> Float64:
        """float64[n]: the value, NaN where not known; limits as they are written.

        Raises:
            MisuseError: there is no such variable and the score cannot do without.
        """
        if wanted.name in self.values:
            return np.asarray(self.values[wanted.name], dtype=np.float64)
        if wanted.required:
            raise MisuseError(f"{wanted.name}: not among the values, and the score needs it")
        return np.full(len(self), np.nan)

    def known(self, wanted: Input) -> Bool:
        """bool[n]: where there is a value or a limit."""
        return ~np.isnan(self.value(wanted))

    def ends(self, wanted: Input) -> Ends:
        """The best and the worst that the value can be."""
        value = self.value(wanted)
        nowhere = np.zeros(len(self), dtype=np.bool_)
        unknown = np.isnan(value)
        below = self.below.get(wanted.name, nowhere)
        above = self.above.get(wanted.name, nowhere)
        low = np.where(unknown | below, wanted.lowest, np.where(above, np.nextafter(value, np.inf), value))
        high = np.where(unknown | above, wanted.highest, np.where(below, np.nextafter(value, -np.inf), value))
        return Ends(low, high) if wanted.worse is Worse.HIGHER else Ends(high, low)

    def missing(self, inputs: Sequence[Input]) -> Bool:
        """bool[n, k]: which of the inputs are not known."""
        return np.stack([~self.known(each) for each in inputs], axis=1)
