from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.daemon.process import DONE, FAILED, HANDLED, run, run_daemon
from broker.errors import LocalError
from broker.hostenv.supervision import Supervision
from broker.wiring import Identities, Parts, build

pytestmark = pytest.mark.real_time

CONFIG = """
[audit]
file = "audit.log"
[ops]
enabled = false
[daemon]
drain_seconds = 60
[issuer.nobody]
issuer = "https://localhost:1"
profile = "oauth2"
[key.k]
file = "k.pem"
alg = "ES256"
[client.c]
issuer = "nobody"
client_id = "c"
client_auth_method = "private_key_jwt"
signing_keys = ["k"]
sender_constraint = "none"
[token.t]
client = "c"
[listener.l]
path = "api.sock"
mode = "0600"
[workload.w]
listener = ["l"]
tokens = ["t"]
"""


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Take back what a daemon that ends holds for good: this process lives on, and its children inherit the mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "config.toml").write_text(CONFIG)
    return load_settings(tmp_path / "config.toml", credentials_directory=None)


def identities(tmp_path: Path) -> Identities:
    """A signing key; it never gets to sign, because nobody is at the issuer's port."""
    from broker.keys.signer import load_signing_key
    from tests.unit.keys.certificates import key_pem, p256, written

    return Identities(
        certificates={},
        keys={"k": load_signing_key(name="k", file=written(tmp_path / "k.pem", key_pem(p256())), alg="ES256")},
    )


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    """Do *act* in a thread while the daemon has the main one, as signals want it."""
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def connect(path: Path) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            connection.settimeout(20)
            return connection


def kill(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def events(log: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, settings: Settings, number: signal.Signals):
    """It starts without its server, answers, stops with 0, and tells all of it."""
    log, answers = io.StringIO(), []

    def ask_and_stop() -> None:
        with connect(tmp_path / "api.sock") as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(connection.recv(65_536))
        kill(number)

    thread = meanwhile(ask_and_stop)
    code = run_daemon(settings, identities(tmp_path), log_stream=log)
    thread.join()

    assert code == DONE
    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert [name for name in events(log) if name.startswith("daemon_")] == [
        "daemon_started",
        "daemon_stopping",
        "daemon_stopped",
    ]
    assert not (tmp_path / "api.sock").exists()
    records = [json.loads(line)["event"] for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert {"configuration_loaded", "signing_key_loaded", "daemon_started", "daemon_stopped"} <= set(records)
    assert records[-1] == "checkpoint"


def test_signals_are_ignored_once_it_has_ended(tmp_path: Path, settings: Settings):
    """Also by a thread that is still on its way out: given back to the system, one would end the process."""

    def stop() -> None:
        connect(tmp_path / "api.sock").close()
        kill(signal.SIGTERM)

    thread = meanwhile(stop)
    assert run_daemon(settings, identities(tmp_path), log_stream=io.StringIO()) == DONE
    thread.join()

    assert {signal.getsignal(number) for number in HANDLED} == {signal.SIG_IGN}


def test_a_second_signal_ends_the_draining(tmp_path: Path, settings: Settings):
    """Who sends Ctrl-C twice does not want to wait for a caller that does not read."""
    log, took = io.StringIO(), []

    def never_finish_and_stop() -> None:
        with connect(tmp_path / "api.sock") as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localh")  # half a request: draining waits for the rest
            time.sleep(0.2)
            kill(signal.SIGINT)
            time.sleep(0.5)
            took.append(time.monotonic())
            kill(signal.SIGINT)
            while connection.recv(65_536):
                pass

    thread = meanwhile(never_finish_and_stop)
    code = run_daemon(settings, identities(tmp_path), log_stream=log)
    ended = time.monotonic()
    thread.join()

    assert code == DONE
    assert ended - took[0] < 60  # the draining alone would have taken so long


def test_a_socket_that_cannot_be_opened_keeps_it_from_starting(tmp_path: Path, settings: Settings):
    """The error comes out; nothing is left behind."""
    (tmp_path / "api.sock").write_text("not a socket")

    with pytest.raises(LocalError) as caught:
        run_daemon(settings, identities(tmp_path), log_stream=io.StringIO())

    assert caught.value.code == "listener_occupied"
    assert (tmp_path / "api.sock").read_text() == "not a socket"


class BrokenRegistry:
    """A root task with a bug."""

    async def run(self) -> NoReturn:
        raise ZeroDivisionError("canary-secret")


async def test_a_root_task_that_fails_ends_the_process_with_a_failure(tmp_path: Path, settings: Settings):
    """The supervisor sees it, and the log tells where, without the message."""
    log = io.StringIO()
    parts: Parts = build(settings, identities(tmp_path), log_stream=log)
    broken: Any = BrokenRegistry()

    code = await run(
        dataclasses.replace(parts, life=dataclasses.replace(parts.life, registry=broken)), lambda _: settings
    )

    assert code == FAILED
    assert "unexpected_failure" in events(log)
    assert "ZeroDivisionError" in log.getvalue()
    assert "canary-secret" not in log.getvalue()
    assert not (tmp_path / "api.sock").exists()


def test_sighup_reopens_the_audit_file(tmp_path: Path, settings: Settings):
    """A file that was moved away is followed by a new one at its place."""

    def rotate_and_stop() -> None:
        connect(tmp_path / "api.sock").close()
        (tmp_path / "audit.log").rename(tmp_path / "audit.1")
        kill(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while not (tmp_path / "audit.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kill(signal.SIGTERM)

    thread = meanwhile(rotate_and_stop)
    code = run_daemon(settings, identities(tmp_path), log_stream=io.StringIO())
    thread.join()

    assert code == DONE
    assert "daemon_stopped" in (tmp_path / "audit.log").read_text()


def test_the_service_manager_is_told_and_the_watchdog_fed(tmp_path: Path, settings: Settings):
    """Ready when it serves, reloading and ready again, stopping with the time that it takes; on the socket it got."""
    told: list[str] = []
    supervision = Supervision(notify_socket=str(tmp_path / "notify"), watchdog_seconds=0.3)
    given = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    given.bind(str(tmp_path / "api.sock"))
    given.listen()

    def listen_and_stop(manager: socket.socket) -> None:
        def hear(wanted: str) -> None:
            while not any(wanted in one for one in told[-1:]):
                told.append(manager.recv(4_096).decode())

        hear("READY=1")
        hear("WATCHDOG=1")
        with connect(tmp_path / "api.sock") as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            told.append(connection.recv(12).decode())
        kill(signal.SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")
        kill(signal.SIGTERM)
        hear("STOPPING=1")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        thread = meanwhile(lambda: listen_and_stop(manager))
        code = run_daemon(
            settings,
            identities(tmp_path),
            log_stream=io.StringIO(),
            supervision=supervision,
            inherited={"l": given},
        )
        thread.join()

    seldom = [one for one in told if one != "WATCHDOG=1"]
    assert code == DONE
    assert seldom[:2] == ["READY=1\nSTATUS=Serving with configuration 1", "HTTP/1.1 200"]
    assert seldom[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert seldom[3] == "READY=1\nSTATUS=Serving with configuration 2"
    assert seldom[4].startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC=80000000\n")
    assert (tmp_path / "api.sock").exists()  # it was not ours to remove
