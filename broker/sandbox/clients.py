"""
Who may ask the sandbox for tokens, and the proof that it is them: ``private_key_jwt``, strictly.

RFC 7523 section 3 as FAPI 2.0 Security Profile section 5.3.2.1 narrows it: the audience is the issuer and
nothing else, an assertion is used once, its life is short, its algorithm is the registered one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from broker.sandbox.jose import JsonWebKey, NotSignedError, unverified_claims, unverified_header, verify

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

CLOCK_TOLERANCE = 15
"""Seconds that a client's clock may differ; what oidc-provider allows."""

MAX_LIFETIME = 300
"""Seconds from ``iat`` to ``exp``: one transmission needs no more."""

TIDIED_AT = 10_000
"""Assertions remembered before expired ones are looked for; then at twice what is left, so that it stays cheap."""

_ALG = re.compile(r"[A-Za-z0-9]{1,16}")
_JTI = re.compile(r"[\x21-\x7e]{1,256}")


class SenderConstraint(StrEnum):
    """What the tokens of a client are bound to."""

    CERTIFICATE = "certificate"
    """The certificate of the connection (RFC 8705); with a proof of possession to its key, too."""
    DPOP = "dpop"
    """The key of the proof of possession that it has to bring (RFC 9449), and to no certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredClient:
    """
    A client as the sandbox knows it.

    *keys* are public and verify its assertions, *scope* and *resources* are all it may ask for; the first
    *resources* is the audience of a token for which none was asked. *person_scope* it may ask people for,
    beside *scope*; they come back to one of *redirect_uris*. A *public* client says who it is and cannot prove
    it: its refresh tokens are bound to the key of its proofs of possession (RFC 9449 section 5). Where there is a
    *jwks_uri*, keys that are not known are fetched from there, through the Unix socket *jwks_socket* if that is given.
    """

    client_id: str
    keys: tuple[JsonWebKey, ...]
    scope: tuple[str, ...]
    resources: tuple[str, ...]
    person_scope: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    sender_constraint: SenderConstraint = SenderConstraint.CERTIFICATE
    public: bool = False
    jwks_uri: str | None = None
    jwks_socket: str | None = None


class ClientRefusedError(Exception):
    """The client is not who it says (``invalid_client``); *reason* is a constant, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class UsedAssertions:
    """Remembers each ``jti`` until its assertion would have expired anyway."""

    _until: dict[tuple[str, str], float] = field(default_factory=dict)
    _tidied_at: int = TIDIED_AT

    def use(self, client_id: str, jti: str, *, expires_at: float, now: float) -> bool:
        """Say whether this is the first use, and remember it. *expires_at* and *now* in Unix seconds."""
        if len(self._until) >= self._tidied_at:
            self._until = {key: until for key, until in self._until.items() if until > now}
            self._tidied_at = max(TIDIED_AT, 2 * len(self._until))
        if self._until.get((client_id, jti), 0.0) > now:
            return False
        self._until[client_id, jti] = expires_at
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a client assertion says, for the log: unverified, and only what has a harmless form."""

    client_id: str | None = None
    jti: str | None = None
    alg: str | None = None


def unverified_assertion(token: str | None, clients: Mapping[str, RegisteredClient]) -> Assertion:
    """Read who sent *token*, its ``jti`` and its algorithm, without believing it."""
    try:
        header, claims = unverified_header(token or ""), unverified_claims(token or "")
    except NotSignedError:
        return Assertion()
    client_id, jti, alg = claims.get("sub"), claims.get("jti"), header.get("alg")
    return Assertion(
        client_id=client_id if isinstance(client_id, str) and client_id in clients else None,
        jti=jti if isinstance(jti, str) and _JTI.fullmatch(jti) else None,
        alg=alg if isinstance(alg, str) and _ALG.fullmatch(alg) else None,
    )


def authenticate(
    form: Mapping[str, str],
    clients: Mapping[str, RegisteredClient],
    used: UsedAssertions,
    *,
    issuer: str,
    now: float,
) -> RegisteredClient:
    """Find out which client sent *form*; *now* in Unix seconds. Raises ClientRefusedError."""
    named = clients.get(form.get("client_id", ""))
    if named is not None and named.public and not {"client_assertion", "client_assertion_type"} & set(form):
        return named
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise ClientRefusedError("client_assertion_type is missing or not jwt-bearer")
    token = form.get("client_assertion", "")
    client, key = _find_key(token, clients)
    try:
        header, claims = verify(key, token)
    except NotSignedError:
        raise ClientRefusedError("the signature of the assertion is wrong") from None
    if header.get("typ", "JWT") not in {"JWT", "client-authentication+jwt"}:
        raise ClientRefusedError("typ of the assertion is not JWT")
    if form.get("client_id", client.client_id) != client.client_id:
        raise ClientRefusedError("client_id is not that of the assertion")
    _check_claims(claims, client, issuer=issuer, now=now)
    if not used.use(client.client_id, claims["jti"], expires_at=claims["exp"] + CLOCK_TOLERANCE, now=now):
        raise ClientRefusedError("the assertion was used before (jti)")
    return client


def _find_key(token: str, clients: Mapping[str, RegisteredClient]) -> tuple[RegisteredClient, JsonWebKey]:
    try:
        header, claims = unverified_header(token), unverified_claims(token)
    except NotSignedError:
        raise ClientRefusedError("client_assertion is missing or not a JWT") from None
    subject = claims.get("sub")
    client = clients.get(subject) if isinstance(subject, str) else None
    if client is None:
        raise ClientRefusedError("no such client")
    found = [key for key in client.keys if key.kid == header.get("kid")]
    if not found:
        raise ClientRefusedError("kid of the assertion is missing or not registered")
    if header.get("alg") != found[0].alg:
        raise ClientRefusedError("alg of the assertion is not the registered one")
    return client, found[0]


def _check_claims(claims: Mapping[str, Any], client: RegisteredClient, *, issuer: str, now: float) -> None:
    if claims.get("iss") != client.client_id:
        raise ClientRefusedError("iss of the assertion is not the client")
    if claims.get("aud") != issuer:
        raise ClientRefusedError("aud of the assertion is not exactly the issuer, as a string")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise ClientRefusedError("jti of the assertion is missing or malformed")
    issued_at, expires_at = _number(claims, "iat"), _number(claims, "exp")
    if expires_at + CLOCK_TOLERANCE <= now:
        raise ClientRefusedError("the assertion has expired")
    if max(issued_at, _number({"nbf": issued_at, **claims}, "nbf")) > now + CLOCK_TOLERANCE:
        raise ClientRefusedError("the assertion comes from the future (iat or nbf)")
    if not 0 < expires_at - issued_at <= MAX_LIFETIME:
        raise ClientRefusedError("the assertion lives too long")


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ClientRefusedError(f"{name} of the assertion is missing or not a number")
    return value
