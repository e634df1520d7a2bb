"""
How a login goes, on this machine's browser or by an address that is pasted, and what is told at its end.

An authorization that was begun is finished or given up, whatever ends the command.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import parse_qsl, urlsplit

from broker.cli import local_consents as consents
from broker.cli.children import StoppedError, stoppable
from broker.cli.exits import DONE, FAILED, INTERRUPTED, explain, say
from broker.cli.hidden_input import read_hidden
from broker.cli.local_client import Daemon, DaemonError
from broker.cli.login_http import Form
from broker.cli.login_listener import LOOPBACK, LoginListener
from broker.cli.login_pages import EXPIRED, GIVEN_UP, Problem, problem_of
from broker.cli.login_visit import RESPONSE_PARAMETERS, Outcome, Place, Visit
from broker.cli.tables import duration, plain
from broker.cli.web_browser import is_remote, open_link
from broker.errors import BrokerError

KEY_BYTES = 32
"""256 random bits for the key of the link and for the cookie."""

OPENING_MARGIN = 5.0
"""Seconds before the end of a URL from which on it is not handed out any more: the browser has to get there."""

LOOK = 1.0
"""Seconds between two looks at the time."""

PAGE_GRACE = 10.0
"""Seconds that a browser has to fetch the page at the end."""

PASTE_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the person at the terminal wants, and of which daemon."""

    daemon: Daemon
    token: str
    grant: str | None = None
    label: str | None = None


class Login:
    """One login at the daemon: the authorization that is open now. Implements ``login_visit.Steps``."""

    def __init__(self, order: Order, redirect_uri: str | None) -> None:
        """Prepare it; *redirect_uri* None leaves the choice to the daemon."""
        self._daemon = order.daemon
        self._wish = consents.Wish(token=order.token, grant=order.grant, redirect_uri=redirect_uri, label=order.label)
        self._origin = "" if redirect_uri is None else redirect_uri.removesuffix(urlsplit(redirect_uri).path)
        self._open: consents.Begun | None = None
        self._state_sha256 = ""
        self._open_until = self._deadline = time.monotonic()

    def begin(self) -> consents.Begun:
        """Begin it. Raises BrokerError."""
        now = time.monotonic()
        begun = consents.begin(self._daemon, self._wish)
        self._open, self._state_sha256 = begun, begun.state_sha256
        self._open_until = now + begun.expires_in - OPENING_MARGIN
        self._deadline = now + consents.seconds_left(self._daemon, begun)
        return begun

    @property
    def left(self) -> float:
        """Seconds in which it has to be finished."""
        return self._deadline - time.monotonic()

    @property
    def opening(self) -> float:
        """Seconds in which the URL has to be opened: a server forgets a pushed request early."""
        return self._open_until - time.monotonic()

    def authorization_url(self) -> str:
        """Give a URL that can still be opened: a pushed request is forgotten within a minute, a person is not."""
        begun = self._open
        if begun is None or time.monotonic() > self._open_until:
            self.give_up()
            begun = self.begin()
        return begun.authorization_url

    def is_of(self, state: str) -> bool:
        """Say whether *state* is that of the authorization that was begun last, open or not."""
        return hmac.compare_digest(hashlib.sha256(state.encode()).hexdigest(), self._state_sha256)

    def finish(self, callback: str, form: Form | None) -> consents.Consented:
        """Hand over what came to the path and query *callback*; whatever comes of it, nothing stays open."""
        return self.finish_at(f"{self._origin}{callback}", form)

    def finish_at(self, url: str, form: Form | None = None) -> consents.Consented:
        """Hand over the whole address that the browser was sent to. Raises BrokerError."""
        begun, self._open = self._open, None
        if begun is None:
            raise AssertionError("there is nothing to be finished")
        return consents.finish(self._daemon, begun, callback_url=url, form=form)

    def give_up(self) -> None:
        """Give up what is open, and leave it to its end where the daemon cannot be told."""
        begun, self._open = self._open, None
        if begun is not None:
            with suppress(BrokerError):
                consents.abandon(self._daemon, begun)


def by_browser(order: Order, *, port: int, path: str, variables: Mapping[str, str], opens: bool) -> int:
    """Have the person log in with a browser that comes back to a port of this machine. Raises BrokerError."""
    listener = LoginListener(port)
    try:
        with _begun(order, f"http://{listener.host}{path}") as login:
            place = Place(token=order.token, port=listener.port, path=path)
            visit = Visit(place, login, draw=lambda: secrets.token_urlsafe(KEY_BYTES))
            listener.serve(visit.answer)
            link = f"http://{listener.host}{visit.start_path}"
            opened = opens and open_link(link, variables, uid=os.geteuid())
            _tell_link(order.token, link, listener.port, login.left, is_opened=opened, remote=is_remote(variables))
            outcome = _wait(visit, login)
    except StoppedError:
        return _interrupted()
    finally:
        listener.close()
    return _tell(order.token, outcome, key_came_late=visit.key_came_late)


