"""
Sockets that were opened before us: examined, and put to our own terms.

A service manager that holds the listening socket keeps who connects waiting while we are replaced. What it hands us is
judged by what the kernel says of it, and by nothing else. Who may use its file is then not our business.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from broker.errors import LocalError
from broker.hostenv.supervision import Inherited

UNIT = "token-broker.socket"
"""How the socket unit is called where our files are used; for hints."""


def inherit(
    inherited: Sequence[Inherited], paths: Mapping[str, Path]
) -> tuple[dict[str, socket.socket], list[LocalError]]:
    """
    Give the sockets of *inherited* by the listeners' names, and everything that is wrong with any.

    *paths* are those that Unix listeners have in the configuration. The sockets are not handed on and do not block.
    Errors are ``listener_inherited_unknown`` and ``listener_inherited_unfit``.
    """
    sockets: dict[str, socket.socket] = {}
    errors: list[LocalError] = []
    for one in inherited:
        try:
            if one.name not in paths:
                raise _unknown(one, paths)
            if one.name in sockets:
                raise _unfit(one, "came twice", "give each socket unit one ListenStream and a FileDescriptorName")
            sockets[one.name] = _taken(one, paths[one.name])
        except LocalError as error:
            errors.append(error)
    return sockets, errors


def _taken(inherited: Inherited, path: Path) -> socket.socket:
    try:
        found = socket.socket(fileno=inherited.descriptor)
    except OSError as error:
        raise _unfit(inherited, "is no open socket", "see what starts the broker") from error
    try:
        _check(inherited, found, path)
        os.set_inheritable(inherited.descriptor, False)
        found.setblocking(False)
    except BaseException:
        found.close()
        raise
    return found


def _check(inherited: Inherited, found: socket.socket, path: Path) -> None:
    stream = f"write ListenStream={path} into {UNIT}"
    if found.family != socket.AF_UNIX:
        raise _unfit(inherited, "is no Unix socket", stream)
    if found.type != socket.SOCK_STREAM:
        raise _unfit(inherited, "is no stream socket", stream)
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _unfit(inherited, "does not listen", f"see that {UNIT} has no Accept=yes")
    if found.getsockname() != os.fspath(path):
        what = "listens on another path than the configuration says"
        raise _unfit(inherited, what, f"{stream}, or change the path of [listener.{inherited.name}]")


def _unknown(inherited: Inherited, paths: Mapping[str, Path]) -> LocalError:
    import difflib  # noqa: PLC0415 - only when something is wrong

    meant = difflib.get_close_matches(inherited.name, paths, n=1) or sorted(paths)[:1]
    named = f"write FileDescriptorName={meant[0]} into {UNIT}" if meant else "the configuration has no Unix listener"
    return LocalError(
        "listener_inherited_unknown",
        f"the service manager handed over a socket for [listener.{inherited.name}], which is no Unix listener here",
        hint=named,
    )


def _unfit(inherited: Inherited, what: str, hint: str) -> LocalError:
    return LocalError(
        "listener_inherited_unfit",
        f"listener {inherited.name}: the socket that the service manager handed over {what}",
        hint=hint,
    )
