"""Tests of ``broker/sandbox/authorities.py``: one authority after the other, and what they issue."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from broker.sandbox.authorities import Authorities, CertificateRefusedError, Step
from broker.sandbox.authority import read_credential
from broker.sandbox.layout import load

NOW = 1_790_000_000.0


@pytest.fixture
def authorities(prepared: Path, tmp_path: Path) -> Authorities:
    directory = tmp_path / "sandbox"
    shutil.copytree(prepared, directory)
    return Authorities.load(directory, load(directory).authority)


def subjects(path: Path) -> list[x509.Name]:
    return [one.subject for one in x509.load_pem_x509_certificates(path.read_bytes())]


def issuer_of(path: Path) -> x509.Name:
    return x509.load_pem_x509_certificate(path.read_bytes()).issuer


def request(key: Any, *, name: str = "app.example") -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)


def pem(asked: x509.CertificateSigningRequest) -> bytes:
    return asked.public_bytes(serialization.Encoding.PEM)


def test_authorities_follow_each_other_step_by_step(authorities: Authorities):
    """Who is trusted, who issues the server's certificates, and whose clients are believed, after each step."""
    directory, first = authorities.directory, authorities.current.certificate.subject
    states = []
    for step in (Step.ANNOUNCE, Step.SWITCH, Step.WITHDRAW, Step.DISTRUST):
        authorities.take(step, now=NOW)
        states.append(
            (
                subjects(directory / "ca.pem"),
                issuer_of(directory / "server" / "good.pem"),
                subjects(directory / "server" / "clients-ca.pem"),
            )
        )
    second = authorities.current.certificate.subject

    assert first != second
    assert states == [
        ([first, second], first, [first]),
        ([first, second], second, [first, second]),
        ([second], second, [first, second]),
        ([second], second, [second]),
    ]
    assert authorities.generation == 4


def test_a_switch_announces_what_was_not_announced(authorities: Authorities):
    """All at once, as a server does whose operator forgot."""
    authorities.take(Step.SWITCH, now=NOW)

    assert len(subjects(authorities.directory / "ca.pem")) == 2
    assert authorities.announced is None


def test_an_announced_authority_stays_announced_when_the_earlier_ones_are_withdrawn(authorities: Authorities):
    """Else a switch to it would be to one that nobody was told of."""
    ca = authorities.directory / "ca.pem"
    for step in (Step.SWITCH, Step.ANNOUNCE, Step.WITHDRAW):
        authorities.take(step, now=NOW)

    assert authorities.announced is not None
    assert subjects(ca) == [authorities.current.certificate.subject, authorities.announced.certificate.subject]
    authorities.take(Step.SWITCH, now=NOW)
    assert authorities.current.certificate.subject in subjects(ca)


def test_a_renewal_keeps_the_authority(authorities: Authorities):
    """The server's certificates are new, the bad ones too, and nobody else's."""
    server = authorities.directory / "server"
    before = {name: (server / f"{name}.pem").read_bytes() for name in ("good", "expired", "wrong_name", "ca")}

    authorities.take(Step.RENEW, now=NOW)

    after = {name: (server / f"{name}.pem").read_bytes() for name in before}
    assert {name for name in before if before[name] != after[name]} == {"good", "expired", "wrong_name"}
    assert issuer_of(server / "good.pem") == authorities.current.certificate.subject


def test_a_restart_goes_on_with_the_authorities_that_there_are(authorities: Authorities):
    """The new one issues, and the clients of both are believed."""
    authorities.take(Step.SWITCH, now=NOW)
    directory = authorities.directory

    again = Authorities.load(directory, load(directory).authority)
    again.take(Step.RENEW, now=NOW)

    assert again.current.thumbprint() == authorities.current.thumbprint()
    assert len(subjects(directory / "ca.pem")) == len(subjects(directory / "server" / "clients-ca.pem")) == 2


def test_a_client_certificate_is_issued_and_written(authorities: Authorities):
    """By the current authority, over one of the same name."""
    authorities.take(Step.SWITCH, now=NOW)

    issued = authorities.issue_client("client", now=NOW, lifetime=timedelta(hours=1))

    assert issued.key_file == authorities.directory / "client.key"
    written = read_credential(issued.cert_file.read_bytes(), issued.key_file.read_bytes())
    assert written.thumbprint() == issued.thumbprint()
    assert written.certificate.issuer == authorities.current.certificate.subject
    assert written.certificate.not_valid_after_utc.timestamp() == NOW + 3_600


def test_two_certificates_may_have_one_subject(authorities: Authorities):
    """As one that is renewed has."""
    first = authorities.issue_client("a", now=NOW, common_name="client")
    second = authorities.issue_client("b", now=NOW, common_name="client")

    assert first.certificate.subject == second.certificate.subject
    assert first.thumbprint() != second.thumbprint()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65_537, 2_048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["EC", "RSA", "Ed25519"],
)
def test_a_request_is_certified(authorities: Authorities, key: Any):
    """For its key, and for the subject that the sandbox chooses; no key is written."""
    issued = authorities.issue_client("asked", now=NOW, common_name="client", request=pem(request(key)))

    assert issued.certificate.public_key() == key.public_key()
    assert "app.example" not in issued.certificate.subject.rfc4514_string()
    assert issued.key_file is None
    assert not (authorities.directory / "asked.key").exists()
    assert issued.cert_file.read_bytes() == issued.pem()


def test_a_certificate_for_a_request_leaves_no_key_of_another_one(authorities: Authorities):
    """It would be taken for the key of the certificate beside it; the one that is, somebody put there."""
    key_file = authorities.directory / "asked.key"
    own = ec.generate_private_key(ec.SECP256R1())
    authorities.issue_client("asked", now=NOW)

    authorities.issue_client("asked", now=NOW, request=pem(request(own)))
    left = key_file.exists()
    key_file.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    authorities.issue_client("asked", now=NOW, request=pem(request(own)))

    assert not left
    assert key_file.exists()


def test_a_request_that_is_none_is_refused(authorities: Authorities):
    """Nonsense, one that is not signed by its key, a key of another sort."""
    good = request(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der))

    for wrong in (b"", b"-----BEGIN", pem(forged), pem(request(ed448.Ed448PrivateKey.generate()))):
        with pytest.raises(CertificateRefusedError, match="csr"):
            authorities.issue_client("asked", now=NOW, request=wrong)


@pytest.mark.parametrize("name", ["", "ca", "audit", "store", "signing-ps256", "../x", "a/b", "A", "a.b", "a" * 42])
def test_no_file_of_the_sandbox_is_overwritten(authorities: Authorities, name: str):
    """And none outside its directory."""
    with pytest.raises(CertificateRefusedError, match="name"):
        authorities.issue_client(name, now=NOW)
