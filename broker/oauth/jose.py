"""
The little of JOSE that the protocol needs: names of algorithms, and an unverified look into a JWT.

Signing is done in ``broker.keys``. Nothing here verifies a signature; what comes out is called unverified
and serves the binding check alone (an access token is opaque to its client, RFC 9068 section 6).
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from broker.oauth.client import Profile
from broker.oauth.strict_json import NotStrictJsonError, loads

FAPI_SIGNING_ALGS = frozenset({"PS256", "ES256", "EdDSA"})
"""What FAPI 2.0 (section 5.4) lets a client sign with; EdDSA means Ed25519."""
SIGNING_ALGS = FAPI_SIGNING_ALGS | {"RS256"}
"""RS256 (RSASSA-PKCS1-v1_5) only by explicit choice, for servers that know nothing better."""

ASSERTION_TYP = "JWT"
"""``typ`` of client assertions: absent and JWT are what servers accept everywhere."""

MAX_TOKEN = 65_536
"""Characters of a token that is looked into; the longest access token that we accept."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


def signing_algs(profile: Profile) -> frozenset[str]:
    """Give the algorithms that a client of *profile* may sign with."""
    fapi = profile in {Profile.FAPI2, Profile.FAPI1_ADVANCED}
    return FAPI_SIGNING_ALGS if fapi else SIGNING_ALGS


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


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        value = loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, NotStrictJsonError):
        return None
    return value if isinstance(value, dict) else None
