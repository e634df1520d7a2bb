"""Certificates made for the test run: a CA and leaves of it, written where an SSL context can load them."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM) + self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def issue(name: str, *, by: Pair | None = None, host: str = "localhost", days: int = 1) -> Pair:
    """Issue a certificate for *host* and 127.0.0.1, ending in *days*; without *by* a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + days * DAY)
    )
    if by is None:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(by.key if by else key, hashes.SHA256()), key)


@functools.cache
def authority(name: str = "ca") -> Pair:
    return issue(name)


@functools.cache
def server() -> Pair:
    return issue("server", by=authority())


@functools.cache
def client() -> Pair:
    return issue("client", by=authority())


@functools.cache
def stranger() -> Pair:
    """A client certificate from a CA that the server does not know."""
    return issue("stranger", by=authority("other"))


def client_context(
    pair: Pair | None = None, *, trusts: Pair | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Make a client's context, as ``broker.keys`` would; *version* is the only one it speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=_pem(trusts or authority()))
    return _completed(context, pair, version)


def server_context(
    pair: Pair | None = None, *, mutual: bool = False, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Make a server's context; *mutual*: it requires a client certificate of our CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=_pem(authority()))
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return _completed(context, pair or server(), version)


def _completed(context: ssl.SSLContext, pair: Pair | None, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if pair is not None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "pair.pem")
            path.write_bytes(pair.pem())
            context.load_cert_chain(path)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def _pem(pair: Pair) -> str:
    return pair.certificate.public_bytes(serialization.Encoding.PEM).decode()
