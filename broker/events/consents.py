"""
People who are asked, and what they say.

*listener*, *uid*, *gid* and *pid* are those of the caller whose request it was, None where there was none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationStarted(Event):
    """A person is asked to consent; *grant* is the one that is to be renewed, None for a first consent."""

    name: ClassVar[str] = "authorization_started"
    audited: ClassVar[bool] = True

    listener: str | None
    uid: int | None
    gid: int | None
    pid: int | None
    authorization: str
    workload: str
    token: str
    client: str
    grant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationGranted(Event):
    """
    A person consented, and every check has passed: the grant is in use.

    *renewed*: it was there before; *verified*: an ID token says who the person is. The rest is that of the
    first access token, as far as it is known: what a broker finds out at its start, because the one before it
    was killed in that moment, has no caller and no fingerprint.
    """

    name: ClassVar[str] = "authorization_granted"
    audited: ClassVar[bool] = True

    listener: str | None
    uid: int | None
    gid: int | None
    pid: int | None
    authorization: str
    workload: str
    token: str
    client: str
    grant: str
    renewed: bool
    verified: bool
    expires_at: float | None
    binding: str | None
    fingerprint: str | None
    jti: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationFailed(Event):
    """
    What came back brought no grant; *check* is the name of the check that failed, None for another *reason*.

    *status* and *server_error* are those of the authorization server's answer, if that was it.
    """

    name: ClassVar[str] = "authorization_failed"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    listener: str | None
    uid: int | None
    gid: int | None
    pid: int | None
    authorization: str
    workload: str
    token: str
    client: str
    reason: str
    check: str | None
    status: int | None
    server_error: str | None
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationAbandoned(Event):
    """Whoever asked for a consent gave that up before the person came back."""

    name: ClassVar[str] = "authorization_abandoned"
    audited: ClassVar[bool] = True

    listener: str | None
    uid: int | None
    gid: int | None
    pid: int | None
    authorization: str
    workload: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationExpired(Event):
    """A person was asked and did not come back in time."""

    name: ClassVar[str] = "authorization_expired"

    authorization: str
    workload: str
    token: str
