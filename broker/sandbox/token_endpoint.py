"""
The token endpoint (RFC 6749 section 3.2): ``client_credentials`` for certificate-bound JWT access tokens.

Sans I/O: a request value comes in, an answer value goes out, and the caller says what time it is.
Tokens are RFC 9068 access tokens with the ``cnf`` of RFC 8705 section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.clients import ClientRefusedError, RegisteredClient, UsedAssertions, authenticate
from broker.sandbox.jose import JsonWebKey, sign

DEFAULT_LIFETIME = 60
"""Seconds that an access token lives: short, so that people see it being refreshed."""

FORM = "application/x-www-form-urlencoded"

REPEATABLE = frozenset({"resource", "audience"})
"""Parameters that may come more than once (RFC 8707 section 2); all others may not (RFC 6749 section 3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """
    A request to the token endpoint.

    *form* are the decoded parameters in order (None when the body was no form), *certificate_thumbprint*
    that of the connection's certificate, *authorization_header* says that there was one.
    """

    form: tuple[tuple[str, str], ...] | None = field(repr=False)
    certificate_thumbprint: str | None
    authorization_header: bool = False

    def first(self, name: str) -> str | None:
        """Give the first value of the parameter *name*."""
        return next((value for key, value in self.form or () if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A JSON answer; *outcome* is ``issued``, or the error code, for the log."""

    status: int
    body: dict[str, Any] = field(repr=False)
    outcome: str


class _RefusedError(Exception):
    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(error)
        self.answer = Answer(status=status, body={"error": error, "error_description": description}, outcome=error)


@dataclass(slots=True, kw_only=True)
class TokenEndpoint:
    """
    Issues tokens for *clients*, signed with *signing_key*.

    *lifetime* in seconds may be set at any time. *new_jti* makes the identifiers of access tokens.
    """

    issuer: str
    signing_key: JsonWebKey
    clients: dict[str, RegisteredClient]
    new_jti: Callable[[], str]
    lifetime: int = DEFAULT_LIFETIME
    used: UsedAssertions = field(default_factory=UsedAssertions)

    def answer(
        self, request: TokenRequest, *, now: float, twist: Callable[[dict[str, Any]], None] | None = None
    ) -> Answer:
        """
        Answer *request*; *now* in Unix seconds.

        *twist* may change the claims of the access token before it is signed: that is how a fault makes
        a token that is bound to the wrong certificate.
        """
        try:
            form = _form(request)
            client = authenticate(form, self.clients, self.used, issuer=self.issuer, now=now)
            return self._issue(request, form, client, now=now, twist=twist)
        except ClientRefusedError as refusal:
            return _RefusedError("invalid_client", refusal.reason, status=401).answer
        except _RefusedError as refusal:
            return refusal.answer

    def _issue(
        self,
        request: TokenRequest,
        form: Mapping[str, str],
        client: RegisteredClient,
        *,
        now: float,
        twist: Callable[[dict[str, Any]], None] | None,
    ) -> Answer:
        if form.get("grant_type") != "client_credentials":
            raise _RefusedError("unsupported_grant_type", "this server knows client_credentials only")
        if request.certificate_thumbprint is None:
            # The code is that of oidc-provider, surprising as it is.
            raise _RefusedError("invalid_grant", "mutual TLS client certificate not provided")
        scope = _granted_scope(form.get("scope"), client)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": client.client_id,
            "client_id": client.client_id,
            "aud": _audience(request, client),
            "scope": " ".join(scope),
            "jti": self.new_jti(),
            "iat": int(now),
            "exp": int(now) + self.lifetime,
            "cnf": {"x5t#S256": request.certificate_thumbprint},
        }
        if twist is not None:
            twist(claims)
        body = {
            "access_token": sign(self.signing_key, "at+jwt", claims),
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": claims["scope"],
        }
        return Answer(status=200, body=body, outcome="issued")


def _form(request: TokenRequest) -> dict[str, str]:
    if request.form is None:
        raise _RefusedError("invalid_request", f"the body is not {FORM}")
    names = [name for name, _ in request.form if name not in REPEATABLE]
    if len(names) != len(set(names)):
        raise _RefusedError("invalid_request", "a parameter is repeated")
    form = dict(request.form)
    if request.authorization_header or "client_secret" in form:
        # RFC 6749 section 2.3: a client uses no more than one method.
        raise _RefusedError("invalid_request", "two methods of client authentication")
    return form


def _granted_scope(asked: str | None, client: RegisteredClient) -> tuple[str, ...]:
    if asked is None:
        return client.scope[:1]
    scope = tuple(dict.fromkeys(asked.split(" ")))
    if not set(scope) <= set(client.scope):
        raise _RefusedError("invalid_scope", "the client may not ask for this scope")
    return scope


def _audience(request: TokenRequest, client: RegisteredClient) -> str | list[str]:
    asked = [value for name, value in request.form or () if name in REPEATABLE]
    if not asked:
        return client.resources[0]
    if not set(asked) <= set(client.resources):
        raise _RefusedError("invalid_target", "the client may not ask for this resource")
    audience = list(dict.fromkeys(asked))
    return audience[0] if len(audience) == 1 else audience
