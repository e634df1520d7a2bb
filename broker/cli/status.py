"""
``token-broker status``: what the daemon has, and what keeps it from having the rest.

It asks over the daemon's socket like any other caller and sees what that caller may see.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, FAILED, WRONG_USAGE, say
from broker.cli.local_client import get_status
from broker.cli.status_view import as_json, as_table
from broker.cli.tables import has_colors

INTERVALS = range(1, 3_601)
"""Seconds between two looks of ``--watch``."""

DEFAULT_INTERVAL = 2
"""Seconds: soon enough for a person who waits, and a request that costs the daemon nothing to speak of."""

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

With --watch the table stays on the screen and is asked for again and again, also while the daemon is away;
what does not fit is counted, the good ones last. Ctrl-C ends it. In a pipe, or with TERM=dumb, each change is
a line with its time instead; with --json each change is a line with an object.

exit codes:
  0    ready: every required token can be served
  1    not ready, or the daemon cannot be reached, or it refuses you
  130  --watch was ended by Ctrl-C

examples:
  token-broker status
  token-broker status --watch
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
    parser.add_argument("--watch", action="store_true", help="go on, and show every change")
    parser.add_argument(
        "--interval", type=_interval, metavar="SECONDS", help=f"between two looks of --watch ({DEFAULT_INTERVAL})"
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    variables = environment()
    daemon = socket_path(arguments.socket, variables)
    if arguments.watch:
        from broker.cli.watch import watch  # noqa: PLC0415 - only when chosen

        interval = DEFAULT_INTERVAL if arguments.interval is None else arguments.interval
        watch(daemon, interval=interval, variables=variables, in_json=arguments.json)
    if arguments.interval is not None:
        say("--interval goes with --watch")
        return WRONG_USAGE
    status = get_status(daemon)
    if arguments.json:
        print(as_json(status))
    else:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        print(as_table(status, colors=has_colors(variables, is_terminal=is_terminal), width=width))
    return DONE if status.ready else FAILED


def _interval(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) in INTERVALS):
        raise argparse.ArgumentTypeError(f"must be a whole number of seconds from 1 to {INTERVALS[-1]}")
    return int(text)
