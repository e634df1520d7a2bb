"""Tests of ``broker/cli/screen.py``: a terminal gets back what was taken from it (tests/daemon watches one whole)."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import pytest

from broker.cli.screen import ENTER, LEAVE, LOCAL_FLAGS, EndedError, Screen

PATIENCE = 5.0
"""Seconds after which what was not written is not written any more."""


@dataclass
class Terminal:
    """Both ends of a pseudo-terminal."""

    outside: int
    inside: int

    def shown(self, end: str) -> str:
        """Give all that was written up to *end*; the kernel makes CR LF of LF, as for a shell."""
        text = ""
        while not text.endswith(end):
            assert select.select([self.outside], [], [], PATIENCE)[0], f"in vain: {end!r} after {text!r}"
            text += os.read(self.outside, 65_536).decode()
        return text.replace("\r\r\n", "\r\n")

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.inside)[LOCAL_FLAGS] & termios.ECHO)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    outside, inside = pty.openpty()
    yield Terminal(outside, inside)
    os.close(outside)
    os.close(inside)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT)]


def end_by(error: BaseException | None, terminal: Terminal) -> None:
    """Borrow the screen, and leave it in this way."""
    with Screen(terminal.inside, terminal.inside):
        assert not terminal.echoes()
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), None], ids=["mistake", "Ctrl-C", "its end"])
def test_the_terminal_is_given_back_whatever_ends_the_block(terminal: Terminal, error: BaseException | None):
    """Screen, cursor, echo and signals are as they were."""
    before = handlers()

    with pytest.raises(type(error)) if error is not None else nullcontext():
        end_by(error, terminal)

    assert terminal.shown(LEAVE) == ENTER + LEAVE
    assert (terminal.echoes(), handlers()) == (True, before)


def test_a_picture_is_drawn_in_place_in_one_piece(terminal: Terminal):
    """Lines are cleared before they are written, and what is below them after."""
    with Screen(terminal.inside, -1) as screen:
        terminal.shown(ENTER)
        screen.draw(["one", "two"])
        drawn = terminal.shown("\x1b[J")

    assert drawn == "\x1b[H\x1b[Kone\r\n\x1b[Ktwo\r\n\x1b[J"


def test_a_change_of_size_ends_the_wait(terminal: Terminal):
    """So that the next picture fits at once."""
    with Screen(terminal.inside, -1) as screen:
        os.kill(os.getpid(), signal.SIGWINCH)
        screen.wait(60)
        screen.wait(0)


def be_killed(terminal: Terminal) -> None:
    """Borrow the screen, and get a signal."""
    with Screen(terminal.inside, -1) as screen:
        os.kill(os.getpid(), signal.SIGTERM)
        screen.wait(60)


def test_a_signal_that_ends_is_raised_in_the_block(terminal: Terminal):
    """And after the screen was given back it is what the command dies of."""
    died: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: died.append(number))
    try:
        with pytest.raises(EndedError):
            be_killed(terminal)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (died, terminal.shown(LEAVE)) == ([signal.SIGTERM], ENTER + LEAVE)
