"""Keys stay, requests leave, bundles come back; every forged or stale paper is refused by name."""

import datetime as dt
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from nodes import enrolment, tls
from nodes.config import Paths
from nodes.errors import CertificateProblem, StorageProblem
from nodes.fingerprint import fingerprint, normalise
from secagg.keys import verify

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)


@pytest.fixture
def coordinator(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "coordinator")
    paths.root.mkdir()
    authority = tls.create_authority(paths, "haemfed test", NOW)
    tls.create_server(authority, paths, ["coordinator.example.org", "10.0.0.7"], NOW)
    return paths


@pytest.fixture
def site(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "site")
    paths.root.mkdir()
    return paths


def enrol(coordinator: Paths, site: Paths, name: str = "alder", now: dt.datetime = NOW) -> bytes:
    authority = tls.load_authority(coordinator)
    bundle = enrolment.admit(authority, enrolment.request(site, name), now).bundle
    enrolment.accept(site, bundle, site=name, expected=authority.fingerprint, now=now)
    return bundle


def test_enrolled_site_can_connect(coordinator: Paths, site: Paths) -> None:
    enrol(coordinator, site)

    credentials = tls.load_credentials(site, NOW)
    server = tls.load_credentials(coordinator, NOW)
    assert credentials.authority == server.authority
    client = x509.load_pem_x509_certificate(credentials.certificate)
    trusted = PolicyBuilder().store(Store([x509.load_pem_x509_certificate(server.authority)])).time(NOW)
    assert tls.name_of(client) == "alder"
    assert trusted.build_client_verifier().verify(client, []).subjects == [x509.DNSName("alder")]
    ours = x509.load_pem_x509_certificate(server.certificate)
    for host in ("localhost", "coordinator.example.org"):
        trusted.build_server_verifier(x509.DNSName(host)).verify(ours, [])
    names = ours.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {
        "127.0.0.1",
        "::1",
        "10.0.0.7",
    }


