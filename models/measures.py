"""What a study may measure on hold-out patients, by constants that follow from its preset and were chosen on nobody.

| measure       | kinds of sums             | says                                                                     |
|---------------|---------------------------|--------------------------------------------------------------------------|
| `concordance` | concordance               | C-index within hospitals                                                 |
| `calibration` | calibration               | observed against predicted risk at each calibration time, and the slope  |
| `brier`       | survival-holdout, brier   | Ĝ at the last calibration time, then the Brier score integrated up to it |
| `auc`         | auc, one per such time    | cumulative/dynamic AUC(t)                                                |
| `likelihood`  | likelihood                | mean log-likelihood in nats                                              |

Every sum is asked whatever the ones before it said: which stage a round belongs to is a function of the study and of
who was there (`nodes.windows`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from dp.queries import Neighbours
from dp.releases.histogram import cell_sensitivity
from models import brier, calibration, concordance, likelihood
from models.auc import TimeDependentAUC
from models.brier import BrierScore
from models.errors import ConfigError
from models.kaplan_meier import KaplanMeier, SurvivalCurve
from models.likelihood import LogLikelihood
from models.predict import SurvivalModel
from models.presets import Preset

__all__ = [
    "DEFAULT",
    "KINDS",
    "MEASURES",
    "Shape",
    "auc_at",
    "brier_score",
    "censoring",
    "checked",
    "kinds",
    "log_likelihood",
    "shape",
]

MEASURES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "concordance": ("concordance",),
        "calibration": ("calibration",),
        "brier": ("survival-holdout", "brier"),
        "auc": ("auc",),
        "likelihood": ("likelihood",),
    }
)
"""Measure → kinds of its sums; in the order in which they are asked."""

KINDS: Final = tuple(kind for kinds in MEASURES.values() for kind in kinds)

DEFAULT: Final = ("concordance", "calibration")
"""Few hundred hold-out patients resolve these two at ε = 2; what the others need is in docs/reference/study.md."""

AUC_STEPS: Final = tuple(step * 0.4 for step in range(-4, 5))
"""Edges of AUC's ten bins in log-risk about the released baseline: the spread of survival models, in any disease."""

BRIER_CAP: Final = 2.0
"""M: weights 1/Ĝ above it are cut. The noise of the score grows with M; below Ĝ = ½ the score is a little too good."""

LIKELIHOOD_BOUND: Final = 3.0
"""Nats about the expectation of a patient who dies under the preset's initial hazard."""


@dataclass(frozen=True)
class Shape:
    """What of a kind's queries is known before there is a model.

    Args:
        steps: sums.
        length: coordinates.
        sensitivity: L2 bound of one patient's contribution, add-or-remove-one.
        constants: public constants beyond the preset's fields.
    """

    steps: int
    length: int
    sensitivity: float
    constants: dict[str, object] = field(default_factory=dict)


def checked(measures: tuple[str, ...]) -> tuple[str, ...]:
    """Return the measures in the order in which they are asked.

    Raises:
        ConfigError: none, an unknown one, or one named twice.
    """
    known = ", ".join(MEASURES)
    if not measures:
        raise ConfigError(f"a study measures something on its hold-out patients: {known}")
    if unknown := [name for name in measures if name not in MEASURES]:
        raise ConfigError(f"no measure {unknown[0]!r}; there are {known}")
    if len(set(measures)) != len(measures):
        raise ConfigError("a measure is named twice")
    return tuple(name for name in MEASURES if name in measures)


def kinds(measures: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of sums that the measures take, in order; raises as `checked`."""
    return tuple(kind for name in checked(measures) for kind in MEASURES[name])


def shape(kind: str, preset: Preset) -> Shape:
    """Number, length, sensitivity and constants of a kind's queries.

    Raises:
        KeyError: not one of `KINDS`.
    """
    cells = cell_sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    grid = _brier_grid(preset)
    return {
        "concordance": Shape(1, 2, concordance.SENSITIVITY),
        "calibration": Shape(1, calibration.length(preset), calibration.sensitivity(preset)),
        "survival-holdout": Shape(1, censoring(preset).length, cells, {"grid": grid}),
        "brier": Shape(1, 2, brier.SENSITIVITY, {"times": grid[1:], "cap": BRIER_CAP}),
        "auc": Shape(len(preset.calibration_times), 2 * (len(AUC_STEPS) + 1), cells, {"steps": AUC_STEPS}),
        "likelihood": Shape(
            1, 2, likelihood.SENSITIVITY, {"centre": _likelihood_centre(preset), "bound": LIKELIHOOD_BOUND}
        ),
    }[kind]


def censoring(preset: Preset) -> KaplanMeier:
    """The life table of hold-out patients whose censoring curve Ĝ weights the Brier score."""
    return KaplanMeier(_brier_grid(preset), "survival-holdout")


def brier_score(model: SurvivalModel, preset: Preset, curve: SurvivalCurve) -> BrierScore:
    """The Brier score integrated over the edges of the grid up to the last calibration time.

    Args:
        model: released.
        preset: public constants.
        curve: Ĝ, released.
    """
    grid = _brier_grid(preset)
    return BrierScore(model, grid[1:], grid[-1], curve, BRIER_CAP)


def auc_at(model: SurvivalModel, preset: Preset, index: int) -> TimeDependentAUC:
    """AUC at the calibration time number `index`, in bins of equal width in log-risk about the released baseline."""
    time = preset.calibration_times[index]
    baseline = float(model.cumulative_hazard(np.array([time]))[0])
    edges = tuple(-math.expm1(-baseline * math.exp(step)) for step in AUC_STEPS)
    if not all(low < high for low, high in zip((0.0, *edges), (*edges, 1.0), strict=True)):
        return TimeDependentAUC(model, time, preset.horizon)  # a baseline that is almost 0 or 1: ten equal bins of risk
    return TimeDependentAUC(model, time, preset.horizon, edges)


def log_likelihood(model: SurvivalModel, preset: Preset) -> LogLikelihood:
    """The mean log-likelihood, each patient's cut to a public range."""
    return LogLikelihood(model, LIKELIHOOD_BOUND, _likelihood_centre(preset))


def _likelihood_centre(preset: Preset) -> float:
    """E[log h − h·T] = log h − 1 of a patient who dies under a constant hazard h."""
    return preset.initial_log_hazard - 1.0


def _brier_grid(preset: Preset) -> tuple[float, ...]:
    """Edges of the preset's grid up to the last calibration time, and the calibration times."""
    last = preset.calibration_times[-1]
    return tuple(sorted({*(edge for edge in preset.grid if edge < last), *preset.calibration_times}))
