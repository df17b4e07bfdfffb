"""What textbooks say of a disease before any patient of a study is seen: time grid, hazard, horizons of the report.

| disease | medians of survival, as published                                            | start, deaths a year |
|---------|------------------------------------------------------------------------------|----------------------|
| aml     | under a year in registries of adults (Juliusson, Blood 2009;113:4179)        | .74, median .94 y    |
| mds     | .8 to 8.8 years by category, 3.0 in the middle (Greenberg, Blood 2012;120:2454) | .25, median 2.8 y |
| cmml    | 5 to 72 months by category (Such, Blood 2013;121:3005): the constants of mds | .25                  |
| mm      | 43 and 83 months in stages III and II (Palumbo, J Clin Oncol 2015;33:2863)   | .11, median 6.3 y    |

They start the baseline and bound what is looked at; training and recalibration move it. Bins of risk
are of the risk of death before the first time of the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from models.data import DAYS_PER_YEAR

__all__ = ["DISEASES", "Disease"]


@dataclass(frozen=True)
class Disease:
    """Public constants of a disease.

    Args:
        years: edges of the baseline's intervals in years, the first 0, the last the horizon.
        log_hazard: log of deaths per patient-year.
        reported: years at which calibration is reported.
        risk_edges: inner edges of the bins of predicted risk at the first of them.
    """

    years: tuple[float, ...]
    log_hazard: float
    reported: tuple[float, ...]
    risk_edges: tuple[float, ...]

    @property
    def grid(self) -> tuple[float, ...]:
        """Edges in days."""
        return tuple(DAYS_PER_YEAR * edge for edge in self.years)

    @property
    def calibration_times(self) -> tuple[float, ...]:
        """Times of the report in days."""
        return tuple(DAYS_PER_YEAR * time for time in self.reported)


_MDS: Final = Disease((0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0), -1.4, (1.0, 3.0), (0.1, 0.2, 0.4))

DISEASES: Final[Mapping[str, Disease]] = MappingProxyType(
    {
        "aml": Disease((0.0, 1.0 / 12.0, 0.25, 0.5, 1.0, 2.0, 5.0), -0.3, (1.0, 2.0), (0.35, 0.5, 0.65)),
        "mds": _MDS,
        "cmml": _MDS,
        "mm": Disease((0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0), -2.2, (1.0, 3.0), (0.05, 0.1, 0.2)),
    }
)
