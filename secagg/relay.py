"""The server's part in set-up: keep what members sent, hand it on, and say who is in which wave.

Who is in wave 0, and when listed members that have missed it join, is all that the server decides of set-up. The relay
checks what it can (sender, order, completeness, signatures) only to name a faulty site early; no property of the
protocol rests on it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from secagg.actions import StoredSetup
from secagg.agreement import check_bundle, partners
from secagg.errors import MalformedMessage, MisuseError, SecondMessage, UnexpectedMessage
from secagg.manifest import Manifest
from secagg.messages import (
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    FromServer,
    Invite,
    Ready,
    SetupMessage,
)
from secagg.setup_messages import MAX_WAVES

__all__ = ["Addressed", "Relay"]

Addressed: TypeAlias = tuple[int, FromServer]
"""(receiver, message)"""


@dataclass
class _Wave:
    """One wave: who is in it and what its members have sent.

    Args:
        invite: what began it; None in wave 0.
        members: everybody in it; in wave 0 nobody before it is decided.
    """

    invite: Invite | None = None
    members: frozenset[int] = frozenset()
    bundles: Bundles | None = None
    first: dict[type[SetupMessage], dict[int, SetupMessage]] = field(default_factory=lambda: defaultdict(dict))
    # receiver → sender → what was sent to it, and from how many it has to come
    ciphertexts: dict[int, dict[int, bytes]] = field(default_factory=dict)
    confirmations: dict[int, dict[int, tuple[bytes, bytes]]] = field(default_factory=dict)
    lower: dict[int, int] = field(default_factory=dict)
    peers: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def keep(self, message: SetupMessage) -> None:
        """Take a checked message."""
        self.first[type(message)][_sender(message)] = message
        match message:
            case Encapsulations(sender=sender):
                for peer, ciphertext in message.to:
                    self.ciphertexts.setdefault(peer, {})[sender] = ciphertext
            case Confirmations(sender=sender):
                for peer, mac, box in message.to:
                    self.confirmations.setdefault(peer, {})[sender] = (mac, box)

    def decide(self, bundles: Bundles) -> None:
        """Take the bundles that everybody in this wave gets."""
        self.bundles, self.members = bundles, frozenset(bundles.members)
        self.peers = {member: partners(bundles, member) for member in bundles.members}
        self.lower = {member: sum(peer < member for peer in peers) for member, peers in self.peers.items()}

    @property
    def complete(self) -> bool:
        """Whether everybody in it is ready."""
        return bool(self.members) and self.members <= self.first[Ready].keys()

    def shown(self, bundles: Bundles, bare: tuple[Bundle, ...], member: int) -> Bundles:
        """Return what one member gets: ML-KEM keys only of those it encapsulates to."""
        higher = {peer for peer in self.peers[member] if peer > member}
        rows = zip(bundles.bundles, bare, strict=True)
        return replace(bundles, bundles=tuple(full if full.member in higher else short for full, short in rows))

    def ciphertexts_of(self, number: int, member: int) -> Iterator[Addressed]:
        """Yield a member's batch of ciphertexts if it is whole, and not empty."""
        of = self.ciphertexts.get(member, {})
        if of and len(of) == self.lower[member]:
            yield member, Ciphertexts(number, tuple(sorted(of.items())))

    def confirmed_of(self, number: int, member: int) -> Iterator[Addressed]:
        """Yield a member's batch of confirmations if it is whole."""
        of = self.confirmations.get(member, {})
        if len(of) == len(self.peers[member]):
            yield member, Confirmed(number, tuple((sender, *row) for sender, row in sorted(of.items())))


