"""Released hold-out scores, typed, with their intervals; never a number that did not go through the door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dp.releases import Estimate
from models.calibration import Calibration, Point
from models.concordance import Concordance

DIGITS = 6  # significant digits of a summary, so that two hosts' last bits do not make two model files


@dataclass(frozen=True)
class Evaluation:
    """Scores of one released model on the hold-out patients of all sites.

    Args:
        concordance: None = not released (not asked, or its uploads ran out).
        calibration: None = not released.
        scores: other released scores by name, e.g. "auc_365", "integrated_brier", "log_likelihood".
    """

    concordance: Concordance | None
    calibration: Calibration | None
    scores: Mapping[str, Estimate] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """JSON for a model card: six significant digits, null where nothing was resolved or released."""
        c = self.concordance
        more = {name: _estimate(score) for name, score in sorted(self.scores.items())}
        return {
            "concordance": None
            if c is None
            else {
                "estimate": _number(c.estimate),
                "low": _number(c.low),
                "high": _number(c.high),
                "noise_error": _number(c.noise_error),
                "sampling_error": _number(c.sampling_error),
            },
            "calibration": None
            if self.calibration is None
            else {
                "overall": [_point(p) for p in self.calibration.overall],
                "bins": [_point(p) for p in self.calibration.bins],
            },
        } | ({"scores": more} if more else {})


def _estimate(score: Estimate) -> dict[str, object]:
    parts = {
        "estimate": score.value,
        "low": score.low,
        "high": score.high,
        "error": score.error,
        "noise_error": score.noise_error,
    }
    return {name: _number(value) for name, value in parts.items()}


def _point(point: Point) -> dict[str, object]:
    return {
        "days": point.time,
        "predicted_risk_bin": [point.low, point.high],
        "patients": _number(point.patients),
        "observed": _number(point.observed),
        "observed_error": _number(point.observed_error),
        "predicted": _number(point.predicted),
        "predicted_error": _number(point.predicted_error),
    }


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
