"""A daemon that begins, finishes and forgets authorizations as it is told, on a real Unix socket, in threads."""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Reply = tuple[int, dict[str, Any]]

BEGUN = {
    "id": "authorization-1",
    "binding": "binding-1",
    "authorization_url": "https://as.example/authorize?client_id=app-1&request_uri=urn:1",
    "expires_in": 60,
    "state_sha256": hashlib.sha256(b"s").hexdigest(),
}
GRANTED = {"grant": "grant-1", "subject": "alice", "subject_verified": True, "scope": "openid accounts"}
OPEN = {"id": "authorization-1", "token": "ledger", "state": "waiting", "expires_in": 600}


@dataclass(slots=True)
class FakeDaemon:
    """What it answers, by method and the last part of a path, and what it was asked."""

    path: Path
    replies: dict[str, Reply] = field(
        default_factory=lambda: {
            "POST authorizations": (201, dict(BEGUN)),
            "POST callback": (200, dict(GRANTED)),
            "GET authorizations": (200, dict(OPEN)),
            "DELETE authorizations": (204, {}),
        }
    )
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    resume: threading.Event = field(default_factory=threading.Event)
    """Awaited before a callback is answered."""

    def bodies(self, method: str, ending: str) -> list[Any]:
        """Give the bodies of the requests of a kind."""
        return [body for how, target, body in self.asked if how == method and target.endswith(ending)]

    def count(self, method: str, part: str) -> int:
        """Count the requests of a kind."""
        return sum(1 for how, target, _ in self.asked if how == method and part in target)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def fake_daemon(path: Path) -> Iterator[FakeDaemon]:
    """Serve at *path*."""
    fake = FakeDaemon(path)
    fake.resume.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            raw = self.rfile.read(length)
            fake.asked.append((self.command, self.path, json.loads(raw) if raw else None))
            parts = self.path.partition("?")[0].split("/")
            kind = parts[-1] if parts[-1] in {"callback", "retry", "reassign", "rotate"} else parts[2]
            if kind == "callback":
                fake.resume.wait(10)
            status, body = fake.replies[f"{self.command} {kind}"]
            content = b"" if status == 204 else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_arguments: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join(5)
