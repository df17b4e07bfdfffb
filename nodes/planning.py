"""What could a federation of these sizes learn at which ε? Answered before anything is spent, on invented patients.

For every ε the study's own training runs on freshly drawn patients, several times:

| column                  | who trains on what                                                              |
|-------------------------|---------------------------------------------------------------------------------|
| federation              | all hospitals, noise shared out inside the sum (what a study does)              |
| noise of every site     | all hospitals, each adds the whole noise its own patients need, sums are added  |
| pooled, without privacy | everybody's patients in one place, no clipping, no noise                        |
| hospital alone          | one hospital's patients, no privacy needed because nothing leaves               |
| fedavg, fedprox         | if asked: all hospitals, noise in each of their local steps, changes are added  |

Each model is scored by its exact C-index on the same new patients. Nothing here reads a hospital's data, so nothing is
charged; and nothing here is evidence: the patients are invented (`models.simulation`), or drawn from a public table.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dp.budget import epsilon_of
from dp.calibration import split_budget
from dp.central import CentralSum, UnprotectedSum
from dp.queries import SecureSum
from models.algorithms.local import step_multiplier
from models.algorithms.protection import UPDATE
from models.data import SurvivalData, joined
from models.metrics import harrell_c
from models.plan import Spec
from models.predict import SurvivalModel
from models.presets import Preset
from models.training import fit, initial_weights
from nodes.planning_asked import LARGEST, Asked
from nodes.planning_rounds import Averaged
from nodes.planning_source import Patients
from nodes.protocol import SPARE_UPLOADS, TRAINING_SHARES
from secagg.masks import Keystream

__all__ = ["LEFT_OUT", "Asked", "Averages", "Plan", "Range", "Row", "View", "plan", "views"]

LEFT_OUT: Final = (
    "hospitals that differ in more than size: other treatments, laboratories, ages or codes",
    "variables that are wrong, or missing for a reason",
    "rounds that are lost, and hospitals that stay away",
    "the noise on the C-index that the study itself will release for its holdout patients",
    "recalibration: the table is about ranking patients, not about how well probabilities fit",
    "other presets: a better or worse one moves every column",
    "a patient who is in several hospitals (k hospitals: k times the μ)",
)
"""What the numbers of a plan do not contain."""

_SECOND_DELTA: Final = 1e-6
_TEST: Final = 1000
_UNCLIPPED: Final = 1000.0


@dataclass(frozen=True)
class Range:
    """Exact C-index over the runs of a plan.

    Args:
        mean: of all runs.
        low, high: 10th and 90th percentile.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Range:
        """Summarise scores."""
        low, high = np.percentile(scores, [10, 90])
        return cls(float(np.mean(scores)), float(low), float(high))


@dataclass(frozen=True)
class View:
    """The same uploads as one adversary sees them.

    Args:
        against: who.
        mu: μ against him.
        epsilon: at the plan's δ.
        epsilon_6: at δ = 1e-6.
    """

    against: str
    mu: float
    epsilon: float
    epsilon_6: float


@dataclass(frozen=True)
class Averages:
    """What is expected of FedAvg or FedProx at the same ε.

    Args:
        scores: C-index.
        multipliers: noise multiplier that an upload of each kind is charged with.
        step: noise multiplier of each local step, √E times that of the upload.
        views: ε of its uploads; one against everybody, because each hospital adds its whole noise.
    """

    scores: Range
    multipliers: dict[str, float]
    step: float
    views: tuple[View, ...]


@dataclass(frozen=True)
class Row:
    """What is expected at one ε.

    Args:
        epsilon: total of a training patient against the coordinator and c sites.
        multipliers: noise multiplier per kind of release.
        federation: C-index with noise shares inside the sum.
        site_noise: C-index if every site adds the whole noise.
        views: the same ε against others.
        averages: of the rounds, if they were asked for.
    """

    epsilon: float
    multipliers: dict[str, float]
    federation: Range
    site_noise: Range
    views: tuple[View, ...]
    averages: Averages | None = None


