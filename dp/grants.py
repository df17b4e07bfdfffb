"""Entries that a person writes: what is granted, which year is open, and what a restored ledger takes over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dp.bodies import amount, count, fields, hexadecimal, listed, mapping, text
from dp.budget import BudgetKind, Filter
from dp.chain import JSON
from dp.errors import ConfigError, MisuseError
from dp.events import Account

__all__ = ["Grant", "OpenYear", "Recover", "Terms"]


@dataclass(frozen=True)
class Terms:
    """What of an account never changes after its first grant: how it adds up, and its δ."""

    filter: Filter
    delta: float

    def __str__(self) -> str:
        """Return "GDP 1e-05" or "RDP 32 1e-05"."""
        order = f" {self.filter.order}" if self.filter.kind is BudgetKind.RDP else ""
        return f"{self.filter.kind.value}{order} {float(self.delta)!r}"

    @staticmethod
    def parse(text: str) -> "Terms":
        """Read what `__str__` wrote.

        Raises:
            MisuseError: anything else.
        """
        kind, *order, delta = text.split(" ") if text.count(" ") in {1, 2} else ("", "")
        try:
            terms = Terms(Filter(BudgetKind(kind), int(order[0]) if order else 0), float(delta))
        except (ValueError, ConfigError) as error:
            raise MisuseError("the terms of an account name a kind of budget, its order and a delta") from error
        if str(terms) != text or not 0 < terms.delta < 1:
            raise MisuseError("the terms of an account are not in their canonical spelling")
        return terms


@dataclass(frozen=True)
class Grant:
    """A DPO gives an account its lifetime budget; a later grant replaces an earlier one.

    A grant below what is already committed is valid: it stops the account. Kind, order and δ are those of the first
    grant, for ever.

    Args:
        account: whose budget.
        epsilon: ε over all studies, for ever.
        delta: δ at which every ε of this account is stated.
        kind: "GDP" or "RDP".
        order: 0 for GDP, α for RDP.
        study_epsilon: the most that one run may reserve (a signed study is one run); None for no such limit.
        year_epsilon: the most that may be reserved in one opened year; None for no such limit.
    """

    account: Account
    epsilon: float
    delta: float
    kind: str = BudgetKind.GDP.value
    order: int = 0
    study_epsilon: float | None = None
    year_epsilon: float | None = None

    KIND = "grant"

    @property
    def filter(self) -> Filter:
        """How the account adds up."""
        try:
            return Filter(BudgetKind(self.kind), self.order)
        except ValueError as error:
            raise ConfigError(f"a budget is of kind GDP or RDP, not {self.kind!r}") from error

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {
            "account": self.account.value,
            "delta": repr(float(self.delta)),
            "epsilon": repr(float(self.epsilon)),
            "kind": self.kind,
            "order": self.order,
            "study_epsilon": _limit(self.study_epsilon),
            "year_epsilon": _limit(self.year_epsilon),
        }

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Grant":
        """Read a body; see `parse`."""
        fields(body, "account", "delta", "epsilon", "kind", "order", "study_epsilon", "year_epsilon")
        study, year = (text(body, name) for name in ("study_epsilon", "year_epsilon"))
        return Grant(
            Account(text(body, "account")),
            float(text(body, "epsilon")),
            float(text(body, "delta")),
            text(body, "kind"),
            count(body, "order"),
            float(study) if study else None,
            float(year) if year else None,
        )


@dataclass(frozen=True)
class OpenYear:
    """A person begins a new year of the yearly limits: never the clock. The lifetime account knows no years."""

    year: int

    KIND = "open-year"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {"year": self.year}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "OpenYear":
        """Read a body; see `parse`."""
        fields(body, "year")
        return OpenYear(count(body, "year"))


@dataclass(frozen=True)
class Recover:
    """A restored or copied ledger takes over what others have seen of it; see `dp.witness.recovery`.

    Whatever the witnesses saw committed beyond this ledger is spent for ever, and every run that is open here or was
    open there is closed with its whole reservation spent. If heads are named, entries are lost, perhaps grants, too: no
    grant counts any more until a person writes it again. The only entry whose number may jump.

    Args:
        heads: (sequence, hash) of every head that was shown; empty if only the local anchor was lost.
        committed: the most that any of them had committed, units per account.
        terms: terms of these accounts.
        runs: ids of the runs that were open at these heads.
        unbounded: accounts whose ε was "not bounded" at these heads.
        exhausted: accounts that a person gives up, because they add up in one way here and in another at these heads:
            the terms of here stay, and nothing can be reserved any more.
    """

    heads: tuple[tuple[int, str], ...] = ()
    committed: Mapping[Account, int] = field(default_factory=dict)
    terms: Mapping[Account, Terms] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    unbounded: tuple[Account, ...] = ()
    exhausted: tuple[Account, ...] = ()

    KIND = "recover"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        heads: list[JSON] = [{"hash": head, "sequence": sequence} for sequence, head in self.heads]
        return {
            "committed": {account.value: str(units) for account, units in self.committed.items()},
            "exhausted": [account.value for account in self.exhausted],
            "heads": heads,
            "runs": list(self.runs),
            "terms": {account.value: str(terms) for account, terms in self.terms.items()},
            "unbounded": [account.value for account in self.unbounded],
        }

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Recover":
        """Read a body; see `parse`."""
        fields(body, "committed", "exhausted", "heads", "runs", "terms", "unbounded")
        heads = []
        for item in listed(body, "heads"):
            if not isinstance(item, Mapping):
                raise MisuseError("a head is an object")
            fields(item, "hash", "sequence")
            heads.append((count(item, "sequence"), hexadecimal(item, "hash")))
        committed, terms = (mapping(body, name) for name in ("committed", "terms"))
        if set(committed) != set(terms):
            raise MisuseError("a recovery names the terms of every account that it carries over")
        exhausted = _accounts(body, "exhausted")
        if not {account.value for account in exhausted} <= set(committed):
            raise MisuseError("a recovery gives up no account that it does not carry over")
        return Recover(
            tuple(heads),
            {Account(name): amount(committed, name) for name in committed},
            {Account(name): Terms.parse(text(terms, name)) for name in terms},
            tuple(hexadecimal({"run": run}, "run") for run in listed(body, "runs")),
            _accounts(body, "unbounded"),
            exhausted,
        )


def _accounts(body: Mapping[str, JSON], name: str) -> tuple[Account, ...]:
    return tuple(Account(text({"account": account}, "account")) for account in listed(body, name))


def _limit(value: float | None) -> str:
    return "" if value is None else repr(float(value))
