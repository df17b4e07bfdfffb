"""What a study would release, to whom and at what cost: lines for a person who is asked to sign it."""

from __future__ import annotations

from collections.abc import Iterator

from audits.report_data import Accounting, EpsilonView
from dp.queries import Account
from models.generators.ctgan.settings import BANNER
from nodes import columns, imputing, plans, rounds
from nodes.guarantees import accounting, epsilon_views_of
from nodes.protocol import measured
from nodes.study import Stage, Study
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise

__all__ = ["COLUMNS", "row", "terms"]

COLUMNS = ("stage", "account", "sums", "uploads", "coordinates", "sampled", "noise multiplier", "ε of all uploads")

_MODES = {
    Mode.A: "a round opens only with the upload of every hospital asked, at least {least} of {n}; else it is given up "
    "and its uploads stay charged",
    Mode.B: "a round opens without those who drop out of it, as long as {least} of {n} hospitals are left; the price "
    "is more noise and two more messages a round",
}


def row(study: Study, stage: Stage) -> tuple[str, ...]:
    """One stage, in the order of `COLUMNS`."""
    silent = study.privacy.noise is Noise.NONE
    epsilon = "not bounded"
    if not silent:
        account = Account(stage.account)
        alone = stage.uploads * study.filter(account).units(study.event(stage))
        epsilon = f"{study.epsilon_of(account, alone):.3f}"
    q = stage.sampling_probability
    return (
        stage.kind,
        stage.account,
        str(stage.steps),
        str(stage.uploads),
        str(stage.length),
        "all patients" if q == 1 else f"with probability {q:g}",
        "none" if silent else f"{stage.multiplier:.3f}",
        epsilon,
    )


def terms(study: Study) -> Iterator[str]:
    """Everything about the study but its stages and signatures, a line each."""
    n, federation, noise = len(study.sites), study.federation, study.privacy.noise
    yield f"noise {noise}: {study.protection}"
    yield f"learns: {plans.title(study)}"
    if not plans.is_generator(study):
        yield from rounds.summary(study)
    yield from columns.summary(study)
    if study.learning.preset.get("learner") == "ctgan":
        yield BANNER
    if plans.is_generator(study):
        yield "gaps: not observed is a level of every column; how often it occurs is released and paid for"
    else:
        yield from imputing.summary(study.learning.imputation)
        yield f"evaluates: {', '.join(measured(study))}"
    yield f"mode {federation.mode}: {_MODES[federation.mode].format(least=study.fewest_in_a_sum, n=n)}"
    if noise is Noise.DISTRIBUTED:
        yield f"noise: the shares of {study.manifest().honest(n)} honest hospitals are counted on"
    if federation.lane_bits != WIDE:
        yield f"lanes of {federation.lane_bits} bits: sums are rounded by chance, which is part of the accounting"
    if noise is Noise.NONE:
        yield "ε is not bounded for any patient; nothing is charged, and the ledger keeps that such a run took place"
        return
    for account in Account:
        yield from _account(accounting(study, account), epsilon_views_of(study, account))


def _account(of: Accounting, views: tuple[EpsilonView, ...]) -> Iterator[str]:
    yield (
        f"{of.account} patient, add or remove one: ε = {of.epsilon:.3f} at δ = {of.delta:g}, {of.epsilon_6:.3f} at "
        f"δ = 1e-06, by a budget of {of.budget}"
    )
    for view in views:
        mu = f", μ = {view.mu:.3f}" if view.mu is not None else ""
        yield f"  ε = {_number(view.epsilon_5)} at δ = 1e-05{mu}  against {view.against[0].lower()}{view.against[1:]}"
    if of.pld is not None:
        yield f"  ε = {of.pld:.3f} had all releases been fixed in advance (PLD); no permission depends on it"
    yield f"  ε = {_number(of.replace_one)} if one patient is exchanged for another"
    if of.hospitals > 1:
        several = _number(of.several_hospitals)
        yield f"  ε = {several} for a patient of {of.hospitals} of the hospitals, which no ledger sees"
    yield from (f"  {remark}" for remark in of.remarks)
    if of.search:
        yield f"  {of.search}"


def _number(epsilon: float | None) -> str:
    return "not stated" if epsilon is None else "not bounded" if epsilon == float("inf") else f"{epsilon:.3f}"
