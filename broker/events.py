"""
The catalogue of everything the daemon can report.

One frozen value for each kind of event, holding primitives only: names from the configuration, numbers,
closed codes. Never a token, never a claim, never bytes that came from a peer. Components emit events
through an ``Emit`` handed to them; only ``broker.telemetry`` turns them into log lines, metrics and audit
records. This module must not import anything of the broker but ``errors``.
"""

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
    says that the event makes an audit record (rules.md R9).
    """

    name: ClassVar[str] = "event"
    severity: ClassVar[Severity] = Severity.INFO
    audited: ClassVar[bool] = False


class AuditUnavailableError(LocalError):
    """
    The audit record of an event that must not go unrecorded could not be written.

    Raised by ``emit`` for ``TokenServed`` only, when ``[audit] on_failure = "refuse"``.
    """

    def __init__(self) -> None:
        super().__init__("audit_unavailable", "the audit log cannot be written")


Emit = Callable[[Event], None]
"""Takes an event. Raises ``AuditUnavailableError`` for a ``TokenServed`` that cannot be recorded, else nothing."""


# --- the daemon ---


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


# --- keys ---


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateLoaded(Event):
    """A transport certificate is in use; *not_after* in Unix seconds, *thumbprint* is ``x5t#S256``."""

    name: ClassVar[str] = "certificate_loaded"
    audited: ClassVar[bool] = True

    certificate: str
    generation: int
    thumbprint: str
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyLoaded(Event):
    """A signing key is in use; *not_after* in Unix seconds where the key came with a certificate."""

    name: ClassVar[str] = "signing_key_loaded"
    audited: ClassVar[bool] = True

    key: str
    alg: str
    kid: str | None
    not_after: float | None


# --- authorization servers ---


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataLoaded(Event):
    """The metadata of an issuer was fetched and accepted."""

    name: ClassVar[str] = "metadata_loaded"

    issuer: str
    token_endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRefused(Event):
    """The metadata of an issuer could not be fetched or was refused. *kept* says that an older one goes on serving."""

    name: ClassVar[str] = "metadata_refused"
    severity: ClassVar[Severity] = Severity.WARNING

    issuer: str
    reason: str
    hint: str | None
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxIssuerInUse(Event):
    """The configuration trusts an issuer that is a sandbox."""

    name: ClassVar[str] = "sandbox_issuer_in_use"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    issuer: str


# --- tokens ---


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


# --- consents ---


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationStarted(Event):
    """A person is asked to consent; *grant* is the one that is to be renewed, None for a first consent."""

    name: ClassVar[str] = "authorization_started"
    audited: ClassVar[bool] = True

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
    first access token.
    """

    name: ClassVar[str] = "authorization_granted"
    audited: ClassVar[bool] = True

    authorization: str
    workload: str
    token: str
    client: str
    grant: str
    renewed: bool
    verified: bool
    expires_at: float
    binding: str
    fingerprint: str
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


# --- grants ---


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEnded(Event):
    """A grant came to its end: *reason* is ``invalid_grant``, ``lost_answer`` or ``no_refresh_token``."""

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


# --- the local API ---


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptFailed(Event):
    """A listener cannot accept connections for now, *reason* as in errno(3): EMFILE, mostly. Said once an outage."""

    name: ClassVar[str] = "accept_failed"
    severity: ClassVar[Severity] = Severity.ERROR

    listener: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServed(Event):
    """A caller is about to get a token: the record is written before the answer is sent."""

    name: ClassVar[str] = "token_served"
    severity: ClassVar[Severity] = Severity.DEBUG
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str
    fingerprint: str
    generation: int
    stale: bool
    grant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshForced(Event):
    """A caller had a token refreshed ahead of its time: an attempt begins that would not have come now."""

    name: ClassVar[str] = "token_refresh_forced"
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """
    A caller did not get what it asked for.

    *route* is the template (``/v1/tokens/{name}``) or ``unrouted``, *token* a configured name or None (a
    name that only the caller knows is not recorded), *error* and *reason* are closed codes. *count* says how
    many alike this one stands for, when a caller repeats itself (rules.md R9).
    """

    name: ClassVar[str] = "request_refused"
    severity: ClassVar[Severity] = Severity.INFO
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str | None
    route: str
    token: str | None
    status: int
    error: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(Event):
    """Any request of any listener was answered; counted, not audited. *outcome* is ``ok`` or the error code."""

    name: ClassVar[str] = "request_answered"
    severity: ClassVar[Severity] = Severity.DEBUG

    route: str
    outcome: str
    duration: float


# --- the store ---


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
    """The anchor has seen a later write, number *anchor*, than the last of the store, *counter*; None: unreadable."""

    name: ClassVar[str] = "store_rolled_back"
    severity: ClassVar[Severity] = Severity.ERROR

    counter: int
    anchor: int | None


# --- the audit log itself ---


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
