"""What an access token is shown to: logout (IRI-14), ``/identities`` (IRI-15), and a small API that believes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import Identity, Registry
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.tokens import AccessToken, Tokens
from broker.sandbox.iridium.wire import Answer, Asked, json_answer

IDENTITIES = "/identities"
API = "/api"
IDENTITY_TYPE = "application/vnd.iridium.id.identity-response.1+json"
ADMITTING = frozenset({IDENTITY_TYPE, "application/*", "*/*", "application/*+json"})
"""Media ranges that admit it; ``application/json`` is none of them."""


@dataclass(frozen=True, slots=True)
class Protected:
    """Answers to those who have an access token."""

    switches: Switches
    registry: Registry
    tokens: Tokens

    def logout(self, asked: Asked, client_id: str, *, plural: bool) -> Answer:
        """End the token that was shown, at the path that is the right one now. Raises RefusedError."""
        documented = self.switches.documented(Switch.LOGOUT)
        if documented is plural:
            raise _not_there()
        if not asked.bearer:
            raise RefusedError(Shape.FORBIDDEN, "an access token is needed", "invalid_token")
        issued = self.tokens.good(asked.bearer, now=asked.now)
        if issued is None:
            raise RefusedError(Shape.FILTER, None, "invalid_token")
        application = self.registry.application(client_id)
        if application is None or (documented and issued.client_id != client_id):
            raise RefusedError(Shape.NOT_AUTHORIZED, "NOT AUTHORIZED", "invalid_token")
        owner = self.registry.application(issued.client_id)
        if owner is None or owner.tenant != application.tenant:
            return Answer(status=204, outcome="kept")
        self.tokens.end(issued)
        return Answer(status=204, outcome="ended")

    def identities(self, asked: Asked) -> Answer:
        """Say whose the token is that was shown. Raises RefusedError."""
        if self.switches.documented(Switch.IDENTITIES):
            raise _not_there()
        if not asked.bearer:
            raise RefusedError(Shape.NOT_AUTHORIZED, "NOT AUTHORIZED", "invalid_token")
        issued = self.tokens.good(asked.bearer, now=asked.now)
        if issued is None:
            raise RefusedError(Shape.FILTER, None, "invalid_token")
        if not _admits(asked.accept):
            raise RefusedError(Shape.NOT_ACCEPTABLE, None, "invalid_request")
        body = {"data": _described(self._identity(issued))}
        return json_answer(200, body, outcome="ok", content_type=IDENTITY_TYPE)

    def me(self, asked: Asked) -> Answer:
        """Say whose the token is, as the API sees it."""
        issued = self.tokens.good(asked.bearer, now=asked.now)
        if issued is None:
            return _challenge(asked)
        identity = self._identity(issued)
        body = {
            "subject": identity.subject,
            "username": identity.username,
            "kind": "application" if identity.person is None else "person",
            "client_id": issued.client_id,
        }
        return json_answer(200, body, outcome="ok")

    def echo(self, asked: Asked, body: bytes, content_type: str) -> Answer:
        """Send *body* back."""
        if self.tokens.good(asked.bearer, now=asked.now) is None:
            return _challenge(asked)
        return Answer(status=200, outcome="ok", body=body, content_type=content_type)

    def _identity(self, issued: AccessToken) -> Identity:
        return self.registry.identity(issued.subject) or Identity(subject=issued.subject, username=issued.client_id)


def _described(identity: Identity) -> dict[str, Any]:
    profile = {} if identity.person is None else {"firstName": identity.person.title(), "lastName": "Sandbox"}
    return {
        "id": identity.subject,
        "username": identity.username,
        "profile": profile,
        "roles": [],
        "tenantIds": [],
    }


def _admits(accept: str | None) -> bool:
    ranges = {one.partition(";")[0].strip().lower() for one in (accept or "*/*").split(",")}
    return bool(ranges & ADMITTING)


def _challenge(asked: Asked) -> Answer:
    """Refuse as RFC 6750 section 3 has it: the API is not Iridium's."""
    error = ', error="invalid_token"' if asked.bearer else ""
    headers = {"WWW-Authenticate": f'Bearer realm="sandbox"{error}'}
    return json_answer(401, {"error": "invalid_token"}, outcome="invalid_token", headers=headers)


def _not_there() -> RefusedError:
    return RefusedError(Shape.NOT_FOUND, "there is nothing here", "not_found")
