"""
The command line: ``token-broker``.

A command starts in tens of milliseconds: this package imports a command's own machinery only once that
command is chosen. It is the only package that reads the environment, prints, or turns an error into an
exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from broker import __version__
from broker.cli.exits import FAILED, INTERRUPTED, WRONG_USAGE, explain
from broker.errors import BrokerError

DESCRIPTION = """\
A daemon that stands beside a workload, owns its certificate and its signing keys, gets OAuth access
tokens with them, keeps the tokens fresh, and serves them on a Unix socket.
"""

EPILOG = """\
first steps:
  token-broker demo                       see it work, with a server of its own
  token-broker init --issuer URL          write a first configuration
  token-broker check --config FILE        find every mistake in a configuration
  token-broker run --config FILE          run the daemon
  token-broker token NAME                 print a token, as a workload would get it
  token-broker status                     show the state of all tokens
  token-broker doctor                     find out what is wrong, and what to do
  token-broker login NAME                 give a consent in a browser, where a token needs one

environment:
  TOKEN_BROKER_CONFIG   the configuration file, where --config is not given
  TOKEN_BROKER_SOCKET   the socket of the daemon (unix:///path), where --socket is not given; or
                        http://127.0.0.1:PORT with TOKEN_BROKER_SECRET_FILE, the secret file of the listener

exit codes:
  0 done   1 failed   2 wrong usage or configuration   3 state directory in use   130 interrupted
"""


COMMANDS = (
    "init",
    "run",
    "check",
    "token",
    "status",
    "health",
    "doctor",
    "login",
    "grants",
    "rotate",
    "key",
    "csr",
    "audit",
    "store",
    "keygen",
    "version",
    "sandbox",
    "demo",
)
"""In the order of the help; each is a module of this package."""


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Make the parser of these commands; only their modules are imported."""
    root = argparse.ArgumentParser(
        prog="token-broker",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"token-broker {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        import_module(f"{__name__}.{name}").add_parser(commands)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; give its exit code."""
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser().print_help(sys.stderr)
        return WRONG_USAGE
    # The help of all commands needs all of them; a command only itself, and to import the others takes longer than it.
    arguments = parser(given[:1] if given[0] in COMMANDS else COMMANDS).parse_args(given)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except BrokerError as error:
        explain(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nothing more to tell, and no traceback at exit
        return FAILED
