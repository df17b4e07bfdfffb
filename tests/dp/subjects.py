"""Every release and every loss of the product, each with the patients that are to break it.

`test_releases_adversary.py` compares this list with the classes that the packages define: a new release without a
subject fails there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from audits.histogram import MEMBERS, NONMEMBERS, ScoreBins, ScoreHistogram
from dp.errors import UploadsExhausted
from dp.events import ACCOUNT_OF
from dp.queries import Float64, Neighbours, Query
from dp.releases import BoundedSum, Count, Histogram, Marginals, Mixture, MixtureStatistics, Quantiles, Records
from models import losses
from models.auc import TimeDependentAUC
from models.brier import BrierScore
from models.calibration import CalibrationAtTimes
from models.concordance import PairConcordance
from models.data import Bool, SurvivalData
from models.gaussian import Covariate, JointNormal
from models.kaplan_meier import KaplanMeier, SurvivalCurve
from models.likelihood import LogLikelihood
from models.losses import PerPatientLoss
from models.moments import Moments
from models.networks import Hazards, parameter_count
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.recalibration import Breslow
from models.training import fit, initial_weights
from tests.dp.adversary import Patient, Rows, Subject, follow_ups, records, values
from tests.models.generators.test_bayesnet_releases import SUBJECTS as OF_NETWORKS

FEATURES = ("age", "wbc")
PRESET = replace(preset("aml-small"), hidden=(2,), steps=1, uploads=2, normaliser=100.0)
GRID = PRESET.grid
HORIZON = GRID[-1]
YEAR = PRESET.calibration_times[0]
NOBODY = ((math.nan, 1.0), (True, True), 100.0, True)
LOSS_SHARE = 0.25  # a gradient through the training loop costs as much as twenty histograms


# ---------------------------------------------------------------- tables out of patients


def as_records(columns: int) -> Callable[[Sequence[Rows]], Records]:
    """Rows of all patients, with their owners unless everybody has one row."""

    def table(patients: Sequence[Rows]) -> Records:
        rows = [row for patient in patients for row in patient]
        # The owner's number is that of his first row's place among *patients*: equal for the others in both tables is
        # not needed, only that rows of one patient share it.
        owners = np.array([i for i, patient in enumerate(patients) for _ in patient], dtype=np.int64)
        several = len(rows) > len(patients)
        return Records(np.array(rows, dtype=np.float64).reshape(-1, columns), owners if several else None)

    return table


def as_survival(patients: Sequence[Patient]) -> SurvivalData:
    n, p = len(patients), len(FEATURES)
    return SurvivalData(
        np.array([x for x, _, _, _ in patients], dtype=np.float64).reshape(n, p),
        np.array([seen for _, seen, _, _ in patients], dtype=np.bool_).reshape(n, p),
        np.array([time for _, _, time, _ in patients], dtype=np.float64),
        np.array([died for _, _, _, died in patients], dtype=np.bool_),
    )


def negated(patient: Rows) -> Rows:
    return tuple(tuple(-value for value in row) for row in patient)


def outvoted(patient: Rows) -> Rows:
    return tuple(tuple(-1000.0 * value for value in row) for row in patient)


def opposite(patient: Patient) -> Patient:
    x, seen, time, died = patient
    return tuple(-value for value in x), seen, time, not died


def overruled(patient: Patient) -> Patient:
    x, _, time, died = patient
    return tuple(-1000.0 * value for value in x), (True,) * len(x), time / 2, not died


def ladder(n: int) -> list[Patient]:
    """The higher the covariates the earlier the death; the last one contradicts everybody."""
    steps = [((-1.0 + 2.0 * i / max(n, 1),) * 2, (True, True), 900.0 - 10.0 * i, True) for i in range(max(n - 1, 0))]
    return [*steps, ((-10.0, -10.0), (True, True), 1.0, True)] if n else []


# ---------------------------------------------------------------- released things


def linear(hazard: float, *weights: float) -> SurvivalModel:
    """A linear model f = w₀·x₀ + w₁·x₁ with one hazard everywhere."""
    numbers = np.zeros(parameter_count(Hazards(()).layout(2, len(GRID) - 1)))
    numbers[len(GRID) - 1 : len(GRID) + 1] = weights
    model = SurvivalModel.as_trained(FEATURES, Hazards(()), GRID, numbers.astype("<f8").tobytes())
    return model.with_hazard(np.full(len(GRID) - 1, hazard))


SENSIBLE = linear(0.7, 0.8, 0.3)
ABSURD = linear(1e6, 50.0, -50.0)


@dataclass(frozen=True)
class Crossing:
    """Weibull curves whose shape is a covariate: they cross, so their order depends on the time."""

    digest: str = "crossing"

    def survival(self, x: Float64, observed: Bool, times: Float64) -> Float64:
        shape = 1.0 + np.abs(np.where(observed, x, 0.0)[:, :1])
        scale = 300.0 * (2.0 + np.tanh(np.where(observed, x, 0.0)[:, 1:2]))
        return np.exp(-((times[None, :] / scale) ** shape))


def _censoring() -> SurvivalCurve:
    """Ĝ as released: falls to 0.15, below 1/cap."""
    k = len(GRID) - 1
    counts = np.zeros(2 * k + 1)
    counts[1::2], counts[-1] = 50.0, 60.0
    return KaplanMeier(GRID).decode(counts, 0.0).censoring


CENSORING = _censoring()
MIXTURE = Mixture(
    np.array([0.2, 0.3, 0.5]),
    np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 0.0]]),
    np.stack([np.eye(2) * 0.1, np.array([[1.0, 0.0], [0.9, 0.3]]), np.eye(2) * 3.0]),
)
COVARIATES = tuple(Covariate(name, column, -10.0, 10.0) for column, name in enumerate(FEATURES))
CORRELATED = JointNormal(COVARIATES, np.array([0.5, -2.0]), np.array([[9.0, 5.5], [5.5, 4.0]]))


@dataclass(frozen=True)
class LossRelease:
    """A loss seen as a release: the gradient sum that the real training loop hands to the door.

    Args:
        loss: one term per patient.
        weights: of the network, float64 little-endian.
        preset: gives the clip norm.
    """

    loss: PerPatientLoss
    weights: bytes
    preset: Preset = PRESET

    @property
    def length(self) -> int:
        return len(self.weights) // 8

    def sensitivity(self, neighbours: Neighbours) -> float:
        """C and 2C: the ball lemma of `dp.releases`."""
        return self.preset.clip * (1.0 if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2.0)

    def contribution(self, data: SurvivalData) -> Float64:
        caught: list[Float64] = []

        def door(query: Query, contribution: Callable[[], Float64]) -> Float64:
            caught.append(contribution())
            raise UploadsExhausted(query.kind)

        query = Query("gradient", 0, self.length, self.preset.clip, 1.0, ACCOUNT_OF["gradient"], 1000)
        fit(self.preset, len(FEATURES), self.weights, data, door, lambda _: query, loss=self.loss)
        return caught[0]


def per_patient_losses() -> list[type[Any]]:
    """The classes of `models.losses` that private training accepts."""
    classes = [c for _, c in inspect.getmembers(losses, inspect.isclass) if c.__module__ == losses.__name__]
    return [c for c in classes if hasattr(c, "per_patient") and c is not PerPatientLoss]


# ---------------------------------------------------------------- the list


def subjects() -> list[Subject]:
    """All of them."""
    return [*_of_records(), *_of_survival(), *_of_scores(), *_of_losses(), *OF_NETWORKS]


def _of_records() -> list[Subject]:
    codes = (0.0, 1.0, 2.0, 3.0, 0.5)

    def subject(name: str, release: Any, columns: int, extra: Sequence[float] = ()) -> Subject:
        return Subject(
            name, release, records(columns, extra), as_records(columns), negated, outvoted, ((math.nan,) * columns,)
        )

    return [
        subject("bounded sum", BoundedSum("x", 3, 2.0), 3, (2.0, 2.0 / 3**0.5, 1e3)),
        subject("count", Count("x"), 1),
        subject("histogram", Histogram("x", (-1.0, 0.0, 0.5, 3.0)), 1),
        subject("quantiles", Quantiles("x", (-3.0, -1.0, 0.0, 1.0, 3.0, 10.0), (0.5,)), 1),
        subject("marginals", Marginals.all_ways(("a", "b", "c"), (2, 3, 4), 2), 3, codes),
        subject("mixture", MixtureStatistics(MIXTURE, 3.0), 2, (2.9, -2.9)),
    ]


def _of_survival() -> list[Subject]:
    patients = follow_ups(len(FEATURES), GRID)
    releases: dict[str, Any] = {
        "kaplan-meier": KaplanMeier(GRID),
        "breslow, sensible baseline": Breslow(SENSIBLE, PRESET),
        "breslow, absurd baseline": Breslow(ABSURD, PRESET),
        "concordance, Harrell": PairConcordance(SENSIBLE, HORIZON),
        "concordance, Antolini": PairConcordance(Crossing(), HORIZON, "antolini"),
        "auc": TimeDependentAUC(SENSIBLE, YEAR, HORIZON),
        "calibration, sensible baseline": CalibrationAtTimes(SENSIBLE, PRESET),
        "calibration, absurd baseline": CalibrationAtTimes(ABSURD, PRESET),
        "integrated brier": BrierScore(SENSIBLE, (YEAR / 2, YEAR, 2 * YEAR), HORIZON, CENSORING, cap=4.0),
        "brier at one late time": BrierScore(ABSURD, (HORIZON,), HORIZON, CENSORING, cap=2.0),
        "log-likelihood, sensible baseline": LogLikelihood(SENSIBLE, 4.0, -1.0),
        "log-likelihood, absurd baseline": LogLikelihood(ABSURD, 4.0),
        "moments, public start": Moments(JointNormal.start(COVARIATES), 3.0),
        "moments, correlated model": Moments(CORRELATED, 2.0),
    }
    return [
        Subject(name, release, patients, as_survival, opposite, overruled, NOBODY, ladder)
        for name, release in releases.items()
    ]


def _minus(score: float) -> float:
    return -score


def _far(score: float) -> float:
    return -1000.0 * score


def _of_scores() -> list[Subject]:
    def table(patients: Sequence[float]) -> Float64:
        return np.array(patients, dtype=np.float64)

    return [
        Subject(
            kind, ScoreHistogram(kind, ScoreBins(), bytes(32)), values(ScoreBins().edges), table, _minus, _far, math.nan
        )
        for kind in (MEMBERS, NONMEMBERS)
    ]


def _of_losses() -> list[Subject]:
    patients = follow_ups(len(FEATURES), GRID)
    start = np.frombuffer(initial_weights(PRESET, len(FEATURES), b"adversary"), dtype="<f8")
    wild = (start + np.random.default_rng(0).normal(size=start.size) * 5).astype("<f8").tobytes()
    return [
        Subject(
            f"loss {loss.__name__}",
            LossRelease(loss(), wild),
            patients,
            as_survival,
            opposite,
            overruled,
            NOBODY,
            ladder,
            LOSS_SHARE,
            (1, 2, 4, 7),
        )
        for loss in per_patient_losses()
    ]
