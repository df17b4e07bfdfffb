"""Releases as data: the closed list of events that a ledger may hold.

An event carries exactly the numbers that an accountant needs, so that two accountants can read one
history and neither needs to know how the release was made. The JSON form is our own: the fields decide
which of the three events it is, it names no class and no module, and every value is a string in one
spelling. So reading an untrusted ledger can import nothing.

| event           | what is released                                                    | budgets that hold it |
|-----------------|---------------------------------------------------------------------|----------------------|
| `GaussianEvent` | a sum over every patient on the wide lattice                        | GDP, RDP             |
| `PoissonEvent`  | the same sum over patients drawn one by one, each with probability q | RDP                  |
| `NarrowEvent`   | a sum over every patient in narrow lanes, secretly rounded          | RDP                  |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final, TypeAlias

from dp.errors import UnknownEvent
from dp.narrow import LEAST_VARIANCE

__all__ = [
    "ACCOUNT_OF",
    "KINDS",
    "UNIT_BITS",
    "Account",
    "Event",
    "GaussianEvent",
    "NarrowEvent",
    "PoissonEvent",
    "event",
    "from_json",
]


class Account(StrEnum):
    """Whom a release is charged to: every patient of a site is in exactly one of the two."""

    TRAINING = "training"
    HOLDOUT = "holdout"


ACCOUNT_OF: Final[Mapping[str, Account]] = MappingProxyType(
    {
        "gradient": Account.TRAINING,
        "breslow": Account.TRAINING,
        "sum": Account.TRAINING,
        "count": Account.TRAINING,
        "histogram": Account.TRAINING,
        "marginals": Account.TRAINING,
        "quantiles": Account.TRAINING,
        "kaplan-meier": Account.TRAINING,
        "mixture": Account.TRAINING,
        "update": Account.TRAINING,
        "newton": Account.TRAINING,
        "score-histogram-members": Account.TRAINING,
        "concordance": Account.HOLDOUT,
        "calibration": Account.HOLDOUT,
        "auc": Account.HOLDOUT,
        "brier": Account.HOLDOUT,
        "likelihood": Account.HOLDOUT,
        "survival-holdout": Account.HOLDOUT,
        "score-histogram-nonmembers": Account.HOLDOUT,
    }
)
"""The closed list of release kinds, each with the patients it reads and therefore charges."""

KINDS: Final[tuple[str, ...]] = tuple(ACCOUNT_OF)

UNIT_BITS: Final = 64
"""Costs are counted in whole units of 2⁻⁶⁴, always rounded up: integers add without error in any order."""

LARGEST_VARIANCE: Final = 2**40
LARGEST_LENGTH: Final = 2**24


@dataclass(frozen=True)
class GaussianEvent:
    """One release of a sum over patients with Gaussian noise, every patient included (q = 1).

    The release is μ-GDP with μ = 1 / multiplier under add-or-remove-one-patient neighbours.

    Args:
        kind: one of `KINDS`.
        multiplier: z > 0, standard deviation of the honest noise ÷ L2 sensitivity.
        account: the account that pays; fixed by the kind.

    Raises:
        UnknownEvent: a kind, multiplier or account outside the closed list.
    """

    kind: str
    multiplier: float
    account: Account

    def __post_init__(self) -> None:
        _check(self.kind, self.multiplier, self.account)

    @property
    def mu(self) -> float:
        """Privacy parameter of Gaussian DP (Dong, Roth & Su 2022): 1 / multiplier."""
        return 1.0 / self.multiplier

    @property
    def units(self) -> int:
        """μ² in units of 2⁻⁶⁴, rounded up: what a GDP budget charges (`dp.budget.Filter.units`)."""
        z = Fraction(self.multiplier)
        units: int = -(-(1 << UNIT_BITS) * z.denominator**2 // z.numerator**2)
        return units

    def to_json(self) -> dict[str, str]:
        """Return the event as JSON strings; the multiplier in shortest round-trip decimal."""
        return {"account": self.account.value, "kind": self.kind, "multiplier": repr(float(self.multiplier))}

    @staticmethod
    def from_json(data: object) -> "GaussianEvent":
        """Read what `to_json` wrote, of this kind of event alone; see `from_json` of the module."""
        found = from_json(data)
        if not isinstance(found, GaussianEvent):
            raise UnknownEvent("an event has exactly the fields account, kind and multiplier")
        return found


@dataclass(frozen=True)
class PoissonEvent:
    """One release of a sum over a Poisson sample of the patients, with Gaussian noise.

    Every patient is in the sample with probability q, independently of all others and of all other releases. Who
    was drawn stays secret: against a site's own people, who can know, q counts as 1.

    Args:
        kind: one of `KINDS`.
        multiplier: z, 2⁻¹⁰⁰ < z < 2¹⁰⁰, standard deviation of the honest noise ÷ L2 sensitivity.
        sampling_probability: q, 2⁻¹⁰⁰ < q < 1; at q = 1 the release is a `GaussianEvent`.
        account: the account that pays; fixed by the kind.

    Raises:
        UnknownEvent: a value outside its range or the closed list.
    """

    kind: str
    multiplier: float
    sampling_probability: float
    account: Account

    def __post_init__(self) -> None:
        _check(self.kind, self.multiplier, self.account)
        _check_range(self.kind, self.multiplier)
        if not 2.0**-100 < self.sampling_probability < 1:
            raise UnknownEvent(
                f"{self.kind}: a sampling probability lies between 2^-100 and 1; every patient (q = 1) is another event"
            )

    def to_json(self) -> dict[str, str]:
        """Return the event as JSON strings; numbers in shortest round-trip decimal."""
        return {
            "account": self.account.value,
            "kind": self.kind,
            "multiplier": repr(float(self.multiplier)),
            "sampling_probability": repr(float(self.sampling_probability)),
        }


@dataclass(frozen=True)
class NarrowEvent:
    """One release of a sum in narrow lanes: secret stochastic rounding, discrete Gaussian noise, q = 1.

    Args:
        kind: one of `KINDS`.
        multiplier: z, 2⁻¹⁰⁰ < z < 2¹⁰⁰, standard deviation of the honest noise ÷ sensitivity on the lattice.
        variance: variance of the honest noise in lattice steps², 64 … 2⁴⁰. Rounding makes it part of the cost.
        length: d, number of coordinates, 1 … 2²⁴.
        account: the account that pays; fixed by the kind.

    Raises:
        UnknownEvent: a value outside its range or the closed list.
    """

    kind: str
    multiplier: float
    variance: int
    length: int
    account: Account

    def __post_init__(self) -> None:
        _check(self.kind, self.multiplier, self.account)
        _check_range(self.kind, self.multiplier)
        # Below `LEAST_VARIANCE` nothing is proven.
        for name, least, most in (("variance", LEAST_VARIANCE, LARGEST_VARIANCE), ("length", 1, LARGEST_LENGTH)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise UnknownEvent(f"{self.kind}: the {name} of narrow lanes is a whole number, {least} … {most}")

    def to_json(self) -> dict[str, str]:
        """Return the event as JSON strings; the multiplier in shortest round-trip decimal."""
        return {
            "account": self.account.value,
            "kind": self.kind,
            "length": str(self.length),
            "multiplier": repr(float(self.multiplier)),
            "variance": str(self.variance),
        }


Event: TypeAlias = GaussianEvent | PoissonEvent | NarrowEvent
"""Everything that a ledger may charge."""


def event(kind: str, multiplier: float, *, sampling_probability: float = 1.0) -> GaussianEvent | PoissonEvent:
    """Return the event of one release on the wide lattice, charged to the account of its kind.

    >>> event("gradient", 17.3)
    GaussianEvent(kind='gradient', multiplier=17.3, account=<Account.TRAINING: 'training'>)

    Args:
        kind: one of `KINDS`.
        multiplier: z > 0.
        sampling_probability: q in (0, 1]; 1 means every patient.

    Raises:
        UnknownEvent: a value outside its range or the closed list.
    """
    if kind not in ACCOUNT_OF:
        raise UnknownEvent(f"release kind {kind!r} is not on the list: {', '.join(KINDS)}")
    if sampling_probability == 1:
        return GaussianEvent(kind, multiplier, ACCOUNT_OF[kind])
    return PoissonEvent(kind, multiplier, sampling_probability, ACCOUNT_OF[kind])


def from_json(data: object) -> Event:
    """Read what an event's `to_json` wrote.

    Args:
        data: anything that a JSON reader returned.

    Raises:
        UnknownEvent: anything that is no event in its one spelling, an unknown or missing field included.
    """
    if not isinstance(data, Mapping) or not all(isinstance(value, str) for value in data.values()):
        raise UnknownEvent("an event is an object whose values are strings")
    fields = dict(data)
    try:
        kind, multiplier, account = fields["kind"], float(fields["multiplier"]), Account(fields["account"])
        found: Event
        match sorted(fields):
            case ["account", "kind", "multiplier"]:
                found = GaussianEvent(kind, multiplier, account)
            case ["account", "kind", "multiplier", "sampling_probability"]:
                found = PoissonEvent(kind, multiplier, float(fields["sampling_probability"]), account)
            case ["account", "kind", "length", "multiplier", "variance"]:
                found = NarrowEvent(kind, multiplier, _whole(fields["variance"]), _whole(fields["length"]), account)
            case _:
                raise UnknownEvent(
                    "an event has the fields account, kind and multiplier, and either sampling_probability, or "
                    "variance and length, or none besides"
                )
    except (KeyError, ValueError, TypeError) as error:
        raise UnknownEvent("an event lacks a field, names an unknown account, or a number of it is none") from error
    if found.to_json() != fields:  # one event, one spelling: '2.00' or ' 2' would hash differently
        raise UnknownEvent("a number of an event is not in its canonical spelling")
    return found


def _whole(text: str) -> int:
    # Bounded before it is read: a ledger line of a million digits must not cost a second of arithmetic.
    if not (0 < len(text) <= 16 and text.isascii() and text.isdigit()):
        raise ValueError("not a whole number")
    return int(text)


def _check(kind: str, multiplier: float, account: Account) -> None:
    if kind not in ACCOUNT_OF:
        raise UnknownEvent(f"release kind {kind!r} is not on the list: {', '.join(KINDS)}")
    if not (math.isfinite(multiplier) and multiplier > 0):
        raise UnknownEvent(f"noise multiplier of {kind} must be finite and > 0")
    if account is not ACCOUNT_OF[kind]:
        raise UnknownEvent(f"{kind} is charged to the {ACCOUNT_OF[kind]} account, nowhere else")


def _check_range(kind: str, multiplier: float) -> None:
    # Keeps every term of the RDP formulas far from overflow and from subnormal numbers.
    if not 2.0**-100 < multiplier < 2.0**100:
        raise UnknownEvent(f"noise multiplier of {kind} must lie between 2^-100 and 2^100")
