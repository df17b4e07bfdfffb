"""One round at the server: a running sum modulo 2⁶⁴ and who has answered. Memory: one vector."""

from collections import Counter

import numpy as np

from secagg.lanes import Words
from secagg.messages import Roster, Sum

__all__ = ["Adder"]


class Adder:
    """The open round.

    Args:
        number: of the round.
        roster: who is asked.
    """

    def __init__(self, number: int, roster: Roster) -> None:
        self.number, self.roster = number, roster
        self.members = frozenset(member for member, _ in roster)
        self.complete: dict[int, bytes] = {}  # transcripts of those who have all sums of the study
        self._sizes: dict[int, int] = {}
        self._total: Words = np.zeros(0, dtype=np.uint64)

    @property
    def silent(self) -> frozenset[int]:
        """Members that have not answered."""
        return self.members - self._sizes.keys() - self.complete.keys()

    @property
    def empty(self) -> bool:
        """Whether nobody has uploaded."""
        return not self._sizes

    def add(self, member: int, words: bytes) -> None:
        """Add a silent member's upload. One of another length than the first is noted, never added."""
        vector = np.frombuffer(words, dtype="<u8")
        if self.empty:
            self._total = vector.astype(np.uint64)
        elif len(vector) == len(self._total):
            self._total += vector
        self._sizes[member] = len(vector)

    def odd(self) -> tuple[int, ...]:
        """Return the members whose uploads differ in length from the majority's; all, if there is none."""
        size, count = Counter(self._sizes.values()).most_common(1)[0]
        if 2 * count <= len(self._sizes):
            return tuple(sorted(self._sizes))
        return tuple(sorted(member for member, words in self._sizes.items() if words != size))

    @property
    def fits(self) -> bool:
        """Whether the canaries of the whole roster add up: everybody masked for the same context.

        A diagnosis of faults. Against a lying server only the sites' own check counts.
        """
        return int(self._total[-1]) == len(self.roster)

    def sum(self) -> Sum:
        """Return the sum of a roster that has uploaded completely."""
        return Sum(self.number, self.roster, self._total.astype("<u8").tobytes())
