"""Does one patient move the sum by more than was charged? Asked with the worst patients we can think of.

No statistics: the clipped sum on D and on D ∪ {x} is computed by the production clipping code, on synthetic
records, and the difference is measured. Random records pass even unsound clipping (a Cox partial likelihood
moves 0.86 C on a random record and 48 C on an extreme one), so the probe uses extremes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from audits.errors import MisuseError
from dp.queries import Float64
from models.data import SurvivalData

__all__ = ["Neighbours", "Probe", "Sensitivity", "extreme_neighbours", "joined", "probe"]

Data = TypeVar("Data")


@dataclass(frozen=True)
class Neighbours(Generic[Data]):
    """Two data sets that differ by one patient.

    Attributes:
        name: what is extreme about the patient.
        smaller: without him.
        larger: with him.
        patients: size of the larger one.
    """

    name: str
    smaller: Data
    larger: Data
    patients: int


@dataclass(frozen=True)
class Probe:
    """Movement of the sum for one pair of neighbours, as a share of the bound C; finite iff the sums are."""

    name: str
    moved: float
    within: bool


@dataclass(frozen=True)
class Sensitivity:
    """Outcome of the probe; no patient of any hospital is in it.

    Attributes:
        bound: C, the L2 bound that is charged, in the unit of the sum.
        probes: one line per pair.
    """

    bound: float
    probes: tuple[Probe, ...]

    @property
    def holds(self) -> bool:
        """Every probed patient moved the sum by at most the bound."""
        return bool(self.probes) and all(line.within for line in self.probes)

    @property
    def worst(self) -> float:
        """Largest movement as a share of the bound."""
        return max((line.moved for line in self.probes), default=float("nan"))


def probe(contribution: Callable[[Data], Float64], neighbours: Iterable[Neighbours[Data]], bound: float) -> Sensitivity:
    """Measure how far each extreme patient moves a clipped sum.

    The tolerance is that of float64 summation, 2·n·γ with γ = n·2⁻⁵³, the amount by which the accounted
    sensitivity exceeds C; a non-finite sum fails.

    Args:
        contribution: production code from records to the clipped sum of one site, float64[d].
        neighbours: pairs to try, e.g. `extreme_neighbours`.
        bound: C > 0.

    Raises:
        MisuseError: the bound is not positive or there is nothing to probe.
    """
    pairs = list(neighbours)
    if not bound > 0.0 or not pairs:
        raise MisuseError("the sensitivity probe needs a positive bound and at least one pair of neighbours")
    lines = []
    for pair in pairs:
        change = np.asarray(contribution(pair.larger)) - np.asarray(contribution(pair.smaller))
        moved = float(np.linalg.norm(change)) / bound
        if not np.isfinite(moved):
            # A certificate is JSON, which has no infinity; the largest float says the same.
            moved = float(np.finfo(np.float64).max)
        slack = 2.0 * pair.patients * (pair.patients * 2.0**-53)
        lines.append(Probe(pair.name, moved, moved <= 1.0 + slack))
    return Sensitivity(bound, tuple(lines))


def _one(features: int, value: float, duration: float, *, event: bool = True, observed: bool = True) -> SurvivalData:
    shape = (1, features)
    return SurvivalData(np.full(shape, value), np.full(shape, observed), np.array([duration]), np.array([event]))


def joined(first: SurvivalData, second: SurvivalData) -> SurvivalData:
    """Return the patients of both, the first ones first."""
    return SurvivalData(
        np.concatenate([first.x, second.x]),
        np.concatenate([first.observed, second.observed]),
        np.concatenate([first.duration, second.duration]),
        np.concatenate([first.event, second.event]),
    )


def extreme_neighbours(base: SurvivalData, horizon: float) -> list[Neighbours[SurvivalData]]:
    """Pairs (D, D ∪ {x}) with patients that break careless clipping.

    | patient x | breaks |
    |---|---|
    | all features at ±3, at 1e300 | clipping after a float32 cast, missing range guards |
    | NaN, infinity | missing finite guard |
    | event on day 0, event beyond the horizon | division by exposure, a grid read from data |
    | nothing observed | imputation by the mean of the others |
    | exact copy of another patient | de-duplication, batch statistics |
    | the only patient | division by the number of patients |

    Args:
        base: synthetic records, n ≥ 1.
        horizon: public horizon in days.
    """
    features = base.features
    last, empty = base.rows(np.arange(len(base) - 1, len(base))), base.rows(np.arange(0))
    middle = horizon / 2.0
    strange = {
        "ordinary patient": last,
        "all features at the upper range": _one(features, 3.0, middle),
        "all features at the lower range": _one(features, -3.0, middle),
        "features of 1e300": _one(features, 1e300, middle),
        "features that are not a number": _one(features, float("nan"), middle),
        "an infinite feature": _one(features, float("inf"), middle),
        "event on day 0": _one(features, 3.0, 0.0),
        "event beyond the horizon": _one(features, 3.0, 1000.0 * horizon),
        "a survival time that is not a number": _one(features, 0.0, float("nan")),
        "nothing observed": _one(features, 0.0, horizon, event=False, observed=False),
        "a copy of another patient": last,
    }
    pairs = [Neighbours(name, base, joined(base, extra), len(base) + 1) for name, extra in strange.items()]
    pairs.append(Neighbours("the only patient", empty, last, 1))
    twins = joined(base, base)
    pairs.append(Neighbours("one of many twins", twins, joined(twins, last), len(twins) + 1))
    return pairs
