"""
Child processes of a command: started, watched, and always ended, whatever ends the command itself.

Children run in sessions of their own, so that a Ctrl-C reaches only us and we end them in order, by pid.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from broker.errors import LocalError

POLL = 0.05
"""Seconds between two looks at a process that is starting."""

LAST_LINES = 4
"""Of what a child said that are shown when it failed: the reason is seldom in the very last."""

STOP_DEADLINE = 10.0
"""Seconds for a process to end after SIGTERM; then it is killed."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(BaseException):
    """
    A signal asked this process to end.

    Not an ``Exception``: nothing between the signal and the command may take it for a failure and go on.
    """


class Stopping:
    """Turns the signals that end a process into ``StoppedError``, except while that would lose a child."""

    def __init__(self) -> None:
        self._requested = False
        self._held = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self._requested = True
        if not self._held:
            raise StoppedError

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put a signal off until the end of the context."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._requested:
            raise StoppedError

    def hold(self) -> None:
        """Put signals off for good: the end has begun."""
        self._held = True


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Handle the ending signals with a ``Stopping`` until the end of the context."""
    stopping = Stopping()
    earlier = {number: signal.signal(number, stopping) for number in ENDING_SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that we started; its output goes to the file *log*."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise LocalError if the process has ended."""
        if self.process.poll() is None:
            return
        said = self.log.read_text(errors="replace").strip().splitlines()
        raise LocalError(
            "child_ended",
            f"the {self.name} ended with code {self.process.returncode}",
            hint="\n  ".join(["it said last:", *said[-LAST_LINES:]]) if said else "it said nothing",
        )

    def end(self, patience: float = STOP_DEADLINE) -> None:
        """End the process: by SIGTERM, and by SIGKILL if that takes longer than *patience* seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def start(name: str, command: Sequence[str], *, log: Path, stack: ExitStack, stopping: Stopping) -> Child:
    """Start a process that is ended when *stack* is. Raises LocalError."""
    try:
        with stopping.held(), log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            child = Child(name=name, process=process, log=log)
            stack.callback(child.end)
    except OSError as error:
        raise LocalError("child_not_started", f"the {name} could not be started: {error.strerror}") from error
    return child


def wait_until(ready: Callable[[], bool], child: Child, *, deadline: float) -> None:
    """Look again and again until *ready*. Raises LocalError if the process ends, or after *deadline* seconds."""
    end = time.monotonic() + deadline
    while not ready():
        child.check()
        if time.monotonic() > end:
            raise LocalError("child_not_ready", f"the {child.name} was not ready within {deadline:.0f} seconds")
        time.sleep(POLL)
