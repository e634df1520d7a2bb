"""Directories that somebody else could change: refused by check and by a start, with the place and what mends it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, SandboxProcess, broker_process, sandbox_process


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("places"), lifetime=60) as process:
        yield process


@pytest.fixture(name="open_directory")
def make_open_directory(sandbox: SandboxProcess) -> Iterator[Path]:
    """Make a directory that everybody may write, with one of ours in it."""
    path = sandbox.home / "open"
    (path / "ours").mkdir(parents=True)
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def command(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", name, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def config_of(sandbox: SandboxProcess, old: str, new: str) -> Path:
    text = (sandbox.home / "config.toml").read_text()
    assert old in text, old
    path = sandbox.home / "changed.toml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('path = "api.sock"', 'path = "open/ours/api.sock"', "listener_directory_unsafe"),
        ('path = "api.sock"', 'path = "open/made/api.sock"', "listener_directory_unsafe"),
        (
            'path = "api.sock"\nmode = "0600"',
            'address = "127.0.0.1:9"\nsecret_file = "open/ours/secret"',
            "listener_directory_unsafe",
        ),
        ("[ops]", '[daemon]\nstate_dir = "open/ours/state"\n[ops]', "state_dir_unsafe"),
    ],
)
def test_a_directory_above_that_others_can_write_is_refused(
    sandbox: SandboxProcess, open_directory: Path, old: str, new: str, code: str
):
    """Exit 2 of check and 1 of run; nothing is left behind, and mended it is good."""
    config = config_of(sandbox, old, new)

    checked, ran = command("check", config), command("run", config)

    assert (checked.returncode, ran.returncode) == (2, 1)
    for done in (checked, ran):
        assert f"[{code}]" in done.stderr
        assert f"chmod o-w {open_directory}" in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in open_directory.rglob("*")] == ["ours"]
    open_directory.chmod(0o755)
    assert command("check", config).returncode == 0


def test_a_configuration_that_somebody_else_could_replace_is_refused(sandbox: SandboxProcess, open_directory: Path):
    """At the start, and at a reload, which changes nothing: it decides who gets tokens."""
    text = (sandbox.home / "config.toml").read_text()
    absolute = re.sub(r'= "((?:[\w-]+\.)(?:pem|key|sock|log))"', lambda found: f'= "{sandbox.home / found[1]}"', text)
    path = open_directory / "ours" / "config.toml"
    path.write_text(absolute)
    path.chmod(0o600)

    refused = command("run", path)
    open_directory.chmod(0o755)
    with broker_process(sandbox, start=False, name="replaced") as broker:
        broker.config = path
        broker.up()
        open_directory.chmod(0o777)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        event = broker.wait_for("configuration_refused")

        assert broker.token().status == 200
        broker.config = sandbox.home / "config.toml"  # where the secrets are that must not come out

    assert refused.returncode == 2
    assert f"{open_directory} is writable for everybody" in refused.stderr
    assert str(open_directory) in event["problems"]


def test_an_audit_file_behind_a_link_that_others_could_change_is_refused(sandbox: SandboxProcess, open_directory: Path):
    """Its records could go wherever they like."""
    (open_directory / "link").symlink_to("ours")
    config = config_of(sandbox, 'file = "audit.log"', 'file = "open/link/audit.log"')

    done = command("run", config)

    assert done.returncode == 1
    assert "[audit_directory_unsafe]" in done.stderr
    assert list((open_directory / "ours").iterdir()) == []
