from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import key_pem, p256, written


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it changes the umask and limits of the one it runs in."""
    return subprocess.run(
        [sys.executable, "-m", "broker", "run", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("nobody", "nobody"), 2, "[file_missing]"),  # the key is not there
        (('client = "c"', 'client = "d"'), 2, "token.t.client: "),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_opened(
    tmp_path: Path, change: tuple[str, str], code: int, said: str
):
    """Exit 2, no socket, no audit log, no traceback."""
    (tmp_path / "config.toml").write_text(CONFIG.replace(*change))

    done = run("--config", str(tmp_path / "config.toml"))

    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


def test_a_daemon_that_cannot_open_its_socket_exits_1(tmp_path: Path):
    """The configuration is right, the host is not."""
    written(tmp_path / "k.pem", key_pem(p256()))
    (tmp_path / "api.sock").mkdir()
    (tmp_path / "config.toml").write_text(CONFIG)

    done = run("--config", str(tmp_path / "config.toml"))

    assert done.returncode == 1
    assert "[listener_occupied]" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_configuration_it_says_how_to_name_one():
    """Exit 2."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", "run"], capture_output=True, text=True, timeout=60, check=False, env={}
    )

    assert done.returncode == 2
    assert "--config" in done.stderr
