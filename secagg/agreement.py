"""Key agreement of one member: from a signed bundle to confirmed chain keys with every peer.

Phases, each owning only what exists in it; :class:`secagg.client.Client` drives them::

    Advertised ──Bundles──▶ Agreeing ──last Encapsulations──▶ Confirming ──last Confirmations──▶ Agreed
                     │                                            ▲
                     └── lowest index: no ciphertext to wait for ─┘

Confirmations of a peer may arrive as soon as our pair keys with it exist, hence already while agreeing.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from secagg.encoding import digest
from secagg.errors import (
    MalformedMessage,
    ManifestMismatch,
    SecondMessage,
    Unconfirmed,
    UnexpectedMessage,
)
from secagg.keys import (
    GROUP_KEY_SIZE,
    PROTOCOL_VERSION,
    Entropy,
    Ephemeral,
    Identity,
    Label,
    PairKeys,
    Purpose,
    confirmation,
    draw,
    encapsulate,
    open_group_box,
    pair_keys,
    seal_group_box,
    verify,
)
from secagg.manifest import Manifest
from secagg.messages import Bundle, Bundles, Confirmations, Encapsulations, Ready, SetupMessage, encode

__all__ = [
    "Advertised",
    "Agreed",
    "Agreeing",
    "Confirming",
    "SetupPhase",
    "advertise",
    "check_bundle",
    "on_bundles",
    "on_confirmations",
    "on_encapsulations",
]

_NO_GROUP_KEY: Final = b""  # every member but the lowest gets it in a box


@dataclass(frozen=True)
class Advertised:
    """Our bundle is out; we wait for everybody's."""

    ephemeral: Ephemeral
    group: bytes = field(repr=False)
    sent: tuple[SetupMessage, ...] = field(repr=False)


@dataclass(frozen=True)
class Agreeing:
    """We have encapsulated to higher members and wait for ciphertexts of lower ones."""

    ephemeral: Ephemeral
    group: bytes = field(repr=False)
    bundles: Bundles = field(repr=False)
    pairs: Mapping[int, PairKeys]
    confirmed: frozenset[int]
    sent: tuple[SetupMessage, ...] = field(repr=False)


@dataclass(frozen=True)
class Confirming:
    """We share keys with everybody, the ephemeral keys are gone, and wait for confirmations."""

    group: bytes = field(repr=False)
    setup: bytes
    pairs: Mapping[int, PairKeys]
    confirmed: frozenset[int]
    sent: tuple[SetupMessage, ...] = field(repr=False)


@dataclass(frozen=True)
class Agreed:
    """Set-up is complete; nothing is left of it but chain keys and the group key."""

    group: bytes = field(repr=False)
    chains: Mapping[int, bytes] = field(repr=False)
    sent: tuple[SetupMessage, ...] = field(repr=False)


SetupPhase: TypeAlias = Advertised | Agreeing | Confirming | Agreed


def advertise(manifest: Manifest, me: int, identity: Identity, entropy: Entropy) -> Advertised:
    """Draw this run's ephemeral keys and sign their bundle.

    The lowest member draws the group key now, not when it boxes it: a restored disk then boxes the same one
    again, and no key ever encrypts two of them.
    """
    ephemeral = Ephemeral.generate(entropy)
    group = draw(entropy, GROUP_KEY_SIZE) if me == manifest.indices[0] else _NO_GROUP_KEY
    x25519, mlkem = ephemeral.public()
    signature = identity.sign(Purpose.BUNDLE, *_signed(manifest, me, x25519, mlkem))
    return Advertised(ephemeral, group, sent=(Bundle(me, x25519, mlkem, manifest.digest(), signature),))


def check_bundle(manifest: Manifest, bundle: Bundle) -> None:
    """Accept only a bundle over our manifest, signed by the pinned identity of its member.

    Raises:
        UnexpectedMessage: the member is not in the manifest.
        ManifestMismatch: it signed another manifest.
        BadSignature: the signature does not verify.
    """
    who = f"member {manifest.call(bundle.member)}"
    if bundle.member not in manifest.indices:
        raise UnexpectedMessage(f"a key bundle of {who}")
    if bundle.manifest_digest != manifest.digest():
        raise ManifestMismatch(f"{who} signed up for another manifest than this site: compare the study's digests")
    signed = _signed(manifest, bundle.member, bundle.x25519, bundle.mlkem)
    verify(manifest.member(bundle.member).identity, bundle.signature, who, Purpose.BUNDLE, *signed)


