#!/usr/bin/env python3
"""
A back end for a single-page application that leaves OAuth to Token Broker.

The browser has a session cookie and nothing else: no token, no code verifier, no client secret ever gets there. This
program has no token either. It keeps, for each session, which grant of the broker is that person's, and has the
broker make the calls. Python's standard library is all it needs; sessions are in memory, so that a restart
gives up what was there, and people log in again.

    python3 app.py --socket /run/token-broker/app/api.sock --origin https://app.example.com

What it must get right, whatever language it is written in:

- id and binding of an authorization stay in the session of the person who began it (``login`` and ``callback``);
- a new session begins with each login (``callback``), so that nobody can leave a session of theirs to somebody else;
- a grant that no session leads to any more is given up, or it would be kept fresh for nobody;
- requests that change something come from our own page (``_is_ours``).
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

HERE = Path(__file__).parent

PAGES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/app.css": ("app.css", "text/css"),
}

TOKENS = ("github", "google")
"""
The names of ``[token.NAME]`` in the broker's configuration: one for each provider that people log in with.

There is an ``[upstream.NAME]`` of the same name for each: the API, called with that token.
"""

SESSION_SECONDS = 6 * 3600
"""After that a session ends, and its grant is given up: a cookie that was stolen is of no use for ever."""

LONGEST_BODY = 10_000
"""Bytes; what the page sends is a few dozen."""


@dataclass
class Session:
    """
    What is known of one browser: an authorization that it began, and the grant of whoever logged in.

    *token* is the one of the grant, *wanted* that of the authorization; *state_sha256* tells the way back from what
    anybody can make up.
    """

    ends_at: float
    token: str | None = None
    grant: str | None = None
    wanted: str | None = None
    authorization: str | None = None
    binding: str | None = None
    state_sha256: str | None = None


@dataclass
class Sessions:
    """All sessions by the value of their cookie."""

    by_key: dict[str, Session] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key: str | None) -> Session | None:
        """Give the session of a cookie."""
        session = self.by_key.get(key or "")
        return session if session is not None and time.monotonic() < session.ends_at else None

    def begin(self, session: Session) -> str:
        """Give *session* a key that nobody has seen."""
        key = secrets.token_urlsafe(32)
        self.by_key[key] = session
        return key

    def end(self, key: str | None) -> None:
        """Forget a session."""
        self.by_key.pop(key or "", None)

    def over(self) -> list[Session]:
        """Take out those whose time is over."""
        with self.lock:
            now = time.monotonic()
            keys = [key for key, session in list(self.by_key.items()) if now >= session.ends_at]
            return [session for key in keys if (session := self.by_key.pop(key, None)) is not None]


class BrokerConnection(http.client.HTTPConnection):
    """HTTP over the broker's Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class UnreachableError(Exception):
    """The broker is not there; the message says so."""


@dataclass(frozen=True)
class Answer:
    """An answer; *own*: to a call of an API, and the broker's own, not the API's."""

    status: int
    body: Any
    own: bool


@dataclass(frozen=True)
class Broker:
    """The local API of the broker, as much of it as is needed here."""

    path: str

    def ask(self, method: str, route: str, body: dict[str, Any] | None = None) -> Answer:
        """Make a request. Raises UnreachableError."""
        connection = BrokerConnection(self.path)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, route, sent, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            own = "token-broker" in (answer.getheader("Proxy-Status") or "")
            return Answer(answer.status, _json_of(answer.read()), own)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"the broker cannot be asked: {type(error).__name__}") from error
        finally:
            connection.close()

    def give_up(self, grant: str | None) -> Answer | None:
        """Give a grant up, at the server too."""
        return None if grant is None else self.ask("DELETE", f"/v1/grants/{grant}")

    def give_up_all(self) -> None:
        """Give up what an earlier run of this program left: nobody has a session to it any more."""
        while grants := self.ask("GET", "/v1/grants?limit=100").body.get("grants"):
            given_up = [self.give_up(one["id"]) for one in grants]
            if not all(answer is not None and answer.status == 200 for answer in given_up):
                return


