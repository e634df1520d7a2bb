"""What the audit log says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditGap(Event):
    """Records could not be written and are lost; *lost* of them so far. Said once a gap, and again when it closes."""

    name: ClassVar[str] = "audit_gap"
    severity: ClassVar[Severity] = Severity.ERROR

    lost: int
    closed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOpened(Event):
    """The audit log is open; without a key it is consistent, but not authenticated."""

    name: ClassVar[str] = "audit_opened"

    path: str
    seq: int
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReopenFailed(Event):
    """The audit log was rotated, but the file at *path* cannot be opened (*reason*): the old one is gone on with."""

    name: ClassVar[str] = "audit_reopen_failed"
    severity: ClassVar[Severity] = Severity.ERROR

    path: str
    reason: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecovered(Event):
    """
    The audit log was not closed cleanly: a torn line and *unprotected* records after the last checkpoint are kept
    on trust. *restarted*: its end could not be followed, and its chain begins anew.
    """

    name: ClassVar[str] = "audit_recovered"
    severity: ClassVar[Severity] = Severity.WARNING

    path: str
    torn_bytes: int
    unprotected: int
    restarted: bool
