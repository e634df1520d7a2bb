"""
What a configuration comes to: checked values, for ``broker.wiring`` to build a daemon from.

Frozen values only; where a component has a value type of its own (``oauth.Client``, ``tokens.TokenSpec``,
``policy.Workload``) it is used as it is. Paths are absolute, user and group names are numbers, references
between sections are known to be good. No secret is in here, only the paths of files that hold one. This
module must not know how the file was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from broker.config.problems import Problem
from broker.oauth.client import Client, Issuer
from broker.policy.rules import Workload
from broker.policy.upstreams import Upstream
from broker.sinks.spec import Sink
from broker.tokens.spec import TokenSpec


class OnAuditFailure(StrEnum):
    """What happens to a request for a token while the audit log cannot be written (rules.md R9)."""

    REFUSE = "refuse"
    """No token leaves unrecorded: 503."""
    SERVE = "serve"
    """Tokens leave; the gap is counted and alarmed."""


class LogLevel(StrEnum):
    """The least severity of events that make a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSettings:
    """
    An authorization server; *ca_file* replaces the system's CAs for its connections.

    With *proxy*, the URL of one, they all go through it; *proxy_credentials_file* holds what it wants to know.
    """

    issuer: Issuer
    ca_file: Path | None
    proxy: str | None = None
    proxy_credentials_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSettings:
    """A transport certificate and its private key; the files are not opened while the configuration is loaded."""

    name: str
    cert_file: Path
    key_file: Path
    passphrase_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """
    A signing key; *kid* None lets the key file decide, an empty one sends none.

    *cert_file* is its certificate, if it has one; *switch_delay* the seconds for which a new key in the file is
    published before it signs.
    """

    name: str
    file: Path
    alg: str
    kid: str | None
    passphrase_file: Path | None
    cert_file: Path | None = None
    switch_delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """
    A client with the names of its ``[certificate.NAME]`` and of its ``[key.NAME]``.

    The first of *signing_keys* signs, all of them are published.
    *secret_file* holds its client secret; None for methods that send none. *dpop_key* is the name of the key that
    its tokens are bound to; None where there is none, and where the broker makes it.
    """

    client: Client
    certificate: str | None
    signing_keys: tuple[str, ...] = ()
    secret_file: Path | None = None
    dpop_key: str | None = None

    @property
    def signing_key(self) -> str | None:
        """The name of the key that signs, None where nothing is signed."""
        return self.signing_keys[0] if self.signing_keys else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """
    An API; *ca_file*, *proxy* and *proxy_credentials_file* as for an issuer.

    *reply_seconds* and *idle_seconds*: how long a reply may take to begin, and a body to go on.
    """

    upstream: Upstream
    ca_file: Path | None
    proxy: str | None
    proxy_credentials_file: Path | None
    reply_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """
    A Unix socket: *mode* are permission bits, *gid* None keeps the daemon's own group.

    *upstream* names the one API that it is the base URL of, if it is.
    """

    name: str
    path: Path
    mode: int
    gid: int | None
    upstream: str | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """Where it is."""
        return (self.path,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpListenerSettings:
    """
    A loopback address: *host* is one without brackets.

    *secret_file* is where the broker writes what callers have to show, *gid* the group that may read it, None
    keeps the daemon's own. *upstream* as for a Unix socket.
    """

    name: str
    host: str
    port: int
    secret_file: Path
    gid: int | None
    upstream: str | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """Where it is, and what callers have to be able to read."""
        return (self.host, self.port, self.secret_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsSettings:
    """Where health and metrics are served: *host* is an IP address without brackets."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit log; without *key_file* its checkpoints are consistent, but not authenticated."""

    file: Path
    key_file: Path | None
    on_failure: OnAuditFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The store in the state directory, sealed with the key in *key_file*; *anchor* is a file elsewhere, or None."""

    key_file: Path
    anchor: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """
    State and limits of the daemon; limits on connections count all API listeners together.

    *state_dir* is None where there is none.

    *drain_seconds*: open requests may go on for so long after a signal. *request_seconds*: a request must
    have arrived whole within so long. *max_waiting*: requests that wait for something to happen. *fast_path*: the same
    bytes are parsed once. *hosts*: values of ``Host`` that are accepted beside the fixed ones. *landlock*: other files
    are given up at the start.
    """

    state_dir: Path | None
    drain_seconds: int
    request_seconds: int
    max_connections: int
    max_connections_per_uid: int
    max_waiting: int
    max_waiting_per_uid: int
    max_requests_per_second_per_uid: int
    fast_path: bool
    hosts: frozenset[str]
    landlock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    A whole configuration.

    *sha256* is that of the bytes of the file *path*. *ops* and *audit* are None only where the file says
    ``enabled = false``. *warnings* are what looks like a mistake but may be meant: to be shown, not refused.
    """

    path: Path
    sha256: str
    issuers: Mapping[str, IssuerSettings]
    certificates: Mapping[str, CertificateSettings]
    keys: Mapping[str, KeySettings]
    clients: Mapping[str, ClientSettings]
    tokens: tuple[TokenSpec, ...]
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=dict)
    workloads: tuple[Workload, ...]
    sinks: tuple[Sink, ...] = ()
    listeners: tuple[ListenerSettings | TcpListenerSettings, ...]
    ops: OpsSettings | None
    log_level: LogLevel
    audit: AuditSettings | None
    store: StoreSettings | None = None
    daemon: DaemonSettings
    warnings: tuple[Problem, ...]
