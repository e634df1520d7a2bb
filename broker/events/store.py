"""The store of grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDegraded(Event):
    """
    The store cannot be written: what changes is kept in memory alone. Said once.

    *reason* is ``full``, ``read_only``, ``in_use``, ``disk_failed``, ``unwritable`` or ``anchor``.
    """

    name: ClassVar[str] = "store_degraded"
    severity: ClassVar[Severity] = Severity.ERROR

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecovered(Event):
    """The store can be written again, and what was kept in memory is on its way to the disk."""

    name: ClassVar[str] = "store_recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMovedAside(Event):
    """A store file was damaged, and is at *path* now; *records* are in the file that is used instead."""

    name: ClassVar[str] = "store_moved_aside"
    severity: ClassVar[Severity] = Severity.ERROR

    path: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecordSuspect(Event):
    """
    A record is not as the broker left it. *kept*: it opens, and may be tried once.

    *fault* is ``missing``, ``altered``, ``older``, ``misplaced``, ``unlisted`` or ``unverified``.
    """

    name: ClassVar[str] = "store_record_suspect"
    severity: ClassVar[Severity] = Severity.WARNING

    record: str
    fault: str
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRolledBack(Event):
    """
    The anchor contradicts the store: *reason* is ``later``, ``other_store``, ``missing`` or ``unreadable``.

    The last write of the store is number *counter*; the last that the anchor has seen is *anchor*, if it can be read.
    """

    name: ClassVar[str] = "store_rolled_back"
    severity: ClassVar[Severity] = Severity.ERROR

    reason: str
    counter: int
    anchor: int | None
