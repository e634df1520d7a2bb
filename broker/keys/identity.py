"""
Transport certificates: who we are at the TLS layer (RFC 8705).

One value for each generation of a certificate and its key. The key is held as an object of OpenSSL, never
as bytes; a context gets certificate and key through an anonymous file in memory, so that exactly what was
checked is loaded and no plain key is on a disk. A context is never changed after it was handed out: a new
certificate is a new generation with new contexts.
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.errors import LocalError
from broker.keys import tls
from broker.keys.certificates import (
    check_dates,
    check_usage,
    not_after,
    not_before,
    public_key_of,
    read_chain,
    subject_of,
    thumbprint,
)
from broker.keys.files import read_private
from broker.keys.jwk import public_members, wrap
from broker.keys.memory import load_pair
from broker.keys.private_keys import PrivateKey, parse_pem, same_key


@dataclass(frozen=True, slots=True)
class _Pair:
    """What OpenSSL is given: the chain, leaf first, and the leaf's key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportCertificate:
    """
    A certificate with its private key, checked.

    *thumbprint* is ``x5t#S256`` (RFC 8705 section 3.1), *not_before* and *not_after* are Unix seconds,
    *subject* is the distinguished name as a string of RFC 4514, *generation* counts the replacements.
    """

    name: str
    generation: int
    thumbprint: str
    not_before: float
    not_after: float
    subject: str
    _pair: _Pair = field(repr=False, compare=False)

    @property
    def key_thumbprint(self) -> str:
        """The thumbprint of the key (RFC 7638), to know it again where there is no certificate of it."""
        return wrap(self._pair.key).thumbprint()

    def public_jwk(self) -> dict[str, Any]:
        """
        Give the certificate as a JWK with its chain, to register (RFC 7517 section 4.7, RFC 8705 section 2.2.2).

        It says neither ``use`` nor ``alg``: the key signs nothing but handshakes.
        """
        key = wrap(self._pair.key)
        chain = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in self._pair.chain]
        return {**public_members(key), "kid": key.thumbprint(), "x5c": chain, "x5t#S256": self.thumbprint}

    def client_context(self, ca_file: Path | None) -> ssl.SSLContext:
        """
        Make a context that presents this certificate; otherwise as ``tls.client_context``.

        Blocks for some milliseconds. Raises LocalError.
        """
        context = tls.client_context(ca_file)
        _load(context, self.name, self._pair)
        # Apache asks for the certificate of some paths only after the handshake (RFC 8446 section 4.6.2).
        context.post_handshake_auth = True
        return context


def load_transport_certificate(
    *,
    name: str,
    cert_file: Path,
    key_file: Path,
    passphrase_file: Path | None = None,
    generation: int,
    wall_now: float,
) -> TransportCertificate:
    """
    Read a certificate chain and its private key, and check that they will do.

    They belong together, the chain is one, its dates include *wall_now* (Unix seconds), its usage allows
    TLS clients, OpenSSL accepts the pair. Blocks. Raises LocalError: ``certificate_mismatch``,
    ``certificate_unusable``, or those of ``certificates``, ``private_keys`` and ``files``.
    """
    chain = read_chain(cert_file)
    pair = _Pair(chain, parse_pem(read_private(key_file), key_file, passphrase_file))
    leaf = chain[0]
    _check_match(pair, cert_file, key_file)
    check_dates(chain, cert_file, wall_now=wall_now)
    check_usage(leaf, cert_file)
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), name, pair)  # a rehearsal, so that nothing fails later
    return TransportCertificate(
        name=name,
        generation=generation,
        thumbprint=thumbprint(leaf),
        not_before=not_before(leaf),
        not_after=not_after(leaf),
        subject=subject_of(leaf),
        _pair=pair,
    )


def _check_match(pair: _Pair, cert_file: Path, key_file: Path) -> None:
    public = pair.key.public_key()
    if same_key(public_key_of(pair.chain[0]), public):
        return
    later = any(same_key(public_key_of(certificate), public) for certificate in pair.chain[1:])
    hint = "put the certificate of this key first" if later else "do they come from the same request?"
    message = f"{cert_file} and {key_file}: the certificate is not for this private key"
    raise LocalError("certificate_mismatch", message, hint=hint)


def _load(context: ssl.SSLContext, name: str, pair: _Pair) -> None:
    chain = [certificate.public_bytes(Encoding.PEM) for certificate in pair.chain]
    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    load_pair(context, name, b"".join([*chain, key]))
