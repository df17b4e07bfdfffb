"""Mode B at a site: how a round opens although members have dropped out, and why only one way.

::

    Uploaded ──Survivors / Consent──▶ Consented ──Agreement / Shares──▶ Answered

Every upload carries a self mask besides the pair masks, and its seed b is shared among the roster: t shares give it
back. A site says once which members it holds for survivors (its *consent*, a MAC to each of them), and answers only if
t − 1 others were shown the same survivors. Its answer then opens, for each member, one thing: of a survivor the self
mask, of a member that has dropped out the masks of our pair with it. Both for one member would open its upload; with
2t > n + c two different sets of survivors cannot both find t sites, so nobody collects both.

Whatever is here belongs to one round and is in memory only. Transitions are pure; :class:`secagg.client.Client` drives
them and drops each phase before it answers from it.

Source: Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS 2017, section 6.2
(ConsistencyCheck, Unmasking); with the pair's keys of this round revealed in place of key shares.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import shamir
from secagg.context import Context
from secagg.encoding import enc
from secagg.errors import RosterRefused, Unconfirmed, UnexpectedMessage
from secagg.keys import Entropy, Label, derive, hedged_key
from secagg.masks import Backend, Keystream
from secagg.messages import Agreement, Consent, Shares, Survivors
from secagg.ratchet import RecoveryKeys, RoundKeys

__all__ = [
    "SEED_SIZE",
    "Answered",
    "Consented",
    "Uploaded",
    "agreed",
    "answer",
    "chance",
    "consent",
    "self_mask_key",
    "share",
]

SEED_SIZE = 32
_NONCE = bytes(12)  # a box key has one direction, one context and one use


@dataclass(frozen=True)
class Uploaded:
    """Our upload is out; we wait to be told whose have arrived.

    Args:
        me: our index.
        context: of the round.
        masks: what masked the upload, to be revealed for members that dropped out.
        keys: box and consent keys.
        share: our own share of our self-mask seed.
    """

    me: int
    context: Context
    masks: RoundKeys = field(repr=False)
    keys: RecoveryKeys = field(repr=False)
    share: bytes = field(repr=False)

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.context.round


@dataclass(frozen=True)
class Consented:
    """We have said who the survivors are, and never say anything else about this round."""

    uploaded: Uploaded = field(repr=False)
    survivors: tuple[int, ...]
    consent: Consent = field(repr=False)

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.consent.round


@dataclass(frozen=True)
class Answered:
    """We have done our part in opening this round; its keys are gone.

    The answer is kept until the next round, because a stream may break with it on the way: said again, byte for byte,
    it tells nobody anything new.
    """

    consent: Consent = field(repr=False)
    agreement: Agreement = field(repr=False)
    shares: Shares = field(repr=False)

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.consent.round


def agreed(me: int, survivors: Collection[int], macs_valid_from: frozenset[int], threshold: int) -> bool:
    """Whether a site may answer: with us, `threshold` survivors were shown the same survivors.

    Args:
        me: our index.
        survivors: as we were shown them.
        macs_valid_from: members whose consent to us verifies over exactly these survivors.
        threshold: t.
    """
    # A member that dropped out has keys with us as well; its word does not count, and neither does our own.
    others = frozenset(survivors) - {me}
    return me in survivors and len(macs_valid_from & others) >= threshold - 1


def chance(fresh: bytes, masks: RoundKeys, context: Context, backend: Backend) -> Keystream:
    """Return the octets from which a round's self-mask seed and its shares are made.

    A survivor's seed is opened, and a cloned generator repeats its octets: with the mask keys of the round mixed in, a
    seed says nothing about that of another round even then.

    Args:
        fresh: 32 octets from the operating system, drawn for this round.
        masks: mask keys of the round.
        context: of the round.
        backend: cipher implementation.
    """
    secret = hashlib.sha256(b"".join(key for _, key in sorted(masks.mask.items()))).digest()
    return Keystream(hedged_key(fresh, secret, context.digest), backend)


def self_mask_key(seed: bytes) -> bytes:
    """Key of the stream over all words of one upload, the canary's too; whoever has combined the seed derives it."""
    return derive(seed, Label.SELF_MASK)


