"""A broker under a service manager, played by the test: sockets, notifications, and a replacement without a failure."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, SandboxProcess, get, sandbox_process, split, wait_until

START = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.dup2(int(sys.argv[2]), 3, inheritable=True)
os.execv(sys.executable, [sys.executable, "-m", "broker", "run", "--config", sys.argv[1]])
"""
"""As a service manager does between fork and exec: the process id is known only then."""

ROUNDS = 3


class ServiceManager:
    """Holds the listening socket and a notify socket, and starts brokers."""

    def __init__(self, config: Path, path: Path, name: str = "demo") -> None:
        self.config, self.name = config, name
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(1_024)
        self.notify_path = path.with_name("notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.notify_path))
        self.notify.settimeout(PATIENCE)
        self.log = path.with_name("broker.log")
        self.brokers: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        told = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": self.name, "NOTIFY_SOCKET": str(self.notify_path)}
        with self.log.open("ab") as log:
            broker = subprocess.Popen(
                [sys.executable, "-c", START, self.config, str(self.listening.fileno())],
                env={**os.environ, **told, "WATCHDOG_USEC": "600000"},
                stderr=log,
                pass_fds=(self.listening.fileno(),),
            )
        self.brokers.append(broker)
        return broker

    def hear(self, wanted: str) -> None:
        while wanted not in self.notify.recv(4_096).decode():
            pass

    def close(self) -> None:
        for broker in self.brokers:
            if broker.poll() is None:
                broker.kill()
            broker.wait()
        self.listening.close()
        self.notify.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path, lifetime=60) as process:
        yield process


@contextmanager
def managed(sandbox: SandboxProcess, name: str = "demo") -> Iterator[ServiceManager]:
    manager = ServiceManager(sandbox.home / "config.toml", sandbox.home / "api.sock", name)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture
def manager(sandbox: SandboxProcess) -> Iterator[ServiceManager]:
    with managed(sandbox) as manager:
        yield manager


def test_who_connects_before_it_runs_is_served_and_all_is_told(manager: ServiceManager, sandbox: SandboxProcess):
    """Ready, alive, stopping; the socket stays, and no child would hear of the notify socket."""
    early = socket.socket(socket.AF_UNIX)
    early.settimeout(PATIENCE)
    early.connect(str(sandbox.home / "api.sock"))
    early.sendall(b"GET /v1/tokens/demo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    broker = manager.start()
    manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    with early, early.makefile("rb") as stream:
        answer = split(stream.read())
    broker.send_signal(signal.SIGTERM)
    manager.hear("STOPPING=1")

    assert answer.status == 200
    assert broker.wait(PATIENCE) == 0
    assert (sandbox.home / "api.sock").is_socket()


def test_a_replacement_fails_no_request(manager: ServiceManager, sandbox: SandboxProcess):
    """One after the other, as a restart does it; who asks meanwhile waits, and is answered."""
    path, stop = sandbox.home / "api.sock", threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        while not stop.is_set():
            statuses.append(get(path, "/v1/tokens/demo").status)

    broker = manager.start()
    manager.hear("READY=1")
    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(ROUNDS):
        served = len(statuses)  # a broker that is stopped before it has its first token says so to those who wait
        wait_until(lambda served=served: len(statuses) > served + 40, "requests")  # type: ignore[misc]
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(PATIENCE) == 0
        broker = manager.start()
        manager.hear("READY=1")
    stop.set()
    for caller in callers:
        caller.join()

    assert set(statuses) == {200}


def test_a_socket_of_another_name_keeps_it_from_starting(sandbox: SandboxProcess):
    """Exit 2, with the name to write; it did not say that it was ready."""
    with managed(sandbox, "dema") as manager:
        code = manager.start().wait(PATIENCE)
        told, _, _ = select.select([manager.notify], [], [], 0)
        said = manager.log.read_text()

    assert (code, told) == (2, [])
    assert "[listener_inherited_unknown]" in said
    assert re.search(r"FileDescriptorName=demo\b", said)
