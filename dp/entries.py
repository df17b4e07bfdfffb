"""What a ledger holds: four kinds of entries, their one spelling as JSON, and the chain of hashes.

Bodies hold strings, integers, lists and objects, never floats: one body, one spelling, one hash.
What a sequence of entries means is `dp.ledger`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from dp.errors import LedgerCorrupt, MisuseError
from dp.events import Account, GaussianEvent

JSON: TypeAlias = "str | int | Sequence[JSON] | Mapping[str, JSON]"

GENESIS: Final = "0" * 64
_LABEL: Final = b"haemfed/ledger/v1\n"


@dataclass(frozen=True)
class Grant:
    """A DPO gives an account its lifetime budget; a later grant replaces an earlier one.

    A grant below what is already committed is valid: it stops the account.
    """

    account: Account
    epsilon: float
    delta: float

    KIND = "grant"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {
            "account": self.account.value,
            "delta": repr(float(self.delta)),
            "epsilon": repr(float(self.epsilon)),
        }

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Grant":
        """Read a body; see `parse`."""
        _fields(body, "account", "delta", "epsilon")
        return Grant(Account(_text(body, "account")), float(_text(body, "epsilon")), float(_text(body, "delta")))


@dataclass(frozen=True)
class Stage:
    """Up to `uploads` uploads of one event inside a run."""

    event: GaussianEvent
    uploads: int

    @property
    def units(self) -> int:
        """Full cost in units of 2⁻⁶⁴ μ²."""
        return self.uploads * self.event.units


@dataclass(frozen=True)
class Reserve:
    """Approve one run: its whole cost is set aside before its first upload.

    Args:
        study: hash of the signed study, hex.
        run: run id, hex; used once, ever.
        stages: at most one per event kind.
    """

    study: str
    run: str
    stages: tuple[Stage, ...]

    KIND = "reserve"

    def units(self, account: Account) -> int:
        """Full cost for an account in units of 2⁻⁶⁴ μ²."""
        return sum(stage.units for stage in self.stages if stage.event.account is account)

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        stages: list[JSON] = [{**stage.event.to_json(), "uploads": stage.uploads} for stage in self.stages]
        return {"run": self.run, "stages": stages, "study": self.study}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Reserve":
        """Read a body; see `parse`."""
        _fields(body, "run", "stages", "study")
        stages = []
        listed = body["stages"]
        if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
            raise MisuseError("a reservation lists at least one stage")
        for item in listed:
            if not isinstance(item, Mapping):
                raise MisuseError("a stage is an object")
            event = GaussianEvent.from_json({key: value for key, value in item.items() if key != "uploads"})
            stages.append(Stage(event, _count(item, "uploads")))
        if len({stage.event.kind for stage in stages}) != len(stages):
            raise MisuseError("a reservation names each kind of release once")
        return Reserve(_hex(body, "study"), _hex(body, "run"), tuple(stages))


@dataclass(frozen=True)
class Upload:
    """One upload is about to be sent.

    Args:
        study: hash of the study, hex.
        run: run id, hex.
        round: round number; only grows within a run.
        context: hash of the round's context, hex; ties the charge to the bytes.
        event: what it costs; equal to the reserved event of its kind.
    """

    study: str
    run: str
    round: int
    context: str
    event: GaussianEvent

    KIND = "upload"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        event: dict[str, JSON] = dict(self.event.to_json())
        return {
            "context": self.context,
            "event": event,
            "round": self.round,
            "run": self.run,
            "study": self.study,
        }

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Upload":
        """Read a body; see `parse`."""
        _fields(body, "context", "event", "round", "run", "study")
        event = GaussianEvent.from_json(body["event"])
        return Upload(_hex(body, "study"), _hex(body, "run"), _count(body, "round"), _hex(body, "context"), event)


@dataclass(frozen=True)
class Close:
    """A run is over: its keys are erased, what it did not use returns."""

    run: str
    reason: str

    KIND = "close"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {"reason": self.reason, "run": self.run}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Close":
        """Read a body; see `parse`."""
        _fields(body, "reason", "run")
        return Close(_hex(body, "run"), _text(body, "reason"))


Item: TypeAlias = Grant | Reserve | Upload | Close
_ITEMS: Final[Mapping[str, type[Item]]] = MappingProxyType({cls.KIND: cls for cls in (Grant, Reserve, Upload, Close)})


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Args:
        sequence: 0, 1, 2, …
        previous: hash of the entry before, `GENESIS` for the first.
        kind: "grant", "reserve", "upload" or "close".
        body: see the class of that kind.
        at: ISO 8601 time in UTC, given by the caller: the later of the clock and the last entry.
        hash: SHA-256 over all other fields, hex.
    """

    sequence: int
    previous: str
    kind: str
    body: Mapping[str, JSON]
    at: str
    hash: str

    def computed_hash(self) -> str:
        """Return what `hash` must be."""
        content = {
            "at": self.at,
            "body": self.body,
            "kind": self.kind,
            "previous": self.previous,
            "sequence": self.sequence,
        }
        return hashlib.sha256(_LABEL + _canonical(content)).hexdigest()

    def to_json(self) -> str:
        """Return the entry as one line of canonical JSON."""
        return _canonical({name: getattr(self, name) for name in _ENTRY_FIELDS}).decode()

    @staticmethod
    def from_json(line: str) -> "Entry":
        """Read one line.

        Raises:
            LedgerCorrupt: it is not an entry. (Its place and content are checked by `fold`.)
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


def parse(kind: str, body: Mapping[str, JSON]) -> Item:
    """Read the body of an entry.

    Raises:
        MisuseError: unknown kind, or missing, unknown or malformed fields.
    """
    if kind not in _ITEMS:
        raise MisuseError(f"unknown kind of ledger entry {kind!r}")
    try:
        item = _ITEMS[kind].parse(body)
    except ValueError as error:
        raise MisuseError(f"a field of this {kind} has an unknown value") from error
    if item.body() != body:
        raise MisuseError(f"this {kind} is not in its canonical spelling")
    return item


def _canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _fields(body: Mapping[str, JSON], *names: str) -> None:
    if set(body) != set(names):
        raise MisuseError(f"expected the fields {', '.join(names)}")


def _text(body: Mapping[str, JSON], name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise MisuseError(f"{name} is not text")
    return value


def _hex(body: Mapping[str, JSON], name: str) -> str:
    value = _text(body, name)
    if not value or value.strip("0123456789abcdef"):
        raise MisuseError(f"{name} is not lower-case hex")
    return value


def _count(body: Mapping[str, JSON], name: str) -> int:
    value = body.get(name)
    if type(value) is not int or value < 0:
        raise MisuseError(f"{name} is not a whole number ≥ 0")
    return value
