"""
``docs/tutorial.md``, word for word: every line that a reader types is typed, every line that it shows is compared.

What is not as for a reader:

- The clone is a copy of the tree in which ``.venv`` leads to the one that is there, so that ``make install`` has
  nothing to do; the commands run the code of the copy (``PYTHONPATH``).
- The five ports of the page are free ones here, also in the file that ``init`` writes.
- A reader types slower than a broker starts, reloads, or seals its log. After such a line the test waits for it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, POLL, wait_until

ROOT = Path(__file__).parents[2]

PAGE = ROOT / "docs" / "tutorial.md"

PARTS = ("Makefile", "pyproject.toml", "broker", "requirements")
"""Of the tree, what the page uses."""

PORTS = ("8440", "8441", "8442", "9464")

PROMPT = re.compile(r"(?P<terminal>|server)\$ (?P<typed>.*)")

CONTROL_C = "^C"

ANYTHING = "..."

MARK = "-- done --"


@dataclass(frozen=True)
class Step:
    """What is typed in which terminal, and the lines that the page shows after it."""

    terminal: str
    typed: str
    shown: tuple[str, ...]


def steps(page: str) -> Iterator[Step]:
    """Read all console blocks of *page*, in their order."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield from _steps_of(block.splitlines())


def _steps_of(lines: list[str]) -> Iterator[Step]:
    while lines:
        prompt = PROMPT.fullmatch(lines.pop(0))
        assert prompt is not None, "a block begins with what is typed"
        typed = [prompt["typed"]]
        if document := re.search(r"<<'(\w+)'$", typed[0]):
            while typed[-1] != document[1]:
                typed.append(lines.pop(0))
        shown = []
        while lines and PROMPT.fullmatch(lines[0]) is None:
            shown.append(lines.pop(0))
        yield Step(prompt["terminal"], "\n".join(typed), tuple(shown))


def agrees(shown: tuple[str, ...], printed: str) -> bool:
    """
    Compare what the page shows with what was printed: ``...`` in a line is any text, alone any lines or none.

    An answer of the API does not end with a newline; a page cannot show that.
    """
    if not printed.endswith("\n"):
        printed = f"{printed}\n" if printed else ""
    pattern = "".join(
        r"(?:.*\n)*?" if line == ANYTHING else ".*?".join(map(re.escape, line.split(ANYTHING))) + "\n" for line in shown
    )
    return re.fullmatch(pattern, printed) is not None


