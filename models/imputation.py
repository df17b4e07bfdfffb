"""Federated MICE: what is missing is filled from the others' covariates, through the one door.

Chained equations need, for every variable, the normal equations of its regression on the others; all of them together
are one matrix of second moments. So a round is one release, `models.moments.Moments`, and rounds repeat with the new
model: EM for a joint normal model, whose conditionals are exactly the linear (for a property: linear-probability,
clipped to [0, 1]) regressions of MICE.

Why not available-case moments with a count for every pair: they are consistent only where missing is completely at
random, need not be positive definite, and p²/2 counts of up to n patients would share the norm with the moments.
Moments filled by the model need no counts, are consistent under missing at random, and cost a few rounds.

Then every hospital imputes its own patients and nothing more is released.

- The outcome is never imputed and never used: it is not among the covariates, and a new patient has none.
- A variable that a hospital never measures stays missing unless the study lists it in `cross_site`. *Never measured* is
  declared by a person, in the study or to `impute`, and not read from the table: if one patient's value decided whether
  all others are imputed, no later release would have the sensitivity that it declares.
- Who is imputed how is a function of his own record, the released model and, for draws, the hospital's secret and his
  pseudonym. So one patient more changes nobody else's completed record.

Source: van Buuren & Groothuis-Oudshoorn, J Stat Softw 2011;45(3) (MICE); Chang et al., Nat Commun 2020;11:5467 (the
sums of MICE over hospitals); Little & Rubin 2019, ch. 11 (EM). The rest in `models.moments`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from dp.errors import UploadsExhausted
from dp.queries import Query, SecureSum
from models.completion import Completion
from models.data import Bool, Float64, SurvivalData
from models.errors import ConfigError, MisuseError
from models.gaussian import Covariate, JointNormal, cholesky
from models.moments import Moments

__all__ = ["Completed", "Imputation", "Marks", "draws", "fit", "impute", "schedule"]

SECRET_BYTES: Final = 32


@dataclass(frozen=True)
class Imputation:
    """What a study says about imputation: public constants only.

    Args:
        covariates: what is imputed, and from what.
        radius: R > 0, in spreads: a patient's record, what is missing counted with its variance, is cut to this norm.
        multiplier: noise multiplier z of each round.
        patient_cap: public cap on patients per site.
        rounds: ≥ 1; each leaves about the share of missing values of what there was still to explain.
        never_measured: names of covariates that some hospital never measures, as declared by people. One model serves
            all hospitals alike, so that these are imputed at none of them; the others are still imputed from them.
        cross_site: names of covariates that are also imputed where a hospital never measures them.
        first_index: of the rounds among the study's queries of kind "sum".
        noise_inflation: ≥ 1, see `models.plan.Spec`.

    Raises:
        ConfigError: a value outside its range; names it.
    """

    covariates: tuple[Covariate, ...]
    radius: float
    multiplier: float
    patient_cap: int
    rounds: int = 2
    never_measured: tuple[str, ...] = ()
    cross_site: tuple[str, ...] = ()
    first_index: int = 0
    noise_inflation: float = 1.0

    def __post_init__(self) -> None:
        """Check what the queries do not check themselves."""
        if not self.rounds >= 1:
            raise ConfigError("imputation takes at least one round")
        if not self.noise_inflation >= 1:
            raise ConfigError("noise_inflation is at least 1")
        for field_ in ("never_measured", "cross_site"):
            if unknown := set(getattr(self, field_)) - {c.name for c in self.covariates}:
                raise ConfigError(f"{field_} names no covariate: {', '.join(sorted(unknown))}")

    def completion(self, model: JointNormal, absent: Collection[str] = ()) -> Completion:
        """What fills by a model of this study: everything but what is never measured and not in `cross_site`.

        Args:
            model: from `fit`, or public.
            absent: more names that are never measured, see `impute`.

        Raises:
            MisuseError: the model is of other covariates, or `absent` names no covariate.
        """
        if self.covariates != model.covariates:
            raise MisuseError("the imputation model is of other covariates than the study")
        names = [c.name for c in self.covariates]
        if isinstance(absent, str) or not set(absent) <= set(names):
            raise MisuseError("absent is a collection of names of covariates")
        never = {*self.never_measured, *absent} - set(self.cross_site)
        return Completion(model, tuple(name for name in names if name in never))

    @property
    def start(self) -> Completion:
        """What fills before any round: the public start, which is the reference fill."""
        return self.completion(JointNormal.start(self.covariates))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of every public constant that decides what is filled."""
        constants = [self.start.digest, self.radius.hex(), self.rounds, self.first_index]
        return hashlib.sha256(json.dumps(constants, separators=(",", ":")).encode()).hexdigest()


def schedule(study: Imputation) -> tuple[Query, ...]:
    """Every round's query but for the model it is about: what a study checks its lattice and budget against."""
    release = Moments(JointNormal.start(study.covariates), study.radius)
    indices = range(study.first_index, study.first_index + study.rounds)
    return tuple(release.query(study.multiplier, study.patient_cap, index) for index in indices)


def fit(
    study: Imputation,
    data: SurvivalData,
    secure_sum: SecureSum,
    on_round: Callable[[int, JointNormal], None] = lambda _done, _model: None,
) -> JointNormal:
    """Learn the imputation model of all sites through the door; charged per round, before each release.

    Bit-identical at every site. If uploads run out or the noise drowns everybody, it is the model so far: at worst the
    public start, whose filling is the reference fill.

    Args:
        study: public constants.
        data: this site's training patients; may be empty.
        secure_sum: the door.
        on_round: called after each applied sum with how many there are, and the model so far.

    Raises:
        MisuseError: the data lack a covariate's column.
    """
    model = JointNormal.start(study.covariates)
    for place in range(study.rounds):
        release = Moments(model, study.radius)
        query = release.query(study.multiplier, study.patient_cap, study.first_index + place)
        try:
            total = secure_sum(query, lambda release=release: release.contribution(data))  # type: ignore[misc]
        except UploadsExhausted:
            break
        model = release.decode(total, query.multiplier * query.sensitivity * study.noise_inflation).model
        on_round(place + 1, model)
    return model


