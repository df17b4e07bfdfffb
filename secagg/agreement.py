"""Key agreement of one member in one wave of set-up: from a signed bundle to confirmed chain keys with its new peers.

Phases, each owning only what exists in it; :class:`secagg.client.Client` drives them::

    Advertised ──Bundles──▶ Agreeing ──Ciphertexts──▶ Confirming ──Confirmed──▶ Agreed
        ▲            │                                    ▲
      Invite         └── nobody encapsulates to us ───────┘

A pair is new in a wave if one of the two is a newcomer of it. In wave 0 everybody is new and the lowest member owns
the group key. In a later wave newcomers agree with everybody, all others with the newcomers alone. Every wave has
ephemeral keys of its own, and none outlives the phase Agreeing.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from secagg.encoding import digest
from secagg.errors import (
    MalformedMessage,
    ManifestMismatch,
    RosterRefused,
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
    uncopied,
    verify,
)
from secagg.manifest import Manifest
from secagg.messages import (
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    Invite,
    Ready,
    SetupMessage,
    encode,
)

__all__ = [
    "Advertised",
    "Agreed",
    "Agreeing",
    "Confirming",
    "SetupPhase",
    "Standing",
    "Wave",
    "advertise",
    "check_bundle",
    "on_bundles",
    "on_ciphertexts",
    "on_confirmed",
    "on_invite",
    "partners",
]

_NO_GROUP_KEY: Final = b""  # it comes in a box of its owner's


@dataclass(frozen=True)
class Standing:
    """What a member that has completed a wave brings into the next one.

    Args:
        wave: the last one completed.
        owner: who gives the group key to newcomers.
        group: the group key, 32 octets.
        peers: with whom we share keys.
    """

    wave: int
    owner: int
    group: bytes = field(repr=False)
    peers: frozenset[int]

    __reduce__ = uncopied


@dataclass(frozen=True)
class Advertised:
    """Our bundle is out; we wait for those of the whole wave.

    Args:
        newcomers: those of the Invite; in wave 0 nobody knows yet who will be in it.
        ephemeral: our key pairs for this wave.
        group: the group key, if we hold it; in wave 0 the one that holds if we turn out to be the lowest.
        bundle: what we sent.
    """

    newcomers: tuple[int, ...]
    ephemeral: Ephemeral
    group: bytes = field(repr=False)
    bundle: Bundle

    @property
    def wave(self) -> int:
        """Number of the wave."""
        return self.bundle.wave

    @property
    def sent(self) -> tuple[SetupMessage, ...]:
        """Our messages of this wave so far."""
        return (self.bundle,)


@dataclass(frozen=True)
class Agreeing:
    """We have encapsulated to the higher new peers and wait for the ciphertexts of the lower ones."""

    ephemeral: Ephemeral
    group: bytes = field(repr=False)
    bundles: Bundles = field(repr=False)  # bare: what is hashed; we have used the ML-KEM keys
    pairs: Mapping[int, PairKeys]
    sent: tuple[SetupMessage, ...] = field(repr=False)

    @property
    def wave(self) -> int:
        """Number of the wave."""
        return self.bundles.wave


@dataclass(frozen=True)
class Confirming:
    """We share keys with every new peer, the ephemeral keys are gone, and we wait for confirmations."""

    wave: int
    owner: int
    group: bytes = field(repr=False)
    setup: bytes
    pairs: Mapping[int, PairKeys]
    sent: tuple[SetupMessage, ...] = field(repr=False)


@dataclass(frozen=True)
class Agreed:
    """The wave is complete here; nothing is left of it but chain keys and the group key."""

    wave: int
    owner: int
    group: bytes = field(repr=False)
    chains: Mapping[int, bytes] = field(repr=False)
    sent: tuple[SetupMessage, ...] = field(repr=False)

    __reduce__ = uncopied


Wave: TypeAlias = Advertised | Agreeing | Confirming
"""A wave under way."""
SetupPhase: TypeAlias = Wave | Agreed


def partners(bundles: Bundles, me: int) -> tuple[int, ...]:
    """Return the members with which `me` agrees on keys in this wave, ascending."""
    if me in bundles.newcomers:
        return tuple(member for member in bundles.members if member != me)
    return bundles.newcomers


def advertise(manifest: Manifest, me: int, identity: Identity, entropy: Entropy) -> Advertised:
    """Draw the ephemeral keys of wave 0 and sign their bundle.

    Whoever turns out to be the lowest has drawn the group key now, not when it boxes it: a restored disk then boxes
    the same one again, and no key ever encrypts two of them.
    """
    ephemeral = Ephemeral.generate(entropy)
    return _advertise(manifest, me, identity, 0, (), ephemeral, draw(entropy, GROUP_KEY_SIZE))


def on_invite(
    message: Invite, manifest: Manifest, me: int, identity: Identity, entropy: Entropy, standing: Standing | None
) -> Advertised:
    """Answer with a bundle of fresh ephemeral keys.

    Args:
        message: as received.
        manifest: of the run.
        me: our index.
        identity: our signing key.
        entropy: for the ephemeral keys.
        standing: ours; None for a member that has missed every wave.

    Raises:
        RosterRefused: out of order, or the newcomers cannot be newcomers.
    """
    newcomers = set(message.newcomers)
    if strangers := newcomers - set(manifest.indices):
        raise RosterRefused(f"wave {message.wave} invites member {min(strangers)}, who is not in the manifest")
    if (me in newcomers) != (standing is None):
        ours = "shares keys with others already" if standing else "has missed set-up and is not among the newcomers"
        raise RosterRefused(f"wave {message.wave} is not for this site: member {me} {ours}")
    if standing and message.wave != standing.wave + 1:
        raise RosterRefused(f"an invitation to wave {message.wave}; this site has completed wave {standing.wave}")
    if standing and (known := newcomers & standing.peers):
        raise RosterRefused(f"wave {message.wave} invites member {min(known)}, with whom we share keys already")
    group = standing.group if standing else _NO_GROUP_KEY
    return _advertise(manifest, me, identity, message.wave, message.newcomers, Ephemeral.generate(entropy), group)


def check_bundle(manifest: Manifest, bundle: Bundle) -> None:
    """Accept only a bundle over our manifest, signed by the pinned identity of its member for its wave.

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
    signed = _signed(manifest, bundle.member, bundle.wave, bundle.x25519, bundle.mlkem_digest)
    verify(manifest.member(bundle.member).identity, bundle.signature, who, Purpose.BUNDLE, *signed)


