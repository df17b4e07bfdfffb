"""What sites tell each other through the coordinator, which passes it on unread: by `nodes.witnessing`, about ledgers.

Notes are not part of `secagg`: no key, mask or sum depends on one, and one that is lost is asked for again.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from nodes.chunks import CHUNK, Downstream, Upstream
from secagg import fields as check
from secagg.errors import MalformedMessage

__all__ = ["NOTE", "Mailbox", "Note", "NoteFrom", "Received", "Sent"]

NOTE: Final = CHUNK // 4
"""Octets of the longest note, and of all notes of one sender that wait for one receiver."""
_WAITING: Final = 4  # a question and an answer, each from before a restart and after it


@dataclass(frozen=True)
class Note:
    """A few octets from one member to another.

    Args:
        member: on the way up for whom it is, on the way down from whom it comes: the coordinator's word, no proof.
        octets: 1 … `NOTE` of them.

    Raises:
        MalformedMessage: a field is outside its range.
    """

    member: int
    octets: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.member)
        if not (isinstance(self.octets, bytes) and 0 < len(self.octets) <= NOTE):
            raise MalformedMessage(f"Note: a note has 1 to {NOTE} octets")


Sent: TypeAlias = Upstream | Note
"""What travels from a site."""
Received: TypeAlias = Downstream | Note
"""What travels to a site."""


class Mailbox:
    """Notes that have not yet left for one connected member, in memory only.

    The bound holds for each sender by itself: whoever floods a member takes no place from the others. A note that finds
    no place is dropped. Memory: at most `NOTE` octets for each sender.
    """

    def __init__(self) -> None:
        self._waiting: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self._lock = threading.Lock()

    def put(self, sender: int, octets: bytes) -> bool:
        """Keep a note until it is taken; False if this sender has too much waiting here already."""
        with self._lock:
            waiting = self._waiting[sender]
            if len(waiting) >= _WAITING or sum(map(len, waiting)) + len(octets) > NOTE:
                return False
            waiting.append(octets)
            return True

    def take(self, sender: int) -> Note:
        """Return the sender's oldest note and forget it; once for every `put` that returned True."""
        with self._lock:
            return Note(sender, self._waiting[sender].popleft())


@dataclass(frozen=True)
class NoteFrom:
    """Stands in an outbox for the next note of a sender: the queue itself holds no octets."""

    sender: int
    mailbox: Mailbox = field(repr=False)
