"""
The loopback listener of ``token-broker login``: 127.0.0.1 and nothing else, a thread for each connection.

Browsers open connections ahead and leave them idle, so one at a time is not enough; each has little room and
little time, and when there are too many, the oldest one that has not asked for anything makes room. A
connection carries one request.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from broker.cli.login_http import MAX_HEAD, Answer, Request, read_form, read_head
from broker.cli.login_visit import junk
from broker.errors import LocalError

LOOPBACK = "127.0.0.1"

REQUEST_DEADLINE = 10.0
"""Seconds for a whole request to arrive, and again for its answer to leave."""

LAST_WORDS = 1.0
"""Seconds in which the other end may close first, so that it reads the answer before the connection is gone."""

MAX_CONNECTIONS = 32
"""Connections that have not asked yet; a browser opens about six."""

MAX_THREADS = 2 * MAX_CONNECTIONS
"""Connections in all, those that are being answered among them; who comes then is turned away."""

END_OF_HEAD = b"\r\n\r\n"
CHUNK = 8_192


class LoginListener:
    """Listens on a port of 127.0.0.1; answers nothing before ``serve``."""

    def __init__(self, port: int) -> None:
        """Listen on *port*, or on a free one for 0. Raises LocalError when it is taken."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, port))
            self._socket.listen(MAX_CONNECTIONS)
        except OSError as error:
            self._socket.close()
            hint = "name another one with --port, or leave it out for a free one"
            raise LocalError("port_in_use", f"port {port} of {LOOPBACK} cannot be used", hint=hint) from error
        self.port: int = self._socket.getsockname()[1]
        self._silent: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._threads: list[threading.Thread] = []

    @property
    def host(self) -> str:
        """What a browser that comes here says where it goes."""
        return f"{LOOPBACK}:{self.port}"

    def serve(self, answer: Callable[[Request], Answer]) -> None:
        """Answer requests, in threads, until closed."""
        self._thread = threading.Thread(target=self._accept, args=(answer,), name="login listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close everything; answers that are on their way get a moment to arrive."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the accept that waits
        if self._thread is not None:
            self._thread.join(LAST_WORDS)
        self._socket.close()
        with self._lock:
            for connection in self._silent:
                _hang_up(connection)
        deadline = time.monotonic() + LAST_WORDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self, answer: Callable[[Request], Answer]) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._threads = [one for one in self._threads if one.is_alive()]
            if len(self._threads) >= MAX_THREADS:
                connection.close()
                continue
            with self._lock:
                if len(self._silent) >= MAX_CONNECTIONS:
                    oldest = next(iter(self._silent))
                    del self._silent[oldest]
                    _hang_up(oldest)
                self._silent[connection] = None
            thread = threading.Thread(target=self._converse, args=(connection, answer), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, connection: socket.socket, answer: Callable[[Request], Answer]) -> None:
        with connection, suppress(OSError):  # whoever goes away misses the answer
            request = self._receive(connection)
            reply = junk() if request is None else answer(request)
            connection.settimeout(REQUEST_DEADLINE)
            connection.sendall(reply.to_bytes())
            connection.shutdown(socket.SHUT_WR)
            _read_to_the_end(connection)

    def _receive(self, connection: socket.socket) -> Request | None:
        try:
            return _request(connection, self.host)
        finally:
            with self._lock:
                self._silent.pop(connection, None)


def _request(connection: socket.socket, host: str) -> Request | None:
    """Receive a request, None for junk. Raises OSError when nothing comes: then there is nothing to be answered."""
    deadline = time.monotonic() + REQUEST_DEADLINE
    received = b""
    while END_OF_HEAD not in received:
        if len(received) > MAX_HEAD:
            return None
        chunk = _chunk(connection, deadline)
        if not chunk and not received:
            raise ConnectionAbortedError
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(END_OF_HEAD)
    read = read_head(head, host=host) if len(head) <= MAX_HEAD else None
    if read is None:
        return None
    request, length = read
    while len(body) < length:
        chunk = _chunk(connection, deadline)
        if not chunk:
            return None
        body += chunk
    if len(body) > length:
        return None
    return request if request.method == "GET" else replace(request, form=read_form(body))


def _chunk(connection: socket.socket, deadline: float) -> bytes:
    """Receive some bytes, none at the end. Raises TimeoutError."""
    connection.settimeout(max(0.001, deadline - time.monotonic()))
    return connection.recv(CHUNK)


def _read_to_the_end(connection: socket.socket) -> None:
    """Wait until the other end closes: closing with bytes unread would make it lose the answer."""
    deadline = time.monotonic() + LAST_WORDS
    while time.monotonic() < deadline and _chunk(connection, deadline):
        pass


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
