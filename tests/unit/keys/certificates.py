"""Certificates and keys made for the test run, good ones and those with one thing wrong."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.keys.private_keys import PrivateKey

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
WALL = NOW.timestamp()
"""OpenSSL looks at the real clock in a handshake, so the certificates are made for it."""

P256_OID = bytes.fromhex("06082a8648ce3d030107")
UNKNOWN_CURVE_OID = bytes.fromhex("06082a8648ce3d030104")
"""prime239v1 (X9.62), which nobody uses."""

CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    def cert_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        return key_pem(self.key, passphrase)


def key_pem(key: PrivateKey, passphrase: bytes | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, form, encryption)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make an RSA key, once: it takes a while."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def weak_rsa_key() -> rsa.RSAPrivateKey:
    return rsa_key(1024)


def issue(
    name: str = "client",
    *,
    by: Pair | None = None,
    key: PrivateKey | None = None,
    ca: bool = False,
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + DAY,
    usages: Sequence[x509.ObjectIdentifier] = (),
    signs: bool | None = None,
    host: str | None = None,
    extra: x509.ExtensionType | None = None,
) -> Pair:
    """
    Issue a certificate; without *by* a self-signed one.

    *usages* makes an extendedKeyUsage; *signs* a keyUsage with or without digitalSignature; *host* a name
    of a server; *extra* is one more extension.
    """
    key = key or p256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if signs is not None:
        builder = builder.add_extension(_key_usage(signs=signs), critical=True)
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    signer = by.key if by else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(signer, digest), key)


@functools.cache
def root() -> Pair:
    return issue("root", ca=True)


@functools.cache
def intermediate() -> Pair:
    return issue("intermediate", by=root(), ca=True)


@functools.cache
def client() -> Pair:
    """A client as Open Finance ecosystems issue them: for TLS clients and signatures, by an intermediate."""
    return issue("client", by=intermediate(), usages=CLIENT_AUTH, signs=True)


@functools.cache
def server() -> Pair:
    return issue("server", by=root(), usages=SERVER_AUTH, host="localhost")


def on_an_unknown_curve(pair: Pair) -> x509.Certificate:
    """Give the certificate of *pair* (P-256) with another curve written in; its signature no longer holds."""
    der = pair.certificate.public_bytes(Encoding.DER)
    return x509.load_der_x509_certificate(der.replace(P256_OID, UNKNOWN_CURVE_OID))


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a file with exactly this *mode*, whatever the umask."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def chain_pem(*pairs: Pair) -> bytes:
    return b"".join(pair.cert_pem() for pair in pairs)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
