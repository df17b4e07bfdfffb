"""Who is there at the server, and whom a round asks. The sites check size and changes of a roster themselves."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secagg.actions import StoreRound, SumRecord
from secagg.errors import MisuseError
from secagg.manifest import Manifest
from secagg.messages import Roster
from secagg.waves import Waves

__all__ = ["Attendance", "Session"]


@dataclass
class Session:
    """One member's present connection."""

    nonce: bytes
    sums: int  # how many sums the member holds or was sent on this connection


class Attendance:
    """Connections, what is known of members, and the rosters so far.

    Args:
        manifest: of the run.
        waves: says whose set-up is complete.
        sums: records of all sums stored so far.
        last_round: the largest round number stored so far.
        roster: of the last round; without it that of the last sum.
        changes: how many roster changes are used; without it counted from the sums.

    Raises:
        MisuseError: sums not in ascending order of round, or beyond `last_round`.
    """

    def __init__(
        self,
        manifest: Manifest,
        waves: Waves,
        sums: Sequence[SumRecord],
        last_round: int,
        roster: tuple[int, ...],
        changes: int,
    ) -> None:
        numbers = [each.round for each in sums]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > last_round):
            raise MisuseError(f"stored sums of rounds {numbers} do not fit a last round of {last_round}")
        rosters = [each.survivors for each in sums]
        self._manifest, self._waves = manifest, waves
        self.last_round = last_round
        self.roster = roster or (rosters[-1] if rosters else ())
        self.changes = max(changes, sum(a != b for a, b in itertools.pairwise(rosters)))
        self.sessions: dict[int, Session] = {}
        self.stalled: set[int] = set()  # missed a deadline and have sent nothing since
        self.gone: dict[int, str] = {}  # stopped for good → code

    def able(self) -> frozenset[int]:
        """Return the members that could upload now."""
        return frozenset((self.sessions.keys() & self._waves.ready) - self.stalled - self.gone.keys())

    def expected(self) -> frozenset[int]:
        """Return whom the first round of a process waits for: the last roster, else the members of wave 0."""
        return frozenset(self.roster or self._waves.founders or self._manifest.indices) - self.gone.keys()

    def choose(self) -> tuple[int, ...] | None:
        """Return the next roster, or None when none is allowed now.

        A site that comes back, or has set up late, is taken only if a change stays in reserve for the next that goes.
        """
        able, now = self.able(), frozenset(self.roster)
        left = self._manifest.roster_changes - self.changes
        if now and now <= able:
            chosen = able if left >= 2 else now
        elif not now or left >= 1:
            chosen = able
        else:
            return None
        return tuple(sorted(chosen)) if len(chosen) >= self._manifest.minimum_roster else None

    def allows(self, members: tuple[int, ...]) -> bool:
        """Whether the change budget allows these to be next."""
        return members == self.roster or self.changes < self._manifest.roster_changes

    def count(self, number: int, members: tuple[int, ...]) -> StoreRound:
        """Note whose sums are asked for from now on, and under which round number."""
        self.changes += bool(self.roster) and members != self.roster
        self.roster, self.last_round = members, number
        return StoreRound(number, members, self.changes)

    def present(self, members: tuple[int, ...]) -> Roster:
        """Return connected members with the nonces of their sessions."""
        return tuple((member, self.sessions[member].nonce) for member in members)

    def too_few(self) -> str | None:
        """Return a sentence if those that have not stopped for good are too few for ever."""
        left = len(self._manifest.indices) - len(self.gone)
        if self.gone and left < self._manifest.minimum_roster:
            return f"only {left} sites are left; stopped: {self.codes()}"
        return None

    def codes(self) -> str:
        """Say who has stopped, and why."""
        return ", ".join(f"{self._manifest.call(member)}: {code}" for member, code in sorted(self.gone.items()))

    def away(self) -> str:
        """Say whom a round would have to do without."""
        return self.names(set(self._manifest.indices) - self.able()) or "nobody"

    def names(self, members: Iterable[int]) -> str:
        """Say the names of members, ascending."""
        return ", ".join(map(self._manifest.call, sorted(members)))
