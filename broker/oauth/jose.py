"""
The little of JOSE that the protocol needs: names of algorithms, and an unverified look into a JWT.

Signing is done in ``broker.keys``. Nothing here verifies a signature; what comes out is called unverified
and serves the binding check alone (an access token is opaque to its client, RFC 9068 section 6).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

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


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        value = loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, NotStrictJsonError):
        return None
    return value if isinstance(value, dict) else None
