"""What the server asks its caller to do, one frozen dataclass each, and what it is given back after a restart."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from secagg.messages import Bundles, FromServer, Invite, Roster, SetupMessage, Sum

__all__ = [
    "Action",
    "Arm",
    "Send",
    "SendSums",
    "Stop",
    "StoreRound",
    "StoreSetup",
    "StoreSum",
    "StoredSetup",
    "SumRecord",
]

StoredSetup: TypeAlias = SetupMessage | Bundles | Invite
"""What a server stores of set-up: what members sent, and what it has decided itself."""


@dataclass(frozen=True)
class SumRecord:
    """What the server remembers of a stored sum: everything but the words."""

    round: int
    roster: Roster
    survivors: tuple[int, ...]

    @classmethod
    def of(cls, total: Sum) -> Self:
        """Take the words off a sum."""
        return cls(total.round, total.roster, total.survivors)


@dataclass(frozen=True)
class Send:
    """Send a message to a connected member; drop it if the connection has gone meanwhile."""

    member: int
    message: FromServer


@dataclass(frozen=True)
class SendSums:
    """Send a connected member the stored sums number `start` to `stop` − 1 of the run (the first is 0), in order.

    They go out before whatever follows in the list; the server itself does not hold them.
    """

    member: int
    start: int
    stop: int


@dataclass(frozen=True)
class StoreSetup:
    """Append a set-up message to durable storage."""

    message: StoredSetup


@dataclass(frozen=True)
class StoreRound:
    """Note durably that a number is used, whom it asks, and how often rosters have changed so far.

    In mode B it comes again with the same number, the survivors as `roster` and one change more, when a member has
    dropped out of the round: sums around that differ by one hospital, just as around a roster change.
    """

    number: int
    roster: tuple[int, ...]
    changes: int


@dataclass(frozen=True)
class StoreSum:
    """Append a sum to durable storage; no site may get it before that. The only place where its words are."""

    sum: Sum


@dataclass(frozen=True)
class Arm:
    """Start the one timer anew; when it fires, call ``Server.deadline()``. A later Arm replaces it.

    ``"round"`` is the study's step deadline, ``"patience"`` how long we wait for sites to come (back).
    """

    deadline: Literal["round", "patience"]


@dataclass(frozen=True)
class Stop:
    """The run is over. Close connections when the messages are out; a late member still gets a Finish."""

    reason: str
    ok: bool


Action: TypeAlias = Send | SendSums | StoreSetup | StoreRound | StoreSum | Arm | Stop
