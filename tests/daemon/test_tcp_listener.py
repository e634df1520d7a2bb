"""A loopback address in place of a socket: a real broker, its secret file, and who gets what with it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.harness import (
    CANARY,
    PATIENCE,
    UID_A,
    Answer,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    sandbox_process,
    wait_until,
)

GROUP = 40_007 if os.geteuid() == 0 else os.getegid()
"""Of the workload: only root gives files to any group."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("tcp"), lifetime=60) as process:
        yield process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def config_of(sandbox: SandboxProcess, port: int, extra: str = "") -> str:
    """Add a TCP listener, and a workload of its own, to the sandbox's configuration."""
    text = (sandbox.home / "config.toml").read_text()
    return f"""{text}
[listener.tcp]
address = "127.0.0.1:{port}"
secret_file = "tcp.secret"
group = {GROUP}

[workload.tcp]
listener = ["tcp"]
tokens = ["demo"]
{extra}"""


def call(
    port: int, target: str = "/v1/tokens/demo", *, secret: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """GET *target* as a program without Unix sockets does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    shown = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    try:
        connection.request("GET", target, headers={**shown, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def secret_of(broker: BrokerProcess) -> str:
    return (broker.config.parent / "tcp.secret").read_text()


def test_the_secret_is_what_it_takes_to_get_a_token(sandbox: SandboxProcess):
    """With it a token, without it 401 whatever is asked for; both in the audit log, and the secret nowhere."""
    port = free_port()
    with broker_process(sandbox, config=config_of(sandbox, port), name="tcp") as broker:
        secret = secret_of(broker)
        served = call(port, secret=secret)
        refused = [
            call(port, target, secret=given)
            for target in ("/v1/tokens/demo", "/v1/tokens", "/livez", "/readyz", "/metrics", f"/{CANARY}")
            for given in (None, CANARY, secret[:-1], secret.swapcase())
        ]
        record = broker.records("token_served")[-1]
        reasons = {record["reason"] for record in broker.records("request_refused")}
        address = broker.log("listener_opened")

    assert served.status == 200, served.body
    assert served.json()["access_token"]
    assert {answer.status for answer in refused} == {401}
    assert {answer.json()["error"] for answer in refused} == {"invalid_token"}
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in refused)
    assert (record["listener"], record["uid"], record["workload"]) == ("tcp", None, "tcp")
    assert reasons == {"secret_missing", "secret_wrong"}
    assert f"http://127.0.0.1:{port}" in {line["address"] for line in address}


def test_who_guesses_fills_no_log(sandbox: SandboxProcess):
    """Refusals alike are folded in the audit log, and all of them are counted."""
    port, count = free_port(), 200
    with broker_process(sandbox, config=config_of(sandbox, port), name="guess") as broker:
        before = len(broker.records("request_refused"))
        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(lambda guess: call(port, secret=f"guess-{guess}").status, range(count)))
        metrics = broker.ops("/metrics").body.decode()
        secret = secret_of(broker)
        served = call(port, secret=secret).status
        broker.stop()
        records = broker.records("request_refused")[before:]

    assert answers == {401}
    assert served == 200
    assert len(records) < count / 4
    assert sum(record.get("count", 1) for record in records) == count
    assert any('outcome="invalid_token"' in line and line.endswith(f" {count}.0") for line in metrics.splitlines())


def test_the_file_is_for_its_group_and_new_at_each_start(sandbox: SandboxProcess):
    """0640, another secret after a restart, also after a killed one; gone after an orderly stop."""
    port = free_port()
    with broker_process(sandbox, config=config_of(sandbox, port), name="file") as broker:
        path = broker.config.parent / "tcp.secret"
        found, first = path.stat(), secret_of(broker)
        broker.stop(signal.SIGKILL)
        left = path.exists()
        broker.up()
        second = secret_of(broker)
        answers = [call(port, secret=secret).status for secret in (first, second)]
        broker.stop()

    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", first)
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, GROUP)
    assert left
    assert first != second
    assert answers == [401, 200]
    assert not path.exists()


def test_a_name_is_not_an_address(sandbox: SandboxProcess):
    """DNS rebinding: with the secret too, any Host but the literal address is refused, and what browsers send."""
    port = free_port()
    with broker_process(
        sandbox, config=config_of(sandbox, port, f'[daemon]\nhosts = ["broker.test:{port}"]\n'), name="host"
    ) as broker:
        secret = secret_of(broker)
        hosts = ["localhost", f"localhost:{port}", f"evil.example:{port}", "127.0.0.1", "token-broker", "unix"]
        refused = [call(port, secret=secret, headers={"Host": host}).status for host in hosts]
        browsers = [
            call(port, secret=secret, headers={name: "http://evil.example"}).status for name in ("Origin", "Referer")
        ]
        configured = call(port, secret=secret, headers={"Host": f"broker.test:{port}"}).status

    assert refused == [400] * len(hosts)
    assert browsers == [400, 400]
    assert configured == 200


def test_a_workload_that_names_a_user_is_nobody_over_tcp(sandbox: SandboxProcess):
    """Whoever calls, root included, and it is warned about at the start."""
    port = free_port()
    config = config_of(sandbox, port).replace('listener = ["tcp"]', f'listener = ["tcp"]\nuid = [{os.geteuid()}]')
    with broker_process(sandbox, config=config, name="uid") as broker:
        answers = [call(port, target, secret=secret_of(broker)).status for target in ("/v1/tokens/demo", "/v1/tokens")]
        (doubts,) = broker.log("configuration_doubted")

    assert answers == [403, 403]
    assert "over TCP a caller has no uid" in doubts["problems"]


def test_another_user_can_call_and_cannot_read_the_secret(sandbox: SandboxProcess):
    """The file is what keeps it out; as a member of the group it would be let in."""
    port = free_port()
    reading = "import os, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
    reading += "try: os.open(sys.argv[1], os.O_RDONLY)\nexcept PermissionError: sys.exit(77)"
    with broker_process(sandbox, config=config_of(sandbox, port), name="reader") as broker:
        path = str(broker.config.parent / "tcp.secret")
        done = subprocess.run([sys.executable, "-I", "-c", reading, path, str(UID_A)], check=False, timeout=PATIENCE)

    assert done.returncode == (77 if os.geteuid() == 0 else 1)


def test_the_address_is_refused_where_it_is_in_use_and_its_secret_is_left_alone(sandbox: SandboxProcess):
    """A second broker says so and ends; the first one goes on with its secret."""
    port = free_port()
    with broker_process(sandbox, config=config_of(sandbox, port), name="first") as broker:
        before = secret_of(broker)
        text = broker.config.read_text().replace('"audit.log"', '"second.log"').replace('"api.sock"', '"second.sock"')
        second = sandbox.home / "second.toml"
        second.write_text(re.sub(r'listen = "127.0.0.1:\d+"', "enabled = false", text))
        done = subprocess.run(
            [sys.executable, "-m", "broker", "run", "--config", str(second)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

        assert done.returncode == 1
        assert "listener_in_use" in done.stderr
        assert secret_of(broker) == before
        assert call(port, secret=before).status == 200


def test_the_commands_call_an_address_too(sandbox: SandboxProcess):
    """With its secret file; without, or with a file that holds another, they say what to do."""
    port = free_port()
    with broker_process(sandbox, config=config_of(sandbox, port), name="commands") as broker:
        path = broker.config.parent / "tcp.secret"
        (broker.config.parent / "wrong").write_text("w" * 43)

        def command(*arguments: str, secret_file: Path | None = path) -> subprocess.CompletedProcess[str]:
            variables = {"TOKEN_BROKER_SOCKET": f"http://127.0.0.1:{port}"}
            variables |= {} if secret_file is None else {"TOKEN_BROKER_SECRET_FILE": str(secret_file)}
            return subprocess.run(
                [sys.executable, "-m", "broker", *arguments],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env={**os.environ, **variables},
            )

        served, status = command("token", "demo"), command("status")
        unnamed, wrong = (command("token", "demo", secret_file=file) for file in (None, path.with_name("wrong")))

    assert (served.returncode, status.returncode) == (0, 0), served.stderr + status.stderr
    assert served.stdout.strip()
    assert "demo" in status.stdout
    assert (unnamed.returncode, wrong.returncode) == (1, 1)
    assert "[secret_unreadable]" in unnamed.stderr
    assert "[invalid_token]" in wrong.stderr


def test_sixty_four_callers_at_once_are_served_and_drained(sandbox: SandboxProcess):
    """And an idle connection does not hold up the stop."""
    port = free_port()
    with (
        broker_process(sandbox, config=config_of(sandbox, port), name="many") as broker,
        socket.create_connection(("127.0.0.1", port)) as idle,
        ThreadPoolExecutor(16) as pool,
    ):
        secret = secret_of(broker)
        served = list(pool.map(lambda _: call(port, secret=secret).status, range(64)))
        began = time.monotonic()
        code = broker.stop()

        assert served == [200] * 64
        assert code == 0
        assert time.monotonic() - began < 9  # less than drain_seconds
        assert idle.recv(1) == b""


def test_a_reload_that_moves_it_waits_for_a_restart(sandbox: SandboxProcess):
    """The event says so, and until then nobody is recognized there."""
    port = free_port()
    with broker_process(sandbox, config=config_of(sandbox, port), name="moved") as broker:
        secret = secret_of(broker)
        broker.config.write_text(broker.config.read_text().replace('"tcp.secret"', '"other.secret"'))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        loaded = broker.wait_for("configuration_loaded", generation=2)
        answer = call(port, secret=secret)

    assert loaded["restart"] == "listener"
    assert answer.status == 403
    wait_until(lambda: not (sandbox.home / "tcp.secret").exists(), "the secret is removed")


@pytest.mark.parametrize("address", ["0.0.0.0:8181", "localhost:8181", "10.0.0.1:8181", "127.0.0.1:0"])
def test_an_address_that_is_not_loopback_is_refused(sandbox: SandboxProcess, tmp_path: Path, address: str):
    """By check, with the place in the file and what to write."""
    path = tmp_path / "config.toml"
    path.write_text(config_of(sandbox, 1).replace("127.0.0.1:1", address))

    done = subprocess.run(
        [sys.executable, "-m", "broker", "check", "--syntax", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 2
    assert "listener.tcp.address: " in done.stderr
