"""Grants: how they are kept, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEnded(Event):
    """A grant came to its end: *reason* is a ``tokens.grant.EndReason``."""

    name: ClassVar[str] = "grant_ended"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    token: str
    grant: str
    client: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantQuarantined(Event):
    """An answer to a refresh failed a check: its refresh token is kept, its access token is not used."""

    name: ClassVar[str] = "grant_quarantined"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    token: str
    grant: str
    client: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRevived(Event):
    """A grant that had ended is tried again: *reason* is ``client_suspect`` or ``retried``."""

    name: ClassVar[str] = "grant_revived"
    audited: ClassVar[bool] = True

    token: str
    grant: str
    client: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRevoked(Event):
    """A grant was given up: *outcome* is ``revoked``, ``pending``, ``not_revocable`` or ``given_up``."""

    name: ClassVar[str] = "grant_revoked"
    audited: ClassVar[bool] = True

    token: str
    grant: str
    client: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantExpiring(Event):
    """A person is needed within *expires_in* seconds: the consent ends then, or a token that cannot be refreshed."""

    name: ClassVar[str] = "grant_expiring"
    severity: ClassVar[Severity] = Severity.WARNING

    token: str
    grant: str
    expires_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantUnreadable(Event):
    """A stored grant cannot be understood by this version; *record* is its name in the store, where it stays."""

    name: ClassVar[str] = "grant_unreadable"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsUnsaved(Event):
    """What servers issued for *grants* is in memory only, and lost if the process ends now. Said once an outage."""

    name: ClassVar[str] = "grants_unsaved"
    severity: ClassVar[Severity] = Severity.ERROR

    grants: int
    reason: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsSaved(Event):
    """All of it is on the disk now."""

    name: ClassVar[str] = "grants_saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSuspected(Event):
    """Many *grants* of a client were refused at once: none is ended, one request each *probe_in* seconds is made."""

    name: ClassVar[str] = "client_suspected"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    client: str
    grants: int
    probe_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrusted(Event):
    """A grant of a suspect client was refreshed: the others follow."""

    name: ClassVar[str] = "client_trusted"
    audited: ClassVar[bool] = True

    client: str
