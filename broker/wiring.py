"""
The one file that names every concrete class: settings in, the parts of a daemon out.

``load_identities`` reads files and blocks, so it runs before there is an event loop. Building awaits
nothing and decides nothing but what is configured.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import resource
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

from broker.api.desk import UNROUTED
from broker.api.limits import Limits
from broker.api.listeners import UnixListener
from broker.api.ops import OPS_ROUTES, OpsServer, Render
from broker.api.routes import API_ROUTES
from broker.api.server import ApiServer
from broker.config.settings import AuditSettings, CertificateSettings, ClientSettings, KeySettings, Settings
from broker.errors import LocalError
from broker.events import Emit, Event
from broker.hostenv.clock import SystemClock, SystemRandomness
from broker.keys.client_secrets import load_client_secret
from broker.keys.files import read_private
from broker.keys.identity import TransportCertificate, load_transport_certificate
from broker.keys.signer import SigningKey, load_signing_key
from broker.keys.tls import client_context
from broker.oauth.secret import ClientSecret
from broker.policy.rules import Policy
from broker.telemetry.audit import AuditLog, open_audit
from broker.telemetry.logs import open_log
from broker.telemetry.metrics import Metrics
from broker.telemetry.sink import Telemetry
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.ports import Clock, Fingerprint, Randomness
from broker.tokens.registry import Registry
from broker.transport.metadata import METADATA_MAX_BODY, Metadata
from broker.transport.session import MAX_BODY, Session

FIRST_GENERATION = 1
"""Certificates and keys count their generations up from here while the process lives."""

PROCESS_KEY_BYTES = 32
"""Random bytes under which tokens are fingerprinted when there is no audit log to do it."""

FINGERPRINT_LENGTH = 16
"""Hexadecimal characters, as in the audit log."""

AUDIT = "audit"
"""Stands where others have a name: there is one audit log."""

Wanted = TypeVar("Wanted")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """Certificates and signing keys by their names, client secrets by their client's, loaded and checked."""

    certificates: Mapping[str, TransportCertificate]
    keys: Mapping[str, SigningKey]
    secrets: Mapping[str, ClientSecret] = field(default_factory=dict)
    audit_key: bytes | None = field(default=None, repr=False)


def load_identities(
    settings: Settings, *, wall_now: float, on_error: Callable[[LocalError], None] | None = None
) -> Identities:
    """
    Load every certificate, key and client secret, and try the CA files; takes tens of milliseconds each.

    Raises LocalError for the first that is wrong. With *on_error* every error goes there instead, and what
    is wrong is missing from the result.
    """
    _each(settings.issuers, lambda issuer: client_context(issuer.ca_file), on_error)
    return Identities(
        certificates=_each(settings.certificates, partial(_certificate, wall_now=wall_now), on_error),
        keys=_each(settings.keys, _signing_key, on_error),
        secrets=_each(_secret_files(settings), load_client_secret, on_error),
        audit_key=_each(_audit_key_file(settings), read_private, on_error).get(AUDIT),
    )


def _secret_files(settings: Settings) -> dict[str, Path]:
    return {name: wanted.secret_file for name, wanted in settings.clients.items() if wanted.secret_file is not None}


def _audit_key_file(settings: Settings) -> dict[str, Path]:
    wanted = settings.audit
    return {} if wanted is None or wanted.key_file is None else {AUDIT: wanted.key_file}


def _each(
    wanted: Mapping[str, Wanted], load: Callable[[Wanted], Loaded], on_error: Callable[[LocalError], None] | None
) -> dict[str, Loaded]:
    loaded = {}
    for name, one in wanted.items():
        try:
            loaded[name] = load(one)
        except LocalError as error:
            if on_error is None:
                raise
            on_error(error)
    return loaded


def _certificate(wanted: CertificateSettings, *, wall_now: float) -> TransportCertificate:
    return load_transport_certificate(
        name=wanted.name,
        cert_file=wanted.cert_file,
        key_file=wanted.key_file,
        passphrase_file=wanted.passphrase_file,
        generation=FIRST_GENERATION,
        wall_now=wall_now,
    )


