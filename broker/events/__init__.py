"""
The catalogue of everything the daemon can report, by what it is about.

One frozen value for each kind of event, holding primitives only: names from the configuration, numbers,
closed codes. Never a token, never a claim, never bytes that came from a peer. Components emit events
through an ``Emit`` handed to them; only ``broker.telemetry`` turns them into log lines, metrics and audit
records. This package must not import anything of the broker but ``errors``.
"""

from __future__ import annotations

from broker.events.api import (
    AcceptFailed,
    GrantGivenUp,
    GrantReassigned,
    ProofServed,
    RequestAnswered,
    RequestRefused,
    TokenRefreshForced,
    TokenServed,
)
from broker.events.audit import (
    AuditGap,
    AuditOpened,
    AuditRecovered,
    AuditReopenFailed,
)
from broker.events.consents import (
    AuthorizationAbandoned,
    AuthorizationExpired,
    AuthorizationFailed,
    AuthorizationGranted,
    AuthorizationStarted,
)
from broker.events.daemon import (
    ClockJumped,
    ConfigurationDoubted,
    ConfigurationLoaded,
    ConfigurationRefused,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    LibraryReported,
    ListenerOpened,
    MachineResumed,
    UnexpectedFailure,
)
from broker.events.event import (
    AuditUnavailableError,
    Emit,
    Event,
    Severity,
)
from broker.events.grants import (
    ClientSuspected,
    ClientTrusted,
    GrantEnded,
    GrantExpiring,
    GrantQuarantined,
    GrantRevived,
    GrantRevoked,
    GrantsSaved,
    GrantsUnsaved,
    GrantUnreadable,
)
from broker.events.issuers import (
    MetadataLoaded,
    MetadataRefused,
    SandboxIssuerInUse,
)
from broker.events.keys import (
    CertificateLoaded,
    DpopKeyInUse,
    DpopKeyUnreadable,
    SigningKeyLoaded,
)
from broker.events.store import (
    StoreDegraded,
    StoreMovedAside,
    StoreRecordSuspect,
    StoreRecovered,
    StoreRolledBack,
)
from broker.events.tokens import (
    ClientResumed,
    ClientSuspended,
    TokenExpired,
    TokenLapsed,
    TokenRefreshed,
    TokenRefreshFailed,
)

__all__ = [
    "AcceptFailed",
    "AuditGap",
    "AuditOpened",
    "AuditRecovered",
    "AuditReopenFailed",
    "AuditUnavailableError",
    "AuthorizationAbandoned",
    "AuthorizationExpired",
    "AuthorizationFailed",
    "AuthorizationGranted",
    "AuthorizationStarted",
    "CertificateLoaded",
    "ClientResumed",
    "ClientSuspected",
    "ClientSuspended",
    "ClientTrusted",
    "ClockJumped",
    "ConfigurationDoubted",
    "ConfigurationLoaded",
    "ConfigurationRefused",
    "DaemonStarted",
    "DaemonStopped",
    "DaemonStopping",
    "DpopKeyInUse",
    "DpopKeyUnreadable",
    "Emit",
    "Event",
    "GrantEnded",
    "GrantExpiring",
    "GrantGivenUp",
    "GrantQuarantined",
    "GrantReassigned",
    "GrantRevived",
    "GrantRevoked",
    "GrantUnreadable",
    "GrantsSaved",
    "GrantsUnsaved",
    "LibraryReported",
    "ListenerOpened",
    "MachineResumed",
    "MetadataLoaded",
    "MetadataRefused",
    "ProofServed",
    "RequestAnswered",
    "RequestRefused",
    "SandboxIssuerInUse",
    "Severity",
    "SigningKeyLoaded",
    "StoreDegraded",
    "StoreMovedAside",
    "StoreRecordSuspect",
    "StoreRecovered",
    "StoreRolledBack",
    "TokenExpired",
    "TokenLapsed",
    "TokenRefreshFailed",
    "TokenRefreshForced",
    "TokenRefreshed",
    "TokenServed",
    "UnexpectedFailure",
]
