"""
The load: ``load.c``, compiled when it is needed, and what one run of it came to.

It is C because it must not be what is measured: one in Python answers for a fraction of what nginx can do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.rig import PATIENCE, GaveUpError

SOURCE = Path(__file__).with_name("load.c")


class Mode(StrEnum):
    """What becomes of a connection behind an answer."""

    KEEP = "keep"
    """It is kept, and asks again."""
    NEW = "new"
    """It is closed, and the next request has one of its own."""
    RAW = "raw"
    """The same without HTTP: what comes until the end of the connection is the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """
    What is asked: *method* and *target*, with a body of so many bytes, on so many *connections* at a time.

    *answer*: bytes of the body that comes back. *rate*: requests that are due in a second, evenly, whether those
    before are answered or not; None: each connection asks as soon as it can. *words* are sent as they are in place of
    a request in HTTP.
    """

    method: str
    target: str
    connections: int
    body: int = 0
    answer: int = 0
    mode: Mode = Mode.KEEP
    rate: int | None = None
    words: bytes = b""

    def head(self) -> bytes:
        """Give the head of the request, as a small HTTP client sends it."""
        if self.words:
            return self.words
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost", "Accept: */*", "User-Agent: load"]
        if self.mode is Mode.NEW:
            lines.append("Connection: close")
        if self.body:
            lines.append(f"Content-Length: {self.body}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """
    What came of it in *seconds*: *answers*, all of them good, and the microseconds that one took (*p50* to *max*).

    *received*: bytes, heads included. *processor*: seconds that the load itself used.
    """

    answers: int
    seconds: float
    received: int
    processor: float
    p50: float
    p99: float
    p999: float
    max: float

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return self.answers / self.seconds


def compiled(directory: Path) -> Path:
    """Compile the program into *directory*. Raises GaveUpError where there is no compiler, or it fails."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise GaveUpError("there is no C compiler: install one (Debian, Ubuntu: apt-get install gcc libc6-dev)")
    program = directory / "load"
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GaveUpError(f"load.c does not compile:\n{done.stderr}")
    return program


def put(program: Path, socket: Path, asking: Asking, *, warm: float, seconds: float) -> Came:
    """Ask at *socket* for so many *seconds*, after *warm* ones that do not count. Raises GaveUpError."""
    numbers = (asking.connections, warm, seconds, asking.body, asking.mode, asking.rate or 0)
    done = subprocess.run(
        [str(program), str(socket), *map(str, numbers)],
        input=asking.head(),
        capture_output=True,
        check=False,
        timeout=warm + seconds + PATIENCE,
    )
    if done.returncode:
        raise GaveUpError(f"{asking.method} {asking.target}: {done.stderr.decode(errors='replace').strip()}")
    return Came(**json.loads(done.stdout))
