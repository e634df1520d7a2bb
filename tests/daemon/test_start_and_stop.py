"""The daemon's start, its refusals to start, its stop, and what it leaves behind: nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.hostenv.state_dir import held, quiet
from tests.daemon.harness import (
    CANARY,
    PATIENCE,
    SandboxProcess,
    broker_process,
    get,
    sandbox_process,
    wait_until,
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("start"), lifetime=60) as process:
        yield process


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def config_of(sandbox: SandboxProcess, *changes: tuple[str, str]) -> Path:
    """Write a changed copy of the sandbox's configuration beside it."""
    text = (sandbox.home / "config.toml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = sandbox.home / "changed.toml"
    path.write_text(text)
    return path


def test_a_sound_configuration_checks(sandbox: SandboxProcess):
    """Exit 0, and one line that says what it is for."""
    whole = command("check", "--config", str(sandbox.home / "config.toml"))
    syntax = command("check", "--syntax", "--config", str(sandbox.home / "config.toml"))

    assert (whole.returncode, syntax.returncode) == (0, 0), whole.stderr
    assert "good" in whole.stdout


@pytest.mark.parametrize("how", ["check", "run"])
def test_every_mistake_is_listed_and_nothing_is_started(sandbox: SandboxProcess, how: str):
    """Exit 2, all problems at once with their places, no socket, no audit record."""
    path = config_of(
        sandbox,
        ('client = "demo"', f'client = "demmo"\nnonsense = "{CANARY}"'),
        ('alg = "', 'alg = "HS'),
        ('mode = "0600"', "mode = 600"),
    )

    done = command(how, "--config", str(path))

    assert done.returncode == 2
    assert "token.demo.client" in done.stderr
    assert '"demo"' in done.stderr  # the nearest name
    assert "token.demo.nonsense" in done.stderr
    assert "key.demo.alg" in done.stderr
    assert "listener.demo.mode" in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert not (sandbox.home / "api.sock").exists()


def test_every_unusable_file_is_listed(sandbox: SandboxProcess):
    """A key that others can read and a certificate of another key: both, with path and remedy, exit 2."""
    (name,) = re.findall(r'^file = "(signing-[^"]+)"', (sandbox.home / "config.toml").read_text(), re.MULTILINE)
    signing = sandbox.home / name
    readable = sandbox.home / "readable.pem"
    readable.write_bytes(signing.read_bytes())
    readable.chmod(0o644)
    path = config_of(sandbox, (f'file = "{signing.name}"', 'file = "readable.pem"'), ('"client.key"', '"other.key"'))

    checked = command("check", "--config", str(path))
    ran = command("run", "--config", str(path))

    for done in (checked, ran):
        assert done.returncode == 2
        assert str(readable) in done.stderr
        assert "chmod" in done.stderr
        assert "certificate_mismatch" in done.stderr
    assert command("check", "--syntax", "--config", str(path)).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(sandbox: SandboxProcess, number: signal.Signals):
    """Exit 0, the socket gone, the audit log closed with a checkpoint, no traceback, no warning."""
    with broker_process(sandbox) as broker:
        code = broker.stop(number)

        assert code == 0, broker.said()
        assert not broker.socket.exists()
        assert [record["event"] for record in broker.records()][-2:] == ["daemon_stopped", "checkpoint"]
        assert "Traceback" not in broker.said()
        assert "Warning" not in broker.said()


def test_a_storm_of_signals_stops_it_cleanly(sandbox: SandboxProcess):
    """Whoever sends one more in its very last moment does not change what it ends with."""
    with broker_process(sandbox) as broker:
        process = broker.process
        assert process is not None
        until = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < until:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)

        assert process.poll() == 0, broker.said()


def test_a_waiting_caller_gets_an_answer_when_the_daemon_stops(sandbox: SandboxProcess):
    """Draining: a clear 503 at once, not a cut connection."""
    sandbox.control.fault("token", "delay", delay_seconds=60, times=1)
    with broker_process(sandbox, ready=False) as broker, socket.socket(socket.AF_UNIX) as waiting:
        waiting.settimeout(20)  # less than it asks to wait: draining is what answers it
        waiting.connect(str(broker.socket))
        waiting.sendall(b"GET /v1/tokens/demo?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGTERM)
        answer = waiting.recv(65_536)
        code = broker.stop()
    sandbox.control.clear_faults()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert code == 0


def test_a_socket_that_a_killed_daemon_left_is_taken_over(sandbox: SandboxProcess):
    """SIGKILL leaves the file; the next start removes it, because nobody listens there."""
    with broker_process(sandbox) as broker:
        broker.stop(signal.SIGKILL)
        assert broker.socket.exists()

        broker.up()

        assert broker.token().status == 200


def test_a_socket_in_use_is_not_taken_over(sandbox: SandboxProcess):
    """The second daemon says who is in its way and ends; the first one goes on."""
    with broker_process(sandbox) as broker:
        path = config_of(sandbox, ('"audit.log"', '"other-audit.log"'), ("[ops]", "[ops]\nenabled = false\n#"))
        path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("listen = ")))

        second = command("run", "--config", str(path))

        assert second.returncode == 1
        assert "listener_in_use" in second.stderr
        assert "Traceback" not in second.stderr
        assert broker.token().status == 200


