"""TLS of the consortium: one authority per coordinator, P-256 keys, certificates that say what they are for.

The authority serves TLS only. No property of the secure sum rests on it: who is a member is decided by
pinned Ed25519 identities (`nodes.policy`), so that a dishonest coordinator can enrol whom it likes and gains
nothing. TLS keys are P-256 because that is what every TLS stack takes; they are used for nothing else.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodes.config import Paths, parse_name
from nodes.errors import CertificateProblem, StorageProblem
from nodes.files import read, read_private, write
from nodes.fingerprint import fingerprint

__all__ = [
    "Authority",
    "Credentials",
    "authority_fingerprint",
    "check_certificate",
    "check_issued",
    "check_key",
    "check_validity",
    "create_authority",
    "create_key",
    "create_server",
    "load_authority",
    "load_certificate",
    "load_credentials",
    "load_key",
    "make_request",
    "name_of",
    "parse_certificate",
    "sign_request",
]

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 397
_BACKDATE: Final = dt.timedelta(hours=1)  # clocks of hospitals differ
_LIMIT: Final = 1 << 16
_HOST: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """The coordinator's TLS authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(_PEM)

    @property
    def fingerprint(self) -> str:
        """What a site compares over the telephone before it accepts its bundle."""
        return authority_fingerprint(self.certificate)


@dataclass(frozen=True)
class Credentials:
    """PEM bytes that gRPC takes on either side."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def authority_fingerprint(certificate: x509.Certificate) -> str:
    """Return the fingerprint of an authority's public key (SubjectPublicKeyInfo, DER)."""
    public = certificate.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fingerprint(der)


def create_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key and store it as PKCS8 PEM, mode 0600."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(path, pem, private=True)
    return key


def create_authority(paths: Paths, consortium: str, now: dt.datetime) -> Authority:
    """Make and store the coordinator's TLS authority.

    Args:
        paths: The coordinator's data directory; an authority that is there already is not replaced.
        consortium: Common name of the authority.
        now: The present, with time zone.

    Raises:
        StorageProblem: there is an authority already, or it cannot be written.
    """
    if paths.authority_key.exists() or paths.authority.exists():
        raise StorageProblem(
            f"{paths.authority_key}: this coordinator has an authority already; replacing it would lock "
            "every hospital out. Use another data_dir for another consortium"
        )
    key = create_key(paths.authority_key)
    name = _subject(consortium)
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    authority = Authority(builder.sign(key, hashes.SHA256()), key)
    write(paths.authority, authority.pem)
    return authority


def load_authority(paths: Paths) -> Authority:
    """Read the coordinator's TLS authority.

    Raises:
        StorageProblem: a file is missing or the key is open to others.
        CertificateProblem: a file is damaged, or key and certificate do not belong together.
    """
    certificate = load_certificate(paths.authority)
    key = load_key(paths.authority_key)
    check_key(certificate, key, paths.authority_key)
    return Authority(certificate, key)


def create_server(authority: Authority, paths: Paths, hosts: Sequence[str], now: dt.datetime) -> None:
    """Make and store the coordinator's own server key and certificate.

    Args:
        authority: Signs it.
        paths: The coordinator's data directory.
        hosts: Host names and IP addresses at which sites reach it, besides localhost and 127.0.0.1.
        now: The present, with time zone.

    Raises:
        CertificateProblem: a host is neither a DNS name nor an IP address.
    """
    names = [_general_name(host) for host in dict.fromkeys(("localhost", "127.0.0.1", "::1", *hosts))]
    key = create_key(paths.tls_key)
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    certificate = _issue(authority, "coordinator", key.public_key(), names=names, usage=usage, now=now)
    write(paths.certificate, certificate.public_bytes(_PEM))


