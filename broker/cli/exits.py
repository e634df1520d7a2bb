"""Exit codes, and how an error is told to a person: one line on standard error, and what to do."""

from __future__ import annotations

import sys

from broker.cli.tables import plain
from broker.errors import BrokerError

DONE = 0
FAILED = 1
WRONG_USAGE = 2
"""As argparse: a mistake in the arguments or in the configuration."""
IN_USE = 3
"""Another broker holds the state directory."""
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def explain(error: BrokerError) -> None:
    """Say what is wrong and, where it is known, what to do."""
    say(line_of(error))
    if error.hint is not None:
        say("  " + "\n".join(map(plain, error.hint.split("\n"))))


def line_of(error: BrokerError) -> str:
    """Give the line that says what is wrong, which cannot steer a terminal: a path in it may be anything."""
    return plain(f"{error.message} [{error.code}]")


def say(line: str) -> None:
    """Write a line for a person to standard error, after all that was printed: both may go to the same file."""
    sys.stdout.flush()
    print(line, file=sys.stderr)
