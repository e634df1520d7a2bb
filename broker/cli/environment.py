"""What the command line takes from the environment: paths, never secrets. The only reader of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from broker.errors import LocalError

CONFIG = "TOKEN_BROKER_CONFIG"
SOCKET = "TOKEN_BROKER_SOCKET"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Set by systemd for a unit with LoadCredential."""

DEFAULT_SOCKET = Path("/run/token-broker/api.sock")
SCHEME = "unix://"


def environment() -> Mapping[str, str]:
    """Give the process's environment."""
    return os.environ  # noqa: TID251 - this is the one place


def config_path(given: Path | None, variables: Mapping[str, str]) -> Path:
    """Say which configuration file is meant. Raises LocalError when none is."""
    if given is not None:
        return given
    if variables.get(CONFIG):
        return Path(variables[CONFIG])
    raise LocalError(
        "configuration_missing", "no configuration file was named", hint=f"use --config FILE, or set {CONFIG}"
    )


def credentials_directory(variables: Mapping[str, str]) -> Path | None:
    """Give the directory of systemd credentials, if there is one."""
    return Path(variables[CREDENTIALS]) if variables.get(CREDENTIALS) else None


def socket_path(given: str | None, variables: Mapping[str, str]) -> Path:
    """Say where the daemon's socket is: a path, or ``unix:///path``. Raises LocalError for anything else."""
    address = given if given is not None else variables.get(SOCKET)
    if not address:
        return DEFAULT_SOCKET
    path = address.removeprefix(SCHEME)
    if "://" in path or (path != address and not path.startswith("/")):
        raise LocalError(
            "socket_invalid", "the address of the socket is not unix:///path", hint=f"set {SOCKET} or --socket so"
        )
    return Path(path)
