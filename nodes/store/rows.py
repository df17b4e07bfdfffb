"""What the stores return: plain frozen rows, no live database objects."""

from dataclasses import dataclass, field

__all__ = [
    "CoordinatorRun",
    "LedgerRow",
    "SiteRun",
    "StoredSetup",
    "StoredSum",
    "StoredUpload",
    "SumEntry",
    "WitnessedRow",
]


@dataclass(frozen=True)
class LedgerRow:
    """One ledger entry exactly as it was hashed; `dp.ledger` gives it meaning.

    Args:
        sequence: 0, 1, 2, … without a gap.
        previous: Hash of the entry before (hex); the first entry's is `dp.ledger`'s business.
        kind: What it records.
        body: Canonical JSON text.
        at: ISO 8601 time.
        hash: Its own hash (hex).
    """

    sequence: int
    previous: str
    kind: str
    body: str
    at: str
    hash: str


@dataclass(frozen=True)
class StoredUpload:
    """The upload of a round, as canonical bytes; a resend sends these and nothing else."""

    round: int
    context: bytes
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class StoredSum:
    """A completed sum: the n-th of its run (``position``, from 0), its round, roster, survivors and words."""

    position: int
    round: int
    roster: tuple[tuple[int, bytes], ...]
    survivors: tuple[int, ...]
    words: bytes = field(repr=False)


@dataclass(frozen=True)
class SumEntry:
    """A stored sum without its words, which may be long: ``size`` says how many octets they have."""

    position: int
    round: int
    roster: tuple[tuple[int, bytes], ...]
    survivors: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class SiteRun:
    """A run as one site knows it; ``outcome`` is None while it is open."""

    run_id: bytes
    study_digest: bytes
    last_round: int
    sums: int
    outcome: str | None


@dataclass(frozen=True)
class WitnessedRow:
    """What another site said last about its ledger, as it said it.

    Args:
        identity: its Ed25519 public key, 32 bytes.
        sequence: number of the last entry of its ledger.
        statement: what it signed.
        signature: 64 bytes.
    """

    identity: bytes
    sequence: int
    statement: bytes
    signature: bytes = field(repr=False)


@dataclass(frozen=True)
class StoredSetup:
    """A set-up message as it was relayed, in the order of arrival; ``member`` 0 is the coordinator itself."""

    kind: str
    member: int
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class CoordinatorRun:
    """A run as the coordinator knows it; ``reason`` and ``ok`` are None while it is open."""

    run_id: bytes
    last_round: int
    roster: tuple[int, ...]
    changes: int
    sums: int
    reason: str | None
    ok: bool | None
