"""``POST /oauth/token`` with a code (IRI-03 to IRI-06, IRI-12)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from broker.sandbox.iridium.external import ExternalFlow, Underway
from broker.sandbox.iridium.local_flow import LocalFlow
from broker.sandbox.iridium.pkce import Code, hexadecimal_challenge, standard_challenge
from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import Application, ApplicationType, Registry, subject_of
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.tokens import Tokens
from broker.sandbox.iridium.wire import Answer, Asked, decoded_basic

TOKEN = "/oauth/token"  # noqa: S105 (a path)


@dataclass(frozen=True, slots=True)
class Redemption:
    """Turns the codes of both flows into tokens."""

    switches: Switches
    registry: Registry
    tokens: Tokens
    external: ExternalFlow
    local: LocalFlow

    def answer(self, asked: Asked) -> Answer:
        """Answer a token request with ``grant_type=authorization_code``. Raises RefusedError."""
        application = self._application(asked)
        if asked.first("redirect_uri") not in {"", application.redirect_uri}:
            raise RefusedError(Shape.BAD_REQUEST, "redirect_uri is not valid", "invalid_grant")
        if application.type is ApplicationType.CONFIDENTIAL:
            self._check_secret(asked, application)
        verifier, code = self._verifier(asked), asked.first("code")
        if not verifier:
            raise RefusedError(Shape.BAD_REQUEST, "code_verifier is blank", "invalid_request")
        if not code:
            raise RefusedError(Shape.BAD_REQUEST, "authorization code is blank", "invalid_request")
        underway = self.external.find(asked)
        if underway is not None:
            return self._redeem_external(underway, application, asked, verifier)
        return self._redeem_local(code, application, asked, verifier)

    def _application(self, asked: Asked) -> Application:
        client_id = asked.first("client_id")
        if not client_id and self.switches.documented(Switch.CODE_SECRET):
            client_id, _ = decoded_basic(asked.basic) or ("", "")
        if not client_id:
            raise RefusedError(Shape.BAD_REQUEST, "invalid_request", "invalid_request")
        application = self.registry.application(client_id)
        if application is None:
            raise RefusedError(Shape.BAD_REQUEST, "invalid request", "invalid_client")
        return application

    def _check_secret(self, asked: Asked, application: Application) -> None:
        if not self.switches.documented(Switch.CODE_SECRET):
            if asked.first("client_secret") != application.secret_hash:
                raise RefusedError(Shape.BAD_REQUEST, "application secret not found", "invalid_client")
            return
        client_id, secret = decoded_basic(asked.basic) or (application.client_id, asked.first("client_secret"))
        right = hmac.compare_digest(secret.encode(), application.secret.encode())
        if client_id != application.client_id or not right:
            raise RefusedError(Shape.CLIENT_AUTHENTICATION, None, "invalid_client")

    def _verifier(self, asked: Asked) -> str:
        documented = self.switches.documented(Switch.STATE_WITH_CODE)
        return asked.first("code_verfier" if documented else "code_verifier")

    def _redeem_external(self, underway: Underway, application: Application, asked: Asked, verifier: str) -> Answer:
        if underway.code is not None:
            self.external.underway.remove(underway)
            return self._redeem_own(underway.code, application, asked, standard_challenge(verifier))
        granted = underway.provider.redeem(asked.first("code"), now=asked.now)
        if granted is None or underway.own_state is not None:
            raise RefusedError(Shape.FAILED, "the provider refuses the code", "invalid_grant")
        self.external.underway.remove(underway)
        subject = subject_of(granted.person, underway.provider.manner.name)
        return self.tokens.answer(self.tokens.issue(subject, application.client_id, now=asked.now))

    def _redeem_local(self, value: str, application: Application, asked: Asked, verifier: str) -> Answer:
        code = self.local.codes.pop(value, None)
        if code is None:
            raise RefusedError(Shape.BAD_REQUEST, "invalid authorization code", "invalid_grant")
        documented = self.switches.documented(Switch.LOCAL_CHALLENGE)
        shown = standard_challenge(verifier) if documented else hexadecimal_challenge(verifier)
        if self.switches.documented(Switch.MISMATCH):
            return self._redeem_own(code, application, asked, shown)
        return self._issue(code, application, asked, shown)

    def _redeem_own(self, code: Code, application: Application, asked: Asked, shown: str) -> Answer:
        """Redeem a code that is good for a while, and for one application."""
        if code.value != asked.first("code") or code.client_id != application.client_id:
            raise RefusedError(Shape.BAD_REQUEST, "invalid authorization code", "invalid_grant")
        if code.expires_at <= asked.now or asked.first("redirect_uri") not in {"", code.redirect_uri}:
            raise RefusedError(Shape.BAD_REQUEST, "invalid authorization code", "invalid_grant")
        return self._issue(code, application, asked, shown)

    def _issue(self, code: Code, application: Application, asked: Asked, shown: str) -> Answer:
        """Issue tokens, if the challenge that was *shown* is the code's (IRI-06)."""
        if code.code_challenge and not hmac.compare_digest(shown.encode(), code.code_challenge.encode()):
            if self.switches.documented(Switch.MISMATCH):
                raise RefusedError(Shape.BAD_REQUEST, "code_verifier does not fit", "invalid_grant")
            return Answer(status=200, outcome="mismatch")
        return self.tokens.answer(self.tokens.issue(code.subject, application.client_id, now=asked.now))
