"""Checks a signature with the public key that stands in its header, as whoever gets a DPoP proof does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.jwk import import_key

from broker.oauth.jose import jws_header


def claims_of(signed: str, alg: str) -> Mapping[str, Any]:
    """Give the claims of a JWS whose header has its key. Raises JoseError."""
    header = jws_header(signed)
    assert header is not None
    registry = jws.JWSRegistry(algorithms=[alg])
    registry.max_header_length = 4_096  # joserfc has 512, and an RSA key alone takes more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RFC 9864 has another name for EdDSA
        checked = jws.deserialize_compact(signed, import_key(header["jwk"]), registry=registry)
    claims: Mapping[str, Any] = json.loads(checked.payload)
    return claims
