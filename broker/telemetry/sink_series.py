"""Metrics of token files: what became of writing them, when their tokens end, and how their hooks did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge

from broker import events
from broker.events import Event

WRITES = ("written", "failed", "removed")
"""``outcome`` of a write."""

HOOKS = ("ok", "exit", "signal", "timeout", "not_started")
"""``outcome`` of a run of a hook."""


class SinkSeries:
    """A series is there for what the configuration names, and nothing else."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._writes = Counter(
            "token_broker_sink_writes_total",
            "Changes of token files, by what became of them.",
            ("sink", "outcome"),
            registry=registry,
        )
        self._ends = Gauge(
            "token_broker_sink_token_expires_timestamp_seconds",
            "Unix time when the token in a file expires; absent while there is no file.",
            ("sink",),
            registry=registry,
        )
        self._hooks = Counter(
            "token_broker_sink_hooks_total",
            "Programs run after a token file was written, by how they ended.",
            ("sink", "outcome"),
            registry=registry,
        )
        self._known: set[str] = set()

    def expect(self, sinks: Iterable[str]) -> None:
        """Take in the names of the configuration, and start their counters at 0; the ends of others disappear."""
        before, self._known = self._known, set(sinks)
        for sink in self._known:
            for outcome in WRITES:
                self._writes.labels(sink, outcome)
            for outcome in HOOKS:
                self._hooks.labels(sink, outcome)
        for gone in before - self._known:
            self._forget(gone)

    def handlers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Give what takes in which event."""
        return {
            events.SinkWritten: self._written,
            events.SinkWriteFailed: lambda event: self._count(event.sink, "failed"),
            events.SinkFileRemoved: self._removed,
            events.SinkHookEnded: lambda event: self._run(event.sink, "ok"),
            events.SinkHookFailed: lambda event: self._run(event.sink, event.reason),
        }

    def _written(self, event: events.SinkWritten) -> None:
        self._count(event.sink, "written")
        if event.sink in self._known:
            self._ends.labels(event.sink).set(event.expires_at)

    def _removed(self, event: events.SinkFileRemoved) -> None:
        self._count(event.sink, "removed")
        self._forget(event.sink)

    def _count(self, sink: str, outcome: str) -> None:
        if sink in self._known:  # else a reload has removed it, and this is its last word
            self._writes.labels(sink, outcome).inc()

    def _run(self, sink: str, outcome: str) -> None:
        if sink in self._known and outcome in HOOKS:
            self._hooks.labels(sink, outcome).inc()

    def _forget(self, sink: str) -> None:
        with suppress(KeyError):  # some releases of the library raise for a series that is not there, others do not
            self._ends.remove(sink)
