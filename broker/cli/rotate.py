"""
``token-broker rotate``: have the daemon look at the files of certificates and keys now.

It does so by itself every ten seconds; this is for whoever wants to know at once what came of it, and for
certificates and keys that are in wrong hands.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, FAILED, say
from broker.cli.local_client import request_json
from broker.cli.tables import plain
from broker.errors import LocalError

TIMEOUT = 60.0
"""Seconds: files are read, keys checked and connections prepared, which takes a second of a busy machine."""

EPILOG = """\
The daemon compares the content of all files that its configuration names with what is in use, and puts to use
what is new and good. It does so every ten seconds anyway. What cannot be used changes nothing.

--compromised is for a certificate or key that is in wrong hands: put new files in its place first. Nothing that
was in use before is used from then on: tokens that are bound to the old certificate are not served any more, and
are fetched anew at once; nothing is signed with the old key, and it is published no longer. Have it revoked, too:
whoever has it can use it with the server as long as that takes it.

For root and the user of the daemon.

exit codes:
  0  done
  1  new files cannot be used, or nothing older was in use of what is compromised, or no daemon was reached

examples:
  token-broker rotate
  token-broker rotate --compromised transport
  token-broker rotate --compromised key.signing --compromised certificate.transport
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rotate",
        help="put new certificates and keys to use now",
        description="Have the daemon look at the files of certificates and keys now, and say what came of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--compromised",
        action="append",
        default=[],
        metavar="NAME",
        help="drop what was in use before of this certificate or key: NAME, certificate.NAME or key.NAME",
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: TOKEN_BROKER_SOCKET)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask for a look, and print what came of it."""
    daemon = socket_path(arguments.socket, environment())
    body = {"compromised": arguments.compromised} if arguments.compromised else {}
    answer = request_json(daemon, "/v1/rotate", method="POST", body=body, timeout=TIMEOUT)
    try:
        rotated, refused, dropped = _strings(answer["rotated"]), answer["refused"], _strings(answer["dropped"])
        problems = [(plain(str(one["item"])), plain(str(one["reason"])), plain(str(one["problem"]))) for one in refused]
    except (KeyError, TypeError):
        raise LocalError("not_a_broker", "the daemon answers what this command does not understand") from None
    for item in rotated:
        print(f"{item}: new, and in use")
    for item in dropped:
        print(f"{item}: nothing older is used any more")
    if not rotated and not problems and not dropped:
        print("nothing is new")
    for item, reason, problem in problems:
        say(f"{item}: {problem} [{reason}]")
    missing = [name for name in dict.fromkeys(arguments.compromised) if not _is_among(dropped, name)]
    for name in missing:
        say(f"{name}: nothing older was in use of what is compromised: put new files in its place first")
    return FAILED if problems or missing else DONE


def _is_among(items: Sequence[str], name: str) -> bool:
    """Say whether *name*, with its kind or without where the daemon found it clear, is one of *items*."""
    return any(name in (item, item.partition(".")[2]) for item in items)


def _strings(values: Sequence[object] | Mapping[str, object]) -> list[str]:
    return [plain(str(value)) for value in values]
