"""
The file of the audit log: opened with care, locked, appended to one whole line at a time.

It knows nothing of records. What it guarantees: after ``append`` returned, the line is in the file; after it
raised, the file ends where it ended before, or, if even that could not be had, ``fragment`` holds what is there
of the line. Nothing is buffered. No fsync for each line: a crash of the process loses nothing, a crash of the
machine may lose what the kernel had not written yet.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

from broker.errors import LocalError
from broker.paths import weakness_above
from broker.telemetry.audit_format import CHECKPOINT_EVERY, MAX_LINE

TAIL = (CHECKPOINT_EVERY + 8) * MAX_LINE
"""Bytes that are read at most to find the last checkpoint: the records between two of them at their longest."""

FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Never through a symbolic link; O_NONBLOCK so that a FIFO put in its place cannot stall the start."""

CLOSED = -1
"""A descriptor that no call accepts: a closed one may soon be somebody else's."""

MODE = 0o600
"""Of a file that we create: who called when is nobody else's business."""


class AppendFailedError(Exception):
    """A line is not in the file; *reason* is the name of the system's error in lower case, or ``short_write``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Disk(Protocol):
    """The three calls that can fail while the daemon runs."""

    def write(self, fd: int, line: bytes, /) -> int:
        """Write; give the number of bytes written."""

    def truncate(self, fd: int, length: int, /) -> None:
        """Cut the file."""

    def sync(self, fd: int, /) -> None:
        """Wait until the bytes are on the medium."""


class SystemDisk:
    """The system's calls."""

    __slots__ = ()

    def write(self, fd: int, line: bytes, /) -> int:
        """Call the system."""
        return os.write(fd, line)

    def truncate(self, fd: int, length: int, /) -> None:
        """Call the system."""
        os.ftruncate(fd, length)

    def sync(self, fd: int, /) -> None:
        """Call the system, for the contents and the length."""
        os.fdatasync(fd)


