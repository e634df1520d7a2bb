"""``POST /oauth/token/refresh`` (IRI-10, IRI-13)."""

from __future__ import annotations

from dataclasses import dataclass

from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import Application, ApplicationType, Registry
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.tokens import RefreshToken, Tokens
from broker.sandbox.iridium.wire import Answer, Asked

REFRESH = "/oauth/token/refresh"


@dataclass(frozen=True, slots=True)
class Refreshing:
    """Issues tokens for refresh tokens."""

    switches: Switches
    registry: Registry
    tokens: Tokens

    def answer(self, asked: Asked) -> Answer:
        """Answer a refresh. Raises RefusedError."""
        if not self.switches.documented(Switch.REFRESH_BEARER):
            self._check_bearer(asked)
        application = self._application(asked)
        refresh_token = self._refresh_token(asked, application)
        documented_subject = self.switches.documented(Switch.REFRESH_SUBJECT)
        issued = self.tokens.issue(
            refresh_token.subject if documented_subject else application.subject,
            application.client_id,
            now=asked.now,
            keeping=refresh_token if self.switches.documented(Switch.REFRESH_ROTATION) else None,
        )
        return self.tokens.answer(issued)

    def _check_bearer(self, asked: Asked) -> None:
        if not asked.bearer:
            raise RefusedError(Shape.FORBIDDEN, "an access token is needed", "invalid_token")
        if self.tokens.good(asked.bearer, now=asked.now) is None:
            raise RefusedError(Shape.FILTER, None, "invalid_token")

    def _application(self, asked: Asked) -> Application:
        for name in ("grant_type", "client_id", "refresh_token"):
            if not asked.first(name):
                raise RefusedError(Shape.ILLEGAL_ARGUMENT, f"{name} must not be blank", "invalid_request")
        if asked.first("grant_type") != "refresh_token":
            text = 'grant_type value must be set to "refresh_token"'
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, text, "unsupported_grant_type")
        client_id = asked.first("client_id")
        application = self.registry.application(client_id)
        if application is None:
            text = f"application not found for clientId: {client_id}"
            raise RefusedError(Shape.BAD_REQUEST, text, "invalid_client")
        public = application.type is not ApplicationType.CONFIDENTIAL
        if public and not self.switches.documented(Switch.REFRESH_PUBLIC):
            text = "Only confidential clients are allowed to refresh tokens."
            raise RefusedError(Shape.NOT_AUTHORIZED, text, "unauthorized_client")
        return application

    def _refresh_token(self, asked: Asked, application: Application) -> RefreshToken:
        value = asked.first("refresh_token")
        found = self.tokens.refreshable(value, now=asked.now)
        bound = self.switches.documented(Switch.REFRESH_BINDING)
        if found is None or (bound and found.client_id != application.client_id):
            text = "invalid refresh token"
            if not self.switches.documented(Switch.ECHO):
                text = f"{text}: {value}"
            raise RefusedError(Shape.BAD_REQUEST, text, "invalid_grant")
        return found
