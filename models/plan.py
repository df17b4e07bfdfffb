"""The order of a survival study's sums: a function of the study alone, the same at every site.

sum × rounds, if the study imputes (training account) → gradient × T (training) → breslow (training) → concordance →
calibration (hold-out account). A stage whose kind has no multiplier in the study is not asked. A stage that runs out of
uploads is over: training ends early with the steps it has, a later release is "not released". A site that replays
stored sums walks the same plan; its contributions are never computed, because `SecureSum` calls them only for an
upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dp.errors import UploadsExhausted
from dp.queries import Account, Float64, Keystream, Query, SecureSum
from dp.rows import clipped_rows
from dp.sampling import FULL_BATCH, Poisson, Sampler
from models import calibration, concordance, imputation, recalibration
from models.completion import Completion
from models.constants import canonical
from models.data import SurvivalData
from models.errors import ConfigError, MisuseError
from models.evaluation import Evaluation
from models.gaussian import JointNormal
from models.imputation import Imputation
from models.networks import parameter_count
from models.predict import SurvivalModel
from models.presets import Preset
from models.training import Trained, fit

KINDS = ("gradient", "breslow", "concordance", "calibration")


@dataclass(frozen=True)
class Spec:
    """What a study says about its survival model: public constants only.

    Args:
        preset: model and hyper-parameters, with the study's declared number of patients as normaliser.
        features: names in column order.
        weights: initial weights, float64 little-endian.
        multipliers: noise multiplier z per kind of query; "gradient" is required. Other kinds than `KINDS`
            are for others.
        patient_cap: public cap on patients per site.
        noise_inflation: ≥ 1, upper bound on (standard deviation of the noise in a sum) ÷ (that of the
            accounted honest noise): √(m/h) where h of the m shares in a sum are counted on. In the study's mode A
            h = m − c at the smallest roster; in mode B h is smaller and everybody may have survived. Only intervals
            use it.
        sampling_probability: q in (0, 1], with which every patient is in one training step's sum. Everything else
            is asked of all patients.
        imputation: what is imputed, and from what; None for the reference fill beside the mask.

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

    def __post_init__(self) -> None:
        """Check what the queries do not check themselves."""
        if not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError("a study needs at least one feature, each named once")
        if "gradient" not in self.multipliers:
            raise ConfigError("the study sets no noise multiplier for 'gradient'")
        if len(self.weights) != 8 * self.length:
            raise ConfigError(f"initial weights have {len(self.weights)} bytes, the model needs {8 * self.length}")
        if not self.noise_inflation >= 1:
            raise ConfigError("noise_inflation is at least 1")
        if not 0 < self.sampling_probability <= 1:
            raise ConfigError("sampling_probability is above 0 and at most 1")
        if self.imputation is not None and not self.imputation.start.fits(self.features):
            raise ConfigError("the imputation is of covariates that are not where it says among the features")

    @property
    def length(self) -> int:
        """Number of parameters d."""
        return parameter_count(self.preset.network.layout(len(self.features), self.preset.intervals))

    def query(self, kind: str, index: int = 0) -> Query:
        """The query of one step; its public bytes cover the preset, the features and the initial weights.

        Raises:
            ConfigError: the study sets no multiplier for this kind, or the kind is not one of this plan.
        """
        if kind not in KINDS or kind not in self.multipliers:
            raise ConfigError(f"the study asks no query of kind {kind!r}")
        preset = self.preset
        size, bound, account = {
            "gradient": (self.length, preset.clip, Account.TRAINING),
            "breslow": (2 * preset.intervals, preset.breslow_bound, Account.TRAINING),
            "concordance": (2, concordance.SENSITIVITY, Account.HOLDOUT),
            "calibration": (calibration.length(preset), calibration.sensitivity(preset), Account.HOLDOUT),
        }[kind]
        constants: dict[str, object] = {
            "plan": "haemfed/survival-plan/v1",
            "preset": preset.digest().hex(),
            "features": list(self.features),
            "weights": hashlib.sha256(self.weights).hexdigest(),
        }
        if self.imputation is not None:
            constants["imputation"] = self.imputation.digest
        public = canonical(constants)
        sampled = self.sampling_probability if kind == "gradient" else 1.0
        return Query(kind, index, size, bound, self.multipliers[kind], account, self.patient_cap, public, sampled)

    def noise_sd(self, kind: str) -> float:
        """Upper bound on the standard deviation of the noise on each coordinate of a released sum."""
        query = self.query(kind)
        return query.multiplier * query.sensitivity * self.noise_inflation


def schedule(spec: Spec) -> tuple[Query, ...]:
    """Every sum that the plan wants, in order: what a study checks its lattice and budget against."""
    rounds = imputation.schedule(spec.imputation) if spec.imputation is not None else ()
    gradients = tuple(spec.query("gradient", t) for t in range(spec.preset.steps))
    return rounds + gradients + tuple(spec.query(kind) for kind in KINDS[1:] if kind in spec.multipliers)


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

    Raises:
        MisuseError: a sampler of another probability than the one that is charged for.
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
    trained = fit(
        preset,
        len(spec.features),
        spec.weights,
        train,
        secure_sum,
        lambda t: _knowing(spec.query("gradient", t), filling),
        lambda done, digest: tell(Progress("gradient", done, preset.steps, digest)),
        sampler=sampler,
    )
    model = SurvivalModel.as_trained(spec.features, preset.network, preset.grid, trained.params, filling)

    def ask(kind: str, contribution: Callable[[], Float64]) -> Float64 | None:
        if kind not in spec.multipliers:
            return None
        try:
            return secure_sum(spec.query(kind).about(model.digest.encode()), contribution)
        except UploadsExhausted:
            return None

    as_trained, bound = model, preset.breslow_bound
    bent = ask("breslow", lambda: clipped_rows(recalibration.rows(as_trained, train, bound), bound))
    if bent is not None:
        model = recalibration.apply(model, preset, bent)
        tell(Progress("breslow", 1, 1, model.digest))

    final = model
    pairs = ask("concordance", lambda: concordance.pair_sums(final.risk(holdout.x, holdout.observed), holdout))
    if pairs is not None:
        tell(Progress("concordance", 1, 1, model.digest))
    cells = ask(
        "calibration",
        lambda: clipped_rows(calibration.rows(final, preset, holdout), calibration.sensitivity(preset)),
    )
    if cells is not None:
        tell(Progress("calibration", 1, 1, model.digest))

    evaluation = Evaluation(
        None if pairs is None else concordance.decode(pairs, spec.noise_sd("concordance")),
        None if cells is None else calibration.decode(model, preset, cells, spec.noise_sd("calibration")),
    )
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


def _knowing(query: Query, filling: Completion | None) -> Query:
    return query if filling is None else query.about(filling.digest.encode())


def _silent(_: Progress) -> None:
    """Nobody is watching."""
