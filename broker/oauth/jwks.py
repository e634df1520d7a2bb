"""
The public keys of an authorization server (RFC 7517), and which of them may have signed what.

Read key by key: one that is malformed, too short, of an unknown kind or symmetric does not spoil the others
(JWKS-04). A key is chosen by more than its ``kid``, because servers publish several under one (JWKS-01).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.oauth.answers import invalid, json_object
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.jose import NotVerifiedError, PublicKey, alg_names, jws_header, read_public_key, verified_claims
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason

MAX_KEYS = 100
"""A set with more is not read on: signing keys are rotated, not collected."""

MAX_CANDIDATES = 4
"""Keys that are tried for one signature: each costs, and a server that leaves more open is none to trust."""

_UNKNOWN = frozenset({"crit", "b64"})
"""We understand no critical extension (RFC 7515 section 4.1.11), nor a payload that is not encoded (RFC 7797)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwkSet:
    """The usable keys of a set, in its order."""

    keys: tuple[PublicKey, ...]

    def candidates(self, alg: str, kid: str | None) -> tuple[PublicKey, ...]:
        """
        Give the keys that may have made a signature with *alg*.

        Without *kid* in the header every key of the right kind may (JWKS-02); with one, only those of that name.
        """
        fitting = (key for key in self.keys if key.fits(alg) and (kid is None or key.kid == kid))
        return tuple(fitting)[:MAX_CANDIDATES]


class KeyNotFoundError(CheckFailedError):
    """No published key fits: the set may be older than the key, and is to be fetched anew, once."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason, Check.KEY, message="the server publishes no key that fits the signature")


def read_jwks(response: Response, *, wall_now: float) -> JwkSet:
    """Read a JWK set. Raises RemoteError when it is none; a set without usable keys is one."""
    keys = json_object(response, wall_now=wall_now).get("keys")
    if not isinstance(keys, list):
        raise invalid("the answer is no JWK set")
    usable = (read_public_key(jwk) for jwk in keys[:MAX_KEYS])
    return JwkSet(keys=tuple(key for key in usable if key is not None))


def verify(token: str, keys: JwkSet, *, alg: str, reason: Reason) -> Mapping[str, Any]:
    """
    Give the claims of a JWT that one of *keys* signed with *alg*, which the configuration pins (IDT-01).

    Raises CheckFailedError with *reason*; KeyNotFoundError when it may help to fetch the keys anew.
    """
    header = jws_header(token)
    if header is None or not _UNKNOWN.isdisjoint(header):
        raise CheckFailedError(reason, Check.SIGNED_FORM)
    stated, kid = header.get("alg"), header.get("kid")
    if not isinstance(stated, str) or stated not in alg_names(alg):
        raise CheckFailedError(
            reason,
            Check.ALG,
            hint="compare the algorithm that the server has registered for the client with the configuration's",
        )
    if not isinstance(kid, str | None):
        raise CheckFailedError(reason, Check.SIGNED_FORM)
    candidates = keys.candidates(alg, kid)
    if not candidates:
        raise KeyNotFoundError(reason)
    for key in candidates:
        try:
            return verified_claims(token, key, alg)
        except NotVerifiedError:
            continue
    raise CheckFailedError(reason, Check.SIGNATURE)
