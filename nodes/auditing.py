"""The audit of one run at one site: local attack, self-check, verdict, certificate.

Two kinds of evidence, never mixed: what uses the site's own patients stays here (`attack_locally`); a certificate is
computed from charged releases, public constants and runs on data without patients (`releasable`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from audits import membership
from audits.ledger import examine
from audits.mechanism import Conformance, conformance, null_contributions, rounds_needed
from audits.policy import Policy
from audits.references import build, draw, positive_control
from audits.sensitivity import Sensitivity, extreme_neighbours, probe
from audits.shadows import Recipe
from audits.verdict import Claim, ReleasableEvidence
from dp.errors import UploadsExhausted
from dp.queries import Account, Float64, Query
from models.data import SurvivalData
from models.generators.file import StoredGenerator
from models.predict import SurvivalModel
from models.presets import Preset
from models.training import fit
from nodes import plans, rounds
from nodes.accounts import Accounts
from nodes.cohort import Cohort
from nodes.evidence import decode_attack
from nodes.guarantees import claim
from nodes.protocol import score_bins, spec_of
from nodes.references import reference_plan
from nodes.rehearsal import Rehearsal
from nodes.results import Released
from nodes.study import Study

_PROBE_ROWS = 64
_TWINNED = ("cox", "deepsurv")
"""Learners that the overfitted twin has the form of. Of others the attack is not shown to find a leak: no pass."""

Model = SurvivalModel | StoredGenerator


@dataclass(frozen=True)
class SelfCheck:
    """What was found on data without patients; the same wherever it is run."""

    mechanism: Conformance
    sensitivity: Sensitivity


class _FirstContribution:
    """A `SecureSum` that looks at the first clipped sum of a kind; whatever comes before it is answered by zeros."""

    def __init__(self, kind: str) -> None:
        self.value: Float64 = np.zeros(0)
        self._kind = kind

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        if query.kind != self._kind and not self.value.size:
            return np.zeros(query.length)
        if not self.value.size:
            self.value = np.array(contribution())
        raise UploadsExhausted(query.kind)


def self_check(study: Study, model: Model, policy: Policy) -> SelfCheck:
    """Run the production path of this study on null data, and the clipping on extreme invented patients.

    The run on null data is as long as the policy wants: a lack of noise that it names would be seen.
    """
    stage = plans.main_stage(study)
    clip, multiplier = rounds.step_noise(study) or (stage.sensitivity, stage.multiplier)
    path = Rehearsal(
        sites=len(study.sites),
        length=stage.length,
        collusion=study.privacy.collusion,
        clip=clip,
        multiplier=multiplier,
        patient_cap=study.privacy.patient_cap,
        mode=study.federation.mode,
        noise=study.privacy.noise,
        lane_bits=study.federation.lane_bits,
        local_steps=rounds.step_noise(study) is not None,
    )
    nothing = null_contributions(path, rounds_needed(path.length, policy.thresholds.noise_deficit_detectable_max.value))
    return SelfCheck(conformance(path.run(nothing), nothing), _probe(study, model))


def _probe(study: Study, model: Model) -> Sensitivity:
    return _probe_training(study, model) if isinstance(model, SurvivalModel) else _probe_counting(study, model)


def _probe_counting(study: Study, model: StoredGenerator) -> Sensitivity:
    """What an extreme patient moves in the main sum of a generator: invented ones, drawn from the generator itself."""
    spec, stage = plans.generator_spec(study), plans.main_stage(study)

    def contribution(data: SurvivalData) -> Float64:
        seen = _FirstContribution(stage.kind)
        spec.run(data, seen)
        return seen.value

    seed = int.from_bytes(study.digest()[:6], "big")
    invented = model.draw(_PROBE_ROWS, np.random.Generator(np.random.PCG64(seed)))
    return probe(contribution, extreme_neighbours(invented, spec.dictionary.grid[-1]), stage.sensitivity)


def _probe_training(study: Study, model: SurvivalModel) -> Sensitivity:
    # What one patient can move is a question about the clipping: here nobody is left out by chance, and a local step
    # clips as a lockstep one does.
    spec = spec_of(study)
    z = spec.multipliers[spec.training]
    spec = replace(spec, sampling_probability=1.0, algorithm=None, multipliers={"gradient": z})

    def contribution(data: SurvivalData) -> Float64:
        seen = _FirstContribution("gradient")
        fit(
            spec.preset,
            len(spec.features),
            spec.weights,
            data,
            seen,
            lambda step: spec.query("gradient", step),
        )
        return seen.value

    plan = reference_plan(study)
    # From the study's public seed, so that every site invents the same patients: nothing here is secret or noise.
    invented = draw(plan.dictionary, model, _PROBE_ROWS, np.random.Generator(np.random.PCG64(plan.seed)))
    return probe(contribution, extreme_neighbours(invented, spec.preset.horizon), spec.preset.clip)


def attack_locally(study: Study, model: Model, cohort: Cohort) -> membership.LocalEvidence | None:
    """Attack the released model with everything this site knows; None if a side of its split is empty.

    None also for a generator: this attack reads a survival model's likelihood.

    The result never leaves the site: its shadows were trained on the site's own patients.
    """
    if not (isinstance(model, SurvivalModel) and len(cohort.train) and len(cohort.holdout)):
        return None
    plan = reference_plan(study)
    seed = plan.seed + 7
    others = max(10, plan.rows - len(cohort.train))
    # As above: invented patients from a public seed, the same in every run.
    rest = draw(plan.dictionary, model, others, np.random.Generator(np.random.PCG64(seed)))
    # Shadows learn from what the model learned from: completed records, if it completes any.
    completed = model.imputation.of if model.imputation is not None else _as_they_are
    return membership.attack(
        model,
        completed(cohort.train),
        completed(cohort.holdout),
        cohort.train_pids,
        Recipe.of(Preset.from_json(study.learning.preset)),
        seed=seed,
        rest=completed(rest),
    )


def _as_they_are(data: SurvivalData) -> SurvivalData:
    return data


def claims(study: Study) -> tuple[Claim, ...]:
    """What the study claims on each account, for all uploads that it reserves."""
    return tuple(claim(study, account) for account in Account)


def releasable(
    study: Study,
    model: Model,
    released: Released,
    accounts: Accounts,
    policy: Policy,
    checked: SelfCheck,
) -> ReleasableEvidence:
    """Put together everything a verdict may look at."""
    attack, control = None, None
    if isinstance(model, SurvivalModel):
        references = build(reference_plan(study), model)
        attack = decode_attack(study, released.attack, policy.alpha)
        if model.network.learner in _TWINNED:
            control = positive_control(references, model, score_bins(study), alpha=policy.alpha)
    grid = model.grid if isinstance(model, SurvivalModel) else model.dictionary.fine.grid
    return ReleasableEvidence(
        claims=claims(study),
        ledger=examine(accounts.history, run=study.run_id.hex(), delta=study.privacy.delta),
        mechanism=checked.mechanism,
        sensitivity=checked.sensitivity,
        attack=attack,
        positive_control=control,
        baseline_grid_days=min(b - a for a, b in pairwise(grid)),
    )
