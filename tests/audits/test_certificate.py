import base64
import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import certificate, policy
from audits.certificate import (
    TrustedKeys,
    cosign,
    reproduce,
    require_pass,
    sign,
    statement,
    verify,
    verify_auditor,
)
from audits.errors import (
    CertificateError,
    IntegrityError,
    MalformedCertificate,
    MisuseError,
    NotPassed,
    OutsideValidity,
    SignatureRefused,
    WrongArtefact,
)
from audits.verdict import Outcome, decide, withheld
from tests.audits.sample import ARTEFACT, FACTS, ISSUED, evidence
from tests.sweeps import examples

RESEARCH = policy.load("research")
EVIDENCE = evidence()
AUDITOR, OFFICER, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))
RAW = {key: key.public_key().public_bytes_raw() for key in (AUDITOR, OFFICER, STRANGER)}
TRUSTED = TrustedKeys((RAW[AUDITOR],), (RAW[OFFICER],))


def content(**changes: Any) -> Any:
    verdict = changes.pop("verdict", None) or decide(EVIDENCE, RESEARCH)
    arguments = {
        "facts": FACTS,
        "evidence": EVIDENCE,
        "verdict": verdict,
        "policy": RESEARCH,
        "issued": ISSUED,
    }
    return statement(ARTEFACT, "model.safetensors", **{**arguments, **changes})


SINGLE = sign(content(), AUDITOR)
DOUBLE = cosign(SINGLE, OFFICER, artefact=ARTEFACT, trusted=TRUSTED, at=ISSUED)


def resigned(change: Any) -> bytes:
    """A certificate changed and signed again with both real keys: only checks of the content remain."""
    payload = json.loads(certificate._open(DOUBLE).payload)
    change(payload)
    envelope = certificate.Envelope(rfc8785.dumps(payload), certificate.PAYLOAD_TYPE, {})
    order = [envelope.sign(certificate.CryptoSigner(key)).keyid for key in (AUDITOR, OFFICER)]
    return certificate._seal(envelope, order)


def test_a_certificate_comes_back_as_it_was_signed() -> None:
    found = verify(ARTEFACT, DOUBLE, TRUSTED, ISSUED)
    assert found.statement == content()
    assert found.outcome is Outcome.PASS
    assert [role for role, _ in found.signers] == ["auditor", "dpo"]
    assert require_pass(found) is found
    assert reproduce(found, RESEARCH) == decide(EVIDENCE, RESEARCH)


def test_the_form_is_in_toto_in_dsse() -> None:
    outer = json.loads(DOUBLE)
    assert outer["payloadType"] == "application/vnd.in-toto+json"
    inner = json.loads(base64.b64decode(outer["payload"]))
    assert set(inner) == {"_type", "subject", "predicateType", "predicate"}
    assert inner["_type"] == "https://in-toto.io/Statement/v1"
    assert inner["predicateType"] == "https://haemfed.org/attestations/privacy-audit/v1"
    assert inner["subject"][0]["name"] == "model.safetensors"
    # DSSE, PAE(UTF8(payloadType), payload); the raw Ed25519 check shares no code with securesystemslib
    payload = base64.b64decode(outer["payload"])
    kind = outer["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for key, signature in zip((AUDITOR, OFFICER), outer["signatures"], strict=True):
        key.public_key().verify(base64.b64decode(signature["sig"]), signed)


def test_it_is_the_same_bytes_every_time() -> None:
    assert sign(content(), AUDITOR) == SINGLE


def test_both_must_have_signed() -> None:
    assert verify_auditor(ARTEFACT, SINGLE, TRUSTED, ISSUED).outcome is Outcome.PASS
    with pytest.raises(SignatureRefused, match="dpo is missing"):
        verify(ARTEFACT, SINGLE, TRUSTED, ISSUED)


def test_another_file_is_refused() -> None:
    for other in (b"", ARTEFACT + b"\0", ARTEFACT[:-1]):
        with pytest.raises(WrongArtefact):
            verify(other, DOUBLE, TRUSTED, ISSUED)


@pytest.mark.parametrize("days", [-1, 366])
def test_dates_count(days: int) -> None:
    with pytest.raises(OutsideValidity):
        verify(ARTEFACT, DOUBLE, TRUSTED, ISSUED + timedelta(days=days))
    verify(ARTEFACT, DOUBLE, TRUSTED, ISSUED + timedelta(days=365))


def test_keys_count_only_in_their_role() -> None:
    swapped = TrustedKeys((RAW[OFFICER],), (RAW[AUDITOR],))
    with pytest.raises(CertificateError):
        verify(ARTEFACT, DOUBLE, swapped, ISSUED)
    with pytest.raises(SignatureRefused):
        verify(ARTEFACT, DOUBLE, TrustedKeys((RAW[STRANGER],), (RAW[OFFICER],)), ISSUED)
    with pytest.raises(SignatureRefused):
        cosign(SINGLE, STRANGER, artefact=ARTEFACT, trusted=TRUSTED, at=ISSUED)
    with pytest.raises(SignatureRefused):  # the auditor cannot stand in for the officer
        cosign(SINGLE, AUDITOR, artefact=ARTEFACT, trusted=TRUSTED, at=ISSUED)
    with pytest.raises(MisuseError):
        TrustedKeys((RAW[AUDITOR],), (RAW[AUDITOR],))
    with pytest.raises(MisuseError):
        TrustedKeys((), (RAW[OFFICER],))


def test_two_officers_are_one_role() -> None:
    both = TrustedKeys((RAW[AUDITOR],), (RAW[OFFICER], RAW[STRANGER]))
    envelope = certificate._open(DOUBLE)
    keyid = envelope.sign(certificate.CryptoSigner(STRANGER)).keyid
    with pytest.raises(SignatureRefused, match="two signatures"):
        verify(
            ARTEFACT,
            certificate._seal(envelope, [*certificate._open(DOUBLE).signatures, keyid]),
            both,
            ISSUED,
        )


def test_the_order_of_signatures_is_part_of_the_form() -> None:
    envelope = certificate._open(DOUBLE)
    with pytest.raises(MalformedCertificate):
        verify(ARTEFACT, certificate._seal(envelope, reversed(list(envelope.signatures))), TRUSTED, ISSUED)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(extra=1),
        lambda p: p["predicate"].update(extra=1),
        lambda p: p["predicate"]["evidence"].update(extra=1),
        lambda p: p["predicate"]["evidence"]["attack"].update(extra=1),
        lambda p: p["predicate"].pop("evidence"),
        lambda p: p["predicate"]["verdict"].update(outcome="FINE"),
        lambda p: p.update(predicateType="https://haemfed.org/attestations/privacy-audit/v2"),
        lambda p: p["subject"].append(p["subject"][0]),
        lambda p: p["predicate"].update(issued="yesterday"),
    ],
)
def test_signed_nonsense_is_still_nonsense(change: Any) -> None:
    with pytest.raises(MalformedCertificate):
        verify(ARTEFACT, resigned(change), TRUSTED, ISSUED)
    verify(ARTEFACT, resigned(lambda p: None), TRUSTED, ISSUED)


