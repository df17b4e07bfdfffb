"""The order of a survival study's sums: a function of the study alone, the same at every site.

sum × rounds, if the study imputes (training account) → gradient × T (training; or update, newton: the sums of the
algorithm that the study names) → breslow (training) → what the study measures (hold-out account, `models.measures`).
A stage whose kind has no multiplier in the study is not asked. A stage that runs out of
uploads is over: training ends early with the steps it has, a later release is "not released". A site that replays
stored sums walks the same plan; its contributions are never computed, because `SecureSum` calls them only for an
upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dp.errors import UploadsExhausted
from dp.queries import ACCOUNT_OF, Float64, Keystream, Query, SecureSum
from dp.rows import clipped_rows
from dp.sampling import FULL_BATCH, Poisson, Sampler
from models import imputation, measures, recalibration
from models.algorithms import chosen
from models.algorithms.chosen import Algorithm, Own
from models.completion import Completion
from models.constants import canonical
from models.data import SurvivalData
from models.errors import ConfigError, MisuseError
from models.evaluating import evaluate
from models.evaluation import Evaluation
from models.gaussian import JointNormal
from models.imputation import Imputation
from models.networks import parameter_count
from models.predict import SurvivalModel
from models.presets import Preset
from models.training import Trained, fit

KINDS = ("gradient", "breslow", *measures.KINDS)


@dataclass(frozen=True)
class Spec:
    """What a study says about its survival model: public constants only.

    Args:
        preset: model and hyper-parameters, with the study's declared number of patients as normaliser.
        features: names in column order.
        weights: initial weights, float64 little-endian.
        multipliers: noise multiplier z per kind of query; that of training is required. Other kinds than `KINDS`
            are for others.
        patient_cap: public cap on patients per site.
        noise_inflation: ≥ 1, upper bound on (standard deviation of the noise in a sum) ÷ (that of the
            accounted honest noise): √(m/h) where h of the m shares in a sum are counted on. In the study's mode A
            h = m − c at the smallest roster; in mode B h is smaller and everybody may have survived. Only intervals
            use it.
        sampling_probability: q in (0, 1], with which every patient is in one training step's sum. Everything else
            is asked of all patients.
        imputation: what is imputed, and from what; None for the reference fill beside the mask.
        algorithm: what trains; None for gradient steps in lockstep.

    Raises:
        ConfigError: a value is missing or out of range.
    """

    preset: Preset
    features: tuple[str, ...]
    weights: bytes = field(repr=False)
    multipliers: Mapping[str, float]
    patient_cap: int
    noise_inflation: float = 1.0
    sampling_probability: float = 1.0
    imputation: Imputation | None = None
    algorithm: Algorithm | None = None

    def __post_init__(self) -> None:
        """Check what the queries do not check themselves."""
        if not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError("a study needs at least one feature, each named once")
        if self.training not in self.multipliers:
            raise ConfigError(f"the study sets no noise multiplier for {self.training!r}")
        if self.algorithm is not None:
            chosen.require_fits(self.algorithm, self.preset)
        if len(self.weights) != 8 * self.length:
            raise ConfigError(f"initial weights have {len(self.weights)} bytes, the model needs {8 * self.length}")
        if not self.noise_inflation >= 1:
            raise ConfigError("noise_inflation is at least 1")
        if not 0 < self.sampling_probability <= 1:
            raise ConfigError("sampling_probability is above 0 and at most 1")
        if self.imputation is not None and not self.imputation.start.fits(self.features):
            raise ConfigError("the imputation is of covariates that are not where it says among the features")

    @property
    def training(self) -> str:
        """Kind of the sums that train."""
        return chosen.kind_of(self.algorithm)

    @property
    def length(self) -> int:
        """Number of parameters d."""
        return parameter_count(self.preset.network.layout(len(self.features), self.preset.intervals))

    def query(self, kind: str, index: int = 0) -> Query:
        """The query of one step; its public bytes cover the preset, the features and the initial weights.

        Raises:
            ConfigError: the study sets no multiplier for this kind, or the kind is not one of this plan.
        """
        if kind not in (self.training, *KINDS[1:]) or kind not in self.multipliers:
            raise ConfigError(f"the study asks no query of kind {kind!r}")
        shape = self._shape(kind)
        public = canonical(self._constants() | shape.constants)
        preset, features, multiplier = self.preset, len(self.features), self.multipliers[kind]
        if self.algorithm is not None and kind == self.training:
            return chosen.query_of(self.algorithm, preset, features, multiplier, self.patient_cap, index).about(public)
        sampled = self.sampling_probability if kind == "gradient" else 1.0
        size, bound, account = shape.length, shape.sensitivity, ACCOUNT_OF[kind]
        return Query(kind, index, size, bound, multiplier, account, self.patient_cap, public, sampled)

    def asked(self, kind: str) -> tuple[Query, ...]:
        """The queries of a kind; none if the study sets no multiplier for it."""
        return tuple(
            self.query(kind, index) for index in range(self._shape(kind).steps if kind in self.multipliers else 0)
        )

    def _shape(self, kind: str) -> measures.Shape:
        preset = self.preset
        if kind == self.training:
            return measures.Shape(preset.steps, self.length, preset.clip)
        return (
            measures.Shape(1, 2 * preset.intervals, preset.breslow_bound)
            if kind == "breslow"
            else measures.shape(kind, preset)
        )

    def _constants(self) -> dict[str, object]:
        """What every query of the plan covers."""
        constants: dict[str, object] = {
            "plan": "haemfed/survival-plan/v1",
            "preset": self.preset.digest().hex(),
            "features": list(self.features),
            "weights": hashlib.sha256(self.weights).hexdigest(),
        }
        if self.imputation is not None:
            constants["imputation"] = self.imputation.digest
        if self.algorithm is not None:
            constants["algorithm"] = canonical(chosen.describe(self.algorithm)).decode()
        return constants

    def noise_sd(self, kind: str) -> float:
        """Upper bound on the standard deviation of the noise on each coordinate of a released sum."""
        query = self.query(kind)
        return query.multiplier * query.sensitivity * self.noise_inflation


def schedule(spec: Spec) -> tuple[Query, ...]:
    """Every sum that the plan wants, in order: what a study checks its lattice and budget against."""
    rounds = imputation.schedule(spec.imputation) if spec.imputation is not None else ()
    return (*rounds, *(query for kind in (spec.training, *KINDS[1:]) for query in spec.asked(kind)))


@dataclass(frozen=True)
class Progress:
    """One released sum was applied.

    Args:
        stage: kind of the query.
        done, of: completed and wanted sums of the stage.
        digest: hex digest of the model after it (training: averaged parameters).
    """

    stage: str
    done: int
    of: int
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What a study leaves at every site, bit-identical but for the intervals' last digits.

    Args:
        trained: parameters and completed steps.
        model: ready for use; recalibrated if that was released.
        recalibrated: whether it was.
        evaluation: released hold-out scores.
        imputed: completed rounds of the imputation model; 0 without imputation.
    """

    trained: Trained
    model: SurvivalModel
    recalibrated: bool
    evaluation: Evaluation
    imputed: int = 0


