"""Connections, metadata sources and registrations: what is built anew for each configuration."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from broker.config.settings import (
    ClientSettings,
    IssuerSettings,
    Settings,
    UpstreamSettings,
)
from broker.events import Emit
from broker.keys.identity import TransportCertificate
from broker.keys.tls import client_context
from broker.oauth.client import Issuer
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.ports import Clock, Randomness
from broker.tokens.proofs import Proofs
from broker.transport.jwks import KeySource
from broker.transport.metadata import METADATA_MAX_BODY, Metadata
from broker.transport.proxy import Proxy
from broker.transport.session import MAX_BODY, Session
from broker.transport.upstream import Patience, UpstreamLine
from broker.wiring.identities import Identities
from broker.wiring.proof_keys import ProofKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is known of an issuer, and fetched without any client: its metadata and its public keys."""

    metadata: Metadata
    keys: KeySource

    def renew(self, session: Session) -> None:
        """Fetch with *session* from now on; what is in hand stays."""
        self.metadata.renew(session)
        self.keys.renew(session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What is built anew for each configuration, and closed when nothing uses it any more."""

    identities: Identities
    registrations: Mapping[str, Registration]
    servers: Mapping[str, Server]
    renewals: tuple[tuple[Server, Session], ...]
    sessions: tuple[Session, ...]
    lines: Mapping[str, UpstreamLine] = field(default_factory=dict)
    earlier_lines: tuple[tuple[str, UpstreamLine], ...] = ()

    async def close(self, *, but: Collection[object] = ()) -> None:
        """
        Close the sessions, and the keys *but* those that other means have as well; twice does no harm.

        The lines have a life of their own.
        """
        for session in self.sessions:
            await session.close()
        for key in self.identities.keys.values():
            if not any(key is other for other in but):
                key.close()


def means_of(
    settings: Settings,
    identities: Identities,
    clock: Clock,
    randomness: Randomness,
    emit: Emit,
    *,
    proof_keys: ProofKeys,
    known: Mapping[IssuerSettings, Server] | None = None,
    shown: Mapping[str, Iterable[TransportCertificate]] | None = None,
) -> Means:
    """
    Build the means of a configuration; what is known of issuers that are *known* as they are is kept.

    *shown* are the certificates that are presented to upstreams, by name: tokens may still be bound to them, so that
    there are lines for these as well, which trust and wait as the newest do.
    """
    lines = _Lines(settings, identities, clock, randomness, emit, proof_keys=proof_keys, known=known or {})
    registrations = {name: lines.registration(client) for name, client in settings.clients.items()}
    newest = {name: lines.upstream(upstream) for name, upstream in settings.upstreams.items()}
    return Means(
        identities=identities,
        registrations=registrations,
        servers=lines.servers,
        renewals=tuple(lines.renewals),
        sessions=tuple(lines.sessions),
        lines=newest,
        earlier_lines=tuple(
            (name, lines.upstream_with(upstream, certificate))
            for name, upstream in settings.upstreams.items()
            for certificate in (shown or {}).get(name, ())
            if certificate.thumbprint != newest[name].thumbprint
        ),
    )


def proxy_of(issuer: IssuerSettings, identities: Identities) -> Proxy | None:
    """Give the proxy through which everything to *issuer* goes, or None."""
    if issuer.proxy is None:
        return None
    return Proxy(url=issuer.proxy, credentials=identities.proxies.get(issuer.issuer.name))


class _Lines:
    """Makes sessions and what fetches with them, one for each use, and remembers them so that they are closed."""

    def __init__(
        self,
        settings: Settings,
        identities: Identities,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        *,
        proof_keys: ProofKeys,
        known: Mapping[IssuerSettings, Server] | None = None,
    ) -> None:
        self._proof_keys = proof_keys
        self.sessions: list[Session] = []
        self.renewals: list[tuple[Server, Session]] = []
        self._emit = emit
        self._known = known or {}
        self._settings = settings
        self._identities = identities
        self._clock = clock
        self._randomness = randomness
        self._shared: dict[tuple[str, str | None], Session] = {}
        self.servers = {name: self._server(issuer) for name, issuer in settings.issuers.items()}

    def _server(self, wanted: IssuerSettings) -> Server:
        proxy = proxy_of(wanted, self._identities)
        session = self._session(client_context(wanted.ca_file), proxy, max_body=METADATA_MAX_BODY)
        if wanted in self._known:
            self.renewals.append((self._known[wanted], session))
            return self._known[wanted]
        metadata = Metadata(
            issuer=wanted.issuer, session=session, clock=self._clock, randomness=self._randomness, emit=self._emit
        )
        keys = KeySource(metadata=metadata, session=session, clock=self._clock, randomness=self._randomness)
        return Server(metadata=metadata, keys=keys)

    def registration(self, wanted: ClientSettings) -> Registration:
        """Give a client what it needs to speak to its issuer."""
        issuer = self._settings.issuers[wanted.client.issuer].issuer
        signer = None if wanted.signing_key is None else self._identities.keys[wanted.signing_key]
        return Registration(
            client=wanted.client,
            issuer=issuer,
            metadata=self.servers[issuer.name].metadata,
            keys=self.servers[issuer.name].keys,
            exchange=Exchange(
                session=self._line(issuer.name, wanted.certificate),
                signer=signer,
                secret=self._identities.secrets.get(wanted.client.name),
                proofs=self._proofs(wanted, issuer) if wanted.client.proves else None,
                clock=self._clock,
                randomness=self._randomness,
            ),
        )

    def upstream(self, wanted: UpstreamSettings) -> UpstreamLine:
        """Give the line to an API, with the certificate of the client whose token it is called with."""
        client = next(spec.client for spec in self._settings.tokens if spec.name == wanted.upstream.token)
        certificate = self._settings.clients[client].certificate
        return self.upstream_with(wanted, None if certificate is None else self._identities.certificates[certificate])

    def upstream_with(self, wanted: UpstreamSettings, identity: TransportCertificate | None) -> UpstreamLine:
        """Give the line to an API with the certificate *identity*, or with none."""
        context = client_context(wanted.ca_file) if identity is None else identity.client_context(wanted.ca_file)
        proxy = None
        if wanted.proxy is not None:
            proxy = Proxy(url=wanted.proxy, credentials=self._identities.upstream_proxies.get(wanted.upstream.name))
        return UpstreamLine(
            ssl_context=context,
            thumbprint=None if identity is None else identity.thumbprint,
            not_after=None if identity is None else identity.not_after,
            clock=self._clock,
            limit=wanted.upstream.connections,
            patience=Patience(reply=wanted.reply_seconds, piece=wanted.idle_seconds),
            proxy=proxy,
        )

    def _proofs(self, wanted: ClientSettings, issuer: Issuer) -> Proofs:
        configured = None if wanted.dpop_key is None else self._identities.proof_keys[wanted.dpop_key]
        return self._proof_keys.proofs(wanted.client, issuer.issuer, configured)

    def _line(self, issuer: str, certificate: str | None) -> Session:
        """Give the session to *issuer* with *certificate*; clients that share both share it."""
        if (issuer, certificate) not in self._shared:
            self._shared[issuer, certificate] = self._new(issuer, certificate)
        return self._shared[issuer, certificate]

    def _new(self, issuer: str, certificate: str | None) -> Session:
        wanted = self._settings.issuers[issuer]
        proxy = proxy_of(wanted, self._identities)
        if certificate is None:
            return self._session(client_context(wanted.ca_file), proxy)
        identity = self._identities.certificates[certificate]
        context = identity.client_context(wanted.ca_file)
        return self._session(context, proxy, thumbprint=identity.thumbprint, not_after=identity.not_after)

    def _session(
        self,
        context: ssl.SSLContext,
        proxy: Proxy | None,
        *,
        thumbprint: str | None = None,
        not_after: float | None = None,
        max_body: int = MAX_BODY,
    ) -> Session:
        session = Session(
            ssl_context=context,
            thumbprint=thumbprint,
            not_after=not_after,
            clock=self._clock,
            max_body=max_body,
            proxy=proxy,
        )
        self.sessions.append(session)
        return session
