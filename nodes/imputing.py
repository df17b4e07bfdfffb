"""Federated imputation as a study asks for it: names in, covariates with public bounds out.

The profile says what a number of a variable can be; nothing here looks at a patient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harmonize.profile import Profile
from models.gaussian import Covariate, JointNormal
from models.generators.dictionary import Column, Kind, of_profile
from models.imputation import Imputation
from nodes.cohort import study_profile
from nodes.document import Imputing
from nodes.errors import StudyInvalid
from nodes.study import Study

__all__ = ["EVERYTHING", "KIND", "ROUNDS", "SHARE", "chosen", "imputation_of", "shares", "summary"]

KIND: Final = "sum"
"""The kind of the imputation's queries, and the name of its stage."""

EVERYTHING: Final = "all"
"""Instead of names: every input of the profile."""

ROUNDS: Final = 2
"""Each leaves about the share of missing values of what there was still to explain."""

SHARE: Final = 0.10
"""Of the training patients' μ², taken from the other stages in proportion."""

_GRID: Final = (0.0, 1.0)  # a dictionary has one; covariates do not depend on it


def chosen(
    profile: Profile,
    names: Sequence[str],
    *,
    columns: Sequence[str] | None = None,
    never_measured: Sequence[str] = (),
    cross_site: Sequence[str] = (),
) -> Imputing:
    """What a study says if its author names covariates.

    The radius is the norm that the public start expects of a record, √(tr E xxᵀ).

    Args:
        profile: of the study.
        names: of covariates, or `EVERYTHING` alone; their order is the profile's.
        columns: of the study; None for all inputs of the profile.
        never_measured: see `Imputing`.
        cross_site: see `Imputing`.

    Raises:
        StudyInvalid: a name that is no input of the profile; says which and why.
    """
    inputs = [v.name for v in profile.inputs if columns is None or v.name in columns]
    wanted = inputs if list(names) == [EVERYTHING] else list(names)
    _require_inputs(profile, wanted, inputs)
    covariates = _covariates(profile, tuple(name for name in inputs if name in wanted), inputs)
    start = JointNormal.start(covariates)
    square = math.fsum((start.mean**2).tolist()) + math.fsum(start.covariance.diagonal().tolist())
    return Imputing(
        tuple(c.name for c in covariates),
        ROUNDS,
        round(math.sqrt(square), 2),
        tuple(never_measured),
        tuple(cross_site),
    )


def imputation_of(study: Study, multiplier: float, noise_inflation: float) -> Imputation | None:
    """What `models` reads from a study; None if it imputes nothing.

    Args:
        study: names and public constants.
        multiplier: of the stage "sum".
        noise_inflation: see `models.plan.Spec`.

    Raises:
        DataProblem: this version ships another profile than the study names.
        StudyInvalid: a covariate is no input of the profile.
        ConfigError: (of `models`) a constant out of range.
    """
    asked = study.learning.imputation
    if asked is None:
        return None
    profile = study_profile(study)
    known = {variable.name for variable in profile.inputs}
    _require_inputs(profile, asked.covariates, [name for name in study.learning.features if name in known])
    return Imputation(
        covariates=_covariates(profile, asked.covariates, study.learning.features),
        radius=asked.radius,
        multiplier=multiplier,
        patient_cap=study.privacy.patient_cap,
        rounds=asked.rounds,
        never_measured=asked.never_measured,
        cross_site=asked.cross_site,
        noise_inflation=noise_inflation,
    )


def shares(study: Study, without: Mapping[str, float]) -> Mapping[str, float]:
    """How the training patients' μ² is split: as without imputation, or with its share taken from all others alike."""
    if study.learning.imputation is None:
        return without
    return {KIND: SHARE, **{kind: share * (1 - SHARE) for kind, share in without.items()}}


def summary(asked: Imputing | None) -> Iterator[str]:
    """How gaps are filled: lines for a person who is asked to sign."""
    if asked is None:
        yield "gaps: filled by the profile's centre beside a mask; nothing is released for it"
        return
    yield (
        f"gaps: {len(asked.covariates)} covariates are imputed from each other by {asked.rounds} released sums, "
        f"radius {asked.radius:g}: {', '.join(asked.covariates)}"
    )
    if asked.never_measured:
        kept = [name for name in asked.never_measured if name not in asked.cross_site]
        yield f"  never measured at some hospital, and imputed nowhere: {', '.join(kept) or 'none'}"
    if asked.cross_site:
        names = ", ".join(asked.cross_site)
        yield f"  never measured at some hospital, and imputed there from the others' patients: {names}"


def _covariates(profile: Profile, names: Sequence[str], features: Sequence[str]) -> tuple[Covariate, ...]:
    """Covariates at their places among the features."""
    known = {column.name: column for column in of_profile(profile, _GRID).columns}
    place = {name: index for index, name in enumerate(features)}
    return tuple(_covariate(known[name], place[name]) for name in names)


def _covariate(column: Column, place: int) -> Covariate:
    low, high = (column.values[0], column.values[-1]) if column.values else (column.low, column.high)
    return Covariate(column.name, place, low, high, two_valued=column.kind is Kind.BINARY)


def _require_inputs(profile: Profile, names: Sequence[str], inputs: Sequence[str]) -> None:
    if not names:
        raise StudyInvalid("imputation needs covariates; name some, or none of it")
    for name in names:
        if name in inputs:
            continue
        if name in profile.names:
            raise StudyInvalid(
                f"cannot impute {name!r}: profile {profile.profile!r} gives models no number of it; "
                f"inputs are {', '.join(inputs)}"
            )
        raise StudyInvalid(
            f"cannot impute {name!r}: profile {profile.profile!r} has no such variable; inputs are {', '.join(inputs)}"
        )
