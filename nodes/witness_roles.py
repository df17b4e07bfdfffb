"""Who and what takes part in witnessing: signer, ledger, store, peers, and what is held against a site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dp.chain import Link
from dp.errors import ForkedLedger, RollbackDetected
from dp.witness import Statement
from nodes.store import WitnessedRow
from secagg.encoding import Value

__all__ = ["Book", "Held", "Objected", "Peer", "Signer"]


class Signer(Protocol):
    """This site's identity; `secagg.keys.Identity` is one."""

    @property
    def public(self) -> bytes:
        """The public key."""

    def sign(self, purpose: str, *values: Value) -> bytes:
        """Sign values for one purpose."""


class Held(Protocol):
    """Where other sites' statements are durable; `nodes.store.SiteStore` is one."""

    def witnessed(self, identity: bytes, /) -> WitnessedRow | None:
        """Return what is held of a site."""

    def witnessed_of_others(self, identity: bytes, /) -> Sequence[WitnessedRow]:
        """Return what is held of all other sites."""

    def witness(self, row: WitnessedRow, /) -> None:
        """Hold a statement; on the disk when this returns."""


class Book(Protocol):
    """A site's ledger as its peers see it; `nodes.accounts.Accounts` is one."""

    def statement(self, site: str, /) -> Statement:
        """Return what the site says about its ledger."""

    def links(self, after: int, /) -> Sequence[Link]:
        """Return what follows an entry."""


@dataclass(frozen=True)
class Peer:
    """Another site of the study, pinned here.

    Args:
        name: in the study.
        identity: Ed25519 public key, 32 octets.
    """

    name: str
    identity: bytes


@dataclass(frozen=True)
class Objected:
    """A statement that this site has signed and that its present ledger lacks.

    Args:
        statement: what peers hold.
        signature: by this site's identity.
        peers: their names.
        problem: how the two ledgers differ.
    """

    statement: Statement
    signature: bytes = field(repr=False)
    peers: tuple[str, ...]
    problem: type[RollbackDetected | ForkedLedger]
