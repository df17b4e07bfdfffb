"""Who may be the reason that the canaries of a round do not fit, from the round's canary keys alone.

A member's canary word is 1 plus the first word of the canary stream of each pair in which it is the lower index, less
that of each pair in which it is the higher. Both ends of a pair hold the same canary key if, and only if, they masked
for the same context. The keys mask nothing but this word, so revealing them says nothing about data.

It names, it does not convict: of two ends that reveal different keys either may lie, and so may the server.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from secagg import masks
from secagg.adder import Uploading
from secagg.errors import MalformedMessage, SecondMessage, UnexpectedMessage
from secagg.messages import Blame, CanaryKeys, Roster

__all__ = ["Blaming", "Diagnosis", "diagnose"]

_MODULUS: Final = 1 << 64


@dataclass(frozen=True)
class Diagnosis:
    """What the canary keys of one round show.

    Args:
        silent: members that revealed nothing, ascending.
        unexplained: members whose canary word does not follow from the keys they revealed themselves: whatever the
            others did, these uploaded something else than they say. Ascending.
        disagreeing: pairs (lower, higher) whose two ends reveal different keys.
        odd: the one member that disagrees with every other while all the others agree with each other; else None.
    """

    silent: tuple[int, ...]
    unexplained: tuple[int, ...]
    disagreeing: tuple[tuple[int, int], ...]
    odd: int | None

    def sentence(self, call: Callable[[int], str]) -> str:
        """Say it in words.

        Args:
            call: how a member is called: ``Manifest.call``.
        """
        said = []
        if self.odd is not None:
            said.append(
                f"member {call(self.odd)} masked for something else than all the others, which agree: it runs another "
                "study, history or version"
            )
        elif self.disagreeing:
            pairs = "; ".join(f"{call(u)} and {call(v)}" for u, v in self.disagreeing)
            said.append(f"pairs that masked for different things, either end may be wrong: {pairs}")
        if self.unexplained:
            names = ", ".join(map(call, self.unexplained))
            said.append(f"canary word not the one of the keys it shows, by its own doing: {names}")
        if self.silent:
            said.append(f"showed no canary keys: {', '.join(map(call, self.silent))}")
        return ". ".join(each[0].upper() + each[1:] for each in said) or "All canary keys agree: nobody can be named"


def diagnose(
    roster: tuple[int, ...], canaries: Mapping[int, int], revealed: Mapping[int, Mapping[int, bytes]]
) -> Diagnosis:
    """Compare what members uploaded with the canary keys they reveal.

    Args:
        roster: who has uploaded, ascending.
        canaries: member → canary word of its upload, 0…2⁶⁴ − 1; of the whole roster.
        revealed: member → peer → canary key of the pair, 32 octets; complete for each member that is in it.

    Returns:
        The diagnosis. A pair of which one end is silent is in no list.
    """
    first = {key: int(masks.expand(key, 1)[0]) for keys in revealed.values() for key in keys.values()}
    silent = tuple(member for member in roster if member not in revealed)
    heard = [member for member in roster if member in revealed]
    unexplained = []
    for member in heard:
        pads = [first[key] if member < peer else -first[key] for peer, key in revealed[member].items()]
        if (1 + sum(pads)) % _MODULUS != canaries[member]:
            unexplained.append(member)
    disagreeing = tuple((u, v) for u, v in combinations(heard, 2) if revealed[u][v] != revealed[v][u])
    return Diagnosis(silent, tuple(unexplained), disagreeing, _odd(heard, disagreeing))


def _odd(heard: list[int], disagreeing: tuple[tuple[int, int], ...]) -> int | None:
    """Return the member that all disagreements have in common, if it disagrees with everybody."""
    # Of two that disagree, neither is the odd one: there is nobody whom they could differ from.
    for member in heard if len(heard) > 2 else []:
        if disagreeing == tuple(pair for pair in combinations(heard, 2) if member in pair):
            return member
    return None


class Blaming:
    """The server's phase after a complete roster whose canaries do not fit: it asks for canary keys, then stops.

    Args:
        uploads: the stage before.
    """

    def __init__(self, uploads: Uploading) -> None:
        self.number: Final[int] = uploads.number
        self.roster: Final[Roster] = uploads.roster
        self.lost = set(uploads.lost)
        self._members = uploads.members
        self._canaries = uploads.canaries
        self._revealed: dict[int, dict[int, bytes]] = {}

    @property
    def silent(self) -> frozenset[int]:
        """Members that have revealed nothing and still may."""
        return frozenset(self._members) - self._revealed.keys() - self.lost

    def lose(self, member: int) -> None:
        """Expect nothing more of a member."""
        self.lost.add(member)

    def question(self, _member: int) -> Blame:
        """Return what every member is asked."""
        return Blame(self.number)

    def take(self, keys: CanaryKeys) -> None:
        """Take the canary keys of a member.

        Raises:
            UnexpectedMessage: it was not on the roster.
            MalformedMessage: not for exactly its peers.
            SecondMessage: others than its first.
        """
        member, revealed = keys.member, dict(keys.keys)
        if member not in self._members:
            raise UnexpectedMessage(f"member {member} shows canary keys of round {self.number} and was not in it")
        if [*revealed] != [peer for peer in self._members if peer != member]:
            raise MalformedMessage(
                f"member {member} shows canary keys of round {self.number} not for exactly its peers"
            )
        if self._revealed.setdefault(member, revealed) != revealed:
            raise SecondMessage(f"member {member} shows other canary keys of round {self.number} than before")

    def diagnosis(self) -> Diagnosis:
        """Compare what has been revealed."""
        return diagnose(self._members, self._canaries, self._revealed)
