"""
Private keys out of PEM: PKCS#8, PKCS#1 and SEC1, encrypted or not, of the types that FAPI allows.

A passphrase comes from a file under the same rules as a key, and only for a key that is encrypted: one that
is not, where the operator believes it is, is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from broker.errors import LocalError
from broker.keys.files import read_private
from broker.oauth.secret import Passphrase

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MIN_RSA_BITS = 2048
"""FAPI 2.0 Security Profile section 5.4.1."""

CURVES = (ec.SECP256R1, ec.SECP384R1)
"""P-256 and P-384: what certificate authorities issue for, and every TLS implementation speaks."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)

_ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""PKCS#8 (RFC 7468 section 11), and the older form of OpenSSL for the other two."""


def parse_pem(pem: bytes, path: Path, passphrase_file: Path | None) -> PrivateKey:
    """
    Find the one private key in *pem*, which was read from *path*.

    Certificates and parameters beside it are passed over. Raises LocalError ``key_unreadable``,
    ``key_encrypted``, ``key_not_encrypted``, ``key_unsupported``, ``key_too_weak``, ``passphrase_wrong``,
    or those of ``read_passphrase``.
    """
    blocks = [found.group() for found in _BLOCK.finditer(pem)]
    if len(blocks) != 1:
        many = f"holds {len(blocks)} private keys" if blocks else "holds no private key in PEM"
        raise LocalError("key_unreadable", f"{path}: {many}", hint="it must hold exactly one, in PEM")
    passphrase = read_passphrase(passphrase_file) if passphrase_file is not None else None
    return require_supported(_decode(blocks[0], path, passphrase), path)


def read_passphrase(path: Path) -> Passphrase:
    """
    Read a passphrase; one newline at its end is not part of it.

    Raises LocalError ``passphrase_unreadable`` or one of ``files``.
    """
    try:
        text = read_private(path).decode("utf-8")
    except UnicodeDecodeError:
        raise LocalError("passphrase_unreadable", f"{path}: the passphrase is not text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise LocalError("passphrase_unreadable", f"{path}: the passphrase is empty")
    return Passphrase(text)


def require_supported(key: object, path: Path) -> PrivateKey:
    """Let RSA of at least 2048 bits, P-256, P-384 and Ed25519 pass. Raises LocalError."""
    match key:
        case rsa.RSAPrivateKey():
            if key.key_size < MIN_RSA_BITS:
                message = f"{path}: the RSA key has {key.key_size} bits"
                raise LocalError("key_too_weak", message, hint=f"use one with at least {MIN_RSA_BITS} bits")
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, CURVES):
            return key
        case ed25519.Ed25519PrivateKey():
            return key
        case _:
            raise _unsupported(path)


def same_key(one: object, other: object) -> bool:
    """Say whether two public keys of cryptography are the same."""
    supported = PublicKey
    if not isinstance(one, supported) or not isinstance(other, supported):
        return False
    return _encoded(one) == _encoded(other)


def _encoded(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _decode(block: bytes, path: Path, passphrase: Passphrase | None) -> object:
    encrypted = any(mark in block for mark in _ENCRYPTED)
    if encrypted and passphrase is None:
        raise LocalError("key_encrypted", f"{path}: the private key is encrypted", hint="set passphrase to a file")
    if passphrase is not None and not encrypted:
        hint = "encrypt it, or remove passphrase from the configuration"
        raise LocalError("key_not_encrypted", f"{path}: the private key is not encrypted", hint=hint)
    try:
        return load_pem_private_key(block, passphrase.reveal().encode() if passphrase is not None else None)
    except UnsupportedAlgorithm:
        raise _unsupported(path) from None
    except (ValueError, TypeError):
        if passphrase is not None:
            message = f"{path}: the passphrase does not open the private key"
            raise LocalError("passphrase_wrong", message, hint="or the key is damaged") from None
        hint = "it must be PKCS#8, PKCS#1 or SEC1, and whole"
        raise LocalError("key_unreadable", f"{path}: the private key cannot be read", hint=hint) from None


def _unsupported(path: Path) -> LocalError:
    hint = f"use RSA with at least {MIN_RSA_BITS} bits, EC on P-256 or P-384, or Ed25519, in PKCS#8"
    return LocalError("key_unsupported", f"{path}: a private key of this type is not supported", hint=hint)
