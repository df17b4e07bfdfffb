"""What a ledger holds: nine kinds of entries and their one spelling as JSON.

Bodies hold strings, integers, lists and objects, never floats: one body, one spelling, one hash. The chain they form is
`dp.chain`; what a sequence of them means is `dp.ledger`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from dp.bodies import amount, count, fields, hexadecimal, listed, process, text
from dp.chain import GENESIS, JSON, Entry, Link
from dp.errors import MisuseError
from dp.events import ACCOUNT_OF, Account, Event, from_json
from dp.grants import Grant, OpenYear, Recover, Terms

__all__ = [
    "GENESIS",
    "JSON",
    "Close",
    "Entry",
    "Grant",
    "Item",
    "Link",
    "OpenYear",
    "Plain",
    "Recover",
    "Reserve",
    "Resume",
    "Stage",
    "Terms",
    "Unprotected",
    "Upload",
    "parse",
]


@dataclass(frozen=True)
class Stage:
    """Up to `uploads` uploads of one event inside a run.

    Args:
        event: what one upload releases.
        uploads: how many.
        cost: of one upload, in units of 2⁻⁶⁴, as it was computed when the run was reserved; 0 before that. It is in the
            entry because a later version may round the same formula in another way, and what was written stays true.
    """

    event: Event
    uploads: int
    cost: int = 0


@dataclass(frozen=True)
class Reserve:
    """Approve one run: its whole cost is set aside before its first upload.

    Args:
        study: hash of the signed study, hex.
        run: run id, hex; used once, ever.
        stages: at most one per event kind.
        process: random hex of the process that begins the run, "" outside one: copies of one ledger never write the
            same entry.
    """

    study: str
    run: str
    stages: tuple[Stage, ...]
    process: str = ""

    KIND = "reserve"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        stages: list[JSON] = [
            {**stage.event.to_json(), "cost": str(stage.cost), "uploads": stage.uploads} for stage in self.stages
        ]
        return {"process": self.process, "run": self.run, "stages": stages, "study": self.study}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Reserve":
        """Read a body; see `parse`."""
        fields(body, "process", "run", "stages", "study")
        stages = []
        for item in listed(body, "stages"):
            if not isinstance(item, Mapping):
                raise MisuseError("a stage is an object")
            event = from_json({key: value for key, value in item.items() if key not in {"cost", "uploads"}})
            stages.append(Stage(event, count(item, "uploads"), amount(item, "cost")))
        if not stages:
            raise MisuseError("a reservation lists at least one stage")
        if len({stage.event.kind for stage in stages}) != len(stages):
            raise MisuseError("a reservation names each kind of release once")
        return Reserve(hexadecimal(body, "study"), hexadecimal(body, "run"), tuple(stages), process(body))


@dataclass(frozen=True)
class Unprotected:
    """Approve one run without noise: nothing is charged, and ε of the accounts it reads is "not bounded" for ever.

    Args:
        study: hash of the signed study, hex.
        run: run id, hex; used once, ever.
        uploads: how many uploads of each kind of release.
        process: as in `Reserve`.
    """

    study: str
    run: str
    uploads: Mapping[str, int]
    process: str = ""

    KIND = "unprotected"

    @property
    def accounts(self) -> frozenset[Account]:
        """Whose patients the run reads."""
        return frozenset(ACCOUNT_OF[kind] for kind in self.uploads)

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {"process": self.process, "run": self.run, "study": self.study, "uploads": dict(self.uploads)}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Unprotected":
        """Read a body; see `parse`."""
        fields(body, "process", "run", "study", "uploads")
        uploads = body["uploads"]
        if not isinstance(uploads, Mapping) or not uploads or not set(uploads) <= set(ACCOUNT_OF):
            raise MisuseError("an unprotected run lists its kinds of release")
        counts = {kind: count(uploads, kind) for kind in uploads}
        return Unprotected(hexadecimal(body, "study"), hexadecimal(body, "run"), counts, process(body))


@dataclass(frozen=True)
class Resume:
    """Another process goes on with an open run. What the run does not use stays spent from here on.

    A process that did not begin a run cannot know whether its ledger shows every upload of the run: the disk may have
    been restored in between. Only the process that wrote the reservation may give back what it did not use.

    Args:
        run: run id, hex.
        process: random hex of this process: two copies of one ledger never write the same entry.
    """

    run: str
    process: str

    KIND = "resume"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {"process": self.process, "run": self.run}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Resume":
        """Read a body; see `parse`."""
        fields(body, "process", "run")
        return Resume(hexadecimal(body, "run"), hexadecimal(body, "process"))


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
    event: Event

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
        fields(body, "context", "event", "round", "run", "study")
        event = from_json(body["event"])
        return Upload(
            hexadecimal(body, "study"),
            hexadecimal(body, "run"),
            count(body, "round"),
            hexadecimal(body, "context"),
            event,
        )


@dataclass(frozen=True)
class Plain:
    """One upload of an unprotected run is about to be sent.

    Args:
        study: hash of the study, hex.
        run: run id, hex.
        round: round number; only grows within a run.
        context: hash of the round's context, hex.
        release: kind of release, one of `dp.events.KINDS`.
    """

    study: str
    run: str
    round: int
    context: str
    release: str

    KIND = "plain"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {
            "context": self.context,
            "release": self.release,
            "round": self.round,
            "run": self.run,
            "study": self.study,
        }

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Plain":
        """Read a body; see `parse`."""
        fields(body, "context", "release", "round", "run", "study")
        return Plain(
            hexadecimal(body, "study"),
            hexadecimal(body, "run"),
            count(body, "round"),
            hexadecimal(body, "context"),
            text(body, "release"),
        )


@dataclass(frozen=True)
class Close:
    """A run is over: its keys are erased. What it did not use returns, unless another process had resumed it."""

    run: str
    reason: str

    KIND = "close"

    def body(self) -> dict[str, JSON]:
        """Return the entry's body."""
        return {"reason": self.reason, "run": self.run}

    @staticmethod
    def parse(body: Mapping[str, JSON]) -> "Close":
        """Read a body; see `parse`."""
        fields(body, "reason", "run")
        return Close(hexadecimal(body, "run"), text(body, "reason"))


Item: TypeAlias = Grant | Reserve | Unprotected | Resume | Upload | Plain | Close | OpenYear | Recover
_ITEMS: Final[Mapping[str, type[Item]]] = MappingProxyType(
    {cls.KIND: cls for cls in (Grant, Reserve, Unprotected, Resume, Upload, Plain, Close, OpenYear, Recover)}
)


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
