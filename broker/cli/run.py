"""``token-broker run``: run the daemon until it is told to stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from broker.cli.check import tell_problems
from broker.cli.environment import config_path, credentials_directory, environment
from broker.cli.exits import WRONG_USAGE, explain, say
from broker.errors import BrokerError

EPILOG = """\
Logs are JSON lines on standard error. SIGTERM and SIGINT drain and stop it; SIGHUP reopens the audit file.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run the daemon",
        description="Run the daemon in the foreground.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file (default: TOKEN_BROKER_CONFIG)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load the configuration and run until a signal."""
    from broker.config.load import ConfigurationError, load_settings  # noqa: PLC0415 - only when chosen
    from broker.daemon.process import run_daemon  # noqa: PLC0415 - only when chosen
    from broker.hostenv.hardening import harden, require_linux  # noqa: PLC0415 - only when chosen

    variables = environment()
    try:
        require_linux()
        harden()
        path = config_path(arguments.config, variables)
        settings = load_settings(path, credentials_directory=credentials_directory(variables))
    except ConfigurationError as error:
        tell_problems(error)
        return WRONG_USAGE
    except BrokerError as error:
        explain(error)
        return WRONG_USAGE
    for warning in settings.warnings:
        say(f"warning: {warning}")
    return run_daemon(settings, log_stream=sys.stderr)
