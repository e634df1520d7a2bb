"""
Keys and certificates of one run of the rig: made when it starts, in its folder, never used again.

A CA that everybody trusts, a server certificate for ``localhost``, client certificates that are good, another's,
expired, or from a CA that nobody trusts, and signing keys of the clients.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc.jwk import ECKey, OKPKey, RSAKey

DAY = dt.timedelta(days=1)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key as PEM files; *thumbprint* is ``x5t#S256``, *subject* as in RFC 4514."""

    cert_file: Path
    key_file: Path
    thumbprint: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key as a PEM file, its algorithm, and the public JWK that is registered."""

    file: Path
    alg: str
    kid: str
    public_jwk: dict[str, Any]


class Authority:
    """A certification authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        self._count = 0
        now = _now()
        self._certificate = (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(
        self, name: str, *, server: bool = False, names: Sequence[str] = ("localhost",), expired: bool = False
    ) -> Certificate:
        """Issue a certificate to *name*; *names* are those of a *server*; *expired* ended yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        not_after = _now() - DAY if expired else _now() + 7 * DAY
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=_subject(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_after - 8 * DAY)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if server:
            alternatives = [*map(x509.DNSName, names), x509.IPAddress(IPv4Address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self._count += 1
        cert_file = self._folder / f"{name}-{self._count}.pem"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return Certificate(
            cert_file=cert_file,
            key_file=_write_key(cert_file.with_suffix(".key"), key),
            thumbprint=_base64url(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()),
            subject=certificate.subject.rfc4514_string(),
        )

    def sign(self, request: bytes) -> bytes:
        """Issue, in PEM, what a certificate signing request asks for: its subject, its key, its extensions."""
        wanted = x509.load_pem_x509_csr(request)
        assert wanted.is_signature_valid
        builder = (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=wanted.subject)
            .public_key(wanted.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - DAY)
            .not_valid_after(_now() + 7 * DAY)
        )
        for extension in wanted.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def make_self_signed(folder: Path, name: str) -> tuple[Certificate, dict[str, Any]]:
    """Make a certificate that no CA issued, and the public JWK with ``x5c`` by which a server knows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder(issuer_name=_subject(name), subject_name=_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - DAY)
        .not_valid_after(_now() + 7 * DAY)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER)
    cert_file = folder / f"{name}.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    own = Certificate(
        cert_file=cert_file,
        key_file=_write_key(cert_file.with_suffix(".key"), key),
        thumbprint=_base64url(hashlib.sha256(der).digest()),
        subject=certificate.subject.rfc4514_string(),
    )
    return own, {**_jwk(key, private=False), "kid": name, "x5c": [base64.b64encode(der).decode()]}


def make_signing_key(folder: Path, alg: str) -> SigningKey:
    """Make a key for *alg*: PS256, RS256, ES256 or EdDSA."""
    key = _make_key(alg)
    kid = f"signing-{alg.lower()}"
    jwk = _jwk(key, private=False)
    return SigningKey(
        file=_write_key(folder / f"{kid}.pem", key),
        alg=alg,
        kid=kid,
        public_jwk={**jwk, "kid": kid, "alg": alg, "use": "sig"},
    )


def make_server_signing_key(alg: str) -> dict[str, Any]:
    """Make the private JWK with which the authorization server signs."""
    jwk = _jwk(_make_key(alg), private=True)
    return {**jwk, "kid": "server", "alg": alg, "use": "sig"}


def requested_key(request: bytes, *, alg: str, kid: str) -> dict[str, Any]:
    """Give the public JWK of a certificate signing request, as a directory publishes it under *kid*."""
    key = x509.load_pem_x509_csr(request).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**RSAKey.import_key(pem).as_dict(private=False), "kid": kid, "alg": alg, "use": "sig"}


def _make_key(alg: str) -> PrivateKey:
    match alg:
        case "PS256" | "RS256":
            return rsa.generate_private_key(65_537, 2_048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    raise ValueError(alg)


def _jwk(key: PrivateKey, *, private: bool) -> dict[str, Any]:
    match key:
        case rsa.RSAPrivateKey():
            return dict(RSAKey.import_key(_pem(key)).as_dict(private=private))
        case ec.EllipticCurvePrivateKey():
            return dict(ECKey.import_key(_pem(key)).as_dict(private=private))
        case ed25519.Ed25519PrivateKey():
            return dict(OKPKey.import_key(_pem(key)).as_dict(private=private))


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_key(file: Path, key: PrivateKey) -> Path:
    file.touch(mode=0o600)
    file.write_bytes(_pem(key))
    return file


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "GB"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Interop"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> dt.datetime:
    return dt.datetime.now(tz=dt.UTC)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
