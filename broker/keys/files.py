"""
Files that hold secrets or trust, read under the rules of rules.md R8.

A path is walked one component at a time from descriptor to descriptor, so that what is checked is what is
read: there is no moment at which a name could be given to another file. Symlinks are followed here and
never by the kernel, because each is only as trustworthy as the directory it stands in. This module must
not interpret what it reads, and must not put any of it into an error.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections import deque
from pathlib import Path

from broker.errors import LocalError
from broker.keys.permissions import Directory, File, Reader, check_link, check_private, check_public, process_reader

MAX_PRIVATE = 64 * 1024
"""Bytes; an RSA 16384 key with a long chain in one PEM file has about 40 KiB."""

MAX_PUBLIC = 1024 * 1024
"""Bytes; the CA bundle of a distribution has about 220 KiB."""

MAX_LINKS = 40
"""Symlinks on one path, as the kernel's own limit (path_resolution(7))."""

CREDENTIALS = Path("/run/credentials")
"""Where systemd puts the credentials of a service: nobody can put one there by hand."""

_FOR_FILES = "put it there, or correct the path in the configuration"
_FOR_CREDENTIALS = (
    "put it into /etc/credstore (mode 0600, root) and name it by LoadCredential= in the unit, "
    "or correct its name in the configuration"
)

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Not blocking, so that a FIFO in the place of a key cannot hold us up; no terminal may become ours."""

_ACL = "system.posix_acl_access"
_NO_ACL = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


def read_private(path: Path, *, reader: Reader | None = None) -> bytes:
    """
    Read a file that nobody else may read or write: a private key, a passphrase, a key for MACs.

    *reader* is who we are (None: this process). Raises LocalError ``file_missing``, ``file_unreadable``,
    ``file_not_regular``, ``file_owner``, ``file_permissions``, ``file_symlink`` or ``file_too_large``.
    """
    reader = reader or process_reader()
    return _read(path, reader, private=True)


def read_public(path: Path, *, reader: Reader | None = None) -> bytes:
    """
    Read a file that nobody else may write, but anybody may read: a certificate, CAs.

    Arguments and errors as ``read_private``.
    """
    reader = reader or process_reader()
    return _read(path, reader, private=False)


def _read(path: Path, reader: Reader, *, private: bool) -> bytes:
    try:
        descriptor = _open(path, reader)
        try:
            file = _examine(descriptor)
            if not stat.S_ISREG(file.mode):
                raise _not_regular(path)
            if private:
                check_private(path, file, reader)
                return _read_at_most(descriptor, MAX_PRIVATE, path)
            check_public(path, file, reader)
            return _read_at_most(descriptor, MAX_PUBLIC, path)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise LocalError("file_missing", "a path with a NUL character leads nowhere") from error


def _open(path: Path, reader: Reader) -> int:
    """Open the file that *path* leads to, checking the directory of every symlink on the way."""
    pending = deque(os.fspath(path).split("/"))
    directory = os.open("/" if path.is_absolute() else ".", _DIRECTORY)
    links = 0
    try:
        while name := _next_name(pending):
            target = _read_link(directory, name)
            if target is None:
                last = not any(pending)
                opened = os.open(name, _FILE if last else _DIRECTORY, dir_fd=directory)
                if last:
                    return opened
                directory = _replace(directory, opened)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            check_link(path, name, _examine_directory(directory), reader)
            pending.extendleft(reversed(target.split("/")))
            if target.startswith("/"):
                directory = _replace(directory, os.open("/", _DIRECTORY))
        raise _not_regular(path)  # the path ends at a directory
    finally:
        os.close(directory)


def _next_name(pending: deque[str]) -> str | None:
    while pending:
        name = pending.popleft()
        if name not in {"", "."}:
            return name
    return None


def _read_link(directory: int, name: str) -> str | None:
    """Give where the symlink *name* points to, or None if it is not one."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _examine(descriptor: int) -> File:
    status = os.fstat(descriptor)
    return File(mode=status.st_mode, uid=status.st_uid, gid=status.st_gid, acl=_read_acl(descriptor))


def _read_acl(descriptor: int) -> bytes | None:
    try:
        return os.getxattr(descriptor, _ACL)
    except OSError as error:
        if error.errno in _NO_ACL:
            return None
        raise


def _examine_directory(descriptor: int) -> Directory:
    status = os.fstat(descriptor)
    read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    return Directory(mode=status.st_mode, uid=status.st_uid, read_only=read_only)


def _read_at_most(descriptor: int, limit: int, path: Path) -> bytes:
    parts: list[bytes] = []
    room = limit + 1
    while room > 0 and (part := os.read(descriptor, room)):
        parts.append(part)
        room -= len(part)
    if room == 0:
        raise LocalError("file_too_large", f"{path}: is larger than {limit // 1024} KiB", hint="is it the right file?")
    return b"".join(parts)


def _not_regular(path: Path) -> LocalError:
    return LocalError("file_not_regular", f"{path}: is not a regular file", hint="name a file, not a directory or pipe")


def _translated(error: OSError, path: Path) -> LocalError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return LocalError(
                "file_missing",
                f"{path}: there is no such file",
                hint=_FOR_CREDENTIALS if path.is_relative_to(CREDENTIALS) else _FOR_FILES,
            )
        case errno.EACCES | errno.EPERM:
            hint = f"the user of the broker must be able to read it: ls -ld {shlex.quote(str(path))}"
            return LocalError("file_unreadable", f"{path}: may not be read", hint=hint)
        case errno.ELOOP:
            return LocalError("file_symlink", f"{path}: leads through too many symlinks, or in a circle")
        case errno.ENXIO:
            return _not_regular(path)  # a socket
        case number:
            name = errno.errorcode.get(number or 0, "unknown error")
            return LocalError("file_unreadable", f"{path}: cannot be read ({name})")