@dataclass
class Terminal:
    """A shell that is typed into; both outputs of its commands go to one file, as on a screen."""

    name: str
    directory: Path
    screen: Path
    environment: dict[str, str]
    read: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def open(self) -> None:
        with self.screen.open("wb") as screen:
            self.process = subprocess.Popen(
                ["/bin/bash", "--noprofile", "--norc"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def printed(self) -> str:
        """Give what is on the screen since the last command."""
        return self.screen.read_text()[self.read :]

    def run(self, line: str) -> str:
        """Type *line*, wait until the shell has done it, and give what it printed."""
        self.type(line)
        self.type(f"echo '{MARK}'")
        wait_until(lambda: self.printed().endswith(f"{MARK}\n"), f"{line} ends; it printed {self.printed()}")
        printed = self.printed().removesuffix(f"{MARK}\n")
        self.read += len(self.printed())
        return printed

    def interrupt(self) -> str:
        """Press Ctrl-C: the signal goes to all that runs in this terminal."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.run("")

    def close(self) -> None:
        """End the shell and whatever still runs in it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(POLL)
        with suppress(ProcessLookupError):  # the shell may be gone, and what it began in the background not
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(PATIENCE)
        wait_until(self._is_gone, f"everything in {self.name} ends")

    def _is_gone(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def free_ports(count: int) -> list[str]:
    """Find ports that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(one.getsockname()[1]) for one in sockets]


def clone(directory: Path) -> Path:
    """Copy the tree, with files that are older than what is installed."""
    copy = directory / "clone"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy)
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


class Reader:
    """Follows the page, with the patience that a reader has without knowing."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._clone = clone(directory)
        self._log = self._clone / "tutorial" / "broker.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOKEN_BROKER", "MAKE"))}
        self._terminals = {}
        for name in ("", "server"):
            terminal = Terminal(
                name=name,
                directory=self._clone,
                screen=directory / f"screen{name}",
                environment={**kept, "PYTHONPATH": str(self._clone), "LC_ALL": "C"},
            )
            terminal.open()
            stack.callback(terminal.close)
            self._terminals[name] = terminal
        self._waits: list[tuple[str, Callable[[], bool]]] = [
            (r"token-broker run .*&$", lambda: self._logged("daemon_started") == 1),
            (r"grep .* token_served ", self._sealed),
        ]

    def follow(self, step: Step) -> str | None:
        """Do what *step* says; give what was printed if that is not what the page shows."""
        terminal = self._terminals[step.terminal]
        if step.typed == CONTROL_C:
            printed = terminal.interrupt()
        elif step.shown[-1:] == ("Ctrl-C ends it.",):
            return self._foreground(terminal, step)
        else:
            loaded = self._logged("configuration_loaded")
            printed = terminal.run(step.typed)
            if "kill -HUP" in step.typed:
                wait_until(lambda: self._logged("configuration_loaded") > loaded, "the broker has loaded its file")
            for pattern, condition in self._waits:
                if re.match(pattern, step.typed):
                    wait_until(condition, f"the time a reader takes after: {step.typed}")
        return None if agrees(step.shown, printed) else printed

    def _foreground(self, terminal: Terminal, step: Step) -> str | None:
        """Start what stays, and wait for its last line."""
        terminal.type(step.typed)
        deadline = time.monotonic() + PATIENCE
        while not agrees(step.shown, terminal.printed()):
            if time.monotonic() > deadline:
                return terminal.printed()
            time.sleep(POLL)
        terminal.read += len(terminal.printed())
        return None

    def _logged(self, event: str) -> int:
        return self._log.read_text().count(f'"event":"{event}"') if self._log.exists() else 0

    def _sealed(self) -> bool:
        records = (self._clone / "tutorial" / "audit.log").read_text()
        return '"checkpoint"' in records.rpartition('"token_served"')[2]

    def move_ops(self, port: str) -> None:
        """Give the file that ``init`` wrote another port for metrics."""
        file = self._clone / "tutorial" / "config.toml"
        file.write_text(file.read_text().replace("9464", port))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl, and this machine has none")
def test_the_tutorial_works_word_for_word(tmp_path: Path):
    """In two shells, with real processes; at its end nothing runs and nothing lies about."""
    page = PAGE.read_text()
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    for written, free in ports.items():
        page = page.replace(written, free)
    wrong = []

    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for step in steps(page):
            printed = reader.follow(step)
            if printed is not None:
                wrong.append(f"$ {step.typed}\nthe page shows:\n" + "\n".join(step.shown) + f"\nprinted:\n{printed}")
            if step.typed.startswith("token-broker init"):
                reader.move_ops(ports["9464"])

    if wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)  # in full: pytest would shorten what it compares
    assert not (tmp_path / "clone" / "tutorial").exists()


def test_every_block_of_the_page_is_followed():
    """None is of a kind that the test above would pass over, and the page has them all."""
    page = PAGE.read_text()

    fences = re.findall(r"^```(.+)$", page, re.MULTILINE)

    typed = [step.typed for step in steps(page)]
    assert set(fences) == {"console"}
    assert len(typed) > 30
    for wanted in ("sandbox", "init", "keygen", "check", "run", "token", "status", "audit verify"):
        assert any(f"token-broker {wanted}" in line for line in typed), wanted


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("a", "b"), "a\nb\n", True),
        (("a",), "a\nb\n", False),
        (("a", "..."), "a\nb\nc\n", True),
        (("a ... c",), "a b c\n", True),
        (("a ... c",), "a b\nc\n", False),
        (("a.c",), "abc\n", False),
        ((), "", True),
        ((), "a\n", False),
    ],
)
def test_what_is_shown_is_compared_line_by_line(shown: tuple[str, ...], printed: str, same: bool):
    """A comparison that lets everything pass would make this file worth nothing."""
    assert agrees(shown, printed) is same
