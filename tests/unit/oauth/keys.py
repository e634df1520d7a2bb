"""Keys of an authorization server that exists only in a test, and what it signs with them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from broker.oauth.jwks import JwkSet, read_jwks
from tests.unit.oauth.builders import NOW, an_answer

ALGS = ("PS256", "ES256", "EdDSA", "RS256")


@dataclass(frozen=True)
class ServerKey:
    """A private key with the JWK that the server publishes of it."""

    alg: str
    kid: str
    key: RSAKey | ECKey | OKPKey

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Give the public half; a change to None leaves a member out."""
        members = {**self.key.as_dict(private=False), "alg": self.alg, "kid": self.kid, "use": "sig", **changes}
        return {name: value for name, value in members.items() if value is not None}

    def sign(self, claims: Mapping[str, Any] | bytes, **header: Any) -> str:
        """Make a compact JWS; a header member of None is left out."""
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        members = {"alg": self.alg, "kid": self.kid, "typ": "JWT", **header}
        registry = JWSRegistry(algorithms=["PS256", "ES256", "EdDSA", "Ed25519", "RS256"], strict_check_header=False)
        stated = {name: value for name, value in members.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joserfc laments the name EdDSA
            return jws.serialize_compact(stated, payload, self.key, registry=registry)


@cache
def server_key(alg: str = "PS256", kid: str = "k1", *, bits: int = 2048) -> ServerKey:
    """Give a key, made once for each set of arguments."""
    match alg:
        case "PS256" | "RS256":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # short keys are made to be refused
                return ServerKey(alg, kid, RSAKey.generate_key(bits, private=True))
        case "ES256":
            return ServerKey(alg, kid, ECKey.generate_key("P-256", private=True))
        case _:
            return ServerKey(alg, kid, OKPKey.generate_key("Ed25519", private=True))


def published(*jwks: object) -> JwkSet:
    """Read a set as the server would publish it."""
    return read_jwks(an_answer({"keys": list(jwks)}), wall_now=NOW)
