"""
An authorization server in a thread of the test: it refreshes tokens, and the test decides how its answers get lost.

It knows nothing but what a test of refresh tokens needs, and remembers everything that it was asked and gave.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.daemon.harness import PATIENCE


@dataclass
class Family:
    """The refresh tokens of one grant, oldest first; *dead* after one that was used before came again."""

    tokens: list[str]
    dead: bool = False


@dataclass
class RotatingServer:
    """
    Rotates refresh tokens: *mode* ``never``, ``grace`` (the previous one goes on working) or ``strict`` (it kills).

    While *held* is set, requests are processed at once and answered when it is cleared, or never if the other
    side is gone by then. ``hold_description`` does that with the metadata, so that an attempt gets no further.
    """

    mode: str = "strict"
    lifetime: int = 600
    requests: list[dict[str, str]] = field(default_factory=list)
    heard_at: list[float] = field(default_factory=list)
    answered: int = 0
    access_tokens: list[str] = field(default_factory=list)
    families: list[Family] = field(default_factory=list)
    processed: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    described: threading.Event = field(default_factory=threading.Event)
    _gate: threading.Event = field(default_factory=threading.Event)
    _description: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._gate.set()
        self._description.set()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Answer nothing from now on; what comes is processed all the same."""
        self.processed.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()
        self._description.set()

    def hold_description(self) -> None:
        """Keep the metadata back until ``release``, or ``release_description``."""
        self.described.clear()
        self._description.clear()

    def release_description(self) -> None:
        self._description.set()

    def grant(self) -> str:
        """Begin a family, and give its refresh token."""
        token = f"refresh-{secrets.token_urlsafe(24)}"
        self.families.append(Family([token]))
        return token

    def secrets(self) -> set[str]:
        """Give everything that nobody but the broker and its workloads may see."""
        return {token for family in self.families for token in family.tokens} | {*self.access_tokens}

    def refresh(self, token: str) -> tuple[int, dict[str, Any]]:
        with self._lock:
            family = next((one for one in self.families if token in one.tokens), None)
            if family is None or family.dead:
                return 400, {"error": "invalid_grant"}
            newest = family.tokens[-1]
            if token != newest and not (self.mode == "grace" and token == family.tokens[-2]):
                family.dead = True
                return 400, {"error": "invalid_grant"}
            access_token = f"access-{secrets.token_urlsafe(24)}"
            self.access_tokens.append(access_token)
            members: dict[str, Any] = {
                "access_token": access_token,
                "token_type": "Bearer",
                "expires_in": self.lifetime,
            }
            if self.mode != "never":
                family.tokens.append(f"refresh-{secrets.token_urlsafe(24)}")
                members["refresh_token"] = family.tokens[-1]
            return 200, members

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    def wait_until_answerable(self) -> bool:
        return self._gate.wait(PATIENCE)

    def wait_until_describable(self) -> bool:
        self.described.set()
        return self._description.wait(PATIENCE)


@contextmanager
def rotating_server(mode: str, *, lifetime: int = 600) -> Iterator[RotatingServer]:
    """Run one for the length of a test."""
    state = RotatingServer(mode=mode, lifetime=lifetime)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.wait_until_describable()
            try:
                self._answer(200, state.metadata()) if "/.well-known/" in self.path else self._answer(404, {})
            except OSError:
                return

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            state.heard_at.append(time.monotonic())
            state.requests.append({name: values[0] for name, values in form.items()})
            status, members = state.refresh(form["refresh_token"][0])
            state.processed.set()
            state.wait_until_answerable()
            try:
                self._answer(status, members)
            except OSError:
                return
            state.answered += 1

        def _answer(self, status: int, members: dict[str, Any]) -> None:
            body = json.dumps(members).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the library
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of clients that are gone."""

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.release()
        server.shutdown()
        thread.join()
        server.server_close()
