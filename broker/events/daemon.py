"""What the daemon reports of itself, its configuration, its clocks and its libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(Event):
    """All listeners are open."""

    name: ClassVar[str] = "daemon_started"
    audited: ClassVar[bool] = True

    version: str
    tokens: int
    listeners: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping(Event):
    """A signal asked the daemon to stop; it drains now."""

    name: ClassVar[str] = "daemon_stopping"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped(Event):
    """The last record of a clean stop."""

    name: ClassVar[str] = "daemon_stopped"
    audited: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationLoaded(Event):
    """
    A configuration is in force; *sha256* is that of the file's bytes, *generation* counts reloads from 1.

    *restart* names the sections whose changes wait for a restart, with commas between them; empty: none.
    """

    name: ClassVar[str] = "configuration_loaded"
    audited: ClassVar[bool] = True

    path: str
    sha256: str
    generation: int
    restart: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationDoubted(Event):
    """What is in force looks like a mistake: *problems* are all warnings, one on a line, *found* how many."""

    name: ClassVar[str] = "configuration_doubted"
    severity: ClassVar[Severity] = Severity.WARNING

    path: str
    problems: str
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused(Event):
    """A reload changed nothing: *problems* are all that is wrong, one on a line, *found* how many."""

    name: ClassVar[str] = "configuration_refused"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    path: str
    reason: str
    problems: str
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOpened(Event):
    """A socket accepts connections."""

    name: ClassVar[str] = "listener_opened"

    listener: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfined(Event):
    """Landlock is in force, in this *version* of the kernel's: other files than those that were named are given up."""

    name: ClassVar[str] = "process_confined"

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfinementFailed(Event):
    """The kernel has no Landlock, or a filter forbids it (*reason*, an errno); we go on without."""

    name: ClassVar[str] = "confinement_failed"
    severity: ClassVar[Severity] = Severity.WARNING

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationFailed(Event):
    """The service manager cannot be told how we are, for the system's *reason* (an errno); said once an outage."""

    name: ClassVar[str] = "notification_failed"
    severity: ClassVar[Severity] = Severity.ERROR

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogUnfed(Event):
    """The service manager's watchdog is not fed and will kill us: *reason* names what is not well."""

    name: ClassVar[str] = "watchdog_unfed"
    severity: ClassVar[Severity] = Severity.ERROR

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(Event):
    """The wall clock was set *by* so many seconds, forward or (negative) backward. No deadline moved with it."""

    name: ClassVar[str] = "clock_jumped"
    severity: ClassVar[Severity] = Severity.WARNING

    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResumed(Event):
    """The machine was suspended, *asleep* for so many seconds: deadlines went on meanwhile."""

    name: ClassVar[str] = "machine_resumed"
    severity: ClassVar[Severity] = Severity.WARNING

    asleep: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnexpectedFailure(Event):
    """A bug: an exception nobody expected. *incident* is in the answer, if there was one; *count* alike are meant."""

    name: ClassVar[str] = "unexpected_failure"
    severity: ClassVar[Severity] = Severity.ERROR

    where: str
    incident: str
    error: str
    frames: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryReported(Event):
    """A library logged a warning or worse, *count* times; its words are left out, they may hold bytes from a peer."""

    name: ClassVar[str] = "library_reported"
    severity: ClassVar[Severity] = Severity.WARNING

    library: str
    where: str
    error: str | None
    frames: str | None
    count: int = 1
