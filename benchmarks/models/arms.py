"""Every way to get a risk from training patients: an arm. Each sees one training fold and nothing else.

All are trained by the product. FedAvg and FedProx have the constants of a study whose author names nothing else, every
hospital's share from its number of training patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.dp import federation
from benchmarks.dp.settings import multiplier, preset_of
from benchmarks.models import learned
from benchmarks.models.settings import LOCAL, PRIVATE, of_disease
from models.algorithms.averaging import Averaging
from models.algorithms.chosen import read
from models.data import Float64, SurvivalData
from models.fidelity import cox
from models.metrics import harrell_c
from models.predict import SurvivalModel
from models.training import initial_weights
from nodes.rounds import Asked, named, prepared

__all__ = ["Risk", "alone", "deepsurv", "federated_rounds", "lockstep", "private", "ridge_cox", "uncounted"]

Risk = Callable[[SurvivalData], Float64]
Sites = NDArray[np.int64]

_INNER: Final = 3  # folds inside a training fold
_WATCHED: Final = 0.25  # of a hospital's training patients, held back to stop


def uncounted(sites: int) -> int:
    """Return c, the colluding hospitals that a study of so many expects."""
    return max(1, sites // 5)


def ridge_cox(train_: SurvivalData, rng: np.random.Generator, strata: Sites | None = None) -> Risk:
    """Ridge Cox; with strata, the sum of the local partial likelihoods, which hospitals add up exactly."""
    return cox.choose(train_, rng, strata=strata, folds=_INNER).risk


def deepsurv(cohort: str, train_: SurvivalData, seed: int, kind: str = "deepsurv") -> Risk:
    """DeepSurv on pooled patients, by the product's training."""
    chosen = of_disease(cohort, kind).sized(len(train_))
    return learned.risk_of(learned.train(chosen, [train_], seed))


def cox_pem(cohort: str, train_: SurvivalData, seed: int) -> Risk:
    """The same without hidden layer."""
    return deepsurv(cohort, train_, seed, "cox")


def lockstep(cohort: str, train_: SurvivalData, sites: Sites, seed: int, *, hidden: bool = True) -> Risk:
    """DeepSurv by the sum of the hospitals' gradients in each step, by the product's training."""
    chosen = of_disease(cohort, "deepsurv" if hidden else "cox").sized(len(train_))
    return learned.risk_of(learned.train(chosen, _parts(train_, sites), seed))


def federated_rounds(cohort: str, train_: SurvivalData, sites: Sites, seed: int) -> Risk:
    """DeepSurv by FedAvg."""
    return _averaged(cohort, train_, sites, seed, Asked("fedavg"))


def fedprox(cohort: str, train_: SurvivalData, sites: Sites, seed: int) -> Risk:
    """DeepSurv by FedProx."""
    return _averaged(cohort, train_, sites, seed, Asked("fedprox"))


def _averaged(cohort: str, train_: SurvivalData, sites: Sites, seed: int, asked: Asked) -> Risk:
    parts = _parts(train_, sites)
    chosen = prepared(of_disease(cohort).sized(len(train_)), asked)
    averaging = cast("Averaging", read(named(asked, [str(len(part)) for part in parts])))
    return learned.risk_of(learned.averaged(chosen, averaging, parts, seed))


def _parts(train_: SurvivalData, sites: Sites) -> list[SurvivalData]:
    return [train_.rows(sites == site) for site in np.unique(sites)]


def private(cohort: str, train_: SurvivalData, sites: Sites, epsilon: float, seed: Sequence[int]) -> Risk:
    """DeepSurv by gradient steps with noise: every hospital's clipped sum and its share of the noise.

    The gradient's share of a study's whole ε; c hospitals are not counted on.
    """
    preset = preset_of(cohort, PRIVATE, len(train_))
    names = tuple(f"x{j}" for j in range(train_.features))
    weights = initial_weights(preset, train_.features, b"benchmarks/models/%d" % seed[0])
    parts = [federation.tensors(part, preset) for part in _parts(train_, sites)]
    streams = [federation.stream("models", cohort, epsilon, *seed, site) for site in range(len(parts))]
    door = federation.Distributed(len(parts), len(parts) - uncounted(len(parts)), streams)
    params = federation.descend(preset, weights, parts, door, multiplier(epsilon))
    model = SurvivalModel.as_trained(names, preset.network, preset.grid, params)

    def risk(data: SurvivalData) -> Float64:
        kept = np.where(data.observed, data.x, 0.0)
        return model.risk(kept, data.observed)

    return risk


def alone(cohort: str, train_: SurvivalData, rng: np.random.Generator) -> Risk:
    """The better of ridge Cox and a tuned, early-stopped DeepSurv by cross-validation inside a hospital's patients."""
    ways: list[Callable[[SurvivalData], Risk]] = [
        partial(ridge_cox, rng=rng),
        *(partial(_stopped, cohort, penalties, rng) for penalties in LOCAL),
    ]
    scores = np.zeros(len(ways))
    for rest, fold in cox.parted(len(train_), _INNER, rng):
        inside, outside = train_.rows(rest), train_.rows(fold)
        scores += np.nan_to_num([harrell_c(way(inside)(outside), outside) for way in ways], nan=0.5)
    return ways[int(np.argmax(scores))](train_)


def _stopped(cohort: str, penalties: tuple[float, float], rng: np.random.Generator, train_: SurvivalData) -> Risk:
    watched = np.zeros(len(train_), dtype=bool)
    watched[rng.permutation(len(train_))[: round(_WATCHED * len(train_))]] = True
    rest, held = train_.rows(~watched), train_.rows(watched)
    chosen = replace(of_disease(cohort), linear_penalty=penalties[0], hidden_penalty=penalties[1]).sized(len(rest))
    return learned.risk_of(learned.stopped(chosen, rest, held, int(rng.integers(1 << 30))))
