"""Callers of a broker that go on until they are stopped: whoever gets anything but a good answer is remembered."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon.egress_place import Reply, UnixConnection

PAUSE = 0.01
"""Seconds between two calls of a caller, so that the callers leave the machine to those whom they call."""


@dataclass(frozen=True)
class Call:
    """What a caller does again and again; *check* says what is wrong with the reply, or None."""

    kind: str
    method: str
    target: str
    body: bytes | None = None
    check: Callable[[Reply], str | None] = lambda _reply: None


@dataclass
class Load:
    """What came of the calls: how many of each kind, those that failed, and the longest that one took (seconds)."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    def note(self, call: Call, seconds: float, failure: str | None) -> None:
        self.calls[call.kind] += 1
        self.longest[call.kind] = max(seconds, self.longest.get(call.kind, 0.0))
        if failure is not None:
            self.failures.append(f"{call.kind}: {failure}")


@contextmanager
def callers(socket: Path, calls: Sequence[Call]) -> Iterator[Load]:
    """Let one caller for each of *calls* make it until the block ends, on a connection that it keeps."""
    load, done, lock = Load(), threading.Event(), threading.Lock()

    def go_on(call: Call) -> None:
        connection = UnixConnection(socket)
        while not done.is_set():
            began = time.monotonic()
            failure = _made(connection, call)
            with lock:
                load.note(call, time.monotonic() - began, failure)
            time.sleep(PAUSE)
        connection.close()

    threads = [threading.Thread(target=go_on, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _made(connection: UnixConnection, call: Call) -> str | None:
    """Make one call; gives what went wrong, or None."""
    try:
        reply = connection.ask(call.method, call.target, call.body)
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error)
    if reply.status != http.HTTPStatus.OK:
        return f"{reply.status} {reply.body[:300]!r}"
    return call.check(reply)