def sampler_of(spec: Spec, keystream: Keystream) -> Sampler:
    """What draws the patients of a training step: all of them, or a Poisson sample.

    Args:
        spec: from the signed study.
        keystream: this site's secret bytes for the upload that is being made; another one for every upload, also for
            one that repeats an aborted round. Whoever knows them knows the sample, and against him q counts as 1.
    """
    return FULL_BATCH if spec.sampling_probability == 1 else Poisson(spec.sampling_probability, keystream)


def survival_plan(
    spec: Spec,
    train: SurvivalData,
    holdout: SurvivalData,
    secure_sum: SecureSum,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    sampler: Sampler = FULL_BATCH,
    own: Own | None = None,
) -> Outcome:
    """Learn to impute if the study says so, then train, recalibrate and evaluate through the door.

    All that follows the imputation model reads completed records. Completing is a function of one patient and of the
    released model, so each later sum keeps its sensitivity, and its query is about that model. Where no round was
    completed, or the noise left nothing to learn, it is the reference fill beside the mask, as without imputation.

    Args:
        spec: from the signed study.
        train: this site's training patients; may be empty.
        holdout: this site's hold-out patients, disjoint from `train`; may be empty.
        secure_sum: the door.
        on_progress: called after each applied sum, with released facts only.
        sampler: draws the patients of each training step; see `sampler_of`.
        own: of this site, if the study names an algorithm.

    Raises:
        MisuseError: a sampler of another probability than the one that is charged for, or `own` is missing.
    """
    if sampler.probability != spec.sampling_probability:
        raise MisuseError(
            f"the study charges for samples of probability {spec.sampling_probability:g}, the sampler draws with "
            f"{sampler.probability:g}"
        )
    preset = spec.preset
    tell = on_progress if on_progress is not None else _silent
    train, holdout = train.bounded(preset.horizon), holdout.bounded(preset.horizon)

    filling, imputed = _imputation(spec, train, secure_sum, tell)
    if filling is not None:
        train, holdout = filling.of(train), filling.of(holdout)
    trained = _trained(
        spec,
        train,
        secure_sum,
        lambda t: _knowing(spec.query(spec.training, t), filling),
        lambda done, digest: tell(Progress(spec.training, done, preset.steps, digest)),
        sampler,
        own,
    )
    model = SurvivalModel.as_trained(spec.features, preset.network, preset.grid, trained.params, filling)

    def ask(kind: str, index: int, contribution: Callable[[], Float64]) -> Float64 | None:
        if kind not in spec.multipliers:
            return None
        try:
            total = secure_sum(spec.query(kind, index).about(model.digest.encode()), contribution)
        except UploadsExhausted:
            return None
        if kind != "breslow":
            tell(Progress(kind, index + 1, len(spec.asked(kind)), model.digest))
        return total

    as_trained, bound = model, preset.breslow_bound
    bent = ask("breslow", 0, lambda: clipped_rows(recalibration.rows(as_trained, train, bound), bound))
    if bent is not None:
        model = recalibration.apply(model, preset, bent)
        tell(Progress("breslow", 1, 1, model.digest))
    evaluation = evaluate(model, preset, holdout, ask, spec.noise_sd)
    return Outcome(trained, model, bent is not None, evaluation, imputed)


