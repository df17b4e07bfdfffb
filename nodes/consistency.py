"""What can be seen to be wrong with a study without running it.

What follows from the model is `nodes.drafting.check_plan`'s; what a site does not want is `nodes.policy`'s.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dp.budget import BudgetKind
from dp.errors import DPError
from dp.queries import Account
from models.algorithms.protection import KIND_OF, LOCKSTEP, require_admitted
from models.errors import NotPerPatient
from secagg.errors import SecaggError
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise

if TYPE_CHECKING:
    from nodes.document import Learning, Privacy, Search, Stage
    from nodes.study import Study

__all__ = ["problems", "unsuited"]

_LARGEST_DELTA = 1e-3
_FOR_EVER = 366 * 86400.0
_MOST_ROUNDS = 100
_ROUNDED = 1 + 1e-6
"""A declared ε may be the stages' own, rounded to six digits."""


def problems(study: Study) -> Iterator[str]:
    """Yield what contradicts itself, first things first: a later check may rely on the earlier ones."""
    yield from unsuited(study)
    yield from _stages(study)
    yield from _fit(study)
    yield from _totals(study)


def unsuited(study: Study) -> Iterator[str]:
    """Yield what does not go together whatever the noise of the stages: before any is chosen."""
    yield from _terms(study)
    yield from _budget(study.privacy)
    yield from _imputation(study.learning)
    yield from _algorithm(study)
    for stage in study.stages:
        yield from _sampling(study, stage)
    yield from _lanes(study)


def _terms(study: Study) -> Iterator[str]:
    try:
        offset = dt.datetime.fromisoformat(study.not_after).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        yield "not_after must be an ISO 8601 time with a time zone"
    federation, privacy = study.federation, study.privacy
    if not (0 < federation.deadline_seconds < _FOR_EVER and 0 < federation.patience_seconds < _FOR_EVER):
        yield "deadline_seconds and patience_seconds must be positive, at most a year"
    if not 1 <= privacy.hospitals_per_patient <= len(study.sites):
        yield f"hospitals_per_patient {privacy.hospitals_per_patient} is not in 1 … {len(study.sites)}, its hospitals"
    if federation.mode is Mode.B and federation.minimum_roster < (needed := study.survivors_needed):
        yield (
            f"minimum_roster {federation.minimum_roster} is too small for mode B: a sum opens only if {needed} of the "
            f"{len(study.sites)} sites survive the round, so that fewer must not even be asked"
        )


def _imputation(learning: Learning) -> Iterator[str]:
    """Names and constants; the bounds of the covariates follow from the profile, see `nodes.imputing`."""
    asked = learning.imputation
    if asked is None:
        return
    for field, names, among, known in (
        ("covariates", asked.covariates, "features", learning.features),
        ("never_measured", asked.never_measured, "covariates", asked.covariates),
        ("cross_site", asked.cross_site, "never_measured", asked.never_measured),
    ):
        if len(set(names)) != len(names):
            yield f"imputation: {field} names something twice"
        if unknown := [name for name in names if name not in known]:
            yield f"imputation: {field} names {', '.join(unknown)}, which {among} does not"
    if not asked.covariates:
        yield "imputation: covariates is empty; leave the imputation out"
    if not 1 <= asked.rounds <= _MOST_ROUNDS:
        yield f"imputation: rounds {asked.rounds} is not in 1 … {_MOST_ROUNDS}"
    if not 0 < asked.radius < math.inf:
        yield f"imputation: radius {asked.radius:g} must be above 0"


def _algorithm(study: Study) -> Iterator[str]:
    """Its name, and whose noise and which lanes it admits; its constants are checked with the model."""
    if study.learning.algorithm is None:
        return
    name = study.learning.algorithm.get("name")
    known = [each for each in KIND_OF if each != LOCKSTEP]
    if name not in known:
        yield f"algorithm {name!r} is none of {', '.join(known)}; leave it out for {LOCKSTEP}"
        return
    try:
        require_admitted(KIND_OF[name], study.privacy.noise)
    except NotPerPatient as error:
        yield f"algorithm {name}, noise {study.privacy.noise}: {error}"
    if study.federation.lane_bits != WIDE:
        yield f"algorithm {name}: its sums are not for narrow lanes; use lane_bits {WIDE}, or lockstep"


def _budget(privacy: Privacy) -> Iterator[str]:
    """The declared totals, one by one."""
    if privacy.noise is Noise.NONE:
        if (privacy.epsilon, privacy.delta, privacy.holdout_epsilon, privacy.holdout_delta) != (0, 0, 0, 0):
            yield "without noise no ε and no δ hold: epsilon, delta, holdout_epsilon and holdout_delta must be 0"
        if (privacy.budget, privacy.order) != (BudgetKind.GDP, 0) or privacy.search is not None:
            yield "without noise no budget is charged: budget, order and search must be left out"
        return
    yield from _totals_alone(privacy)
    if privacy.budget == BudgetKind.RDP and not 2 <= privacy.order <= 256:
        yield f"order {privacy.order}: a budget of the kind RDP is kept at an order from 2 to 256"
    if privacy.budget == BudgetKind.GDP and privacy.order:
        yield f"order {privacy.order}: a budget of the kind GDP has none; leave it out, or declare budget RDP"
    if privacy.search is not None:
        yield from _search(privacy.search)


