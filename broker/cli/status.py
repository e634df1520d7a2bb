"""
``token-broker status``: what the daemon has, and what keeps it from having the rest.

It asks over the daemon's socket like any other caller and sees what that caller may see. What it is told is
shown as text: nothing that could steer a terminal gets through.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, FAILED
from broker.cli.local_client import Status, TokenState, get_status

HEADINGS = ("TOKEN", "STATE", "REQUIRED", "EXPIRES IN", "NEXT TRY IN", "REASON")

STATE_COLUMN = HEADINGS.index("STATE")

NOTHING = "-"

MIN_WIDTH = 40
"""Columns of a terminal from which on sentences are broken at its edge; a narrower one does it itself."""

COLORS = {"fresh": "32", "stale": "33", "idle": "36", "pending": "36", "unavailable": "31"}
"""The states' colors, as SGR parameters (ECMA-48): green, yellow, cyan, cyan, red."""

EPILOG = """\
states:
  fresh         good
  stale         good, but it should have been refreshed by now
  idle          none, it is fetched for the next caller
  pending       none yet, the first request is under way
  unavailable   none, and the last request failed: see the reason and the hint

You see the tokens that you may use; root and the user of the daemon see all. Colors are used on a terminal
that has them, and not with NO_COLOR or TERM=dumb.

exit codes:
  0  ready: every required token can be served
  1  not ready, or the daemon cannot be reached, or it refuses you

examples:
  token-broker status
  token-broker status --json | jq -r '.tokens[] | select(.state != "fresh") | .name'
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "status",
        help="show the state of the tokens",
        description="Ask the daemon for the state of its tokens; exit 1 if it is not ready.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    variables = environment()
    status = get_status(socket_path(arguments.socket, variables))
    if arguments.json:
        print(as_json(status))
    else:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        print(as_table(status, colors=has_colors(variables, is_terminal=is_terminal), width=width))
    return DONE if status.ready else FAILED


def has_colors(variables: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Say whether standard output shows colors (https://no-color.org: any value but an empty one forbids them)."""
    return is_terminal and not variables.get("NO_COLOR") and variables.get("TERM", "dumb") != "dumb"


def as_json(status: Status) -> str:
    """Write *status* as one JSON object, in ASCII; what is not known is null."""
    tokens = [
        {
            "name": token.name,
            "state": token.state,
            "required": token.required,
            "expires_in": token.expires_in,
            "retry_in": token.retry_in,
            "reason": token.reason,
            "hint": token.hint,
        }
        for token in status.tokens
    ]
    members = {
        "ready": status.ready,
        "tokens": tokens,
        "sandbox": list(status.sandboxes),
        "restart": list(status.restart),
    }
    return json.dumps(members, indent=2)


def as_table(status: Status, *, colors: bool, width: int | None = None) -> str:
    """Write *status* for a person; sentences are broken at *width* columns, rows never."""
    rows = [HEADINGS, *(_row(token) for token in status.tokens)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_line(row, widths, colors=colors) for row in rows]
    for token in status.tokens:
        if token.hint is not None:
            lines += _folded(f"{_plain(token.name)}: {_plain(token.hint)}", width)
    if not status.tokens:
        lines = ["no token that you may see"]
    if status.sandboxes:
        lines.append(f"SANDBOX, tokens worth nothing: {', '.join(map(_plain, status.sandboxes))}")
    if status.restart:
        lines.append(f"restart pending: changes of {', '.join(map(_plain, status.restart))} wait for one")
    lines.append("ready" if status.ready else "NOT READY")
    return "\n".join(lines)


def _row(token: TokenState) -> tuple[str, ...]:
    return (
        _plain(token.name),
        _plain(token.state),
        NOTHING if token.required is None else ("yes" if token.required else "no"),
        _duration(token.expires_in),
        _duration(token.retry_in),
        NOTHING if token.reason is None else _plain(token.reason),
    )


def _line(row: Sequence[str], widths: Sequence[int], *, colors: bool) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    line = "  ".join(cells).rstrip()
    color = COLORS.get(row[STATE_COLUMN])
    if not colors or color is None:
        return line
    begin = sum(len(cell) + 2 for cell in cells[:STATE_COLUMN])
    end = begin + len(row[STATE_COLUMN])
    return f"{line[:begin]}\x1b[{color}m{line[begin:end]}\x1b[0m{line[end:]}"


def _folded(line: str, width: int | None) -> list[str]:
    """Break a sentence between words; not where it would be a column of words."""
    if width is None or width < MIN_WIDTH:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _duration(seconds: int | None) -> str:
    """Write whole seconds with the two largest units that matter."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
