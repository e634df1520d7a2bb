#!/usr/bin/env python3
"""
An application beside the broker: it asks for a token each minute, and says how long that lasts. ``--once``: one time.

The broker has the tokens and refreshes them; a program asks each time that it needs one, and keeps none.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from typing import Any

SOCKET = os.environ["TOKEN_BROKER_SOCKET"].removeprefix("unix://")

TOKEN = "directory"  # noqa: S105 (the name of a token, not a token)

EVERY = 60
"""Seconds."""


class Broker(http.client.HTTPConnection):
    """HTTP over the Unix socket."""

    def connect(self) -> None:
        """Connect; the broker may take a while where it has to fetch the token first."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(SOCKET)


def ask() -> bool:
    """Ask for the token, and print what came of it, never the token itself."""
    broker = Broker("localhost")
    try:
        broker.request("GET", f"/v1/tokens/{TOKEN}")
        answer = broker.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
    except OSError as error:
        print(f"no broker: {error}", flush=True)
        return False
    finally:
        broker.close()
    if answer.status == 200:
        print(f"a token of {found['issuer']} for {found['expires_in']} s", flush=True)
        return True
    print(f"no token: {answer.status} {found['error']}: {found['error_description']}", flush=True)
    return False


def main() -> int:
    """Ask until SIGTERM; give the exit status."""
    if "--once" in sys.argv[1:]:
        return 0 if ask() else 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        ask()
        if signal.sigtimedwait({signal.SIGTERM}, EVERY):
            return 0


if __name__ == "__main__":
    raise SystemExit(main())