def _totals_alone(privacy: Privacy) -> Iterator[str]:
    for name, epsilon in (("epsilon", privacy.epsilon), ("holdout_epsilon", privacy.holdout_epsilon)):
        if not 0 < epsilon < math.inf:
            yield f"{name} is {epsilon:g} and must be above 0"
    for name, delta in (("delta", privacy.delta), ("holdout_delta", privacy.holdout_delta)):
        if not 0 < delta <= _LARGEST_DELTA:
            yield f"{name} must be above 0 and at most {_LARGEST_DELTA:g}"


def _search(search: Search) -> Iterator[str]:
    from dp import search as dp_search  # noqa: PLC0415 - it loads dp_accounting, which few studies need

    if search.law not in list(dp_search.Law):
        yield f"search: law {search.law!r} is none of {', '.join(dp_search.Law)}"
        return
    try:
        dp_search.Search(dp_search.Law(search.law), search.trials)
    except DPError as error:
        yield f"search: {error}"


def _stages(study: Study) -> Iterator[str]:
    kinds = [stage.kind for stage in study.stages]
    if len(set(kinds)) != len(kinds) or not kinds:
        yield f"stages must be listed once each, found {kinds}"
    for stage in study.stages:
        if stage.account not in [account.value for account in Account]:
            yield f"stage {stage.kind!r} charges an account {stage.account!r} that does not exist"
        if not 0 < stage.steps <= stage.uploads:
            yield (
                f"stage {stage.kind!r} wants {stage.steps} sums with {stage.uploads} uploads: it needs at least one, "
                "and no fewer uploads than sums, because nothing beyond the reserved uploads ever leaves"
            )
        if not (0 < stage.sensitivity < math.inf and stage.length > 0):
            yield f"stage {stage.kind!r} has no bound or no length"
        yield from _stage_noise(study, stage)


def _stage_noise(study: Study, stage: Stage) -> Iterator[str]:
    silent = study.privacy.noise is Noise.NONE
    if silent and stage.multiplier != 0:
        yield f"stage {stage.kind!r} has a noise multiplier of {stage.multiplier:g}, and the study has no noise"
    if not silent and not 0 < stage.multiplier < math.inf:
        yield f"stage {stage.kind!r} has no noise: its multiplier is {stage.multiplier:g}"


def _sampling(study: Study, stage: Stage) -> Iterator[str]:
    q = stage.sampling_probability
    if not 0 < q <= 1:
        yield f"stage {stage.kind!r} samples patients with probability {q:g}, which is not above 0 and at most 1"
    if q < 1:
        if stage.kind != "gradient":
            yield f"stage {stage.kind!r} cannot be sampled: only training can; set sampling_probability to 1"
        if study.privacy.noise is Noise.NONE:
            yield f"stage {stage.kind!r} is sampled, which protects nobody without noise; set sampling_probability to 1"
        if study.privacy.budget != BudgetKind.RDP:
            yield (
                f"stage {stage.kind!r} samples patients with probability {q:g}: that is no Gaussian mechanism, and "
                "only a budget of the kind RDP can pay for it; declare budget RDP with an order, or "
                "sampling_probability 1"
            )
        if study.federation.lane_bits != WIDE:
            yield (
                f"stage {stage.kind!r} samples patients in lanes of {study.federation.lane_bits} bits: no accounting "
                f"is proven for both together; use lane_bits {WIDE}, or sampling_probability 1"
            )


def _lanes(study: Study) -> Iterator[str]:
    """What the noise mode and the lanes ask of each other and of the budget."""
    privacy, bits = study.privacy, study.federation.lane_bits
    if bits == WIDE:
        return
    if privacy.noise is Noise.NONE:
        yield f"lane_bits {bits}: narrow lanes round into their noise, and the study has none; use lane_bits {WIDE}"
    if privacy.budget != BudgetKind.RDP:
        yield (
            f"lane_bits {bits}: a sum in narrow lanes is no Gaussian mechanism, and only a budget of the kind RDP can "
            f"pay for it; declare budget RDP with an order, or lane_bits {WIDE}"
        )


def _fit(study: Study) -> Iterator[str]:
    """Whether the noise fits the lanes. Any order of a budget is within what noise of 16 steps is accounted at."""
    bits = study.federation.lane_bits
    for stage in study.stages if bits != WIDE else ():
        try:
            study.event(stage)
        except (DPError, SecaggError) as error:
            yield f"stage {stage.kind!r} does not fit lanes of {bits} bits: {error}"
            return


def _totals(study: Study) -> Iterator[str]:
    """The stages may not add up to more than is declared."""
    if study.privacy.noise is Noise.NONE:
        return
    for account, declared in (
        (Account.TRAINING, study.privacy.epsilon),
        (Account.HOLDOUT, study.privacy.holdout_epsilon),
    ):
        try:
            real = study.epsilon(account)
        except (DPError, SecaggError) as error:
            yield f"its stages cannot be charged to the {account.value} account: {error}"
            return
        if real > declared * _ROUNDED:
            yield f"it declares ε = {declared:g} for a {account.value} patient, its stages add up to {real:.4g}"
