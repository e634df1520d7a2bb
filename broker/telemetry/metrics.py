"""
What is counted and measured, in a registry of its own (names are an interface: alerts bind to them).

Labels come from the configuration or from closed sets. That holds by construction: a value that ``expect`` did
not announce, or that is not in its closed set, is counted as ``other``. All combinations that are possible
start at 0, so that an alert on an increase sees the first one too; only the reasons for which a refresh of a token
may fail are too many for that (``token_series``). ``docs/reference/metrics.md`` lists them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from broker import __version__, events
from broker.events import Event
from broker.oauth.reasons import Reason
from broker.telemetry import egress_series
from broker.telemetry.collectors import One, Registry, Watched
from broker.telemetry.file_series import FileSeries
from broker.telemetry.grant_series import Sighting, Survey
from broker.telemetry.request_series import Requests
from broker.telemetry.sink_series import SinkSeries
from broker.telemetry.token_series import SUCCESS, Refreshes, availabilities, expiries

OTHER = "other"
"""The label of what was not announced: it should stay at 0 for ever."""

REFRESH_OUTCOMES = frozenset({SUCCESS, *map(str, Reason)})
"""``outcome`` of a refresh."""

Consent = (
    events.AuthorizationStarted
    | events.AuthorizationGranted
    | events.AuthorizationFailed
    | events.AuthorizationAbandoned
    | events.AuthorizationExpired
)

CONSENT_OUTCOMES: Mapping[type[Event], str] = MappingProxyType(
    {
        events.AuthorizationStarted: "started",
        events.AuthorizationGranted: "granted",
        events.AuthorizationFailed: "failed",
        events.AuthorizationAbandoned: "abandoned",
        events.AuthorizationExpired: "expired",
    }
)
"""``outcome`` of an authorization; each is ``started``, and then one of the others."""

REQUEST_OUTCOMES = frozenset(
    {
        "ok",
        "not_modified",
        "invalid_request",
        "grant_required",
        "invalid_token",
        "access_denied",
        "not_found",
        "consent_required",
        "subject_mismatch",
        "slow_down",
        "server_error",
        "authorization_server_error",
        "temporarily_unavailable",
        "upstream_error",
        "upstream_timeout",
        "client_error",
    }
)
"""
``outcome`` of a request to the local API: ``ok``, ``not_modified`` or the error code of the answer.

Of what is passed on from an API it is ``ok``, ``client_error`` (4xx) or ``server_error`` (5xx).
"""

REFRESH_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: a token endpoint answers in 50 ms to some seconds, and the deadline ends everything."""

TokenExpiries = Callable[[], Iterable[tuple[str, float | None]]]
"""Gives each token's name and the Unix time when it expires, None while there is no token."""

Availabilities = Callable[[], Iterable[tuple[str, bool]]]
"""Gives the name of each token that is to be there, and whether it is."""

GrantSightings = Callable[[], Iterable[Sighting]]
"""Gives all grants."""


