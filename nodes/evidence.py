"""The audit's two sums through the door, and what a certificate may be computed from.

Scores of this site's patients against references that never saw a patient; one histogram each for members and holdout,
charged like every other release. Everything else in here is public or was released.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from audits.histogram import AttackEvidence, NoisyHistogram, attack_evidence, count_scores
from audits.references import References, build
from dp.errors import UploadsExhausted
from dp.queries import Float64, Query, SecureSum
from models.predict import SurvivalModel
from nodes.cohort import Cohort
from nodes.protocol import histogram_queries, score_bins, spec_of
from nodes.references import reference_plan
from nodes.study import Study


@dataclass(frozen=True)
class AttackSums:
    """What the two rounds released; None where no sum was completed."""

    members: tuple[float, ...] | None
    nonmembers: tuple[float, ...] | None


def attack_sums(study: Study, model: SurvivalModel, cohort: Cohort, secure_sum: SecureSum) -> AttackSums:
    """Ask for both histograms.

    Args:
        study: the signed study.
        model: the released model, equal at every site.
        cohort: this site's patients.
        secure_sum: the door.
    """
    held: list[References] = []

    def references() -> References:
        # Built on the first upload only: a replay needs none.
        if not held:
            held.append(build(reference_plan(study), model))
        return held[0]

    bins = score_bins(study)
    members, nonmembers = (query.about(model.digest.encode()) for query in histogram_queries(study))
    return AttackSums(
        _ask(secure_sum, members, lambda: count_scores(references().scores(model, cohort.train), bins)),
        _ask(secure_sum, nonmembers, lambda: count_scores(references().scores(model, cohort.holdout), bins)),
    )


def decode_attack(study: Study, sums: AttackSums, alpha: float) -> AttackEvidence | None:
    """Turn the released histograms into an AUC with an honest interval; None if one is missing.

    Args:
        study: the signed study.
        sums: what was released.
        alpha: error of each bound, from the policy.
    """
    if sums.members is None or sums.nonmembers is None:
        return None
    members, nonmembers = histogram_queries(study)
    inflation = spec_of(study).noise_inflation
    return attack_evidence(
        NoisyHistogram(members, sums.members, inflation),
        NoisyHistogram(nonmembers, sums.nonmembers, inflation),
        alpha=alpha,
    )


def _ask(secure_sum: SecureSum, query: Query, contribution: Callable[[], Float64]) -> tuple[float, ...] | None:
    try:
        total = secure_sum(query, contribution)
    except UploadsExhausted:
        return None
    return tuple(float(count) for count in total) if math.isfinite(float(total.sum())) else None
