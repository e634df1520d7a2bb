"""
A broker's socket that does what the real one never does on demand: breaks, stalls, asks to come back, never stops.

It answers each connection with the next step of a script, the last one again and again, and remembers the requests.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon.harness import PATIENCE

Step = Callable[[socket.socket, bytes], None]
"""What becomes of a connection, with the request that was read from it."""

ETAG = 'W/"mN3v5k0TqZr8xJ2c"'

TOKEN = {"access_token": "token-1/2+3~", "token_type": "Bearer", "expires_in": 287, "later": {"expires_in": [1, None]}}
"""As the broker serves it, in part, with a member of a later version."""

ENOUGH = 64 * 1024 * 1024
"""Bytes after which a client that reads on is taken to read for ever."""


def answer(status: int, body: Mapping[str, Any], *fields: str, cut: int = 0) -> Step:
    """Answer in full, or without the last *cut* bytes."""
    text = json.dumps(body, separators=(",", ":")).encode()
    plain = status == 200
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", *fields, "Connection: close"]
    lines += [f"ETag: {ETAG}"] if plain else []

    def step(connection: socket.socket, request: bytes) -> None:
        bare = plain and b"accept: text/plain" in request.lower()
        sent = body["access_token"].encode() if bare else text
        head = "\r\n".join([*lines, f"Content-Length: {len(sent)}"]) + "\r\n\r\n"
        whole = head.encode() + sent
        connection.sendall(whole[: len(whole) - cut])

    return step


def refusal(status: int, error: str, *fields: str, hint: str | None = "see to it") -> Step:
    """Answer with an error; without a *hint* the description is all there is."""
    body = {"error": error, "error_description": "so it is", **({} if hint is None else {"hint": hint})}
    return answer(status, body, *fields)


def gone(_: socket.socket, __: bytes) -> None:
    """Go away without a byte."""


def endless(head: str) -> Step:
    """Answer for ever."""

    def step(connection: socket.socket, _: bytes) -> None:
        with suppress(OSError):
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n".encode())
            for _piece in range(ENOUGH // 65_536):
                connection.sendall(b'"' + b"x" * 65_535)

    return step


def late(seconds: float, step: Step) -> Step:
    """Do *step* after a while."""

    def waiting(connection: socket.socket, request: bytes) -> None:
        threading.Event().wait(seconds)
        step(connection, request)

    return waiting


@dataclass
class ContraryBroker:
    """The socket at *path*."""

    path: Path
    script: list[Step]
    requests: list[bytes] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        request = b""
        while b"\r\n\r\n" not in request or not request.endswith(body_of(request)):
            piece = connection.recv(65_536)
            if not piece:
                return
            request += piece
        self.requests.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        step(connection, request)

    @contextmanager
    def listening(self) -> Iterator[None]:
        serve = self.serve

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):
                    serve(self.request)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        with Server(str(self.path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
                self.path.unlink()


def body_of(request: bytes) -> bytes:
    """Give the end that a request with a body must have: the bodies here are one JSON object."""
    return b"}" if b"content-length:" in request.lower() else b"\r\n\r\n"
