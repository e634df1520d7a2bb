"""
``token-broker health``: one question for a probe, and an exit code.

A probe runs every few seconds in every pod: this starts an interpreter each time, and so it imports nothing but the
client of the standard library, prints nothing when all is well, and says why in one line when not.
"""

from __future__ import annotations

import argparse
import http.client
from typing import Any
from urllib.parse import quote

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, FAILED, say
from broker.cli.local_client import TIMEOUT_MARGIN, DaemonError, request_json
from broker.cli.tables import plain
from broker.errors import BrokerError

ALL = ""
"""For ``--ready`` without a name, which no token can have."""

EPILOG = """\
Without --ready it asks whether the socket is served, and nothing else: an authorization server that fails is
no reason to start a broker again. With --ready it asks whether every required token can be served, or one.

exit codes:
  0  yes, and nothing is printed
  1  no, cannot be reached, or no answer within 5 s; one line says why

examples:
  token-broker health
  token-broker health --ready
  token-broker health --ready directory
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "health",
        help="exit 0 if the daemon serves, for probes",
        description="Ask the daemon whether it serves, or whether it is ready.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.add_argument(
        "--ready", nargs="?", const=ALL, metavar="NAME", help="whether all required tokens are there, or this one"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask; silent if the answer is good."""
    try:
        request_json(socket_path(arguments.socket, environment()), target(arguments.ready), timeout=TIMEOUT_MARGIN)
    except BrokerError as error:
        say(plain(f"{message_of(error, arguments.ready)} [{error.code}]"))
        return FAILED
    return DONE


def target(ready: str | None) -> str:
    """Give the route to ask: None is for liveness, a name for the readiness of that token."""
    if ready is None:
        return "/livez"
    return "/readyz" if ready == ALL else f"/readyz/{quote(ready, safe='')}"


def message_of(error: BrokerError, ready: str | None) -> str:
    """Say what is wrong to whoever asked for *ready*: with the token's name, or the reason, where there is one."""
    if not isinstance(error, DaemonError):
        return error.message
    if ready and error.status == http.client.NOT_FOUND:
        return f"there is no token {ready}, or it is not for you"
    return error.message if error.reason is None else f"{error.message}: {error.reason}"
