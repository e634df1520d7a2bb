"""
Where events end: one event makes an audit record, a log line and a metric.

The three do not depend on one another: a sink that fails is reported to the others, once, and does not keep
them from working. ``emit`` never raises, but for an *indispensable* event whose record is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import cast, get_args

from broker.errors import frames_of
from broker.events import (
    AuditUnavailableError,
    Event,
    TokenServed,
    UnexpectedFailure,
)
from broker.telemetry.audit import AuditLog
from broker.telemetry.folding import Folding, Repeatable
from broker.telemetry.logs import Logs
from broker.telemetry.metrics import Metrics
from broker.tokens.ports import Clock


class Telemetry:
    """
    Takes all events of the daemon; *audit* is None only where the configuration says so.

    ``emit`` is the ``Emit`` of ``broker.events``. ``tick`` has to be called every second, ``close`` at the end.
    """

    def __init__(self, *, logs: Logs, metrics: Metrics, audit: AuditLog | None, clock: Clock) -> None:
        self._logs = logs
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._folding = Folding()
        self._repeating: dict[type[Event], bool] = {}
        self._reported: set[tuple[str, str]] = set()
        metrics.watch_log(lambda: logs.lost)

    def emit(self, event: Event) -> None:
        """Record, log and count *event*. Raises AuditUnavailableError for what may not happen unrecorded."""
        kind = type(event)
        repeats = self._repeating.get(kind)
        if repeats is None:
            repeats = self._repeating[kind] = issubclass(kind, get_args(Repeatable))
        if repeats:
            for passed in self._folded(event):
                self._deliver(passed)
        else:
            self._deliver(event)

    def emit_served(self, served: Sequence[tuple[TokenServed, int | None]]) -> Collection[int]:
        """Do the same for several tokens at once: see ``EmitServed``."""
        unrecorded = self._record_all(self._audit, served) if self._audit is not None else ()
        if TokenServed.severity >= self._logs.level:
            for place, (event, pid) in enumerate(served):
                if place not in unrecorded:
                    self._guarded("logs", self._logs.write, replace(event, pid=pid))
        if self._metrics.counts(TokenServed):
            for event, _ in served:
                self._guarded("metrics", self._metrics.count, event)
        return unrecorded

    def tick(self) -> None:
        """Record the counts of repeated events whose time has come, and seal the audit log. Every second."""
        for event in self._folding.due(self._clock.boot()):
            self._deliver(event)
        if self._audit is not None:
            self._guarded("audit", self._audit.checkpoint)

    def flush(self) -> None:
        """Record the counts of repeated events, whether their time has come or not."""
        for event in self._folding.flush(self._clock.boot()):
            self._deliver(event)

    def close(self) -> None:
        """Record what is left and close the audit log. The last call; emit nothing after it."""
        self.flush()
        if self._audit is not None:
            self._guarded("audit", self._audit.close)

    def _folded(self, event: Event) -> Sequence[Event]:
        try:
            return self._folding.offer(cast("Repeatable", event), self._clock.boot())
        except Exception as error:  # noqa: BLE001 - as for the sinks: an event that cannot be counted is passed on
            self._report("folding", error)
            return (event,)

    def _deliver(self, event: Event) -> None:
        if event.audited and self._audit is not None:
            self._record(self._audit, event)
        if event.severity >= self._logs.level:
            self._guarded("logs", self._logs.write, event)
        try:
            self._metrics.count(event)
        except Exception as error:  # noqa: BLE001 - the boundary of a sink, as in _guarded
            self._report("metrics", error)

    def _record(self, audit: AuditLog, event: Event) -> None:
        """Write the audit record; before the log line, which must not say that a token was served if it was not."""
        try:
            audit.write(event)
        except AuditUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a sink: a bug in it must not stop the daemon
            self._report("audit", error)
            if audit.refuses and event.indispensable:
                raise AuditUnavailableError from None

    def _record_all(self, audit: AuditLog, served: Sequence[tuple[TokenServed, int | None]]) -> Collection[int]:
        try:
            return audit.write_all(served)
        except Exception as error:  # noqa: BLE001 - the boundary of a sink: a bug in it must not stop the daemon
            self._report("audit", error)
            return range(len(served)) if audit.refuses else ()

    def _guarded(self, sink: str, act: Callable[..., None], *arguments: Event) -> None:
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - the boundary of a sink: a bug in it must not stop the daemon
            self._report(sink, error)

    def _report(self, sink: str, error: Exception) -> None:
        """Tell the other sinks that *sink* failed: once for each kind of error, since it may fail for every event."""
        kind = (sink, type(error).__name__)
        if kind in self._reported:
            return
        self._reported.add(kind)
        failure = UnexpectedFailure(
            where=f"telemetry.{sink}", incident="", error=type(error).__name__, frames=frames_of(error)
        )
        for name, write in (("logs", self._logs.write), ("metrics", self._metrics.count)):
            if name != sink:
                self._guarded(name, write, failure)
