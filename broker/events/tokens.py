"""Access tokens, and the clients that get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed(Event):
    """
    A new access token is being served.

    *token* is the name in the configuration, *fingerprint* a keyed digest of the access token, *expires_at*
    in Unix seconds, *duration* in seconds, *jti* that of the client assertion. *binding* is ``certificate``
    (checked), ``unverified`` (asked for, and the token is opaque) or ``none``.
    """

    name: ClassVar[str] = "token_refreshed"
    audited: ClassVar[bool] = True

    token: str
    issuer: str
    client: str
    generation: int
    expires_in: float
    expires_at: float
    binding: str
    duration: float
    fingerprint: str
    jti: str | None
    grant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshFailed(Event):
    """
    A refresh failed. *reason* is a closed code (``broker.oauth.reasons``), *outcome* that of rules.md R1.

    *serving* says that an earlier token is still good and served; *retry_in* in seconds.
    """

    name: ClassVar[str] = "token_refresh_failed"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    token: str
    issuer: str
    client: str
    reason: str
    outcome: str
    status: int | None
    server_error: str | None
    hint: str | None
    retry_in: float
    serving: bool
    duration: float
    jti: str | None
    grant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExpired(Event):
    """A token reached its end and was not replaced in time: it is no longer served."""

    name: ClassVar[str] = "token_expired"
    severity: ClassVar[Severity] = Severity.ERROR

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLapsed(Event):
    """A token that is kept on demand reached its end while nobody asked: the next caller gets another."""

    name: ClassVar[str] = "token_lapsed"

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSuspended(Event):
    """Three suspicions against a client's certificate in a row: it only probes now, every *probe_in* seconds."""

    name: ClassVar[str] = "client_suspended"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    client: str
    reason: str
    hint: str | None
    probe_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResumed(Event):
    """A suspended client was answered again."""

    name: ClassVar[str] = "client_resumed"
    audited: ClassVar[bool] = True

    client: str
