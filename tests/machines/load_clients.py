"""
Asks for a token again and again, in several processes, until it is told to stop; run inside a machine.

    load_clients.py SOCKET TARGET FILE STOP: counts go to FILE as JSON, it ends when STOP is there

Half of the clients connect anew for each request, the others keep their connection, as pools do: they look before each
request whether it was closed. A request is retried once, and only where the connection broke: that is what the guide
tells clients to do.
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

CLIENTS = 6
PAUSE = 0.005
"""Seconds between two requests of a client: all of them together stay below the rate that a user is allowed."""

PATIENCE = 30.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def was_closed(connection: UnixConnection) -> bool:
    """Say whether the other side has ended a connection on which nothing is asked."""
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])


def ask(connection: UnixConnection, target: str) -> int:
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def client(path: str, target: str, keeps: bool, counts: Any, samples: Any, stop: Path) -> None:
    connection = UnixConnection(path)
    while not stop.exists():
        for attempt in ("first", "again"):
            try:
                if not keeps or was_closed(connection):
                    connection.close()
                status = ask(connection, target)
            except BrokenPipeError:  # no byte was taken: as if it had been closed before
                connection.close()
                status = ask(connection, target)
            except (ConnectionError, http.client.HTTPException) as error:
                connection.close()
                if attempt == "again":
                    samples.append(f"failed: {error!r}")
                    status = 0
                else:
                    with counts.get_lock():
                        counts[1] += 1
                    continue
            except OSError as error:
                samples.append(f"failed: {error!r}")
                connection.close()
                status = 0
            break
        with counts.get_lock():
            counts[0] += 1
            counts[2] += status != 200
        if status not in (0, 200):
            samples.append(f"status {status}")
        time.sleep(PAUSE)


def main() -> None:
    path, target, file, stop = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    counts = multiprocessing.Array("l", [0, 0, 0])
    samples = multiprocessing.Manager().list()
    clients = [
        multiprocessing.Process(target=client, args=(path, target, number % 2 == 0, counts, samples, stop))
        for number in range(CLIENTS)
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
