"""``token-broker token NAME``: print an access token, as a workload would get it."""

from __future__ import annotations

import argparse
from typing import Any

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, WRONG_USAGE, say
from broker.cli.local_client import get_grant_token, get_token, refresh_token

EPILOG = """\
The daemon decides by your uid and gid whether you may have the token; every answer is in its audit log.

examples:
  token-broker token directory --header | curl -H @- ...     # keeps the token out of the process table
  token-broker token --grant ID --header | curl -H @- ...       # where a token has a grant for each person
  token-broker token directory --refresh                     # replaces one that was rejected somewhere
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "token",
        help="print an access token",
        description="Ask the daemon for an access token and print it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", metavar="NAME", nargs="?", help="the name of a [token.NAME] section of the daemon")
    which.add_argument("--grant", metavar="ID", help="the token of this grant, instead of NAME (see: grants list)")
    parser.add_argument("--header", action="store_true", help="print a whole Authorization header")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.add_argument("--min-valid", type=int, metavar="SECONDS", help="how long it has to be valid at least")
    parser.add_argument("--wait", type=int, metavar="SECONDS", help="how long to wait for a token at most (10)")
    parser.add_argument("--refresh", action="store_true", help="have the token replaced before its time first")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the token."""
    path = socket_path(arguments.socket, environment())
    if arguments.grant is not None:
        if arguments.refresh:
            say("--refresh goes with the NAME of a token, and not with --grant")
            return WRONG_USAGE
        token = get_grant_token(path, arguments.grant, min_valid=arguments.min_valid, wait=arguments.wait)
    elif not arguments.refresh:
        token = get_token(path, arguments.name, min_valid=arguments.min_valid, wait=arguments.wait)
    elif arguments.min_valid is not None or arguments.wait is not None:
        say("--refresh goes with neither --min-valid nor --wait: the daemon waits 10 s for a new token at most")
        return WRONG_USAGE
    else:
        token = refresh_token(path, arguments.name)
        if token.stale:
            say("no other token could be had; this is the one that there was")
    print(f"Authorization: {token.token_type} {token.access_token}" if arguments.header else token.access_token)
    return DONE
