"""Every key of the protocol: identities, hybrid agreement, the ratchet, and the labels that keep them apart.

Each derived key and each signed or MACed record starts with its own :class:`Label`, and everything keyed by a
pair names its direction, so that nothing can be reflected or moved from one purpose to another. An Ed25519
signature is always over ``enc("haemfed/<purpose>/v1", …)``: its first octet is never 0x20, so it can never be
taken for a TLS CertificateVerify, nor for a DSSE envelope.

Confidentiality is hybrid (X25519 and ML-KEM-768: both must fall); signatures are classical.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final, NoReturn, Self, TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.encoding import Value, digest, enc
from secagg.errors import BadKey, BadSignature, MisuseError, Unconfirmed

__all__ = [
    "CIPHERTEXT_SIZE",
    "GROUP_BOX_SIZE",
    "GROUP_KEY_SIZE",
    "MLKEM_SIZE",
    "PROTOCOL_VERSION",
    "SUITE",
    "Entropy",
    "Ephemeral",
    "Identity",
    "Label",
    "PairKeys",
    "Purpose",
    "canary_key",
    "confirmation",
    "derive",
    "draw",
    "encapsulate",
    "hedged_key",
    "hkdf_expand",
    "hkdf_extract",
    "mask_key",
    "next_chain_key",
    "open_group_box",
    "pair_keys",
    "seal_group_box",
    "uncopied",
    "verify",
]

PROTOCOL_VERSION: Final = "haemfed/secagg/2"
SUITE: Final = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"

MLKEM_SIZE: Final = 1184
CIPHERTEXT_SIZE: Final = 1088
GROUP_KEY_SIZE: Final = 32
GROUP_BOX_SIZE: Final = GROUP_KEY_SIZE + 16

Entropy: TypeAlias = Callable[[int], bytes]
"""Returns so many octets nobody can predict."""


class Purpose(StrEnum):
    """What this package signs; the signed record starts with ``haemfed/<purpose>/v1``."""

    BUNDLE = "bundle"
    HELLO = "hello"


class Label(StrEnum):
    """Every other domain-separation label. docs/reference/secagg-protocol.md says where each is used."""

    MANIFEST = "haemfed/manifest/v1"
    SETUP = "haemfed/setup/v1"
    PAIR = "haemfed/pair/v1"
    CHAIN = "haemfed/chain/v1"
    CONFIRM_KEY = "haemfed/confirm-key/v1"
    CONFIRM = "haemfed/confirm/v1"
    GROUP_BOX_KEY = "haemfed/group-box-key/v1"
    GROUP = "haemfed/group/v1"
    START = "haemfed/transcript-start/v1"
    TRANSCRIPT = "haemfed/transcript/v1"
    CONTEXT = "haemfed/ctx/v1"
    NEXT = "haemfed/next/v1"
    MASK_A = "haemfed/mask-a/v1"
    MASK_B = "haemfed/mask-b/v1"
    CANARY = "haemfed/canary/v1"
    MLKEM = "haemfed/mlkem/v1"
    SELF_MASK = "haemfed/self-mask/v1"
    SHARE_BOX = "haemfed/share-box/v1"
    CONSENT_KEY = "haemfed/consent-key/v1"
    CONSENT = "haemfed/u3/v1"
    TAG = "haemfed/tag/v1"
    TAG_PAD = "haemfed/tag-pad/v1"
    HEDGE = "haemfed/hedge/v1"
    SNAPSHOT = "haemfed/snapshot/v1"


def draw(entropy: Entropy, size: int) -> bytes:
    """Take `size` octets of entropy and insist on the number: a short read must not become a weak key."""
    octets = entropy(size)
    if len(octets) != size:
        raise MisuseError(f"the entropy source returned {len(octets)} octets instead of {size}")
    return octets


def uncopied(self: object) -> NoReturn:
    """Refuse to copy or pickle: ``__reduce__`` of whatever holds a secret, or must not go on twice from one state."""
    raise MisuseError(f"a {type(self).__name__} is neither copied nor pickled: its secrets stay where they are")


# ---- identity
# ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """A site's long-term signing key (Ed25519). It signs set-up and hellos, never TLS, never a certificate.

    Args:
        seed: the private key, 32 octets.
    """

    seed: bytes = field(repr=False)

    __reduce__ = uncopied

    def __post_init__(self) -> None:
        if not (isinstance(self.seed, bytes) and len(self.seed) == 32):
            raise MisuseError("an Ed25519 private key is 32 octets")

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Draw a new identity."""
        return cls(draw(entropy, 32))

    @property
    def public(self) -> bytes:
        """The public key, 32 octets: what other sites pin."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(self, purpose: str, *values: Value) -> bytes:
        """Sign ``enc("haemfed/<purpose>/v1", *values)``; 64 octets."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(enc(f"haemfed/{purpose}/v1", *values))


