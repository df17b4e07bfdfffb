"""The strong attack, for the site's own eyes: likelihood-ratio attack with shadows of its own patients.

Online LiRA (Carlini et al. 2022, arXiv 2112.03570) with per-record mean and variance, on the log-likelihood
and on −log|martingale residual|. Shadows are trained on random halves of the site's patients, so one patient
moves every other patient's score: adding one moved 85 of 200 members over a threshold. No count of these
results has a small sensitivity, hence nothing of `LocalEvidence` may leave the site, charged or not, and no
function of this package that writes a certificate takes it. The data protection officer sees it and may
refuse to sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from scipy.stats import rankdata

from audits.errors import MisuseError
from audits.interval import Interval, normal
from audits.roc import Operating, delong, operating_point
from audits.sensitivity import joined
from audits.shadows import Executor, Recipe, serial, train_shadows
from audits.signals import HazardModel, signals, usable
from dp.queries import Float64
from models.data import Bool, SurvivalData, inputs

__all__ = ["LocalEvidence", "SignalResult", "StaysHere", "WorstRecord", "attack", "half_masks", "lira"]

SHADOWS = 32
FPR_ASKED = (0.10, 0.01)
MIN_HOLDOUT = 10
"""Hold-out patients below which a site's own attack is not even attempted to be read (never another draw)."""


BLIND_ALPHA = 0.01
"""A fair split is called unfair at one site in a hundred, not in twenty."""


SHUFFLES = 200


class StaysHere:
    """Marks a value that must not be serialised: no encoder knows this type, and pickling it is refused."""

    def __reduce__(self) -> NoReturn:
        raise MisuseError("local evidence stays in this process; show it on this site's screen instead")

    def __repr__(self) -> str:
        return "stays at this site"


@dataclass(frozen=True)
class SignalResult:
    """What one signal achieved.

    Attributes:
        name: signal.
        auc: area under the ROC curve, DeLong.
        points: hit rates at 10 % and 1 % false alarms, at the achieved rate, Clopper-Pearson.
    """

    name: str
    auc: Interval
    points: tuple[Operating, ...]


@dataclass(frozen=True)
class WorstRecord:
    """A member whose membership the attack is surest of; the pseudonym is the site's own."""

    pseudonym: str
    score: float


@dataclass(frozen=True, repr=False)
class LocalEvidence:
    """Attack results on real patients of this site. Never leaves it.

    `msgspec`, `json` and `pickle` all refuse an object of this class.

    Attributes:
        members: training patients attacked.
        nonmembers: hold-out patients attacked.
        shadows: shadow models trained.
        results: threshold attack first, then LiRA by log-likelihood and by log|martingale residual|.
        blind: AUC of an attacker who never sees the model; a lower bound above ½ means that members and
            hold-out differ by construction and the other numbers say nothing about the model.
        worst: members the attack is surest of, worst first.
        notes: sentences for the reader.
    """

    members: int
    nonmembers: int
    shadows: int
    results: tuple[SignalResult, ...]
    blind: Interval
    worst: tuple[WorstRecord, ...]
    notes: tuple[str, ...]
    stays: StaysHere = field(default_factory=StaysHere, compare=False)

    def __repr__(self) -> str:
        return f"LocalEvidence(members={self.members}, nonmembers={self.nonmembers}, stays at this site)"


