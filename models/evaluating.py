"""What is asked about a released model on hold-out patients, sum by sum, and what the sums say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from dp.queries import Float64
from dp.releases import Estimate
from dp.rows import clipped_rows
from models import calibration, concordance, measures
from models.calibration import Calibration
from models.calibration_slope import slopes
from models.concordance import Concordance
from models.data import SurvivalData
from models.evaluation import Evaluation
from models.kaplan_meier import SurvivalCurve
from models.predict import SurvivalModel
from models.presets import Preset

__all__ = ["WIDEST", "Ask", "evaluate"]

Ask = Callable[[str, int, Callable[[], Float64]], Float64 | None]
"""(kind, index, contribution) → the released sum; None if the study does not ask it, or it was lost."""

WIDEST: Final = {"auc": 0.25, "integrated_brier": 0.125, "log_likelihood": 0.5, "calibration_slope": 1.0}
"""Half a 95 % interval that still says something; beyond it a score is "not resolved": an AUC that may be chance or
perfect, a Brier score that may be perfect or a coin's, half a nat a patient, a slope that may be none or double."""

_NOBODY_LOST: Final = SurvivalCurve((0.0,), (Estimate.of(1.0, 0.0, 0.0, 1.0),))


class _Release(Protocol):
    def contribution(self, data: SurvivalData, /) -> Float64:
        """The sum of one site."""

    def decode(self, total: Float64, noise_sd: float, /) -> Estimate:
        """What the total says."""


@dataclass(frozen=True)
class _Evaluating:
    model: SurvivalModel
    preset: Preset
    holdout: SurvivalData
    ask: Ask
    noise_sd: Callable[[str], float]

    def concordance(self) -> Concordance | None:
        model, holdout = self.model, self.holdout
        sums = self.ask(
            "concordance", 0, lambda: concordance.pair_sums(model.risk(holdout.x, holdout.observed), holdout)
        )
        return None if sums is None else concordance.decode(sums, self.noise_sd("concordance"))

    def calibration(self) -> Calibration | None:
        model, preset = self.model, self.preset
        bound = calibration.sensitivity(preset)
        cells = self.ask("calibration", 0, lambda: clipped_rows(calibration.rows(model, preset, self.holdout), bound))
        return None if cells is None else calibration.decode(model, preset, cells, self.noise_sd("calibration"))

    def brier(self) -> dict[str, Estimate]:
        """Ĝ, then the score that it weights: not resolved unless Ĝ is, up to the last time."""
        table = measures.censoring(self.preset)
        cells = self.ask("survival-holdout", 0, lambda: table.contribution(self.holdout))
        found: dict[str, Estimate] = {}
        curve = _NOBODY_LOST
        if cells is not None:
            curve = table.decode(cells, self.noise_sd("survival-holdout")).censoring
            found[f"under_observation_{_days(curve.times[-1])}"] = curve.survival[-1]
        score = self.one("brier", 0, measures.brier_score(self.model, self.preset, curve))
        if score is not None:
            known = curve is not _NOBODY_LOST and curve.survival[-1].resolved
            found["integrated_brier"] = score if known else Estimate.unresolved(0.0, measures.BRIER_CAP)
        return found

    def auc(self) -> dict[str, Estimate]:
        asked = {
            f"auc_{_days(time)}": self.one("auc", index, measures.auc_at(self.model, self.preset, index))
            for index, time in enumerate(self.preset.calibration_times)
        }
        return {name: score for name, score in asked.items() if score is not None}

    def likelihood(self) -> dict[str, Estimate]:
        score = self.one("likelihood", 0, measures.log_likelihood(self.model, self.preset))
        return {} if score is None else {"log_likelihood": score}

    def one(self, kind: str, index: int, release: _Release) -> Estimate | None:
        total = self.ask(kind, index, lambda: release.contribution(self.holdout))
        return None if total is None else release.decode(total, self.noise_sd(kind))


def evaluate(
    model: SurvivalModel, preset: Preset, holdout: SurvivalData, ask: Ask, noise_sd: Callable[[str], float]
) -> Evaluation:
    """Ask for every measure of the study, in the order of `measures.KINDS`.

    Args:
        model: released, equal at every site.
        preset: public constants.
        holdout: this site's, bounded; completed if the model completes.
        ask: through the door.
        noise_sd: standard deviation of the noise on a coordinate of a kind's sum.
    """
    of = _Evaluating(model, preset, holdout, ask, noise_sd)
    pairs, points = of.concordance(), of.calibration()
    scores = of.brier() | of.auc() | of.likelihood()
    if points is not None:
        scores |= {f"calibration_slope_{_days(time)}": slope for time, slope in slopes(points).items()}
    return Evaluation(pairs, points, {name: _telling(name, score) for name, score in scores.items()})


def _telling(name: str, score: Estimate) -> Estimate:
    """The score, or that it is not resolved: a rule on the released interval alone."""
    kind = name.rstrip("0123456789").rstrip("_")
    if kind not in WIDEST or not score.resolved or (score.high - score.low) / 2 <= WIDEST[kind]:
        return score
    return Estimate.unresolved(*_RANGES[kind])


_RANGES = {
    "auc": (0.0, 1.0),
    "integrated_brier": (0.0, measures.BRIER_CAP),
    "log_likelihood": (-np.inf, np.inf),
    "calibration_slope": (-np.inf, np.inf),
}


def _days(time: float) -> str:
    return f"{time:.0f}"