def verify(public: bytes, signature: bytes, who: str, purpose: str, *values: Value) -> None:
    """Check a signature made by :meth:`Identity.sign`.

    Args:
        public: the pinned Ed25519 public key, 32 octets.
        signature: 64 octets.
        who: how to call the signer in the error.
        purpose: as signed.
        values: as signed.

    Raises:
        BadSignature: it does not verify.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, enc(f"haemfed/{purpose}/v1", *values))
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"the {purpose} of {who} is not signed by its pinned identity for this run") from error


# ---- HKDF-SHA256, RFC 5869
# --------------------------------------------------------------------------------------


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract: a pseudorandom key of 32 octets."""
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-Expand: `size` octets (at most 8160) bound to `info`."""
    if not 0 < size <= 255 * 32:
        raise MisuseError(f"HKDF-SHA256 expands to 1..8160 octets, not {size}")
    output = block = b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:size]


def derive(key: bytes, label: Label, *values: Value) -> bytes:
    """HMAC-SHA256 of ``enc(label, *values)`` under `key`: one key per purpose and context, 32 octets."""
    return hmac.digest(key, enc(label, *values), "sha256")


# ---- hybrid agreement
# -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ephemeral:
    """One member's key pairs for one wave of set-up; erased when its pair keys are derived.

    Args:
        x25519: private key, 32 octets.
        mlkem: ML-KEM-768 seed (d ‖ z of FIPS 203), 64 octets.
    """

    x25519: bytes = field(repr=False)
    mlkem: bytes = field(repr=False)

    __reduce__ = uncopied

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Draw fresh key pairs."""
        return cls(draw(entropy, 32), draw(entropy, 64))

    def public(self) -> tuple[bytes, bytes]:
        """Return the X25519 (32 octets) and ML-KEM-768 (1184 octets) public keys."""
        return self._x25519.public_key().public_bytes_raw(), self._mlkem.public_key().public_bytes_raw()

    def exchange(self, public: bytes, who: str) -> bytes:
        """X25519 with a peer's public key.

        Raises:
            BadKey: the result is all zero: the peer's key has low order and would fix the secret.
        """
        try:
            return self._x25519.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise BadKey(f"the X25519 key of {who} yields no secret") from error

    def decapsulate(self, ciphertext: bytes, who: str) -> bytes:
        """ML-KEM-768 decapsulation, 32 octets.

        A ciphertext made for another key does not raise (implicit rejection): it gives another secret, and
        the confirmation fails.

        Raises:
            BadKey: the ciphertext has the wrong size.
        """
        try:
            return self._mlkem.decapsulate(ciphertext)
        except ValueError as error:
            raise BadKey(f"the ML-KEM ciphertext of {who} is not valid") from error

    # The library's key objects: expanding an ML-KEM seed costs more than a decapsulation, hence once, not per peer.

    @cached_property
    def _x25519(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.x25519)

    @cached_property
    def _mlkem(self) -> MLKEM768PrivateKey:
        return MLKEM768PrivateKey.from_seed_bytes(self.mlkem)


