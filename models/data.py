"""The table as a survival model sees it: bounded numbers with public bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import MisuseError

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

DAYS_PER_YEAR = 365.25
INPUT_BOUND = 10.0  # scaled inputs are clipped to ±10: a public bound behind the profile's own, tighter one
SHORTEST_DURATION = 0.5  # days; a death on the day of diagnosis has been under observation for half a day


class BoundedMatrix(Protocol):
    """What `harmonize.Table.matrix()` returns."""

    def columns(self, names: Sequence[str]) -> tuple[Float64, Bool]:
        """x[n, p], scaled and clipped, and observed[n, p], by name."""
        ...

    @property
    def duration(self) -> Float64:
        """[n] days."""
        ...

    @property
    def event(self) -> Bool:
        """[n]."""
        ...


@dataclass(frozen=True, eq=False)
class SurvivalData:
    """Right-censored survival data of one site.

    Args:
        x: float64[n, p], scaled by the profile's public centre and scale; entries that are not observed are
            ignored.
        observed: bool[n, p], True where the value was measured.
        duration: float64[n], days from diagnosis to death or censoring.
        event: bool[n], True = death, False = censored.

    Raises:
        MisuseError: the four arrays do not have these shapes.
    """

    x: Float64 = field(repr=False)
    observed: Bool = field(repr=False)
    duration: Float64 = field(repr=False)
    event: Bool = field(repr=False)

    def __post_init__(self) -> None:
        """Check shapes and freeze private copies."""
        x = np.array(self.x, dtype=np.float64)
        observed = np.array(self.observed, dtype=np.bool_)
        duration = np.array(self.duration, dtype=np.float64)
        event = np.array(self.event, dtype=np.bool_)
        if x.ndim != 2 or observed.shape != x.shape or duration.shape != x.shape[:1] or event.shape != x.shape[:1]:
            raise MisuseError(
                f"survival data need x[n,p], observed[n,p], duration[n], event[n]; got shapes "
                f"{x.shape}, {observed.shape}, {duration.shape}, {event.shape}"
            )
        for name, array in (("x", x), ("observed", observed), ("duration", duration), ("event", event)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def from_matrix(cls, matrix: BoundedMatrix, names: Sequence[str]) -> SurvivalData:
        """Take columns of the harmonised, bounded matrix of a site, in the order of their names here."""
        x, observed = matrix.columns(names)
        return cls(x, observed, matrix.duration, matrix.event)

    def __len__(self) -> int:
        return int(self.duration.shape[0])

    @property
    def features(self) -> int:
        """Number of features p."""
        return int(self.x.shape[1])

    def rows(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> SurvivalData:
        """Select patients by a boolean mask or by positions."""
        return SurvivalData(self.x[index], self.observed[index], self.duration[index], self.event[index])

    def bounded(self, horizon: float) -> SurvivalData:
        """Bound every value by public constants and censor at the public horizon; idempotent.

        A patient whose duration or whose observed features are not finite is left out: he contributes
            exactly zero
        to every sum. Nothing is refused here, because a refusal that depends on one patient is itself a
        release. Each patient's row depends on that patient alone.

        | value | becomes |
        |---|---|
        | feature not observed | 0 |
        | feature beyond ±INPUT_BOUND | ±INPUT_BOUND |
        | duration below SHORTEST_DURATION (also negative) | SHORTEST_DURATION |
        | duration beyond the horizon | horizon, censored |

        Args:
            horizon: days, public.
        """
        usable = np.isfinite(self.duration) & np.all(np.isfinite(self.x) | ~self.observed, axis=1)
        observed = self.observed[usable]
        x = np.clip(np.where(observed, self.x[usable], 0.0), -INPUT_BOUND, INPUT_BOUND)
        duration = self.duration[usable]
        event = self.event[usable] & (duration <= horizon)
        return SurvivalData(x, observed, np.clip(duration, SHORTEST_DURATION, horizon), event)


def joined(parts: Sequence[SurvivalData]) -> SurvivalData:
    """The patients of several tables with the same columns, one after the other."""
    return SurvivalData(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.observed for part in parts]),
        np.concatenate([part.duration for part in parts]),
        np.concatenate([part.event for part in parts]),
    )


def inputs(x: Float64, observed: Bool) -> Float64:
    """Concatenate values and missing indicators: float64[n, 2p] = (x · observed, 1 − observed).

    A fully observed patient has zeros in the second half, so the indicators cost such a patient no gradient
    norm.
    """
    seen = np.asarray(observed, dtype=np.bool_)
    return np.concatenate([np.where(seen, x, 0.0), 1.0 - seen.astype(np.float64)], axis=1)


def exposures(data: SurvivalData, grid: tuple[float, ...]) -> tuple[Float64, Float64]:
    """Split follow-up over a public grid.

    Args:
        data: durations in days; time beyond the last edge is not counted.
        grid: K+1 increasing edges in days, the first one 0.

    Returns:
        years at risk float64[n, K], and the death's interval as one-hot float64[n, K] (intervals are (lo,
        hi]).
    """
    edges = np.asarray(grid, dtype=np.float64)
    width = np.diff(edges)
    time = np.clip(data.duration, 0.0, edges[-1])
    at_risk = np.clip(time[:, None] - edges[None, :-1], 0.0, width[None, :]) / DAYS_PER_YEAR
    died = data.event & (data.duration <= edges[-1])
    deaths = (time[:, None] > edges[None, :-1]) & (time[:, None] <= edges[None, 1:]) & died[:, None]
    return at_risk, deaths.astype(np.float64)
