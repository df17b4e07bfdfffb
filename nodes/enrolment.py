"""How a hospital joins a consortium: a request leaves, a bundle comes back, no private key travels.

::

    site                                   coordinator
    request  ── name, identity, CSR ─────▶  admit   (a person has checked who is asking)
    accept   ◀─ bundle: two certificates ─
      └─ compares the authority's fingerprint, read over the telephone

A site holds two keys with one job each: a P-256 key for TLS (`nodes.tls`) and an Ed25519 identity that other
sites pin and that signs set-up messages, studies and this request. Data protection officers and auditors have
Ed25519 keys of their own, made by the same functions. Every Ed25519 signature is over
``enc("haemfed/<purpose>/v1", …)``, so that none can be taken for another, nor for a TLS signature.
"""

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nodes import tls
from nodes.config import Paths, parse_name
from nodes.errors import CertificateProblem, StorageProblem
from nodes.files import read, read_private, write
from nodes.fingerprint import fingerprint, normalise
from secagg.errors import SecaggError
from secagg.keys import Identity, verify

__all__ = [
    "Admitted",
    "Bundle",
    "Request",
    "accept",
    "admit",
    "create_identity",
    "load_identity",
    "read_document",
    "read_request",
    "request",
]

_PURPOSE: Final = "enrolment"
_LIMIT: Final = 1 << 16
_REQUEST_FORMAT: Final = "haemfed/enrolment-request/1"
_BUNDLE_FORMAT: Final = "haemfed/enrolment-bundle/1"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What leaves the site: all public. ``signature`` binds the CSR and the name to the identity."""

    format: str
    site: str
    identity: bytes
    csr: str
    signature: bytes


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes back: all public."""

    format: str
    site: str
    authority: str
    certificate: str
    fingerprint: str


@dataclass(frozen=True)
class Admitted:
    """What the coordinator's operator sees and stores after `admit`."""

    site: str
    identity: bytes
    bundle: bytes

    @property
    def fingerprint(self) -> str:
        """The identity's fingerprint, for the other hospitals to compare over the telephone."""
        return fingerprint(self.identity)


def create_identity(path: Path) -> Identity:
    """Make an Ed25519 key and store it as PKCS8 PEM, mode 0600.

    For a site, its data protection officer, or an auditor: one file and one key for each.

    Raises:
        StorageProblem: there is a file already (a lost identity means that every peer must pin anew, so it is
            never overwritten), or it cannot be written.
    """
    if path.exists():
        raise StorageProblem(f"{path}: exists already and is never overwritten; move it away to make a new key")
    identity = Identity.generate(os.urandom)
    key = Ed25519PrivateKey.from_private_bytes(identity.seed)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(path, pem, private=True)
    return identity


