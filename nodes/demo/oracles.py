"""What only the demo can compute, because it holds everybody's data: the yardsticks beside the federation's result.

None of this exists in production. Every row repeats training over several noise seeds, because one run on a cohort of
this size cannot show a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dp.central import CentralSum, UnprotectedSum
from dp.queries import Keystream as Entropy
from dp.queries import SecureSum
from models import concordance
from models.data import SurvivalData, joined
from models.plan import Spec
from models.predict import SurvivalModel
from models.training import fit, initial_weights
from nodes.cohort import Cohort
from secagg.masks import Keystream

_UNCLIPPED = 1000.0


@dataclass(frozen=True)
class Row:
    """One oracle: exact within-hospital C-index on all holdouts, over seeds."""

    name: str
    mean: float
    spread: float
    runs: int


def exact_c_index(model: SurvivalModel, cohorts: Sequence[Cohort]) -> float:
    """The quantity that the federation releases with noise, without the noise: ½ + ΣV/ΣW over the holdouts."""
    totals = np.zeros(2)
    for cohort in cohorts:
        held = cohort.holdout.bounded(model.grid[-1])
        totals += concordance.pair_sums(model.risk(held.x, held.observed), held)
    return float(0.5 + totals[0] / totals[1])


def oracles(spec: Spec, cohorts: Mapping[str, Cohort], uncounted: int, seeds: int) -> list[Row]:
    """Train every yardstick `seeds` times.

    Args:
        spec: the study's model and noise multipliers.
        cohorts: every hospital's patients, by name.
        uncounted: sites whose share of the noise the study does not count on.
        seeds: noise seeds, at least 2.
    """
    everybody = list(cohorts.values())
    pooled = joined([cohort.train for cohort in everybody])
    sites = len(everybody)

    def score(spec_: Spec, data: SurvivalData, secure_sum: Callable[[int], SecureSum]) -> list[float]:
        return [exact_c_index(_train(spec_, data, secure_sum(seed)), everybody) for seed in range(seeds)]

    rows = [
        _row("federation, same law of noise", score(spec, pooled, lambda s: _federated(s, sites, uncounted))),
        _row(
            "pooled, same ε",
            score(spec, pooled, lambda s: CentralSum(_stream("pooled", s), roster_size=sites)),
        ),
    ]
    free = _unclipped(spec)
    rows.append(_row("pooled, without privacy", [exact_c_index(_train(free, pooled, UnprotectedSum()), everybody)]))
    for name, cohort in cohorts.items():
        alone = _resized(spec, len(cohort.train))
        scores = score(alone, cohort.train, lambda s, name=name: CentralSum(_stream(name, s)))  # type: ignore[misc] # bound
        rows.append(_row(f"{name} alone, same ε ({len(cohort.train)} patients)", scores))
    return rows


def _train(spec: Spec, data: SurvivalData, secure_sum: SecureSum) -> SurvivalModel:
    preset = spec.preset
    trained = fit(
        preset,
        len(spec.features),
        spec.weights,
        data.bounded(preset.horizon),
        secure_sum,
        lambda step: spec.query("gradient", step),
    )
    return SurvivalModel.as_trained(spec.features, preset.network, preset.grid, trained.params)


def _federated(seed: int, sites: int, uncounted: int) -> CentralSum:
    return CentralSum(_stream("federated", seed), roster_size=sites, collusion=uncounted, shares=sites)


def _stream(purpose: str, seed: int) -> Entropy:
    # Reproducible on purpose: these sums protect nobody, they are compared.
    return Keystream(hashlib.sha256(f"haemfed demo oracle {purpose} {seed}".encode()).digest())


def _resized(spec: Spec, patients: int) -> Spec:
    return replace(
        spec, preset=spec.preset.sized(float(max(patients, 20))), patient_cap=max(spec.patient_cap, patients)
    )


def _unclipped(spec: Spec) -> Spec:
    preset = replace(spec.preset, clip=_UNCLIPPED)
    return replace(spec, preset=preset, weights=initial_weights(preset, len(spec.features), b"haemfed demo oracle"))


def _row(name: str, scores: list[float]) -> Row:
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return Row(name, float(np.mean(scores)), spread, len(scores))