def _json_of(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


class Handler(BaseHTTPRequestHandler):
    """One request of a browser."""

    server: App
    # A connection for each request: what one leaves unread must never be taken for another.
    protocol_version = "HTTP/1.0"
    timeout = 30  # seconds that a browser may take to say what it wants

    def handle_one_request(self) -> None:
        """Handle it, and say so where the broker is not there."""
        try:
            super().handle_one_request()
        except UnreachableError as error:
            print(error, flush=True)
            self._json(502, {"error": "broker_unreachable"})

    def do_GET(self) -> None:
        """Serve the page, the way back from a login, and what the page asks for."""
        path = urlsplit(self.path).path
        if path in PAGES:
            name, media_type = PAGES[path]
            return self._answer(200, (HERE / name).read_bytes(), media_type)
        if path == "/callback":
            return self._callback()
        if path == "/api/me":
            return self._call_api("GET", "/me")
        return self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        """Do what the page asks for."""
        if not self._is_ours():
            return self._json(403, {"error": "not_from_our_page", "open": self.server.origin})
        for session in self.server.sessions.over():
            self.server.broker.give_up(session.grant)
        if self.path == "/api/login":
            return self._login()
        if self.path == "/api/logout":
            return self._logout()
        return self._json(404, {"error": "not_found"})

    # --- what it does ---

    def _login(self) -> None:
        """Begin an authorization, and tell the page where to send the browser; who is logged in stays so meanwhile."""
        token = self._body().get("provider")
        if token not in TOKENS:
            return self._json(400, {"error": "unknown_provider"})
        wanted = {"token": token, "redirect_uri": f"{self.server.origin}/callback"}
        begun = self.server.broker.ask("POST", "/v1/authorizations", wanted)
        if begun.status != 201:
            return self._json(502, {"error": begun.body["error"]})
        before = self.server.sessions.find(self._cookie())
        session = Session(
            ends_at=time.monotonic() + SESSION_SECONDS,
            token=before.token if before else None,
            grant=before.grant if before else None,
            wanted=token,
            authorization=begun.body["id"],
            binding=begun.body["binding"],
            state_sha256=begun.body["state_sha256"],
        )
        self.server.sessions.end(self._cookie())
        return self._json(200, {"url": begun.body["authorization_url"]}, self.server.sessions.begin(session))

    def _callback(self) -> None:
        """Hand over the address as it came, with the binding of this browser's session and of no other."""
        session = self.server.sessions.find(self._cookie())
        if session is None or session.authorization is None or not self._answers(session):
            return self._to_page("/?failed=no_login")
        answer = {"binding": session.binding, "callback_url": f"{self.server.origin}{self.path}"}
        redeemed = self.server.broker.ask("POST", f"/v1/authorizations/{session.authorization}/callback", answer)
        if redeemed.status != 200:
            return self._to_page(f"/?failed={quote(redeemed.body['error'])}")
        self.server.sessions.end(self._cookie())
        if session.grant not in {None, redeemed.body["grant"]}:
            self.server.broker.give_up(session.grant)
        ends_at = time.monotonic() + SESSION_SECONDS
        new = Session(ends_at=ends_at, token=session.wanted, grant=redeemed.body["grant"])
        return self._to_page("/", self.server.sessions.begin(new))

    def _answers(self, session: Session) -> bool:
        """Say whether this is the way back of what the session began, and not a link of somebody else."""
        state = dict(parse_qsl(urlsplit(self.path).query)).get("state", "")
        return hashlib.sha256(state.encode()).hexdigest() == session.state_sha256

    def _call_api(self, method: str, path: str) -> None:
        """Have the broker call the API with the grant of whoever is logged in."""
        session = self.server.sessions.find(self._cookie())
        if session is None or session.grant is None:
            return self._json(401, {"error": "not_logged_in"})
        answer = self.server.broker.ask(method, f"/v1/grants/{session.grant}/egress/{session.token}{path}")
        if answer.own and answer.status in {404, 409}:  # the grant is gone, or a person is needed again
            self.server.broker.give_up(session.grant)
            self.server.sessions.end(self._cookie())
            return self._json(401, {"error": "not_logged_in"})
        if answer.status != 200 or answer.body is None:
            return self._json(502, {"error": "api_failed"})
        return self._json(200, answer.body)

    def _logout(self) -> None:
        """Give the grant up, at the server too, and end the session; who cannot be logged out is told so."""
        session = self.server.sessions.find(self._cookie())
        given_up = None if session is None else self.server.broker.give_up(session.grant)
        if given_up is not None and given_up.status not in {200, 404}:
            return self._json(502, {"error": "not_logged_out"})
        self.server.sessions.end(self._cookie())
        revoked = given_up.body.get("revoked") if given_up is not None and given_up.status == 200 else None
        return self._json(200, {"revoked": revoked}, "")

    # --- how it speaks ---

    def _is_ours(self) -> bool:
        """Say whether a page of ours asks: other pages cannot send this header of theirs, nor hide their origin."""
        return self.headers.get("Origin") == self.server.origin and self.headers.get("X-Requested-By") == "app"

    def _body(self) -> dict[str, Any]:
        """Read the body: an object, or an empty one in place of anything else."""
        length = self.headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdecimal() and int(length) <= LONGEST_BODY):
            return {}
        body = _json_of(self.rfile.read(int(length)))
        return body if isinstance(body, dict) else {}

    def _cookie(self) -> str | None:
        """Give the value of our cookie; None also where there are two, of which one is somebody else's."""
        pairs = [pair.strip().partition("=") for pair in (self.headers.get("Cookie") or "").split(";")]
        values = [value for name, _, value in pairs if name == self.server.cookie]
        return values[0] if len(values) == 1 else None

    def _to_page(self, where: str, session: str | None = None) -> None:
        self._answer(303, b"", "text/plain", session, location=where)

    def _json(self, status: int, body: Any, session: str | None = None) -> None:
        self._answer(status, json.dumps(body).encode(), "application/json", session)

    def _answer(
        self, status: int, body: bytes, media_type: str, session: str | None = None, location: str | None = None
    ) -> None:
        """Answer; *session* sets the cookie, and an empty one ends it."""
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if location is not None:
            self.send_header("Location", location)
        if session is not None:
            secure = "; Secure" if self.server.cookie.startswith("__Host-") else ""
            age = SESSION_SECONDS if session else 0
            # Lax: the cookie has to come with the browser when it returns from the login.
            self.send_header(
                "Set-Cookie",
                f"{self.server.cookie}={session}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{secure}",
            )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing: the address of a callback holds a code."""


class App(ThreadingHTTPServer):
    """The application."""

    daemon_threads = True

    def __init__(self, listen: tuple[str, int], *, broker: Broker, origin: str) -> None:
        super().__init__(listen, Handler)
        self.broker = broker
        self.origin = origin
        self.sessions = Sessions()
        # With this beginning no other host of the domain can set it.
        self.cookie = "__Host-session" if origin.startswith("https:") else "session"


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A single-page application behind Token Broker.")
    parser.add_argument("--socket", required=True, help="the socket of the broker")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (8000)")
    parser.add_argument("--origin", help="where browsers find it (default: http://127.0.0.1:PORT)")
    chosen = parser.parse_args()
    origin = chosen.origin or f"http://127.0.0.1:{chosen.port}"
    broker = Broker(chosen.socket)
    try:  # before anything is given up: where somebody listens, that may be this program, with people logged in
        serving = App(("127.0.0.1", chosen.port), broker=broker, origin=origin)
    except OSError as error:
        raise SystemExit(f"cannot listen on 127.0.0.1:{chosen.port}: {error.strerror}; choose another --port") from None
    with serving as app:
        try:
            broker.give_up_all()
        except UnreachableError as error:
            raise SystemExit(str(error)) from None
        print(f"listening on http://127.0.0.1:{chosen.port}; open {origin}", flush=True)
        try:
            app.serve_forever()
        except KeyboardInterrupt:
            print("ended")


if __name__ == "__main__":
    main()
