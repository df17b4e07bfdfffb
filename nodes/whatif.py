"""What a study would do to the accounts, before anybody signs it: ε now, ε with it, and whether it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from dp.errors import ConfigError as DPConfigError
from dp.errors import UnknownEvent
from dp.events import Account, Event, event
from dp.ledger import State
from dp.limits import check_room
from nodes.balances import Line, line
from nodes.errors import ConfigError

if TYPE_CHECKING:
    from nodes.study import Study

__all__ = ["Outlook", "of_study", "outlook", "release"]


@dataclass(frozen=True)
class Outlook:
    """One account with and without a study.

    Args:
        now: the account as it stands.
        study: ε of the study alone; 0 if it does not charge this account.
        total: ε of the account with it.
        refusal: why it does not fit, or "".

    Both ε are infinite for a study without noise.
    """

    now: Line
    study: float
    total: float
    refusal: str


def outlook(
    state: State, charges: Sequence[tuple[Event, int]], study: str = "", who: str = "it"
) -> tuple[Outlook, ...]:
    """Add a study to both accounts without recording anything; closed form, no numerical composition.

    Args:
        state: the folded ledger.
        charges: (event, uploads) of the study.
        study: hash of the study, hex; for the limit of one run.
        who: how to call the study in a refusal.
    """
    return tuple(_of(state, account, charges, study, who) for account in Account)


def _of(state: State, account: Account, charges: Sequence[tuple[Event, int]], study: str, who: str) -> Outlook:
    now = line(state, account)
    mine = [(each, uploads) for each, uploads in charges if each.account is account]
    terms = state.terms.get(account)
    if terms is None:
        refusal = f"nothing was granted to the {account} account" if mine else ""
        return Outlook(now, 0.0, now.committed, refusal)
    try:
        cost = sum(uploads * terms.filter.units(each) for each, uploads in mine)
    except DPConfigError as error:
        return Outlook(now, 0.0, now.committed, str(error))
    alone = terms.filter.epsilon(cost, terms.delta) if cost else 0.0
    units = state.committed_units(account) + cost
    total = max(now.committed, terms.filter.epsilon(units, terms.delta) if units else 0.0)
    try:
        check_room(account, state.grants.get(account), state.usage(account, study), cost, who)
    except DPConfigError as error:
        return Outlook(now, alone, total, str(error))
    return Outlook(now, alone, total, "")


def release(kind: str, multiplier: float, uploads: int, sampling_probability: float) -> tuple[tuple[Event, int], ...]:
    """Return the charges of uploads that no study describes yet.

    Raises:
        ConfigError: a number out of range, or an unknown kind of release; names the option.
    """
    if multiplier <= 0 or uploads < 1:
        raise ConfigError("what-if needs a study file, or --multiplier above 0 and --uploads of at least 1")
    try:
        return ((event(kind, multiplier, sampling_probability=sampling_probability), uploads),)
    except UnknownEvent as error:
        raise ConfigError(f"--kind {kind} --multiplier {multiplier:g}: {error}") from error


def of_study(state: State, study: Study) -> tuple[Outlook, ...]:
    """Add a study that is described to both accounts; see `outlook`."""
    charges = tuple(charge for account in Account for charge in study.charges(account))
    views = outlook(state, charges, study.digest().hex(), f"study {study.name!r}")
    if charges:
        return views
    read = {stage.account for stage in study.stages}
    return tuple(replace(view, study=inf, total=inf) if view.now.account in read else view for view in views)
