"""A long chain of links in the course of arriving: pages that a peer has sent so far, in order, in memory only."""

from __future__ import annotations

from dp.chain import Link
from nodes.witness_notes import Question, digest, read

__all__ = ["Collected"]


class Collected:
    """Pages of links by member; one chain at a time for each, at most `nodes.witness_notes.MOST_PAGES` notes.

    A page is asked for only when the one before is here, so at most one of a member is ever on its way.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[object, list[bytes]]] = {}

    def add(self, member: int, question: Question, octets: bytes, held: bytes) -> tuple[Link, ...] | int:
        """Take a page and return all links once they are complete, otherwise the number of the page that is wanted.

        Args:
            member: who sends it.
            question: the page.
            octets: the note that it was read from; what is kept, because links are larger.
            held: the statement from which the links have to lead on.
        """
        if question.count == 1:
            self._kept.pop(member, None)
            return question.links
        key = (question.nonce, digest(question.statement), question.count, held)
        before, kept = self._kept.get(member, (key, []))
        if before != key:
            kept = []
        if question.page == len(kept):
            kept = [*kept, octets]
        if len(kept) < question.count:
            self._kept[member] = (key, kept)
            return len(kept)
        self._kept.pop(member, None)
        notes = (read(each) for each in kept)
        return tuple(link for note in notes if isinstance(note, Question) for link in note.links)