def load_identity(path: Path) -> Identity:
    """Read an Ed25519 key.

    Raises:
        StorageProblem: missing, or open to others.
        CertificateProblem: not an Ed25519 key in PKCS8 PEM.
    """
    pem = read_private(path, limit=_LIMIT)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateProblem(f"{path}: not an unencrypted PEM key; restore it from its backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateProblem(f"{path}: not an Ed25519 key; a TLS key cannot serve as an identity")
    return Identity(key.private_bytes_raw())


def request(paths: Paths, site: str) -> bytes:
    """Make the site's request; keys that are missing are made, keys that are there are kept.

    Args:
        paths: The site's data directory.
        site: Its name, a DNS label.

    Returns:
        JSON for the coordinator; nothing in it is secret.

    Raises:
        StorageProblem: a key cannot be written, or is open to others.
        CertificateProblem: a key is damaged, or the name is not a DNS label.
    """
    _check_name(site, "request")
    identity = load_identity(paths.identity) if paths.identity.exists() else create_identity(paths.identity)
    key = tls.load_key(paths.tls_key) if paths.tls_key.exists() else tls.create_key(paths.tls_key)
    csr = tls.make_request(key, site)
    return msgspec.json.encode(
        Request(
            format=_REQUEST_FORMAT,
            site=site,
            identity=identity.public,
            csr=csr.decode("ascii"),
            signature=identity.sign(_PURPOSE, site, csr),
        )
    )


def read_request(document: bytes) -> Request:
    """Check a site's request: its name, and that the identity in it signed it.

    Raises:
        CertificateProblem: not a request, or edited.
    """
    asked = _decode(document, Request, _REQUEST_FORMAT, "request")
    _check_name(asked.site, "request")
    try:
        verify(asked.identity, asked.signature, asked.site, _PURPOSE, asked.site, asked.csr.encode())
    except SecaggError as error:
        raise CertificateProblem(
            f"request of {asked.site!r}: its signature does not fit: edited on the way; get the original"
        ) from error
    return asked


def admit(authority: tls.Authority, document: bytes, now: dt.datetime) -> Admitted:
    """Check a request and answer it. That the hospital may join was decided by a person before.

    Args:
        authority: The coordinator's TLS authority.
        document: What `request` returned.
        now: The present, with time zone.

    Raises:
        CertificateProblem: not a request, edited, or made for another name.
    """
    asked = read_request(document)
    csr = asked.csr.encode()
    bundle = Bundle(
        format=_BUNDLE_FORMAT,
        site=asked.site,
        authority=authority.pem.decode("ascii"),
        certificate=tls.sign_request(authority, csr, asked.site, now).decode("ascii"),
        fingerprint=authority.fingerprint,
    )
    return Admitted(asked.site, asked.identity, msgspec.json.encode(bundle))


def accept(paths: Paths, document: bytes, *, site: str, expected: str, now: dt.datetime) -> None:
    """Check the coordinator's bundle against the fingerprint from the telephone and store it.

    Args:
        paths: The site's data directory, where `request` left the TLS key.
        document: The bundle.
        site: This site's name.
        expected: The authority's fingerprint as it was read out; case, spaces and hyphens do not matter.
        now: The present, with time zone.

    Raises:
        StorageProblem: the TLS key is missing, or a file cannot be written.
        CertificateProblem: another coordinator, another site, another key, expired, or damaged; nothing was
            stored.
    """
    bundle = _decode(document, Bundle, _BUNDLE_FORMAT, "bundle")
    authority = tls.parse_certificate(bundle.authority.encode(), "bundle: authority")
    certificate = tls.parse_certificate(bundle.certificate.encode(), "bundle: certificate")
    shown = tls.authority_fingerprint(authority)
    try:
        wanted = normalise(expected)
    except ValueError as error:
        raise CertificateProblem(f"fingerprint: {error}; have it read out again") from error
    if shown != wanted:
        raise CertificateProblem(
            f"bundle: comes from a coordinator with fingerprint {shown}, not {wanted}; telephone the "
            "coordinator and do not use this bundle"
        )
    tls.check_issued(certificate, authority, "bundle")
    if tls.name_of(certificate) != site or bundle.site != site:
        raise CertificateProblem(f"bundle: made for {bundle.site!r}, this site is {site!r}; get the right one")
    tls.check_key(certificate, tls.load_key(paths.tls_key), paths.tls_key)
    tls.check_validity(certificate, "bundle", now)
    # The authority last: a crash in between leaves a pair that `tls.load_credentials` refuses.
    write(paths.certificate, bundle.certificate.encode())
    write(paths.authority, bundle.authority.encode())


def read_document(path: Path) -> bytes:
    """Read a request or a bundle from a file."""
    return read(path, limit=_LIMIT)


_T = TypeVar("_T", Request, Bundle)


def _decode(document: bytes, kind: type[_T], expected: str, what: str) -> _T:
    try:
        decoded = msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CertificateProblem(f"{what}: not a {expected} document; have it sent again as a file") from error
    if decoded.format != expected:
        raise CertificateProblem(f"{what}: format {decoded.format!r}, this version reads {expected!r}")
    return decoded


def _check_name(site: str, what: str) -> None:
    try:
        parse_name(site)
    except ValueError as error:
        raise CertificateProblem(f"{what}: the name {site!r} {error}") from error
