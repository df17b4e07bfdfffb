"""What a study guarantees, put the ways that people ask for it: by account, by adversary, by accountant."""

from __future__ import annotations

import math
from dataclasses import replace

from audits.evidence import Claim
from audits.report_data import Accounting, Coalition, EpsilonView, epsilon_views, views
from dp import accountant
from dp import search as dp_search
from dp.budget import BudgetKind
from dp.discrete_gaussian import SHARE_VARIANCE
from dp.errors import DPError
from dp.events import UNIT_BITS, Event, NarrowEvent, PoissonEvent
from dp.queries import Account
from dp.slack import lattice_slack
from models.algorithms.protection import UPDATE
from nodes.rounds import local_steps
from nodes.study import Study
from secagg.manifest import Mode, Noise

__all__ = ["accounting", "claim", "coalitions_of", "epsilon_views_of"]

_BEYOND = 3  # sizes beyond c that have a line of their own


def claim(study: Study, account: Account) -> Claim:
    """What the study claims on one account, for all uploads that it reserves.

    Raises:
        StudyInvalid: it has no noise, and so nothing to claim.
    """
    rule, delta, units = study.filter(account), study.delta(account), study.units(account)
    epsilon, c = study.epsilon(account), study.privacy.collusion
    if rule.kind is BudgetKind.GDP:
        mu = math.sqrt(study.mu_squared(account))
        return Claim(account.value, mu, epsilon, delta, c, noise=study.protection)
    divergence = units / (1 << UNIT_BITS)
    return Claim(
        account.value, None, epsilon, delta, c, order=rule.order, divergence=divergence, noise=study.protection
    )


def epsilon_views_of(study: Study, account: Account) -> tuple[EpsilonView, ...]:
    """State the guarantee against outsiders, against the coordinator and c sites, and against everybody else."""
    n, c, noise = len(study.sites), study.privacy.collusion, study.privacy.noise
    honest = study.manifest().honest(n)
    # Of local noise every upload brings the whole: a sum holds at least as many as it has sites. But noise inside local
    # steps is no noise beside theirs: of updates nobody else's is counted on, not even against outsiders.
    outside = None if noise is not Noise.LOCAL else 1 if study.training_kind == UPDATE else study.fewest_in_a_sum
    if study.filter(account).kind is BudgetKind.GDP:
        mu = math.sqrt(study.mu_squared(account))
        return epsilon_views(mu, roster=n, collusion=c, honest=honest, outside=outside)
    return views(
        lambda variance: (None, _epsilon(study, account, variance, 1e-5), _epsilon(study, account, variance, 1e-6)),
        roster=n,
        collusion=c,
        honest=honest,
        outside=outside,
    )


def coalitions_of(study: Study) -> tuple[Coalition, ...]:
    """State ε against the coordinator alone, and together with 1, 2, … of the hospitals, up to all but one.

    | hospitals | roster | shares that remain |
    |---|---|---|
    | k ≤ c | the largest | h + c − k |
    | k > c, mode A | the smallest that holds them and one more | its others |
    | k > c, mode B | any | the victim's own: two sets of survivors need not share an honest member any more |

    Empty for local noise, of which nobody can take anything off. A few sizes beyond c have a line of their own.
    """
    n, c, noise = len(study.sites), study.privacy.collusion, study.privacy.noise
    if noise is not Noise.DISTRIBUTED:
        return ()
    sizes = [(k, k) for k in range(c + 1)]
    if study.federation.mode is Mode.A:
        sizes += [(k, k) for k in range(c + 1, min(c + _BEYOND + 1, n - 1))]
    sizes.append((sizes[-1][1] + 1, n - 1))
    return tuple(_coalition(study, fewest, most) for fewest, most in sizes)


