"""A daemon that always gives the same bytes, on a real Unix socket, one thread, one connection at a time."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def answer(body: object, status: str = "200 OK") -> bytes:
    """A whole HTTP answer with a JSON body."""
    raw = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


TOKEN = {
    "access_token": "opaque-token",
    "token_type": "Bearer",
    "expires_in": 120,
    "expires_at": 1_790_000_120,
    "scope": "read",
    "issuer": "https://as.example",
    "stale": False,
    "cnf": {"x5t#S256": "thumb"},
}


@contextmanager
def canned(path: Path, raw: bytes) -> Iterator[list[bytes]]:
    """Serve *raw* at *path*; give the requests that came."""
    seen: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                seen.append(connection.recv(65_536))
                if raw:
                    connection.sendall(raw)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def dripping(path: Path, *, count: int, pause: float) -> Iterator[None]:
    """Serve the beginning of an answer at *path*, and *count* bytes more of it, *pause* seconds apart."""
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(BrokenPipeError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(count):
                    if stop.wait(pause):
                        return
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(5)
