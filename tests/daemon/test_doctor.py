"""``token-broker doctor`` beside a real broker and a real server, and without them; as root and as others."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import (
    PATIENCE,
    UID_A,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    canaries,
    found,
    sandbox_process,
)
from tests.daemon.test_reload import reload

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

AS_USER = """
import encodings.idna, os, sys
from broker.cli import doctor_daemon, doctor_files, doctor_servers, main
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.exit(main(sys.argv[2:]))
"""
"""All is loaded before the user changes: another one need not be able to read it."""

RUN = "token-broker run --config"

WITHOUT_SETUID = """
import ctypes, sys
libc = ctypes.CDLL(None)
head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(head, sets) == 0
sets[0] &= ~(1 << 7)
sets[1] &= ~(1 << 7)
assert libc.capset(head, sets) == 0
from broker.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""As root without CAP_SETUID, which is bit 7 of the effective and of the permitted set (capabilities(7))."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("doctor"), lifetime=600) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    """With an API and a store."""
    resource = json.loads((sandbox.home / "sandbox.json").read_text())["resource"]
    config = (sandbox.home / "config.toml").read_text()
    config += '[daemon]\nstate_dir = "state"\n[store]\nkey = { file = "store.key" }\n'
    config += f'[upstream.hello]\nbase_url = "{resource}"\ntoken = "demo"\nca_file = "ca.pem"\n'
    config += 'allow = ["GET /*"]\n'
    with broker_process(sandbox, config=config, name="examined") as process:
        yield process


def doctor(
    *arguments: str, uid: int | None = None, program: str | None = None
) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Run it; give its exit code, the last level and text of each place, and all that it said."""
    begin = ["-m", "broker"] if uid is None else ["-c", AS_USER, str(uid)]
    begin = begin if program is None else ["-c", program]
    done = subprocess.run(
        [sys.executable, *begin, "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    worst = ("ok", "skipped", "warning", "failed")
    findings.sort(key=lambda one: worst.index(one["level"]))
    return done.returncode, {one["place"]: (one["level"], one["text"]) for one in findings}, done.stdout


def test_a_broker_that_is_well_is_exit_0_with_all_that_was_looked_at(broker: BrokerProcess, sandbox: SandboxProcess):
    """No secret comes out."""
    code, places, out = doctor("--config", str(broker.config))

    assert code == 0, out
    assert f"process {broker.pid} of uid {os.geteuid()}" in places[f"socket {broker.socket}"][1]
    good = ("keys", "certificate.demo", "directories", "audit", "store", "issuer.sandbox", "clock", "upstream.hello")
    assert [places[place][0] for place in good] == ["ok"] * len(good)
    assert "the daemon holds it" in places["store"][1]
    assert found(out, canaries(sandbox.home)) == set()


def test_a_token_that_the_server_refuses_is_a_failure(broker: BrokerProcess):
    """Even if nobody requires it: it is not there for those who want it."""
    refused = '[token.refused]\nclient = "demo"\nscope = ["nobody:knows"]\n'
    reload(broker, ("[upstream.hello]", f"{refused}[upstream.hello]"))
    broker.wait_for("token_refresh_failed", token="refused")
    code, places, _ = doctor("--config", str(broker.config))
    reload(broker, (refused, ""))

    assert (code, places["token.refused"][0]) == (1, "failed")


def test_a_broker_of_another_configuration_is_not_taken_for_the_daemon(broker: BrokerProcess):
    """It holds the state directory, which keeps the one that is meant from its start."""
    other = broker.config.with_name("other.toml")
    other.write_text(broker.config.read_text().replace("api.sock", "other.sock"))
    code, places, out = doctor("--config", str(other))

    assert (code, places["store"][0]) == (1, "failed")
    assert f"process {broker.pid} holds it, and is not the daemon of this socket" in places["store"][1]
    assert f"mend what else is FAILED, then start the daemon: systemctl start token-broker, or {RUN} {other};" in out


def test_a_refused_reload_and_one_that_waits_are_told(broker: BrokerProcess):
    """Until they are taken back."""
    reload(broker, ('mode = "0600"', 'mode = "0660"'))
    waiting = doctor("--config", str(broker.config))
    reload(broker, ('mode = "0660"', 'mode = "0600"'))

    assert (waiting[0], waiting[1]["running configuration"][0]) == (0, "warning")
    assert "listener" in waiting[1]["running configuration"][1]


def test_without_a_daemon_all_else_is_looked_at(broker: BrokerProcess):
    """The store, too, because nobody holds it."""
    broker.stop()
    code, places, _ = doctor("--config", str(broker.config))
    broker.up()

    assert code == 1
    assert places[f"socket {broker.socket}"] == ("failed", "there is none")
    assert "sound" in places["store"][1] or "no store" in places["store"][1]
    assert places["issuer.sandbox"][0] == "ok"


def test_a_server_that_is_away_fails_with_its_reason(broker: BrokerProcess, sandbox: SandboxProcess):
    """Each issuer and each API by itself."""
    sandbox.stop()
    code, places, _ = doctor("--config", str(broker.config))
    sandbox.up(keep=True)

    assert code == 1
    assert "[connect_failed]" in places["issuer.sandbox"][1]
    assert "[connect_failed]" in places["upstream.hello"][1]
    assert places["keys"][0] == "ok"


@pytest.fixture
def elsewhere(sandbox: SandboxProcess) -> Iterator[Path]:
    """A copy of the sandbox's files in a directory that other users can pass through, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="token-broker-test-"))
    directory.chmod(0o755)
    home = directory / "home"
    shutil.copytree(sandbox.home, home, ignore=shutil.ignore_patterns("*.sock", "server", "state"))
    yield home
    shutil.rmtree(directory)


@as_root
def test_root_looks_at_files_as_the_user_that_they_belong_to(elsewhere: Path):
    """A key that only root may read is good for root, and not for the daemon."""
    config = elsewhere / "config.toml"
    for path in (elsewhere, *elsewhere.iterdir()):
        os.chown(path, UID_A, UID_A)
    os.chown(elsewhere / "client.key", 0, 0)
    (elsewhere / "audit.log").touch()
    os.chown(elsewhere / "audit.log", UID_A, UID_A)

    code, places, out = doctor("--config", str(config))

    assert code == 1
    assert f"looks as uid {UID_A}" in places["doctor"][1]
    assert places["keys"][0] == "failed"
    assert "client.key: may not be read" in out


@as_root
def test_a_link_to_a_socket_of_root_s_does_not_keep_root_from_looking_as_the_daemon_s_user(elsewhere: Path):
    """It is the daemon's user who could have put it there."""
    for path in (elsewhere, *elsewhere.iterdir()):
        os.chown(path, UID_A, UID_A)
    with socket.socket(socket.AF_UNIX) as of_root:
        of_root.bind(str(elsewhere.parent / "of-root.sock"))
        of_root.listen()
        (elsewhere / "api.sock").symlink_to(elsewhere.parent / "of-root.sock")
        os.chown(elsewhere / "api.sock", UID_A, UID_A, follow_symlinks=False)

        _, places, _ = doctor("--config", str(elsewhere / "config.toml"))

    assert f"looks as uid {UID_A}" in places["doctor"][1]


@as_root
def test_a_root_that_may_not_become_the_daemon_s_user_is_told_so(elsewhere: Path):
    """And looks at no file for it."""
    for path in (elsewhere, *elsewhere.iterdir()):
        os.chown(path, UID_A, UID_A)
    (elsewhere / "audit.log").touch()
    os.chown(elsewhere / "audit.log", UID_A, UID_A)
    os.chown(elsewhere, 0, 0)
    os.chown(elsewhere / "config.toml", 0, 0)

    _, places, _ = doctor("--config", str(elsewhere / "config.toml"), program=WITHOUT_SETUID)

    assert [places[place][0] for place in ("doctor", "keys", "directories")] == ["skipped"] * 3


@as_root
def test_another_user_is_told_what_could_not_be_looked_at(elsewhere: Path):
    """Nothing of that is a failure."""
    config = elsewhere / "config.toml"
    (elsewhere / "audit.log").touch()
    for path in (elsewhere, *elsewhere.iterdir()):
        os.chown(path, UID_A, UID_A)
    elsewhere.chmod(0o755)
    (elsewhere / "audit.log").write_text("whatever is in it")
    (elsewhere / "audit.log").chmod(0o600)
    config.chmod(0o644)
    os.chown(elsewhere, 0, 0)
    os.chown(config, 0, 0)

    _, places, _ = doctor("--config", str(config), uid=UID_A + 1)
    config.chmod(0o600)
    _, blind, _ = doctor("--config", str(config), uid=UID_A + 1)

    assert [places[place][0] for place in ("keys", "directories", "audit")] == ["skipped"] * 3
    assert blind["configuration"][0] == "skipped"
