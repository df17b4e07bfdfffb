"""Public constants of the utility figures: time grids of the diseases, and presets for wide tables.

The repository's preset "aml-small" was searched for on five and six columns of BeatAML and IWG-PM, which are two of the
cohorts reported here, so it is not used. Its form stays (linear path and one hidden layer, T = 60 steps, Adam); what
depends on the number of columns was chosen on METABRIC alone by ``python -m benchmarks.dp.choose``, for each way of
adding noise on its own, so that no baseline runs with another one's step size. The search was adaptive: a first one
at ε = 0.5 and 1 saw little but noise; a second one at ε = 1 and 3 had 12 settings and three seeds for sums, nine and
two for FedAvg (width and clip taken over from sums), and its best settings lie within a few thousandths. (The SUPPORT
extract that is at hand has 246 patients: too few to tell settings apart at these ε, so it has no vote.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dp.calibration import split_budget
from models.diseases import DISEASES
from models.presets import Preset, preset
from nodes.protocol import TRAINING_SHARES

__all__ = ["DELTA", "WAYS", "Disease", "Way", "disease", "multiplier", "preset_of"]

DELTA: Final = 1e-5
_YEAR: Final = 365.25


@dataclass(frozen=True)
class Disease:
    """What textbooks say before any patient of a cohort was seen.

    Args:
        grid: edges in years, the last one the horizon.
        log_hazard: log of deaths per patient-year.
    """

    grid: tuple[float, ...]
    log_hazard: float


_DISEASES: Final[Mapping[str, Disease]] = {
    **{name.upper(): Disease(known.years, known.log_hazard) for name, known in DISEASES.items()},
    "METABRIC": Disease((0, 1, 2, 3, 5, 7.5, 10), -2.7),  # breast cancer: more than ten years
}


@dataclass(frozen=True)
class Way:
    """The part of a preset that one way of adding noise was given on METABRIC.

    Args:
        hidden, clip, learning_rate, averaging: as in `models.presets.Preset`.
        rounds: of FedAvg; 0 for sums.
    """

    hidden: tuple[int, ...]
    clip: float
    learning_rate: float
    averaging: float
    rounds: int = 0


WAYS: Final[Mapping[str, Way]] = {
    "distributed": Way((16,), 3.0, 0.04, 3.0),
    "local": Way((16,), 3.0, 0.01, 3.0),
    "fedavg": Way((16,), 3.0, 0.02, 3.0, rounds=6),
}
"""What `benchmarks.dp.choose` chose; "distributed" also trains everything that is pooled."""


def disease(cohort: str) -> Disease:
    """Return a cohort's public constants."""
    return _DISEASES[cohort]


def preset_of(cohort: str, way: Way, patients: float) -> Preset:
    """Return the preset of one way of adding noise, sized for so many training patients."""
    known = disease(cohort)
    return replace(
        preset("aml-small"),
        name="benchmark-wide",
        hidden=way.hidden,
        clip=way.clip,
        learning_rate=way.learning_rate,
        averaging=way.averaging,
        normaliser=float(patients),
        grid=tuple(_YEAR * edge for edge in known.grid),
        initial_log_hazard=known.log_hazard,
        calibration_times=(_YEAR * known.grid[-2],),
        provenance="METABRIC (Curtis 2012)",
    )


def multiplier(epsilon: float) -> float:
    """Return z of one gradient step, as a study of this total ε would: its share of μ², spare uploads included."""
    uploads = preset("aml-small").uploads
    return split_budget(epsilon, DELTA, {"gradient": (TRAINING_SHARES["gradient"], uploads)})["gradient"]
