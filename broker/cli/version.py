"""``token-broker version``: what this is and what it runs on, for a report of a problem."""

from __future__ import annotations

import argparse
import platform
import ssl
from importlib.metadata import version
from typing import Any

from broker import __version__
from broker.cli.exits import DONE

PACKAGES = ("aiohttp", "joserfc", "cryptography", "prometheus-client", "structlog", "tenacity", "cattrs")


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "version",
        help="print the versions of the broker and of what it runs on",
        description="Print the versions of the broker, Python, OpenSSL and the packages it uses.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print the versions."""
    print(f"token-broker {__version__}")
    print(f"python {platform.python_version()}, {ssl.OPENSSL_VERSION}")
    print(", ".join(f"{package} {version(package)}" for package in PACKAGES))
    return DONE
