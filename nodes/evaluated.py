"""Released hold-out scores as the report and the demonstration print them, by what the study asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from audits import report_data as data
from nodes.protocol import measured
from nodes.results import Released
from nodes.study import Study
from secagg.manifest import Noise

__all__ = ["scores"]

_INTERVAL = "95 % interval: sampling of patients and the noise of the release"
_EXACT = "95 % interval: sampling of patients"
_DROWNED = "not resolved: too few patients for this noise"
_FEW = "not resolved: too few patients"
_LOST = "not released: its only upload was lost"
_SCORES: Mapping[str, tuple[str, str, str]] = {
    "auc": ("auc", "AUC at {} days", _INTERVAL),
    "integrated_brier": (
        "brier",
        "Integrated Brier score",
        f"0 is perfect, 0.25 a coin; {_INTERVAL}, the censoring curve taken as known",
    ),
    "under_observation": ("brier", "Not censored before {} days", f"weights the Brier score; {_INTERVAL}"),
    "log_likelihood": ("likelihood", "Log-likelihood, nats per patient", _INTERVAL),
    "calibration_slope": ("calibration", "Calibration slope at {} days", f"1 is right; {_INTERVAL}"),
}
"""Name in the model card → measure, what the report calls it, remark."""


def scores(study: Study, released: Released) -> tuple[data.ReleasedScore, ...]:
    """One line per score; nothing for a study that evaluates nothing.

    Args:
        study: the study.
        released: what its run released.
    """
    if not released.evaluation:
        return ()
    exact = study.privacy.noise is Noise.NONE
    return tuple(_without_noise(line) if exact else line for line in _lines(study, released))


def _lines(study: Study, released: Released) -> Iterator[data.ReleasedScore]:
    asked = measured(study)
    if "concordance" in asked:
        yield _line("C-index (within hospitals)", released.evaluation.get("concordance"), _INTERVAL)
    if "calibration" in asked:
        yield from _risks(released.evaluation.get("calibration"))
    given = released.evaluation.get("scores")
    found: Mapping[str, Any] = given if isinstance(given, dict) else {}
    for name, (measure, title, note) in _SCORES.items():
        mine = [each for each in found if each.rstrip("0123456789").rstrip("_") == name]
        for each in mine:
            yield _line(title.format(each.removeprefix(name).lstrip("_")), found[each], note)
        if not mine and measure in asked and name != "calibration_slope":
            yield _line(title.replace(" at {} days", "").replace(" before {} days", ""), None, _LOST)


def _without_noise(line: data.ReleasedScore) -> data.ReleasedScore:
    return replace(line, note=line.note.replace(_INTERVAL, _EXACT).replace(_DROWNED, _FEW))


def _line(name: str, score: object, note: str) -> data.ReleasedScore:
    if not isinstance(score, dict):
        return data.ReleasedScore(name, None, None, None, _LOST)
    if score["estimate"] is None:
        return data.ReleasedScore(name, None, None, None, _DROWNED)
    return data.ReleasedScore(name, score["estimate"], score["low"], score["high"], note)


def _risks(calibration: object) -> Iterator[data.ReleasedScore]:
    if not isinstance(calibration, dict):
        yield data.ReleasedScore("Calibration", None, None, None, _LOST)
        return
    for point in calibration["overall"]:
        observed, error, predicted = point["observed"], point["observed_error"], point["predicted"]
        name = f"Death before {point['days']:.0f} days"
        if observed is None or error is None:
            yield _line(name, {"estimate": None}, "")
            continue
        note = f"observed; the model predicts {predicted:.0%} on average" if predicted is not None else "observed"
        # A share: noise cannot make it less or more than it can be.
        yield data.ReleasedScore(
            name, observed, max(0.0, observed - 1.96 * error), min(1.0, observed + 1.96 * error), note
        )