def on_bundles(
    phase: Advertised, message: Bundles, manifest: Manifest, me: int, standing: Standing | None
) -> Agreeing | Confirming:
    """Check who is in the wave and everybody's keys; encapsulate to the higher new peers."""
    _check_wave(phase, message, manifest, me, standing)
    for bundle in message.bundles:
        check_bundle(manifest, bundle)
    bare = message.bare()
    by_member = {bundle.member: bundle for bundle in bare.bundles}
    if by_member[me] != phase.bundle.bare():
        raise SecondMessage(
            f"the bundle listed for this site, member {manifest.call(me)}, is not the one we sent: another "
            "process runs under our identity, or this directory was set up anew"
        )
    kem = {bundle.member: bundle.mlkem for bundle in message.bundles}
    own = encode(by_member[me])
    pairs, ciphertexts = {}, []
    for peer in partners(message, me):
        if peer > me:
            who = f"member {manifest.call(peer)}"
            if not kem[peer]:
                raise MalformedMessage(f"the bundle of {who} comes without the ML-KEM key this site needs")
            secret, ciphertext = encapsulate(kem[peer], who)
            bundles = (own, encode(by_member[peer]))
            x25519 = phase.ephemeral.exchange(by_member[peer].x25519, who)
            pairs[peer] = _pair(manifest, phase.wave, (me, peer), bundles, (ciphertext, secret, x25519))
            ciphertexts.append((peer, ciphertext))
    # In wave 0 everybody has drawn a group key; all but the owner's are dropped here.
    group = phase.group if phase.wave or message.owner == me else _NO_GROUP_KEY
    sent = phase.sent + ((Encapsulations(me, phase.wave, tuple(ciphertexts)),) if ciphertexts else ())
    agreeing = Agreeing(phase.ephemeral, group, bare, pairs, sent)
    return agreeing if _lower(bare, me) else _confirm(agreeing, manifest, me)


def on_ciphertexts(phase: Agreeing, message: Ciphertexts, manifest: Manifest, me: int) -> Confirming:
    """Derive the pair keys with the lower new peers; then the ephemeral keys have served."""
    senders, expected = tuple(sender for sender, _ in message.of), _lower(phase.bundles, me)
    if senders != expected:
        raise MalformedMessage(f"ciphertexts of members {senders}; those of {expected} were to come")
    by_member = {bundle.member: bundle for bundle in phase.bundles.bundles}
    own = encode(by_member[me])
    pairs = dict(phase.pairs)
    for sender, ciphertext in message.of:
        who = f"member {manifest.call(sender)}"
        bundles = (encode(by_member[sender]), own)
        x25519 = phase.ephemeral.exchange(by_member[sender].x25519, who)
        secret = phase.ephemeral.decapsulate(ciphertext, who)
        pairs[sender] = _pair(manifest, phase.wave, (sender, me), bundles, (ciphertext, secret, x25519))
    return _confirm(replace(phase, pairs=pairs), manifest, me)


