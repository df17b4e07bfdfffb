"""Mode B after the uploads, at the server: consent to the survivors, then what opens their sum.

The server decides nothing here that a site has to believe: it relays, counts to the threshold, and tries whether the
sum opens. A site answers each stage once.
"""

from typing import Final

from secagg.adder import Uploading
from secagg.errors import MalformedMessage, SecondMessage, UnexpectedMessage
from secagg.lanes import Words
from secagg.masks import Backend
from secagg.messages import Agreement, Consent, Roster, Shares, Sum, Survivors
from secagg.unmasking import open_sum

__all__ = ["Consenting", "Revealing"]


class Consenting:
    """The server's phase in which survivors tell each other who they were shown to be.

    Args:
        uploads: the stage before; its running sum is taken over.
    """

    def __init__(self, uploads: Uploading) -> None:
        self.number: Final[int] = uploads.number
        self.roster: Final[Roster] = uploads.roster
        self.survivors: Final = uploads.whole
        self.dropped: Final = tuple(member for member in uploads.members if member not in self.survivors)
        self.consents: dict[int, dict[int, bytes]] = {}  # sender → receiver → MAC
        self.lost = uploads.lost & set(self.survivors)
        self.total: Final[Words] = uploads.surrender()
        self._boxes = uploads.boxes

    @property
    def silent(self) -> frozenset[int]:
        """Survivors that have not consented and still may."""
        return frozenset(self.survivors) - self.consents.keys() - self.lost

    def lose(self, member: int) -> None:
        """Expect nothing more of a member."""
        self.lost.add(member)

    def question(self, _member: int) -> Survivors:
        """Return what every survivor is shown."""
        return Survivors(self.number, self.survivors)

    def take(self, consent: Consent) -> None:
        """Take a survivor's consent.

        Raises:
            UnexpectedMessage: the sender has dropped out of this round.
            MalformedMessage: not for exactly the other survivors.
            SecondMessage: another one than the sender's first.
        """
        member, macs = consent.sender, dict(consent.to)
        _expected("a consent", member, self.number, self.survivors)
        _exactly("MACs", member, consent.to, [each for each in self.survivors if each != member])
        if self.consents.setdefault(member, macs) != macs:
            raise SecondMessage(f"member {member} sent a second consent for round {self.number}; the first is final")

    def enough(self, threshold: int) -> bool:
        """Whether the sum may still open: t survivors have consented, and everybody if one has dropped out.

        Each survivor's keys with a member that dropped out are needed, and only who has consented is asked for them.
        """
        needed = len(self.survivors) if self.dropped else threshold
        return len(self.consents) >= needed

    def agreement(self, receiver: int) -> Agreement:
        """Return the others' MACs and boxes for one survivor."""
        macs = [(each, macs[receiver]) for each, macs in self.consents.items() if each != receiver]
        boxes = [(each, self._boxes[each][receiver]) for each in self.survivors if each != receiver]
        return Agreement(self.number, tuple(sorted(macs)), tuple(boxes))


class Revealing:
    """The server's phase in which those that have consented reveal what opens the sum of the survivors.

    Args:
        consents: the stage before.
    """

    def __init__(self, consents: Consenting) -> None:
        self.number: Final[int] = consents.number
        self.roster: Final[Roster] = consents.roster
        self.asked: Final = tuple(sorted(consents.consents))
        self.lost = consents.lost & set(self.asked)
        self.shares: dict[int, Shares] = {}
        self._consents = consents

    @property
    def silent(self) -> frozenset[int]:
        """Members that have consented, have revealed nothing and still may."""
        return frozenset(self.asked) - self.shares.keys() - self.lost

    def lose(self, member: int) -> None:
        """Expect nothing more of a member."""
        self.lost.add(member)

    def question(self, receiver: int) -> Agreement:
        """Return what a member is shown that has consented."""
        return self._consents.agreement(receiver)

    def take(self, shares: Shares) -> None:
        """Take what a member reveals.

        Raises:
            UnexpectedMessage: the member was not asked.
            MalformedMessage: not for exactly the survivors and the members that dropped out.
            SecondMessage: another one than the member's first.
        """
        member = shares.member
        _expected("shares", member, self.number, self.asked)
        _exactly("shares", member, shares.shares, list(self._consents.survivors))
        _exactly("keys", member, shares.keys, list(self._consents.dropped))
        if self.shares.setdefault(member, shares) != shares:
            raise SecondMessage(f"member {member} sent second shares for round {self.number}; the first are final")

    def enough(self, threshold: int) -> bool:
        """Whether the sum can be opened."""
        needed = len(self._consents.survivors) if self._consents.dropped else threshold
        return len(self.shares) >= needed

    def sum(self, threshold: int, backend: Backend) -> Sum | None:
        """Open the sum of the survivors, once; None if its canary shows that a share, a key or an upload is wrong."""
        words, survivors = self._consents.total, self._consents.survivors
        open_sum(
            words,
            tuple(member for member, _ in self.roster),
            survivors,
            threshold,
            {member: dict(each.shares) for member, each in self.shares.items()},
            {member: dict(each.keys) for member, each in self.shares.items()},
            backend,
        )
        if int(words[-1]) != len(survivors):
            return None
        return Sum(self.number, self.roster, survivors, words.astype("<u8", copy=False).tobytes())


def _expected(what: str, member: int, number: int, members: tuple[int, ...]) -> None:
    """Insist on a member that is asked."""
    if member not in members:
        raise UnexpectedMessage(f"member {member} sent {what} for round {number} and was not asked")


def _exactly(what: str, member: int, entries: tuple[tuple[int, bytes], ...], members: list[int]) -> None:
    """Insist on one entry for each of these members."""
    if [each for each, _ in entries] != members:
        raise MalformedMessage(f"member {member} sent {what} for others than exactly the members {members}")
