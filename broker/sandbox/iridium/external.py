"""Authorization at an external provider: the way there, and by the page also the way back (IRI-01 to IRI-03)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from broker.sandbox.iridium.pkce import Code, new_code
from broker.sandbox.iridium.providers import Provider
from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import Application, Registry, subject_of
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.wire import Answer, Asked, redirect, with_parameters

AUTHORIZE = "/oauth/external/authorize"

CALLBACK = "/oauth/external/callback"
"""Iridium's own, for providers that send people back to it (IRI-03 as documented)."""

CODE_LIFETIME = 60
"""Seconds of a code of Iridium's own."""


@dataclass(slots=True, kw_only=True)
class Underway:
    """
    An external authorization that is under way.

    *redirect_uri* is the one that the application gets its answer at. *own_state* is Iridium's, where the provider
    sends the person back to it, and *code* what the application got then.
    """

    provider: Provider
    client_id: str
    state: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    own_state: str | None = None
    code: Code | None = None


@dataclass(slots=True, kw_only=True)
class ExternalFlow:
    """The authorizations that are under way; *providers* are those that are active, by name."""

    switches: Switches
    registry: Registry
    providers: dict[str, Provider]
    code_lifetime: int = CODE_LIFETIME
    underway: list[Underway] = field(default_factory=list, repr=False)

    def authorize(self, asked: Asked) -> Answer:
        """Send a browser to a provider. Raises RefusedError."""
        if self.switches.documented(Switch.EXTERNAL_REQUEST):
            application, provider = self._documented_request(asked)
        else:
            application, provider = self._observed_request(asked)
        encoded = self.switches.documented(Switch.PROVIDER_REDIRECT)
        sent, scope = asked.first("redirect_uri"), asked.first("scope")
        begun = Underway(
            provider=provider,
            client_id=application.client_id,
            state=asked.first("state"),
            redirect_uri=sent if encoded and sent else application.redirect_uri,
            code_challenge=asked.first("code_challenge"),
        )
        state, back = begun.state, begun.redirect_uri
        if self.switches.documented(Switch.PROVIDER_CODE):
            begun.own_state = state = secrets.token_urlsafe(16)
            back = f"{asked.origin}{CALLBACK}"
        self.underway.append(begun)
        location = provider.location(
            state=state,
            redirect_uri=back,
            scope=scope if encoded and scope else provider.scope,
            encoded=encoded,
        )
        return redirect(checked(location), outcome="to_provider")

    def callback(self, asked: Asked) -> Answer:
        """Take a person back from a provider, and send them on to the application. Raises RefusedError."""
        state = asked.first("state")
        begun = next((one for one in self.underway if state and one.own_state == state), None)
        if begun is None:
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, "state must be one of ours", "invalid_request")
        begun.own_state = None
        granted = begun.provider.redeem(asked.first("code"), now=asked.now)
        if granted is None:
            self.underway.remove(begun)
            failed = (("error", asked.first("error") or "server_error"), ("state", begun.state))
            return redirect(checked(with_parameters(begun.redirect_uri, failed, encoded=True)), outcome="failed")
        begun.code = new_code(
            subject_of(granted.person, begun.provider.manner.name),
            client_id=begun.client_id,
            redirect_uri=begun.redirect_uri,
            code_challenge=begun.code_challenge,
            expires_at=asked.now + self.code_lifetime,
        )
        answer = (("code", begun.code.value), ("state", begun.state))
        return redirect(checked(with_parameters(begun.redirect_uri, answer, encoded=True)), outcome="granted")

    def find(self, asked: Asked) -> Underway | None:
        """Find the authorization that a code belongs to (IRI-04). Raises RefusedError."""
        if self.switches.documented(Switch.STATE_WITH_CODE):
            code = asked.first("code")
            return next((one for one in self.underway if self._is_of(one, code)), None)
        state = asked.first("state")
        found = [one for one in self.underway if one.state == state]
        if len(found) > 1:
            raise RefusedError(Shape.FAILED, "more than one authorization has this state", "invalid_grant")
        return found[0] if found else None

    def _is_of(self, begun: Underway, code: str) -> bool:
        if begun.code is not None:
            return begun.code.value == code
        granted = begun.provider.codes.get(code)
        return granted is not None and granted.state == begun.state

    def _documented_request(self, asked: Asked) -> tuple[Application, Provider]:
        for name in ("response_type", "state", "scope", "client_id", "code_challenge", "code_challenge_method"):
            if not asked.first(name):
                raise _invalid(f"{name} is missing")
        if asked.first("response_type") != "code":
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, "response_type must be code", "unsupported_response_type")
        if asked.first("code_challenge_method") != "S256":
            raise _invalid("code_challenge_method must be S256")
        application = self.registry.application(asked.first("client_id"))
        if application is None:
            raise _invalid("client_id is not known")
        if asked.first("redirect_uri") not in {"", application.redirect_uri}:
            raise _invalid("redirect_uri is not the registered one")
        name = asked.first("provider")
        if name not in {"github", "google"} or name not in self.providers:
            raise _invalid("provider must be either github or google")
        return application, self.providers[name]

    def _observed_request(self, asked: Asked) -> tuple[Application, Provider]:
        wanted = ("state", "redirect_uri", "client_id", "provider")
        if asked.first("response_type") != "code" or not all(asked.first(name) for name in wanted):
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, None, "invalid_request")
        client_id = asked.first("client_id")
        application = self.registry.application(client_id)
        if application is None:
            raise RefusedError(
                Shape.NOT_FOUND, f"application not found for clientId: {client_id}", "unauthorized_client"
            )
        name = asked.first("provider").lower()
        active = {given.lower(): provider for given, provider in self.providers.items()}
        if name not in active:
            raise RefusedError(Shape.FAILED, None, "invalid_request")
        return application, active[name]


def checked(location: str) -> str:
    """Give *location* back, unless Iridium could not have sent it. Raises RefusedError."""
    if any(character in "{}" or not character.isprintable() for character in location):
        raise RefusedError(Shape.FAILED, None, "invalid_request")
    return location


def _invalid(text: str) -> RefusedError:
    return RefusedError(Shape.ILLEGAL_ARGUMENT, text, "invalid_request")
