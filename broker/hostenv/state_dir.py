"""
The state directory: ours alone, and held by one broker for its whole life.

The lock is of the kernel (flock(2)), so that it ends with its process however that ends; the process id in
the file is only for people. The directory is never tidied up or repaired: one that is not as it should be
is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.errors import LocalError
from broker.paths import weakness_above

LOCK = "lock"
"""The file in the directory that is locked."""

DIRECTORY_MODE = 0o700
"""Nobody else has anything to look for there."""

LOCK_MODE = 0o600

MAX_PID_BYTES = 20
"""Bytes that are read of the holder's process id: a 64-bit number has no more digits."""

START_PATIENCE = 3.0
"""
Seconds for which a broker that starts tries again: whoever only reads there (``quiet``) is done by then.

A service manager would not start it again, because a second broker does not go away by another start.
"""

PAUSE = 0.1
"""Seconds between two tries."""


class StateDirInUseError(LocalError):
    """Another broker holds the state directory (``state_dir_in_use``)."""


@contextmanager
def held(path: Path | None, *, patience: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """
    Hold the state directory *path* until the end of the block; nothing for None.

    Makes one level of it if need be, and tries for *patience* seconds to get it.
    Raises StateDirInUseError, or LocalError: ``state_dir_unsafe``, ``state_dir_failed``.
    """
    if path is None:
        yield
        return
    directory = _open_directory(path)
    try:
        lock = _lock(path, directory, round(patience / PAUSE), sleep)
    finally:
        os.close(directory)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """
    Keep brokers out of the state directory *path* until the end of the block, for somebody who only reads.

    It writes nothing, and makes neither directory nor lock: where there is no lock, no broker was there yet, and
    nobody is kept out. Raises as ``held``.
    """
    examine(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path / LOCK, flags)
    except FileNotFoundError:
        lock = None
    except OSError as error:
        raise _failed(path, "has a lock that cannot be opened", error) from error
    try:
        if lock is not None:
            _share(path, lock)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _open_directory(path: Path) -> int:
    """
    Give a descriptor of the directory, found to be ours alone.

    It may be reached through symbolic links, which were judged with the way: systemd leaves one at StateDirectory= of
    a unit with DynamicUser=.
    """
    _check_above(path)
    try:
        made = _made(path)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _unsafe(path, "is not a directory", "name a directory") from error
        raise _failed(path, "cannot be opened", error) from error
    try:
        if made:
            os.fchmod(directory, DIRECTORY_MODE)  # whatever our umask took away
        _check(path, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def examine(path: Path | None) -> None:
    """Judge the state directory as it is, and make none. Raises LocalError as ``held``."""
    if path is None:
        return
    _check_above(path)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if not path.parent.exists():
            raise _failed(path, "cannot be made", error) from error
        return
    except OSError as error:
        raise _failed(path, "cannot be looked at", error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unsafe(path, "is not a directory", "name a directory")
    _check(path, found)


def _check_above(path: Path) -> None:
    try:
        weakness = weakness_above(path)
    except OSError as error:
        raise _failed(path, "has directories above it that cannot be looked at", error) from error
    if weakness is not None:
        raise _unsafe(path, f"has a weak place on the way to it: {weakness.path} {weakness.what}", weakness.fix)


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise _unsafe(path, "belongs to another user", f"chown {os.geteuid()} {path}")
    if stat.S_IMODE(found.st_mode) & ~DIRECTORY_MODE:
        raise _unsafe(path, "is open to other users", f"chmod 0700 {path}")


def _made(path: Path) -> bool:
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        return False
    return True


def _lock(path: Path, directory: int, tries: int, sleep: Callable[[float], None]) -> int:
    """Lock the file and write our process id into it; give its descriptor. Tries again *tries* times."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(LOCK, flags, LOCK_MODE, dir_fd=directory)
    except OSError as error:
        raise _failed(path, "has a lock that cannot be opened", error) from error
    try:
        _take(lock, tries, sleep)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        in_use = _in_use(path, lock)
        os.close(lock)
        raise in_use from error
    except OSError as error:
        os.close(lock)
        raise _failed(path, "cannot be locked", error) from error
    return lock


def _take(lock: int, tries: int, sleep: Callable[[float], None]) -> None:
    """Lock it. Raises BlockingIOError when it could not be had in one try and *tries* more."""
    for _ in range(tries):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(PAUSE)
        else:
            return
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _share(path: Path, lock: int) -> None:
    """Lock it together with others who read, and against a broker."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path, lock) from error
    except OSError as error:
        raise _failed(path, "cannot be locked", error) from error


def _in_use(path: Path, lock: int) -> StateDirInUseError:
    return StateDirInUseError(
        "state_dir_in_use",
        f"another broker holds the state directory {path}: process {_holder(lock)}",
        hint="stop it first, or give this one a state_dir of its own",
    )


def _holder(lock: int) -> str:
    """Give the process id in the file; it may not be written yet, and is then unknown."""
    content = os.pread(lock, MAX_PID_BYTES, 0).strip()
    return content.decode("ascii") if content.isdigit() else "unknown"


def _unsafe(path: Path, what: str, hint: str) -> LocalError:
    return LocalError("state_dir_unsafe", f"the state directory {path} {what}", hint=hint)


def _failed(path: Path, what: str, error: OSError) -> LocalError:
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    return LocalError(
        "state_dir_failed",
        f"the state directory {path} {what}: {reason}",
        hint="the broker makes one level of it, and must be able to write there",
    )
