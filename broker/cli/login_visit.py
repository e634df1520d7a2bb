"""
One login, as the browser goes through it (rules.md R4): the start link once, the callback once, a page at the end.

The link's key may be seen by others on this machine, in the process table for one; so it opens one login for
one browser, which gets a cookie, and whoever comes second with it ends the login for both. The callback counts
only with the cookie. Everything else is answered 400 and changes nothing. Called from several threads.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs

from broker.cli.local_consents import REDEEM_TIMEOUT, Consented
from broker.cli.login_http import Answer, Form, Request
from broker.cli.login_pages import USED_TWICE, Problem, done_page, failed_page, problem_of
from broker.errors import BrokerError

START = "/start/"
HELD = "/held/"
DONE = "/done"
FAILED = "/failed"

RESPONSE_PARAMETERS = frozenset({"code", "error", "response"})
"""One of them is in every authorization response (RFC 6749 section 4.1.2, JARM section 2.3)."""

MAX_HELD = 8
"""Forms that wait for their browser to come again with its cookie."""

STRANGER = Problem(
    heading="This is not the login",
    explanation="This request does not belong to the login that the terminal waits for. Nothing has changed.",
    remedy="Open the link from the terminal, and stay in that browser until the end.",
)


class Steps(Protocol):
    """What the login does when the browser is where it should be; both may raise BrokerError."""

    def authorization_url(self) -> str:
        """Say where to send the person; asked once."""

    def is_of(self, state: str) -> bool:
        """Say whether *state* is that of the request that the person was sent off with."""

    def finish(self, callback: str, form: Form | None) -> Consented:
        """Hand over what came back to the *callback*, a path with its query; done once."""


class Phase(StrEnum):
    """How far the browser has come."""

    WAITING = "waiting"
    OPENED = "opened"
    REDEEMING = "redeeming"
    ENDED = "ended"


UNENDED = frozenset(Phase) - {Phase.ENDED}

Outcome = Consented | Problem | BrokerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a login is: the name of its token, its port, and the path of its callback."""

    token: str
    port: int
    path: str


