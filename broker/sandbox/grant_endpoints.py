"""
The endpoints around the token endpoint: pushed requests, userinfo, revocation.

RFC 9126, OpenID Connect Core section 5.3, RFC 7009. Sans I/O, with the client authentication of the token endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.sandbox.authorization_request import RequestReader, RequestRefusedError
from broker.sandbox.families import Families
from broker.sandbox.jose import NotSignedError, unverified_claims
from broker.sandbox.options import Options
from broker.sandbox.resource import AccessRefusedError, Guard, Presented
from broker.sandbox.token_endpoint import Answer, RefusedError, TokenEndpoint, TokenRequest, read_form

AUTHENTICATION = frozenset({"client_assertion", "client_assertion_type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEndpoints:
    """Answers clients that have, or want, a person's grant; *guard* knows good access tokens."""

    tokens: TokenEndpoint
    reader: RequestReader
    families: Families
    options: Options
    guard: Guard

    def push(self, request: TokenRequest, *, now: float) -> Answer:
        """Keep an authorization request (RFC 9126 section 2)."""
        try:
            client = self.tokens.authenticate(read_form(request), now=now)
            pairs = [pair for pair in request.form or () if pair[0] not in AUTHENTICATION]
            jkt = self.tokens.proven(request, now=now)
            request_uri = self.reader.push(pairs, client, jkt=jkt, now=now)
        except RequestRefusedError as refusal:
            return RefusedError(refusal.error, refusal.reason).answer
        except RefusedError as refusal:
            return refusal.answer
        body = {"request_uri": request_uri, "expires_in": self.options.request_lifetime_seconds}
        return Answer(status=201, body=body, outcome="pushed")

    def revoke(self, request: TokenRequest, *, now: float) -> Answer:
        """End the grant that a token belongs to; 200 as well if there is none (RFC 7009 section 2.2)."""
        try:
            form = read_form(request)
            client = self.tokens.authenticate(form, now=now)
        except RefusedError as refusal:
            return refusal.answer
        if "token" not in form:
            return RefusedError("invalid_request", "there is no token").answer
        family = self.families.revoke(form["token"], jti=_jti(form["token"]), client_id=client.client_id)
        if family is None:
            return Answer(status=200, body={}, outcome="unknown")
        return Answer(status=200, body={}, outcome="revoked", grant=family.name)

    def userinfo(self, presented: Presented, refuse: Callable[[str], None], *, now: float) -> Answer:
        """Say who the access token is about; *refuse* takes the challenge where it is not good."""
        try:
            claims = self.guard.admit(presented, now=now)
        except AccessRefusedError as refusal:
            refuse(refusal.challenge())
            return refused_access(refusal)
        family = self.families.find(claims["jti"])
        subject = claims["sub"]
        body = {"sub": subject, "name": subject.capitalize(), "email": f"{subject}@sandbox.example"}
        return Answer(status=200, body=body, outcome="ok", grant=family.name if family is not None else None)


def refused_access(refusal: AccessRefusedError) -> Answer:
    """Give the answer to a request without a good access token."""
    error = refusal.error or "unauthorized"
    body = {"error": error, "error_description": refusal.reason}
    return Answer(status=refusal.status, body=body, outcome=error)


def _jti(token: str) -> str | None:
    try:
        jti = unverified_claims(token).get("jti")
    except NotSignedError:
        return None
    return jti if isinstance(jti, str) else None