def on_confirmed(phase: Confirming, message: Confirmed, manifest: Manifest, me: int) -> Agreed:
    """Check that every new peer holds the same keys and saw the same wave; take the group key from its owner."""
    senders, expected = tuple(sender for sender, _, _ in message.of), tuple(sorted(phase.pairs))
    if senders != expected:
        raise MalformedMessage(f"confirmations of members {senders}; those of {expected} were to come")
    group = phase.group
    for sender, mac, box in message.of:
        keys, who = phase.pairs[sender], manifest.call(sender)
        if not hmac.compare_digest(mac, confirmation(keys, sender, me, phase.setup)):
            raise Unconfirmed(f"member {who} does not hold our pair keys or saw other key bundles")
        if bool(box) != (sender == phase.owner):
            raise MalformedMessage(f"member {phase.owner} boxes the group key for newcomers, nobody else: member {who}")
        if box:
            group = open_group_box(keys, sender, me, manifest.digest(), box)
    chains = {peer: keys.chain for peer, keys in phase.pairs.items()}
    return Agreed(phase.wave, phase.owner, group, chains, (*phase.sent, Ready(me, phase.wave)))


def _advertise(
    manifest: Manifest, me: int, identity: Identity, wave: int, newcomers: tuple[int, ...], ephemeral: Ephemeral,
    group: bytes,
) -> Advertised:  # fmt: skip
    x25519, mlkem = ephemeral.public()
    mlkem_digest = digest(Label.MLKEM, mlkem)
    signature = identity.sign(Purpose.BUNDLE, *_signed(manifest, me, wave, x25519, mlkem_digest))
    bundle = Bundle(me, wave, x25519, mlkem, mlkem_digest, manifest.digest(), signature)
    return Advertised(newcomers, ephemeral, group, bundle)


def _check_wave(phase: Advertised, message: Bundles, manifest: Manifest, me: int, standing: Standing | None) -> None:
    """Refuse a wave that is not the one we were invited to, or that could hide a second group of members from us."""
    which, members, newcomers = f"wave {message.wave}", set(message.members), set(message.newcomers)
    if me not in members:
        raise RosterRefused(f"{which}: this site, member {me}, sent a bundle and is not in it")
    if phase.wave and message.newcomers != phase.newcomers:
        raise RosterRefused(f"{which}: newcomers {message.newcomers}; the invitation named {phase.newcomers}")
    if standing and (members != standing.peers | {me} | newcomers or message.owner != standing.owner):
        raise RosterRefused(f"{which}: its members or the owner of the group key are not those that this site knows")
    if phase.wave and message.owner in newcomers:
        raise RosterRefused(f"{which}: newcomer {message.owner} cannot own the group key")
    # Two sets of this size share an honest member, and that one takes part in one wave 0.
    before = len(members - newcomers) if phase.wave else len(members)
    if before < manifest.minimum_roster:
        raise RosterRefused(f"{which}: {before} sites, at least {manifest.minimum_roster} were agreed")


def _lower(bundles: Bundles, me: int) -> tuple[int, ...]:
    """Return the members that encapsulate to `me` in this wave."""
    return tuple(peer for peer in partners(bundles, me) if peer < me)


def _confirm(phase: Agreeing, manifest: Manifest, me: int) -> Confirming:
    """Confirm every new pair; the owner of the group key boxes it along."""
    wave, owner, about = phase.wave, phase.bundles.owner, manifest.digest()
    setup = digest(Label.SETUP, manifest.run_id, about, encode(phase.bundles))
    own = Confirmations(me, wave, tuple(
        (peer, confirmation(keys, me, peer, setup),
         seal_group_box(keys, me, peer, about, phase.group) if me == owner else b"")
        for peer, keys in sorted(phase.pairs.items())
    ))  # fmt: skip
    return Confirming(wave, owner, phase.group, setup, phase.pairs, (*phase.sent, own))


def _signed(manifest: Manifest, member: int, wave: int, x25519: bytes, mlkem: bytes) -> tuple[str | bytes | int, ...]:
    return (PROTOCOL_VERSION, manifest.suite, manifest.run_id, manifest.digest(), member, wave, x25519, mlkem)


def _pair(
    manifest: Manifest, wave: int, pair: tuple[int, int], bundles: tuple[bytes, bytes],
    exchanged: tuple[bytes, bytes, bytes],
) -> PairKeys:  # fmt: skip
    """Derive the keys of `pair` = (lower, higher) from `exchanged` = (ciphertext, ML-KEM secret, X25519 secret)."""
    ciphertext, mlkem, x25519 = exchanged
    return pair_keys(
        manifest.digest(), manifest.run_id, wave, pair, bundles, ciphertext, mlkem=mlkem, x25519=x25519
    )  # fmt: skip
