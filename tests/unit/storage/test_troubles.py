"""What is said of a store that cannot be used names the cause, and holds no value."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from broker.storage.troubles import unavailable, wrong_key


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("words of SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "full", "the disk is full"),
        (OSError(errno.ENOSPC, ""), "full", "the disk is full"),
        (OSError(errno.EDQUOT, ""), "full", "the disk is full"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DIRECTORY), "read_only", "may not be written"),
        (OSError(errno.EROFS, ""), "read_only", "may not be written"),
        (sqlite_error(sqlite3.SQLITE_BUSY), "in_use", "another program"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "disk_failed", "the disk fails"),
        (OSError(errno.EIO, ""), "disk_failed", "the disk fails"),
        (OSError(), "unwritable", "cannot be written"),
        (sqlite3.OperationalError(), "unwritable", "cannot be written"),
    ],
)
def test_a_cause_is_named(error: sqlite3.Error | OSError, reason: str, said: str):
    """With what to do."""
    told = unavailable(Path("/var/lib/broker"), error)

    assert told.code == "store_unavailable"
    assert told.reason == reason
    assert said in told.message
    assert "/var/lib/broker" in told.message
    assert "words of SQLite" not in told.message
    assert told.hint


def test_a_wrong_key_is_told_from_damage():
    """The person at the terminal must not throw the file away."""
    told = wrong_key(Path("/var/lib/broker/store.1.db"))

    assert told.code == "store_key_wrong"
    assert "another key" in told.message
    assert told.hint
