"""Messages of rounds. :mod:`secagg.messages` lists all arrows and encodes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from secagg import fields as check
from secagg.errors import MalformedMessage, MisuseError

__all__ = [
    "Agreement",
    "Blame",
    "CanaryKeys",
    "Complete",
    "Consent",
    "Finish",
    "Part",
    "Refused",
    "Roster",
    "Shares",
    "Step",
    "Sum",
    "Survivors",
    "Upload",
    "parts",
]

Roster: TypeAlias = tuple[tuple[int, bytes], ...]
"""(member, session nonce of 32 octets) in ascending order of member."""

SHARE_SIZE: Final = 32
BOX_SIZE: Final = SHARE_SIZE + 16
_ROUND_KEYS: Final = 64  # mask key ‖ canary key of one pair and round
_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_LONGEST: Final = 1 << 36  # octets of a vector: what one AES key may mask


@dataclass(frozen=True)
class Sum:
    """The sum of one round, as every site checks and applies it.

    Args:
        round: its number.
        roster: who was asked.
        survivors: whose uploads are in it, ascending: in mode A the whole roster.
        words: little-endian uint64: data words, tag word, canary word.
    """

    round: int
    roster: Roster
    survivors: tuple[int, ...]
    words: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check.number(self, "round", 1)
        check.entries(self, "roster", 32)
        check.members(self, "survivors")
        if not set(self.survivors) <= {member for member, _ in self.roster}:
            raise MalformedMessage(f"Sum {self.round}: a survivor was not on the roster")
        check.vector(self, self.words)


@dataclass(frozen=True)
class Step:
    """The server opens a round.

    Args:
        round: larger than every number used before.
        sums: how many sums the run has so far; they have gone out before this message.
        roster: who is asked, each with the nonce of its present session.
    """

    round: int
    sums: int
    roster: Roster

    def __post_init__(self) -> None:
        check.number(self, "round", 1)
        check.number(self, "sums", 0)
        check.entries(self, "roster", 32)


@dataclass(frozen=True)
class Upload:
    """A member's masked vector.

    Args:
        member: whose.
        round: for which round.
        words: little-endian uint64: masked data words, masked tag word, masked canary word.
        boxes: mode B: (peer, boxed Shamir share of our self-mask seed, 48 octets), ascending; mode A: nothing.
    """

    member: int
    round: int
    words: bytes = field(repr=False)
    boxes: tuple[tuple[int, bytes], ...] = field(repr=False, default=())

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "round", 1)
        check.vector(self, self.words)
        check.entries(self, "boxes", BOX_SIZE, empty=True)


@dataclass(frozen=True)
class Part:
    """A piece of an upload. Pieces of one upload come in order and without gaps; the first one tells the size.

    Args:
        member: whose upload.
        round: for which round.
        size: octets of the whole vector.
        offset: where this piece begins.
        words: a multiple of 8 octets, not empty.
        boxes: as in Upload; with the last piece only.
    """

    member: int
    round: int
    size: int
    offset: int
    words: bytes = field(repr=False)
    boxes: tuple[tuple[int, bytes], ...] = field(repr=False, default=())

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "round", 1)
        check.number(self, "size", 3 * check.WORD, _LONGEST)
        check.number(self, "offset", 0, _LONGEST)
        check.entries(self, "boxes", BOX_SIZE, empty=True)
        if not isinstance(self.words, bytes) or not self.words:
            raise MalformedMessage("Part.words: must be octets, not empty")
        if self.size % check.WORD or self.offset % check.WORD or len(self.words) % check.WORD:
            raise MalformedMessage("Part: vectors are cut between 64-bit words")
        if self.offset + len(self.words) > self.size:
            raise MalformedMessage("Part: a piece goes beyond the end of its vector")
        if self.boxes and not self.last:
            raise MalformedMessage("Part: share boxes come with the last piece")

    @property
    def last(self) -> bool:
        """Whether the upload is complete with this piece."""
        return self.offset + len(self.words) == self.size


def parts(upload: Upload, most: int) -> Iterator[Part]:
    """Cut an upload into pieces of at most `most` octets, a positive multiple of 8."""
    if most < check.WORD or most % check.WORD:
        raise MisuseError(f"pieces of {most} octets: a positive multiple of {check.WORD} is needed")
    size = len(upload.words)
    for offset in range(0, size, most):
        words = upload.words[offset : offset + most]
        boxes = upload.boxes if offset + most >= size else ()
        yield Part(upload.member, upload.round, size, offset, words, boxes)


@dataclass(frozen=True)
class Survivors:
    """Mode B: whose uploads have arrived whole. Who is on the roster and not in here has dropped out."""

    round: int
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        check.number(self, "round", 1)
        check.members(self, "members")


@dataclass(frozen=True)
class Consent:
    """Mode B: MACs by which `sender` tells each other survivor which survivors it was shown: (peer, 32 octets)."""

    sender: int
    round: int
    to: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.sender)
        check.number(self, "round", 1)
        check.entries(self, "to", 32)
        if any(peer == self.sender for peer, _ in self.to):
            raise MalformedMessage(f"Consent of {self.sender}: nobody consents to himself")


@dataclass(frozen=True)
class Agreement:
    """Mode B: what the survivors have for one receiver.

    Args:
        round: of which round.
        macs: (sender, 32 octets) of those that have consented, ascending, without the receiver.
        boxes: (sender, 48 octets) of all other survivors, ascending.
    """

    round: int
    macs: tuple[tuple[int, bytes], ...] = field(repr=False)
    boxes: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.number(self, "round", 1)
        check.entries(self, "macs", 32)
        check.entries(self, "boxes", BOX_SIZE)


@dataclass(frozen=True)
class Shares:
    """Mode B: this member's part in opening the sum of the survivors. Sent once a round, ever.

    Args:
        member: whose.
        round: for which round.
        shares: (survivor, share of its self-mask seed, 32 octets), ascending: all survivors, our own included.
        keys: (member that dropped out, our mask key ‖ canary key with it for this round, 64 octets), ascending.
    """

    member: int
    round: int
    shares: tuple[tuple[int, bytes], ...] = field(repr=False)
    keys: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "round", 1)
        check.entries(self, "shares", SHARE_SIZE)
        check.entries(self, "keys", _ROUND_KEYS, empty=True)


@dataclass(frozen=True)
class Blame:
    """Mode A: the uploads of this round do not fit; each member is asked for its canary keys of it."""

    round: int

    def __post_init__(self) -> None:
        check.number(self, "round", 1)


@dataclass(frozen=True)
class CanaryKeys:
    """Mode A: (peer, canary key of the pair for this round, 32 octets), ascending. They mask one known word each."""

    member: int
    round: int
    keys: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "round", 1)
        check.entries(self, "keys", 32)


@dataclass(frozen=True)
class Complete:
    """The member has all sums of the study and uploads nothing more.

    `transcript` says with what it ends: which sums, or a digest of these and of what was made of them.
    """

    member: int
    transcript: bytes

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.octets(self, "transcript", 32)


@dataclass(frozen=True)
class Refused:
    """The member has stopped; `code` is a word (``SecaggError.code``), never an exception's text."""

    member: int
    code: str

    def __post_init__(self) -> None:
        check.member(self, self.member)
        if not (isinstance(self.code, str) and _CODE.fullmatch(self.code)):
            raise MalformedMessage(f"Refused by {self.member}: a code is a word of lower-case letters, digits and '-'")


@dataclass(frozen=True)
class Finish:
    """The run is over, after `sums` sums. `reason` is ``"complete"`` or a sentence of the coordinator's own."""

    sums: int
    reason: str

    def __post_init__(self) -> None:
        check.number(self, "sums", 0)
        if not (isinstance(self.reason, str) and 1 <= len(self.reason) <= 500 and self.reason.isprintable()):
            raise MalformedMessage("Finish: the reason must be 1 to 500 printable characters")
