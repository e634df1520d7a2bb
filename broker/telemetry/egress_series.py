"""Metrics of calls of APIs: labels are names of the configuration, and outcomes of a closed set."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.events import EgressCalled

OUTCOMES = ("ok", "client_error", "server_error", "cut_off", "caller_left", "failed")
"""How a call ended; ``failed`` are all reasons why there was no reply: which one is in the log."""

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: an API answers in milliseconds to seconds, and a large body may take a minute."""


class Calls:
    """Counts calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "token_broker_egress_total",
            "Calls of APIs, by what became of them.",
            ("upstream", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "token_broker_egress_duration_seconds",
            "Seconds that a call of an API took, until the end of its reply.",
            ("upstream",),
            registry=registry,
            buckets=BUCKETS,
        )
        # Labels are looked up once: there are few, and a look-up costs more than counting.
        self._total_of = cache(self._total.labels)
        self._seconds_of = cache(self._seconds.labels)

    def expect(self, upstreams: Iterable[str]) -> None:
        """Start all series of *upstreams* at 0."""
        for upstream in upstreams:
            self._seconds.labels(upstream)
            for outcome in OUTCOMES:
                self._total.labels(upstream, outcome)

    def count(self, event: EgressCalled, upstream: str) -> None:
        """Count a call under the label *upstream*."""
        outcome = event.outcome if event.outcome in OUTCOMES else "failed"
        self._total_of(upstream, outcome).inc()
        self._seconds_of(upstream).observe(event.duration)
