#!/usr/bin/env python3
"""
A back end for a single-page application that leaves OAuth to Token Broker.

The browser has a session cookie and nothing else: no token, no code verifier, no client secret ever gets there. This
program has no token either. It keeps, for each session, which grant of the broker is that person's, and has the
broker make the calls. Python's standard library is all it needs; sessions are in memory, so that a restart asks
people to log in again.

    python3 app.py --socket /run/token-broker/app/api.sock --origin https://app.example.com

What it must get right, whatever language it is written in:

- id and binding of an authorization stay in the session of the person who began it (``login`` and ``callback``);
- a new session begins with each login (``callback``), so that nobody can leave a session of theirs to somebody else;
- requests that change something come from our own page (``_is_ours``).
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import socket
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

LOGIN_SECONDS = 600
"""As long as the broker waits for somebody who logs in."""


@dataclass
class Session:
    """What is known of one browser: an authorization that it began, and the grant of whoever logged in."""

    token: str
    authorization: str | None = None
    binding: str | None = None
    grant: str | None = None


@dataclass
class Sessions:
    """All sessions by the value of their cookie."""

    by_key: dict[str, Session] = field(default_factory=dict)

    def find(self, key: str | None) -> Session | None:
        """Give the session of a cookie."""
        return self.by_key.get(key or "")

    def begin(self, session: Session) -> str:
        """Give *session* a key that nobody has seen."""
        key = secrets.token_urlsafe(32)
        self.by_key[key] = session
        return key

    def end(self, key: str | None) -> None:
        """Forget a session."""
        self.by_key.pop(key or "", None)


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


@dataclass(frozen=True)
class Broker:
    """The local API of the broker, as much of it as is needed here."""

    path: str

    def ask(self, method: str, route: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Give status and JSON of an answer."""
        connection = BrokerConnection(self.path)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, route, sent, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()


class Handler(BaseHTTPRequestHandler):
    """One request of a browser."""

    server: App
    protocol_version = "HTTP/1.1"

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
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, 10_000))
        if not self._is_ours():
            return self._json(403, {"error": "not_from_our_page"})
        if self.path == "/api/login":
            return self._login(body)
        if self.path == "/api/logout":
            return self._logout()
        return self._json(404, {"error": "not_found"})

    # --- what it does ---

    def _login(self, body: bytes) -> None:
        """Begin an authorization, and tell the page where to send the browser."""
        token = json.loads(body or b"{}").get("provider")
        if token not in TOKENS:
            return self._json(400, {"error": "unknown_provider"})
        wanted = {"token": token, "redirect_uri": f"{self.server.origin}/callback"}
        status, begun = self.server.broker.ask("POST", "/v1/authorizations", wanted)
        if status != 201:
            return self._json(502, {"error": begun["error"]})
        session = Session(token=token, authorization=begun["id"], binding=begun["binding"])
        self.server.sessions.end(self._cookie())
        return self._json(200, {"url": begun["authorization_url"]}, self.server.sessions.begin(session))

    def _callback(self) -> None:
        """Hand over the address as it came, with the binding of this browser's session and of no other."""
        session = self.server.sessions.find(self._cookie())
        if session is None or session.authorization is None:
            return self._to_page("/?failed=no_login")
        answer = {"binding": session.binding, "callback_url": f"{self.server.origin}{self.path}"}
        route = f"/v1/authorizations/{session.authorization}/callback"
        status, redeemed = self.server.broker.ask("POST", route, answer)
        self.server.sessions.end(self._cookie())
        if status != 200:
            return self._to_page(f"/?failed={redeemed['error']}")
        return self._to_page("/", self.server.sessions.begin(Session(token=session.token, grant=redeemed["grant"])))

    def _call_api(self, method: str, path: str) -> None:
        """Have the broker call the API with the grant of whoever is logged in."""
        session = self.server.sessions.find(self._cookie())
        if session is None or session.grant is None:
            return self._json(401, {"error": "not_logged_in"})
        status, answer = self.server.broker.ask(method, f"/v1/grants/{session.grant}/egress/{session.token}{path}")
        if status in {404, 409}:  # the grant is gone, or a person is needed again
            self.server.sessions.end(self._cookie())
            return self._json(401, {"error": "not_logged_in"})
        return self._json(status, answer)

    def _logout(self) -> None:
        """Give the grant up, at the server too, and end the session."""
        session = self.server.sessions.find(self._cookie())
        revoked: Any = None
        if session is not None and session.grant is not None:
            _, answer = self.server.broker.ask("DELETE", f"/v1/grants/{session.grant}")
            revoked = (answer or {}).get("revoked")
        self.server.sessions.end(self._cookie())
        return self._json(200, {"revoked": revoked}, "")

    # --- how it speaks ---

    def _is_ours(self) -> bool:
        """Say whether a page of ours asks: other pages cannot send this header of theirs, nor hide their origin."""
        return self.headers.get("Origin") == self.server.origin and self.headers.get("X-Requested-By") == "app"

    def _cookie(self) -> str | None:
        morsel = SimpleCookie(self.headers.get("Cookie") or "").get("session")
        return None if morsel is None else morsel.value

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
            secure = "; Secure" if self.server.origin.startswith("https:") else ""
            age = LOGIN_SECONDS * 6 if session else 0
            # Lax: the cookie has to come with the browser when it returns from the login.
            self.send_header("Set-Cookie", f"session={session}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{secure}")
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


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A single-page application behind Token Broker.")
    parser.add_argument("--socket", required=True, help="the socket of the broker")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (8000)")
    parser.add_argument("--origin", help="where browsers find it (default: http://127.0.0.1:PORT)")
    chosen = parser.parse_args()
    origin = chosen.origin or f"http://127.0.0.1:{chosen.port}"
    with App(("127.0.0.1", chosen.port), broker=Broker(chosen.socket), origin=origin) as app:
        print(f"open {origin}", flush=True)
        try:
            app.serve_forever()
        except KeyboardInterrupt:
            print("ended")


if __name__ == "__main__":
    main()
