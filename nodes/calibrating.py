"""From the totals that a study declares to the noise of each of its stages."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dp.calibration import narrow_multiplier_for, split_budget
from dp.errors import DPError
from dp.events import event
from dp.queries import Account
from nodes.errors import StudyInvalid
from nodes.grids import narrow_variance
from nodes.study import Stage, Study
from secagg.errors import SecaggError
from secagg.lanes import WIDE

__all__ = ["calibrated"]


def calibrated(study: Study, shares: Mapping[str, float]) -> Study:
    """Return the study with a multiplier for every stage, such that all uploads of an account cost what it declares.

    In narrow lanes rounding costs more the less noise there is. More noise leaves room for a larger share, so that a
    multiplier that is enough beside the wide lattice's share is enough beside its own.

    Args:
        study: its stages have no multipliers yet.
        shares: kind of stage → share of its account's cost.

    Raises:
        StudyInvalid: the totals buy no such study, or it does not fit its lanes; says why.
    """
    for account, epsilon in (
        (Account.TRAINING, study.privacy.epsilon),
        (Account.HOLDOUT, study.privacy.holdout_epsilon),
    ):
        mine = [stage for stage in study.stages if stage.account == account]
        try:
            found = split_budget(
                epsilon,
                study.delta(account),
                {stage.kind: (shares[stage.kind], stage.uploads) for stage in mine},
                filter=study.filter(account),
                sampling={stage.kind: stage.sampling_probability for stage in mine},
            )
            study = _with(study, found)
            if study.federation.lane_bits != WIDE:
                study = _with(study, {s.kind: _narrow(study, s) for s in study.stages if s.kind in found})
        except (DPError, SecaggError) as error:
            raise StudyInvalid(
                f"study {study.name!r} has no noise for its {account.value} patients: {error}"
            ) from error
    return study


def _with(study: Study, multipliers: Mapping[str, float]) -> Study:
    stages = tuple(
        msgspec.structs.replace(stage, multiplier=multipliers.get(stage.kind, stage.multiplier))
        for stage in study.stages
    )
    return msgspec.structs.replace(study, stages=stages)


def _narrow(study: Study, stage: Stage) -> float:
    """The multiplier at which an upload in narrow lanes costs what one on the wide lattice would at the present one."""
    account, cap = Account(stage.account), study.privacy.patient_cap
    return narrow_multiplier_for(
        stage.kind,
        study.filter(account).units(event(stage.kind, stage.multiplier)),
        filter=study.filter(account),
        variance=narrow_variance(study.manifest(), stage.length, cap, stage.multiplier),
        length=stage.length,
    )
