import dataclasses
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secagg import keys
from secagg.encoding import enc
from secagg.errors import BadKey, BadSignature, MisuseError, Unconfirmed
from secagg.keys import Ephemeral, Identity, Label, PairKeys, Purpose
from tests.federation import entropy
from tests.secagg.vectors import cases


@pytest.mark.parametrize("case", cases("x25519.json"))  # RFC 7748, 5.2
def test_x25519(case: dict[str, Any]) -> None:
    assert Ephemeral(case["scalar"], bytes(64)).exchange(case["u"], "a peer") == case["shared"]


@pytest.mark.parametrize("case", cases("hkdf.json"))  # RFC 5869, A.1 to A.3
def test_hkdf(case: dict[str, Any]) -> None:
    assert keys.hkdf_extract(case["salt"], case["ikm"]) == case["prk"]
    assert keys.hkdf_expand(case["prk"], case["info"], case["length"]) == case["okm"]
    library = HKDF(hashes.SHA256(), case["length"], case["salt"], case["info"])
    assert library.derive(case["ikm"]) == case["okm"]


@pytest.mark.parametrize("case", cases("ed25519.json"))  # RFC 8032, 7.1
def test_ed25519(case: dict[str, Any]) -> None:
    assert Identity(case["seed"]).public == case["public"]
    assert Ed25519PrivateKey.from_private_bytes(case["seed"]).sign(case["message"]) == case["signature"]


def test_signatures_are_over_the_purpose_and_the_encoded_values() -> None:
    identity = Identity.generate(entropy("signer"))
    signature = identity.sign("bundle", 1, b"x")
    library = Ed25519PrivateKey.from_private_bytes(identity.seed)
    assert signature == library.sign(enc("haemfed/bundle/v1", 1, b"x"))
    keys.verify(identity.public, signature, "us", "bundle", 1, b"x")
    for public, purpose, values in [
        (identity.public, "hello", (1, b"x")),
        (identity.public, "bundle", (2, b"x")),
        (identity.public, "bundle", (1,)),
        (Identity.generate(entropy("other")).public, "bundle", (1, b"x")),
    ]:
        with pytest.raises(BadSignature, match="us"):
            keys.verify(public, signature, "us", purpose, *values)


def test_what_is_signed_is_no_tls_certificate_verify_and_no_dsse_envelope() -> None:
    for purpose in Purpose:
        signed = enc(f"haemfed/{purpose}/v1")
        assert not signed.startswith((b"\x20", b"DSSEv1"))


@pytest.mark.parametrize("u", [0, 1, 2**255 - 19, 2**255 - 20, 2**255 - 18])
def test_low_order_x25519_keys_are_refused(u: Any) -> None:
    with pytest.raises(BadKey, match="member 7"):
        Ephemeral.generate(entropy("x")).exchange(u.to_bytes(32, "little"), "member 7")


def test_mlkem_agrees_and_comes_from_our_entropy() -> None:
    ephemeral = Ephemeral.generate(entropy("kem"))
    assert ephemeral == Ephemeral.generate(entropy("kem"))
    secret, ciphertext = keys.encapsulate(ephemeral.public()[1], "a peer")
    assert (len(secret), len(ciphertext)) == (32, keys.CIPHERTEXT_SIZE)
    assert ephemeral.decapsulate(ciphertext, "a peer") == secret
    assert MLKEM768PrivateKey.from_seed_bytes(ephemeral.mlkem).decapsulate(ciphertext) == secret


def test_a_foreign_mlkem_ciphertext_gives_another_secret_in_silence() -> None:
    ephemeral = Ephemeral.generate(entropy("kem"))
    secret, ciphertext = keys.encapsulate(ephemeral.public()[1], "a peer")
    broken = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert ephemeral.decapsulate(broken, "a peer") not in (secret, bytes(32))


def test_garbage_mlkem_keys_and_ciphertexts_are_refused() -> None:
    with pytest.raises(BadKey, match="member 3"):
        keys.encapsulate(b"\xff" * keys.MLKEM_SIZE, "member 3")  # coefficients beyond q: FIPS 203, 7.2
    with pytest.raises(BadKey, match="member 3"):
        keys.encapsulate(b"short", "member 3")
    with pytest.raises(BadKey, match="member 3"):
        Ephemeral.generate(entropy("kem")).decapsulate(b"short", "member 3")