def _coalition(study: Study, fewest: int, most: int) -> Coalition:
    n, c = len(study.sites), study.privacy.collusion
    beyond = most > c
    roster = max(study.federation.minimum_roster, most + 1) if beyond and study.federation.mode is Mode.A else n
    honest = study.manifest().honest(roster)
    training, holdout = (
        accountant.coalition(
            study.charges(account),
            study.delta(account),
            study.filter(account),
            roster_size=roster,
            honest=honest,
            collusion=c,
        )[-1 if beyond and study.federation.mode is Mode.B else most]
        for account in (Account.TRAINING, Account.HOLDOUT)
    )
    return Coalition(fewest, most, training.shares / honest, training.epsilon, holdout.epsilon, main=most == c)


def accounting(study: Study, account: Account) -> Accounting:
    """The claim for one account beside what other accountants and other neighbours make of the same uploads.

    Raises:
        AccountantsDisagree: the software or a library is wrong: nothing may be stated.
    """
    rule, delta, hospitals = study.filter(account), study.delta(account), study.privacy.hospitals_per_patient
    said = accountant.statement(
        study.charges(account), delta, filter=rule, slack=_lattice(study, account, delta), hospitals=hospitals
    )
    return Accounting(
        account="training" if account is Account.TRAINING else "holdout",
        budget=str(rule),
        epsilon=said.epsilon,
        delta=delta,
        epsilon_6=said.at_delta_1e6,
        pld=said.pld,
        replace_one=said.replace_one,
        hospitals=hospitals,
        several_hospitals=said.several_hospitals,
        remarks=(*said.remarks, *_who_was_drawn(study, account)),
        search=search(study, account),
    )


def _lattice(study: Study, account: Account, delta: float) -> float:
    """The δ that noise on a lattice costs: proven to be below the share of δ that is kept for it, and computed here."""
    least = study.manifest().honest(study.federation.minimum_roster)
    releases = [
        (stage.length, stage.uploads * local_steps(study, stage), float(SHARE_VARIANCE * least))
        for stage in study.stages
        if stage.account == account
    ]
    return lattice_slack(study.units(account), delta, releases, study.filter(account))


def _who_was_drawn(study: Study, account: Account) -> tuple[str, ...]:
    if not any(isinstance(event, PoissonEvent) for event, _ in study.charges(account)):
        return ()
    return (
        "who was drawn for a step stays at the hospital; against its own people, who could know, sampling is no help",
    )


def search(study: Study, account: Account) -> str:
    """What a search costs that the study is one run of; "" if it is none."""
    of, rule, delta = study.privacy.search, study.filter(account), study.delta(account)
    if of is None:
        return ""
    said = (
        f"One run of a search for settings; the number of runs is drawn from a {of.law} law with mean {of.trials:g}. "
        "Every site and the coordinator see the sums of every run: against them each run is charged, as this one is"
    )
    try:
        found = dp_search.cost(
            study.charges(account), delta, dp_search.Search(dp_search.Law(of.law), of.trials), filter=rule
        )
    except DPError as error:
        return f"{said}. What the one best model alone would give away is not stated: {error}."
    return (
        f"{said}, together ε = {found.run_by_run:.2f} at δ = {delta:g}. Only against somebody who receives the one "
        f"best model, and learns neither how many runs there were nor which it is, ε = {found.recipient:.2f} holds."
    )


def _epsilon(study: Study, account: Account, variance: float, delta: float) -> float:
    """ε when `variance` times the noise that is counted on is left; infinite where nothing is proven."""
    rule = study.filter(account)
    try:
        units = sum(uploads * rule.units(_with(event, variance)) for event, uploads in study.charges(account))
    except DPError:
        return math.inf
    return rule.epsilon(units, delta)


def _with(event: Event, variance: float) -> Event:
    multiplier = event.multiplier * math.sqrt(variance)
    if isinstance(event, NarrowEvent):
        return replace(event, multiplier=multiplier, variance=math.floor(event.variance * variance))
    return replace(event, multiplier=multiplier)
