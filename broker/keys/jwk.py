"""
One private key as a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037).

The members that say what the key is for are obeyed. The key is rebuilt from its private part, and the
public part in the file must agree with it: what we sign and what we publish are then the same key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from broker.errors import LocalError
from broker.keys.certificates import not_after, public_key_of
from broker.keys.private_keys import PrivateKey, require_supported, same_key
from broker.oauth.strict_json import NotStrictJsonError, loads

KINDS: Mapping[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""``kty`` (RFC 7518 section 6.1, RFC 8037 section 2) of the keys that sign."""

PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
"""All that describes a public key (RFC 7518 section 6, RFC 8037 section 2); none of them is ever private."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwk:
    """A private key with what its file says of it; *not_after* in Unix seconds if there is an ``x5c``."""

    key: PrivateKey = field(repr=False)
    kid: str | None = None
    alg: str | None = None
    not_after: float | None = None


def wrap(key: PrivateKey) -> RSAKey | ECKey | OKPKey:
    """Give *key* as joserfc has it."""
    match key:
        case rsa.RSAPrivateKey():
            return RSAKey.import_key(key)
        case ec.EllipticCurvePrivateKey():
            return ECKey.import_key(key)
        case _:
            return OKPKey.import_key(key)


def public_members(key: RSAKey | ECKey | OKPKey) -> dict[str, Any]:
    """Give the public half of *key*, and nothing that says what it is for."""
    everything = key.as_dict(private=False)
    return {name: everything[name] for name in PUBLIC_MEMBERS if name in everything}


def parse_jwk(text: bytes, path: Path) -> Jwk:
    """
    Read the JWK in *text*, which was read from *path*.

    Raises LocalError ``key_unreadable``, ``key_unsupported``, ``key_too_weak``, ``key_usage`` or
    ``certificate_mismatch``.
    """
    try:
        members = loads(text)
    except NotStrictJsonError:
        raise _unreadable(path, "it is not JSON, or has a member twice") from None
    if not isinstance(members, dict):
        raise _unreadable(path, "it is not a JSON object")
    if "keys" in members:
        raise _unreadable(path, "it is a set of keys; take the one private key out of it")
    if "d" not in members:
        raise _unreadable(path, "it has no private part (member d)")
    _check_purpose(members, path)
    key = _rebuild(members, path)
    return Jwk(
        key=key,
        kid=_text(members, "kid", path),
        alg=_text(members, "alg", path),
        not_after=_read_x5c(members, key, path),
    )


def _check_purpose(members: Mapping[str, Any], path: Path) -> None:
    """RFC 7517 sections 4.2 and 4.3: a key says what it may be used for."""
    if members.get("use", "sig") != "sig":
        raise LocalError("key_usage", f"{path}: the key is not for signatures (use)", hint="name a signing key")
    operations = members.get("key_ops", ["sign"])
    if not isinstance(operations, list) or "sign" not in operations:
        raise LocalError("key_usage", f"{path}: the key may not sign (key_ops)", hint="name a signing key")


def _rebuild(members: Mapping[str, Any], path: Path) -> PrivateKey:
    kind = KINDS.get(_text(members, "kty", path) or "")
    if kind is None:
        raise LocalError("key_unsupported", f"{path}: the kty of the key is not RSA, EC or OKP")
    material = {name: members[name] for name in kind.value_registry if name in members}
    if not all(isinstance(value, str) for value in material.values()):
        raise _unreadable(path, "a member of the key is not a string")
    try:
        key = require_supported(kind.binding.import_from_dict(material), path)
        declared = kind.binding.import_from_dict({name: value for name, value in material.items() if name != "d"})
    except (JoseError, ValueError, KeyError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(path, "a member is missing, damaged, or does not fit the others") from None
    if not same_key(key.public_key(), declared):
        raise _unreadable(path, "its public part does not belong to its private part")
    return key


def _read_x5c(members: Mapping[str, Any], key: PrivateKey, path: Path) -> float | None:
    """Give the end of the certificate that came with the key (RFC 7517 section 4.7)."""
    encoded = members.get("x5c")
    if encoded is None:
        return None
    try:
        leaf = x509.load_der_x509_certificate(base64.b64decode(encoded[0], validate=True))
    except (ValueError, TypeError, LookupError, binascii.Error):
        raise _unreadable(path, "its certificate (x5c) cannot be read") from None
    if not same_key(public_key_of(leaf), key.public_key()):
        raise LocalError("certificate_mismatch", f"{path}: the certificate (x5c) is not for this key")
    return not_after(leaf)


def _text(members: Mapping[str, Any], name: str, path: Path) -> str | None:
    value = members.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise _unreadable(path, f"{name} is not a string, or empty")
    return value


def _unreadable(path: Path, why: str) -> LocalError:
    message = f"{path}: the private key cannot be read: {why}"
    return LocalError("key_unreadable", message, hint="it must be one private key, as a JWK or in PEM")
