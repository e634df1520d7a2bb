"""
JSON Web Signatures as the sandbox needs them: key pairs, access tokens, verified client assertions.

It shares no code with the broker on purpose: a mistake made on one side must show as a refusal on the
other. joserfc's exceptions do not leave this module.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

RSA_BITS = 2048
"""The least that FAPI 2.0 section 5.4 allows; more only costs time."""

PUBLIC_EXPONENT = 65537

MAX_HEADER = 8_192
"""Characters of a header: many times one with the largest of keys in it."""

PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Of a JWK (RFC 7518 section 6): what a public key does not have."""

Key = RSAKey | ECKey | OKPKey


class SigningAlg(StrEnum):
    """What FAPI 2.0 allows (section 5.4)."""

    PS256 = "PS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class NotSignedError(ValueError):
    """A string is not a JWS, or not one by the key and algorithm in question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonWebKey:
    """A key for one algorithm, private or public; *kid* is its RFC 7638 thumbprint, the same after a restart."""

    alg: SigningAlg
    kid: str
    key: Key = field(repr=False)

    def public_jwk(self) -> dict[str, Any]:
        """Give the public half with ``alg``, ``kid`` and ``use``."""
        return {**self.key.as_dict(private=False), "alg": str(self.alg), "kid": self.kid, "use": "sig"}


class _Registry(JWSRegistry):
    """
    Header parameters that we do not know are ignored (RFC 7515 section 4), and ``EdDSA`` goes unlamented.

    A header may hold a key, which is too long for joserfc's own limit where it is an RSA key.
    """

    max_header_length = MAX_HEADER

    def get_alg(self, name: str) -> Any:
        # The inherited method warns about EdDSA, whose name RFC 9864 replaces; FAPI 2.0 still uses it.
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def generate_private_key_pem(alg: SigningAlg) -> bytes:
    """Generate a key for *alg*, as unencrypted PKCS#8 PEM."""
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    match alg:
        case SigningAlg.PS256:
            private_key = rsa.generate_private_key(PUBLIC_EXPONENT, RSA_BITS)
        case SigningAlg.ES256:
            private_key = ec.generate_private_key(ec.SECP256R1())
        case SigningAlg.EDDSA:
            private_key = ed25519.Ed25519PrivateKey.generate()
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_private(alg: SigningAlg, pem: bytes) -> JsonWebKey:
    """Read a private key for *alg*. Raises ValueError."""
    key: Key
    match alg:
        case SigningAlg.PS256:
            key = RSAKey.import_key(pem)
        case SigningAlg.ES256:
            key = ECKey.import_key(pem)
        case SigningAlg.EDDSA:
            key = OKPKey.import_key(pem)
    return JsonWebKey(alg=alg, kid=key.thumbprint(), key=key)


def read_public(jwk: Mapping[str, Any]) -> JsonWebKey:
    """Read what ``public_jwk`` gave. Raises ValueError."""
    types: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    key = types[jwk["kty"]].import_key(dict(jwk))
    return JsonWebKey(alg=SigningAlg(jwk["alg"]), kid=jwk["kid"], key=key)


def read_proof_key(alg: SigningAlg, jwk: Mapping[str, Any]) -> JsonWebKey:
    """
    Read the key that a proof of possession brings along; its ``kid`` is the RFC 7638 thumbprint, whatever it says.

    Raises ValueError for a key of another sort, a weak one, and one with a private half.
    """
    if PRIVATE_MEMBERS & set(jwk):
        raise ValueError("the key is private")
    try:
        key = _read_public_key(alg, jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("not a good key for this algorithm") from None
    return JsonWebKey(alg=alg, kid=key.thumbprint(), key=key)


def _read_public_key(alg: SigningAlg, jwk: Mapping[str, Any]) -> Key:
    match alg:
        case SigningAlg.PS256:
            # The length is looked at first: to read a short one is worth a warning to the library.
            if 8 * len(urlsafe_b64decode(f"{jwk['n']}==")) < RSA_BITS:
                raise ValueError("too weak")
            return RSAKey.import_key(dict(jwk))
        case SigningAlg.ES256:
            if jwk.get("crv") != "P-256":
                raise ValueError("another curve")
            return ECKey.import_key(dict(jwk))
        case SigningAlg.EDDSA:
            if jwk.get("crv") != "Ed25519":
                raise ValueError("another curve")
            return OKPKey.import_key(dict(jwk))


def sign(key: JsonWebKey, typ: str, claims: Mapping[str, Any]) -> str:
    """Make a compact JWS of *claims*."""
    header = {"alg": str(key.alg), "kid": key.kid, "typ": typ}
    return jws.serialize_compact(header, json.dumps(claims).encode(), key.key, registry=_registry(key.alg))


def sign_oddly(key: Key, alg: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Make a compact JWS with an algorithm that nobody should accept: ``none`` (*key* is not used), or RS256."""
    if alg == "none":
        parts = [json.dumps({"alg": "none", **header}).encode(), json.dumps(claims).encode(), b""]
        return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    registry = _Registry(algorithms=[alg], strict_check_header=False)
    return jws.serialize_compact({"alg": alg, **header}, json.dumps(claims).encode(), key, registry=registry)


def verify(key: JsonWebKey, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give header and claims of a JWS that *key* signed with its own algorithm. Raises NotSignedError."""
    try:
        signed = jws.deserialize_compact(token, key.key, registry=_registry(key.alg))
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError):
        raise NotSignedError("not signed by this key") from None
    if not isinstance(claims, dict):
        raise NotSignedError("the payload is not an object")
    return dict(signed.protected), claims


def unverified_header(token: str) -> dict[str, Any]:
    """Read the header of a compact JWS, to find the key that should have signed it. Raises NotSignedError."""
    return dict(_extract(token).protected)


def unverified_claims(token: str) -> dict[str, Any]:
    """Read the claims of a compact JWS without looking at its signature, for the log. Raises NotSignedError."""
    try:
        claims = json.loads(_extract(token).payload)
    except ValueError:
        raise NotSignedError("the payload is not JSON") from None
    if not isinstance(claims, dict):
        raise NotSignedError("the payload is not an object")
    return claims


def _extract(token: str) -> jws.CompactSignature:
    try:
        return jws.extract_compact(token.encode(), registry=_Registry(strict_check_header=False))
    except (JoseError, ValueError, TypeError):
        raise NotSignedError("not a compact JWS") from None


def _registry(alg: SigningAlg) -> JWSRegistry:
    return _Registry(algorithms=[str(alg)], strict_check_header=False)