def on_bundles(phase: Advertised, message: Bundles, manifest: Manifest, me: int) -> SetupPhase:
    """Check everybody's keys and encapsulate to the higher members."""
    present = tuple(bundle.member for bundle in message.bundles)
    if present != manifest.indices:
        raise MalformedMessage(f"bundles of members {present}; the manifest has {manifest.indices}")
    for bundle in message.bundles:
        check_bundle(manifest, bundle)
    by_member = {bundle.member: bundle for bundle in message.bundles}
    if by_member[me] not in phase.sent:
        raise SecondMessage(
            f"the bundle listed for this site, member {manifest.call(me)}, is not the one we sent: another "
            "process runs under our identity, or this directory was set up anew"
        )
    pairs, ciphertexts = {}, []
    for peer in present:
        if peer > me:
            secret, ciphertext = encapsulate(by_member[peer].mlkem, f"member {manifest.call(peer)}")
            pairs[peer] = _pair(phase, by_member, manifest, (me, peer), (secret, ciphertext))
            ciphertexts.append((peer, ciphertext))
    sent = phase.sent + ((Encapsulations(me, tuple(ciphertexts)),) if ciphertexts else ())
    agreeing = Agreeing(phase.ephemeral, phase.group, message, pairs, frozenset(), sent)
    return _settle(agreeing, manifest, me)


def on_encapsulations(phase: Agreeing, message: Encapsulations, manifest: Manifest, me: int) -> SetupPhase:
    """Derive the pair keys with one lower member."""
    sender, who = message.sender, f"member {manifest.call(message.sender)}"
    if sender not in manifest.indices or sender >= me or [peer for peer, _ in message.to] != [me]:
        raise UnexpectedMessage(f"ciphertexts of {who} for {[peer for peer, _ in message.to]}, we are {me}")
    ciphertext = message.to[0][1]
    secret = phase.ephemeral.decapsulate(ciphertext, who)
    by_member = {bundle.member: bundle for bundle in phase.bundles.bundles}
    keys = _pair(phase, by_member, manifest, (me, sender), (secret, ciphertext))
    return _settle(replace(phase, pairs={**phase.pairs, sender: keys}), manifest, me)


def on_confirmations(phase: Agreeing | Confirming, message: Confirmations, manifest: Manifest, me: int) -> SetupPhase:
    """Check that a peer holds the same keys and saw the same bundles; take the group key from the lowest."""
    sender, lowest = message.sender, manifest.indices[0]
    if sender not in phase.pairs or [peer for peer, _, _ in message.to] != [me]:
        raise UnexpectedMessage(f"confirmations of member {manifest.call(sender)} that are not for us or too early")
    _, mac, box = message.to[0]
    setup = phase.setup if isinstance(phase, Confirming) else _setup_digest(phase.bundles, manifest)
    if not hmac.compare_digest(mac, confirmation(phase.pairs[sender], sender, me, setup)):
        raise Unconfirmed(f"member {manifest.call(sender)} does not hold our pair keys or saw other key bundles")
    if bool(box) != (sender == lowest):
        raise MalformedMessage(f"the group key is boxed by member {lowest} and nobody else, not {sender}")
    group = open_group_box(phase.pairs[sender], sender, me, manifest.digest(), box) if box else phase.group
    confirmed = phase.confirmed | {sender}
    return _settle(replace(phase, group=group, confirmed=confirmed), manifest, me)


def _settle(phase: Agreeing | Confirming, manifest: Manifest, me: int) -> SetupPhase:
    """Move on as far as what has arrived allows."""
    peers = {index for index in manifest.indices if index != me}
    if isinstance(phase, Agreeing):
        if set(phase.pairs) != peers:
            return phase
        setup = _setup_digest(phase.bundles, manifest)
        boxes = me == manifest.indices[0]
        own = Confirmations(me, tuple(
            (peer, confirmation(keys, me, peer, setup),
             seal_group_box(keys, me, peer, manifest.digest(), phase.group) if boxes else b"")
            for peer, keys in sorted(phase.pairs.items())
        ))  # fmt: skip
        phase = Confirming(phase.group, setup, phase.pairs, phase.confirmed, (*phase.sent, own))
    if phase.confirmed != peers:
        return phase
    chains = {peer: keys.chain for peer, keys in phase.pairs.items()}
    return Agreed(phase.group, chains, (*phase.sent, Ready(me)))


def _signed(manifest: Manifest, member: int, x25519: bytes, mlkem: bytes) -> tuple[str | bytes | int, ...]:
    return (PROTOCOL_VERSION, manifest.suite, manifest.run_id, manifest.digest(), member, x25519, mlkem)


def _setup_digest(bundles: Bundles, manifest: Manifest) -> bytes:
    return digest(Label.SETUP, manifest.run_id, manifest.digest(), encode(bundles))


def _pair(
    phase: Advertised | Agreeing,
    bundles: Mapping[int, Bundle],
    manifest: Manifest,
    pair: tuple[int, int],
    exchanged: tuple[bytes, bytes],
) -> PairKeys:
    """Derive the keys of `pair` = (me, peer) from `exchanged` = (ML-KEM secret, ciphertext)."""
    peer, (low, high) = pair[1], sorted(pair)
    secret, ciphertext = exchanged
    return pair_keys(
        manifest.digest(),
        manifest.run_id,
        (low, high),
        (encode(bundles[low]), encode(bundles[high])),
        ciphertext,
        mlkem=secret,
        x25519=phase.ephemeral.exchange(bundles[peer].x25519, f"member {manifest.call(peer)}"),
    )
