"""What is on its way to the sites. Sums are referred to, not held: an outbox is small whatever the model's size."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from nodes.chunks import CHUNK, PIECE, SumPart, cut
from nodes.notes import Mailbox, NoteFrom
from nodes.store import StoredSum, SumEntry
from secagg.actions import SumRecord
from secagg.messages import FromServer, Sum

__all__ = ["Outbox", "SumAt", "SumStore", "Sums"]


@dataclass(frozen=True)
class SumAt:
    """Stands for the sum with `position` sums before it."""

    position: int


class Outbox:
    """What is on its way to one connected site, in order; `None` closes the stream."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[FromServer | SumAt | NoteFrom | None] = queue.SimpleQueue()
        self._notes = Mailbox()

    def put(self, message: FromServer | SumAt) -> None:
        """Queue a message."""
        self.messages.put(message)

    def put_note(self, sender: int, octets: bytes) -> None:
        """Queue a note of another member; dropped if that member has too many waiting here."""
        if self._notes.put(sender, octets):
            self.messages.put(NoteFrom(sender, self._notes))

    def close(self) -> None:
        """End the stream after what is queued."""
        self.messages.put(None)


class SumStore(Protocol):
    """Where sums are durable; `nodes.store.CoordinatorStore` is one."""

    def history(self, run_id: bytes, /) -> list[SumEntry]:
        """Return all sums without their words."""

    def add_sum(self, run_id: bytes, new: StoredSum, /) -> None:
        """Keep a sum."""

    def words(self, run_id: bytes, position: int, offset: int, most: int, /) -> bytes:
        """Return a piece of a sum's words."""


class Sums:
    """The sums of one run: all of them in the store, the newest also here, because every site wants that one.

    Memory: one sum, and while somebody catches up one more, however many sites there are.

    Args:
        store: holds them.
        run_id: of the run.
    """

    def __init__(self, store: SumStore, run_id: bytes) -> None:
        self._store, self._run = store, run_id
        self._known = store.history(run_id)
        self._newest: tuple[SumPart, ...] = ()  # the last of the known ones, shared by all streams; or not loaded
        self._reading = threading.Lock()

    def records(self) -> list[SumRecord]:
        """Return what the protocol wants to know of every sum."""
        return [SumRecord(each.round, each.roster, each.survivors) for each in self._known]

    def add(self, total: Sum) -> None:
        """Make the next sum durable. One caller at a time.

        Raises:
            StorageProblem: it is not stored.
        """
        with self._reading:
            self._newest = ()  # whoever is still reading it holds it: a vector less while the next one is written
        position, size = len(self._known), len(total.words)
        self._store.add_sum(self._run, StoredSum(position, total.round, total.roster, total.survivors, total.words))
        with self._reading:
            self._known.append(SumEntry(position, total.round, total.roster, total.survivors, size))
            self._newest = tuple(cut(total))

    def parts(self, position: int) -> Iterator[SumPart]:
        """Yield a sum in pieces; from any number of threads.

        Raises:
            StorageProblem: the store does not give it out.
        """
        entry = self._known[position]
        if newest := self._load_newest(entry):
            yield from newest
            return
        of = (entry.roster, entry.survivors)
        for start in range(0, entry.size, CHUNK):
            with self._reading:  # a database may need the whole sum to find a piece of it
                words = self._store.words(self._run, position, start, CHUNK)
            for offset in range(0, len(words), PIECE):
                piece = words[offset : offset + PIECE]
                yield SumPart(entry.round, entry.size, start + offset, piece, *of)
                of = ((), ())

    def _load_newest(self, entry: SumEntry) -> tuple[SumPart, ...]:
        """Return a sum if it is the newest: after a restart all sites may want it, so it is read once for all."""
        with self._reading:
            if entry is not self._known[-1]:
                return ()
            if not self._newest:
                words = self._store.words(self._run, entry.position, 0, entry.size)
                self._newest = tuple(cut(Sum(entry.round, entry.roster, entry.survivors, words)))
            return self._newest
