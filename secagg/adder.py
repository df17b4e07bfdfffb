"""The upload stage of one round at the server: a running sum modulo 2⁶⁴ and who has answered.

Mode A adds every part of an upload as it comes: the memory is one vector, whatever the number of sites. A member that
breaks off in the middle spoils the sum, but it has also made the round impossible. Mode B needs the sum of those who
got through, so a member's parts wait until its upload is whole.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final

import numpy as np

from secagg.errors import MalformedMessage
from secagg.lanes import Words
from secagg.manifest import Manifest, Mode
from secagg.messages import Part, Roster, Step, Sum

__all__ = ["Uploading"]

_WORD: Final = 8


class Uploading:
    """The server's phase in which members of a roster upload.

    Args:
        number: of the round.
        sums: how many sums the run has before it.
        roster: who is asked.
        manifest: of the run.
    """

    def __init__(self, number: int, sums: int, roster: Roster, manifest: Manifest) -> None:
        self.number, self.roster, self._step = number, roster, Step(number, sums, roster)
        self.members = tuple(member for member, _ in roster)
        self.complete: dict[int, bytes] = {}  # transcripts of those who have all sums of the study
        self.canaries: dict[int, int] = {}  # last words of those whose upload is whole
        self.boxes: dict[int, dict[int, bytes]] = {}  # mode B: sender → peer → boxed share
        self.needed = len(roster) if manifest.mode is Mode.A else manifest.threshold  # uploads for a sum
        self._mode, self._least = manifest.mode, manifest.minimum_roster
        self._sizes: dict[int, int] = {}  # octets announced
        self._taken: dict[int, int] = {}  # octets that have come
        self._waiting: dict[
            int, bytearray
        ] = {}  # mode B: uploads that are not whole; octets, however many parts they are
        self._total: Words = np.zeros(0, dtype=np.uint64)
        self.lost: set[int] = set()  # will not answer in this round any more

    @property
    def silent(self) -> frozenset[int]:
        """Members whose answer is not whole and may still come."""
        return frozenset(self.members) - self.canaries.keys() - self.complete.keys() - self.lost

    @property
    def whole(self) -> tuple[int, ...]:
        """Members whose upload is whole, ascending."""
        return tuple(sorted(self.canaries))

    def question(self, _member: int) -> Step:
        """Return what every member is asked."""
        return self._step

    def take(self, part: Part) -> None:
        """Take the next part of a silent member's upload. One of another size than the first is noted, never added.

        Raises:
            MalformedMessage: not the part that comes next, of another size than announced, or with boxes for others
                than the roster's other members (in mode A: for anybody). Nothing has changed.
        """
        member, which = part.member, f"member {part.member}, round {self.number}"
        size, taken = self._sizes.get(member, part.size), self._taken.get(member, 0)
        if (part.size, part.offset) != (size, taken):
            raise MalformedMessage(
                f"{which}: a part at octet {part.offset} of {part.size} follows {taken} octets of {size}"
            )
        peers = [peer for peer in self.members if peer != member] if part.last and self._mode is Mode.B else []
        if [peer for peer, _ in part.boxes] != peers:
            raise MalformedMessage(f"{which}: {len(part.boxes)} share boxes, not one for each of {len(peers)} members")
        self._sizes[member], self._taken[member] = size, taken + len(part.words)
        if self._mode is Mode.A:
            self._add(part.words, part.offset, part.size)
        else:
            self._waiting.setdefault(member, bytearray()).extend(part.words)
        if part.last:
            if self._mode is Mode.B:
                self._add(self._waiting.pop(member), 0, part.size)
            self.boxes[member] = dict(part.boxes)
            self.canaries[member] = int.from_bytes(part.words[-_WORD:], "little")

    def disconnect(self, member: int) -> None:
        """A member's connection has broken: what has come of an upload that is not whole is void."""
        if member in self.silent and self._mode is Mode.A:
            self.lose(member)
        elif self._waiting.pop(member, None) is not None:
            del self._sizes[member], self._taken[member]  # the same upload may come again from its beginning

    def lose(self, member: int) -> None:
        """Expect nothing more of a member. What it has sent whole stays."""
        if member in self.members:
            self.lost.add(member)
            self._waiting.pop(member, None)

    @property
    def hopeless(self) -> bool:
        """Whether fewer members than needed have answered or still may."""
        if not self.lost:  # asked after every part of every upload
            return False
        lost = self.lost - self.canaries.keys() - self.complete.keys()
        return len(self.members) - len(lost) < self.needed

    def closing(self, connected: Collection[int]) -> bool:
        """Whether every connected member, and enough of them, has all sums of the study instead of an upload."""
        here = {member for member in self.members if member in connected}
        return not self.canaries and here <= self.complete.keys() and len(self.complete) >= self._least

    def dissenters(self) -> list[int]:
        """Return the members that end with another transcript than most."""
        usual = Counter(self.complete.values()).most_common(1)[0][0]
        return sorted(member for member, transcript in self.complete.items() if transcript != usual)

    def _add(self, octets: bytes | bytearray, offset: int, size: int) -> None:
        if not len(self._total):
            self._total = np.zeros(size // _WORD, dtype=np.uint64)
        if size == _WORD * len(self._total):
            place = self._total[offset // _WORD : (offset + len(octets)) // _WORD]
            np.add(place, np.frombuffer(octets, dtype="<u8"), out=place)

    def odd(self) -> tuple[int, ...]:
        """Return the members whose upload is whole and of another size than the majority's; all, if there is none."""
        sizes = {member: self._sizes[member] for member in self.whole}
        size, count = Counter(sizes.values()).most_common(1)[0]
        if 2 * count <= len(sizes):
            return self.whole
        return tuple(member for member in self.whole if sizes[member] != size)

    @property
    def fits(self) -> bool:
        """Mode A: whether the canaries of the whole roster add up: everybody masked for the same context.

        A diagnosis of faults. Against a lying server only the sites' own check counts.
        """
        return int(self._total[-1]) == len(self.roster)

    def surrender(self) -> Words:
        """Return the running sum for good: uint64[w], of the members whose upload is whole."""
        total, self._total = self._total, np.zeros(0, dtype=np.uint64)
        return total

    def sum(self) -> Sum:
        """Mode A: return the sum of a roster that has uploaded completely, and let go of the running sum."""
        return Sum(self.number, self.roster, self.members, self.surrender().astype("<u8", copy=False).tobytes())
