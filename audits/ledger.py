"""The charges of a ledger, added up a second time.

Two accountants that share no formula look at the same uploads. For a GDP account: ours (`audits.gaussian`, closed form
of Gaussian differential privacy) and the numerical privacy-loss distributions of `dp.accountant`. For an RDP account:
the costs that the ledger charges, converted by `audits.renyi`, and dp_accounting at the same order. The uploads are
read from the entries themselves, not from the state that the site's software keeps; what is taken from that state is
the rule by which each account adds up, as its first grant fixed it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from audits import gaussian, renyi
from dp import accountant, numerical
from dp.budget import GDP_FILTER, BudgetKind, Filter, gaussian_delta
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, LedgerCorrupt
from dp.events import UNIT_BITS, Event
from dp.ledger import Entry, Head, Upload, fold

__all__ = [
    "AccountRecount",
    "Charges",
    "LedgerEvidence",
    "SecondAccountant",
    "dp_accounting_rdp",
    "examine",
    "privacy_loss_distribution",
    "recount",
]

AGREEMENT = 0.01
"""Accountants agree when the second ε is within 1 % of ours, or both are below the second's resolution."""

RESOLUTION = 1e-3
"""Absolute difference in ε that the discretisation of a privacy-loss distribution may cause."""

Charges = Sequence[tuple[Event, int]]
"""(event, how many uploads of it), as `dp.ledger.State.events` lists them."""

SecondAccountant = Callable[[Charges, float], float]
"""(charges of one account, δ) → ε, by an implementation that is not ours."""


@dataclass(frozen=True)
class AccountRecount:
    """One account of one site for one study, recounted.

    Attributes:
        account: "training" or "holdout".
        uploads: charged uploads.
        mu: √Σ 1/z² over the uploads; None for an RDP account.
        delta: δ of the two ε.
        epsilon: by the closed form, or by the divergence of the account's order.
        second_epsilon: ε by the second accountant.
        agree: the two agree.
        order: α of an RDP account; 0 for GDP.
    """

    account: str
    uploads: int
    mu: float | None
    delta: float
    epsilon: float
    second_epsilon: float
    agree: bool
    order: int = 0


@dataclass(frozen=True)
class LedgerEvidence:
    """The recount and whatever was wrong with the chain itself.

    Attributes:
        head: hash of the last entry, hex.
        entries: number of entries.
        accounts: one recount per account that was charged.
        problems: sentences about a broken chain; empty when it verifies.
    """

    head: str
    entries: int
    accounts: tuple[AccountRecount, ...]
    problems: tuple[str, ...] = ()


def privacy_loss_distribution(charges: Charges, delta: float) -> float:
    """ε by `dp.accountant`'s privacy-loss distributions; NaN if its own accountants disagree."""
    try:
        found = accountant.statement(charges, delta).pld
    except AccountantsDisagree:
        return math.nan
    return math.nan if found is None else found


def dp_accounting_rdp(order: int) -> SecondAccountant:
    """The second accountant of an RDP account: the other library at the same order."""
    return lambda charges, delta: numerical.rdp_at(charges, order, delta)


def recount(
    charges: Charges,
    *,
    head: str,
    entries: int,
    delta: float,
    second: SecondAccountant | None = None,
    problems: tuple[str, ...] = (),
    filters: Mapping[str, Filter] = MappingProxyType({}),
) -> LedgerEvidence:
    """Add up a study's uploads per account with two accountants.

    Args:
        charges: every upload the site charged for this study, both accounts, in any order.
        head: hash of the ledger's last entry.
        entries: number of entries of the ledger.
        delta: δ at which both ε are stated.
        second: the other accountant; by default the one that belongs to the account's filter.
        problems: what verifying the chain said; passed on to the verdict as FAIL(integrity).
        filters: how each account adds up, by its name; GDP for one that is not named.
    """
    accounts = []
    for name in sorted({event.account.value for event, _ in charges}, reverse=True):
        mine = [(event, count) for event, count in charges if event.account.value == name]
        rule = filters.get(name, GDP_FILTER)
        try:
            mu, epsilon = _ours(mine, rule, gaussian_delta(delta))
        except BudgetOfAnotherKind as error:
            problems = (*problems, f"The ledger charges the {name} account what its budget cannot hold: {error}.")
            continue
        other = second
        if other is None:
            gdp = rule.kind is BudgetKind.GDP
            other = privacy_loss_distribution if gdp else dp_accounting_rdp(rule.order)
        found = float(other(mine, gaussian_delta(delta)))
        agree = math.isfinite(found) and abs(found - epsilon) <= max(AGREEMENT * epsilon, RESOLUTION)
        uploads = sum(count for _, count in mine)
        accounts.append(AccountRecount(name, uploads, mu, delta, epsilon, found, agree, rule.order))
    return LedgerEvidence(head, entries, tuple(accounts), problems)


def examine(
    entries: Sequence[Entry],
    *,
    run: str,
    delta: float,
    witnessed: Head | None = None,
    second: SecondAccountant | None = None,
) -> LedgerEvidence:
    """Verify a site's ledger and recount one run.

    A chain that does not verify is evidence, not an error: it comes back as a problem, and the verdict is
    FAIL.

    Args:
        entries: the whole ledger, in order.
        run: run id, hex, of the study that is audited.
        delta: δ at which both ε are stated.
        witnessed: head that a peer holds, if any.
        second: the other accountant; by default the one that belongs to each account's filter.
    """
    head = entries[-1].hash if entries else ""
    try:
        state = fold(entries, witnessed=witnessed)
    except LedgerCorrupt as error:
        return LedgerEvidence(head, len(entries), (), (f"The ledger does not verify: {error}.",))
    filters = {account.value: terms.filter for account, terms in state.terms.items()}
    uploads = (Upload.parse(entry.body) for entry in entries if entry.kind == Upload.KIND)
    charges = Counter(upload.event for upload in uploads if upload.run == run)
    return recount(list(charges.items()), head=head, entries=len(entries), delta=delta, second=second, filters=filters)


def _ours(charges: Charges, rule: Filter, delta: float) -> tuple[float | None, float]:
    """(μ, ε) of one account by the formulas of this package; μ is None under RDP."""
    units = accountant.total_units(charges, rule)  # refuses what the account cannot hold
    if rule.kind is BudgetKind.RDP:
        return None, renyi.epsilon_of(rule.order, units / (1 << UNIT_BITS), delta)
    mu = math.sqrt(math.fsum(count / event.multiplier**2 for event, count in charges))
    return mu, gaussian.epsilon_of(mu, delta)