BASE = {
    "manifest": b"M" * 32,
    "run_id": b"R" * 32,
    "wave": 0,
    "pair": (1, 2),
    "bundles": (b"bundle 1", b"bundle 2"),
    "ciphertext": b"C" * 1088,
    "mlkem": b"K" * 32,
    "x25519": b"X" * 32,
}


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": b"N" * 32},
        {"run_id": b"r" * 32},
        {"wave": 1},
        {"pair": (1, 3)},
        {"bundles": (b"bundle 2", b"bundle 1")},
        {"bundles": (b"bundle 1", b"bundle X")},
        {"ciphertext": b"c" * 1088},
        {"mlkem": b"k" * 32},
        {"x25519": b"x" * 32},
        {"mlkem": b"X" * 32, "x25519": b"K" * 32},
    ],
)
def test_pair_keys_bind_everything_either_end_has_seen(change: Any) -> None:
    one, other = keys.pair_keys(**BASE), keys.pair_keys(**(BASE | change))
    assert len({*dataclasses.astuple(one), *dataclasses.astuple(other)}) == 6


def test_everything_keyed_by_a_pair_has_a_direction() -> None:
    pair = keys.pair_keys(**BASE)
    assert keys.confirmation(pair, 1, 2, b"s") != keys.confirmation(pair, 2, 1, b"s")
    box = keys.seal_group_box(pair, 1, 2, b"M" * 32, b"G" * 32)
    assert len(box) == keys.GROUP_BOX_SIZE
    assert keys.open_group_box(pair, 1, 2, b"M" * 32, box) == b"G" * 32
    for sender, receiver, manifest, data in [
        (2, 1, b"M" * 32, box),
        (1, 2, b"N" * 32, box),
        (1, 2, b"M" * 32, box[:-1] + bytes([box[-1] ^ 1])),
    ]:
        with pytest.raises(Unconfirmed):
            keys.open_group_box(pair, sender, receiver, manifest, data)


def test_keys_of_a_round_are_all_different() -> None:
    chain = b"c" * 32
    derived = [
        keys.next_chain_key(chain),
        keys.mask_key(chain, Label.MASK_A, b"1"),
        keys.mask_key(chain, Label.MASK_B, b"1"),
        keys.mask_key(chain, Label.MASK_A, b"2"),
        keys.canary_key(chain, b"1"),
        keys.canary_key(chain, b"2"),
    ]
    assert len({chain, *derived}) == len(derived) + 1
    assert all(len(key) == 32 for key in derived)


def test_hedged_keys_differ_by_context_even_when_entropy_repeats() -> None:
    one = keys.hedged_key(b"f" * 32, b"s" * 32, b"ctx 1")
    assert one == keys.hedged_key(b"f" * 32, b"s" * 32, b"ctx 1")
    others = [(b"f", b"s", b"ctx 2"), (b"g", b"s", b"ctx 1"), (b"f", b"t", b"ctx 1")]
    assert one not in {keys.hedged_key(a * 32, b * 32, context) for a, b, context in others}
    with pytest.raises(MisuseError):
        keys.hedged_key(b"short", b"s" * 32, b"ctx")


def test_labels_are_distinct_and_versioned() -> None:
    purposes = [f"haemfed/{purpose}/v1" for purpose in Purpose]
    labels = [*map(str, Label), *purposes]
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"haemfed/[a-z0-9-]+/v\d+", label) for label in labels)


def test_short_entropy_is_refused() -> None:
    with pytest.raises(MisuseError, match="31 octets instead of 32"):
        Identity.generate(lambda _: bytes(31))


@pytest.mark.parametrize(
    "secret", [Identity(b"\x5a" * 32), Ephemeral(b"\x5a" * 32, b"\x5a" * 64), PairKeys(*[b"\x5a" * 32] * 3)]
)
def test_secrets_do_not_show(secret: Any) -> None:
    assert "Z" not in repr(secret)
    assert "5a" not in repr(secret)
