"""
The authorization endpoint (RFC 6749 section 3.1): who are you, is that all right, and back to the client.

Sans I/O, and without sessions: each form brings back the query that it came with, so that one request with
``user`` and ``decision`` in its form is all that a script needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.sandbox.authorization_request import AuthorizationRequest, Back, RequestReader, RequestRefusedError
from broker.sandbox.authorization_response import Responder, Returned
from broker.sandbox.families import Approved, Families
from broker.sandbox.faults import Fault
from broker.sandbox.pages import consent_page, error_page, login_page

PEOPLE = ("alice", "bob")
"""Who can log in; there are no passwords."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """
    A browser's request: its *query*, the *form* it sends, and when.

    *take* gives the fault that an authorization response meets; *now* in Unix seconds.
    """

    query: Pairs
    form: Pairs
    now: float
    take: Callable[[], Fault | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    What a visit led to: a *page*, or an answer for the client that the browser takes along (*returned*).

    *outcome*, *client*, *reason* and *fault* are for the journal, *redirect_uri* for the page's policy.
    """

    outcome: str
    client: str | None = None
    status: int = 200
    page: str | None = None
    returned: Returned | None = None
    redirect_uri: str | None = None
    reason: str | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationEndpoint:
    """Asks people on behalf of clients."""

    reader: RequestReader
    families: Families
    responder: Responder

    def visit(self, visit: Visit) -> Shown:
        """Give the next page of *visit*, or its end."""
        try:
            request = self.reader.read(visit.query, now=visit.now)
            return self._asked(request, visit)
        except RequestRefusedError as refusal:
            if refusal.back is not None:
                return self._refused(refusal.back, refusal.error, refusal.reason, visit)
            return Shown(
                outcome=refusal.error, status=400, page=error_page(refusal.error, refusal.reason), reason=refusal.reason
            )

    def _asked(self, request: AuthorizationRequest, visit: Visit) -> Shown:
        if "none" in request.prompt:
            return self._refused(request.back, "login_required", "nobody is ever logged in here", visit)
        answers = dict(visit.form)
        user, decision = answers.get("user"), answers.get("decision")
        client_id, redirect_uri = request.client.client_id, request.back.redirect_uri
        if user not in PEOPLE:
            page = login_page(PEOPLE, client_id=client_id, hint=request.login_hint)
            return Shown(outcome="login", client=client_id, page=page, redirect_uri=redirect_uri)
        if decision not in {"allow", "deny"}:
            page = consent_page(user, client_id=client_id, scope=request.scope, details=request.details)
            return Shown(outcome="consent", client=client_id, page=page, redirect_uri=redirect_uri)
        self.reader.spend(visit.query)
        if decision == "deny":
            return self._refused(request.back, "access_denied", "the person said no", visit)
        fault = visit.take()
        if fault is not None and fault.kind == "authorization_error":
            return self._back(request.back, {"error": fault.parameters["error"]}, "fault", visit, fault)
        code = self.families.issue_code(_approved(request, user, visit.now), now=visit.now)
        return self._back(request.back, {"code": code}, "granted", visit, fault)

    def _refused(self, back: Back, error: str, reason: str, visit: Visit) -> Shown:
        return self._back(back, {"error": error, "error_description": reason}, error, visit, visit.take())

    def _back(self, back: Back, said: dict[str, str], outcome: str, visit: Visit, fault: Fault | None) -> Shown:
        return Shown(
            outcome=outcome,
            client=back.client_id,
            returned=self.responder.respond(back, said, fault, now=visit.now),
            redirect_uri=back.redirect_uri,
            reason=said.get("error_description"),
            fault=fault,
        )


def _approved(request: AuthorizationRequest, user: str, now: float) -> Approved:
    return Approved(
        client_id=request.client.client_id,
        subject=user,
        scope=request.scope,
        audience=request.audience,
        redirect_uri=request.back.redirect_uri,
        code_challenge=request.code_challenge,
        nonce=request.nonce,
        auth_time=int(now),
        acr=request.acr_values[0] if request.acr_values else None,
        details=request.details,
        dpop_jkt=request.dpop_jkt,
    )
