"""
Reading a line from a terminal without showing it, however long it is.

The line discipline of Linux cuts a line at 4,095 bytes (termios(3), canonical mode), and what a server sends
back can be longer, signed responses above all; so the letters are taken one by one, and only the few editing
keys that people use are known.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from broker.errors import LocalError

MAX_LINE = 48 * 1024
"""Bytes; as JSON it still fits into a request to the daemon."""

TERMINAL = "/dev/tty"

ERASE = frozenset({0x7F, 0x08})
"""Backspace, as terminals send it."""
ERASE_LINE = 0x15
END_OF_INPUT = 0x04
ENTER = frozenset({0x0A, 0x0D})


def read_hidden(prompt: str) -> str | None:
    """
    Read a line from the terminal without echo, or from standard input where that is none; None at its end.

    Raises LocalError for what is too long or not text.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline(MAX_LINE + 1)
        return _checked(line.encode(errors="surrogateescape")) if line else None
    descriptor = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.write(descriptor, prompt.encode())
        with _without_echo(descriptor):
            line_read = _line(descriptor)
        os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
    return None if line_read is None else _checked(line_read)


@contextmanager
def _without_echo(descriptor: int) -> Iterator[None]:
    """Let letters through as they come and unseen; Ctrl-C still interrupts."""
    before = termios.tcgetattr(descriptor)
    hidden = termios.tcgetattr(descriptor)
    hidden[3] &= ~(termios.ICANON | termios.ECHO | termios.ECHONL)
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _line(descriptor: int) -> bytes | None:
    line = bytearray()
    while True:
        chunk = os.read(descriptor, 1_024)
        if not chunk:
            return None
        for byte in chunk:
            if byte in ENTER:
                return bytes(line)
            if byte == END_OF_INPUT and not line:
                return None
            if byte in ERASE:
                del line[-1:]
            elif byte == ERASE_LINE:
                line.clear()
            elif len(line) <= MAX_LINE:
                line.append(byte)


def _checked(line: bytes) -> str:
    text = line.decode("ascii", "replace").strip()
    if len(line) > MAX_LINE or not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
        raise LocalError("input_invalid", "what was entered is too long, or holds letters that no address has")
    return text
