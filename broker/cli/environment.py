"""What the command line takes from the environment: paths, never secrets. The only reader of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from broker.cli.local_client import Address, Daemon
from broker.errors import LocalError

CONFIG = "TOKEN_BROKER_CONFIG"
SOCKET = "TOKEN_BROKER_SOCKET"
SECRET_FILE = "TOKEN_BROKER_SECRET_FILE"  # noqa: S105 - the name of a variable
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Set by systemd for a unit with LoadCredential."""

UNSEEN = {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"}
"""Where OpenSSL finds no certificate authorities (openssl-env(7))."""

DEFAULT_SOCKET = Path("/run/token-broker/api.sock")
SCHEME = "unix://"
LOOPBACK = re.compile(r"http://(?P<host>127(?:\.[0-9]{1,3}){3}|\[::1\]):(?P<port>[0-9]{1,5})/?")


def environment() -> Mapping[str, str]:
    """Give the process's environment."""
    return os.environ  # noqa: TID251 - this is the one place


def forget(names: Iterable[str]) -> None:
    """Remove variables that were meant for this process, so that no child gets them."""
    for name in names:
        os.environ.pop(name, None)  # noqa: TID251 - this is the one place


@contextmanager
def authorities_unseen() -> Iterator[None]:
    """
    Keep OpenSSL from the certificate authorities of the system for as long as something is imported.

    aiohttp makes contexts of its own when it is imported and loads them all: 35 ms and 1.6 MB for contexts that we
    never use, since each connection has one of ``broker.keys.tls``, which asks no variable. No thread may run yet.
    """
    variables = os.environ  # noqa: TID251 - this is the one place
    before = {name: value for name, value in variables.items() if name in UNSEEN}
    variables.update(UNSEEN)
    try:
        yield
    finally:
        forget(UNSEEN)
        variables.update(before)


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


def socket_path(given: str | None, variables: Mapping[str, str]) -> Daemon:
    """
    Say where the daemon is: a path, ``unix:///path``, or ``http://127.0.0.1:PORT`` with a secret file.

    Raises LocalError for anything else.
    """
    address = given if given is not None else variables.get(SOCKET)
    if not address:
        return DEFAULT_SOCKET
    loopback = LOOPBACK.fullmatch(address)
    if loopback is not None:
        return _address(loopback["host"].strip("[]"), int(loopback["port"]), variables)
    path = address.removeprefix(SCHEME)
    if "://" in path or (path != address and not path.startswith("/")):
        hint = f"set {SOCKET} or --socket so; over TCP: http://127.0.0.1:PORT, the address itself and no name"
        raise LocalError("socket_invalid", "the address of the socket is not unix:///path", hint=hint)
    return Path(path)


def _address(host: str, port: int, variables: Mapping[str, str]) -> Address:
    if not variables.get(SECRET_FILE):
        hint = f"set {SECRET_FILE} to the secret_file of the listener"
        raise LocalError("secret_unreadable", "over TCP the daemon wants its secret, and none is named", hint=hint)
    return Address(host=host, port=port, secret_file=Path(variables[SECRET_FILE]))