def _signing_key(wanted: KeySettings) -> SigningKey:
    return load_signing_key(
        name=wanted.name,
        file=wanted.file,
        alg=wanted.alg,
        kid=wanted.kid,
        passphrase_file=wanted.passphrase_file,
    )


@dataclass(slots=True, kw_only=True)
class Parts:
    """What ``broker.daemon`` puts to work and takes down."""

    settings: Settings
    identities: Identities
    telemetry: Telemetry
    audit: AuditLog | None
    registry: Registry
    api: ApiServer
    ops: OpsServer | None
    sessions: tuple[Session, ...]
    emit: Emit = field(repr=False)

    def reopen_logs(self) -> None:
        """Follow a log file that was moved away (SIGHUP)."""
        if self.audit is not None:
            self.audit.reopen()


def build(settings: Settings, identities: Identities, *, log_stream: TextIO) -> Parts:
    """Build a daemon's parts; opens the audit log. Raises LocalError when it cannot be opened safely."""
    clock, randomness = SystemClock(), SystemRandomness()
    telemetry, metrics, audit = _telemetry(settings, identities.audit_key, clock, randomness, log_stream)
    emit = telemetry.emit
    lines = _Lines(settings, identities, clock, randomness, emit)
    acquirer = Acquirer(clock=clock, randomness=randomness, fingerprint=_fingerprint(audit, randomness))
    registry = Registry(
        settings.tokens,
        {name: lines.registration(client) for name, client in settings.clients.items()},
        acquirer=acquirer,
        clock=clock,
        randomness=randomness,
        emit=emit,
    )
    metrics.watch_tokens(lambda: _expiries(registry))
    serving = _Serving(settings=settings, tokens=registry, clock=clock, randomness=randomness, emit=emit)
    return Parts(
        settings=settings,
        identities=identities,
        telemetry=telemetry,
        audit=audit,
        registry=registry,
        api=serving.api(),
        ops=serving.ops(metrics.render),
        sessions=tuple(lines.sessions),
        emit=emit,
    )


class _Lines:
    """Makes sessions and metadata sources, one for each use, and remembers them so that they are closed."""

    def __init__(
        self, settings: Settings, identities: Identities, clock: Clock, randomness: Randomness, emit: Emit
    ) -> None:
        self.sessions: list[Session] = []
        self._settings = settings
        self._identities = identities
        self._clock = clock
        self._randomness = randomness
        self._shared: dict[tuple[str, str | None], Session] = {}
        self.metadata = {
            name: Metadata(
                issuer=issuer.issuer,
                session=self._session(client_context(issuer.ca_file), max_body=METADATA_MAX_BODY),
                clock=clock,
                randomness=randomness,
                emit=emit,
            )
            for name, issuer in settings.issuers.items()
        }

    def registration(self, wanted: ClientSettings) -> Registration:
        """Give a client what it needs to speak to its issuer."""
        issuer = self._settings.issuers[wanted.client.issuer].issuer
        signer = None if wanted.signing_key is None else self._identities.keys[wanted.signing_key]
        return Registration(
            client=wanted.client,
            issuer=issuer,
            metadata=self.metadata[issuer.name],
            exchange=Exchange(
                session=self._line(issuer.name, wanted.certificate),
                signer=signer,
                secret=self._identities.secrets.get(wanted.client.name),
                clock=self._clock,
                randomness=self._randomness,
            ),
        )

    def _line(self, issuer: str, certificate: str | None) -> Session:
        """Give the session to *issuer* with *certificate*; clients that share both share it."""
        if (issuer, certificate) not in self._shared:
            self._shared[issuer, certificate] = self._new(issuer, certificate)
        return self._shared[issuer, certificate]

    def _new(self, issuer: str, certificate: str | None) -> Session:
        ca_file = self._settings.issuers[issuer].ca_file
        if certificate is None:
            return self._session(client_context(ca_file))
        identity = self._identities.certificates[certificate]
        return self._session(
            identity.client_context(ca_file), thumbprint=identity.thumbprint, not_after=identity.not_after
        )

    def _session(
        self,
        context: ssl.SSLContext,
        *,
        thumbprint: str | None = None,
        not_after: float | None = None,
        max_body: int = MAX_BODY,
    ) -> Session:
        session = Session(
            ssl_context=context, thumbprint=thumbprint, not_after=not_after, clock=self._clock, max_body=max_body
        )
        self.sessions.append(session)
        return session