@dataclass(frozen=True)
class Plan:
    """The answer.

    Args:
        asked: the question.
        source: the public numbers behind the patients.
        runs: repetitions behind every range.
        rows: one per ε.
        pooled: without privacy, everybody in one place.
        alone: (declared size, without privacy) of each different size.
    """

    asked: Asked
    source: dict[str, object]
    runs: int
    rows: tuple[Row, ...]
    pooled: Range
    alone: tuple[tuple[int, Range], ...]

    def to_json(self) -> dict[str, object]:
        """Everything, as JSON values."""
        return {
            "schema": "haemfed/plan/v1",
            "simulation": "expected on patients that are not this federation's; no evidence, nothing charged",
            "sizes": list(self.asked.sizes),
            "delta": self.asked.delta,
            "collusion": self.asked.uncounted,
            "honest_shares": self.asked.honest,
            "mode": self.asked.mode.value,
            "preset": self.asked.preset.name,
            "seed": self.asked.seed,
            "runs": self.runs,
            "range": "mean, and 10th to 90th percentile over the runs, of the exact C-index on new patients",
            "patients": self.source,
            "at_epsilon": [
                {
                    "epsilon": row.epsilon,
                    "noise_multipliers": row.multipliers,
                    "federation": vars(row.federation),
                    "noise_of_every_site": vars(row.site_noise),
                    "against": [vars(view) for view in row.views],
                }
                | ({} if row.averages is None else {"algorithm": _averages_json(row.averages)})
                for row in self.rows
            ],
            "pooled_without_privacy": vars(self.pooled),
            "alone_without_privacy": [{"patients": size, **vars(found)} for size, found in self.alone],
            "left_out": list(LEFT_OUT),
        } | ({} if self.asked.averaged is None else {"algorithm": self.asked.averaged.to_json()})


def plan(asked: Asked, patients: Patients, tell: Callable[[int, int], None] | None = None) -> Plan:
    """Simulate the federation.

    Deterministic: the same question has the same answer on one machine.

    Args:
        asked: the question.
        patients: where they come from.
        tell: called after each model with (models trained, models to train).

    Raises:
        ConfigError: (of `dp`) the federation has no lattice for this noise: too many sites or patients, or too
            small an ε.
    """
    runs, different = asked.repetitions, sorted(set(asked.sizes), reverse=True)
    scores: dict[tuple[str, float], list[float]] = {}
    arms_of_one = 2 if asked.averaged is None else 3
    total = runs * (arms_of_one * len(asked.epsilons) + 1 + len(different))
    for run in range(runs):
        arms = _Arms(asked, patients, run)
        for key, score in arms.scores(different):
            scores.setdefault(key, []).append(score)
            if tell is not None:
                tell(sum(map(len, scores.values())), total)
    return Plan(
        asked,
        patients.describe(),
        runs,
        tuple(
            Row(
                epsilon,
                _multipliers(asked, epsilon),
                Range.of(scores["federation", epsilon]),
                Range.of(scores["site noise", epsilon]),
                views(asked, epsilon),
                None if asked.averaged is None else _averages(asked, asked.averaged, epsilon, scores),
            )
            for epsilon in asked.epsilons
        ),
        Range.of(scores["pooled", 0.0]),
        tuple((size, Range.of(scores["alone", float(size)])) for size in different),
    )


def views(asked: Asked, epsilon: float) -> tuple[View, ...]:
    """State ε of one training patient against everybody whom a data protection officer asks about."""
    mu = _mu(_multipliers(asked, epsilon), _shares(asked.preset))
    c, h, n = asked.uncounted, asked.honest, len(asked.sizes)
    seen = (
        (f"the coordinator and {c} {'hospital' if c == 1 else 'hospitals'}, together", mu),
        ("anyone outside", mu * math.sqrt(h / (h + c))),
        (f"everyone else together ({n - 1} hospitals and the coordinator)", mu * math.sqrt(h)),
        (f"the coordinator and {c}, replacing a patient by another", 2 * mu),
    )
    return tuple(_view(who, value, asked.delta) for who, value in seen)


def _view(who: str, mu: float, delta: float) -> View:
    return View(who, mu, epsilon_of(mu * mu, delta), epsilon_of(mu * mu, _SECOND_DELTA))


def _averages(
    asked: Asked, averaged: Averaged, epsilon: float, scores: Mapping[tuple[str, float], Sequence[float]]
) -> Averages:
    found = _multipliers_of(averaged, asked, epsilon)
    mu = _mu(found, _shares(averaged.preset, UPDATE))
    everybody = f"everybody else together ({len(asked.sizes) - 1} hospitals and the coordinator)"
    seen = ((everybody, mu), ("the same, replacing a patient by another", 2 * mu))
    return Averages(
        Range.of(scores["averaged", epsilon]),
        found,
        step_multiplier(found[UPDATE], averaged.averaging.local_steps),
        tuple(_view(who, value, asked.delta) for who, value in seen),
    )


def _averages_json(found: Averages) -> dict[str, object]:
    return {
        "federation": vars(found.scores),
        "noise_multipliers": found.multipliers,
        "noise_multiplier_of_a_local_step": found.step,
        "against": [vars(view) for view in found.views],
    }


