"""What the server asks its caller to do, one frozen dataclass each."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from secagg.messages import FromServer, SetupMessage, Sum

__all__ = ["Action", "Arm", "Send", "Stop", "StoreRound", "StoreSetup", "StoreSum"]


@dataclass(frozen=True)
class Send:
    """Send a message to a connected member; drop it if the connection has gone meanwhile."""

    member: int
    message: FromServer


@dataclass(frozen=True)
class StoreSetup:
    """Append a set-up message to durable storage."""

    message: SetupMessage


@dataclass(frozen=True)
class StoreRound:
    """Note durably that a number is used, whom it asks, and how often rosters have changed so far."""

    number: int
    roster: tuple[int, ...]
    changes: int


@dataclass(frozen=True)
class StoreSum:
    """Append a sum to durable storage; no site may get it before that."""

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


Action: TypeAlias = Send | StoreSetup | StoreRound | StoreSum | Arm | Stop