def test_a_second_broker_on_the_same_state_is_refused(sandbox: SandboxProcess):
    """Exit 3, and the process that is in its way is named; the first one goes on, and a killed one leaves no lock."""
    config = (sandbox.home / "config.toml").read_text() + '\n[daemon]\nstate_dir = "state"\n'
    with broker_process(sandbox, config=config, name="first") as broker:
        second = command("run", "--config", str(broker.config))

        assert second.returncode == 3
        assert f"process {broker.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert broker.token().status == 200

        broker.stop(signal.SIGKILL)
        broker.up()
        assert broker.token().status == 200


def test_a_broker_that_starts_waits_for_a_doctor_who_reads(sandbox: SandboxProcess):
    """Exit 3 would be the end of it: a service manager starts it once."""
    config = (sandbox.home / "config.toml").read_text() + '\n[daemon]\nstate_dir = "read"\n'
    with held(sandbox.home / "read"):
        pass
    reading = ExitStack()
    reading.enter_context(quiet(sandbox.home / "read"))
    until = threading.Timer(2.0, reading.close)
    until.start()

    with broker_process(sandbox, config=config, name="waits") as broker:
        status = broker.token().status
    until.join()

    assert status == 200


def test_a_state_directory_that_others_can_read_is_refused(sandbox: SandboxProcess):
    """Exit 1, with the command that mends it; no socket was opened."""
    (sandbox.home / "open").mkdir(mode=0o755)
    path = config_of(sandbox, ("[ops]", '[daemon]\nstate_dir = "open"\n[ops]'))

    done = command("run", "--config", str(path))

    assert done.returncode == 1
    assert "state_dir_unsafe" in done.stderr
    assert "chmod 0700" in done.stderr
    assert not (sandbox.home / "api.sock").exists()


def test_sighup_reopens_the_audit_file(sandbox: SandboxProcess):
    """logrotate moves the file away and sends SIGHUP: the next record is in a new file that continues the old one."""
    with broker_process(sandbox) as broker:
        moved = broker.audit.with_suffix(".1")
        broker.audit.rename(moved)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        wait_until(broker.audit.exists, "a new audit file")
        broker.token()

        assert broker.records("token_served")
        assert broker.records()[0]["event"] == "opened"
        moved.unlink()


def test_the_process_can_be_neither_dumped_nor_read(sandbox: SandboxProcess):
    """No core file, and no other process of the same user reads its memory."""
    with broker_process(sandbox) as broker:
        limits = Path(f"/proc/{broker.pid}/limits").read_text()
        owner = Path(f"/proc/{broker.pid}/mem").stat().st_uid

    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert owner == 0


def test_no_descriptor_and_no_thread_is_left_after_many_requests(sandbox: SandboxProcess):
    """Hundreds of connections later there are as many descriptors as before."""
    with broker_process(sandbox) as broker:
        get(broker.socket, "/livez")
        before = len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))
        for _ in range(300):
            broker.token()
        wait_until(lambda: len(list(Path(f"/proc/{broker.pid}/fd").iterdir())) <= before + 1, "descriptors are closed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, None), (signal.SIGTERM, 0)])
def test_a_signal_while_it_starts_is_put_off(sandbox: SandboxProcess, number: signal.Signals, code: int | None):
    """SIGHUP does not end a process that is loading its keys; SIGTERM ends it cleanly once it can."""
    with broker_process(sandbox, start=False, name=f"held-{number.name}") as broker:
        broker.arguments = ["run", "--config", str(broker.config)]
        broker.start()
        loaded = f"/proc/{broker.pid}/status"

        def holds() -> bool:
            blocked = next(line for line in Path(loaded).read_text().splitlines() if line.startswith("SigBlk"))
            return bool(int(blocked.split()[1], 16) & 1 << (signal.SIGHUP - 1))

        wait_until(holds, "the signals are held")
        assert broker.process is not None
        broker.process.send_signal(number)
        if code is None:
            wait_until(lambda: bool(broker.log("daemon_started")), "it starts all the same")
        else:
            assert broker.process.wait(PATIENCE) == code
            assert broker.records("daemon_stopped")


def test_without_a_store_there_is_no_sqlite_in_the_process(sandbox: SandboxProcess):
    """What a configuration has no use for is not imported: that is a start of 12 ms and 1.5 MB less."""
    with broker_process(sandbox) as broker:
        assert broker.process is not None
        libraries = Path(f"/proc/{broker.process.pid}/maps").read_text()

    assert "_ssl" in libraries
    assert "sqlite" not in libraries