class _Arms:
    """Every training of one run, all on the same patients."""

    def __init__(self, asked: Asked, patients: Patients, run: int) -> None:
        self._asked, self._run = asked, run
        rng = np.random.default_rng([asked.seed, run])
        self._parts, test = patients.draw(asked.training, _TEST, rng)
        self._everybody = joined(self._parts)
        self._test = test.bounded(asked.preset.horizon)
        self._names = tuple(f"x{i}" for i in range(patients.features))

    def scores(self, different: Sequence[int]) -> Iterator[tuple[tuple[str, float], float]]:
        """Train and score, one arm after the other."""
        yield ("pooled", 0.0), self._open(self._everybody)
        for size in different:
            yield ("alone", float(size)), self._open(self._parts[self._asked.sizes.index(size)])
        n, h = len(self._asked.sizes), self._asked.honest
        for epsilon in self._asked.epsilons:
            shared = CentralSum(self._stream("federation", epsilon), roster_size=n, collusion=n - h, shares=n)
            yield ("federation", epsilon), self._private(epsilon, shared)
            # Two shares on the lattice of two honest sites are one site's whole noise.
            whole = CentralSum(self._stream("site noise", epsilon), roster_size=n, collusion=n - 2, shares=2 * n)
            yield ("site noise", epsilon), self._private(epsilon, whole)
            if self._asked.averaged is not None:
                yield ("averaged", epsilon), self._averaged(self._asked.averaged, epsilon)

    def _private(self, epsilon: float, secure_sum: SecureSum) -> float:
        return self._score(
            self._asked.preset.sized(len(self._everybody)),
            self._everybody,
            secure_sum,
            _multipliers(self._asked, epsilon),
        )

    def _open(self, data: SurvivalData) -> float:
        preset = replace(self._asked.preset.sized(max(len(data), 1)), clip=_UNCLIPPED)
        return self._score(preset, data, UnprotectedSum(), {"gradient": 1.0})

    def _score(self, preset: Preset, data: SurvivalData, secure_sum: SecureSum, multipliers: dict[str, float]) -> float:
        weights = self._weights(preset)
        spec = Spec(preset, self._names, weights, multipliers, patient_cap=LARGEST)
        bounded = data.bounded(preset.horizon)
        trained = fit(preset, len(self._names), weights, bounded, secure_sum, lambda t: spec.query("gradient", t))
        return self._harrell(preset, trained.params)

    def _averaged(self, averaged: Averaged, epsilon: float) -> float:
        preset = averaged.preset
        params = averaged.train(
            len(self._names),
            self._weights(preset),
            [part.bounded(preset.horizon) for part in self._parts],
            _multipliers_of(averaged, self._asked, epsilon)[UPDATE],
            lambda place: self._stream(f"local noise {place}", epsilon),
        )
        return self._harrell(preset, params)

    def _weights(self, preset: Preset) -> bytes:
        return initial_weights(preset, len(self._names), b"haemfed plan %d" % self._run)

    def _harrell(self, preset: Preset, params: bytes) -> float:
        model = SurvivalModel.as_trained(self._names, preset.network, preset.grid, params)
        return harrell_c(model.risk(self._test.x, self._test.observed), self._test)

    def _stream(self, arm: str, epsilon: float) -> Keystream:
        # Reproducible on purpose: these sums protect nobody.
        about = f"haemfed plan {self._asked.seed} {self._run} {arm} {epsilon!r}"
        return Keystream(hashlib.sha256(about.encode()).digest())


def _shares(preset: Preset, training: str = "gradient") -> dict[str, tuple[float, int]]:
    """Kind of release → (share of μ², uploads), as `haemfed study draft` declares them; `training` is the trainer's."""
    return {
        training if kind == "gradient" else kind: (
            share,
            preset.uploads if kind == "gradient" else 1 + SPARE_UPLOADS.get(kind, 0),
        )
        for kind, share in TRAINING_SHARES.items()
    }


def _mu(multipliers: Mapping[str, float], shares: Mapping[str, tuple[float, int]]) -> float:
    return math.sqrt(sum(uploads / multipliers[kind] ** 2 for kind, (_, uploads) in shares.items()))


def _multipliers(asked: Asked, epsilon: float) -> dict[str, float]:
    return split_budget(epsilon, asked.delta, _shares(asked.preset))


def _multipliers_of(averaged: Averaged, asked: Asked, epsilon: float) -> dict[str, float]:
    return split_budget(epsilon, asked.delta, _shares(averaged.preset, UPDATE))
