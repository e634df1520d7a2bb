"""Tests of ``broker/sandbox/authority.py``."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from broker.sandbox.authority import (
    Credential,
    certificate_thumbprint,
    issue_client,
    issue_server,
    make_authority,
    moment,
    read_credential,
    self_sign_server,
)

NOW = datetime(2026, 9, 1, tzinfo=UTC)


def verify_server(authority: Credential, server: Credential, subject: x509.DNSName | x509.IPAddress) -> None:
    """Verify as a strict client does; raises VerificationError."""
    builder = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    builder.build_server_verifier(subject).verify(server.certificate, [])


def test_a_server_certificate_is_good_for_localhost_and_its_address():
    """By name and by address, to a verifier that is stricter than OpenSSL."""
    authority = make_authority(NOW)
    server = issue_server(authority, now=NOW)

    verify_server(authority, server, x509.DNSName("localhost"))
    verify_server(authority, server, x509.IPAddress(IPv4Address("127.0.0.1")))


def test_two_authorities_are_not_mistaken_for_each_other():
    """A new one for each run: neither verifies what the other issued, and their names differ."""
    first, second = make_authority(NOW), make_authority(NOW)

    with pytest.raises(VerificationError):
        verify_server(first, issue_server(second, now=NOW), x509.DNSName("localhost"))
    assert first.certificate.subject != second.certificate.subject


def test_the_authority_cannot_vouch_for_a_real_host():
    """Whoever trusts it by mistake trusts it for loopback only (RFC 5280 section 4.2.1.10)."""
    authority = make_authority(NOW)
    bank = issue_server(authority, now=NOW, names=("bank.example",), addresses=())

    with pytest.raises(VerificationError):
        verify_server(authority, bank, x509.DNSName("bank.example"))


def test_an_expired_certificate_was_good_once():
    """Its validity lies in the past, and is not empty."""
    server = issue_server(make_authority(NOW), now=NOW, lifetime=timedelta(days=-1)).certificate

    assert server.not_valid_before_utc < server.not_valid_after_utc < NOW


def test_a_self_signed_certificate_is_nobodys():
    """The authority does not vouch for it."""
    with pytest.raises(VerificationError):
        verify_server(make_authority(NOW), self_sign_server(now=NOW), x509.DNSName("localhost"))


def test_a_client_certificate_names_its_client_and_cannot_be_a_server():
    """Extended key usage: client authentication only."""
    authority = make_authority(NOW)
    client = issue_client(authority, now=NOW, common_name="localhost")

    (name,) = client.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "localhost (sandbox client)"
    with pytest.raises(VerificationError):
        verify_server(authority, client, x509.DNSName("localhost"))


def test_certificates_can_be_used_at_once_by_a_clock_that_is_behind():
    """Backdated a little; their end counts from now."""
    client = issue_client(make_authority(NOW), now=NOW, common_name="a", lifetime=timedelta(hours=1)).certificate

    assert client.not_valid_before_utc <= NOW - timedelta(minutes=5)
    assert client.not_valid_after_utc == NOW + timedelta(hours=1)


def test_a_thumbprint_is_the_sha_256_of_the_der_certificate():
    """RFC 8705 section 3.1, base64url without padding."""
    credential = make_authority(NOW)
    der = credential.certificate.public_bytes(serialization.Encoding.DER)

    assert certificate_thumbprint(der) == credential.thumbprint()
    assert len(credential.thumbprint()) == 43
    assert certificate_thumbprint(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")


def test_a_credential_is_read_back_as_it_was_written(tmp_path: Path):
    """And OpenSSL takes the pair."""
    written = make_authority(NOW)
    read = read_credential(written.certificate_pem(), written.private_key_pem())

    (tmp_path / "c.pem").write_bytes(read.certificate_pem())
    (tmp_path / "c.key").write_bytes(read.private_key_pem())
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c.pem", tmp_path / "c.key")
    assert read.thumbprint() == written.thumbprint()


def test_unix_time_becomes_an_aware_moment():
    """In UTC, wherever the machine is."""
    assert moment(0) == datetime(1970, 1, 1, tzinfo=UTC)
