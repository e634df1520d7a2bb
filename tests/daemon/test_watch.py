"""``token-broker status --watch`` on a real terminal, in a pipe, and while its broker goes away and comes back."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.harness import (
    PATIENCE,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    sandbox_process,
    wait_until,
)

MANY = 60

WITH_INTERRUPT = ("env", "--default-signal=INT")
"""Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that."""

COMMAND = (*WITH_INTERRUPT, sys.executable, "-m", "broker", "status", "--watch", "--interval", "1", "--socket")

SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("watch"), lifetime=600) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    """One token that is there, one that the server refuses, many that wait; who stops it starts it again."""
    config = (sandbox.home / "config.toml").read_text()
    config += '[token.refused]\nclient = "demo"\nscope = ["nobody:knows"]\n'
    for number in range(MANY):
        config += f'[token.idle-{number}]\nclient = "demo"\nscope = ["hello:read"]\nrefresh = "on_demand"\n'
    with broker_process(sandbox, config=config, name="watched") as process:
        process.wait_for("token_refresh_failed", token="refused")
        yield process


@dataclass
class Terminal:
    """The person's end of a terminal, and the command at the other end."""

    outside: int
    process: subprocess.Popen[bytes]
    written: str = ""

    def read(self) -> str:
        """Give all that was written until now."""
        try:
            while select.select([self.outside], [], [], 0)[0]:
                self.written += os.read(self.outside, 65_536).decode()
        except OSError:
            pass  # how Linux says that nobody has the terminal open any more (EIO)
        return self.written

    def screen(self) -> list[str]:
        """Give the last whole picture: what was written from the last but one way home to the last."""
        pictures = self.read().split("\x1b[H")
        return [SEQUENCE.sub("", line).rstrip() for line in pictures[-2].replace("\r", "").split("\n")]

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self.read().count("\x1b[H") > 2 and text in "\n".join(self.screen()), text)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.outside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)


@contextmanager
def watching(socket: Path, *arguments: str, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """Watch on a terminal of this size."""
    outside, inside = pty.openpty()
    fcntl.ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, str(socket), *arguments], stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    try:
        yield Terminal(outside, process)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(outside)


def test_a_table_stays_in_its_place_and_fits_every_size(broker: BrokerProcess):
    """What is wrong is shown, what does not fit is counted, and a new size is used at once."""
    with watching(broker.socket) as terminal:
        terminal.wait_for("more:")
        large = terminal.screen()
        terminal.resize(100, 10)
        wait_until(lambda: len(terminal.screen()) <= 10, "the small picture")
        small = terminal.screen()

    assert (len(large), large[1]) == (24, "ready")
    assert any(re.fullmatch(r"\d+ more: \d+ idle", line) for line in large)
    assert large[5].startswith("refused  unavailable")
    assert any(line.startswith("refused: the client is not registered") for line in large)
    assert small[5].startswith("refused  unavailable")
    assert "\n" not in terminal.written.replace("\r\n", "")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
    ids=str,
)
def test_the_terminal_is_given_back_at_the_end(broker: BrokerProcess, number: signal.Signals, code: int):
    """Screen, cursor and line ends; nothing is written after that, no traceback either."""
    with watching(broker.socket) as terminal:
        terminal.wait_for("ready")
        terminal.process.send_signal(number)
        ended = terminal.process.wait(PATIENCE)
        written = terminal.read()

    assert ended == code
    assert written.startswith("\x1b[?1049h\x1b[?25l\x1b[?7l")
    assert written.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")


def test_it_goes_on_while_the_broker_restarts(broker: BrokerProcess):
    """It says since when nobody answers, and what was known before."""
    with watching(broker.socket) as terminal:
        terminal.wait_for("ready")
        broker.stop()
        terminal.wait_for("unreachable since")
        away = terminal.screen()
        broker.up()
        wait_until(lambda: terminal.screen()[1] == "ready", "it is back")

    assert re.search(r"unreachable since \d\d:\d\d:\d\d UTC \(\d+ s\)", away[1])
    assert any(line.startswith("demo") for line in away)


@pytest.mark.parametrize("in_json", [False, True], ids=["lines", "json"])
def test_a_pipe_gets_a_line_for_each_change(broker: BrokerProcess, in_json: bool, tmp_path: Path):
    """With its time; not one escape sequence, and nothing for time that passes."""
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen([*COMMAND, str(broker.socket), *(["--json"] if in_json else [])], stdout=file)
        try:
            wait_until(lambda: "idle-59" in out.read_text(), "the first look")
            broker.stop()
            wait_until(lambda: "daemon_unreachable" in out.read_text(), "it is away")
            broker.up()
            words = '"ready": true' if in_json else "reachable again"
            wait_until(lambda: words in out.read_text().split("daemon_unreachable")[1], "it is back")
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.wait(PATIENCE)

    lines = out.read_text().splitlines()
    assert ended == 130
    assert "\x1b" not in "".join(lines)
    assert sum("daemon_unreachable" in line for line in lines) == 1
    if in_json:
        assert all(json.loads(line)["time"] for line in lines)
    else:
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_it_ends_when_nobody_reads_any_more(broker: BrokerProcess):
    """Also where nothing changes: ``status --watch | head -1`` is done after a line."""
    with subprocess.Popen([*COMMAND, str(broker.socket)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        ended = process.wait(PATIENCE)
        said = process.stderr.read()

    assert (ended, said) == (1, b"")
