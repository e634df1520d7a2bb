"""What all events have in common, and how they are emitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from broker.errors import LocalError


class Severity(IntEnum):
    """How loud an event is; the numbers are those of the standard library's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    The root of the catalogue.

    *name* is the stable name in logs and audit records, *severity* the level of the log line, *audited*
    says that the event makes an audit record (rules.md R9), *indispensable* that what it tells of may not happen
    without that.
    """

    name: ClassVar[str] = "event"
    severity: ClassVar[Severity] = Severity.INFO
    audited: ClassVar[bool] = False
    indispensable: ClassVar[bool] = False


class AuditUnavailableError(LocalError):
    """
    The audit record of an event that must not go unrecorded could not be written.

    Raised by ``emit`` for *indispensable* events only, when ``[audit] on_failure = "refuse"``.
    """

    def __init__(self) -> None:
        super().__init__("audit_unavailable", "the audit log cannot be written")


Emit = Callable[[Event], None]
"""Takes an event. Raises ``AuditUnavailableError`` for an *indispensable* one that cannot be recorded, else nothing."""
