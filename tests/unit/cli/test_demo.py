"""Tests of ``broker/cli/demo.py``: the demonstration is true, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.cli import main

pytestmark = pytest.mark.real_time


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory with a short name: a Unix socket's may have 107 bytes, and pytest's directories are deep."""
    with tempfile.TemporaryDirectory(prefix="tb-") as directory:
        yield Path(directory)


@contextmanager
def demo(*arguments: str, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command; it is ended if the test fails, so that it ends its children."""
    command = [sys.executable, "-m", "broker", "demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def processes_of(directory: Path) -> list[str]:
    """Find processes that have *directory* in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # ended meanwhile
        if str(directory) in line:
            found.append(line)
    return found


def test_one_pass_shows_a_bound_token_accepted_and_refused(temporary: Path):
    """Step by step with its figures, exit 0, no token in the output, no process and no file left."""
    with demo("--once", temporary=temporary) as process:
        out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, "")
    assert re.findall(r"^(\d+)\. ", out, re.MULTILINE) == [str(number) for number in range(1, 15)]
    assert "private_key_jwt, signed with PS256" in out
    assert re.search(r"x5t#S256=[\w-]{43}", out)
    assert "has seen 1 token request(s)" in out
    assert "The API says 200" in out
    assert "The API says 401 to the token with another certificate: invalid_token" in out
    assert "the broker says consent_required, and serves none" in out
    assert "with client_id and request_uri in it, and nothing else" in out
    assert "a grant of alice for openid hello:read" in out
    assert "The API says 200 to the token, as alice's" in out
    assert "revoked at the server, and the API says 401" in out
    assert "eyJ" not in out
    assert "code=" not in out
    assert processes_of(temporary) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_until_a_signal_and_ends_what_it_started(temporary: Path, number: signal.Signals):
    """With lines to try meanwhile; exit 0."""
    with demo(temporary=temporary) as process:
        assert process.stdout is not None
        said = ""
        while "token request: issued" not in said or "/start/" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        during = processes_of(temporary)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert "curl --unix-socket api.sock http://localhost/v1/tokens/demo" in said
    assert 'a second token, "person", needs a consent' in said.lower()
    assert re.search(r"^ +http://127\.0\.0\.1:\d+/start/[\w-]{43}$", said, re.MULTILINE)
    assert len(during) == 3
    assert (process.returncode, err) == (0, "")
    assert processes_of(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_pass_that_is_interrupted_is_no_success(temporary: Path):
    """130 with --once, whenever the signal comes; nothing is left."""
    with demo("--once", temporary=temporary) as process:
        assert process.stdout is not None
        while not processes_of(temporary):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert process.returncode == 130
    assert processes_of(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_child_that_fails_is_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Exit 1, with what the child said last."""
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "thesis.tex").touch()

    assert main(["demo", "--once", "--directory", str(tmp_path)]) == 1

    said = capfd.readouterr().err
    assert "the demo failed: the sandbox ended with code 1" in said
    assert "holds other files" in said


def test_a_directory_that_cannot_be_made_is_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Exit 1, no traceback."""
    (tmp_path / "file").touch()

    assert main(["demo", "--once", "--directory", str(tmp_path / "file" / "below")]) == 1

    assert "the demo failed" in capfd.readouterr().err


def test_another_system_than_linux_is_told_so_without_a_traceback():
    """In an interpreter that takes itself for another system's."""
    script = (
        "import ctypes, sys, broker.cli.children, broker.sandbox.control_client; sys.platform = 'darwin'; "
        "from broker.cli import main; sys.exit(main(['demo', '--once']))"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (1, "")
    assert "[not_linux]" in result.stderr
    assert "Traceback" not in result.stderr