def test_a_signed_verdict_that_does_not_follow_is_found_by_anyone_with_the_policy() -> None:
    lied = verify(
        ARTEFACT,
        resigned(lambda p: p["predicate"]["evidence"].update(baseline_grid_days=1.0)),
        TRUSTED,
        ISSUED,
    )
    with pytest.raises(IntegrityError):
        reproduce(lied, RESEARCH)
    with pytest.raises(IntegrityError):
        reproduce(verify(ARTEFACT, DOUBLE, TRUSTED, ISSUED), policy.load("consortium"))


def test_a_statement_must_follow_from_its_evidence() -> None:
    with pytest.raises(MisuseError):
        content(evidence=replace(EVIDENCE, mechanism=None))
    arguments = {
        "facts": FACTS,
        "evidence": EVIDENCE,
        "verdict": decide(EVIDENCE, RESEARCH),
        "issued": ISSUED,
    }
    with pytest.raises(MisuseError):
        statement(ARTEFACT, "../model", policy=RESEARCH, **arguments)


def test_authentic_is_not_pass() -> None:
    vetoed = sign(content(verdict=withheld(decide(EVIDENCE, RESEARCH))), AUDITOR)
    found = verify(ARTEFACT, cosign(vetoed, OFFICER, artefact=ARTEFACT, trusted=TRUSTED, at=ISSUED), TRUSTED, ISSUED)
    assert reproduce(found, RESEARCH).outcome is Outcome.WITHHELD
    with pytest.raises(NotPassed, match="WITHHELD"):
        require_pass(found)


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_refused_certificate(data: st.DataObject) -> None:
    raw = bytearray(DOUBLE)
    kind = data.draw(st.sampled_from(["flip", "insert", "delete", "truncate", "swap"]))
    at = data.draw(st.integers(0, len(raw) - 2))
    match kind:
        case "flip":
            raw[at] ^= data.draw(st.integers(1, 255))
        case "insert":
            raw[at:at] = data.draw(st.sampled_from([b" ", b"0", b",", b'"', b"=", b"\n", b"A"]))
        case "delete":
            del raw[at]
        case "truncate":
            del raw[at:]
        case "swap":
            raw[at], raw[at + 1] = raw[at + 1], raw[at]
    if bytes(raw) == DOUBLE:
        return
    with pytest.raises(CertificateError):
        verify(ARTEFACT, bytes(raw), TRUSTED, ISSUED)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(100), deadline=None)
@given(json_like, st.sampled_from(["payload", "payloadType", "signatures", None]))
def test_anything_else_is_refused_without_a_crash(value: Any, place: Any) -> None:
    outer = json.loads(DOUBLE)
    if place is None:
        outer = value
    else:
        outer[place] = value
    with pytest.raises(CertificateError):
        verify(ARTEFACT, json.dumps(outer).encode(), TRUSTED, ISSUED)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * 5000, b"\xff\xfe", b"null", b" " * (1 << 21)])
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedCertificate):
        verify(ARTEFACT, raw, TRUSTED, ISSUED)


def test_local_evidence_has_no_place_in_a_certificate() -> None:
    fields = set(msgspec.json.schema(certificate.Statement)["$defs"])
    assert not {name for name in fields if "Local" in name or "Worst" in name}
    assert date.fromisoformat(content().predicate.expires) == ISSUED + timedelta(days=365)
