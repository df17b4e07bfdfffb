"""Where the patients of a plan come from: public numbers, or a public table."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pandas as pd

from harmonize.profile import CodeVariable, Scalar, load
from models.data import DAYS_PER_YEAR, SurvivalData
from models.simulation import Column, Disease, Population
from nodes import files
from nodes.errors import DataProblem

__all__ = ["Invented", "Patients", "Resampled", "described", "read_table"]

_FEWEST_ROWS: Final = 60
_FEWEST_DEATHS: Final = 10
_MOST_COLUMNS: Final = 500


class Patients(Protocol):
    """Where the patients of a plan come from."""

    @property
    def features(self) -> int:
        """Columns of their records."""
        ...

    def describe(self) -> dict[str, object]:
        """Every public number behind them, as JSON."""
        ...

    def draw(
        self, sizes: Sequence[int], test: int, rng: np.random.Generator
    ) -> tuple[list[SurvivalData], SurvivalData]:
        """Return new training patients for each hospital, and new patients nobody trained on."""
        ...


@dataclass(frozen=True)
class Invented:
    """Patients of a population that exists only as public numbers."""

    disease: Disease
    _population: Population = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Fix the population."""
        object.__setattr__(self, "_population", Population(self.disease, np.random.default_rng(0)))

    @property
    def features(self) -> int:
        """Columns."""
        return len(self.disease.columns)

    def describe(self) -> dict[str, object]:
        """The disease's numbers."""
        d = self.disease
        return {
            "patients": "invented",
            "columns": self.features,
            "concordance_of_true_risk": d.concordance,
            "median_survival_days": d.median_survival,
            "median_follow_up_days": d.follow_up,
            "missing": d.missing,
            "nonlinear": d.nonlinear,
        }

    def draw(
        self, sizes: Sequence[int], test: int, rng: np.random.Generator
    ) -> tuple[list[SurvivalData], SurvivalData]:
        """Draw everybody anew."""
        return [self._population.draw(size, rng) for size in sizes], self._population.draw(test, rng)


@dataclass(frozen=True)
class Resampled:
    """Patients drawn from a public table: a third of it, other in each run, is only for scoring.

    Args:
        name: of the table.
        table: its patients.

    Raises:
        DataProblem: too few of them.
    """

    name: str
    table: SurvivalData = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be split."""
        if len(self.table) < _FEWEST_ROWS or int(self.table.event.sum()) < _FEWEST_DEATHS:
            raise DataProblem(
                f"{self.name}: a plan needs at least {_FEWEST_ROWS} patients with known follow-up, "
                f"{_FEWEST_DEATHS} of whom died"
            )

    @property
    def features(self) -> int:
        """Columns."""
        return self.table.features

    def describe(self) -> dict[str, object]:
        """Size of the table."""
        return {"patients": f"drawn from {self.name}", "columns": self.features, "rows": len(self.table)}

    def draw(
        self, sizes: Sequence[int], test: int, rng: np.random.Generator
    ) -> tuple[list[SurvivalData], SurvivalData]:
        """Draw with replacement only where the table is too small for the federation."""
        order = rng.permutation(len(self.table))
        aside = min(test, len(order) // 3)
        rest, wanted = order[aside:], sum(sizes)
        dealt = rest[:wanted] if wanted <= len(rest) else rng.choice(rest, wanted)
        parts = np.split(dealt, np.cumsum(sizes)[:-1])
        return [self.table.rows(part) for part in parts], self.table.rows(order[:aside])


def described(name: str, concordance: float, survival: float, follow_up: float, missing: float) -> Invented:
    """Return invented patients with the columns of a profile.

    Args:
        name: of a profile; its variables, on their public scale and inside their public ranges.
        concordance: C-index that a perfect model would reach, 0.5 … 0.9.
        survival: median survival, years.
        follow_up: median potential follow-up, years.
        missing: share of values that were not measured.

    Raises:
        ProfileError: there is no such profile.
        ConfigError: (of `models`) a number outside its range.
    """
    columns = tuple(_column(variable) for variable in load(name).inputs)
    return Invented(Disease(columns, concordance, survival * DAYS_PER_YEAR, follow_up * DAYS_PER_YEAR, missing))


def _column(variable: Scalar) -> Column:
    scale = variable.scale
    low, high = (float(bound) for bound in scale.clip)
    if scale.transform == "log1p":
        low, high = math.log1p(low), math.log1p(high)
    ends = ((low - float(scale.centre)) / float(scale.spread), (high - float(scale.centre)) / float(scale.spread))
    # A category's two ends are equally frequent: the one assumption about it that needs no source.
    return Column(*ends, share=0.5 if isinstance(variable, CodeVariable) else None)


def read_table(path: Path) -> Resampled:
    """Read a public cohort.

    The columns ``days`` (to death or last follow-up) and ``event`` (1 = death) are the outcome, every other one is a
    number; an empty field is a value that was not measured. Numbers are scaled by the table's own mean and spread and
    clipped to ±3: that reads the table, which is why it has to be a public one.

    Raises:
        StorageProblem: the file cannot be read.
        DataProblem: it is no such table; names the column.
    """
    try:
        frame = pd.read_csv(io.BytesIO(files.read(path)))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise DataProblem(f"{path}: not a CSV table in UTF-8") from None
    for name in ("days", "event"):
        if name not in frame.columns:
            raise DataProblem(f"{path}: no column {name!r}; a plan needs days, event and at least one number")
    features = [name for name in frame.columns if name not in ("days", "event")]
    if not 1 <= len(features) <= _MOST_COLUMNS:
        raise DataProblem(f"{path}: {len(features)} columns beside days and event; a plan takes 1 to {_MOST_COLUMNS}")
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataProblem(f"{path}: column {name!r} is not numeric; remove it, or make a 0/1 column of each value")
    if not frame["event"].dropna().isin([0, 1]).all():
        raise DataProblem(f"{path}: column 'event' must be 0 or 1")
    known = frame[(frame["days"] > 0) & np.isfinite(frame["days"]) & frame["event"].notna()]
    raw = known[features].to_numpy(dtype=np.float64)
    observed = np.isfinite(raw)
    raw = np.where(observed, raw, np.nan)
    count = np.maximum(observed.sum(axis=0), 1)
    mean = np.nansum(raw, axis=0) / count
    spread = np.sqrt(np.nansum((raw - mean) ** 2, axis=0) / count)
    x = np.clip((raw - mean) / np.where(spread > 0, spread, 1.0), -3.0, 3.0)
    data = SurvivalData(x, observed, known["days"].to_numpy(dtype=np.float64), known["event"].to_numpy() == 1)
    return Resampled(path.name, data)
