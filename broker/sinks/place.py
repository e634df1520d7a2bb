"""
Whether the file of a sink may be where it is to be: the directory, what is there now, and whose it can become.

The directory is judged as that of a socket is: it belongs to root or to us, and neither everybody nor a group other
than root's and our own can write it, or another process could put a token of its own in place of ours. It is not made
here: who may look into it is the operator's to say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from broker.errors import LocalError
from broker.paths import weakness_above
from broker.sinks.content import MAX_BYTES, is_content
from broker.sinks.spec import Sink

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

AS_IT_IS = -1
"""What chown(2) takes for an owner or a group that is not to be changed."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A full disk is no reason not to start: the sink tries again, and everything else works."""


def beside(sink: Sink) -> str:
    """Give the name of the file that is written before it is renamed: always the same, so that none is forgotten."""
    return f".{sink.path.name}.new"


def open_directory(sink: Sink) -> int:
    """Give a descriptor of the directory, found to be safe. Raises LocalError ``sink_directory_unsafe``, OSError."""
    parent = sink.path.parent
    weakness = weakness_above(parent)
    if weakness is not None:
        raise LocalError(
            "sink_directory_unsafe",
            f"sink {sink.name}: on the way to {parent}, {weakness.path} {weakness.what}",
            hint=weakness.fix,
        )
    try:
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _unsafe(sink, "is not a directory, or a symbolic link", "name the directory itself") from error
        raise
    try:
        _check_directory(sink, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def _check_directory(sink: Sink, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        what = "belongs to another user, who could put a file in place of ours"
        raise _unsafe(sink, what, "use a directory that belongs to root or to the broker's user")
    if found.st_mode & stat.S_IWOTH:
        what = "is writable for everybody, so that anybody could put a file in place of ours"
        raise _unsafe(sink, what, "make a directory in it that only the broker can write, and name that")
    if found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid()):
        what = f"is writable for the group {found.st_gid}, whose members could put a file in place of ours"
        raise _unsafe(sink, what, "chmod g-w: to read the file, a group needs only to pass through the directory")


def check_way(sink: Sink, directory: int) -> os.stat_result | None:
    """
    Give what is at the path and may be replaced: a token file, or an empty one; None where nothing is.

    Raises LocalError ``sink_occupied``, OSError.
    """
    try:
        found = os.stat(sink.path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise _occupied(sink, "is a directory", "name a file in it")
    if stat.S_ISLNK(found.st_mode):
        raise _occupied(sink, "is a symbolic link, and would be replaced by the file", "name the file itself")
    if stat.S_ISREG(found.st_mode) and found.st_uid == sink.uid != os.geteuid():
        # What we gave away we replace, whatever its owner made of it, and need not be able to read: or its owner could
        # keep the broker from starting, or a token that has ended in its file.
        return found
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise _occupied(sink, "exists, and is no file of the broker's", "remove it, or choose another path")
    try:
        descriptor = os.open(sink.path.name, _READ, dir_fd=directory)
    except PermissionError as error:
        raise _occupied(sink, "belongs to another user", "remove it, or choose another path") from error
    try:
        content = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if not is_content(content):
        raise _occupied(sink, "exists, and does not hold a token", "remove it, or choose another path")
    return found


def give_away(sink: Sink, descriptor: int) -> None:
    """Set owner and group of an open file, where they are named. Raises LocalError ``sink_owner_refused``, OSError."""
    found = os.fstat(descriptor)
    uid = AS_IT_IS if sink.uid is None or sink.uid == found.st_uid else sink.uid
    gid = AS_IT_IS if sink.gid is None or sink.gid == found.st_gid else sink.gid
    if uid == gid == AS_IT_IS:
        return
    try:
        os.fchown(descriptor, uid, gid)
    except PermissionError as error:
        whom = f"the group {gid}" if uid == AS_IT_IS else f"the user {uid}"
        hint = "make that group one of the broker's own supplementary groups"
        raise LocalError(
            "sink_owner_refused",
            f"sink {sink.name}: the broker may not give {sink.path} to {whom}",
            hint=hint
            if uid == AS_IT_IS
            else "leave owner out, and let a group read the file; or give the broker CAP_CHOWN",
        ) from error


def examine(sink: Sink, *, made: Collection[Path] = ()) -> None:
    """
    Judge the place and touch nothing. Raises LocalError.

    *made* are directories that a listener makes at the start: they may be missing.
    """
    if sink.path.parent in made and not sink.path.parent.exists():
        return
    try:
        directory = open_directory(sink)
        try:
            check_way(sink, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise failed(sink, error) from error


def prepare(sink: Sink) -> None:
    """
    Judge the place, clean up what a crash left beside the file, and find out whether a file can be put there.

    Raises LocalError.
    """
    try:
        directory = open_directory(sink)
        try:
            check_way(sink, directory)
            clean(sink, directory)
            _try_out(sink, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise failed(sink, error) from error


def clean(sink: Sink, directory: int) -> None:
    """Remove what is half-written."""
    with suppress(FileNotFoundError):
        os.unlink(beside(sink), dir_fd=directory)


def _try_out(sink: Sink, directory: int) -> None:
    """Make an empty file, give it away, and remove it: what the system refuses is said at once."""
    try:
        descriptor = os.open(beside(sink), CREATE, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in NO_ROOM:
            return
        raise
    try:
        give_away(sink, descriptor)
    finally:
        os.close(descriptor)
        clean(sink, directory)


def failed(sink: Sink, error: OSError) -> LocalError:
    """Say what the system refused, and in which words."""
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    if isinstance(error, FileNotFoundError):
        hint = f"create {sink.path.parent} for the broker's user; the broker does not make it"
    else:
        hint = f"let the broker's user write {sink.path.parent}, or choose another directory"
    return LocalError("sink_failed", f"sink {sink.name}: {sink.path} cannot be written: {reason}", hint=hint)


def _unsafe(sink: Sink, what: str, hint: str) -> LocalError:
    message = f"sink {sink.name}: the directory {sink.path.parent} {what}"
    return LocalError("sink_directory_unsafe", message, hint=hint)


def _occupied(sink: Sink, what: str, hint: str) -> LocalError:
    return LocalError("sink_occupied", f"sink {sink.name}: {sink.path} {what}", hint=hint)
