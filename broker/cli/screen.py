"""
The whole screen of a terminal, borrowed: drawn in place, and given back as it was, whatever ends the command.

Sequences of ECMA-48 and the private modes that every terminal since the VT220 and xterm knows; one that says
``TERM=dumb`` must not be given any of this.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import termios
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import NoReturn, Self

from broker.cli.watch_view import Size

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The alternate screen, no cursor, lines that are cut at the edge instead of broken, an empty screen."""

LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end the command beside Ctrl-C: the screen is given back first."""

LOOK_AGAIN = (signal.SIGWINCH, signal.SIGCONT)
"""Signals after which the screen is drawn again: another size, or the shell had it meanwhile."""

LOCAL_FLAGS = 3
"""Where ``c_lflag`` stands in what tcgetattr gives (termios(3))."""


class EndedError(Exception):
    """A signal came that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Screen:
    """
    The terminal at the descriptor *output*, from ``__enter__`` to ``__exit__``; in the main thread.

    What is typed at *typed* is not echoed meanwhile, if that is a terminal. Leaving the block by ``EndedError``
    gives the screen back and then dies of the signal, as the command would have done without a screen.
    """

    def __init__(self, output: int, typed: int) -> None:
        self._output = output
        self._typed = typed
        self._restoring = ExitStack()
        self._awake, self._alarm = socket.socketpair()

    def __enter__(self) -> Self:
        """Borrow the screen."""
        for end in (self._awake, self._alarm):
            end.setblocking(False)
            self._restoring.callback(end.close)
        previous = signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        self._restoring.callback(signal.set_wakeup_fd, previous)
        for number in ENDING:
            self._restoring.callback(signal.signal, number, signal.signal(number, _end))
        for number in LOOK_AGAIN:
            self._restoring.callback(signal.signal, number, signal.signal(number, _go_on))
        try:
            self._silence()
            self._restoring.callback(self._write, LEAVE)
            self._write(ENTER)
        except BaseException:
            self._restoring.close()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Give the screen back."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # a second one must not keep the first from restoring
        try:
            self._restoring.close()
        finally:
            if isinstance(error, EndedError):
                signal.raise_signal(error.number)

    @property
    def size(self) -> Size:
        """How large it is now."""
        columns, lines = shutil.get_terminal_size()
        return Size(columns=columns, lines=lines)

    def draw(self, lines: Sequence[str]) -> None:
        """
        Show these *lines* and nothing else, in one write, so that no half of a picture is seen.

        Each line is cleared before it is written: after it, the last column would be lost.
        """
        text = HOME + "\r\n".join(f"{CLEAR_LINE}{line}" for line in lines)
        below = f"\r\n{CLEAR_BELOW}" if len(lines) < self.size.lines else ""
        self._write(text + below)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the screen has to be drawn again. Raises EndedError."""
        if select.select([self._awake], [], [], max(0.0, seconds))[0]:
            self._awake.recv(4096)

    def _silence(self) -> None:
        """Have keys not echoed into the picture."""
        if not os.isatty(self._typed):
            return
        before = termios.tcgetattr(self._typed)
        silent = [*before]
        silent[LOCAL_FLAGS] &= ~termios.ECHO
        termios.tcsetattr(self._typed, termios.TCSADRAIN, silent)
        self._restoring.callback(termios.tcsetattr, self._typed, termios.TCSAFLUSH, before)

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(self._output, rest) :]


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise EndedError(number)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor tells the one who waits."""