def half_masks(shadows: int, records: int, rng: np.random.Generator) -> Bool:
    """bool[S, n]: each record is in exactly half of the shadows, chosen at random and independently."""
    if shadows < 4 or shadows % 2:
        raise MisuseError(f"{shadows} shadows; the attack needs an even number, at least 4")
    return np.asarray(rng.random((shadows, records)).argsort(axis=0) < shadows // 2, dtype=np.bool_)


def lira(target: Float64, shadows: Float64, masks: Bool) -> Float64:
    """Log-likelihood ratio of membership, online LiRA with per-record mean and variance.

    log N(s; μ_in, σ_in²) − log N(s; μ_out, σ_out²) per record, where in and out are the shadows that were and
    were not trained on it.

    | case | result |
    |---|---|
    | all shadows agree exactly on a record | std is floored at 1e-8, the score stays finite |

    Args:
        target: float64[n], signal of the attacked model.
        shadows: float64[S, n], signals of the shadows.
        masks: bool[S, n], which shadow was trained on which record; each column has both kinds.

    Returns:
        float64[n], higher = more like a member.

    Raises:
        MisuseError: shapes differ, or a record is in all or in no shadow.
    """
    if shadows.shape != masks.shape or target.shape != shadows.shape[1:]:
        raise MisuseError(f"target {target.shape}, shadows {shadows.shape} and masks {masks.shape} do not fit")
    inside = masks.sum(axis=0)
    if masks.size == 0 or inside.min() < 2 or inside.max() > masks.shape[0] - 2:
        raise MisuseError("every record must be in at least two shadows and out of at least two")

    def log_density(chosen: Bool) -> Float64:
        values = np.where(chosen, shadows, np.nan)
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-8
        return np.asarray(-0.5 * np.square((target - mean) / std) - np.log(std), dtype=np.float64)

    return log_density(masks) - log_density(~masks)


def _blind(data: SurvivalData, member: Bool, alpha: float, rng: np.random.Generator) -> Interval:
    """An attacker without the model: ridge regression of membership on the record, cross-fitted fivefold.

    The spread of the AUC comes from shuffled membership. DeLong's would be too small by half, because
    cross-fitted scores depend on each other.
    """
    features = np.column_stack(
        [
            inputs(data.x, data.observed),
            np.log1p(data.duration),
            data.event.astype(np.float64),
            np.ones(len(data)),
        ]
    )
    fold = rng.permutation(len(data)) % 5
    # A ridge fit is linear in the labels: one matrix per fold serves all shuffles.
    maps = []
    for number in range(5):
        test = fold == number
        left = features[~test]
        fitted = features[test] @ np.linalg.solve(left.T @ left + np.eye(left.shape[1]), left.T)
        # Centred within the fold: folds differ in their mean, and that must not look like skill.
        maps.append((test, fitted - fitted.mean(axis=0)))

    def area(member: Bool) -> float:
        scores = np.zeros(member.size)
        for test, fitted in maps:
            label = np.where(member[~test], 1.0, -1.0)
            scores[test] = fitted @ (label - label.mean())
        inside = float(member.sum())
        return float(rankdata(scores)[member].sum() / inside - (inside + 1.0) / 2.0) / (member.size - inside)

    shuffled = [area(rng.permutation(member)) for _ in range(SHUFFLES)]
    return normal(area(member), float(np.std(shuffled)), alpha, "cross-fitted ridge, permutation")


def _pool(
    members: SurvivalData, holdout: SurvivalData, pseudonyms: Sequence[str], horizon: float
) -> tuple[SurvivalData, Bool, list[str]]:
    if len(pseudonyms) != len(members):
        raise MisuseError(f"{len(pseudonyms)} pseudonyms for {len(members)} training patients")
    keep = usable(members)
    names = [name for name, kept in zip(pseudonyms, keep, strict=True) if kept]
    inside = members.rows(keep).bounded(horizon)
    outside = holdout.rows(usable(holdout)).bounded(horizon)
    member = np.arange(len(inside) + len(outside)) < len(inside)
    return joined(inside, outside), member, names


def attack(
    model: HazardModel,
    members: SurvivalData,
    holdout: SurvivalData,
    pseudonyms: Sequence[str],
    recipe: Recipe,
    *,
    seed: int,
    alpha: float = 0.05,
    rest: SurvivalData | None = None,
    shadows: int = SHADOWS,
    worst: int = 10,
    executor: Executor = serial,
) -> LocalEvidence:
    """Attack a released model with everything the site knows about its own patients.

    Args:
        model: the released model.
        members: this site's training patients.
        holdout: this site's hold-out patients, never trained on.
        pseudonyms: one per training patient, for the local list only.
        recipe: how shadows are trained (`Recipe.of(preset)`), on the model's grid.
        seed: of halves and initial weights.
        alpha: error of each bound.
        rest: synthetic patients that every shadow is trained on as well, in place of the other hospitals
            (`audits.references.draw`); without them a small site's shadows resemble the federated model less.
        shadows: how many, even.
        worst: length of the list of worst records.
        executor: where blocks of shadows run.

    Returns:
        evidence that stays at this site.

    Raises:
        MisuseError: grids differ, pseudonyms do not fit, or either side has no usable patient.
    """
    if recipe.grid != tuple(model.grid):
        raise MisuseError("shadows must be trained on the released model's grid")
    pool, member, names = _pool(members, holdout, pseudonyms, recipe.grid[-1])
    if not member.any() or member.all():
        raise MisuseError("the attack needs training and hold-out patients")
    rng = np.random.Generator(np.random.PCG64(seed))
    masks = half_masks(shadows, len(pool), rng)
    if rest is None:
        ensemble = train_shadows(recipe, pool, masks, seed=seed + 1, executor=executor)
    else:
        others = rest.rows(usable(rest)).bounded(recipe.grid[-1])
        always = np.ones((shadows, len(others)), dtype=np.bool_)
        ensemble = train_shadows(
            recipe, joined(pool, others), np.hstack([masks, always]), seed=seed + 1, executor=executor
        )
    target, guesses = signals(model, pool), ensemble.signals(pool)
    scores = {
        "likelihood threshold (no shadows)": target.log_likelihood,
        "LiRA, log-likelihood": lira(target.log_likelihood, guesses.log_likelihood, masks),
        "LiRA, log|martingale residual|": lira(target.log_residual, guesses.log_residual, masks),
    }
    results = tuple(
        SignalResult(
            name,
            delong(score[member], score[~member], alpha),
            tuple(operating_point(score[member], score[~member], asked, alpha) for asked in FPR_ASKED),
        )
        for name, score in scores.items()
    )
    strongest = scores["LiRA, log|martingale residual|"][member]
    order = np.argsort(-strongest, kind="stable")[:worst]
    blind = _blind(pool, member, min(alpha, BLIND_ALPHA), rng)
    outside = int((~member).sum())
    notes = []
    if outside < MIN_HOLDOUT:
        notes.append(f"Only {outside} hold-out patients: nothing can be concluded from these numbers.")
    if blind.low > 0.5:
        notes.append("Members and hold-out differ without any model: the split is not a fair comparison here.")
    return LocalEvidence(
        members=int(member.sum()),
        nonmembers=outside,
        shadows=shadows,
        results=results,
        blind=blind,
        worst=tuple(WorstRecord(names[i], float(strongest[i])) for i in order.tolist()),
        notes=tuple(notes),
    )
