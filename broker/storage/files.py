"""
The files of a store: ``store.N.db`` in the state directory, the highest N being the one that counts.

A new file gets the next number and comes into being with one rename(2), complete and synced. So a log that
SQLite keeps beside an old file can never be taken for the new one's, and there is no moment without a file.
A damaged file is renamed and kept with its log, byte for byte.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broker.errors import LocalError

FILE_MODE = 0o600

LOG = "-wal"
"""SQLite's write-ahead log is called as its file with this behind it."""

RESERVE = "store.reserve"
RESERVE_BYTES = 1024 * 1024
"""Bytes held back so that what a server has answered can be written even on a full disk: some 80 writes."""

_CURRENT = re.compile(r"store\.([1-9][0-9]*)\.db")
_NEW = "store.new"
_EXAMINED = "store.examined"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class StoreFile:
    """One store file and its log."""

    directory: Path
    number: int

    @property
    def path(self) -> Path:
        """The database."""
        return self.directory / f"store.{self.number}.db"

    @property
    def log(self) -> Path:
        """Its write-ahead log, which need not exist."""
        return self.directory / f"store.{self.number}.db{LOG}"

    def next(self) -> StoreFile:
        """Give the one that replaces it."""
        return StoreFile(self.directory, self.number + 1)

    def log_bytes(self) -> int:
        """Give the size of the log."""
        try:
            return self.log.stat().st_size
        except OSError:
            return 0


def store_files(directory: Path) -> list[StoreFile]:
    """Give the store files in *directory*, the one that counts last. Raises OSError."""
    matches = (_CURRENT.fullmatch(path.name) for path in directory.iterdir())
    return [StoreFile(directory, number) for number in sorted(int(match[1]) for match in matches if match)]


def check_safe(file: StoreFile) -> None:
    """Raise LocalError ``store_unsafe`` unless nobody but us can read or write *file*, and OSError."""
    for path in (file.path, file.log):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise LocalError("store_unsafe", f"{path}: is not a regular file", hint="look what it is, and move it away")
        if found.st_uid != os.geteuid():
            raise LocalError("store_unsafe", f"{path}: belongs to another user", hint=f"chown {os.geteuid()} {path}")
        if stat.S_IMODE(found.st_mode) & ~FILE_MODE:
            raise LocalError("store_unsafe", f"{path}: is open to other users", hint=f"chmod 0600 {path}")


@contextmanager
def second_names(file: StoreFile, *, link: Callable[[Path, Path], None] = os.link) -> Iterator[Path]:
    """
    Lend the file a second name, with its log, that is gone when the block ends.

    SQLite tidies up when it closes a file, damaged or not, unless the name is gone by then. Where there are
    no hard links the file itself is given. Raises OSError.
    """
    borrowed = file.directory / f"{_EXAMINED}{LOG}", file.directory / _EXAMINED
    try:
        try:
            for path, name in zip((file.log, file.path), borrowed, strict=True):
                name.unlink(missing_ok=True)
                if path.exists():
                    link(path, name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            yield file.path
            return
        yield borrowed[1]
    finally:
        for name in borrowed:
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)


@contextmanager
def coming(file: StoreFile) -> Iterator[Path]:
    """
    Give a path to write a complete database to; it becomes *file* when the block ends well. Raises OSError.

    It is opened here before anything is written, so that an error of a write that the kernel reports only
    once is reported here.
    """
    new = file.directory / _NEW
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)  # whatever the umask took away
        yield new
        os.fsync(descriptor)
        new.rename(file.path)
        sync_directory(file.directory)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def remove(file: StoreFile) -> None:
    """Remove a file that another one has replaced. Raises OSError."""
    file.path.unlink(missing_ok=True)
    file.log.unlink(missing_ok=True)


def move_aside(file: StoreFile, *, wall_now: float) -> Path:
    """Rename *file* and its log, whatever they hold, and give the new path of the file. Raises OSError."""
    moment = datetime.fromtimestamp(wall_now, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"damaged-{moment}-{file.path.name}"
    aside = next(
        path
        for path in (file.directory / (name if count == 0 else f"{name}.{count}") for count in range(1 << 16))
        if not path.exists()
    )
    if file.log.exists():
        file.log.rename(f"{aside}{LOG}")
    file.path.rename(aside)
    sync_directory(file.directory)
    return aside


def sync_directory(directory: Path) -> None:
    """Make what was renamed in it durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reserve:
    """Space on the disk that is given up when there is no other."""

    def __init__(self, directory: Path, *, allocate: Callable[[int, int, int], None] = os.posix_fallocate) -> None:
        self._allocate = allocate
        self._path = directory / RESERVE
        self._held = False

    def hold(self) -> None:
        """Take the space, unless it is held. Raises OSError: the disk is full."""
        if self._held:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            self._allocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            self.give_up()
            raise
        finally:
            os.close(descriptor)
        self._held = True

    def give_up(self) -> bool:
        """Free the space; say whether there was any."""
        held, self._held = self._held, False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        return held
