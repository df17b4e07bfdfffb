"""Reference models that have never seen a patient, and the score they give to a record.

Their training rows are drawn from a public dictionary (ranges and laws of the features, typed in from the
profile), and their survival times from the *released* model itself: post-processing of what is public
already. The score of a record compares the released model's signal with the references' signals on that
record (offline LiRA, Carlini et al. 2022), standardised on further drawn rows. It depends on no other
patient, so a histogram of scores has sensitivity 1, whatever the other patients are.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
import rfc8785

from audits.errors import MisuseError
from audits.histogram import ScoreBins
from audits.interval import Interval
from audits.roc import delong
from audits.shadows import Ensemble, Executor, Member, Recipe, serial, train_shadows
from audits.signals import HazardModel, signals, usable
from dp.queries import Float64
from models.data import DAYS_PER_YEAR, SurvivalData

__all__ = ["Dictionary", "FeatureLaw", "Plan", "References", "build", "draw", "positive_control"]


@dataclass(frozen=True)
class FeatureLaw:
    """Public law of one feature on the profile's scale.

    Attributes:
        name: feature.
        low: public lower bound.
        high: public upper bound.
        mean: centre of the normal law before it is cut to the bounds.
        std: its std.
        levels: if given, the feature takes these values with equal probability instead.
        missing: public guess of how often it is not measured.
    """

    name: str
    low: float = -3.0
    high: float = 3.0
    mean: float = 0.0
    std: float = 1.0
    levels: tuple[float, ...] = ()
    missing: float = 0.05

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.std > 0.0 and 0.0 <= self.missing < 1.0):
            raise MisuseError(f"the law of {self.name} has an empty range, no spread, or is always missing")


@dataclass(frozen=True)
class Dictionary:
    """Public laws of all features, in the model's column order, and of follow-up.

    Attributes:
        features: one law per column.
        follow_up: shortest follow-up as a share of the horizon; censoring is uniform from there to the
            horizon.
    """

    features: tuple[FeatureLaw, ...]
    follow_up: float = 0.4


@dataclass(frozen=True)
class Plan:
    """The public recipe of the references; its digest enters the queries.

    Attributes:
        dictionary: laws of the features.
        recipe: how a reference is trained.
        rows: rows per reference: the study's declared number of training patients.
        count: references R.
        calibration: rows for centre and scale of the scores.
        seed: public seed, e.g. from the digest of the study.
    """

    dictionary: Dictionary
    recipe: Recipe
    rows: int
    count: int = 16
    calibration: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 10 or self.count < 4 or self.calibration < 100:
            raise MisuseError("references need at least 10 rows, 4 models and 100 calibration rows")

    def digest(self) -> bytes:
        """SHA-256 over the canonical form of every number (32 bytes), floats by `float.hex`."""

        def exact(value: object) -> object:
            match value:
                case float():
                    return value.hex()
                case dict():
                    return {key: exact(item) for key, item in value.items()}
                case list() | tuple():
                    return [exact(item) for item in value]
                case int():
                    return str(value)
                case _:
                    return value

        body = {"format": "haemfed/references/v1", **{key: exact(item) for key, item in asdict(self).items()}}
        # exact() leaves str, list and dict, which the annotation of rfc8785 cannot see.
        return hashlib.sha256(rfc8785.dumps(body)).digest()  # type: ignore[arg-type]  # as above


def draw(dictionary: Dictionary, model: HazardModel, rows: int, rng: np.random.Generator) -> SurvivalData:
    """Draw patients who do not exist: features from the dictionary, survival from the model.

    Args:
        dictionary: public laws.
        model: a released model; survival is drawn from its own curves.
        rows: how many.
        rng: seeded from public numbers.

    Returns:
        records bounded by the model's horizon.
    """
    columns = []
    for law in dictionary.features:
        if law.levels:
            columns.append(rng.choice(np.asarray(law.levels), size=rows))
        else:
            columns.append(np.clip(rng.normal(law.mean, law.std, rows), law.low, law.high))
    x = np.stack(columns, axis=1)
    observed = rng.random(x.shape) >= np.array([law.missing for law in dictionary.features])
    x = np.where(observed, x, 0.0)
    # Invert the cumulative hazard: linear between the edges, so interpolation is exact.
    edges = np.asarray(model.grid)
    years = np.diff(edges) / DAYS_PER_YEAR
    # A hazard of 0 makes a flat piece; a tiny slope keeps the inverse defined and moves no event visibly.
    hazards = np.maximum(model.hazards(x, observed), 1e-12)
    cumulative = np.cumsum(hazards * years, axis=1)
    needed = rng.exponential(size=rows)
    interval = np.minimum(np.sum(cumulative < needed[:, None], axis=1), years.size - 1)
    row = np.arange(rows)
    before = cumulative[row, interval] - hazards[row, interval] * years[interval]
    within = (needed - before) / hazards[row, interval] * DAYS_PER_YEAR
    event_time = np.where(needed < cumulative[:, -1], edges[interval] + within, np.inf)
    horizon = edges[-1]
    censored = rng.uniform(dictionary.follow_up * horizon, horizon, rows)
    return SurvivalData(x, observed, np.minimum(event_time, censored), event_time <= censored).bounded(float(horizon))


@dataclass(frozen=True, eq=False, repr=False)
class References:
    """Trained references, with the rows on which scores are standardised.

    Attributes:
        plan: the public recipe.
        models: R networks.
        calibration: drawn rows that no reference was trained on.
    """

    plan: Plan
    models: Ensemble
    calibration: SurvivalData

    def _raw(self, model: HazardModel, data: SurvivalData, floor: float) -> Float64:
        usual = self.models.signals(data).log_likelihood
        spread = np.maximum(usual.std(axis=0), floor)
        return np.asarray((signals(model, data).log_likelihood - usual.mean(axis=0)) / spread)

    def scores(self, model: HazardModel, data: SurvivalData) -> Float64:
        """Standardised score of each record, higher = more like a member.

        Args:
            model: the released model.
            data: records of one side of the split; not yet bounded.

        Returns:
            float64[n]; NaN for a record that is not usable, which contributes zero everywhere.
        """
        # Half of the ensemble's typical spread keeps a record on which all references agree from exploding.
        floor = 0.5 * float(np.median(self.models.signals(self.calibration).log_likelihood.std(axis=0))) + 1e-9
        centre = self._raw(model, self.calibration, floor)
        middle = float(np.median(centre))
        scale = 1.4826 * float(np.median(np.abs(centre - middle))) + 1e-9
        scores = np.full(len(data), np.nan)
        # One record at a time: matrix products of another size may differ in the last bit, and then a patient at the
        # edge of a bin would change it for somebody else's sake, who would count twice.
        for place in np.flatnonzero(usable(data)):
            alone = data.rows(np.array([place])).bounded(model.grid[-1])
            scores[place] = (self._raw(model, alone, floor)[0] - middle) / scale
        return scores


def build(plan: Plan, model: HazardModel, *, executor: Executor = serial, block_size: int = 16) -> References:
    """Draw the rows and train the references of a released model.

    Raises:
        MisuseError: the recipe's grid is not the model's.
    """
    if plan.recipe.grid != tuple(model.grid):
        raise MisuseError("references must be trained on the released model's grid")
    rng = np.random.Generator(np.random.PCG64(plan.seed))
    rows = draw(plan.dictionary, model, 2 * plan.rows, rng)
    calibration = draw(plan.dictionary, model, plan.calibration, rng)
    # Each reference takes its own random half: as varied as separate rows for the spread on other records, at
    # a fraction of the work of batched training.
    masks = rng.random((plan.count, len(rows))).argsort(axis=1) < plan.rows
    models = train_shadows(plan.recipe, rows, masks, seed=plan.seed + 1, executor=executor, block_size=block_size)
    return References(plan, models, calibration)


def positive_control(
    references: References,
    model: HazardModel,
    bins: ScoreBins,
    *,
    alpha: float,
    records: int = 150,
    recipe: Recipe | None = None,
) -> Interval:
    """AUC of the same attack on a twin that was made to memorise drawn patients.

    The twin is trained to convergence without privacy on `records` drawn rows; the attack must tell them from
    as many others. No patient is involved, so this is evidence that may leave: it says whether the attack has
    power.

    Args:
        references: the references used on the real model.
        model: the released model, from which survival is drawn.
        bins: the study's bins; the control sees what a histogram would show, no more.
        alpha: error of each bound.
        records: members, and as many non-members.
        recipe: of the twin; default a wide network trained for long.

    Returns:
        interval of the AUC (DeLong).
    """
    plan = references.plan
    overfit = recipe or Recipe((64,), plan.recipe.grid, plan.recipe.initial_log_hazard, steps=300, learning_rate=0.03)
    rng = np.random.Generator(np.random.PCG64(plan.seed + 2))
    rows = draw(plan.dictionary, model, 2 * records, rng)
    member = np.arange(2 * records) < records
    twin = Member(train_shadows(overfit, rows, member[None, :], seed=plan.seed + 3), 0)
    places = bins.places(references.scores(twin, rows))
    return delong(places[member], places[~member], alpha)
