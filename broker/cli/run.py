"""``token-broker run``: run the daemon until it is told to stop."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from broker.cli.check import load, load_files
from broker.cli.environment import authorities_unseen, credentials_directory, environment, forget
from broker.cli.exits import IN_USE, WRONG_USAGE, explain

EPILOG = """\
Logs are JSON lines on standard error; what keeps it from starting is said in plain ones.
SIGTERM and SIGINT drain and stop it, a second one stops it at once; SIGHUP loads
the configuration again, and reopens the audit file; one with mistakes changes nothing.
Exit code 3: another broker holds the state directory; its process is named.
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
    """Load the configuration and the files it names, and run until a signal."""
    with authorities_unseen():
        from broker.daemon.process import hold_signals, run_daemon  # noqa: PLC0415 - only when chosen
        from broker.hostenv.activation import inherit  # noqa: PLC0415 - only when chosen
        from broker.hostenv.hardening import harden, require_linux  # noqa: PLC0415 - only when chosen
        from broker.hostenv.state_dir import StateDirInUseError  # noqa: PLC0415 - only when chosen
        from broker.hostenv.supervision import VARIABLES, supervision_of  # noqa: PLC0415 - only when chosen
        from broker.wiring.listening import socket_paths  # noqa: PLC0415 - only when chosen

    hold_signals()
    require_linux()
    harden()  # before the first key is read
    settings, code = load(arguments.config, warn=False)  # they are in the log
    if settings is None:
        return code
    identities, code = load_files(settings)
    if identities is None:
        return code
    supervision = supervision_of(environment(), os.getpid())
    forget(VARIABLES)
    sockets, unfit = inherit(supervision.inherited, socket_paths(settings))
    for error in unfit:
        explain(error)
    if unfit:
        return WRONG_USAGE
    credentials = credentials_directory(environment())
    try:
        return run_daemon(
            settings,
            identities,
            log_stream=sys.stderr,
            credentials_directory=credentials,
            supervision=supervision,
            inherited=sockets,
        )
    except StateDirInUseError as error:
        explain(error)
        return IN_USE
