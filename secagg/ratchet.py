"""Chain keys that only turn forward, one per peer.

c_{uv,0} comes from set-up and c_{uv,r+1} = HMAC(c_{uv,r}, "next"). Round r masks under keys derived from
c_{uv,r}; a site that has gone past r holds only later keys, so whoever seizes it opens no earlier upload.
That is as good as
the deletion on disk: the state belongs in one file that is replaced, never in a database or a backup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from secagg.errors import MisuseError
from secagg.keys import Label, canary_key, mask_key, next_chain_key
from secagg.manifest import Mode

__all__ = ["WINDOW", "Ratchet", "RoundKeys"]

WINDOW: Final = 1024  # how far a server may make a site turn at once

_MASKS: Final = {Mode.A: Label.MASK_A, Mode.B: Label.MASK_B}


@dataclass(frozen=True)
class RoundKeys:
    """Mask keys towards the roster's other members, split by sign: the lower index of a pair adds."""

    add: tuple[bytes, ...] = field(repr=False)
    subtract: tuple[bytes, ...] = field(repr=False)
    canary_add: tuple[bytes, ...] = field(repr=False)
    canary_subtract: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class Ratchet:
    """The chain keys of all peers at one position.

    Args:
        position: the smallest round these keys still serve.
        chains: peer → chain key of that round, 32 octets.
    """

    position: int
    chains: Mapping[int, bytes] = field(repr=False)

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
        """Derive the mask keys of the round at the present position."""
        higher = [self.chains[peer] for peer in members if peer > me]
        lower = [self.chains[peer] for peer in members if peer < me]
        return RoundKeys(
            add=tuple(mask_key(chain, _MASKS[mode], context) for chain in higher),
            subtract=tuple(mask_key(chain, _MASKS[mode], context) for chain in lower),
            canary_add=tuple(canary_key(chain, context) for chain in higher),
            canary_subtract=tuple(canary_key(chain, context) for chain in lower),
        )