def _imputation(
    spec: Spec, train: SurvivalData, secure_sum: SecureSum, tell: Callable[[Progress], None]
) -> tuple[Completion | None, int]:
    """What fills from here on, if anything was learned, and how many rounds it took; equal at every site."""
    study = spec.imputation
    if study is None:
        return None, 0
    done = 0

    def report(rounds: int, model: JointNormal) -> None:
        nonlocal done
        done = rounds
        tell(Progress("sum", rounds, study.rounds, model.digest.hex()))

    learned = imputation.fit(study, train, secure_sum, report)
    return (None if learned.digest == study.start.normal.digest else study.completion(learned)), done


def _trained(
    spec: Spec,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None],
    sampler: Sampler,
    own: Own | None,
) -> Trained:
    """By gradient steps, or by the algorithm that the study names."""
    preset, features, weights, algorithm = spec.preset, len(spec.features), spec.weights, spec.algorithm
    if algorithm is None:
        return fit(preset, features, weights, data, secure_sum, query, on_step, sampler=sampler)
    if own is None:
        raise MisuseError("a study that names an algorithm needs to know which site this is, and whose noise it has")
    return chosen.train(algorithm, preset, features, weights, data, secure_sum, query, on_step, own)


def _knowing(query: Query, filling: Completion | None) -> Query:
    return query if filling is None else query.about(filling.digest.encode())


def _silent(_: Progress) -> None:
    """Nobody is watching."""
