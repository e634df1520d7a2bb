"""
A real broker with many tokens and a token server beside it, each a process on a core of its own, if there are two.

Everything of a run is in one directory; processes are ended by whoever started them, also when something fails.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from broker.sandbox.authority import issue_client, issue_server, make_authority, moment
from broker.sandbox.jose import SigningAlg, generate_private_key_pem
from broker.sandbox.layout import write_credential, write_private, write_public
from broker.tokens.limiter import MADE_UP, SLACK

PATIENCE = 60.0
"""Seconds that something may take on a busy machine beyond what the rate makes it take."""

POLL = 0.01

PRIORITY = -15
"""Of what is measured and of what measures it."""

TICKS = os.sysconf("SC_CLK_TCK")

ROOT = Path(__file__).parents[1]


class GaveUpError(RuntimeError):
    """Something did not happen in time, or a process ended that should run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    What the broker has to keep.

    *tokens* are spread evenly over *clients*, and these over *issuers*; each issuer may be asked at *rate* a second.
    Tokens live *lifetime* seconds, and a request takes the server *delay* seconds. With *secrets* clients send a
    client secret; otherwise they sign an assertion and their tokens are bound to a certificate.
    """

    tokens: int
    issuers: int = 2
    clients: int = 4
    rate: int = 200
    concurrent: int = 8
    lifetime: int = 60
    delay: float = 0.01
    secrets: bool = False

    @property
    def allowed(self) -> int:
        """
        How many requests may reach an issuer in any second: no more than *rate* unless it is small.

        As many may start as the broker's limiter lets start, and those that were under way before may arrive
        together with them, where the network or the server stalled.
        """
        starts = math.floor(self.rate * (1 + MADE_UP) / (1 + SLACK)) + 1
        return max(self.rate, starts + self.concurrent)

    def names(self) -> tuple[str, ...]:
        """Name the tokens."""
        return tuple(f"t{number:05}" for number in range(self.tokens))


@dataclass(kw_only=True)
class TokenServer:
    """The token server; it can be stopped and started again on the same ports."""

    directory: Path
    load: Load
    core: int | None = None
    ports: tuple[int, ...] = ()
    starts: int = 0
    process: subprocess.Popen[str] | None = None
    asked: dict[int, list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.starts += 1
        self.ports = self.ports or free_ports(self.load.issuers)
        arguments = ["--directory", str(self.directory), "--record", str(self._record)]
        arguments += ["--lifetime", str(self.load.lifetime), "--delay", str(self.load.delay)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.server", *arguments, *map(str, self.ports)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        pin(self.process.pid, self.core)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "serving\n":
            raise GaveUpError("the token server does not start")

    def stop(self) -> None:
        """Stop it, and take over when it was asked for tokens."""
        if self.process is None:
            return
        self.process.terminate()
        with self.process:
            self.process.wait(PATIENCE)
        self.process = None
        for port, times in json.loads(self._record.read_text()).items():
            self.asked.setdefault(int(port), []).extend(times)

    @property
    def _record(self) -> Path:
        return self.directory / f"asked-{self.starts}.json"


@dataclass(kw_only=True)
class Broker:
    """The broker, on the interpreter *python*; its log is read while it is written."""

    config: Path
    core: int | None = None
    python: Path = Path(sys.executable)
    process: subprocess.Popen[bytes] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    refreshed: set[str] = field(default_factory=set)
    ops: str = ""
    _read: int = 0

    @property
    def socket(self) -> Path:
        """Where it serves."""
        return self.config.parent / "api.sock"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.config.parent / "broker.log"

    def start(self) -> None:
        """Start it; it is not waited for."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(self.python), "-m", "broker", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
                env=environment_of(self.python),
            )
        pin(self.process.pid, self.core)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def reload(self) -> None:
        """Let it load its configuration again, and wait until it has."""
        before = self.follow()["configuration_loaded"]
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.wait_until(lambda: self.counts["configuration_loaded"] > before, "the configuration is loaded again")

    def follow(self) -> Counter[str]:
        """Take in what it has said meanwhile; gives how often each event was said so far."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.startswith(b"{"):
                said = json.loads(line)
                self.counts[said["event"]] += 1
                if said["event"] == "token_refreshed":
                    self.refreshed.add(said["token"])
                elif said["event"] == "listener_opened" and said["listener"] == "ops":
                    self.ops = said["address"]
        return self.counts

    def wait_until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait until *condition*, which is asked after each look into the log. Raises GaveUpError."""
        deadline = time.monotonic() + patience
        while self.follow() is not None and not condition():
            if self.process is None or self.process.poll() is not None:
                raise GaveUpError(f"the broker ended before {what}:\n{self.log.read_text()[-2_000:]}")
            if time.monotonic() > deadline:
                raise GaveUpError(f"in vain: {what}; {dict(self.counts)}")
            time.sleep(POLL)

    def processor(self) -> float:
        """Give the seconds of processor time that it has used."""
        assert self.process is not None
        return processor_of(self.process.pid)

    def memory(self) -> float:
        """Give the most memory that was resident since the last call, in MB."""
        assert self.process is not None
        return memory_of(self.process.pid)


