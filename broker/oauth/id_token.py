"""
ID tokens: who the person is, checked in full (OpenID Connect Core section 3.1.3.7; IDT-01 to IDT-11, RT-06).

The algorithm is pinned by the configuration. What is optional in the standard is checked where it is there
or was asked for. The claims that come out are few: the broker has no use for the others, so it keeps none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.jwks import JwkSet, verify
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, IdToken

LEEWAY = 30.0
"""Seconds that two clocks may differ; an ID token that ended minutes ago has to fail (IDT-04)."""

FRESH = 600.0
"""Seconds: an ID token that was just asked for was not made earlier (IDT-05)."""

LONGEST_SUBJECT = 255
"""Characters of ``sub`` (OpenID Connect Core section 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenExpected:
    """
    What an ID token has to say.

    *nonce* is None only for a refresh, where a present one is not compared. *subject* and *auth_time* are those
    of the ID token before it, where there was one (OpenID Connect Core section 12.2). *max_age* in seconds, at
    *asked_at* in Unix seconds; None: now. *acr_values*: one of these is demanded. *demanded*: claims, each with
    the values of which it has to have one.
    """

    issuer: str
    client_id: str
    alg: str
    nonce: str | None = field(default=None, repr=False)
    access_token: AccessToken | None = None
    subject: str | None = None
    auth_time: float | None = None
    max_age: int | None = None
    asked_at: float | None = None
    acr_values: tuple[str, ...] = ()
    demanded: tuple[tuple[str, tuple[Any, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenClaims:
    """What is kept of an ID token; *auth_time* in Unix seconds."""

    subject: str
    auth_time: float | None = None
    acr: str | None = None


def demanded_claims(asked: Mapping[str, Any] | None) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """
    Give the claims of the ID token that a ``claims`` parameter demands, each with the values that it may have.

    They are the essential ones with a value (OpenID Connect Core section 5.5.1); others a server may leave out, or
    give another value. ``sub`` with a value needs no such word (section 3.1.2.2).
    """
    members = (asked or {}).get("id_token")
    if not isinstance(members, Mapping):
        return ()
    demanded: list[tuple[str, tuple[Any, ...]]] = []
    for name, wanted in members.items():
        if not isinstance(wanted, Mapping) or not (wanted.get("essential") is True or name == "sub"):
            continue
        if "value" in wanted:
            demanded.append((name, (wanted["value"],)))
        elif isinstance(wanted.get("values"), list) and wanted["values"]:
            demanded.append((name, tuple(wanted["values"])))
    return tuple(demanded)


def read_id_token(token: IdToken, keys: JwkSet, expected: IdTokenExpected, *, wall_now: float) -> IdTokenClaims:
    """
    Give the claims of an ID token that passes every check; *wall_now* in Unix seconds.

    Raises CheckFailedError, and KeyNotFoundError when the keys should be fetched anew.
    """
    claims = verify(token.reveal(), keys, alg=expected.alg, reason=Reason.ID_TOKEN_INVALID)
    _require(claims.get("iss") == expected.issuer, Check.SIGNED_ISS)
    _check_audience(claims, expected)
    _check_times(claims, wall_now)
    subject = claims.get("sub")
    _require(isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT, Check.SUB)
    _require(expected.subject is None or subject == expected.subject, Check.SUB)
    _check_nonce(claims, expected)
    _check_at_hash(claims, expected)
    auth_time = _auth_time(claims, expected, wall_now)
    acr = claims.get("acr")
    _require(acr in expected.acr_values if expected.acr_values else isinstance(acr, str | None), Check.ACR)
    _check_demanded(claims, expected)
    return IdTokenClaims(subject=str(subject), auth_time=auth_time, acr=acr)


def check_jwt_times(claims: Mapping[str, Any], reason: Reason, *, wall_now: float) -> None:
    """Check ``exp``, which has to be there, and ``nbf`` and ``iat`` where they are. Raises CheckFailedError."""
    expires_at = _instant(claims, "exp")
    if expires_at is None or wall_now >= expires_at + LEEWAY:
        raise CheckFailedError(reason, Check.EXP)
    for name, check in (("nbf", Check.NBF), ("iat", Check.IAT)):
        at = _instant(claims, name)
        if (name in claims and at is None) or (at is not None and at > wall_now + LEEWAY):
            raise CheckFailedError(reason, check)


def _check_audience(claims: Mapping[str, Any], expected: IdTokenExpected) -> None:
    """Accept us alone; with others beside us nobody is trusted, whatever ``azp`` says of them (IDT-03)."""
    audience = claims.get("aud")
    _require(audience in (expected.client_id, [expected.client_id]), Check.AUD)
    _require(claims.get("azp", expected.client_id) == expected.client_id, Check.AZP)


def _check_times(claims: Mapping[str, Any], wall_now: float) -> None:
    check_jwt_times(claims, Reason.ID_TOKEN_INVALID, wall_now=wall_now)
    issued_at = _instant(claims, "iat")
    _require(issued_at is not None and issued_at >= wall_now - FRESH, Check.IAT)


def _check_nonce(claims: Mapping[str, Any], expected: IdTokenExpected) -> None:
    if expected.nonce is None:
        return
    nonce = claims.get("nonce")
    _require(isinstance(nonce, str) and hmac.compare_digest(nonce.encode(), expected.nonce.encode()), Check.NONCE)


def _check_at_hash(claims: Mapping[str, Any], expected: IdTokenExpected) -> None:
    """Compare it where it is there: it ties the access token to this very answer (IDT-08)."""
    if "at_hash" not in claims or expected.access_token is None:
        return
    # EdDSA with Ed25519 hashes with SHA-512, every other algorithm of ours with SHA-256.
    digest = hashlib.sha512 if expected.alg in {"EdDSA", "Ed25519"} else hashlib.sha256
    whole = digest(expected.access_token.reveal().encode("ascii")).digest()
    ours = urlsafe_b64encode(whole[: len(whole) // 2]).rstrip(b"=").decode("ascii")
    _require(claims["at_hash"] == ours, Check.AT_HASH)


def _auth_time(claims: Mapping[str, Any], expected: IdTokenExpected, wall_now: float) -> float | None:
    auth_time = _instant(claims, "auth_time")
    _require("auth_time" not in claims or auth_time is not None, Check.AUTH_TIME)
    _require(auth_time is None or auth_time <= wall_now + LEEWAY, Check.AUTH_TIME)
    if expected.max_age is not None:
        # The server compares when it is asked; how long the person then reads its pages makes no login older.
        asked_at = wall_now if expected.asked_at is None else expected.asked_at
        _require(auth_time is not None and auth_time + expected.max_age + LEEWAY >= asked_at, Check.AUTH_TIME)
    if expected.auth_time is not None and auth_time is not None:
        _require(auth_time == expected.auth_time, Check.AUTH_TIME)
    return auth_time


def _check_demanded(claims: Mapping[str, Any], expected: IdTokenExpected) -> None:
    """Compare as JSON, in which true is not 1 (IDT-12)."""
    for name, values in expected.demanded:
        ours = {json.dumps(value, sort_keys=True) for value in values}
        _require(name in claims and json.dumps(claims[name], sort_keys=True) in ours, Check.CLAIMS)


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """Give a NumericDate (RFC 7519 section 2), or None when it is absent or something else."""
    value = claims.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _require(met: bool, check: Check) -> None:
    if not met:
        raise CheckFailedError(Reason.ID_TOKEN_INVALID, check, message="the ID token failed a check")