class Visit:
    """Answers the requests of one login. *ended* and *shown* say that there is an outcome, and that it was seen."""

    def __init__(self, place: Place, steps: Steps, *, draw: Callable[[], str]) -> None:
        """Make a login with a key that *draw* gives: at least 128 random bits, fit for a URL and a cookie."""
        self.ended = threading.Event()
        self.shown = threading.Event()
        self.key_came_late = False
        self._place = place
        self._steps = steps
        self._draw = draw
        self._key = draw()
        self._cookie = draw()
        self._lock = threading.Lock()
        self._phase = Phase.WAITING
        self._outcome: Outcome | None = None
        self._held: dict[str, Form] = {}

    @property
    def start_path(self) -> str:
        """The path of the link that the person opens."""
        return f"{START}{self._key}"

    @property
    def outcome(self) -> Outcome | None:
        """What came of it, None until then."""
        return self._outcome

    def give_up(self, problem: Problem) -> bool:
        """End it for *problem*; False where it has ended, or the answer of the server is being handed over."""
        return self._end(problem, within=frozenset({Phase.WAITING, Phase.OPENED}))

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if request.path == self._place.path:
            return self._callback(request)
        if request.method != "GET":
            return junk()
        if request.path.startswith(START) and _same(request.path.removeprefix(START), self._key):
            return self._start()
        if request.path.startswith(HELD):
            return self._held_callback(request)
        if request.path in {DONE, FAILED} and self._has_cookie(request):
            return self._page(request.path)
        return junk()

    def _start(self) -> Answer:
        with self._lock:
            is_first = self._phase is Phase.WAITING
            if is_first:
                self._phase = Phase.OPENED
        if not is_first:
            return self._second_start()
        try:
            location = self._steps.authorization_url()
        except BrokerError as error:
            self._end(error)
            return self._failure(problem_of(error))
        return Answer(status=HTTPStatus.SEE_OTHER, location=location, cookie=f"{self._cookie_name}={self._cookie}")

    def _second_start(self) -> Answer:
        if self.give_up(USED_TWICE):
            return self._failure(USED_TWICE)
        self.key_came_late = self.key_came_late or not isinstance(self._outcome, Problem | BrokerError)
        return junk()

    def _callback(self, request: Request) -> Answer:
        if request.method == "GET":
            return self._redeem(request, request.target, None) if self._is_response(_fields(request.query)) else junk()
        if request.form is None or not self._is_response(_lists(request.form)):
            return junk()
        return self._hold(request.form)

    def _is_response(self, fields: Mapping[str, Sequence[str]]) -> bool:
        """
        Say whether it can be an answer of the server: with our ``state``, that only server and browser know.

        Any page can send the person's browser here, with its cookie. Whether it is an answer to be trusted is found
        out by the daemon.
        """
        if not RESPONSE_PARAMETERS & fields.keys():
            return False
        claimed = [_claimed_state(response) for response in fields.get("response", ())]
        return any(self._steps.is_of(state) for state in (*fields.get("state", ()), *claimed) if state is not None)

    def _hold(self, form: Form) -> Answer:
        """
        Keep a form, and have the browser come again by GET.

        A POST from the server's page is of another site, and without cookies that are SameSite=Lax; the GET that
        a 303 makes of it has them. Nobody else knows its address.
        """
        ticket = self._draw()
        with self._lock:
            while len(self._held) >= MAX_HELD:
                self._held.popitem()  # the newest: whoever floods loses their own
            self._held[ticket] = form
        return Answer(status=HTTPStatus.SEE_OTHER, location=f"{HELD}{ticket}")

    def _held_callback(self, request: Request) -> Answer:
        with self._lock:
            form = self._held.pop(request.path.removeprefix(HELD), None)
        return junk() if form is None else self._redeem(request, self._place.path, form)

    def _redeem(self, request: Request, callback: str, form: Form | None) -> Answer:
        if not self._has_cookie(request):
            return junk()
        with self._lock:
            is_first = self._phase is Phase.OPENED
            if is_first:
                self._phase = Phase.REDEEMING
        if is_first:
            try:
                self._end(self._steps.finish(callback, form))
            except BrokerError as error:
                self._end(error)
        else:
            self.ended.wait(REDEEM_TIMEOUT)  # somebody pressed reload
        return Answer(status=HTTPStatus.SEE_OTHER, location=DONE if isinstance(self._outcome, Consented) else FAILED)

    def _page(self, path: str) -> Answer:
        outcome = self._outcome
        if isinstance(outcome, Consented) and path == DONE:
            self.shown.set()
            return Answer(status=HTTPStatus.OK, page=done_page(self._place.token, outcome.scope))
        if outcome is None or isinstance(outcome, Consented) or path != FAILED:
            return junk()
        self.shown.set()
        problem = outcome if isinstance(outcome, Problem) else problem_of(outcome)
        return Answer(status=HTTPStatus.OK, page=failed_page(problem))

    def _failure(self, problem: Problem) -> Answer:
        self.shown.set()
        return Answer(status=HTTPStatus.CONFLICT, page=failed_page(problem))

    def _end(self, outcome: Outcome, *, within: frozenset[Phase] = UNENDED) -> bool:
        with self._lock:
            if self._phase not in within:
                return False
            self._phase, self._outcome = Phase.ENDED, outcome
        self.ended.set()
        return True

    @property
    def _cookie_name(self) -> str:
        """Another one for each port: cookies of one address are sent to all of its ports."""
        return f"token_broker_login_{self._place.port}"

    def _has_cookie(self, request: Request) -> bool:
        return any(_same(value, self._cookie) for value in request.cookies(self._cookie_name))


def junk() -> Answer:
    """Answer what does not belong to the login."""
    return Answer(status=HTTPStatus.BAD_REQUEST, page=failed_page(STRANGER))


def _fields(query: str) -> Mapping[str, Sequence[str]]:
    return parse_qs(query, keep_blank_values=True)


def _lists(form: Form) -> Mapping[str, Sequence[str]]:
    return {name: [value] if isinstance(value, str) else value for name, value in form.items()}


def _claimed_state(response: str) -> str | None:
    """Give the ``state`` that a signed response (JARM section 2.3) claims; nothing is verified here."""
    try:
        payload = response.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        state = claims["state"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return state if isinstance(state, str) else None


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("latin-1", "replace"), secret.encode())
