"""
X.509 certificates of clients: read, and checked before a server gets to see them (RFC 5280).

What a server would refuse is refused here, where the reason can be said; a server only closes the
connection. Whether a CA is trusted is the server's business and is not looked at.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import LocalError
from broker.keys.files import read_private, read_public

_CLIENT_USAGES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})

E = TypeVar("E", bound=x509.ExtensionType)

_KEY_MARK = b"PRIVATE KEY-----"
_BEGIN = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")


def read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """
    Read the certificates in *path*: the leaf first, then the one that issued it, and so on.

    A file that also holds a private key is held to the rules of private keys. Raises LocalError
    ``certificate_unreadable``, ``certificate_chain`` or one of ``files``.
    """
    pem = read_public(path)
    if _KEY_MARK in pem:
        pem = read_private(path)
    try:
        chain = decode(pem)
        for certificate in chain:  # names are decoded when they are asked for: damage shall show here
            subject_of(certificate)
            certificate.issuer.rfc4514_string()
    except ValueError:
        in_pem = _BEGIN.search(pem)
        hint = "is it cut off?" if in_pem else "DER and PKCS#12 must be converted: openssl x509, openssl pkcs12"
        if _KEY_MARK in pem and not in_pem:
            hint = "it holds a private key: are cert_file and key_file swapped?"
        raise LocalError("certificate_unreadable", f"{path}: no certificates in PEM can be read", hint=hint) from None
    _check_links(chain, path)
    return chain


def decode(pem: bytes) -> tuple[x509.Certificate, ...]:
    """
    Give all certificates in *pem*, at least one.

    Raises ValueError, also where one has a beginning and no end, which cryptography passes over.
    """
    certificates = tuple(x509.load_pem_x509_certificates(pem))
    if len(certificates) != len(_BEGIN.findall(pem)):
        raise ValueError("a certificate is cut off")
    return certificates


def check_dates(chain: tuple[x509.Certificate, ...], path: Path, *, wall_now: float) -> None:
    """
    Check that every certificate is in time, but for self-signed roots, which servers do not look at.

    *wall_now* in Unix seconds. Raises LocalError ``certificate_expired`` or ``certificate_not_yet_valid``.
    """
    for position, certificate in enumerate(chain):
        if position > 0 and certificate.issuer == certificate.subject:
            continue
        which = "the certificate" if position == 0 else f"certificate {position + 1} of the chain"
        if wall_now >= not_after(certificate):
            message = f"{path}: {which} expired at {certificate.not_valid_after_utc.isoformat()}"
            raise LocalError("certificate_expired", message, hint="renew it")
        if wall_now < not_before(certificate):
            message = f"{path}: {which} is not valid before {certificate.not_valid_before_utc.isoformat()}"
            hint = f"is the clock right? It says {_utc(wall_now)}"
            raise LocalError("certificate_not_yet_valid", message, hint=hint)


def check_usage(leaf: x509.Certificate, path: Path) -> None:
    """
    Check that a TLS client may use *leaf* (RFC 5280 sections 4.2.1.3 and 4.2.1.12).

    Raises LocalError ``certificate_usage`` or ``certificate_unreadable``.
    """
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise LocalError("certificate_unreadable", f"{path}: its extensions cannot be read") from None
    usages = _extension(extensions, x509.ExtendedKeyUsage)
    if usages is not None and not _CLIENT_USAGES & set(usages):
        message = f"{path}: the certificate is not for TLS clients (extendedKeyUsage lacks clientAuth)"
        raise LocalError("certificate_usage", message, hint="ask for a client (transport) certificate")
    usage = _extension(extensions, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        message = f"{path}: the certificate is not for signatures (keyUsage lacks digitalSignature)"
        raise LocalError("certificate_usage", message, hint="is it an encryption certificate?")


def thumbprint(certificate: x509.Certificate) -> str:
    """Give ``x5t#S256``: base64url of the SHA-256 of the DER, without padding (RFC 8705 section 3.1)."""
    return base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()


def public_key_of(certificate: x509.Certificate) -> object:
    """Give the public key, or None for one of a kind that cannot be ours."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def subject_of(certificate: x509.Certificate) -> str:
    """Give the distinguished name as a string (RFC 4514)."""
    return certificate.subject.rfc4514_string()


def not_before(certificate: x509.Certificate) -> float:
    """Give Unix seconds."""
    return certificate.not_valid_before_utc.timestamp()


def not_after(certificate: x509.Certificate) -> float:
    """Give Unix seconds."""
    return certificate.not_valid_after_utc.timestamp()


def _check_links(chain: tuple[x509.Certificate, ...], path: Path) -> None:
    for position, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            message = f"{path}: certificate {position + 1} did not issue certificate {position}"
            hint = "the client's own certificate comes first, then the one that issued it, and so on"
            raise LocalError("certificate_chain", message, hint=hint) from None


def _extension(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _utc(wall: float) -> str:
    return dt.datetime.fromtimestamp(int(wall), dt.UTC).isoformat()
