"""Privacy certificates: an in-toto Statement v1 in a DSSE envelope, signed by an auditor and by the DPO.

The statement binds one model file (name and SHA-256) to the evidence that may leave, the policy and the verdict. There
is exactly one byte sequence for a certificate: RFC 8785 canonical JSON inside and outside, signatures in the order
auditor, DPO. Anything else is refused, so a changed byte anywhere is a refused certificate.

Auditor and DPO keys are keys of their own (not TLS, not the site's protocol identity), and DSSE signs
`"DSSEv1 " + lengths + content`, which none of the other signatures of this system can equal.

Sources: in-toto attestation framework v1 (Statement), DSSE v1.0.2 (envelope, PAE), RFC 8785 (JCS), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # has no __all__

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
from audits.policy import AUDITOR, DPO, Policy
from audits.verdict import Outcome, ReleasableEvidence, Verdict, decide, withheld

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Certificate",
    "CertificateError",
    "Facts",
    "Predicate",
    "Statement",
    "Subject",
    "TrustedKeys",
    "cosign",
    "reproduce",
    "require_pass",
    "sign",
    "statement",
    "verify",
    "verify_auditor",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://haemfed.org/attestations/privacy-audit/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BYTES = 1 << 20
ROLES = (AUDITOR, DPO)


@dataclass(frozen=True)
class Facts:
    """Public facts of the study that the certificate repeats; none is computed from patients.

    Attributes:
        study: SHA-256 (hex) of the signed study.
        study_name: its name.
        run: run id, hex.
        model_digest: digest of the weights in the transcript, hex.
        roster: sites of the largest roster.
        collusion: c.
        uploads: uploads charged per site at most.
        uploads_reserved: uploads the noise was calibrated to.
        steps: completed training steps.
        tool: software and version.
    """

    study: str
    study_name: str
    run: str
    model_digest: str
    roster: int
    collusion: int
    uploads: int
    uploads_reserved: int
    steps: int
    tool: str


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One artefact: its file name and {"sha256": hex}."""

    name: str
    digest: dict[str, str]


class Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is attested about the subject. Absence of a field means that nothing is claimed.

    Attributes:
        facts: public facts of the study.
        evidence: everything the verdict was computed from.
        verdict: the verdict and its reasons.
        issued: ISO date of issue, the first day of validity.
        expires: ISO date, the last day of validity.
        signers: roles that must have signed.
    """

    facts: Facts
    evidence: ReleasableEvidence
    verdict: Verdict
    issued: str
    expires: str
    signers: tuple[str, ...]


class Statement(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"type": "_type", "predicate_type": "predicateType"},
):
    """in-toto Statement v1 with exactly one subject."""

    type: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Predicate


@dataclass(frozen=True)
class TrustedKeys:
    """Whom the verifier trusts, by role; raw Ed25519 public keys of 32 bytes.

    Raises:
        MisuseError: a key in both roles (two signatures by one key are one signature), or no auditor.
    """

    auditors: tuple[bytes, ...]
    officers: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.auditors or set(self.auditors) & set(self.officers):
            raise MisuseError("trusted keys need an auditor, and auditor and DPO keys must differ")
        if any(len(key) != 32 for key in (*self.auditors, *self.officers)):
            raise MisuseError("an Ed25519 public key has 32 bytes")

    def by_id(self) -> dict[str, tuple[str, SSlibKey]]:
        """Return key id → (role, key)."""
        return {
            key.keyid: (role, key)
            for role, raws in ((AUDITOR, self.auditors), (DPO, self.officers))
            for key in map(_public, raws)
        }


@dataclass(frozen=True)
class Certificate:
    """A certificate whose bytes, signatures, artefact and dates were all checked.

    Attributes:
        statement: the content.
        signers: role → key id (hex).
        digest: SHA-256 (hex) of the envelope, to quote the certificate by.
    """

    statement: Statement
    signers: tuple[tuple[str, str], ...]
    digest: str

    @property
    def outcome(self) -> Outcome:
        """The signed verdict. Authentic does not mean PASS: see `require_pass`."""
        return self.statement.predicate.verdict.outcome


def _public(raw: bytes) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(raw))


def _canonical(value: Any) -> bytes:
    return rfc8785.dumps(msgspec.to_builtins(value))


def _seal(envelope: Envelope, order: Iterable[str]) -> bytes:
    ordered = {keyid: envelope.signatures[keyid] for keyid in order}
    return rfc8785.dumps(Envelope(envelope.payload, envelope.payload_type, ordered).to_dict())


def statement(
    artefact: bytes,
    name: str,
    *,
    facts: Facts,
    evidence: ReleasableEvidence,
    verdict: Verdict,
    policy: Policy,
    issued: date,
) -> Statement:
    """Compose the statement about one model file.

    Args:
        artefact: the bytes of the file.
        name: its file name, without a path.
        facts: public facts of the study.
        evidence: what the verdict was computed from.
        verdict: `decide(evidence, policy)`, or that verdict `withheld`.
        policy: gives the life time and the required signers.
        issued: day of issue.

    Raises:
        MisuseError: the name is a path, or the verdict does not follow from evidence and policy.
    """
    if not name or "/" in name or "\\" in name:
        raise MisuseError(f"subject {name!r} must be a file name without a path")
    computed = decide(evidence, policy)
    if verdict not in (computed, withheld(computed)):
        raise MisuseError("the verdict does not follow from this evidence under this policy")
    expires = issued + timedelta(days=int(policy.thresholds.expiry_days.value))
    return Statement(
        STATEMENT_TYPE,
        (Subject(name, {"sha256": hashlib.sha256(artefact).hexdigest()}),),
        PREDICATE_TYPE,
        Predicate(
            facts,
            evidence,
            verdict,
            issued.isoformat(),
            expires.isoformat(),
            policy.thresholds.required_signers.value,
        ),
    )


def sign(content: Statement, auditor: Ed25519PrivateKey) -> bytes:
    """Sign a statement with the auditor's key.

    Returns:
        the envelope, canonical JSON.
    """
    envelope = Envelope(_canonical(content), PAYLOAD_TYPE, {})
    signature = envelope.sign(CryptoSigner(auditor))
    return _seal(envelope, [signature.keyid])


def cosign(envelope: bytes, officer: Ed25519PrivateKey, *, artefact: bytes, trusted: TrustedKeys, at: date) -> bytes:
    """Add the DPO's signature, after checking what he signs.

    Args:
        envelope: what `sign` returned.
        officer: the DPO's key; his public key must be among `trusted.officers`.
        artefact: the file that the certificate is about.
        trusted: keys trusted by the DPO.
        at: today, by the caller's clock.

    Raises:
        CertificateError: the auditor's certificate is not acceptable, or the key is not a trusted DPO's.
    """
    verify_auditor(artefact, envelope, trusted, at)
    signer = CryptoSigner(officer)
    role, _ = trusted.by_id().get(signer.public_key.keyid, ("nobody", None))
    if role != DPO:
        raise SignatureRefused(f"the co-signing key is trusted as {role}, not as {DPO}")
    opened = _open(envelope)
    auditor = next(iter(opened.signatures))
    signature = opened.sign(signer)
    return _seal(opened, [auditor, signature.keyid])


def _open(raw: bytes) -> Envelope:
    """Parse the one canonical form of an envelope."""
    if len(raw) > MAX_BYTES:
        raise MalformedCertificate(f"{len(raw)} bytes; a certificate has at most {MAX_BYTES}")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        envelope = Envelope.from_dict(fields)
        again = _seal(envelope, list(envelope.signatures))
    except (msgspec.MsgspecError, rfc8785.CanonicalizationError, FormatError) as error:
        raise MalformedCertificate(f"not a DSSE envelope: {type(error).__name__}") from None
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # from_dict indexes into whatever it is given; every one of these means "not an envelope".
        raise MalformedCertificate(f"not a DSSE envelope: {type(error).__name__}") from None
    if again != raw:
        raise MalformedCertificate("the envelope is not in canonical form")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise MalformedCertificate("the payload is not an in-toto statement")
    return envelope


def _signers(envelope: Envelope, trusted: TrustedKeys) -> dict[str, str]:
    """Check every signature; return role → key id."""
    known, roles = trusted.by_id(), dict[str, str]()
    for keyid in envelope.signatures:
        if keyid not in known:
            raise SignatureRefused(f"signed by a key that is not trusted: {str(keyid)[:16]}…")
        role, key = known[keyid]
        if role in roles:
            raise SignatureRefused(f"two signatures for the role {role}")
        single = Envelope(envelope.payload, envelope.payload_type, {keyid: envelope.signatures[keyid]})
        try:
            single.verify([key], 1)
        except VerificationError:
            raise SignatureRefused(f"the signature of the {role} is not valid") from None
        roles[role] = keyid
    if list(roles) != [role for role in ROLES if role in roles]:
        raise MalformedCertificate("signatures are not in the order auditor, DPO")
    return roles


def _read(payload: bytes) -> Statement:
    try:
        content = msgspec.json.decode(payload, type=Statement)
        again = _canonical(content)
    except (msgspec.MsgspecError, rfc8785.CanonicalizationError, RecursionError, MisuseError) as error:
        raise MalformedCertificate(f"not a privacy-audit statement: {error}") from None
    if again != payload:
        raise MalformedCertificate("the statement is not in canonical form or has fields of another version")
    if (content.type, content.predicate_type, len(content.subject)) != (STATEMENT_TYPE, PREDICATE_TYPE, 1):
        raise MalformedCertificate("the statement is not a privacy audit of one artefact")
    return content


def _verify(artefact: bytes, raw: bytes, trusted: TrustedKeys, at: date, required: set[str]) -> Certificate:
    envelope = _open(raw)
    roles = _signers(envelope, trusted)
    content = _read(envelope.payload)  # only now: nobody unknown gets to feed this parser
    missing = required - set(roles)
    if missing:
        raise SignatureRefused(f"the signature of the {' and the '.join(sorted(missing))} is missing")
    subject = content.subject[0]
    if subject.digest != {"sha256": hashlib.sha256(artefact).hexdigest()}:
        raise WrongArtefact(f"the certificate is for {subject.name!r} with other content than this file")
    try:
        issued, expires = (
            date.fromisoformat(content.predicate.issued),
            date.fromisoformat(content.predicate.expires),
        )
    except ValueError:
        raise MalformedCertificate("the dates of the certificate are no dates") from None
    if not issued <= at <= expires:
        raise OutsideValidity(f"valid from {issued} to {expires}, not on {at}; ask for a new audit")
    return Certificate(content, tuple(roles.items()), hashlib.sha256(raw).hexdigest())


def verify(artefact: bytes, envelope: bytes, trusted: TrustedKeys, at: date) -> Certificate:
    """Check a finished certificate against the file it is about, offline.

    Args:
        artefact: bytes of the model file.
        envelope: bytes of the certificate.
        trusted: whom the verifier trusts, by role.
        at: the day to judge validity on.

    Returns:
        the certificate; read `outcome`, or call `require_pass`.

    Raises:
        MalformedCertificate: not the one canonical form, unknown or missing fields.
        SignatureRefused: a signature is invalid, by an unknown key, or missing (auditor and DPO are both
            needed). WrongArtefact: made for another file. OutsideValidity: not valid on that day.
    """
    return _verify(artefact, envelope, trusted, at, set(ROLES))


def verify_auditor(artefact: bytes, envelope: bytes, trusted: TrustedKeys, at: date) -> Certificate:
    """As `verify`, for a certificate that still waits for the DPO: only the auditor must have signed."""
    return _verify(artefact, envelope, trusted, at, {AUDITOR})


def require_pass(certificate: Certificate) -> Certificate:
    """Return the certificate if its verdict is PASS.

    Raises:
        NotPassed: any other verdict.
    """
    if certificate.outcome is not Outcome.PASS:
        raise NotPassed(f"the verdict is {certificate.outcome}: {certificate.statement.predicate.verdict.headline()}")
    return certificate


def reproduce(certificate: Certificate, policy: Policy) -> Verdict:
    """Compute the verdict again from the evidence in the certificate.

    Raises:
        IntegrityError: the policy is another one, or the signed verdict does not follow from the evidence.
    """
    predicate = certificate.statement.predicate
    if policy.digest() != predicate.verdict.policy_digest:
        raise IntegrityError(f"the certificate was judged under another policy than {policy.name!r} as given")
    computed = decide(predicate.evidence, policy)
    if predicate.verdict not in (computed, withheld(computed)):
        raise IntegrityError("the signed verdict does not follow from the signed evidence")
    return predicate.verdict
