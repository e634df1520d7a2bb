"""What is said when the store cannot be used: the reasons as words of a closed set, and what to do."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from broker.errors import LocalError

FULL = "full"
READ_ONLY = "read_only"
IN_USE = "in_use"
DISK = "disk_failed"
OTHER = "unwritable"

_BY_CODE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_BUSY: IN_USE,
    sqlite3.SQLITE_LOCKED: IN_USE,
    sqlite3.SQLITE_IOERR: DISK,
}
_BY_NUMBER = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
    errno.EIO: DISK,
}
_SAID = {
    FULL: ("the disk is full", "make room; the broker goes on by itself"),
    READ_ONLY: ("it may not be written to", "see the permissions, and whether the file system is read-only"),
    IN_USE: ("another program has the file open", "close it; the broker wants the store for itself"),
    DISK: ("the disk fails", "see the kernel's log: dmesg"),
    OTHER: ("it cannot be written", "see the kernel's log: dmesg"),
}


class StoreUnavailableError(LocalError):
    """The store cannot be written, for a *reason* out of the words above (``store_unavailable``)."""

    def __init__(self, directory: Path, reason: str) -> None:
        what, hint = _SAID[reason]
        super().__init__("store_unavailable", f"the store in {directory}: {what}", hint=hint)
        self.reason = reason


def reason_of(error: sqlite3.Error | OSError) -> str:
    """Give one of the words above for *error*."""
    if isinstance(error, OSError):
        return _BY_NUMBER.get(error.errno or 0, OTHER)
    return _BY_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, OTHER)


def unavailable(directory: Path, error: sqlite3.Error | OSError) -> StoreUnavailableError:
    """Say why the store in *directory* cannot be written."""
    return StoreUnavailableError(directory, reason_of(error))


def wrong_key(path: Path) -> LocalError:
    """Say that *path* was sealed with another key."""
    return LocalError(
        "store_key_wrong",
        f"{path}: was sealed with another key than [store] key",
        hint="name the key it was sealed with; to begin with an empty store, move the file away",
    )
