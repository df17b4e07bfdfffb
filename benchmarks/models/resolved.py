"""What a hold-out account resolves: half-widths of released scores, by hold-out patients and choice of measures.

Six hospitals of equal size, ε = 2 at δ = 10⁻⁵ for a hold-out patient, one colluding. Patients are invented under
proportional hazards, and the released model is the true one; nobody's record is in it. The table stands in
docs/reference/study.md; what a study measures unless it says otherwise follows from it.

    python -m benchmarks.models.resolved
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import numpy as np

from dp.calibration import split_budget
from dp.queries import Float64
from models import measures
from models.data import SurvivalData
from models.evaluating import evaluate
from models.evaluation import Evaluation
from models.networks import Hazards, parameter_count
from models.predict import SurvivalModel
from models.presets import preset
from nodes.protocol import holdout_shares

Sums = dict[tuple[str, int], Float64]
_SITES, _RUNS, _SEED = 6, 24, 20261126
_CHOSEN: Final = preset("aml-small")
_SETS: Final = (
    measures.DEFAULT,
    ("concordance", "calibration", "auc"),
    ("concordance", "calibration", "likelihood"),
    ("concordance", "calibration", "brier"),
    tuple(measures.MEASURES),
    ("auc",),
    ("brier",),
)
_SIZES: Final = (200, 350, 500, 1000, 2000)


def main() -> None:
    """Print the table."""
    for chosen in _SETS:
        print(f"\n{', '.join(chosen)}")
        for patients in _SIZES:
            cells = [f"{name} {width}" for name, width in _widths(chosen, patients)]
            print(f"  {patients:5d}  " + "  ".join(cells))


def _widths(chosen: tuple[str, ...], patients: int) -> Iterator[tuple[str, str]]:
    """Score → median half-width of its 95 % interval where resolved, and how often it is not."""
    seen: defaultdict[str, list[float]] = defaultdict(list)
    for run in range(_RUNS):
        rng = np.random.default_rng([_SEED, run, patients])
        for name, half in _halves(_released(chosen, patients, rng)):
            seen[name].append(half)
    for name, halves in seen.items():
        known = [half for half in halves if math.isfinite(half)]
        lost = f" ({1 - len(known) / len(halves):.0%} not)" if len(known) < len(halves) else ""
        yield name, (f"±{median(known):.3f}" if known else "not resolved") + lost


def _halves(released: Evaluation) -> Iterator[tuple[str, float]]:
    if released.concordance is not None:
        c = released.concordance
        yield "C", math.inf if math.isnan(c.estimate) else (c.high - c.low) / 2
    if released.calibration is not None:
        for point in released.calibration.overall:
            yield f"risk_{point.time:.0f}", 1.96 * point.observed_error if point.resolved else math.inf
    for name, score in released.scores.items():
        yield name, (score.high - score.low) / 2 if score.resolved else math.inf


def _released(chosen: tuple[str, ...], patients: int, rng: np.random.Generator) -> Evaluation:
    shares = {kind: share for kind, share in holdout_shares(chosen).items() if kind in measures.KINDS}
    steps = {kind: measures.shape(kind, _CHOSEN).steps for kind in shares}
    multipliers = split_budget(2.0, 1e-5, {kind: (share, steps[kind]) for kind, share in shares.items()})
    model, inflation = _truth(), math.sqrt(_SITES / (_SITES - 1))
    parts = [_patients(patients // _SITES, rng) for _ in range(_SITES)]

    def sd(kind: str) -> float:
        return multipliers[kind] * measures.shape(kind, _CHOSEN).sensitivity * inflation

    kinds = tuple(multipliers)
    # Two waves: the Brier score's weights are released before it is asked.
    released = _sums(parts, model, {}, tuple(kind for kind in kinds if kind != "brier"), sd, rng)
    released |= _sums(parts, model, released, tuple(kind for kind in kinds if kind == "brier"), sd, rng)
    return evaluate(model, _CHOSEN, parts[0], lambda kind, index, _: released.get((kind, index)), sd)


def _sums(
    parts: list[SurvivalData],
    model: SurvivalModel,
    before: Sums,
    kinds: tuple[str, ...],
    sd: Callable[[str], float],
    rng: np.random.Generator,
) -> Sums:
    """Noisy sums over the hospitals, one after the other; what is read of them before the last is thrown away."""
    totals: Sums = {}

    def ask(kind: str, index: int, contribution: Callable[[], Float64]) -> Float64 | None:
        if kind not in kinds:
            return before.get((kind, index))
        vector = contribution()
        noise = totals.get((kind, index))
        totals[kind, index] = vector + (sd(kind) * rng.normal(size=len(vector)) if noise is None else noise)
        return totals[kind, index]

    for part in parts:
        evaluate(model, _CHOSEN, part, ask, sd)
    return totals


def _truth() -> SurvivalModel:
    """Two columns, f = 0.8·x₀ + 0.3·x₁."""
    weights = np.zeros(parameter_count(Hazards(()).layout(2, _CHOSEN.intervals)))
    weights[_CHOSEN.intervals : _CHOSEN.intervals + 2] = 0.8, 0.3  # behind the baseline's
    linear = SurvivalModel.as_trained(("x0", "x1"), Hazards(()), _CHOSEN.grid, weights.astype("<f8").tobytes())
    return linear.with_hazard(np.full(_CHOSEN.intervals, 0.55))


def _patients(count: int, rng: np.random.Generator) -> SurvivalData:
    x = np.clip(rng.normal(size=(count, 2)), -3, 3)
    death = rng.exponential(size=count) * 365.25 / 0.55 * np.exp(-0.8 * x[:, 0] - 0.3 * x[:, 1])
    end = rng.uniform(0, 4 * 365.25, count)
    data = SurvivalData(x, np.ones(x.shape, dtype=bool), np.minimum(death, end) + 1, death <= end)
    return data.bounded(_CHOSEN.horizon)


if __name__ == "__main__":
    main()
