"""``token-broker check``: find every mistake in a configuration, and start nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.environment import config_path, credentials_directory, environment
from broker.cli.exits import DONE, WRONG_USAGE, explain, say
from broker.errors import BrokerError, LocalError

if TYPE_CHECKING:
    from broker.config.load import ConfigurationError
    from broker.config.settings import Settings
    from broker.wiring import Identities

ANY_DIRECTORY = Path("/run/credentials")
"""Stands for the directory of credentials where none of them will be opened."""

EPILOG = """\
With --syntax the file alone is looked at: users and groups that it names need not be there.

Without --syntax the certificates and keys are loaded, too: do they belong together, are they in time, are
they readable by nobody else? And the directories of sockets, secrets, token files and state are looked at:
could anybody else put something there? Run it as the user that the daemon runs as.

With --online each issuer's metadata is fetched, too, exactly as the daemon fetches it, and compared with the
configuration: reachable and trusted, the same issuer, hosts to list, authentication methods, algorithms,
grants, certificate binding, the clocks, the certificates' last days. No token is asked for.

exit codes:
  0  good   2  something is wrong, or a server disagrees
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="find every mistake in a configuration",
        description="Check a configuration and say what is wrong, all of it at once; exit 2 if anything is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file (default: TOKEN_BROKER_CONFIG)")
    parser.add_argument("--syntax", action="store_true", help="the file alone: open no certificate and no key")
    parser.add_argument("--online", action="store_true", help="ask the servers, too, and name every disagreement")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    if arguments.online and arguments.syntax:
        say("--syntax opens no certificate, and --online needs them: choose one")
        return WRONG_USAGE
    settings, code = load(arguments.config, syntax=arguments.syntax)
    if settings is None:
        return code
    if not arguments.syntax:
        identities, code = load_files(settings)
        if identities is None:
            return code
        if not _places_are_safe(settings):
            return WRONG_USAGE
        if arguments.online and not _agrees_online(settings, identities):
            return WRONG_USAGE
    print(f"{settings.path}: good: {len(settings.tokens)} token(s), {len(settings.listeners)} listener(s)")
    return DONE


def _places_are_safe(settings: Settings) -> bool:
    """Say what is wrong with the directories of sockets, secrets and the state, as far as they are there."""
    from broker.wiring.listening import unsafe_places  # noqa: PLC0415 - only when chosen
    from broker.wiring.sinking import unsafe_sinks  # noqa: PLC0415 - only when chosen

    unsafe = [*unsafe_places(settings), *unsafe_sinks(settings)]
    for error in unsafe:
        explain(error)
    return not unsafe


def _agrees_online(settings: Settings, identities: Identities) -> bool:
    """Ask all servers; print what is worth knowing, and say what is wrong. Tells whether nothing is."""
    from broker.cli.online import compare  # noqa: PLC0415 - only when chosen

    findings = compare(settings, identities)
    for finding in findings:
        if finding.wrong:
            say(f"{finding.place}: {finding.text}")
        else:
            print(f"{finding.place}: {finding.text}")
    wrong = sum(finding.wrong for finding in findings)
    if wrong:
        say(f"{wrong} disagreement(s)")
    return not wrong


def load(given: Path | None, *, syntax: bool = False, warn: bool = True) -> tuple[Settings | None, int]:
    """
    Load the configuration that is meant; say what is wrong with it, and with *warn* what looks wrong.

    For the *syntax* alone it does not matter that credentials are there only under the service manager, nor which
    users and groups this host has.
    """
    from broker.config.accounts import AnyAccounts  # noqa: PLC0415 - only when chosen
    from broker.config.load import ConfigurationError, load_settings  # noqa: PLC0415 - only when chosen

    variables = environment()
    try:
        path = config_path(given, variables)
        credentials = credentials_directory(variables) or (ANY_DIRECTORY if syntax else None)
        settings = load_settings(path, credentials_directory=credentials, accounts=AnyAccounts() if syntax else None)
    except ConfigurationError as error:
        tell_problems(path, error)
        return None, WRONG_USAGE
    except BrokerError as error:
        explain(error)
        return None, WRONG_USAGE
    for warning in settings.warnings if warn else ():
        say(f"warning: {warning}")
    return settings, DONE


def load_files(settings: Settings) -> tuple[Identities | None, int]:
    """Load the certificates and keys that the configuration names; say all that is wrong with them."""
    from broker.hostenv.clock import SystemClock  # noqa: PLC0415 - only when chosen
    from broker.wiring import load_identities  # noqa: PLC0415 - only when chosen

    errors: list[LocalError] = []
    identities = load_identities(settings, wall_now=SystemClock().wall(), on_error=errors.append)
    for error in errors:
        explain(error)
    return (None, WRONG_USAGE) if errors else (identities, DONE)


def tell_problems(path: Path, error: ConfigurationError) -> None:
    """Print every problem of a configuration: its place, what is wrong, what to do."""
    if not error.problems:
        explain(error)
        return
    for problem in error.problems:
        say(str(problem))
    say(f"{path}: {len(error.problems)} problem(s); nothing was started")
