"""
The keys that sign ID tokens and authorization responses: published, rotated on command, and among decoys.

A client finds the right key by ``kid`` and ``alg``, asks once more when it is missing, and takes no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from joserfc.jwk import RSAKey

from broker.sandbox.jose import RSA_BITS, JsonWebKey, SigningAlg, generate_private_key_pem, read_private

ALGS = (SigningAlg.PS256, SigningAlg.ES256)

DECOY_KID = "decoy-rs256"


class Decoys:
    """Keys that a client must not use; made when a fault first needs them."""

    @cached_property
    def rs256(self) -> RSAKey:
        """Give the key of a published RS256 entry."""
        return RSAKey.generate_key(RSA_BITS)

    def unpublished(self, alg: str) -> JsonWebKey:
        """Give a key for *alg* that is good, and nowhere published."""
        return _fresh(SigningAlg(alg))

    @cached_property
    def _other_rsa(self) -> RSAKey:
        return RSAKey.generate_key(RSA_BITS)

    def of_the_same_kid(self, kid: str) -> list[dict[str, Any]]:
        """Give entries with *kid* that did not sign: another key, another type, for encryption, a shared secret."""
        elliptic = _fresh(SigningAlg.ES256).key.as_dict(private=False)
        rsa = self._other_rsa.as_dict(private=False)
        return [
            {**rsa, "kid": kid, "alg": "PS256", "use": "sig"},
            {**elliptic, "kid": kid, "alg": "ES256", "use": "sig"},
            {**rsa, "kid": kid, "alg": "RSA-OAEP", "use": "enc"},
            {"kty": "oct", "k": "c2VjcmV0LXRoYXQtYW55Ym9keS1jYW4tcmVhZA", "kid": kid, "alg": "HS256", "use": "sig"},
        ]


@dataclass(slots=True, kw_only=True)
class Keyring:
    """
    The current *keys* by algorithm, those before them, and *decoys*.

    *access_token_key* is published first and not rotated: the resource API has it by heart.
    """

    access_token_key: JsonWebKey
    keys: dict[SigningAlg, JsonWebKey]
    decoys: Decoys = field(default_factory=Decoys)
    _earlier: list[JsonWebKey] = field(default_factory=list)
    _decoy_published: bool = False

    def key(self, alg: str) -> JsonWebKey:
        """Give the current key for *alg*."""
        return self.keys[SigningAlg(alg)]

    def rotate(self, *, keep_published: bool = True) -> None:
        """Make new keys; the old ones stay in the JWKS, or leave it at once. Takes a good part of a second."""
        self._earlier = [*self._earlier, *self.keys.values()] if keep_published else []
        self.keys = {alg: _fresh(alg) for alg in self.keys}

    def rotate_one(self, alg: str) -> None:
        """Make a new key for *alg* only, at once; the old one stays in the JWKS."""
        self._earlier.append(self.keys[SigningAlg(alg)])
        self.keys[SigningAlg(alg)] = _fresh(SigningAlg(alg))

    def publish_decoy(self) -> None:
        """Let the RS256 decoy be in the JWKS from now on."""
        self._decoy_published = True

    def published(self) -> list[dict[str, Any]]:
        """Give the entries of the JWKS."""
        entries = [key.public_jwk() for key in (self.access_token_key, *self.keys.values(), *self._earlier)]
        if self._decoy_published:
            decoy = self.decoys.rs256.as_dict(private=False)
            entries.append({**decoy, "kid": DECOY_KID, "alg": "RS256", "use": "sig"})
        return entries

    def published_with_decoys(self) -> list[dict[str, Any]]:
        """Give the entries of the JWKS, each current key behind decoys of the same ``kid``."""
        decoys = [decoy for key in self.keys.values() for decoy in self.decoys.of_the_same_kid(key.kid)]
        return [*decoys, *self.published()]


def _fresh(alg: SigningAlg) -> JsonWebKey:
    return read_private(alg, generate_private_key_pem(alg))