class Relay:
    """Set-up of one run, the first message of each kind, wave and sender.

    It decides nothing by itself: :meth:`close`, :meth:`invite` and :meth:`settle` return a decision, which the caller
    stores durably, gives back by :meth:`take` and then hands on.

    Args:
        manifest: whose members take part.
        stored: what an earlier server process has stored, in its order.

    Raises:
        MisuseError: the stored messages are not in the order in which they were stored.
    """

    def __init__(self, manifest: Manifest, stored: Sequence[StoredSetup]) -> None:
        self._manifest = manifest
        self._waves = [_Wave()]
        for message in stored:
            if isinstance(message, Bundles | Invite):
                self.take(message)
            elif message.wave < len(self._waves):
                self._waves[message.wave].keep(message)
            else:
                raise MisuseError(f"a stored {type(message).__name__} of wave {message.wave}, which nobody has begun")

    @property
    def ready(self) -> frozenset[int]:
        """Members whose set-up is complete with all others in here: they may share a roster."""
        joined = (wave.invite.newcomers for wave in self._waves if wave.invite and wave.complete)
        return frozenset(self._waves[0].first[Ready]).union(*joined)

    @property
    def missing(self) -> tuple[int, ...]:
        """Members of the manifest whose set-up is not complete."""
        return tuple(sorted(set(self._manifest.indices) - self.ready))

    @property
    def offered(self) -> frozenset[int]:
        """Members whose bundle of wave 0 is here, whether they are in that wave or not."""
        return frozenset(self._waves[0].first[Bundle])

    @property
    def closed(self) -> bool:
        """Whether it is decided who is in wave 0."""
        return self._waves[0].bundles is not None

    # ---- what members send ----

    def store(self, member: int, message: SetupMessage) -> bool:
        """Take a message; return whether it is new (and has to be stored durably and handed on).

        Raises:
            UnexpectedMessage: in another member's name, of a wave the member is not in, or before its time.
            SecondMessage: another one than the first.
            MalformedMessage: not for exactly the peers it has to serve.
            BadSignature, ManifestMismatch: a bundle no honest member accepts.
        """
        who, what = f"member {self._manifest.call(member)}", f"{type(message).__name__} of wave {message.wave}"
        if _sender(message) != member:
            raise UnexpectedMessage(f"{who} sent {what} of member {_sender(message)}")
        if message.wave >= len(self._waves):
            raise UnexpectedMessage(f"{what} of {who}: nobody has begun that wave")
        wave = self._waves[message.wave]
        earlier = wave.first[type(message)].get(member)
        if earlier is not None:
            if earlier == message:
                return False
            raise SecondMessage(f"a second {what} of {who}; the first one is final")
        if not isinstance(message, Bundle):
            self._check(who, wave, message)
        elif wave.invite and member not in wave.members:
            raise UnexpectedMessage(f"{what} of {who}, who was not invited to it")
        elif not message.mlkem:
            raise MalformedMessage(f"{what} of {who} comes without its ML-KEM key")
        else:
            check_bundle(self._manifest, message)
        wave.keep(message)
        return True

    def _check(self, who: str, wave: _Wave, message: Encapsulations | Confirmations | Ready) -> None:
        """Check that a message comes in its sender's turn and serves exactly the sender's new peers."""
        what, sender = f"{type(message).__name__} of wave {message.wave}", _sender(message)
        if wave.bundles is None or sender not in wave.members:
            raise UnexpectedMessage(f"{what} of {who}: the wave is not decided, or without it")
        peers = wave.peers[sender]
        higher = tuple(peer for peer in peers if peer > sender)
        right = True
        match message:
            case Encapsulations():
                right = tuple(peer for peer, _ in message.to) == higher
            case Confirmations():
                right = tuple(peer for peer, _, _ in message.to) == peers
                right = right and all(bool(box) == (sender == wave.bundles.owner) for _, _, box in message.to)
        if not right:
            raise MalformedMessage(f"{what} of {who} do not serve exactly its peers")
        # Batches rely on this order: who is sent confirmations has been sent its ciphertexts.
        before = {Encapsulations: None, Confirmations: Encapsulations if higher else None, Ready: Confirmations}
        needed = before[type(message)]
        if needed is not None and sender not in wave.first[needed]:
            raise UnexpectedMessage(f"{what} of {who} before its {needed.__name__}")

    # ---- what the server decides ----

    def close(self) -> Bundles:
        """Decide wave 0: everybody who has offered a bundle is in it.

        Raises:
            MisuseError: it is decided already, or they are fewer than the smallest roster.
        """
        members = tuple(sorted(self.offered))
        if self.closed or len(members) < self._manifest.minimum_roster:
            least = self._manifest.minimum_roster
            raise MisuseError(f"wave 0 is decided once, with at least {least} bundles; there are {len(members)}")
        return self._collect(0, members[0], members, members)

    def invite(self, present: frozenset[int]) -> Invite | None:
        """Begin a further wave for listed members that have missed all others, if it can complete now.

        Args:
            present: who is connected and has not stopped.

        Returns:
            None while another wave is under way, while a member of an earlier wave is away, or if nobody new is there.
        """
        last = self._waves[-1]
        newcomers = tuple(sorted((self.offered - last.members) & present))
        if not (newcomers and last.complete and last.members <= present and len(self._waves) <= MAX_WAVES):
            return None
        return Invite(len(self._waves), newcomers)

    def settle(self) -> Bundles | None:
        """Return the bundles of an invited wave when the last one has come and they are not stored yet."""
        last, first = self._waves[-1], self._waves[0].bundles
        if not (last.invite and first and last.bundles is None and last.members <= last.first[Bundle].keys()):
            return None
        return self._collect(last.invite.wave, first.owner, last.invite.newcomers, tuple(sorted(last.members)))

    def take(self, message: Bundles | Invite) -> None:
        """Record a decision of the server's own, now that it is stored.

        Raises:
            MisuseError: it does not follow the decisions before.
        """
        last, number = self._waves[-1], len(self._waves)
        match message:
            case Invite(wave=wave) if wave == number and last.bundles:
                self._waves.append(_Wave(message, last.members | set(message.newcomers)))
            case Bundles(wave=wave) if wave == number - 1 and last.bundles is None:
                last.decide(message)
            case _:
                raise MisuseError(f"{type(message).__name__} of wave {message.wave} after wave {number - 1}")

    def _collect(self, number: int, owner: int, newcomers: tuple[int, ...], members: tuple[int, ...]) -> Bundles:
        first = self._waves[number].first[Bundle]
        bundles = (first[member] for member in members)
        return Bundles(number, owner, newcomers, tuple(each for each in bundles if isinstance(each, Bundle)))

    # ---- what receivers get ----

    def hand_on(self, message: StoredSetup) -> list[Addressed]:
        """Return what a newly stored message means for each receiver. Batches go out when they are whole."""
        number, wave = message.wave, self._waves[message.wave]
        match message:
            case Invite():
                return [(member, message) for member in sorted(wave.members)]
            case Bundles():
                bare = message.bare().bundles
                return [(member, wave.shown(message, bare, member)) for member in message.members]
            case Encapsulations():
                return [batch for peer, _ in message.to for batch in wave.ciphertexts_of(number, peer)]
            case Confirmations():
                return [batch for peer, _, _ in message.to for batch in wave.confirmed_of(number, peer)]
            case Bundle() | Ready():
                return []

    def backlog(self, member: int) -> list[Addressed]:
        """Return everything so far that is addressed to a member, in an order it can take.

        Waves in which it has said that it is ready are left out.
        """
        addressed: list[Addressed] = []
        for number, wave in enumerate(self._waves):
            if member not in wave.members or member in wave.first[Ready]:
                continue
            if wave.invite:
                addressed.append((member, wave.invite))
            if wave.bundles:
                addressed.append((member, wave.shown(wave.bundles, wave.bundles.bare().bundles, member)))
                addressed += wave.ciphertexts_of(number, member)
                addressed += wave.confirmed_of(number, member)
        return addressed


def _sender(message: SetupMessage) -> int:
    return message.member if isinstance(message, Bundle | Ready) else message.sender