def share(
    me: int, context: Context, seed: bytes, masks: RoundKeys, keys: RecoveryKeys, *, threshold: int, entropy: Entropy
) -> tuple[Uploaded, tuple[tuple[int, bytes], ...]]:
    """Share the self-mask seed of a round among its roster.

    Args:
        me: our index.
        context: of the round.
        seed: b, SEED_SIZE octets drawn for this round.
        masks: keys that mask this upload.
        keys: box and consent keys of this round.
        threshold: t.
        entropy: returns unpredictable octets.

    Returns:
        The phase after the upload, and the boxes to go with it: (peer, 48 octets), ascending.
    """
    shares = shamir.split(seed, threshold, context.members, entropy)
    boxes = tuple(
        (peer, AESGCM(key).encrypt(_NONCE, shares[peer], enc(me, peer, context.digest)))
        for peer, key in sorted(keys.seal.items())
    )
    return Uploaded(me, context, masks, keys, shares[me]), boxes


def consent(phase: Uploaded, message: Survivors, threshold: int) -> Consented:
    """Say which survivors we were shown.

    Write the survivors durably before the consent leaves: at most one set per round, ever.

    Raises:
        RosterRefused: somebody who was not asked, without us, or fewer than t.
    """
    members, which = message.members, f"the survivors of round {message.round}"
    if strangers := set(members) - set(phase.context.members):
        raise RosterRefused(f"{which}: member {min(strangers)} was not on the roster")
    if phase.context.terms.share_variance == 0 and members != phase.context.members:
        raise RosterRefused(f"{which}: without noise a sum is over the whole roster or over nobody")
    if phase.me not in members:
        raise RosterRefused(f"{which}: this site, member {phase.me}, has uploaded and is not among them")
    if len(members) < threshold:
        raise RosterRefused(f"{which}: {len(members)} sites, {threshold} are needed to open a sum")
    macs = tuple((peer, _mac(phase, phase.me, peer, members)) for peer in members if peer != phase.me)
    return Consented(phase, members, Consent(phase.me, message.round, macs))


def answer(phase: Consented, message: Agreement, threshold: int) -> Answered:
    """Open our part of the sum of the survivors, and nothing else.

    Raises:
        UnexpectedMessage: share boxes of others than the survivors.
        Unconfirmed: fewer than t − 1 other survivors were shown the same, or a box does not open.
    """
    uploaded, survivors = phase.uploaded, phase.survivors
    me, context, which = uploaded.me, uploaded.context, f"round {message.round}"
    senders = tuple(sender for sender, _ in message.boxes)
    if senders != tuple(member for member in survivors if member != me):
        raise UnexpectedMessage(f"{which}: share boxes of {senders}, the survivors are {survivors}")
    valid = frozenset(
        sender
        for sender, mac in message.macs
        if sender in survivors and sender != me and hmac.compare_digest(mac, _mac(uploaded, sender, me, survivors))
    )
    if not agreed(me, survivors, valid, threshold):
        raise Unconfirmed(
            f"{which}: {len(valid)} other sites were shown the survivors that this site, member {me}, was shown; "
            f"{threshold - 1} are needed"
        )
    shares = {me: uploaded.share} | {sender: _unseal(uploaded, sender, box) for sender, box in message.boxes}
    dropped = (member for member in context.members if member not in survivors)
    keys = tuple((member, uploaded.masks.mask[member] + uploaded.masks.canary[member]) for member in dropped)
    return Answered(phase.consent, message, Shares(me, context.round, tuple(sorted(shares.items())), keys))


def _mac(phase: Uploaded, sender: int, receiver: int, survivors: tuple[int, ...]) -> bytes:
    """MAC by which `sender` tells `receiver` the survivors; one end of the pair is us. It names its direction."""
    key = phase.keys.consent[receiver if sender == phase.me else sender]
    return derive(key, Label.CONSENT, sender, receiver, phase.context.digest, survivors)


def _unseal(phase: Uploaded, sender: int, box: bytes) -> bytes:
    try:
        return AESGCM(phase.keys.unseal[sender]).decrypt(_NONCE, box, enc(sender, phase.me, phase.context.digest))
    except InvalidTag as error:
        raise Unconfirmed(
            f"round {phase.context.round}: the share that member {sender} boxed for us does not open"
        ) from error
