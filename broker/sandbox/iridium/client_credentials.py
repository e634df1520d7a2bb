"""``POST /oauth/token`` for an application itself (IRI-11)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import Application, Registry
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.tokens import Tokens
from broker.sandbox.iridium.wire import Answer, Asked, decoded_basic, raw_basic


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Issues tokens to applications that prove who they are."""

    switches: Switches
    registry: Registry
    tokens: Tokens

    def answer(self, asked: Asked) -> Answer:
        """Answer a token request with ``grant_type=client_credentials``. Raises RefusedError."""
        documented = self.switches.documented(Switch.CLIENT_CREDENTIALS)
        application = self._documented(asked) if documented else self._observed(asked)
        issued = self.tokens.issue(
            application.subject, application.client_id, now=asked.now, refreshable=not documented
        )
        return self.tokens.answer(issued)

    def _documented(self, asked: Asked) -> Application:
        shown = decoded_basic(asked.basic) or (asked.first("client_id"), asked.first("client_secret"))
        client_id, secret = shown
        application = self.registry.application(client_id)
        if application is None or not is_secret_of(application, secret):
            raise RefusedError(Shape.CLIENT_AUTHENTICATION, None, "invalid_client")
        return application

    def _observed(self, asked: Asked) -> Application:
        if asked.first("client_id"):
            named = self.registry.application(asked.first("client_id"))
            if named is None:
                raise RefusedError(Shape.BAD_REQUEST, "invalid request", "invalid_client")
            if asked.first("client_secret") == named.secret_hash:
                raise RefusedError(Shape.BAD_REQUEST, "invalid_grant", "invalid_grant")
        if not (asked.authorization or "").strip():
            raise RefusedError(Shape.NOT_AUTHORIZED, "basic auth token blank", "invalid_client")
        client_id, secret = self._split(asked.basic)
        application = self.registry.application(client_id)
        if application is None:
            raise RefusedError(Shape.BAD_REQUEST, "invalid_client", "invalid_client")
        if not is_secret_of(application, secret):
            raise RefusedError(Shape.CLIENT_AUTHENTICATION, None, "invalid_client")
        return application

    def _split(self, credentials: str) -> tuple[str, str]:
        """Read id and secret as Java does: whatever the bytes are, and with nothing in them decoded."""
        text = raw_basic(credentials)
        if not text:
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, "Illegal base64 character", "invalid_request")
        parts = text.rstrip(":").split(":")
        if len(parts) != 2:
            raise RefusedError(Shape.BAD_REQUEST, "client credential request invalid format", "invalid_request")
        return parts[0], parts[1]


def is_secret_of(application: Application, secret: str) -> bool:
    """Say whether *secret* is that of *application*; one that has none has no right one."""
    return bool(application.secret) and hmac.compare_digest(secret.encode(), application.secret.encode())