class Metrics:
    """The metrics of one daemon."""

    def __init__(self) -> None:
        self._registry = Registry()
        ProcessCollector(registry=self._registry)
        self._known: dict[str, set[str]] = {}
        self._consented: tuple[str, ...] = ()
        self._expiries: TokenExpiries = tuple
        self._available: Availabilities = tuple
        self._grants: GrantSightings = tuple
        self._unsaved = {"store": False, "grants": False}
        self._watched = Watched()
        self._registry.register(self._watched)
        self._counters()
        self._files = FileSeries(self._registry)
        self._sinks = SinkSeries(self._registry)
        self._gauges()
        self._build.labels(__version__).set(1)
        self._handlers: dict[type[Event], Callable[..., None]] = {
            events.TokenRefreshed: self._refreshed,
            events.TokenRefreshFailed: self._refresh_failed,
            events.RequestAnswered: self._answered,
            events.EgressCalled: self._called,
            events.ConfigurationLoaded: self._configuration_loaded,
            events.ConfigurationRefused: self._configuration_refused,
            events.CertificateLoaded: self._files.certificate,
            events.SigningKeyLoaded: self._files.key,
            events.RotationRefused: self._files.refused,
            events.RotationMended: self._files.mended,
            events.SandboxIssuerInUse: self._sandbox_issuer,
            events.ClientSuspended: self._client_suspended,
            events.ClientResumed: self._client_resumed,
            events.UnexpectedFailure: self._unexpected,
            events.ClockJumped: lambda _event: self._jumps.inc(),
            events.MachineResumed: lambda _event: self._resumes.inc(),
            events.AuditOpened: self._audit_opened,
            events.AuditGap: self._audit_gap,
            events.StoreDegraded: lambda _event: self._note_unsaved("store", True),
            events.StoreRecovered: lambda _event: self._note_unsaved("store", False),
            events.GrantsUnsaved: lambda _event: self._note_unsaved("grants", True),
            events.GrantsSaved: lambda _event: self._note_unsaved("grants", False),
            events.ClientSuspected: self._client_suspected,
            events.ClientTrusted: self._client_trusted,
            **dict.fromkeys(CONSENT_OUTCOMES, self._consent),
            **self._sinks.handlers(),
        }

    def _counters(self) -> None:
        registry = self._registry
        self._refreshes = Refreshes()
        self._refresh_seconds = Histogram(
            "token_broker_refresh_duration_seconds",
            "Seconds that a request for a new access token took.",
            ("issuer",),
            registry=registry,
            buckets=REFRESH_BUCKETS,
        )
        self._refresh_seconds_of: dict[str, Histogram] = {}
        self._calls = egress_series.Calls(registry)
        self._consents = Counter(
            "token_broker_authorizations_total",
            "Consents that people were asked for, and what became of them.",
            ("token", "outcome"),
            registry=registry,
        )
        self._requests = Requests()
        registry.register(self._requests)
        self._failures = Counter(
            "token_broker_unexpected_failures_total",
            "Bugs that reached a boundary; each has a log line.",
            registry=registry,
        )
        self._jumps = Counter("token_broker_clock_jumps_total", "Times that the wall clock was set.", registry=registry)
        self._resumes = Counter(
            "token_broker_machine_resumes_total", "Times that the machine woke up from suspension.", registry=registry
        )
        self._gaps = Counter(
            "token_broker_audit_gaps_total", "Times that audit records could not be written.", registry=registry
        )

    def _gauges(self) -> None:
        registry = self._registry
        self._build = Gauge("token_broker_build_info", "The version that runs.", ("version",), registry=registry)
        self._trouble()

    def _trouble(self) -> None:
        registry = self._registry
        self._suspended = Gauge(
            "token_broker_client_suspended",
            "1 while requests of a client are held back, because the server seems to refuse its certificate.",
            ("client",),
            registry=registry,
        )
        self._suspect = Gauge(
            "token_broker_client_suspect",
            "1 while no grant is given up for what the server says to a client, because it says so of too many.",
            ("client",),
            registry=registry,
        )
        self._sandbox = Gauge(
            "token_broker_sandbox_issuer",
            "1 for an issuer that is a sandbox: its tokens are worth nothing.",
            ("issuer",),
            registry=registry,
        )
        self._refused = Gauge(
            "token_broker_configuration_refused",
            "1 while the configuration in force is an older one, because the last reload found mistakes.",
            registry=registry,
        )
        self._pending = Gauge(
            "token_broker_configuration_restart_pending",
            "1 while the configuration has changes that wait for a restart.",
            registry=registry,
        )
        self._store = Gauge(
            "token_broker_store_degraded",
            "1 while the store cannot be written, and what changes is kept in memory alone.",
            registry=registry,
        )

    def expect(
        self,
        *,
        tokens: Iterable[str] = (),
        issuers: Iterable[str] = (),
        clients: Iterable[str] = (),
        certificates: Iterable[str] = (),
        keys: Iterable[str] = (),
        routes: Iterable[str] = (),
        consented: Iterable[str] = (),
        upstreams: Iterable[str] = (),
        sinks: Iterable[str] = (),
    ) -> None:
        """
        Announce the names of the configuration and the routes of the API, and start their series at 0.

        *consented* are those of *tokens* that people consent to.

        To be called before anything emits, and again after a reload: names are added, and gauges of
        certificates and keys that are no longer named disappear.
        """
        for token in self._announce("token", tokens):
            self._refreshes.expect(token)
        for issuer in self._announce("issuer", issuers):
            self._refresh_seconds.labels(issuer)
        for client in self._announce("client", clients):
            self._suspended.labels(client)
            self._suspect.labels(client)
        self._calls.expect(self._announce("upstream", upstreams))
        for route in self._announce("route", routes):
            self._requests.expect(route, REQUEST_OUTCOMES)
        self._files.expect(certificates, keys)
        self._sinks.expect(sinks)
        self._consented = tuple(consented)
        for token in self._consented:
            for outcome in CONSENT_OUTCOMES.values():
                self._consents.labels(token, outcome)

    def _announce(self, label: str, names: Iterable[str]) -> list[str]:
        new = list(names)
        self._known.setdefault(label, set()).update(new)
        return new

    def _name(self, label: str, value: str) -> str:
        return value if value in self._known.get(label, ()) else OTHER

    def watch_tokens(self, source: TokenExpiries) -> None:
        """Ask *source* at each scrape when the tokens expire; what it gives may be found out bit by bit."""
        self._expiries = source

    def watch_availability(self, source: Availabilities) -> None:
        """Ask *source* at each scrape which tokens can be served; what it gives may be found out bit by bit."""
        self._available = source

    def watch_grants(self, source: GrantSightings) -> None:
        """Ask *source* at each scrape how the grants stand; what it gives may be found out bit by bit."""
        self._grants = source

    def watch_log(self, lost: Callable[[], int]) -> None:
        """Ask *lost* at each scrape how many log lines could not be written."""
        self._watched.log_lines_lost = lost

    def counts(self, kind: type[Event]) -> bool:
        """Say whether events of *kind* are counted."""
        return kind in self._handlers

    def count(self, event: Event) -> None:
        """Count *event*, if it is of a kind that is counted."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def render(self) -> tuple[bytes, str]:
        """Give the page for a scrape and its content type (text exposition format 0.0.4), all at once."""
        return b"".join(self._pieces()), CONTENT_TYPE_PLAIN_0_0_4

    async def page(self) -> tuple[bytes, str]:
        """Give what ``render`` gives, and let others have their turn after every few series."""
        pieces = []
        for piece in self._pieces():
            pieces.append(piece)
            await asyncio.sleep(0)
        return b"".join(pieces), CONTENT_TYPE_PLAIN_0_0_4

    def _pieces(self) -> Iterator[bytes]:
        for family in self._registry.collect():
            yield generate_latest(One(family))
        yield from self._refreshes.pieces()
        yield from availabilities(self._available())
        survey = Survey(self._consented)
        yield from survey.take(self._grants())
        yield from survey.pieces()
        yield from expiries(chain(self._expiries(), survey.ends.items()))

    # --- what each event changes ---

    def _refreshed(self, event: events.TokenRefreshed) -> None:
        self._refreshes.count(self._name("token", event.token), SUCCESS)
        self._took(event)

    def _refresh_failed(self, event: events.TokenRefreshFailed) -> None:
        outcome = event.reason if event.reason in REFRESH_OUTCOMES - {SUCCESS} else OTHER
        self._refreshes.count(self._name("token", event.token), outcome)
        self._took(event)

    def _took(self, event: events.TokenRefreshed | events.TokenRefreshFailed) -> None:
        """Count how long it took; the series of an issuer is looked up once."""
        issuer = self._name("issuer", event.issuer)
        series = self._refresh_seconds_of.get(issuer)
        if series is None:
            series = self._refresh_seconds_of[issuer] = self._refresh_seconds.labels(issuer)
        series.observe(event.duration)

    def _consent(self, event: Consent) -> None:
        self._consents.labels(self._name("token", event.token), CONSENT_OUTCOMES[type(event)]).inc()

    def _answered(self, event: events.RequestAnswered) -> None:
        route = event.route if event.route in self._known.get("route", ()) else OTHER
        outcome = event.outcome if event.outcome in REQUEST_OUTCOMES else OTHER
        self._requests.count(route, outcome, event.duration, event.requests)

    def _called(self, event: events.EgressCalled) -> None:
        self._calls.count(event, self._name("upstream", event.upstream))

    def _configuration_loaded(self, event: events.ConfigurationLoaded) -> None:
        self._refused.set(0)
        self._pending.set(1 if event.restart else 0)

    def _configuration_refused(self, _: events.ConfigurationRefused) -> None:
        self._refused.set(1)

    def _sandbox_issuer(self, event: events.SandboxIssuerInUse) -> None:
        self._sandbox.labels(self._name("issuer", event.issuer)).set(1)

    def _client_suspended(self, event: events.ClientSuspended) -> None:
        self._suspended.labels(self._name("client", event.client)).set(1)

    def _client_resumed(self, event: events.ClientResumed) -> None:
        self._suspended.labels(self._name("client", event.client)).set(0)

    def _unexpected(self, event: events.UnexpectedFailure) -> None:
        self._failures.inc(event.count)

    def _client_suspected(self, event: events.ClientSuspected) -> None:
        self._suspect.labels(self._name("client", event.client)).set(1)

    def _client_trusted(self, event: events.ClientTrusted) -> None:
        self._suspect.labels(self._name("client", event.client)).set(0)

    def _note_unsaved(self, what: str, unsaved: bool) -> None:
        """Take in that *what* is, or is no longer, in memory alone: a write that failed, or what waits for another."""
        self._unsaved[what] = unsaved
        self._store.set(any(self._unsaved.values()))

    def _audit_opened(self, _: events.AuditOpened) -> None:
        if self._watched.audit_healthy is None:
            self._watched.audit_healthy = True

    def _audit_gap(self, event: events.AuditGap) -> None:
        self._watched.audit_healthy = event.closed
        if not event.closed:
            self._gaps.inc()
