"""
Real processes on real sockets: a sandbox server, a broker beside it, callers with uids of their own.

Everything is blocking and bounded. Each test gets a directory of its own; processes are ended by pid.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.sandbox.control_client import CommandFailedError, ControlClient

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine before a test gives up."""

POLL = 0.02

BROKER = (sys.executable, "-m", "tests.daemon.plain" if os.environ.get("FAST_PATH") == "0" else "broker")
"""How brokers are started: with FAST_PATH=0 none of them has a fast path."""

UID_A, UID_B = 40_001, 40_002
"""Two users that need not exist."""

CANARY = "canary-5c1f0a9be7"
"""Goes into everything hostile that a test sends; must not come out anywhere."""

PRIVATE = ("*.key", "signing-*.pem", "control-token", "audit.key", "*.passphrase", "*.secret")
"""Files of a sandbox whose content must not come out anywhere."""


JWT_HEAD = "eyJ"
"""What each JWT begins with: the base64url of ``{"``."""


def canaries(home: Path) -> set[str]:
    """Give what must not be found in any output: every line of every private file, and what stands for tokens."""
    lines = {
        line.strip()
        for pattern in PRIVATE
        for file in home.glob(pattern)
        for line in file.read_bytes().decode("latin-1").splitlines()
        if len(line.strip()) >= 16 and not line.startswith("-----")
    }
    return lines | {CANARY, JWT_HEAD}


_JWT = re.compile(rf"(?<![\w-]){JWT_HEAD}|{JWT_HEAD}[\w-]{{8,}}\.", re.ASCII)


def found(text: str, wanted: set[str]) -> set[str]:
    """
    Give what of *wanted* is in *text*.

    The head of a JWT only where one can begin, or with the dot that ends its header: in the middle of a thumbprint, of
    which a run of all tests prints thousands, these three letters mean nothing, and there they are now and then.
    """
    in_text = {one for one in wanted if one in text}
    return in_text if _JWT.search(text) else in_text - {JWT_HEAD}


def around(text: str, one: str) -> str:
    """Give the place in *text* where *one* is, with what stands before and after it."""
    jwt = _JWT.search(text) if one == JWT_HEAD else None
    at = text.index(one) if jwt is None else jwt.start()
    return text[max(0, at - 200) : at + len(one) + 50]


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Poll *condition*; fail the test with *what* when it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(POLL)


@dataclass(frozen=True)
class Answer:
    """An answer of the local API or the ops listener."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def split(raw: bytes) -> Answer:
    """Take the first HTTP answer in *raw* apart."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("content-length", len(rest)))
    return Answer(status=int(lines[0].split()[1]), headers=headers, body=rest[:length])


def exchange(path: Path, raw: bytes, timeout: float = PATIENCE) -> bytes:
    """Send *raw* to the Unix socket at *path* and read until the other side is done."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(raw)
        pieces = []
        while piece := connection.recv(65_536):
            pieces.append(piece)
        return b"".join(pieces)


def get(path: Path, target: str, headers: Mapping[str, str] | None = None, timeout: float = PATIENCE) -> Answer:
    """GET *target* over the Unix socket at *path*."""
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return split(exchange(path, ("\r\n".join(lines) + "\r\n\r\n").encode(), timeout))


AS_USER = """
import os, socket, sys
uid, gid, groups = int(sys.argv[1]), int(sys.argv[2]), [int(g) for g in sys.argv[3].split(",") if g]
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
s = socket.socket(socket.AF_UNIX); s.settimeout(30)
try:
    s.connect(sys.argv[4])
except PermissionError:
    sys.exit(77)
s.sendall(f"GET {sys.argv[5]} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n".encode())
while piece := s.recv(65536):
    sys.stdout.buffer.write(piece)
