"""
``token-broker grants``: the consents that people gave, and what can be done about one of them.

It asks over the daemon's socket like any other caller and sees what that caller may see.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from broker.cli import local_consents as consents
from broker.cli.environment import environment, socket_path
from broker.cli.exits import DONE, say
from broker.cli.local_client import Daemon
from broker.cli.local_consents import ListedGrant
from broker.cli.tables import NOTHING, STATE_COLORS, duration, folded, has_colors, plain, table

HEADINGS = ("GRANT", "TOKEN", "STATE", "PERSON", "LABEL", "OWNER", "EXPIRES IN", "CONSENT ENDS IN", "REASON")

STATES = ("fresh", "stale", "pending", "unavailable", "consent_required")
"""Those of the local API (docs/reference/api.md)."""

DOUBTFUL = "?"
"""Behind a person that no ID token names."""

EPILOG = """\
Without a subcommand the grants are listed, and the options of `list` may stand here.

states:
  fresh, stale, pending, unavailable   as in `token-broker status`
  consent_required                     ended: only the person can renew it (token-broker login NAME --grant ID)

A person with a ? behind it is not verified. What you may see and do is decided by the workload sections of
the configuration; retry and reassign are for root and the user of the daemon.

examples:
  token-broker grants
  token-broker grants --state consent_required --json | jq -r '.grants[].id'
  token-broker grants retry ID          # the server said it was over, and was wrong
  token-broker grants revoke ID         # not to be undone
  token-broker grants reassign ID app   # the workload that started it is called otherwise now
"""


def add_parser(commands: Any) -> None:
    """Add the command with its subcommands."""
    parser = commands.add_parser(
        "grants",
        help="list consents, try one again, give one up",
        description="Show the consents that people gave, and do something about one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run_list, token=None, subject=None, state=None, json=False, socket=None)
    _add_filters(parser)
    _add_socket(parser)
    kinds = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND")
    listing = _subcommand(kinds, "list", "list the grants that you may see", run_list)
    _add_filters(listing)
    retry = _subcommand(kinds, "retry", "try a grant again, whatever was found of it", run_retry)
    retry.add_argument("grant", metavar="ID", help="the grant")
    revoke = _subcommand(kinds, "revoke", "give a grant up, and have the server revoke it", run_revoke)
    revoke.add_argument("grant", metavar="ID", help="the grant")
    reassign = _subcommand(kinds, "reassign", "make a grant that of another workload", run_reassign)
    reassign.add_argument("grant", metavar="ID", help="the grant")
    reassign.add_argument("owner", metavar="WORKLOAD", help="the name of a [workload.NAME] section of the daemon")


def _subcommand(kinds: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=what, description=what, allow_abbrev=False)
    _add_socket(parser)
    parser.set_defaults(run=run)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options of the list. Nothing is their default, so that a subcommand leaves what stands before it."""
    nothing = argparse.SUPPRESS
    parser.add_argument("--token", metavar="NAME", default=nothing, help="only those of this token")
    parser.add_argument(
        "--subject", metavar="SUBJECT", default=nothing, help="only those of this person, as the server names it"
    )
    of_state = f"only those in this state: {', '.join(STATES)}"
    parser.add_argument("--state", metavar="STATE", default=nothing, choices=STATES, help=of_state)
    parser.add_argument("--json", action="store_true", default=nothing, help="print JSON instead of a table")


def _add_socket(parser: argparse.ArgumentParser) -> None:
    help_text = "the daemon's socket (default: TOKEN_BROKER_SOCKET)"
    parser.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=help_text)


def run_list(arguments: argparse.Namespace) -> int:
    """Print the grants."""
    found = consents.grants_of(_daemon(arguments), token=arguments.token, subject=arguments.subject)
    grants = sorted(
        (grant for grant in found if arguments.state in {None, grant.state}),
        key=lambda grant: (grant.token, grant.created_at or 0, grant.id),
    )
    if arguments.json:
        print(json.dumps({"grants": [asdict(grant) for grant in grants]}, indent=2))
        return DONE
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    print(as_table(grants, colors=has_colors(environment(), is_terminal=is_terminal), width=width))
    return DONE


def run_retry(arguments: argparse.Namespace) -> int:
    """Have a grant tried again."""
    consents.retry(_daemon(arguments), arguments.grant)
    say("It is tried again now; token-broker grants shows what comes of it.")
    return DONE


def run_revoke(arguments: argparse.Namespace) -> int:
    """Give a grant up."""
    revoked = consents.revoke(_daemon(arguments), arguments.grant)
    if revoked is None:
        say("It is served no more. The server has not confirmed that it is revoked; the broker goes on asking it.")
    elif revoked:
        say("It is served no more, and revoked at the server.")
    else:
        say("It is served no more. The server cannot revoke it: what it has issued ends by itself.")
    return DONE


def run_reassign(arguments: argparse.Namespace) -> int:
    """Make a grant that of another workload."""
    consents.reassign(_daemon(arguments), arguments.grant, arguments.owner)
    say(f"It belongs to the workload {arguments.owner} now.")
    return DONE


def as_table(grants: Sequence[ListedGrant], *, colors: bool, width: int | None = None) -> str:
    """Write *grants* for a person; sentences are broken at *width* columns, rows never."""
    if not grants:
        return "no grant that you may see"
    rows = [HEADINGS, *(_row(grant) for grant in grants)]
    lines = table(rows, column=HEADINGS.index("STATE"), colors=STATE_COLORS if colors else {})
    for grant in grants:
        if grant.hint is not None:
            lines += folded(f"{plain(grant.id)}: {plain(grant.hint)}", width)
    return "\n".join(lines)


def _row(grant: ListedGrant) -> tuple[str, ...]:
    person = NOTHING if grant.subject is None else plain(grant.subject)
    return (
        plain(grant.id),
        plain(grant.token),
        plain(grant.state),
        person if grant.subject is None or grant.subject_verified else person + DOUBTFUL,
        NOTHING if grant.label is None else plain(grant.label),
        plain(grant.owner),
        duration(grant.expires_in),
        duration(grant.consent_expires_in),
        NOTHING if grant.reason is None else plain(grant.reason),
    )


def _daemon(arguments: argparse.Namespace) -> Daemon:
    return socket_path(arguments.socket, environment())
