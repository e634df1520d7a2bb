"""
``/oauth/authorize``: people who log in at Iridium itself (IRI-05 to IRI-07).

Iridium wants ``userToken`` there, which its own login page gives out; here a GET without one is that page. Iridium
finds the tenant by its sub-domain; there is only one here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from broker.sandbox.iridium.external import CODE_LIFETIME, checked
from broker.sandbox.iridium.pkce import Code, new_code
from broker.sandbox.iridium.providers import PAGE_HEADERS
from broker.sandbox.iridium.refusals import RefusedError, Shape
from broker.sandbox.iridium.registry import LOCAL, PEOPLE, Application, Registry, subject_of
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.wire import HTML, Answer, Asked, redirect, with_parameters
from broker.sandbox.pages import login_page, policy

AUTHORIZE = "/oauth/authorize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What goes back to the application: the error, and Iridium's text."""

    error: str
    text: str


@dataclass(slots=True, kw_only=True)
class LocalFlow:
    """Logs people in, and keeps the codes that are not spent."""

    switches: Switches
    registry: Registry
    code_lifetime: int = CODE_LIFETIME
    codes: dict[str, Code] = field(default_factory=dict, repr=False)
    user_tokens: dict[str, str] = field(default_factory=dict, repr=False)

    def user_token(self, person: str) -> str:
        """Log *person* in: give a ``userToken`` for one authorization or more."""
        token = secrets.token_urlsafe(24)
        self.user_tokens[token] = person
        return token

    def authorize(self, asked: Asked) -> Answer:
        """Show the login form, or send the browser back with a code or an error. Raises RefusedError."""
        for name in ("response_type", "client_id"):
            if not asked.first(name):
                raise RefusedError(Shape.ILLEGAL_ARGUMENT, f"{name} must not be blank", "invalid_request")
        user_token = asked.first("userToken")
        if not user_token and asked.method == "GET":
            return self._login_page(asked)
        person = self.user_tokens.get(user_token)
        if person is None:
            raise RefusedError(Shape.NOT_AUTHORIZED, "NOT AUTHORIZED", "access_denied")
        application = self._application(asked)
        problem = self._problem(asked)
        if problem is not None:
            return self._back_with(problem, application, asked)
        code = new_code(
            subject_of(person, LOCAL),
            client_id=application.client_id,
            redirect_uri=application.redirect_uri,
            code_challenge=asked.first("code_challenge"),
            expires_at=asked.now + self.code_lifetime,
        )
        self.codes[code.value] = code
        answer = (("code", code.value), ("state", asked.first("state")))
        # Iridium encodes nothing here, either; the switch is that of its other redirects.
        encoded = self.switches.documented(Switch.PROVIDER_REDIRECT)
        return redirect(checked(with_parameters(application.redirect_uri, answer, encoded=encoded)), outcome="granted")

    def _application(self, asked: Asked) -> Application:
        client_id = asked.first("client_id")
        application = self.registry.application(client_id)
        if application is None:
            text = f"application not found for client_id: {client_id}"
            raise RefusedError(Shape.NOT_FOUND, text, "unauthorized_client")
        if asked.first("redirect_uri") not in {"", application.redirect_uri}:
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, "redirect_url is not valid", "invalid_request")
        return application

    def _problem(self, asked: Asked) -> Problem | None:
        response_type, method = asked.first("response_type"), asked.first("code_challenge_method")
        if not asked.first("state"):
            return Problem(error="invalid_request", text="state parameter is blank")
        if response_type != "code":
            text = f"authorization server does not support response type: {response_type}"
            return Problem(error="unsupported_response_type", text=text)
        if method == "plain" and not self.switches.documented(Switch.LOCAL_CHALLENGE):
            raise RefusedError(Shape.ILLEGAL_ARGUMENT, "No enum constant CodeChallengeMethod.plain", "invalid_request")
        if method != "S256":
            return Problem(error="invalid_request", text=f"code_challenge_method not supported: {method or 'null'}")
        if not asked.first("code_challenge"):
            return Problem(error="invalid_request", text="code_challenge must not be blank")
        return None

    def _back_with(self, problem: Problem, application: Application, asked: Asked) -> Answer:
        documented = self.switches.documented(Switch.LOCAL_ERRORS)
        answer = [(problem.error, problem.text)]
        if documented:
            answer = [("error", problem.error), ("error_description", problem.text), ("state", asked.first("state"))]
        location = with_parameters(application.redirect_uri, answer, encoded=documented)
        return redirect(checked(location), outcome=problem.error)

    def _login_page(self, asked: Asked) -> Answer:
        application = self._application(asked)
        values = {person: self.user_token(person) for person in PEOPLE}
        page = login_page(PEOPLE, client_id=application.client_id, hint=None, field="userToken", values=values)
        headers = {**PAGE_HEADERS, "Content-Security-Policy": policy(application.redirect_uri)}
        return Answer(status=200, outcome="login", body=page.encode(), content_type=HTML, headers=headers)
