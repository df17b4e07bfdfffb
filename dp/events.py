"""Releases as data: the closed list of events that a ledger may hold.

An event carries exactly the numbers that an accountant needs, so that two accountants can read one
history and neither needs to know how the release was made. The JSON form is our own: it names no
class and no module, so reading an untrusted ledger can import nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from dp.errors import UnknownEvent


class Account(StrEnum):
    """Whom a release is charged to: every patient of a site is in exactly one of the two."""

    TRAINING = "training"
    HOLDOUT = "holdout"


ACCOUNT_OF: Final[Mapping[str, Account]] = MappingProxyType(
    {
        "gradient": Account.TRAINING,
        "breslow": Account.TRAINING,
        "concordance": Account.HOLDOUT,
        "calibration": Account.HOLDOUT,
        "score-histogram-members": Account.TRAINING,
        "score-histogram-nonmembers": Account.HOLDOUT,
    }
)
"""The closed list of release kinds, each with the patients it reads and therefore charges."""

KINDS: Final[tuple[str, ...]] = tuple(ACCOUNT_OF)

UNIT_BITS: Final = 64
"""μ² is counted in whole units of 2⁻⁶⁴, always rounded up: integers add without error in any order."""


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
        if self.kind not in ACCOUNT_OF:
            raise UnknownEvent(f"release kind {self.kind!r} is not on the list: {', '.join(KINDS)}")
        if not (math.isfinite(self.multiplier) and self.multiplier > 0):
            raise UnknownEvent(f"noise multiplier of {self.kind} must be finite and > 0")
        if self.account is not ACCOUNT_OF[self.kind]:
            raise UnknownEvent(f"{self.kind} is charged to the {ACCOUNT_OF[self.kind]} account, nowhere else")

    @property
    def mu(self) -> float:
        """Privacy parameter of Gaussian DP (Dong, Roth & Su 2022): 1 / multiplier."""
        return 1.0 / self.multiplier

    @property
    def units(self) -> int:
        """μ² in units of 2⁻⁶⁴, rounded up: the number that ledgers and filters add."""
        z = Fraction(self.multiplier)
        units: int = -(-(1 << UNIT_BITS) * z.denominator**2 // z.numerator**2)
        return units

    def to_json(self) -> dict[str, str]:
        """Return the event as JSON strings; the multiplier in shortest round-trip decimal."""
        return {"account": self.account.value, "kind": self.kind, "multiplier": repr(float(self.multiplier))}

    @staticmethod
    def from_json(data: object) -> "GaussianEvent":
        """Read what `to_json` wrote.

        Raises:
            UnknownEvent: anything else, an unknown or missing field included.
        """
        if not isinstance(data, Mapping) or set(data) != {"account", "kind", "multiplier"}:
            raise UnknownEvent("an event has exactly the fields account, kind and multiplier")
        if not all(isinstance(value, str) for value in data.values()):
            raise UnknownEvent("the fields of an event are strings")
        try:
            event = GaussianEvent(data["kind"], float(data["multiplier"]), Account(data["account"]))
        except ValueError as error:
            raise UnknownEvent("an event names an unknown account or its multiplier is no number") from error
        if event.to_json() != dict(data):  # one event, one spelling: '2.00' or ' 2' would hash differently
            raise UnknownEvent("an event's multiplier is not in its canonical spelling")
        return event