class AuditFile:
    """An open, locked file; *length* is where our last good line ends, *fragment* what stands there of a bad one."""

    def __init__(self, path: Path, fd: int, *, disk: Disk) -> None:
        self.path = path
        self.disk = disk
        self.length = os.fstat(fd).st_size
        self.fragment = b""
        self._fd = fd

    def append(self, line: bytes) -> None:
        """Write *line* by one call. Raises AppendFailedError, and leaves no part of the line behind if it can."""
        try:
            written = self.disk.write(self._fd, line)
        except OSError as error:
            raise AppendFailedError(reason_of(error)) from error
        if written == len(line):
            self.length += written
            return
        self._take_back(line[:written])
        raise AppendFailedError("short_write")

    def _take_back(self, part: bytes) -> None:
        """Cut off what was written of a line; where the file really ends, in case that somebody else wrote to it."""
        end = self._stat().st_size
        try:
            self.disk.truncate(self._fd, end - len(part))
            self.length = end - len(part)
        except OSError:
            # An append-only file, say. AuditLog ends the line and says that it is torn, so nothing is hidden.
            self.fragment += part
            self.length = end

    def damage(self) -> str | None:
        """
        Say what somebody did to the file under us: ``removed``, or ``cut`` (logrotate's ``copytruncate``).

        What is written to a file without a name is gone; of one that was cut, count from there. Asked before each
        record of a token, therefore by one call. Raises AppendFailedError if the system cannot say.
        """
        try:
            found = os.fstat(self._fd)
        except OSError as error:
            raise AppendFailedError(reason_of(error)) from error
        if not found.st_nlink:
            return "removed"
        size = found.st_size
        if size >= self.length:
            return None
        self.length = size
        self.fragment = b""
        return "cut"

    def is_current(self) -> bool:
        """Say whether the path still leads to this file: not after a rotation, nor after somebody removed it."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._fd))
        except OSError:
            return False

    def tail(self) -> tuple[bytes, bool]:
        """Give the end of the file, and whether that is all of it."""
        size = min(self.length, TAIL)
        return _read(self._fd, size, self.length - size), size == self.length

    def first_line(self) -> bytes:
        """Give the first line, or as much as a line can be."""
        line, newline, _ = _read(self._fd, min(self.length, MAX_LINE), 0).partition(b"\n")
        return line + newline

    def sync(self) -> None:
        """Wait until all is on the medium. Raises AppendFailedError."""
        try:
            self.disk.sync(self._fd)
        except OSError as error:
            raise AppendFailedError(reason_of(error)) from error

    def close(self) -> None:
        """Close, and so unlock; whatever is appended later fails."""
        if self._fd != CLOSED:
            os.close(self._fd)
            self._fd = CLOSED

    def _stat(self) -> os.stat_result:
        try:
            return os.fstat(self._fd)
        except OSError as error:
            raise AppendFailedError(reason_of(error)) from error


def open_file(path: Path, *, disk: Disk) -> AuditFile:
    """Open *path* for appending and lock it. Raises LocalError if that cannot be done safely; creates no directory."""
    try:
        _check_way(path)
        fd = os.open(path, FLAGS, MODE)
    except OSError as error:
        raise _unopened(path, error) from error
    try:
        _check(path, os.fstat(fd))
        _lock(path, fd)
        return AuditFile(path, fd, disk=disk)
    except BaseException:
        os.close(fd)
        raise


def examine(path: Path) -> None:
    """Judge the directory of *path*, and make nothing. Raises LocalError as ``open_file``."""
    try:
        _check_way(path)
        found = path.parent.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise _unopened(path, error) from error


def _check_way(path: Path) -> None:
    weakness = weakness_above(path, links_only=True)
    if weakness is not None:
        message = f"the audit file {path}: on the way to it, {weakness.path} {weakness.what}"
        raise LocalError("audit_directory_unsafe", message, hint=weakness.fix)


def reason_of(error: OSError) -> str:
    """Name a system error: from the closed set of errno."""
    return errno.errorcode.get(error.errno or 0, "unknown").lower()


def _unopened(path: Path, error: OSError) -> LocalError:
    hints = {
        errno.ENOENT: "create its directory, owned by the user that the broker runs as",
        errno.ENOTDIR: "a part of the path is not a directory",
        errno.EACCES: "the user that the broker runs as must be able to write it, and to create files in its directory",
        errno.EISDIR: "name a file, not a directory",
        errno.ELOOP: "it is a symbolic link, which is not followed: name the file itself",
        errno.ENXIO: "it is not a regular file",
        errno.EROFS: "the file system is mounted read-only",
    }
    return LocalError(
        "audit_unopened",
        f"the audit log {path} cannot be opened ({reason_of(error)})",
        hint=hints.get(error.errno or 0),
    )


def _check(path: Path, found: os.stat_result) -> None:
    """Refuse a file that is not ours alone to write."""
    if not stat.S_ISREG(found.st_mode):
        raise LocalError("audit_not_a_file", f"the audit log {path} is not a regular file", hint="name another path")
    if found.st_nlink > 1:
        raise LocalError(
            "audit_linked",
            f"the audit log {path} has another name, too: what is appended to it would land there",
            hint="remove the other name, or name another path",
        )
    if found.st_uid not in {0, os.geteuid()}:
        raise LocalError(
            "audit_owner",
            f"the audit log {path} belongs to another user (uid {found.st_uid})",
            hint=f"chown {os.geteuid()} {path}, after a look at what is in it",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LocalError(
            "audit_permissions",
            f"the audit log {path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod go-w {path}, after a look at what is in it",
        )


def _lock(path: Path, fd: int) -> None:
    """Hold the file for ourselves for as long as it is open, so that two brokers do not mix their records."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LocalError(
            "audit_locked",
            f"another process writes to the audit log {path}",
            hint="give each broker a file of its own, or stop the other one",
        ) from None
    except OSError as error:
        raise LocalError("audit_unlocked", f"the audit log {path} cannot be locked ({reason_of(error)})") from error


def _read(fd: int, size: int, offset: int) -> bytes:
    """Read exactly *size* bytes, or up to the end."""
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)
