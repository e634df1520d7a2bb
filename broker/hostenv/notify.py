"""
Telling the service manager how we are: sd_notify(3), without its library.

One datagram for each message, sent without waiting. What cannot be sent is reported: without an answer to ``READY=1``
we are killed, and the log should say why.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from broker.events import Emit, NotificationFailed
from broker.hostenv.supervision import MICROSECONDS

Send = Callable[[str, bytes], None]
"""Sends a datagram to a notify socket. Raises OSError."""


class Notifier:
    """Speaks to the notify socket *address*; for None it says nothing."""

    def __init__(self, address: str | None, emit: Emit, *, send: Send | None = None) -> None:
        self._address = address
        self._emit = emit
        self._send = send or send_datagram
        self._failing = False

    def ready(self, status: str) -> None:
        """Say that we serve, after a start or a reload; *status* is for people."""
        self._tell("READY=1", _status(status))

    def reloading(self, awake: float) -> None:
        """Say that a reload begins; *awake* is CLOCK_MONOTONIC in seconds, by which it is told from an older one."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(awake * MICROSECONDS)}", _status("Loading the configuration"))

    def stopping(self, seconds: float) -> None:
        """Say that we stop, and ask for so many *seconds*."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * MICROSECONDS)}", _status("Draining"))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            self._send(self._address, "\n".join(lines).encode())
        except OSError as error:
            if not self._failing:
                self._emit(NotificationFailed(reason=errno.errorcode.get(error.errno or 0, "unknown")))
            self._failing = True
        else:
            self._failing = False


def send_datagram(address: str, message: bytes) -> None:
    """Send *message* to *address*, a path or an abstract name. Raises OSError, also where it would have to wait."""
    raw = os.fsencode(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
        line.sendto(message, b"\0" + raw[1:] if raw.startswith(b"@") else raw)


def _status(text: str) -> str:
    """One line: what follows a newline would be another assignment."""
    return f"STATUS={text}".replace("\n", " ")
