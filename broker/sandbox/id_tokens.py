"""
ID tokens (OpenID Connect Core section 2), and how a fault spoils one.

Sans I/O. Everything that a fault does not name is left right, so that a refusal has one reason.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

from broker.sandbox.faults import Fault
from broker.sandbox.jose import sign, sign_oddly
from broker.sandbox.keyring import DECOY_KID, Keyring

LIFETIME = 300
"""Seconds: a client looks at it once, and at once."""

AN_HOUR = 3_600

Claims = dict[str, Any]


def at_hash(access_token: str) -> str:
    """Give the left half of the SHA-256 (section 3.1.3.6; all our algorithms have that hash)."""
    digest = hashlib.sha256(access_token.encode()).digest()
    return urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def make_id_token(keyring: Keyring, alg: str, claims: Claims, fault: Fault | None) -> str | None:
    """Sign *claims* with the key for *alg*, or as badly as *fault* says; None where it wants no ID token at all."""
    kind = fault.kind if fault is not None else ""
    if kind == "no_id_token":
        return None
    if fault is not None and kind in TWISTS:
        TWISTS[kind](claims, fault.parameters)
    return sign_badly(keyring, alg, "JWT", claims, kind.removeprefix("id_token_"))


def sign_badly(keyring: Keyring, alg: str, typ: str, claims: Claims, how: str) -> str:
    """Sign *claims*; *how* names the way in which that goes wrong, any other name is none."""
    match how:
        case "alg_none":
            return sign_oddly(keyring.decoys.rs256, "none", {"typ": typ}, claims)
        case "rs256":
            keyring.publish_decoy()
            return sign_oddly(keyring.decoys.rs256, "RS256", {"typ": typ, "kid": DECOY_KID}, claims)
        case "unknown_key":
            return sign(keyring.decoys.unpublished(alg), typ, claims)
        case "rotated_key":
            keyring.rotate_one(alg)
    token = sign(keyring.key(alg), typ, claims)
    if how == "bad_signature":
        head, _, signature = token.rpartition(".")
        return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    return token


def _aged(claims: Claims, _: Mapping[str, Any]) -> None:
    claims.update(iat=claims["iat"] - AN_HOUR, exp=claims["iat"] - AN_HOUR + LIFETIME)


def _for_two(claims: Claims, parameters: Mapping[str, Any]) -> None:
    claims["aud"] = [claims["aud"], "another-client"]
    if parameters["azp"] is not None:
        claims["azp"] = parameters["azp"]


def _without(name: str) -> Callable[[Claims, Mapping[str, Any]], None]:
    return lambda claims, _: claims.__delitem__(name) if name in claims else None


def _with(name: str, value: Any) -> Callable[[Claims, Mapping[str, Any]], None]:
    return lambda claims, _: claims.update({name: value})


TWISTS: Mapping[str, Callable[[Claims, Mapping[str, Any]], None]] = {
    "wrong_nonce": _with("nonce", "a-nonce-that-nobody-sent"),
    "no_nonce": _without("nonce"),
    "id_token_expired": _aged,
    "id_token_wrong_iss": lambda claims, _: claims.update(iss=f"{claims['iss']}INVALID"),
    "id_token_wrong_aud": _with("aud", "another-client"),
    "id_token_two_audiences": _for_two,
    "id_token_wrong_at_hash": _with("at_hash", at_hash("another access token")),
    "id_token_wrong_sub": _with("sub", "mallory"),
    "id_token_no_sub": _without("sub"),
    "id_token_future": lambda claims, _: claims.update(iat=claims["iat"] + AN_HOUR, exp=claims["exp"] + AN_HOUR),
}
"""Faults that change what an ID token says."""
