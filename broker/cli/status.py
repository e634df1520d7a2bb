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
from typing import Any

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, FAILED
from broker.cli.local_client import Status, TokenState, get_status
from broker.cli.tables import NOTHING, STATE_COLORS, duration, folded, has_colors, plain, table

HEADINGS = ("TOKEN", "STATE", "REQUIRED", "EXPIRES IN", "NEXT TRY IN", "REASON")


EPILOG = """\
states:
  fresh         good
  stale         good, but it should have been refreshed by now
  idle          none, it is fetched for the next caller
  pending       none yet, the first request is under way
  unavailable   none, and the last request failed: see the reason and the hint
  consent_required
                none, and only a person can change that: token-broker login NAME

A token with a grant for each person is fresh while one of them at least can be served.

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
            "grants": token.grants,
        }
        for token in status.tokens
    ]
    members = {
        "ready": status.ready,
        "tokens": tokens,
        "sandbox": list(status.sandboxes),
        "restart": list(status.restart),
        "reload_refused": status.reload_refused,
    }
    return json.dumps(members, indent=2)


def as_table(status: Status, *, colors: bool, width: int | None = None) -> str:
    """Write *status* for a person; sentences are broken at *width* columns, rows never."""
    rows = [HEADINGS, *(_row(token) for token in status.tokens)]
    lines = table(rows, column=HEADINGS.index("STATE"), colors=STATE_COLORS if colors else {})
    for token in status.tokens:
        if token.hint is not None:
            lines += folded(f"{plain(token.name)}: {plain(token.hint)}", width)
        if token.grants is not None:
            how = f"{token.grants} grant(s), each with a state of its own: token-broker grants list --token"
            lines += folded(f"{plain(token.name)}: {how} {plain(token.name)}", width)
    if not status.tokens:
        lines = ["no token that you may see"]
    if status.sandboxes:
        lines.append(f"SANDBOX, tokens worth nothing: {', '.join(map(plain, status.sandboxes))}")
    if status.restart:
        lines.append(f"restart pending: changes of {', '.join(map(plain, status.restart))} wait for one")
    if status.reload_refused:
        lines.append("the last reload was refused (see the log): old configuration in force")
    lines.append("ready" if status.ready else "NOT READY")
    return "\n".join(lines)


def _row(token: TokenState) -> tuple[str, ...]:
    return (
        plain(token.name),
        plain(token.state),
        NOTHING if token.required is None else ("yes" if token.required else "no"),
        duration(token.expires_in),
        duration(token.retry_in),
        NOTHING if token.reason is None else plain(token.reason),
    )
