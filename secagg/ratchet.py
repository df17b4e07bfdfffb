"""Chain keys that only turn forward, one per peer.

c_{uv,0} comes from set-up and c_{uv,r+1} = HMAC(c_{uv,r}, "next"). Round r works under keys derived from
c_{uv,r}; a site that has gone past r holds only later keys, so whoever seizes it opens no earlier upload.
That is as good as the deletion on disk: the state belongs in one file that is replaced, never in a database or a
backup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

from secagg.errors import MisuseError
from secagg.keys import Label, canary_key, derive, mask_key, next_chain_key, uncopied
from secagg.manifest import Mode

__all__ = ["WINDOW", "PerPeer", "Ratchet", "RecoveryKeys", "RoundKeys", "signed"]

WINDOW: Final = 1024  # how far a server may make a site turn at once

_MASKS: Final = {Mode.A: Label.MASK_A, Mode.B: Label.MASK_B}

PerPeer: TypeAlias = Mapping[int, bytes]
"""Member → key of 32 octets."""


@dataclass(frozen=True)
class RoundKeys:
    """What masks one member's upload of one round.

    Args:
        mask: peer → key of the pair's mask on data words and tag.
        canary: peer → key of the pair's mask on the canary word alone.
    """

    mask: PerPeer = field(repr=False)
    canary: PerPeer = field(repr=False)

    __reduce__ = uncopied


@dataclass(frozen=True)
class RecoveryKeys:
    """Mode B: what else a member shares with each peer for one round.

    Args:
        seal: peer → key of the share box from us to it.
        unseal: peer → key of the share box from it to us.
        consent: peer → key of the consent MACs between us, which name their direction.
    """

    seal: PerPeer = field(repr=False)
    unseal: PerPeer = field(repr=False)
    consent: PerPeer = field(repr=False)

    __reduce__ = uncopied


@dataclass(frozen=True)
class Ratchet:
    """The chain keys of all peers at one position.

    Args:
        position: the smallest round these keys still serve.
        chains: peer → chain key of that round, 32 octets.
    """

    position: int
    chains: PerPeer = field(repr=False)

    __reduce__ = uncopied

    def advance(self, position: int) -> Self:
        """Return the ratchet at a later position.

        Raises:
            MisuseError: earlier than the present one: those keys are gone.
        """
        if position < self.position:
            raise MisuseError(f"chain keys of round {position} are gone; the ratchet is at {self.position}")
        chains = dict(self.chains)
        for peer, chain in chains.items():
            for _ in range(position - self.position):
                chain = next_chain_key(chain)  # noqa: PLW2901  # the old key must not keep a name
            chains[peer] = chain
        return type(self)(position, chains)

    def keys(self, me: int, members: tuple[int, ...], mode: Mode, context: bytes) -> RoundKeys:
        """Derive the mask keys of the round at the present position, for every other member."""
        chains = self._of(me, members)
        return RoundKeys(
            mask={peer: mask_key(chain, _MASKS[mode], context) for peer, chain in chains.items()},
            canary={peer: canary_key(chain, context) for peer, chain in chains.items()},
        )

    def recovery_keys(self, me: int, members: tuple[int, ...], context: bytes) -> RecoveryKeys:
        """Derive the other keys of mode B for the same round. A box key has one direction, or two boxes shared it."""
        chains = self._of(me, members)
        return RecoveryKeys(
            seal={peer: derive(chain, Label.SHARE_BOX, me, peer, context) for peer, chain in chains.items()},
            unseal={peer: derive(chain, Label.SHARE_BOX, peer, me, context) for peer, chain in chains.items()},
            consent={peer: derive(chain, Label.CONSENT_KEY, context) for peer, chain in chains.items()},
        )

    def _of(self, me: int, members: tuple[int, ...]) -> PerPeer:
        return {peer: self.chains[peer] for peer in members if peer != me}


def signed(me: int, keys: PerPeer) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the keys whose streams `me` adds, and those it subtracts: the lower index of a pair adds."""
    return (
        tuple(key for peer, key in keys.items() if peer > me),
        tuple(key for peer, key in keys.items() if peer < me),
    )
