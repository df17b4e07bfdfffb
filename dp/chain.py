"""The chain of hashes: one line of a ledger, and the link that proves its place without showing its body.

The hash of an entry covers the *digest* of its body, not the body itself. So a `Link`, which carries the digest,
proves to somebody else that one head follows from another, while the grants and charges in between stay at the site.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from dp.errors import ClockWentBack, LedgerCorrupt, MisuseError

__all__ = ["GENESIS", "JSON", "Entry", "Link", "canonical", "check_time"]

JSON: TypeAlias = "str | int | Sequence[JSON] | Mapping[str, JSON]"

GENESIS: Final = "0" * 64
_LABEL: Final = b"haemfed/ledger/v2\n"
_OLD_LABEL: Final = b"haemfed/ledger/v1\n"
_OPEN: Final = frozenset({"recover"})
"""Kinds whose link carries its body: a peer must read which heads a recovery names."""


def canonical(data: object) -> bytes:
    """Return the one spelling of JSON data: sorted keys, no spaces, ASCII.

    Args:
        data: strings, integers, lists and objects; no floats.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _hash(at: str, body_digest: str, kind: str, previous: str, sequence: int) -> str:
    content = {"at": at, "body_digest": body_digest, "kind": kind, "previous": previous, "sequence": sequence}
    return hashlib.sha256(_LABEL + canonical(content)).hexdigest()


@dataclass(frozen=True)
class Link:
    """An entry without its body: proves that the entry with `hash` follows the one with `previous`.

    Args:
        sequence: as in the entry.
        previous: as in the entry.
        kind: as in the entry.
        at: as in the entry.
        body_digest: SHA-256 of the canonical body, hex.
        hash: as in the entry.
        body: only of a recovery, whose named heads a peer must read: public numbers. None for every other kind.
    """

    sequence: int
    previous: str
    kind: str
    at: str
    body_digest: str
    hash: str
    body: Mapping[str, JSON] | None = None

    def check(self) -> None:
        """Recompute the hashes.

        Raises:
            LedgerCorrupt: the hash does not follow from the other fields, or the body from its digest.
        """
        if self.hash != _hash(self.at, self.body_digest, self.kind, self.previous, self.sequence):
            raise LedgerCorrupt(f"link {self.sequence} does not match its hash")
        if (self.body is None) != (self.kind not in _OPEN):
            raise LedgerCorrupt(f"link {self.sequence} shows a body that it should not, or hides one that it must show")
        if self.body is not None and _digest(self.body) != self.body_digest:
            raise LedgerCorrupt(f"the body of link {self.sequence} does not match its digest")


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Args:
        sequence: 0, 1, 2, …; only a recovery may leave numbers out.
        previous: hash of the entry before, `GENESIS` for the first.
        kind: see `dp.entries`.
        body: see the class of that kind.
        at: ISO 8601 time in UTC, given by the caller: the later of the clock and the last entry.
        hash: SHA-256 over the other fields, the body as its digest; hex.
    """

    sequence: int
    previous: str
    kind: str
    body: Mapping[str, JSON]
    at: str
    hash: str

    @property
    def body_digest(self) -> str:
        """SHA-256 of the canonical body, hex."""
        return _digest(self.body)

    def computed_hash(self) -> str:
        """Return what `hash` must be."""
        return _hash(self.at, self.body_digest, self.kind, self.previous, self.sequence)

    def link(self) -> Link:
        """Return what others need to see of this entry."""
        body = self.body if self.kind in _OPEN else None
        return Link(self.sequence, self.previous, self.kind, self.at, self.body_digest, self.hash, body)

    def is_of_an_older_version(self) -> bool:
        """Say whether the entry is intact under the hash that version 1 of the ledger used."""
        content = {
            "at": self.at,
            "body": self.body,
            "kind": self.kind,
            "previous": self.previous,
            "sequence": self.sequence,
        }
        return self.hash == hashlib.sha256(_OLD_LABEL + canonical(content)).hexdigest()

    def to_json(self) -> str:
        """Return the entry as one line of canonical JSON."""
        return canonical({name: getattr(self, name) for name in _ENTRY_FIELDS}).decode()

    @staticmethod
    def from_json(line: str) -> "Entry":
        """Read one line.

        Raises:
            LedgerCorrupt: it is not an entry. (Its place and content are checked by `dp.ledger.fold`.)
        """
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LedgerCorrupt("a line of the ledger is not JSON") from error
        if not isinstance(data, dict) or set(data) != set(_ENTRY_FIELDS):
            raise LedgerCorrupt("a line of the ledger is not an entry")
        types = {"sequence": int, "body": dict}
        if any(type(data[name]) is not types.get(name, str) for name in _ENTRY_FIELDS):
            raise LedgerCorrupt("a field of a ledger entry has the wrong type")
        return Entry(**data)


_ENTRY_FIELDS: Final = ("at", "body", "hash", "kind", "previous", "sequence")


def _digest(body: Mapping[str, JSON]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def check_time(before: str, at: str) -> None:
    """Refuse a time that is not UTC, or before the last entry's.

    Args:
        before: time of the last entry, "" for the first one.
        at: time of the next one.

    Raises:
        MisuseError: not ISO 8601 in UTC.
        ClockWentBack: it is earlier.
    """
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise MisuseError("a ledger time is not ISO 8601") from error
    if moment.utcoffset() != timedelta(0):
        raise MisuseError("a ledger time is not UTC")
    if before and moment < datetime.fromisoformat(before):
        raise ClockWentBack(f"the clock went back: {at} is before the last entry, {before}; correct the clock")