def environment_of(python: Path) -> dict[str, str]:
    """Give the environment in which *python* finds what this interpreter has installed."""
    if python == Path(sys.executable):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])}


def first(pid: int) -> None:
    """Let a process go before all others on its core, as far as we may: what else the machine does is not measured."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)


def processor_of(pid: int) -> float:
    """Give the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid: int) -> float:
    """Give the most memory of a process that was resident since the last call, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    most = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    with suppress(PermissionError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return int(most.split()[1]) * 1_024 / 1e6


@contextmanager
def running(directory: Path, load: Load, *, pinned: bool = True) -> Iterator[tuple[TokenServer, Broker]]:
    """Make keys and a configuration in *directory* and start the server; the broker is there and not started."""
    cores: Sequence[int | None] = sorted(os.sched_getaffinity(0)) if pinned else ()
    beside, own = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    make_keys(directory)
    server = TokenServer(directory=directory, load=load, core=beside)
    broker = Broker(config=directory / "config.toml", core=own)
    try:
        pin(0, beside)
        server.start()
        broker.config.write_text(configuration(load, server.ports))
        yield server, broker
    finally:
        try:
            broker.stop()
        finally:
            server.stop()
            os.sched_setaffinity(0, [core for core in cores if core is not None] or os.sched_getaffinity(0))


def make_keys(directory: Path) -> None:
    """Make what the server and the broker need to know each other."""
    today = moment(time.time())
    authority = make_authority(today)
    write_public(directory / "ca.pem", authority.certificate_pem())
    write_credential(directory / "server", issue_server(authority, now=today))
    write_credential(directory / "client", issue_client(authority, now=today, common_name="bench"))
    write_private(directory / "signing.pem", generate_private_key_pem(SigningAlg.ES256))
    write_private(directory / "audit.key", secrets.token_bytes(32))
    write_private(directory / "client.secret", secrets.token_urlsafe(32).encode())


def configuration(load: Load, ports: Sequence[int]) -> str:
    """Write the configuration for the issuers at *ports*."""
    sections = [
        '[certificate.bench]\ncert_file = "client.pem"\nkey_file = "client.key"',
        '[key.bench]\nfile = "signing.pem"\nalg = "ES256"',
        '[listener.bench]\npath = "api.sock"\nmode = "0600"',
        f'[workload.bench]\nlistener = ["bench"]\nuid = [{os.geteuid()}]\ntokens = {json.dumps(load.names())}',
        '[ops]\nlisten = "127.0.0.1:0"',
        '[audit]\nfile = "audit.log"\nkey = { file = "audit.key" }',
    ]
    if load.secrets:
        del sections[:2]
    sections += [_issuer(number, port, load) for number, port in enumerate(ports)]
    sections += [_client(number, load) for number in range(load.clients)]
    sections += [
        f'[token.{name}]\nclient = "c{number % load.clients}"\nscope = ["s{number}"]'
        for number, name in enumerate(load.names())
    ]
    return "\n".join(sections) + "\n"


def _issuer(number: int, port: int, load: Load) -> str:
    profile = "oauth2" if load.secrets else "fapi2"
    return (
        f'[issuer.i{number}]\nissuer = "https://localhost:{port}"\nprofile = "{profile}"\n'
        f'ca_file = "ca.pem"\nmax_requests_per_second = {load.rate}\nmax_concurrent_requests = {load.concurrent}'
    )


def _client(number: int, load: Load) -> str:
    lines = [f"[client.c{number}]", f'issuer = "i{number % load.issuers}"', f'client_id = "bench-{number}"']
    if load.secrets:
        lines += ['client_auth_method = "client_secret_post"', 'client_secret = { file = "client.secret" }']
        lines += ['sender_constraint = "none"']
    else:
        lines += ['signing_keys = ["bench"]', 'certificate = "bench"']
    return "\n".join(lines)


def pin(pid: int, core: int | None) -> None:
    """Keep a process (0: this one) on one core, as far as there is one for it."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def machine() -> Mapping[str, str | int | float]:
    """Say what the figures were taken on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    release = os.uname()
    return {
        "processor": model[0].partition(":")[2].strip() if model else release.machine,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{release.sysname} {release.release}",
        "python": sys.version.split()[0],
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def free_ports(number: int) -> tuple[int, ...]:
    """Give so many ports of 127.0.0.1 at which nobody listened a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = tuple(one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    return ports
