"""Tests of ``broker/cli/sandbox.py``: the command as people start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import broker
from broker.cli import main, sandbox
from broker.sandbox.control_client import ControlClient
from broker.sandbox.listeners import bind
from broker.sandbox.running import LISTENERS

pytestmark = pytest.mark.real_time


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; it is killed if the test fails."""
    full = [sys.executable, "-W", "error", "-m", "broker", "sandbox", *arguments]
    with subprocess.Popen(
        full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announced(process: subprocess.Popen[str]) -> str:
    """Read what the command says when it is ready."""
    assert process.stdout is not None
    said = []
    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line, "the command ended"
        said.append(line)
    return "".join(said)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    return process.returncode, err


def test_it_says_where_it_is_and_what_to_type_next(tmp_path: Path):
    """And ends with 0 by Ctrl-C, with nothing on standard error."""
    directory = tmp_path / "sandbox"
    with command("--directory", str(directory), "--lifetime", "9") as process:
        said = announced(process)
        control = ControlClient.from_directory(directory)
        settings_work = control.answers()
        result = ended(process)

    assert settings_work
    assert control.addresses["issuer"] in said
    assert f"token-broker run --config {directory}/config.toml" in said
    assert "for 9 seconds" in said
    assert result == (0, "")


def test_it_prints_no_secret(tmp_path: Path):
    """The control token and keys are in files only."""
    directory = tmp_path / "sandbox"
    with command("--directory", str(directory)) as process:
        said = announced(process)
        ended(process)

    assert (directory / "control-token").read_text() not in said


def test_a_temporary_directory_is_removed(tmp_path: Path):
    """Where no other was named."""
    with command(TMPDIR=str(tmp_path)) as process:
        announced(process)
        during = [path.name for path in tmp_path.iterdir()]
        ended(process)

    assert [name.startswith("token-broker-sandbox-") for name in during] == [True]
    assert list(tmp_path.iterdir()) == []


def test_keep_goes_on_with_keys_and_ports(tmp_path: Path):
    """And a start without it does not."""
    directory, seen = tmp_path / "sandbox", []
    for options in ([], ["--keep"], []):
        with command("--directory", str(directory), *options) as process:
            announced(process)
            addresses = ControlClient.from_directory(directory).addresses
            seen.append(((directory / "ca.pem").read_bytes(), addresses["issuer"]))
            ended(process)

    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


def test_ports_may_be_chosen(tmp_path: Path):
    """Each listener has an option."""
    with bind() as one, bind() as two:
        ports = [bound.getsockname()[1] for bound in (one, two)]
    with command(
        "--directory", str(tmp_path / "s"), "--port", str(ports[0]), "--control-port", str(ports[1])
    ) as process:
        announced(process)
        addresses = ControlClient.from_directory(tmp_path / "s").addresses
        ended(process)

    assert [addresses["ports"][name] for name in ("issuer", "control")] == ports


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dialect", "raidiam"],
        ["--port", "70000"],
        ["--port", "x"],
        ["--lifetime", "0"],
        ["--lifetime", "1h"],
        ["--dir", "a"],
        ["extra"],
    ],
)
def test_wrong_arguments_are_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """Before anything is made; options are not abbreviated."""
    with pytest.raises(SystemExit) as caught:
        main(["sandbox", *arguments])

    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_keep_without_a_directory_is_exit_2(capsys: pytest.CaptureFixture[str]):
    """There would be nothing to keep."""
    assert main(["sandbox", "--keep"]) == 2
    assert "--directory" in capsys.readouterr().err


def test_a_directory_with_other_files_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One line that says why."""
    (tmp_path / "thesis.tex").touch()

    assert main(["sandbox", "--directory", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_port_that_is_taken_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One line that says why."""
    with bind() as taken:
        port = str(taken.getsockname()[1])

        assert main(["sandbox", "--directory", str(tmp_path / "s"), "--port", port]) == 1

    assert "in use" in capsys.readouterr().err


def test_the_parser_s_listeners_are_the_sandbox_s():
    """The names are written down twice, because the parser loads no server."""
    assert sandbox.LISTENERS == LISTENERS


def test_a_fake_iridium_says_where_it_is_and_what_to_type_next(tmp_path: Path):
    """And ends with 0 by Ctrl-C; its control listener is found as that of the strict server is."""
    directory, uri = tmp_path / "iridium", "http://127.0.0.1:4001/cb"
    with command("--dialect", "iridium", "--directory", str(directory), "--redirect-uri", uri) as process:
        said = announced(process)
        control = ControlClient.from_directory(directory)
        settings_work = control.answers()
        result = ended(process)

    assert settings_work
    assert control.addresses["dialect"] == "iridium"
    assert control.addresses["development"] in said
    assert f"token-broker run --config {directory}/config.toml" in said
    assert f"token-broker login github --redirect-uri {uri}" in said
    assert (directory / "control-token").read_text() not in said
    assert result == (0, "")


def test_a_fake_iridium_goes_on_with_keys_and_ports(tmp_path: Path):
    """With --keep, and with a port that is chosen."""
    directory, seen = tmp_path / "iridium", []
    with bind() as one:
        port = one.getsockname()[1]
    for options in (["--port", str(port)], ["--keep"]):
        with command("--dialect", "iridium", "--directory", str(directory), *options) as process:
            announced(process)
            seen.append(((directory / "ca.pem").read_bytes(), ControlClient.from_directory(directory).addresses))
            ended(process)

    assert seen[0][0] == seen[1][0]
    assert seen[0][1]["ports"] == seen[1][1]["ports"]
    assert seen[0][1]["ports"]["issuer"] == port


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--dialect", "iridium", "--strict"], "--strict"),
        (["--dialect", "iridium", "--mtls-port", "0"], "--mtls-port"),
        (["--redirect-uri", "http://127.0.0.1:1/c"], "--redirect-uri"),
        (["--dialect", "iridium", "--redirect-uri", "nowhere"], "redirect_uri"),
    ],
)
def test_what_another_dialect_knows_is_exit_2(arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]):
    """Before anything is made, with the option's name."""
    assert main(["sandbox", *arguments]) == 2
    assert names in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sandbox", "demo"])
def test_where_it_was_left_out_one_line_says_so(tmp_path: Path, name: str):
    """As out of the image: no traceback, and nothing is started."""
    package = tmp_path / "broker"
    package.mkdir()
    for path in Path(broker.__file__).parent.iterdir():
        if path.name != "sandbox":
            (package / path.name).symlink_to(path)

    done = subprocess.run(
        [sys.executable, "-m", "broker", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "[sandbox_missing]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
