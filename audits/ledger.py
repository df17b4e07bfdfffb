"""The charges of a ledger, added up a second time.

Two accountants that share no formula look at the same uploads: ours (`audits.gaussian`, closed form of
Gaussian differential privacy) and the numerical privacy-loss distributions of `dp.accountant`. The uploads
are read from the entries themselves, not from the state that the site's software keeps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audits import gaussian
from dp import accountant
from dp.errors import AccountantsDisagree, LedgerCorrupt
from dp.events import GaussianEvent
from dp.ledger import Entry, Head, Upload, fold

__all__ = [
    "AccountRecount",
    "Charges",
    "LedgerEvidence",
    "SecondAccountant",
    "examine",
    "privacy_loss_distribution",
    "recount",
]

AGREEMENT = 0.01
"""Accountants agree when the second ε is within 1 % of ours, or both are below the second's resolution."""

RESOLUTION = 1e-3
"""Absolute difference in ε that the discretisation of a privacy-loss distribution may cause."""

Charges = Sequence[tuple[GaussianEvent, int]]
"""(event, how many uploads of it), as `dp.ledger.State.events` lists them."""

SecondAccountant = Callable[[Charges, float], float]
"""(charges of one account, δ) → ε, by an implementation that is not ours."""


@dataclass(frozen=True)
class AccountRecount:
    """One account of one site for one study, recounted.

    Attributes:
        account: "training" or "holdout".
        uploads: charged uploads.
        mu: √Σ 1/z² over the uploads.
        delta: δ of the two ε.
        epsilon: ε by the closed form.
        second_epsilon: ε by the second accountant.
        agree: the two agree.
    """

    account: str
    uploads: int
    mu: float
    delta: float
    epsilon: float
    second_epsilon: float
    agree: bool


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
        return accountant.statement(charges, delta).pld
    except AccountantsDisagree:
        return math.nan


def recount(
    charges: Charges,
    *,
    head: str,
    entries: int,
    delta: float,
    second: SecondAccountant = privacy_loss_distribution,
    problems: tuple[str, ...] = (),
) -> LedgerEvidence:
    """Add up a study's uploads per account with two accountants.

    Args:
        charges: every upload the site charged for this study, both accounts, in any order.
        head: hash of the ledger's last entry.
        entries: number of entries of the ledger.
        delta: δ at which both ε are stated.
        second: the other accountant.
        problems: what verifying the chain said; passed on to the verdict as FAIL(integrity).
    """
    accounts = []
    for name in sorted({event.account.value for event, _ in charges}, reverse=True):
        mine = [(event, count) for event, count in charges if event.account.value == name]
        mu = math.sqrt(math.fsum(count / event.multiplier**2 for event, count in mine))
        epsilon, other = gaussian.epsilon_of(mu, delta), float(second(mine, delta))
        agree = math.isfinite(other) and abs(other - epsilon) <= max(AGREEMENT * epsilon, RESOLUTION)
        uploads = sum(count for _, count in mine)
        accounts.append(AccountRecount(name, uploads, mu, delta, epsilon, other, agree))
    return LedgerEvidence(head, entries, tuple(accounts), problems)


def examine(
    entries: Sequence[Entry],
    *,
    run: str,
    delta: float,
    witnessed: Head | None = None,
    second: SecondAccountant = privacy_loss_distribution,
) -> LedgerEvidence:
    """Verify a site's ledger and recount one run.

    A chain that does not verify is evidence, not an error: it comes back as a problem, and the verdict is
    FAIL.

    Args:
        entries: the whole ledger, in order.
        run: run id, hex, of the study that is audited.
        delta: δ at which both ε are stated.
        witnessed: head that a peer holds, if any.
        second: the other accountant.
    """
    head = entries[-1].hash if entries else ""
    try:
        fold(entries, witnessed=witnessed)
    except LedgerCorrupt as error:
        return LedgerEvidence(head, len(entries), (), (f"The ledger does not verify: {error}.",))
    uploads = (Upload.parse(entry.body) for entry in entries if entry.kind == Upload.KIND)
    charges = Counter(upload.event for upload in uploads if upload.run == run)
    return recount(list(charges.items()), head=head, entries=len(entries), delta=delta, second=second)