def _telemetry(
    settings: Settings, audit_key: bytes | None, clock: Clock, randomness: Randomness, log_stream: TextIO
) -> tuple[Telemetry, Metrics, AuditLog | None]:
    metrics = Metrics()
    metrics.expect(
        tokens=[spec.name for spec in settings.tokens],
        issuers=settings.issuers,
        clients=settings.clients,
        certificates=settings.certificates,
        keys=settings.keys,
        routes=[UNROUTED, *(route.template for route in API_ROUTES), *(route.template for route in OPS_ROUTES)],
    )
    logs = open_log(log_stream, settings.log_level, clock=clock)

    def report(event: Event) -> None:
        """Log and count what the audit log says of itself; it does not record that."""
        logs.write(event)
        metrics.count(event)

    audit = _audit(settings.audit, audit_key, clock, randomness, report)
    return Telemetry(logs=logs, metrics=metrics, audit=audit, clock=clock), metrics, audit


def _audit(
    wanted: AuditSettings | None, key: bytes | None, clock: Clock, randomness: Randomness, emit: Emit
) -> AuditLog | None:
    if wanted is None:
        return None
    return open_audit(
        wanted.file,
        key=key,
        on_failure=wanted.on_failure,
        clock=clock,
        randomness=randomness,
        emit=emit,
    )


def _fingerprint(audit: AuditLog | None, randomness: Randomness) -> Fingerprint:
    """Give the keyed digest of the audit log, or without one a digest under a key of this process."""
    if audit is not None:
        return audit.fingerprint
    key = randomness.token(PROCESS_KEY_BYTES).encode()
    return lambda secret: hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()[:FINGERPRINT_LENGTH]


def _expiries(registry: Registry) -> list[tuple[str, float | None]]:
    current = [(name, registry.current(name)) for name in registry.names()]
    return [(name, None if token is None else token.expires_at_wall) for name, token in current]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """What both servers are made of."""

    settings: Settings
    tokens: Registry
    clock: Clock
    randomness: Randomness
    emit: Emit

    def sandboxes(self) -> tuple[str, ...]:
        """Name the issuers that may be sandboxes: readiness says so (rules.md R10)."""
        return tuple(name for name, issuer in self.settings.issuers.items() if issuer.issuer.sandbox)

    def api(self) -> ApiServer:
        """Make the server of the API sockets."""
        daemon = self.settings.daemon
        limits = Limits(
            max_connections=daemon.max_connections,
            max_connections_per_uid=daemon.max_connections_per_uid,
            max_waiting=daemon.max_waiting,
            max_waiting_per_uid=daemon.max_waiting_per_uid,
            request_deadline=daemon.request_seconds,
        )
        return ApiServer(
            [
                UnixListener(name=wanted.name, path=wanted.path, mode=wanted.mode, gid=wanted.gid)
                for wanted in self.settings.listeners
            ],
            policy=Policy(workloads=self.settings.workloads, own_uid=os.geteuid()),
            tokens=self.tokens,
            emit=self.emit,
            clock=self.clock,
            randomness=self.randomness,
            limits=limits.within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            hosts=daemon.hosts,
            sandbox=self.sandboxes,
        )

    def ops(self, render: Render) -> OpsServer | None:
        """Make the ops listener, unless the configuration does without."""
        wanted = self.settings.ops
        if wanted is None:
            return None
        return OpsServer(
            wanted.host,
            wanted.port,
            tokens=self.tokens,
            render=render,
            emit=self.emit,
            clock=self.clock,
            randomness=self.randomness,
            sandbox=self.sandboxes,
        )
