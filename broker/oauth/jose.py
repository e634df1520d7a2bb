"""
The little of JOSE that the protocol needs: public keys, signatures, and an unverified look into a JWT.

Signing is done in ``broker.keys``. What is called unverified serves the binding check alone (an access token
is opaque to its client, RFC 9068 section 6). joserfc verifies; which key and which algorithm it may use is
decided by the caller and never by the token (RFC 8725 section 3.1). Its exceptions do not leave this module.
"""

from __future__ import annotations

import binascii
import json
import re
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from broker.oauth.strict_json import NotStrictJsonError, loads

SIGNING_ALGS = frozenset({"PS256", "ES256", "EdDSA", "RS256"})
"""What a client can sign with. FAPI forbids RS256, which is for servers that know nothing better; EdDSA is Ed25519."""

ASSERTION_TYP = "JWT"
"""``typ`` in the header of client assertions (CA-04): servers everywhere accept this or none."""

MAX_TOKEN = 65_536
"""Characters of a token that is looked into; the longest access token that we accept."""

_URL_SAFE = str.maketrans("+/", "-_")
"""From the ordinary alphabet of Base64 to that of RFC 4648 section 5."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


def alg_names(alg: str) -> frozenset[str]:
    """Give all names of *alg*: RFC 9864 calls EdDSA with Ed25519 plainly ``Ed25519``."""
    return frozenset({"EdDSA", "Ed25519"}) if alg in {"EdDSA", "Ed25519"} else frozenset({alg})


def unverified_claims(token: str) -> Mapping[str, Any] | None:
    """
    Give the payload of a compact JWS (RFC 7515 section 7.1), or None when *token* is opaque.

    A JWE has five parts and is opaque, as is whatever is not two strict JSON objects and a signature.
    """
    found = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if found is None or _json_object(found[1]) is None:
        return None
    return _json_object(found[2])


def resembles_jwt(token: str) -> bool:
    """
    Say whether a lenient reader would take *token* for a compact JWS: three parts, and a header with ``alg``.

    What it is to a lenient reader and not to a strict one must not be taken for opaque.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return False
    packed = parts[0].rstrip("=").translate(_URL_SAFE)
    try:
        header = json.loads(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


MIN_RSA_BITS = 2048
"""FAPI 2.0 section 5.4.1, and RFC 7518 section 3.3."""

_KINDS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "PS256": ("RSA", frozenset()),
    "RS256": ("RSA", frozenset()),
    "ES256": ("EC", frozenset({"P-256"})),
    "EdDSA": ("OKP", frozenset({"Ed25519"})),
    "Ed25519": ("OKP", frozenset({"Ed25519"})),
}
"""``kty`` and ``crv`` of the keys of each algorithm. No ``HS256``: a published key is no shared secret (SEC-05)."""

_CLASSES: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""The members that make a public key; others, such as ``x5u`` and ``jku``, are not even read (JWKS-04)."""


class NotVerifiedError(ValueError):
    """The signature is not one by that key with that algorithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """
    A published key that may verify a signature.

    *alg* and *kid* are None where the publisher did not say.
    """

    kty: str
    crv: str | None
    alg: str | None
    kid: str | None
    key: RSAKey | ECKey | OKPKey = field(repr=False)

    def fits(self, alg: str) -> bool:
        """Say whether it can have made a signature with *alg* (JWKS-01)."""
        kty, curves = _KINDS.get(alg, ("", frozenset()))
        if self.kty != kty or (curves and self.crv not in curves):
            return False
        return self.alg is None or not alg_names(self.alg).isdisjoint(alg_names(alg))


def read_public_key(jwk: object) -> PublicKey | None:
    """Read one member of a JWK set (RFC 7517 section 5); None for what cannot or must not verify a signature."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    kty = jwk.get("kty")
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kty, str):
        return None
    names = _PUBLIC.get(kty, ())
    members = {name: value for name in names if isinstance(value := jwk.get(name), str)}
    alg, kid = jwk.get("alg"), jwk.get("kid")
    if not names or len(members) != len(names):
        return None
    if not isinstance(alg, str | None) or not isinstance(kid, str | None):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a short RSA key is refused below, not warned about
            key = _CLASSES[kty].import_key({"kty": kty, **members})
            too_short = isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS
    except (JoseError, ValueError, TypeError, LookupError):
        return None
    crv = members.get("crv")
    return None if too_short else PublicKey(kty=kty, crv=crv, alg=alg, kid=kid, key=key)


def jws_header(token: str) -> Mapping[str, Any] | None:
    """Give the protected header of a compact JWS (RFC 7515 section 7.1), or None when it is none."""
    found = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
    return None if found is None else _json_object(found[1])


def verified_claims(token: str, key: PublicKey, alg: str) -> Mapping[str, Any]:
    """
    Give the payload of a compact JWS that *key* signed with *alg*, one of ``_KINDS``.

    Raises NotVerifiedError, also for a payload that is no strict JSON object.
    """
    names = alg_names(alg)
    try:
        if not key.fits(alg):
            raise NotVerifiedError
        jws.deserialize_compact(token, key.key, registry=_Registry(algorithms=sorted(names), strict_check_header=False))
    except (JoseError, ValueError, TypeError):
        raise NotVerifiedError from None
    claims = unverified_claims(token)
    if claims is None:
        raise NotVerifiedError
    return claims


class _Registry(JWSRegistry):
    """
    Header parameters that we do not know are ignored unless ``crit`` names them (RFC 7515 section 4).

    ``EdDSA`` goes unlamented: RFC 9864 gives it another name, and servers use the old one.
    """

    def get_alg(self, name: str) -> Any:
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        value = loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, NotStrictJsonError):
        return None
    return value if isinstance(value, dict) else None
