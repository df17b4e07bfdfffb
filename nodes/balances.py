"""The accounts for a person to read: ε, never a bare μ² or a divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dp.budget import GDP_FILTER
from dp.ledger import State
from dp.queries import Account

__all__ = ["Line", "line"]

_DELTA = 1e-5


@dataclass(frozen=True)
class Line:
    """One account.

    Args:
        account: "training" or "holdout".
        budget: how it adds up: "GDP", or "RDP at order 32"; "" before the first grant.
        delta: δ of the grant; 1e-5 if nothing was granted.
        granted: ε granted, 0 without a grant.
        spent: ε of all uploads made; infinite if a run without noise read these patients.
        committed: ε of uploads made and reserved.
        remaining: ε that one more study may take if it is the only one; ε does not add up, so that `committed` and
            `remaining` do not sum to `granted`.
        carried: ε of what a recovery took over from witnesses alone.
        year: ε committed in the open year.
        year_limit: ε that one year may take; None for no limit.
        study_limit: ε that one run of a study may take; None for no limit.
        uploads: uploads charged.
    """

    account: str
    budget: str
    delta: float
    granted: float
    spent: float
    committed: float
    remaining: float
    carried: float
    year: float
    year_limit: float | None
    study_limit: float | None
    uploads: int


def line(state: State, account: Account) -> Line:
    """Return one account of a ledger for a person to read."""
    terms, grant = state.terms.get(account), state.grants.get(account)
    rule, delta = (terms.filter, terms.delta) if terms is not None else (GDP_FILTER, _DELTA)

    def epsilon(units: int) -> float:
        return rule.epsilon(units, delta) if units else 0.0

    unbounded = math.inf if account in state.unbounded else 0.0
    return Line(
        account=account.value,
        budget=str(rule) if terms is not None else "",
        delta=delta,
        granted=grant.epsilon if grant is not None else 0.0,
        spent=max(unbounded, epsilon(state.spent_units(account))),
        committed=max(unbounded, epsilon(state.committed_units(account))),
        remaining=epsilon(state.remaining_units(account)),
        carried=epsilon(state.carried_units(account)),
        year=epsilon(state.year_units(account)) if state.year else 0.0,
        year_limit=grant.year_epsilon if grant is not None else None,
        study_limit=grant.study_epsilon if grant is not None else None,
        uploads=sum(count for _, count in state.events(account)),
    )
