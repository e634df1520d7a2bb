"""
TLS contexts for connections to authorization servers and APIs (rules.md R5; FAPI 2.0 Security Profile 5.2).

TLS 1.3, or 1.2 with the four suites that FAPI leaves; names and chains always verified; no way to turn any
of it off. Nothing comes from the environment: not the trust (SSL_CERT_FILE, SSL_CERT_DIR), not a file for
session secrets (SSLKEYLOGFILE, which ``ssl.create_default_context`` would obey).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from broker.errors import LocalError
from broker.keys.certificates import decode
from broker.keys.files import read_public

TLS12_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""All that RFC 9325 section 4.2 recommends with forward secrecy and AEAD, less the finite-field ones."""

WELL_KNOWN_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
)
"""Where to look when OpenSSL was built for another system than it runs on, as portable Pythons are."""

_HASHED_NAME = "*.[0-9]"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTrust:
    """Where the system keeps its CAs: PEM files, and directories with hashed names (openssl-rehash(1))."""

    files: tuple[Path, ...]
    directories: tuple[Path, ...]


def system_trust(
    paths: ssl.DefaultVerifyPaths | None = None, bundles: Iterable[Path] = WELL_KNOWN_BUNDLES
) -> SystemTrust:
    """
    Find the system's CAs without asking the environment.

    Those that OpenSSL was built with, if there are any; else the first of *bundles* that exists. Raises
    LocalError ``ca_missing``.
    """
    paths = paths or ssl.get_default_verify_paths()
    files = tuple(path for path in (Path(paths.openssl_cafile),) if _is_file(path))
    directories = tuple(path for path in (Path(paths.openssl_capath),) if _is_store(path))
    if not files and not directories:
        files = tuple(path for path in bundles if _is_file(path))[:1]
    if not files and not directories:
        raise LocalError(
            "ca_missing",
            "this system has no certificate authorities",
            hint="install the package ca-certificates, or set ca_file",
        )
    return SystemTrust(files=files, directories=directories)


def client_context(ca_file: Path | None, *, trust: SystemTrust | None = None) -> ssl.SSLContext:
    """
    Make a context that presents no certificate.

    It trusts the CAs in *ca_file* and no others; None: those of the system (*trust*, None: looked up).
    Blocks for some milliseconds. Raises LocalError ``ca_missing``, ``ca_unreadable`` or one of ``files``.
    """
    context = _strict_context()
    if ca_file is not None:
        _trust_file(context, ca_file)
    else:
        _trust_system(context, trust or system_trust())
    return context


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a directory that we may not enter
        return False


def _is_store(directory: Path) -> bool:
    try:
        return any(directory.glob(_HASHED_NAME))
    except OSError:
        return False


def _strict_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The protocol implies the next two; they are said again to assert what is meant.
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS12_SUITES))
    # Tickets would let a connection be resumed; aiohttp never does, so they would be kept for nothing.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trust_file(context: ssl.SSLContext, path: Path) -> None:
    try:
        authorities = decode(read_public(path))
        encoded = b"".join(authority.public_bytes(Encoding.DER) for authority in authorities)
        context.load_verify_locations(cadata=encoded)
    except (ValueError, ssl.SSLError):
        hint = "it must hold the CA certificates in PEM, and nothing that is cut off"
        raise LocalError(
            "ca_unreadable", f"{path}: no certificate authorities can be read from it", hint=hint
        ) from None
    # Whoever lists an issuing CA, or a server's own certificate, trusts that one and not all of its root's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust_system(context: ssl.SSLContext, trust: SystemTrust) -> None:
    try:
        for path in trust.files:
            context.load_verify_locations(cafile=path)
        for path in trust.directories:
            context.load_verify_locations(capath=path)  # OpenSSL looks in it when it needs an issuer
    except OSError:
        message = "the certificate authorities of this system cannot be read"
        raise LocalError(
            "ca_unreadable", message, hint="reinstall the package ca-certificates, or set ca_file"
        ) from None