"""


def get_as(uid: int, path: Path, target: str, *, gid: int | None = None, groups: tuple[int, ...] = ()) -> Answer | None:
    """GET *target* as another user; None when the kernel did not let it open the socket."""
    arguments = [str(uid), str(uid if gid is None else gid), ",".join(map(str, groups)), str(path), target]
    done = subprocess.run(
        [sys.executable, "-I", "-c", AS_USER, *arguments], capture_output=True, timeout=PATIENCE, check=False
    )
    if done.returncode == 77:
        return None
    assert done.returncode == 0, done.stderr.decode()
    return split(done.stdout)


@dataclass
class Process:
    """A child with its output in files."""

    name: str
    directory: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "broker")

    @property
    def out(self) -> Path:
        return self.directory / f"{self.name}.out"

    @property
    def err(self) -> Path:
        return self.directory / f"{self.name}.err"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [*self.command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONWARNINGS": "default", **self.environment},
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the child and give its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end") from None

    def said(self) -> str:
        """Give all that it wrote to its outputs."""
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")


@dataclass
class SandboxProcess(Process):
    """A sandbox server in a process of its own."""

    lifetime: int = 60
    strict: bool = False

    @property
    def home(self) -> Path:
        return self.directory / "sandbox"

    @property
    def control(self) -> ControlClient:
        return ControlClient.from_directory(self.home)

    def up(self, *, keep: bool = False) -> None:
        """Start it and wait until it answers; *keep* its keys and ports as after a restart."""
        self.arguments = ["sandbox", "--directory", str(self.home), "--lifetime", str(self.lifetime)]
        self.arguments += ["--keep"] if keep else []
        self.arguments += ["--strict"] if self.strict else []
        self.start()

        def answers() -> bool:
            assert self.running(), self.said()
            try:
                return self.control.answers()
            except (OSError, CommandFailedError):
                return False

        wait_until(answers, "the sandbox answers")


@dataclass
class BrokerProcess(Process):
    """A broker in a process of its own, configured for a sandbox."""

    command: tuple[str, ...] = BROKER
    config: Path = Path()
    socket: Path = Path()
    audit: Path = Path()
    secrets: set[str] = field(default_factory=set)

    def up(self, *, ready: bool = True) -> None:
        """Start it and wait until it serves; with *ready* until its required tokens are there, too."""
        self.arguments = ["run", "--config", str(self.config)]
        self.start()

        def answers() -> bool:
            assert self.running(), self.said()
            try:
                return get(self.socket, "/readyz" if ready else "/livez").status == 200
            except (OSError, IndexError, ValueError):
                return False

        wait_until(answers, "the broker serves")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the child; what was secret while it ran, and goes with it, stays so."""
        self.secrets |= canaries(self.config.parent)
        return super().stop(number)

    def sweep(self) -> None:
        """Fail the test if a secret came out: the gate that every broker of this suite passes when it ends."""
        self.secrets |= canaries(self.config.parent)
        wanted = self.secrets
        outputs = {"output": self.said(), "audit": self.audit.read_text() if self.audit.exists() else ""}
        if self.running():
            process = Path(f"/proc/{self.pid}")
            outputs["process table"] = "".join(
                (process / name).read_bytes().decode("latin-1") for name in ("cmdline", "environ", "comm")
            )
            outputs["metrics"] = self.ops("/metrics").body.decode()
        came_out = [(place, around(text, one)) for place, text in outputs.items() for one in found(text, wanted)]
        assert came_out == [], came_out

    def token(self, name: str = "demo", query: str = "") -> Answer:
        return get(self.socket, f"/v1/tokens/{name}{query}")

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Give the log lines, of one event or of all; every line has to be JSON."""
        lines = [line for line in self.err.read_text().splitlines() if not line.startswith("warning: ")]
        records = [json.loads(line) for line in lines]
        return [record for record in records if event in {None, record["event"]}]

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """Give the audit records."""
        records = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [record for record in records if event in {None, record["event"]}]

    def wait_for(self, event: str, **members: Any) -> dict[str, Any]:
        """Wait for a log line of *event* with these members."""
        found: list[dict[str, Any]] = []

        def logged() -> bool:
            assert self.running(), self.said()
            found[:] = [
                record for record in self.log(event) if all(record.get(key) == value for key, value in members.items())
            ]
            return bool(found)

        wait_until(logged, f"{event} {members}")
        return found[-1]

    def ops(self, target: str) -> Answer:
        """GET *target* from the ops listener."""
        address = [line["address"] for line in self.log("listener_opened") if line["listener"] == "ops"][-1]
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def sandbox_process(directory: Path, *, lifetime: int = 60, strict: bool = False) -> Iterator[SandboxProcess]:
    """Run a sandbox for the length of a test."""
    sandbox = SandboxProcess(name="sandbox", directory=directory, arguments=[], lifetime=lifetime, strict=strict)
    try:
        sandbox.up()
        yield sandbox
    finally:
        sandbox.stop()


@contextmanager
def broker_process(
    sandbox: SandboxProcess, *, config: str | None = None, start: bool = True, ready: bool = True, name: str = "broker"
) -> Iterator[BrokerProcess]:
    """Run a broker for the length of a test, with the sandbox's configuration or *config*."""
    path = sandbox.home / "config.toml"
    if config is not None:
        path = sandbox.home / f"{name}.toml"
        path.write_text(config)
    broker = BrokerProcess(
        name=name,
        directory=sandbox.directory,
        arguments=[],
        config=path,
        socket=sandbox.home / "api.sock",
        audit=sandbox.home / "audit.log",
    )
    try:
        if start:
            broker.up(ready=ready)
        yield broker
        broker.sweep()
    finally:
        broker.stop()
    broker.sweep()