# ---------------------------------------------------------------- at one site, nothing released


class Marks(StrEnum):
    """What the mask of a completed table says of an imputed cell.

    | mark         | a model                                                                       |
    |--------------|-------------------------------------------------------------------------------|
    | not-observed | still sees the reference fill and the indicator; the state of the value is kept |
    | observed     | sees the imputed number and no indicator                                      |
    """

    NOT_OBSERVED = "not-observed"
    OBSERVED = "observed"


@dataclass(frozen=True, eq=False)
class Completed:
    """A site's table with missing covariates filled. The outcome and everything observed are as they were.

    Args:
        x: float64[n, features], imputed where `imputed`.
        imputed: bool[n, features].
        original: the table that was completed.
    """

    x: Float64 = field(repr=False)
    imputed: Bool = field(repr=False)
    original: SurvivalData = field(repr=False)

    def data(self, marks: Marks) -> SurvivalData:
        """Return the table as models take it.

        Args:
            marks: of the imputed cells; what was not imputed and not observed stays not observed.
        """
        seen = self.original.observed | self.imputed if marks is Marks.OBSERVED else self.original.observed
        return SurvivalData(self.x, seen, self.original.duration, self.original.event)


def impute(
    study: Imputation, model: JointNormal, data: SurvivalData, *, absent: Collection[str] = frozenset()
) -> Completed:
    """Fill by conditional means: the best single guess, and a probability for a property.

    Deterministic; each patient's numbers depend on his own record and the model alone.

    Args:
        study: says which covariates may be imputed where they are never measured.
        model: from `fit`, or public.
        data: this site's patients, of either half. A patient with a broken value is left as he is.
        absent: covariates that this site declares it never measures.

    Raises:
        MisuseError: the model is of other covariates, the data lack a column, or `absent` names no covariate.
    """
    found, seen = study.completion(model, absent).complete(data.x, data.observed)
    return Completed(found, seen & ~data.observed, data)


def draws(
    study: Imputation,
    model: JointNormal,
    data: SurvivalData,
    pids: Sequence[str],
    secret: bytes,
    *,
    m: int = 5,
    absent: Collection[str] = frozenset(),
) -> tuple[Completed, ...]:
    """Fill m times by draws from the conditional distributions, for multiple imputation.

    A number is drawn from its normal distribution and cut to its public bounds, a property is drawn as yes or no; each
    missing value given the observed and the earlier drawn ones. The chance of one patient comes from (secret, pid,
    number of the draw): the same whoever else is in the table, and unknown outside the site.

    Args:
        study: see `impute`.
        model: see `impute`.
        data: see `impute`.
        absent: see `impute`.
        pids: pseudonyms, one per patient, each once.
        secret: 32 bytes that never leave the site.
        m: number of draws, ≥ 1. Private training takes one of them: a patient in m tables is m patients.

    Raises:
        MisuseError: as `impute`; or pseudonyms, secret or m are none.
    """
    if len(pids) != len(data) or len(set(pids)) != len(pids):
        raise MisuseError("draws need one pseudonym per patient, each once")
    if len(secret) != SECRET_BYTES or m < 1:
        raise MisuseError(f"draws need a secret of {SECRET_BYTES} bytes and m of at least 1")
    completion = study.completion(model, absent)
    x, observed, wanted = completion.table(data.x, data.observed)
    tables = [(data.x.copy(), data.observed.copy()) for _ in range(m)]
    for pattern in model.patterns(observed):
        expected, factor = model.expected(x, pattern), cholesky(pattern.covariance)
        for number, (found, seen) in enumerate(tables):
            chance = [_chance(secret, pids[row], number, len(model.covariates)) for row in pattern.rows]
            drawn = _drawn(model, pattern.missing, expected, factor, np.array(chance))
            completion.put(found, seen, wanted, pattern, drawn)
    return tuple(Completed(found, seen & ~data.observed, data) for found, seen in tables)


def _drawn(
    model: JointNormal,
    missing: np.ndarray[tuple[int], np.dtype[np.intp]],
    expected: Float64,
    factor: Float64,
    chance: Float64,
) -> Float64:
    """One draw of a pattern's missing values, in the order of the covariates; chance is float64[rows, 2, p]."""
    z, out = np.zeros_like(expected), np.zeros_like(expected)
    for k, place in enumerate(missing):
        covariate, centre = model.covariates[place], expected[:, k].copy()
        for earlier in range(k):
            centre += factor[k, earlier] * z[:, earlier]
        if covariate.two_valued:
            has = chance[:, 1, place] * (covariate.high - covariate.low) < centre - covariate.low
            out[:, k] = np.where(has, covariate.high, covariate.low)
        else:
            out[:, k] = np.clip(centre + factor[k, k] * chance[:, 0, place], covariate.low, covariate.high)
        z[:, k] = (out[:, k] - centre) / factor[k, k]
    return out


def _chance(secret: bytes, pid: str, number: int, p: int) -> Float64:
    """Normal and uniform numbers of one patient and one draw, float64[2, p]."""
    seed = hashlib.blake2b(f"haemfed/impute/v1/{number}/{pid}".encode(), key=secret, digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(seed, "little")))
    return np.stack([generator.standard_normal(p), generator.random(p)])
