"""Whether a cost fits an account: the lifetime budget, and a person's limits for one study and for one year."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dp.budget import Filter
from dp.errors import BudgetExceeded, StudyCapExceeded, YearExhausted
from dp.events import Account
from dp.grants import Grant

__all__ = ["EXHAUSTED", "Usage", "check_room"]

EXHAUSTED: Final = 10**60
"""Units of 2⁻⁶⁴ that no grant reaches: an account that was given up has committed so much (`dp.grants.Recover`)."""


@dataclass(frozen=True)
class Usage:
    """What an account stands at, in units of 2⁻⁶⁴.

    Args:
        committed: by everything, for ever.
        study: by the signed study that asks, which is one run.
        year: by what was reserved in the open year.
        open_year: that year; 0 if none is open.
        known: something was granted before, and a recovery has cleared it.
    """

    committed: int
    study: int
    year: int
    open_year: int
    known: bool = False


def check_room(account: Account, grant: Grant | None, usage: Usage, cost: int, who: str) -> None:
    """Refuse a cost that does not fit.

    Args:
        account: who pays.
        grant: what was granted to it.
        usage: what it stands at.
        cost: units of 2⁻⁶⁴.
        who: how to call the study in the error.

    Raises:
        BudgetExceeded: nothing was granted, or too little is left.
        StudyCapExceeded: more than one run may take.
        YearExhausted: more than the open year allows, or no year is open.
    """
    if cost == 0:
        return
    if grant is None or usage.committed >= EXHAUSTED:
        raise BudgetExceeded(f"{who} charges the {account} account, {_closed(usage)}")
    rule, delta = grant.filter, grant.delta

    def shown(units: int) -> str:
        return f"ε = {rule.epsilon(units, delta):.4g}"

    if grant.study_epsilon is not None and usage.study + cost > _largest(rule, grant.study_epsilon, delta):
        raise StudyCapExceeded(
            f"{who} needs {shown(usage.study + cost)} of the {account} account, and one run may take "
            f"ε = {grant.study_epsilon:g}: plan fewer uploads or more noise"
        )
    total = usage.committed + cost
    if total > (most := _largest(rule, grant.epsilon, delta)):
        raise BudgetExceeded(
            f"{who} needs {shown(cost)} of the {account} account, {shown(max(0, most - usage.committed))} is left "
            f"(with it the account would stand at {shown(total)} of ε = {grant.epsilon:g}): ask the data protection "
            "officer for a grant, or plan fewer uploads or more noise"
        )
    if grant.year_epsilon is None:
        return
    if usage.open_year == 0:
        raise YearExhausted(
            f"the {account} account has a yearly limit and no year is open: ask the data protection officer to open one"
        )
    if usage.year + cost > _largest(rule, grant.year_epsilon, delta):
        raise YearExhausted(
            f"{who} would bring the {account} account to {shown(usage.year + cost)} in the year {usage.open_year}, and "
            f"ε = {grant.year_epsilon:g} is allowed: wait for the next year, or plan fewer uploads or more noise"
        )


def _closed(usage: Usage) -> str:
    if usage.committed >= EXHAUSTED:
        return (
            "which was given up: it was granted anew in another way after a restore, so that nobody can say what is "
            "left. No grant opens it again; these patients can be in no further study"
        )
    if usage.known:
        return (
            "whose grant a recovery has cleared, since it may have been replaced after the backup was made: ask the "
            "data protection officer to grant again what is meant to hold for ever, with everything that was spent"
        )
    return "to which nothing was granted: ask the data protection officer for a grant"


@lru_cache(maxsize=256)  # a bisection, and replaying a ledger asks the same at every reservation
def _largest(rule: Filter, epsilon: float, delta: float) -> int:
    return rule.largest(epsilon, delta)
