from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from broker.cli.hidden_input import MAX_LINE

SCRIPT = """
from broker.cli.hidden_input import read_hidden
from broker.errors import LocalError
try:
    line = read_hidden("paste: ")
    print("none" if line is None else f"{len(line)} {line[-5:]}", flush=True)
except LocalError as error:
    print(error.code, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def typed(keys: bytes) -> str:
    """Give what a terminal shows while *keys* are typed into it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT])
    shown = b""
    deadline = time.monotonic() + 20
    is_asked = False
    while time.monotonic() < deadline:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # EIO: the other side is closed
            break
        shown += chunk
        if b"paste: " in shown and not is_asked:
            is_asked = True
            time.sleep(0.05)  # the echo goes off just after the prompt, and throws away what was typed before
            for begin in range(0, len(keys), 1_000):
                os.write(terminal, keys[begin : begin + 1_000])
                time.sleep(0.005)
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("keys", "last"),
    [
        (b"https://app.example/callback?code=secret\n", "40 ecret"),
        (b"  https://app.example/?code=secret  \r", "32 ecret"),
        (b"wrong\x15sec\x7f\x08ecret\n", "6 ecret"),
        (b"x" * 10_000 + b"ended\n", "10005 ended"),
        (b"\x04", "none"),
        (b"\x03", "interrupted"),
        (b"x" * (MAX_LINE + 1) + b"\n", "input_invalid"),
        (b"a\x1b[31mb\n", "input_invalid"),
        (b"\xc3\xa9\n", "input_invalid"),
    ],
)
def test_a_line_of_any_length_is_read_and_not_shown(keys: bytes, last: str):
    """The terminal itself would cut it at 4,095 bytes."""
    assert typed(keys) == f"paste: \n{last}\n" if last != "interrupted" else f"paste: {last}\n"


@pytest.mark.real_time
@pytest.mark.parametrize(("line", "said"), [("https://a.example/?code=c\n", "25 ode=c\n"), ("", "none\n")])
def test_without_a_terminal_the_line_comes_from_standard_input(line: str, said: str):
    """For a script that has the address already."""
    result = subprocess.run([sys.executable, "-c", SCRIPT], input=line, capture_output=True, text=True, check=True)

    assert result.stdout == said
