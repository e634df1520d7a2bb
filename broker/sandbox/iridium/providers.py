"""
Two fake external providers: people log in there, and what comes back is a code in the manner of each.

``ProviderPages`` is what a browser sees. Iridium redeems a code without a connection: both have the same state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from broker.sandbox.iridium.registry import PEOPLE
from broker.sandbox.iridium.wire import HTML, Answer, Asked, with_parameters
from broker.sandbox.pages import consent_page, error_page, login_page, policy

CODE_LIFETIME = 600
"""Seconds, as at GitHub."""

PAGE_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What the providers do differently; *denied* are the parameters for a person who does not want."""

    name: str
    path: str
    scope: str
    new_code: Callable[[], str]
    request_extras: tuple[tuple[str, str], ...]
    answer_extras: Callable[[str], tuple[tuple[str, str], ...]]
    denied: tuple[tuple[str, str], ...]


GITHUB = Manner(
    name="github",
    path="/login/oauth/authorize",
    scope="user:email",
    new_code=lambda: secrets.token_hex(10),
    request_extras=(),
    answer_extras=lambda _scope: (),
    denied=(
        ("error", "access_denied"),
        ("error_description", "The user has denied your application access."),
        ("error_uri", "https://docs.github.com/apps/managing-oauth-apps/troubleshooting"),
    ),
)

GOOGLE = Manner(
    name="google",
    path="/o/oauth2/v2/auth",
    scope="email",
    new_code=lambda: f"4/0A{secrets.token_urlsafe(48)}",
    request_extras=(("response_type", "code"),),
    answer_extras=lambda scope: (("scope", scope), ("authuser", "0"), ("prompt", "consent")),
    denied=(("error", "access_denied"),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCode:
    """A code and what it stands for; *state* is the one of its authorization request."""

    value: str = field(repr=False)
    person: str
    redirect_uri: str
    state: str
    expires_at: float


@dataclass(slots=True, kw_only=True)
class Provider:
    """A provider at *origin*; *scope* is what Iridium is configured to ask it for."""

    manner: Manner
    origin: str
    scope: str
    codes: dict[str, ProviderCode] = field(default_factory=dict, repr=False)

    @property
    def client_id(self) -> str:
        """Iridium's own, at this provider."""
        return f"iridium-at-{self.manner.name}"

    def location(self, *, state: str, redirect_uri: str, scope: str, encoded: bool) -> str:
        """Give the address that Iridium sends a browser to."""
        parameters = (
            ("client_id", self.client_id),
            ("state", state),
            ("redirect_uri", redirect_uri),
            ("scope", scope),
            *self.manner.request_extras,
        )
        return with_parameters(f"{self.origin}{self.manner.path}", parameters, encoded=encoded)

    def grant(self, person: str, *, redirect_uri: str, state: str, now: float) -> ProviderCode:
        """Give a code for *person*."""
        code = ProviderCode(
            value=self.manner.new_code(),
            person=person,
            redirect_uri=redirect_uri,
            state=state,
            expires_at=now + CODE_LIFETIME,
        )
        self.codes[code.value] = code
        return code

    def redeem(self, code: str, *, now: float) -> ProviderCode | None:
        """Spend *code*; None for one that is not good."""
        found = self.codes.pop(code, None)
        return found if found is not None and now < found.expires_at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPages:
    """
    What a browser sees at *provider*: who are you, and may Iridium know it.

    A script posts ``user`` and ``decision`` at once. *redirect_uris* are those that the provider knows. A browser may
    be led to any of them, over Iridium even to two, and lets a form lead only where the page says (CSP).
    """

    provider: Provider
    redirect_uris: Callable[[], Iterable[str]]

    def visit(self, asked: Asked) -> Answer:
        """Show the next page, or send the browser back."""
        request = dict(asked.query)
        reason = self._refused(request)
        if reason is not None:
            return _page(error_page("invalid_request", reason), 400, (), outcome="invalid_request")
        form = dict(asked.form) if asked.method == "POST" else {}
        person, decision = form.get("user"), form.get("decision")
        onward = tuple(self.redirect_uris())
        client = f"Iridium, at {self.provider.manner.name},"
        if person not in PEOPLE:
            page = login_page(PEOPLE, client_id=client, hint=request.get("login") or request.get("login_hint"))
            return _page(page, 200, onward, outcome="login")
        if decision is None:
            scope = request.get("scope", "").split()
            page = consent_page(person, client_id=client, scope=scope, details=())
            return _page(page, 200, onward, outcome="consent")
        return self._decided(request, person, allowed=decision == "allow", now=asked.now)

    def _refused(self, request: dict[str, str]) -> str | None:
        if request.get("client_id") != self.provider.client_id:
            return "client_id is not known here"
        if request.get("redirect_uri") not in set(self.redirect_uris()):
            return "redirect_uri is not registered here"
        wanted = dict(self.provider.manner.request_extras)
        return next((f"{name} must be {value}" for name, value in wanted.items() if request.get(name) != value), None)

    def _decided(self, request: dict[str, str], person: str, *, allowed: bool, now: float) -> Answer:
        redirect_uri, state = request["redirect_uri"], request.get("state", "")
        manner = self.provider.manner
        if allowed:
            code = self.provider.grant(person, redirect_uri=redirect_uri, state=state, now=now)
            parameters = (("code", code.value), ("state", state), *manner.answer_extras(request.get("scope", "")))
        else:
            parameters = (*manner.denied, ("state", state))
        location = f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(parameters)}"
        headers = {**PAGE_HEADERS, "Location": location}
        return Answer(status=302, outcome="granted" if allowed else "denied", headers=headers)


def _page(page: str, status: int, onward: Iterable[str], *, outcome: str) -> Answer:
    headers = {**PAGE_HEADERS, "Content-Security-Policy": policy(*onward)}
    return Answer(status=status, outcome=outcome, body=page.encode(), content_type=HTML, headers=headers)
