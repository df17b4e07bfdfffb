"""Messages of set-up. It goes in waves: wave 0 for everybody who is there, a later one for who has missed it.

:mod:`secagg.messages` lists all arrows and encodes them.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Self

from secagg import fields as check
from secagg.encoding import digest
from secagg.errors import MalformedMessage
from secagg.keys import CIPHERTEXT_SIZE, GROUP_BOX_SIZE, MLKEM_SIZE, Label

__all__ = [
    "MAX_WAVES",
    "Bundle",
    "Bundles",
    "Ciphertexts",
    "Confirmations",
    "Confirmed",
    "Encapsulations",
    "Invite",
    "Ready",
]

MAX_WAVES: Final = 1 << 10


@dataclass(frozen=True)
class Bundle:
    """A member's ephemeral public keys for one wave; the first one of a member and wave is final.

    Args:
        member: whose keys.
        wave: 0, or the number in the Invite it answers.
        x25519: public key, 32 octets.
        mlkem: ML-KEM-768 encapsulation key, 1184 octets; left out (no octets) for receivers that do not encapsulate to
            this member.
        mlkem_digest: SHA-256 that stands for `mlkem` wherever it is signed or hashed, 32 octets.
        manifest_digest: the manifest this member signed up for, 32 octets.
        signature: by the member's identity, 64 octets.
    """

    member: int
    wave: int
    x25519: bytes = field(repr=False)
    mlkem: bytes = field(repr=False)
    mlkem_digest: bytes = field(repr=False)
    manifest_digest: bytes
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "wave", 0, MAX_WAVES)
        check.octets(self, "x25519", 32)
        check.octets(self, "mlkem_digest", 32)
        check.octets(self, "manifest_digest", 32)
        check.octets(self, "signature", 64)
        if self.mlkem == b"":
            return
        check.octets(self, "mlkem", MLKEM_SIZE)
        if digest(Label.MLKEM, self.mlkem) != self.mlkem_digest:
            raise MalformedMessage(f"Bundle of {self.member}: the ML-KEM key is not the one its digest stands for")

    def bare(self) -> Self:
        """Return the bundle without its ML-KEM key: what is hashed, and what most receivers get."""
        return replace(self, mlkem=b"")


@dataclass(frozen=True)
class Invite:
    """The server begins a further wave: everybody answers with a Bundle of that wave.

    Args:
        wave: one more than the last.
        newcomers: the listed members that have missed every wave so far, ascending.
    """

    wave: int
    newcomers: tuple[int, ...]

    def __post_init__(self) -> None:
        check.number(self, "wave", 1, MAX_WAVES)
        check.members(self, "newcomers")


@dataclass(frozen=True)
class Bundles:
    """The bundles of one wave, in ascending order of member.

    Args:
        wave: 0 or as in the Invite.
        owner: the member that gives the group key to the newcomers: the lowest of wave 0.
        newcomers: in wave 0 everybody; later as in the Invite.
        bundles: of everybody in this wave. A bundle has its ML-KEM key for receivers of lower index only.
    """

    wave: int
    owner: int
    newcomers: tuple[int, ...]
    bundles: tuple[Bundle, ...]

    def __post_init__(self) -> None:
        check.number(self, "wave", 0, MAX_WAVES)
        check.member(self, self.owner)
        check.members(self, "newcomers")
        check.records(self, "bundles", Bundle)
        check.ascending(self, self.members)
        if any(bundle.wave != self.wave for bundle in self.bundles):
            raise MalformedMessage(f"Bundles of wave {self.wave}: a bundle belongs to another wave")
        if not set(self.newcomers) <= set(self.members) or self.owner not in self.members:
            raise MalformedMessage(f"Bundles of wave {self.wave}: a newcomer or the owner has no bundle in it")
        if self.wave == 0 and (self.newcomers != self.members or self.owner != self.members[0]):
            raise MalformedMessage(
                "Bundles of wave 0: everybody is new in it, and its lowest member owns the group key"
            )

    @property
    def members(self) -> tuple[int, ...]:
        """Everybody in this wave, ascending."""
        return tuple(bundle.member for bundle in self.bundles)

    def bare(self) -> Self:
        """Return the bundles without ML-KEM keys: the same for every receiver, hence what is hashed."""
        return replace(self, bundles=tuple(bundle.bare() for bundle in self.bundles))


@dataclass(frozen=True)
class Encapsulations:
    """ML-KEM ciphertexts from `sender` to members of higher index: (peer, 1088 octets), ascending."""

    sender: int
    wave: int
    to: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.sender)
        check.number(self, "wave", 0, MAX_WAVES)
        check.entries(self, "to", CIPHERTEXT_SIZE)
        if any(peer <= self.sender for peer, _ in self.to):
            raise MalformedMessage(f"Encapsulations of {self.sender}: the lower index encapsulates to the higher")


@dataclass(frozen=True)
class Ciphertexts:
    """The ciphertexts of one wave for one receiver: (sender, 1088 octets), ascending; all of them at once."""

    wave: int
    of: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.number(self, "wave", 0, MAX_WAVES)
        check.entries(self, "of", CIPHERTEXT_SIZE)


@dataclass(frozen=True)
class Confirmations:
    """Key confirmations from `sender`, ascending: (peer, MAC of 32 octets, boxed group key or nothing).

    Only the owner of the group key boxes it, to newcomers; a box has 48 octets.
    """

    sender: int
    wave: int
    to: tuple[tuple[int, bytes, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.member(self, self.sender)
        check.number(self, "wave", 0, MAX_WAVES)
        _confirmations(self, "to")
        if any(peer == self.sender for peer, _, _ in self.to):
            raise MalformedMessage(f"Confirmations of {self.sender}: nobody confirms to himself")


@dataclass(frozen=True)
class Confirmed:
    """The confirmations of one wave for one receiver: (sender, MAC, box or nothing), ascending; all at once."""

    wave: int
    of: tuple[tuple[int, bytes, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        check.number(self, "wave", 0, MAX_WAVES)
        _confirmations(self, "of")


@dataclass(frozen=True)
class Ready:
    """This member shares confirmed keys with everybody in this wave and the ones before."""

    member: int
    wave: int

    def __post_init__(self) -> None:
        check.member(self, self.member)
        check.number(self, "wave", 0, MAX_WAVES)


def _confirmations(message: object, name: str) -> None:
    rows = getattr(message, name)
    if not isinstance(rows, tuple) or not all(isinstance(row, tuple) and len(row) == 3 for row in rows):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be (member, MAC, box) entries")
    for peer, mac, box in rows:
        check.member(message, peer)
        if not (check.is_octets(mac, 32) and (check.is_octets(box, 0) or check.is_octets(box, GROUP_BOX_SIZE))):
            raise MalformedMessage(f"{type(message).__name__} of {peer}: a MAC has 32 octets, a box 48 or none")
    check.ascending(message, tuple(peer for peer, _, _ in rows))
