"""
Asks for a token again and again, in several processes, until it is told to stop; run inside a machine.

    load_clients.py SOCKET TARGET FILE STOP: counts go to FILE as JSON, it ends when STOP is there

Some clients connect anew for each request. Some keep their connection, as pools do: they look before each request
whether it was closed. Some wait for the next token, so that there is always a request under way. A request is retried
once, and only where the connection broke: that is what the guide tells clients to do.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

KINDS = ("anew", "anew", "keeps", "keeps", "waits", "waits")
"""What each client is like."""

PAUSE = 0.005
"""Seconds between two requests of a client: all of them together stay below the rate that a user is allowed."""

WAIT = 5
"""Seconds that a client waits for the next token."""

PATIENCE = 30.0
GOOD = (200, 304)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)

    def was_closed(self) -> bool:
        """Say whether the other side has ended a connection on which nothing is asked."""
        return self.sock is not None and bool(select.select([self.sock], [], [], 0)[0])


class Client:
    """One that asks."""

    def __init__(self, path: str, target: str, kind: str) -> None:
        self.connection = UnixConnection(path)
        self.target = target if kind != "waits" else f"{target}?wait={WAIT}"
        self.kind = kind
        self.etag = ""

    def ask(self) -> int:
        """Ask once, on a connection that is good as far as can be seen. Raises what http.client does."""
        if self.kind == "anew" or self.connection.was_closed():
            self.connection.close()
        try:
            return self._ask()
        except BrokenPipeError:  # no byte was taken: as if it had been closed before
            self.connection.close()
            return self._ask()

    def _ask(self) -> int:
        headers = {"If-None-Match": self.etag} if self.kind == "waits" and self.etag else {}
        self.connection.request("GET", self.target, headers=headers)
        answer = self.connection.getresponse()
        answer.read()
        self.etag = answer.getheader("ETag") or ""
        return answer.status


def run(client: Client, counts: Any, samples: Any, stop: Path) -> None:
    """Ask until *stop* is there; a broken connection is one more try, and then a failure."""
    while not stop.exists():
        status, retried = 0, False
        try:
            status = client.ask()
        except (OSError, http.client.HTTPException) as error:
            client.connection.close()
            retried = isinstance(error, ConnectionError | http.client.HTTPException)
            samples.append(f"{client.kind}: {error!r}")
        if retried:
            try:
                status = client.ask()
            except (OSError, http.client.HTTPException) as error:
                client.connection.close()
                samples.append(f"{client.kind}, again: {error!r}")
        if status not in (0, *GOOD):
            samples.append(f"{client.kind}: status {status}")
        with counts.get_lock():
            counts[0] += 1
            counts[1] += retried
            counts[2] += status not in GOOD
        time.sleep(PAUSE)


def main() -> None:
    path, target, file, stop = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    counts = multiprocessing.Array("l", [0, 0, 0])
    samples = multiprocessing.Manager().list()
    clients = [
        multiprocessing.Process(target=run, args=(Client(path, target, kind), counts, samples, stop)) for kind in KINDS
    ]
    for one in clients:
        one.start()
    while any(one.is_alive() for one in clients):
        time.sleep(0.1)
        requests, retries, failed = counts[:]
        ended = sum(one.exitcode not in (None, 0) for one in clients)
        said = {"requests": requests, "retries": retries, "failed": failed + ended, "samples": list(samples)[:5]}
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(said))
        fresh.rename(file)
    for one in clients:
        one.join()


if __name__ == "__main__":
    main()