def by_paste(order: Order, *, redirect_uri: str | None) -> int:
    """Have the person log in anywhere, and paste the address where the browser ended. Raises BrokerError."""
    try:
        with _begun(order, redirect_uri) as login:
            url = login.authorization_url()
            say(f'To consent to "{order.token}", open this address in your browser within {_whole(login.opening)}:\n')
            say(f"  {url}\n")
            say(f"The login may then take its time, {_whole(login.left)} from now at most.")
            say("After the login the browser ends at an address that may show nothing. Copy that address whole.")
            say("Go on only if you began this yourself: an address that somebody sent you, to open or to paste,")
            say("would give your consent to them, or theirs to you.\n")
            pasted = _pasted(login, redirect_uri)
            outcome: Outcome = GIVEN_UP
            if pasted is not None:
                say("Handing it to the broker ...")
                outcome = _finished(login, pasted)
    except StoppedError:
        return _interrupted()
    return _tell(order.token, outcome)


@contextmanager
def _begun(order: Order, redirect_uri: str | None) -> Iterator[Login]:
    """Begin a login that is given up at the end of the context, unless it is finished; signals end the context."""
    login = Login(order, redirect_uri)
    with stoppable() as stopping:
        try:
            with stopping.held():
                login.begin()
            yield login
        finally:
            stopping.hold()
            login.give_up()


def _finished(login: Login, url: str) -> Outcome:
    try:
        return login.finish_at(url)
    except BrokerError as error:
        return error


def _wait(visit: Visit, login: Login) -> Outcome:
    """Wait for the browser, at most for as long as the daemon does."""
    while not visit.ended.wait(LOOK):
        if login.left < 0:
            visit.give_up(EXPIRED)
    outcome = visit.outcome
    if outcome is None:
        raise AssertionError("it has ended with something")
    if outcome is not EXPIRED:
        visit.shown.wait(PAGE_GRACE)
    return outcome


def _pasted(login: Login, redirect_uri: str | None) -> str | None:
    """Ask for an address until it is one that an answer to *login* came to; None when the person gives up."""
    for _ in range(PASTE_TRIES):
        url = read_hidden("Paste it here (it is not shown), and press Enter: ")
        if url is None:
            return None
        parameters = _answer_in(url, redirect_uri)
        if parameters is None:
            say("That is not the address where the browser ended: it has code=, error= or response= in it.")
        elif not all(login.is_of(value) for name, value in parameters if name == "state"):
            say("That is the end of another login than this one. If you did not begin it, somebody sent it to you.")
        else:
            return url
    return None


def _answer_in(url: str, redirect_uri: str | None) -> list[tuple[str, str]] | None:
    """Give the parameters of the answer that *url* carries; None if it carries none."""
    if not consents.is_web_address(url) or (redirect_uri is not None and not url.startswith(redirect_uri)):
        return None
    parameters = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    return parameters if any(name in RESPONSE_PARAMETERS for name, _ in parameters) else None


def _whole(seconds: float) -> str:
    return duration(max(0, int(seconds)))


def _tell_link(token: str, link: str, port: int, left: float, *, is_opened: bool, remote: bool) -> None:
    if is_opened:
        say(f'Your browser was asked to open the login for "{token}". If it does not, open this link, once:\n')
    else:
        say(f'To consent to "{token}", open this link in a browser on this machine, once:\n')
    say(f"  {link}\n")
    if remote:
        say(f"From your own machine, forward the port first: ssh -L {port}:{LOOPBACK}:{port} HOST\n")
    say(f"It is for you alone. Waiting for {_whole(left)}; Ctrl-C gives up.")


def _tell(token: str, outcome: Outcome, *, key_came_late: bool = False) -> int:
    """Say what came of it: a grant on standard output, the rest on standard error."""
    match outcome:
        case consents.Consented():
            _tell_grant(token, outcome)
            if key_came_late:
                say(
                    "The link was opened a second time during the login. If that was not you, look whose account it is;"
                )
                say("to give the consent up: token-broker grants revoke " + plain(outcome.grant))
            return DONE
        case Problem():
            _tell_problem(outcome)
        case BrokerError():
            _tell_problem(problem_of(outcome))
            explain(outcome)
            if isinstance(outcome, DaemonError) and outcome.check is not None:
                say(f"  the check that failed: {plain(outcome.check)}")
        case _:
            assert_never(outcome)
    return FAILED


def _tell_grant(token: str, consented: consents.Consented) -> None:
    person = "not known" if consented.subject is None else plain(consented.subject)
    doubt = "" if consented.subject is None or consented.subject_verified else " (not verified)"
    print("Consent given.")
    print(f"  token  {token}")
    print(f"  scope  {plain(consented.scope) or 'as the server has it'}")
    print(f"  person {person}{doubt}")
    print(f"  grant  {plain(consented.grant)}", flush=True)


def _tell_problem(problem: Problem) -> None:
    say(f"{problem.heading}. {problem.explanation}")
    say(f"  {problem.remedy}")


def _interrupted() -> int:
    say("\nThe login was given up. If you had consented already, look at: token-broker grants")
    return INTERRUPTED