def encapsulate(public: bytes, who: str) -> tuple[bytes, bytes]:
    """Encapsulate to a peer's ML-KEM-768 key.

    The randomness is the library's own: it offers no way to pass it in, which keeps a caller from repeating
    it.

    Returns:
        The shared secret (32 octets) and the ciphertext (1088 octets).

    Raises:
        BadKey: not a valid encapsulation key (FIPS 203, 7.2).
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as error:
        raise BadKey(f"the ML-KEM key of {who} is not valid") from error


@dataclass(frozen=True)
class PairKeys:
    """What two members share.

    Args:
        chain: chain key of round 0, root of all masks of the pair.
        confirm: key of the confirmation MACs.
        group: key from which the directional keys of group boxes derive.
    """

    chain: bytes = field(repr=False)
    confirm: bytes = field(repr=False)
    group: bytes = field(repr=False)

    __reduce__ = uncopied


def pair_keys(
    manifest: bytes, run_id: bytes, wave: int, pair: tuple[int, int], bundles: tuple[bytes, bytes], ciphertext: bytes,
    *, mlkem: bytes, x25519: bytes,
) -> PairKeys:  # fmt: skip
    """Combine both shared secrets and bind them to everything either end has seen.

    Args:
        manifest: digest of the manifest.
        run_id: 32 octets.
        wave: of set-up, in which the two agree.
        pair: (u, v) with u < v.
        bundles: canonical bytes of both signed bundles, in the same order: the X25519 key, the digest of the ML-KEM
            key, the signature.
        ciphertext: the ML-KEM ciphertext u sent to v.
        mlkem: ML-KEM shared secret, 32 octets.
        x25519: X25519 shared secret, 32 octets.
    """
    salt = digest(Label.PAIR, SUITE, run_id, manifest, wave, *pair, *bundles, ciphertext)
    root = hkdf_extract(salt, mlkem + x25519)
    return PairKeys(
        chain=hkdf_expand(root, enc(Label.CHAIN, *pair)),
        confirm=hkdf_expand(root, enc(Label.CONFIRM_KEY, *pair)),
        group=hkdf_expand(root, enc(Label.GROUP_BOX_KEY, *pair)),
    )


def confirmation(keys: PairKeys, sender: int, receiver: int, setup: bytes) -> bytes:
    """MAC by which `sender` shows `receiver` that both hold these keys and saw one set-up; 32 octets."""
    return derive(keys.confirm, Label.CONFIRM, sender, receiver, setup)


def seal_group_box(keys: PairKeys, sender: int, receiver: int, manifest: bytes, group: bytes) -> bytes:
    """Encrypt the group key to one peer.

    The key is used for one message ever (one direction, one wave of one run, and the group key is drawn before any
    pair keys exist, so even a restored disk seals the same group key): the nonce can be constant.
    """
    key = derive(keys.group, Label.GROUP, sender, receiver, manifest)
    return AESGCM(key).encrypt(bytes(12), group, enc(sender, receiver, manifest))


def open_group_box(keys: PairKeys, sender: int, receiver: int, manifest: bytes, box: bytes) -> bytes:
    """Invert :func:`seal_group_box`.

    Raises:
        Unconfirmed: it does not open.
    """
    key = derive(keys.group, Label.GROUP, sender, receiver, manifest)
    try:
        return AESGCM(key).decrypt(bytes(12), box, enc(sender, receiver, manifest))
    except InvalidTag as error:
        raise Unconfirmed(f"the group key that member {sender} boxed for us does not open") from error


# ---- keys of a round
# --------------------------------------------------------------------------------------------


def next_chain_key(chain: bytes) -> bytes:
    """One step of the ratchet; the old key is to be forgotten."""
    return derive(chain, Label.NEXT)


def mask_key(chain: bytes, label: Label, context: bytes) -> bytes:
    """AES-256 key of the pair's mask in one round. `label` is MASK_A or MASK_B: modes share no mask."""
    return derive(chain, label, context)


def canary_key(chain: bytes, context: bytes) -> bytes:
    """AES-256 key of the canary word's mask alone: it could be revealed without touching data."""
    return derive(chain, Label.CANARY, context)


def hedged_key(fresh: bytes, secret: bytes, context: bytes) -> bytes:
    """Key for a round's noise and rounding that survives a cloned or starved generator.

    With repeated `fresh` octets, another context still gives another key; the worst case is the identical
    upload.

    Args:
        fresh: 32 octets from the operating system, drawn for this round.
        secret: the site's noise secret, 32 octets.
        context: digest of the round's context.
    """
    if len(fresh) != 32 or len(secret) != 32:
        raise MisuseError("hedged keys need 32 fresh octets and a secret of 32 octets")
    return hkdf_expand(hkdf_extract(hashlib.sha256(secret).digest(), fresh + secret), enc(Label.HEDGE, context))
