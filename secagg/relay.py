"""The server's part in set-up: keep what members sent, hand it on, decide nothing.

The relay checks what it can (sender, completeness, signatures) only to name a faulty site early; no property
of the protocol rests on it.
"""

from collections.abc import Sequence

from secagg.agreement import check_bundle
from secagg.errors import MalformedMessage, SecondMessage, UnexpectedMessage
from secagg.manifest import Manifest
from secagg.messages import (
    Bundle,
    Bundles,
    Confirmations,
    Encapsulations,
    Ready,
    SetupMessage,
)

__all__ = ["Addressed", "Relay"]

Addressed = tuple[int, Bundles | Encapsulations | Confirmations]
"""(receiver, message)"""


class Relay:
    """Set-up messages of one run, first of each kind and sender.

    Args:
        manifest: whose members take part.
        stored: what an earlier server process has stored, in its order.
    """

    def __init__(self, manifest: Manifest, stored: Sequence[SetupMessage]) -> None:
        self._manifest = manifest
        self._first: dict[tuple[type[SetupMessage], int], SetupMessage] = {}
        for message in stored:
            self._first[type(message), _sender(message)] = message

    @property
    def ready(self) -> frozenset[int]:
        """Members whose set-up is complete."""
        return frozenset(sender for kind, sender in self._first if kind is Ready)

    @property
    def missing(self) -> tuple[int, ...]:
        """Members whose set-up is not complete."""
        return tuple(sorted(set(self._manifest.indices) - self.ready))

    def store(self, member: int, message: SetupMessage) -> bool:
        """Take a message; return whether it is new (and has to be stored durably and handed on).

        Raises:
            UnexpectedMessage: in another member's name, or before all bundles are there.
            SecondMessage: another one than the first.
            MalformedMessage: not for exactly the peers it has to serve.
            BadSignature, ManifestMismatch: a bundle no honest member accepts.
        """
        who = f"member {self._manifest.call(member)}"
        if _sender(message) != member:
            raise UnexpectedMessage(f"{who} sent a {type(message).__name__} of member {_sender(message)}")
        slot = type(message), member
        if slot in self._first:
            if self._first[slot] == message:
                return False
            raise SecondMessage(f"a second {type(message).__name__} of {who}; the first one is final")
        if isinstance(message, Bundle):
            check_bundle(self._manifest, message)
        elif self._bundles() is None:
            raise UnexpectedMessage(f"{type(message).__name__} of {who} before all key bundles are there")
        self._check_receivers(who, message)
        self._first[slot] = message
        return True

    def hand_on(self, message: SetupMessage) -> list[Addressed]:
        """Return what a newly stored message means for each receiver."""
        match message:
            case Bundle():
                bundles = self._bundles()
                return [] if bundles is None else [(member, bundles) for member in self._manifest.indices]
            case Encapsulations(sender, to):
                return [(peer, Encapsulations(sender, ((peer, ciphertext),))) for peer, ciphertext in to]
            case Confirmations(sender, to):
                return [(peer, Confirmations(sender, ((peer, mac, box),))) for peer, mac, box in to]
            case Ready():
                return []

    def backlog(self, member: int) -> list[Addressed]:
        """Return everything so far that is addressed to a member, in an order it can take."""
        bundles = self._bundles()
        if bundles is None:
            return []
        later = [message for message in self._first.values() if not isinstance(message, Bundle)]
        relayed = [addressed for message in later for addressed in self.hand_on(message)]
        return [(member, bundles), *(each for each in relayed if each[0] == member)]

    def _bundles(self) -> Bundles | None:
        found = {sender: each for (_, sender), each in self._first.items() if isinstance(each, Bundle)}
        if set(found) != set(self._manifest.indices):
            return None
        return Bundles(tuple(found[member] for member in self._manifest.indices))

    def _check_receivers(self, who: str, message: SetupMessage) -> None:
        members, lowest = self._manifest.indices, self._manifest.indices[0]
        match message:
            case Encapsulations(sender, to):
                right = [peer for peer, _ in to] == [peer for peer in members if peer > sender]
            case Confirmations(sender, to):
                right = [peer for peer, _, _ in to] == [peer for peer in members if peer != sender]
                right = right and all(bool(box) == (sender == lowest) for _, _, box in to)
            case _:
                right = True
        if not right:
            raise MalformedMessage(f"{type(message).__name__} of {who} do not serve exactly its peers")


def _sender(message: SetupMessage) -> int:
    return message.member if isinstance(message, Bundle | Ready) else message.sender
