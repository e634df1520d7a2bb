"""``token-broker check``: find every mistake in a configuration, and start nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from broker.cli.environment import config_path, credentials_directory, environment
from broker.cli.exits import DONE, WRONG_USAGE, explain, say
from broker.errors import BrokerError, LocalError

EPILOG = """\
Without --syntax the certificates and keys are loaded, too: do they belong together, are they in time, are
they readable by nobody else? Run it as the user that the daemon runs as.
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    from broker.config.load import ConfigurationError, load_settings  # noqa: PLC0415 - only when chosen

    variables = environment()
    try:
        path = config_path(arguments.config, variables)
        settings = load_settings(path, credentials_directory=credentials_directory(variables))
        for warning in settings.warnings:
            say(f"warning: {warning}")
        if not arguments.syntax:
            _check_files(settings)
    except ConfigurationError as error:
        tell_problems(error)
        return WRONG_USAGE
    except BrokerError as error:
        explain(error)
        return WRONG_USAGE
    print(f"{path}: good: {len(settings.tokens)} token(s), {len(settings.listeners)} listener(s)")
    return DONE


def tell_problems(error: Any) -> None:
    """Print every problem of a configuration: its place, what is wrong, what to do."""
    for problem in error.problems:
        say(str(problem))
    if not error.problems:
        explain(error)
    else:
        say(f"{len(error.problems)} problem(s); nothing was started")


def _check_files(settings: Any) -> None:
    """Load what the configuration names. Raises LocalError for the first that is wrong, after telling the others."""
    from broker.hostenv.clock import SystemClock  # noqa: PLC0415 - only when chosen
    from broker.wiring import load_identities  # noqa: PLC0415 - only when chosen

    errors: list[LocalError] = []
    load_identities(settings, wall_now=SystemClock().wall(), on_error=errors.append)
    for error in errors[:-1]:
        explain(error)
    if errors:
        raise errors[-1]
