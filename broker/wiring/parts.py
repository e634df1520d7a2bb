"""
The parts of a daemon, and how another configuration is put to use in them.

Building awaits nothing and decides nothing but what is configured.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import resource
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TextIO

from broker.api.desk import UNROUTED
from broker.api.egress import PASSED_ROUTES
from broker.api.limits import Limits
from broker.api.ops import OPS_ROUTES, OpsServer, Render
from broker.api.rotated import Rotate
from broker.api.routes import API_ROUTES
from broker.api.server import ApiServer
from broker.api.world import PublicKeys
from broker.config.settings import (
    AuditSettings,
    Settings,
)
from broker.egress.caller import Caller
from broker.events import Emit, EmitServed, Event
from broker.hostenv.clock import SYSTEM_CLOCK, SystemRandomness
from broker.hostenv.clock_watch import Clocks, ClockWatch
from broker.keys.identity import TransportCertificate
from broker.policy.rules import Policy
from broker.sinks.roster import Roster
from broker.telemetry.audit import AuditLog, open_audit
from broker.telemetry.logs import open_log
from broker.telemetry.metrics import Metrics
from broker.telemetry.sink import Telemetry
from broker.tokens.acquire import Acquirer
from broker.tokens.ports import Clock, Fingerprint, Randomness
from broker.tokens.storing import Store
from broker.wiring.generations import Generations
from broker.wiring.identities import Identities
from broker.wiring.lifecycle import Lifecycle, lifecycle_of
from broker.wiring.lines import UpstreamLines
from broker.wiring.listening import listeners_of
from broker.wiring.means import Means, means_of
from broker.wiring.proof_keys import ProofKeys
from broker.wiring.public_keys import public_keys
from broker.wiring.sinking import sinks_of
from broker.wiring.storing import open_store, writes

PROCESS_KEY_BYTES = 32
"""Random bytes under which tokens are fingerprinted when there is no audit log to do it."""

FINGERPRINT_LENGTH = 16
"""Hexadecimal characters, as in the audit log."""


@dataclass(slots=True, kw_only=True)
class _Serving:
    """
    What both servers are made of.

    *settings* are those in force, *public* the keys that go with them, *restart* the sections that wait for one,
    *refused* says that the last reload was refused. *rotate* looks at the files, once the daemon runs. *inherited*
    are the sockets that were opened for us, by the listeners' names.
    """

    settings: Settings
    life: Lifecycle
    clock: Clock
    randomness: Randomness
    emit: Emit
    emit_served: EmitServed
    public: Mapping[str, PublicKeys]
    restart: tuple[str, ...] = ()
    refused: bool = False
    rotate: Rotate | None = None
    lines: UpstreamLines
    audit: AuditLog | None
    inherited: Mapping[str, socket.socket] = field(default_factory=dict)

    def sandboxes(self) -> tuple[str, ...]:
        """Name the issuers that may be sandboxes: readiness says so (rules.md R10)."""
        return tuple(name for name, issuer in self.settings.issuers.items() if issuer.issuer.sandbox)

    def resources(self, token: str) -> tuple[str, ...]:
        """Give the base URLs of the APIs that callers may have DPoP proofs for with *token* (rules.md R7)."""
        apis = (one.upstream for one in self.settings.upstreams.values())
        return (*self.life.proving.resources(token), *(api.base_url for api in apis if api.token == token))

    def api(self) -> ApiServer:
        """Make the server of the API sockets."""
        daemon = self.settings.daemon
        limits = Limits(
            max_connections=daemon.max_connections,
            max_connections_per_uid=daemon.max_connections_per_uid,
            max_waiting=daemon.max_waiting,
            max_waiting_per_uid=daemon.max_waiting_per_uid,
            max_requests_per_second_per_uid=daemon.max_requests_per_second_per_uid,
            request_deadline=daemon.request_seconds,
        )
        return ApiServer(
            listeners_of(self.settings),
            policy=_policy(self.settings),
            tokens=self.life.tokens,
            grants=self.life.grants,
            authorizations=self.life.authorizations,
            emit=self.emit,
            clock=self.clock,
            randomness=self.randomness,
            limits=limits.within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            hosts=daemon.hosts,
            sandbox=self.sandboxes,
            restart=lambda: self.restart,
            refused=lambda: self.refused,
            clients=lambda: self.public,
            egress=Caller(
                lines=self.lines,
                proofs=self.life.proving.proofs,
                is_endpoint=self.life.proving.is_endpoint,
                clock=self.clock,
                randomness=self.randomness,
            ),
            upstreams=lambda: {name: one.upstream for name, one in self.settings.upstreams.items()},
            takes_records=lambda: self.audit is None or self.audit.takes_records,
            bases={one.name: one.upstream for one in self.settings.listeners if one.upstream is not None},
            rotate=lambda: self.rotate,
            proving=self.life.proving,
            resources=self.resources,
            inherited=self.inherited,
            fast_path=daemon.fast_path,
            emit_served=self.emit_served,
        )

    def ops(self, render: Render) -> OpsServer | None:
        """Make the ops listener, unless the configuration does without."""
        wanted = self.settings.ops
        if wanted is None:
            return None
        return OpsServer(
            wanted.host,
            wanted.port,
            tokens=self.life.tokens,
            render=render,
            emit=self.emit,
            clock=self.clock,
            randomness=self.randomness,
            sandbox=self.sandboxes,
        )


@dataclass(slots=True, kw_only=True)
class Parts:
    """What ``broker.daemon`` puts to work and takes down."""

    settings: Settings
    identities: Identities
    telemetry: Telemetry
    audit: AuditLog | None
    store: Store
    life: Lifecycle
    api: ApiServer
    ops: OpsServer | None
    means: Means
    lines: UpstreamLines
    sinks: Roster
    generations: Generations
    proof_keys: ProofKeys
    serving: _Serving
    metrics: Metrics
    clock_watch: ClockWatch
    clock: Clocks
    randomness: Randomness
    emit: Emit = field(repr=False)

    def prepare(self, settings: Settings, identities: Identities) -> Means:
        """Build what another configuration needs and put nothing to use. Blocks. Raises LocalError."""
        known = {issuer: self.means.servers[name] for name, issuer in self.settings.issuers.items()}
        return means_of(
            settings,
            identities,
            self.clock,
            self.randomness,
            self.emit,
            proof_keys=self.proof_keys,
            known=known,
            shown=self._shown(),
        )

    def adopt(
        self,
        settings: Settings,
        means: Means,
        *,
        restart: tuple[str, ...] = (),
        banned: frozenset[str] = frozenset(),
    ) -> tuple[asyncio.Task[None], ...]:
        """
        Put another configuration to use, at once; gives the attempts that run with the older means.

        To be called on the loop. Listeners and what the daemon is started with stay as they are; *restart* names
        the sections whose changes wait for that. Tokens that are bound to certificates or DPoP keys with
        the thumbprints *banned* are not served any more.
        """
        _expect(self.metrics, settings)
        self.settings, self.identities, self.means = settings, means.identities, means
        self.generations.put_to_use(means.identities.certificates)
        self.serving.settings, self.serving.restart = settings, restart
        self.serving.public = public_keys(settings, means.identities)
        for server, session in means.renewals:
            server.renew(session)
        self.lines.adopt(means.lines, means.earlier_lines)
        self.proof_keys.adopt(means.registrations)
        self.proof_keys.drop(banned)
        self.api.replace_policy(_policy(settings))
        self.sinks.replace(settings.sinks)
        return self.life.replace(settings.tokens, means.registrations, banned=banned)

    def _shown(self) -> dict[str, list[TransportCertificate]]:
        """Give the certificates that APIs are shown now, by upstream."""
        return {
            name: [known for one in thumbprints if (known := self.generations.get(one)) is not None]
            for name, thumbprints in self.lines.shown().items()
        }

    def store_works(self) -> bool:
        """Say whether what writes the store goes on, however slow or full the disk is."""
        return writes(self.store)

    def reopen_logs(self) -> None:
        """Follow a log file that was moved away (SIGHUP)."""
        if self.audit is not None:
            self.audit.reopen()


def build(
    settings: Settings,
    identities: Identities,
    *,
    log_stream: TextIO,
    clock: Clocks = SYSTEM_CLOCK,
    inherited: Mapping[str, socket.socket] = MappingProxyType({}),
) -> Parts:
    """
    Build a daemon's parts; opens the audit log and the store. *inherited* are sockets that were opened for us.

    Raises LocalError when one of them cannot be opened safely.
    """
    randomness = SystemRandomness()
    telemetry, metrics, audit = _telemetry(settings, identities.audit_key, clock, randomness, log_stream)
    emit = telemetry.emit
    store = open_store(settings, identities.store_key, clock=clock, emit=emit)
    proof_keys = ProofKeys(store, clock=clock, randomness=randomness, emit=emit)
    means = means_of(settings, identities, clock, randomness, emit, proof_keys=proof_keys)
    proof_keys.adopt(means.registrations)
    lines = UpstreamLines(means.lines)
    life = lifecycle_of(
        settings.tokens,
        means.registrations,
        acquirer=Acquirer(clock=clock, randomness=randomness, fingerprint=_fingerprint(audit, randomness)),
        store=store,
        proof_keys=proof_keys,
        emit=emit,
    )
    metrics.watch_tokens(life.expiries)
    metrics.watch_availability(life.available)
    metrics.watch_grants(life.grants.survey)
    serving = _Serving(
        settings=settings,
        life=life,
        clock=clock,
        randomness=randomness,
        emit=emit,
        emit_served=telemetry.emit_served,
        public=public_keys(settings, identities),
        lines=lines,
        audit=audit,
        inherited=inherited,
    )
    generations = Generations(identities.certificates)
    generations.on_retired(lambda certificate: lines.retire(certificate.thumbprint))
    return Parts(
        settings=settings,
        identities=identities,
        telemetry=telemetry,
        audit=audit,
        store=store,
        life=life,
        api=serving.api(),
        ops=serving.ops(metrics.page),
        means=means,
        lines=lines,
        sinks=sinks_of(settings, life.tokens, clock=clock, randomness=randomness, emit=emit),
        generations=generations,
        proof_keys=proof_keys,
        serving=serving,
        metrics=metrics,
        clock_watch=ClockWatch(clock, emit),
        clock=clock,
        randomness=randomness,
        emit=emit,
    )


def _telemetry(
    settings: Settings, audit_key: bytes | None, clock: Clock, randomness: Randomness, log_stream: TextIO
) -> tuple[Telemetry, Metrics, AuditLog | None]:
    metrics = Metrics()
    _expect(metrics, settings)
    logs = open_log(log_stream, settings.log_level, clock=clock)

    def report(event: Event) -> None:
        """Log and count what the audit log says of itself; it does not record that."""
        logs.write(event)
        metrics.count(event)

    audit = _audit(settings.audit, audit_key, clock, randomness, report)
    return Telemetry(logs=logs, metrics=metrics, audit=audit, clock=clock), metrics, audit


def _expect(metrics: Metrics, settings: Settings) -> None:
    metrics.expect(
        tokens=[spec.name for spec in settings.tokens],
        consented=[spec.name for spec in settings.tokens if spec.consent is not None],
        issuers=settings.issuers,
        clients=settings.clients,
        certificates=settings.certificates,
        keys=settings.keys,
        upstreams=settings.upstreams,
        sinks=[sink.name for sink in settings.sinks],
        routes=[
            UNROUTED,
            *PASSED_ROUTES,
            *(route.template for route in API_ROUTES),
            *(route.template for route in OPS_ROUTES),
        ],
    )


def _policy(settings: Settings) -> Policy:
    return Policy(workloads=settings.workloads, own_uid=os.geteuid())


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
