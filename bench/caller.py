"""A caller that gets one token after the other over one connection, and how long it waited for each."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.rig import PATIENCE

PAUSE = 0.02
"""Seconds between two calls: often enough to meet what stops the broker, seldom enough to be no load."""


@dataclass
class Waits:
    """What calls came to: seconds that each took, how many of them got no token, and what those got instead."""

    seconds: list[float] = field(default_factory=list)
    unserved: int = 0
    answers: Counter[str] = field(default_factory=Counter)


class Caller:
    """Calls in a thread of its own, from ``start`` to ``stop``."""

    def __init__(self, path: Path, names: Callable[[], Sequence[str]]) -> None:
        """Call at the socket *path* for *names* in turn; none while there are none."""
        self._path = path
        self._names = names
        self._waits = Waits()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caller", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join(PATIENCE)

    def taken(self) -> Waits:
        """Give what calls came to since the last time."""
        waits, self._waits = self._waits, Waits()
        return waits

    def _run(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self._path))
            for number in itertools.count():
                if self._ended.wait(PAUSE):
                    return
                names = self._names()
                if names:
                    self._call(connection, names[number * 7 % len(names)])

    def _call(self, connection: socket.socket, name: str) -> None:
        begun = time.monotonic()
        connection.sendall(f"GET /v1/tokens/{name}?wait=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = receive(connection)
        waits = self._waits
        waits.seconds.append(time.monotonic() - begun)
        if not answer.startswith(b"HTTP/1.1 200 "):
            waits.unserved += 1
            waits.answers[answer.partition(b"\r\n\r\n")[2].decode()] += 1


def receive(connection: socket.socket) -> bytes:
    """Receive one answer that says how long it is."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 16)
    if not piece:
        raise ConnectionError("the broker closed the connection")
    return piece
