"""Long vectors in pieces, so that nobody has to hold one message as long as a model.

Upwards an upload travels as the protocol's own `secagg.messages.Part`; downwards a sum travels as `SumPart`, which
exists between these two ends of the stream only: what is hashed and applied is the whole `Sum`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from secagg import fields as check
from secagg.errors import MalformedMessage, UnexpectedMessage
from secagg.messages import (
    Agreement,
    Blame,
    Bundles,
    Ciphertexts,
    Confirmed,
    Finish,
    FromServer,
    Hello,
    Invite,
    Part,
    Roster,
    Step,
    Sum,
    Survivors,
    ToServer,
    Upload,
    parts,
)

__all__ = ["CHUNK", "PIECE", "Assembler", "Downstream", "SumPart", "Upstream", "cut", "outgoing"]

CHUNK: Final = 1 << 20
"""Octets that one stream may cost the coordinator, whatever the length of the vector on it."""
PIECE: Final = CHUNK // 8
"""Octets of one piece of a vector, either way. While it travels there are several copies of it for every stream (as a
message, encoded, gRPC's own, TLS's), and all sites send at the same time: together they stay within one CHUNK."""


@dataclass(frozen=True)
class SumPart:
    """A piece of a sum. Pieces of one sum come in order, without gaps and with nothing in between.

    Args:
        round: of which round.
        size: octets of the whole vector.
        offset: where this piece begins.
        words: a multiple of 8 octets, not empty.
        roster: as in `Sum`; with the first piece only.
        survivors: as in `Sum`; with the first piece only.

    Raises:
        MalformedMessage: a field is outside its range.
    """

    round: int
    size: int
    offset: int
    words: bytes = field(repr=False)
    roster: Roster = ()
    survivors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        Part(1, self.round, self.size, self.offset, self.words)  # whoever's vector it is, the same rules hold
        check.entries(self, "roster", 32, empty=True)
        check.members(self, "survivors", least=0)
        if (bool(self.roster), bool(self.survivors)) != (self.offset == 0, self.offset == 0):
            raise MalformedMessage("SumPart: roster and survivors come with the first piece and with no other")


Upstream: TypeAlias = Hello | ToServer
"""What travels from a site; an upload as its parts."""
Downstream: TypeAlias = (
    Bundles | Ciphertexts | Confirmed | Invite | SumPart | Step | Survivors | Agreement | Blame | Finish
)
"""What travels to a site; a sum as its parts."""


def cut(total: Sum, most: int = PIECE) -> Iterator[SumPart]:
    """Cut a sum into pieces of at most `most` octets."""
    size = len(total.words)
    for offset in range(0, size, most):
        of = (total.roster, total.survivors) if offset == 0 else ((), ())
        yield SumPart(total.round, size, offset, total.words[offset : offset + most], *of)


def outgoing(message: ToServer | Upload) -> Iterator[ToServer]:
    """Yield a site's message as it travels: an upload in parts, anything else as it is."""
    if isinstance(message, Upload):
        yield from parts(message, PIECE)
    else:
        yield message


class Assembler:
    """Makes whole sums of their pieces, one after the other.

    Args:
        words: the longest sum that the study knows, in 64-bit words. A longer one is refused at its first piece, before
            memory is taken for it.
    """

    def __init__(self, words: int) -> None:
        self._most = words * check.WORD
        self._first: SumPart | None = None
        self._words = bytearray()

    def take(self, message: Downstream) -> FromServer | None:
        """Take the next message of a stream; return it, or the sum that it completes, or None for a piece.

        Raises:
            MalformedMessage: longer than any sum of the study, or the whole is no valid `Sum`.
            UnexpectedMessage: a gap, a piece twice, or another message inside a sum.
        """
        first = self._first
        if not isinstance(message, SumPart):
            if first is not None:
                raise UnexpectedMessage(f"{type(message).__name__} inside the sum of round {first.round}")
            return message
        if first is None:
            if message.size > self._most:
                raise MalformedMessage(f"a sum of {message.size} octets; the longest of the study has {self._most}")
            first = self._first = message
        begun = len(self._words)
        if (message.round, message.size, message.offset) != (first.round, first.size, begun):
            raise UnexpectedMessage(
                f"round {message.round}, octet {message.offset} of {message.size}, where octet {begun} of "
                f"{first.size} of round {first.round} belongs"
            )
        self._words += message.words
        if len(self._words) < first.size:
            return None
        whole, self._words, self._first = bytes(self._words), bytearray(), None
        return Sum(first.round, first.roster, first.survivors, whole)