def make_request(key: ec.EllipticCurvePrivateKey, site: str) -> bytes:
    """Return a PEM certificate request (CSR); the key stays where it is."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(parse_name(site)))
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def sign_request(authority: Authority, request: bytes, site: str, now: dt.datetime) -> bytes:
    """Return a client certificate (PEM) for a site's request.

    Nothing but the public key is taken from the request: name, usage and validity are the coordinator's.

    Args:
        authority: Signs it.
        request: PEM certificate request.
        site: The name that the coordinator's operator admitted.
        now: The present, with time zone.

    Raises:
        CertificateProblem: not a request, not signed by its own key, another name, or not a P-256 key.
    """
    try:
        parsed = x509.load_pem_x509_csr(request)
        valid = parsed.is_signature_valid
        public = parsed.public_key()
    except ValueError as error:
        raise CertificateProblem(f"request of {site!r}: not a PEM certificate request") from error
    if not valid:
        raise CertificateProblem(f"request of {site!r}: not signed by its own key; have the site make it again")
    if _name_in(parsed.subject) != site:
        raise CertificateProblem(f"request of {site!r}: made for another name; have the site make it again")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise CertificateProblem(f"request of {site!r}: its key is not P-256; have the site make it again")
    names = [x509.DNSName(site)]
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = _issue(authority, site, public, names=names, usage=usage, now=now)
    return certificate.public_bytes(_PEM)


def load_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises:
        StorageProblem: missing or unreadable.
        CertificateProblem: not a certificate.
    """
    return parse_certificate(read(path, limit=_LIMIT), str(path))


def parse_certificate(pem: bytes, source: str) -> x509.Certificate:
    """Parse a PEM certificate; ``source`` names it in the error."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateProblem(f"{source}: not a PEM certificate; enrol again") from error


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 key.

    Raises:
        StorageProblem: missing, or open to others.
        CertificateProblem: not a P-256 key in PKCS8 PEM.
    """
    pem = read_private(path, limit=_LIMIT)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateProblem(f"{path}: not an unencrypted PEM key; enrol again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateProblem(f"{path}: not a P-256 key; enrol again")
    return key


def check_certificate(path: Path, now: dt.datetime) -> x509.Certificate:
    """Return the certificate if ``now`` lies inside its validity.

    Raises:
        CertificateProblem: expired or not yet valid; names the file, the date and the way out.
    """
    certificate = load_certificate(path)
    check_validity(certificate, str(path), now)
    return certificate


def check_validity(certificate: x509.Certificate, source: str, now: dt.datetime) -> None:
    """Refuse a certificate outside its validity; ``source`` names it in the error."""
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now > ends:
        raise CertificateProblem(f"{source}: expired on {ends:%Y-%m-%d}; ask the coordinator to enrol this site again")
    if now < begins:
        raise CertificateProblem(f"{source}: valid from {begins:%Y-%m-%d %H:%M} UTC on; check this machine's clock")


def check_issued(certificate: x509.Certificate, authority: x509.Certificate, source: str) -> None:
    """Refuse a foreign certificate: one that this authority did not sign.

    Raises:
        CertificateProblem: signed by somebody else.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateProblem(
            f"{source}: issued by another authority than {_name_in(authority.subject)!r} "
            f"({authority_fingerprint(authority)}); use the bundle of this coordinator"
        ) from error


def check_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, source: Path) -> None:
    """Refuse a key that does not belong to the certificate.

    Raises:
        CertificateProblem: they do not belong together.
    """
    if certificate.public_key() != key.public_key():
        raise CertificateProblem(f"{source}: does not belong to the certificate beside it; enrol again")


def name_of(certificate: x509.Certificate) -> str:
    """Return the common name of a certificate: the site it was issued to."""
    return _name_in(certificate.subject)


def load_credentials(paths: Paths, now: dt.datetime) -> Credentials:
    """Return what gRPC needs, after every check that can be made without a connection.

    Raises:
        StorageProblem: a file is missing, or the key is open to others.
        CertificateProblem: expired, foreign, damaged, or key and certificate do not belong together.
    """
    authority = check_certificate(paths.authority, now)
    certificate = check_certificate(paths.certificate, now)
    check_issued(certificate, authority, str(paths.certificate))
    key = load_key(paths.tls_key)
    check_key(certificate, key, paths.tls_key)
    return Credentials(
        authority=authority.public_bytes(_PEM),
        certificate=certificate.public_bytes(_PEM),
        key=read_private(paths.tls_key, limit=_LIMIT),
    )


def _issue(
    authority: Authority,
    name: str,
    public: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now: dt.datetime,
) -> x509.Certificate:
    builder = _builder(_subject(name), authority.certificate.subject, public, now, CERTIFICATE_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return builder.add_extension(identifier, critical=False).sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise CertificateProblem(f"{host!r}: neither a host name nor an IP address")
    return x509.DNSName(name)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name_in(subject: x509.Name) -> str:
    attributes = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value) if len(attributes) == 1 else ""