def test_a_certificate_has_one_job(coordinator: Paths, site: Paths) -> None:
    enrol(coordinator, site)

    for paths, usage in (
        (site, ExtendedKeyUsageOID.CLIENT_AUTH),
        (coordinator, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        extensions = tls.load_certificate(paths.certificate).extensions
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_every_secret_is_private_and_none_leaves(coordinator: Paths, site: Paths) -> None:
    bundle = enrol(coordinator, site)
    papers = enrolment.request(site, "alder") + bundle

    for path in (site.identity, site.tls_key, coordinator.authority_key, coordinator.tls_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"PRIVATE" not in papers
        body = b"".join(path.read_bytes().splitlines()[1:-1])
        assert body[:40] not in papers.replace(b"\\n", b"")
    assert "PRIVATE" not in repr(tls.load_credentials(site, NOW))


def test_asking_again_keeps_the_keys(coordinator: Paths, site: Paths) -> None:
    enrol(coordinator, site)
    before = (site.identity.read_bytes(), site.tls_key.read_bytes())

    enrol(coordinator, site, now=NOW + dt.timedelta(days=400))

    assert (site.identity.read_bytes(), site.tls_key.read_bytes()) == before
    tls.load_credentials(site, NOW + dt.timedelta(days=700))


def test_expired_and_not_yet_valid(coordinator: Paths, site: Paths) -> None:
    enrol(coordinator, site)

    with pytest.raises(CertificateProblem, match=f"{site.certificate}: expired on 2027-12-27; .*enrol"):
        tls.check_certificate(site.certificate, NOW + dt.timedelta(days=398))
    with pytest.raises(CertificateProblem, match="valid from 2026-11-25 11:00 UTC on; check this machine's clock"):
        tls.check_certificate(site.certificate, NOW - dt.timedelta(hours=2))
    tls.check_certificate(site.certificate, NOW - dt.timedelta(minutes=59))


def test_a_foreign_certificate_is_refused(coordinator: Paths, site: Paths, tmp_path: Path) -> None:
    enrol(coordinator, site)
    other = Paths(tmp_path / "other")
    other.root.mkdir()
    tls.create_authority(other, "haemfed test", NOW)  # same name, another key
    site.authority.write_bytes(other.authority.read_bytes())

    with pytest.raises(CertificateProblem, match="another authority"):
        tls.load_credentials(site, NOW)


def test_another_coordinator_cannot_slip_its_bundle_in(coordinator: Paths, site: Paths, tmp_path: Path) -> None:
    impostor = Paths(tmp_path / "impostor")
    impostor.root.mkdir()
    mallory = tls.create_authority(impostor, "haemfed test", NOW)
    bundle = enrolment.admit(mallory, enrolment.request(site, "alder"), NOW).bundle
    read_out = tls.load_authority(coordinator).fingerprint

    with pytest.raises(CertificateProblem, match="comes from a coordinator with fingerprint"):
        enrolment.accept(site, bundle, site="alder", expected=read_out, now=NOW)
    # A bundle that merely claims the right fingerprint is still the impostor's.
    claimed = json.dumps(json.loads(bundle) | {"fingerprint": read_out}).encode()
    with pytest.raises(CertificateProblem, match="comes from a coordinator with fingerprint"):
        enrolment.accept(site, claimed, site="alder", expected=read_out, now=NOW)
    assert not site.certificate.exists()
    assert not site.authority.exists()


def test_bundle_of_another_site_or_key(coordinator: Paths, site: Paths, tmp_path: Path) -> None:
    authority = tls.load_authority(coordinator)
    enrolment.request(site, "alder")
    other = Paths(tmp_path / "birch")
    other.root.mkdir()
    for name, says in (("birch", "made for 'birch'"), ("alder", "does not belong to the certificate")):
        bundle = enrolment.admit(authority, enrolment.request(other, name), NOW).bundle
        with pytest.raises(CertificateProblem, match=says):
            enrolment.accept(site, bundle, site="alder", expected=authority.fingerprint, now=NOW)


def test_an_edited_request_is_refused(coordinator: Paths, site: Paths) -> None:
    authority = tls.load_authority(coordinator)
    asked = json.loads(enrolment.request(site, "alder"))

    for change in (
        {"site": "birch"},
        {"identity": "A" * 43 + "="},
        {"csr": asked["csr"].replace("A", "B", 1)},
    ):
        with pytest.raises(CertificateProblem, match="request of"):
            enrolment.admit(authority, json.dumps(asked | change).encode(), NOW)
    for junk in (b"", b"{}", b"\xff", json.dumps(asked | {"more": 1}).encode()):
        with pytest.raises(CertificateProblem, match="not a haemfed/enrolment-request/1 document"):
            enrolment.admit(authority, junk, NOW)
    with pytest.raises(CertificateProblem, match="format"):
        enrolment.admit(authority, json.dumps(asked | {"format": "haemfed/enrolment-request/2"}).encode(), NOW)


def test_a_request_for_a_key_that_its_sender_does_not_hold(coordinator: Paths, site: Paths) -> None:
    authority = tls.load_authority(coordinator)
    der = x509.load_pem_x509_csr(tls.make_request(tls.create_key(site.tls_key), "alder")).public_bytes(
        serialization.Encoding.DER
    )
    # The last octets are the signature's; the name and the key in front stay as they are.
    forged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(CertificateProblem, match="not signed by its own key"):
        tls.sign_request(authority, forged, "alder", NOW)


def test_only_p256_requests_are_signed(coordinator: Paths) -> None:
    authority = tls.load_authority(coordinator)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alder")])
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        with pytest.raises(CertificateProblem, match="not P-256"):
            tls.sign_request(authority, csr.public_bytes(serialization.Encoding.PEM), "alder", NOW)


def test_an_authority_and_an_identity_are_never_overwritten(coordinator: Paths, site: Paths) -> None:
    with pytest.raises(StorageProblem, match="authority already"):
        tls.create_authority(coordinator, "again", NOW)
    enrolment.create_identity(site.identity)
    with pytest.raises(StorageProblem, match="never overwritten"):
        enrolment.create_identity(site.identity)


def test_identity_survives_and_is_not_a_tls_key(coordinator: Paths, site: Paths) -> None:
    made = enrolment.create_identity(site.identity)
    read = enrolment.load_identity(site.identity)

    verify(made.public, read.sign("test", b"x"), "alder", "test", b"x")
    with pytest.raises(CertificateProblem, match="not an Ed25519 key"):
        enrolment.load_identity(coordinator.tls_key)
    with pytest.raises(CertificateProblem, match="not a P-256 key"):
        tls.load_key(site.identity)
    site.identity.chmod(0o644)
    with pytest.raises(StorageProblem, match="chmod 600"):
        enrolment.load_identity(site.identity)


@pytest.mark.parametrize("host", ["", "a b", "-/-", "exa_mple..org", "*.example.org", "a" * 64])
def test_a_host_that_is_none(coordinator: Paths, host: str) -> None:
    with pytest.raises(CertificateProblem, match="neither a host name nor an IP address"):
        tls.create_server(tls.load_authority(coordinator), coordinator, [host], NOW)


@pytest.mark.parametrize("name", ["", "Alder", "a.b", "-a", "a" * 64, "ä"])
def test_a_name_that_is_none(site: Paths, name: str) -> None:
    with pytest.raises(CertificateProblem, match="request: the name"):
        enrolment.request(site, name)


def test_fingerprints_are_speakable() -> None:
    shown = fingerprint(bytes(32))

    assert normalise(f" {shown.lower().replace('-', ' ')}\n") == shown
    assert fingerprint(bytes(31) + b"\1") != shown
    for wrong in ("", shown[:-1], shown + "A", shown.replace(shown[0], "1")):
        with pytest.raises(ValueError, match="8 groups of 4"):
            normalise(wrong)
