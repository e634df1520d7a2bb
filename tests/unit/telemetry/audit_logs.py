"""Real audit logs for tests: written by the code under test, on real files, by a clock that stands still."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.telemetry.audit import AuditLog, open_audit
from broker.telemetry.audit_file import SystemDisk
from tests.fakes import Dice, Events, HandClock
from tests.unit.telemetry.catalogue import served

KEY = b"k" * 32


@dataclass
class FailingDisk(SystemDisk):
    """
    A disk that fails when it is told to, and is not waited for.

    It has *room* for so many more bytes, and is *rigid* when it cannot cut a file.
    """

    room: int | None = None
    rigid: bool = False
    broken_sync: bool = False
    code: int = errno.ENOSPC
    calls: list[int] = field(default_factory=list)

    def write(self, fd: int, line: bytes, /) -> int:
        if self.room is None:
            written = os.write(fd, line)
        elif self.room == 0:
            raise OSError(self.code, os.strerror(self.code))
        else:
            written = os.write(fd, line[: self.room])
            self.room -= written
        self.calls.append(written)
        return written

    def truncate(self, fd: int, length: int, /) -> None:
        if self.rigid:
            raise PermissionError(errno.EPERM, "append only")
        before = os.fstat(fd).st_size
        os.ftruncate(fd, length)
        if self.room is not None:
            self.room += before - length

    def sync(self, fd: int, /) -> None:
        if self.broken_sync:
            raise OSError(errno.EIO, "broken")


def open_log(path: Path, **changes: Any) -> AuditLog:
    """Open a log; the defaults are those that matter least."""
    settings: dict[str, Any] = {
        "key": KEY,
        "on_failure": "refuse",
        "clock": HandClock(),
        "randomness": Dice(),
        "emit": Events(),
        "disk": FailingDisk(),
    }
    return open_audit(path, **(settings | changes))


def write_served(log: AuditLog, count: int) -> None:
    """Write *count* records that differ in their generation."""
    for number in range(count):
        log.write(served(generation=number))


def sample(path: Path, **changes: Any) -> bytes:
    """Give a log as a killed process leaves it: records, checkpoints in between, and an unprotected tail of one."""
    log = open_log(path, **changes)
    write_served(log, 3)
    log.checkpoint()
    write_served(log, 2)
    log.checkpoint()
    write_served(log, 1)
    kill(log)
    return path.read_bytes()


def kill(log: AuditLog) -> None:
    """Leave the file as a killed process does: no last checkpoint."""
    log._file.close()
