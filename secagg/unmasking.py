"""The server's half of mode B: from masked uploads of the survivors to the plain sum of exactly these.

An upload of member u holds, besides its vector: for each other member v of the roster the stream of the pair's mask
key (the lower index of a pair adds, the higher subtracts; the canary word has keys of its own), and one stream of u's
self mask over all words. Between survivors the pair streams cancel; the self masks and the pair streams with members
that dropped out remain, and this module takes them off:

.. math:: Σ_{u∈U3} x_u = Σ_{u∈U3} y_u − Σ_{u∈U3} G(b_u) − Σ_{u∈U3, d∉U3} ±G(K_{ud})

Nothing here detects a wrong share or key: the result is then uniformly random, and its canary does not fit.
"""

from collections.abc import Mapping
from typing import Final

from secagg import masks
from secagg.errors import MisuseError
from secagg.lanes import Words
from secagg.recovery import self_mask_key
from secagg.shamir import Combiner

__all__ = ["open_sum"]

_KEY: Final = 32


def open_sum(
    words: Words,
    roster: tuple[int, ...],
    survivors: tuple[int, ...],
    threshold: int,
    shares: Mapping[int, Mapping[int, bytes]],
    keys: Mapping[int, Mapping[int, bytes]],
    backend: masks.Backend = masks.CTR,
) -> None:
    """Unmask the sum of the survivors' uploads, in place.

    Args:
        words: uint64[w], sum modulo 2⁶⁴ of the uploads of all survivors and nobody else.
        roster: who was asked, ascending.
        survivors: whose uploads are in `words`, ascending.
        threshold: t, how many shares give a seed back.
        shares: holder → survivor → the holder's share of the survivor's self-mask seed (32 octets); at least t
            holders, each with shares of all survivors. Those of the t lowest holders are used.
        keys: survivor → dropped member → mask key ‖ canary key of the pair in this round (64 octets). Of every
            survivor for every member that dropped out; empty if nobody did.
        backend: cipher implementation.

    Raises:
        MisuseError: a share or a key is missing: nothing has changed.
    """
    dropped = tuple(member for member in roster if member not in survivors)
    if len(shares) < threshold or any(set(survivors) - held.keys() for held in shares.values()):
        raise MisuseError(f"{len(shares)} sites hold shares, {threshold} with shares of all survivors are needed")
    if dropped and any(set(dropped) - keys.get(member, {}).keys() for member in survivors):
        raise MisuseError("the keys of every survivor with every member that dropped out are needed")
    combiner = Combiner(sorted(shares)[:threshold])
    seeds = [combiner.combine({holder: held[member] for holder, held in shares.items()}) for member in survivors]
    streams = [self_mask_key(seed) for seed in seeds]
    pairs = [(member, each, keys[member][each]) for member in survivors for each in dropped]
    # The survivor of lower index had added its stream, so that is subtracted; and the other way round.
    added = [key for member, each, key in pairs if member < each]
    subtracted = [key for member, each, key in pairs if member > each]
    masks.apply(words, add=[], subtract=streams, backend=backend)
    # The canary word has keys of its own.
    for part, half in ((words[:-1], slice(_KEY)), (words[-1:], slice(_KEY, None))):
        back, off = [key[half] for key in subtracted], [key[half] for key in added]
        masks.apply(part, add=back, subtract=off, backend=backend)
