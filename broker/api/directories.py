"""
The directories in which a listener leaves a file: a socket, or the secret of a listener without one.

Such a directory belongs to root or to us and is not writable for everybody, nor for a group other than
root's and our own, or another process could put a file of its own in place of ours. Those above it are
judged by ``broker.paths``, for whoever can rename the directory can replace it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from broker.errors import LocalError
from broker.paths import weakness_above

DIRECTORY_MODE = 0o750
"""Of a directory that we make: ours, and open for passing through to the group of its first listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """
    Where a listener puts a file.

    *listener* is its name, *what* the kind of file, for messages; *gid* the group that may use it, None for
    the daemon's own.
    """

    listener: str
    path: Path
    what: str
    gid: int | None = None


def open_directory(spot: Spot) -> int:
    """
    Give a descriptor of the directory, made if need be (one level), found to be safe.

    Raises LocalError ``listener_directory_unsafe``, ``listener_group_refused`` or ``listener_failed``.
    """
    path = spot.path.parent
    check_above(spot)
    try:
        made = _make_directory(path)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _no_way(spot) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise unsafe(spot, "is not a directory, or a symbolic link", "name the directory itself") from error
        hint = f"create {path} and give it to the broker's user, or choose another"
        raise failed(spot, f"the directory {path} cannot be opened", error, hint) from error
    try:
        if made:
            give_to_group(spot, directory)
            os.fchmod(directory, DIRECTORY_MODE)  # whatever our umask took away
        check_directory(spot, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def _make_directory(path: Path) -> bool:
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        return False
    return True


def examine(spot: Spot) -> None:
    """Judge the directory as it is, and make none: one level that is missing is fine. Raises as ``open_directory``."""
    check_above(spot)
    try:
        found = os.lstat(spot.path.parent)
    except FileNotFoundError as error:
        if not spot.path.parent.parent.exists():
            raise _no_way(spot) from error
        return
    except OSError as error:
        raise failed(spot, f"the directory {spot.path.parent} cannot be looked at", error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise unsafe(spot, "is not a directory, or a symbolic link", "name the directory itself")
    check_directory(spot, found)


def _no_way(spot: Spot) -> LocalError:
    path = spot.path.parent
    return LocalError(
        "listener_failed",
        f"listener {spot.listener}: the directory above {path} does not exist",
        hint=f"create {path.parent}; the broker makes one level only",
    )


def check_above(spot: Spot) -> None:
    """Judge the directories above. Raises LocalError ``listener_directory_unsafe`` or ``listener_failed``."""
    path = spot.path.parent
    try:
        weakness = weakness_above(path)
    except OSError as error:
        raise failed(spot, f"the directories above {path} cannot be looked at", error) from error
    if weakness is not None:
        raise LocalError(
            "listener_directory_unsafe",
            f"listener {spot.listener}: on the way to {path}, {weakness.path} {weakness.what}",
            hint=weakness.fix,
        )


def check_directory(spot: Spot, found: os.stat_result) -> None:
    """Judge a directory by whose it is and who may write it. Raises LocalError ``listener_directory_unsafe``."""
    if found.st_uid not in (0, os.geteuid()):
        raise unsafe(
            spot,
            f"belongs to another user, who could put a {spot.what} in place of ours",
            "use a directory that belongs to root or to the broker's user",
        )
    if found.st_mode & stat.S_IWOTH:
        raise unsafe(
            spot,
            f"is writable for everybody, so that anybody could put a {spot.what} in place of ours",
            f"use a directory in it, which the broker makes: {spot.path.parent / 'broker' / spot.path.name}",
        )
    if found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid()):
        raise unsafe(
            spot,
            f"is writable for the group {found.st_gid}, whose members could put a {spot.what} in place of ours",
            f"chmod g-w: to use the {spot.what}, a group needs only to pass through the directory",
        )


def give_to_group(spot: Spot, descriptor: int) -> None:
    """
    Set the group of an open file, where one was named. Raises LocalError ``listener_group_refused``.

    By way of /proc, for one opened with O_PATH takes no fchown(2).
    """
    if spot.gid is None or os.fstat(descriptor).st_gid == spot.gid:
        return
    try:
        os.chown(f"/proc/self/fd/{descriptor}", -1, spot.gid)
    except PermissionError as error:
        raise LocalError(
            "listener_group_refused",
            f"listener {spot.listener}: the broker may not give its {spot.what} to the group {spot.gid}",
            hint="make that group one of the broker's own supplementary groups",
        ) from error


def unsafe(spot: Spot, what: str, hint: str) -> LocalError:
    """Say *what* is unsafe about the directory."""
    return LocalError(
        "listener_directory_unsafe",
        f"listener {spot.listener}: the directory {spot.path.parent} {what}",
        hint=hint,
    )


def failed(spot: Spot, what: str, error: OSError, hint: str | None = None) -> LocalError:
    """Say *what* the system refused, and in which words."""
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    return LocalError("listener_failed", f"listener {spot.listener}: {what}: {reason}", hint=hint)
